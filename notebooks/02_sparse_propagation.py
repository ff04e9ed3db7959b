# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 02 · Propagation: a linear map, and so its backward is its transpose
#
# *Reading: 25 minutes. Exercises: 5.*
#
# ## What you will do
#
# Many recommenders give every user and every item a row of numbers, its *embedding*; the dot product of two rows is the score of a pair. (That is *matrix factorisation*: the scores are approximated by a product of two narrow matrices.) A graph recommender does one thing more: before two rows are compared, each is mixed with its neighbours' rows, several times. At the end of this notebook you will have written the backward of that mixing: of one sparse product (with respect to the rows and with respect to the weights), of $L$ layers, and of the few rows of $H$ that a batch looks at.
#
# You need the matrix $A$ from [00](00_data_and_graph.ipynb), and from [01](01_checking_a_gradient.ipynb) the word *cotangent* and the two gaps that you measure a backward with. All letters are on the [page of symbols](symbols.md).

# %%
import time

import numpy as np
import scipy.sparse as sparse

from c2f_np.course import exercise, my_model
from c2f_np.data import load_dataset, southern_women_split
from c2f_np.gradcheck import check_gradients
from c2f_np.plotting import computation
from c2f_np.plotting.smoothing import against_layers, clouds, spectrum_and_filters, spreading

my = my_model(or_answers=True)

# %% [markdown]
# ## The idea
#
# Evelyn and Laura, two of the eighteen women of the first notebook, were both at events E5, E6 and E8. Nobody told the model that they are alike; but they were in the same rooms. If every event's row is made from the rows of the women who came, and every woman's row from those of her events, then after two such rounds Laura's row contains something of Evelyn's. Similarity travels along edges. In the whole computation of a training step this notebook is one arrow, from $X_0$, the rows before any mixing, to $H$, and the way back.

# %%
computation("A", "X0", "H")

# %% [markdown]
# Put the number 1 on Evelyn and 0 on everybody else (white), and mix once, twice, three times.

# %%
women = southern_women_split()
R = women.train
n_users, n_items = R.shape
A = sparse.csr_array(my.normalised_adjacency(R))
evelyn, laura = R[[0]].toarray()[0], R[[1]].toarray()[0]
print("both were at", ", ".join(women.item_ids[(evelyn > 0) & (laura > 0)]))
assert women.item_ids[(evelyn > 0) & (laura > 0)].tolist() == ["E5", "E6", "E8"]
assert A.shape == (32, 32) and R.nnz == 64

# %%
start = np.zeros((32, 1))
start[0] = 1.0
layers = [start]
for _ in range(3):
    layers.append(A @ layers[-1])
mean = sum(layers) / 4
panels = {f"$X_{k}$": layer[:, 0] for k, layer in enumerate(layers)} | {"Mean, $H$": mean[:, 0]}
spreading(panels, R, women.user_ids, women.item_ids, label="value of the node, white: 0", title="A 1 on Evelyn, mixed once, twice, three times")

# %% [markdown]
# From left to right: after one round the 1 has moved to Evelyn's events and left Evelyn herself, since no edge joins two women. After two rounds it is back on the women's side, on all who shared an event with her; after three on every event. The last panel is what the model uses, the mean of all four, in which Evelyn still stands out most.

# %%
assert np.all(layers[1][:n_users] == 0) and np.all(layers[2][n_users:] == 0), "the rounds alternate between the sides"
assert np.all(layers[3][n_users:] > 0), "three rounds reach every event"
shared = (R[[0]] @ R.T).toarray()[0]
assert np.array_equal(layers[2][:n_users, 0] > 0, shared > 0), "two rounds reach exactly the women who share an event"
assert np.argmax(mean) == 0

# %% [markdown]
# ## Write: a sparse product
#
# ### Forward
#
# All of propagation is made of one operation, the product $Y = MX$ of a sparse matrix with a dense one. Sparse means: only the entries that are not 0 are stored, as (row, column, weight). Node $i$ *collects* from the nodes that its row names:

# %%
def collect(M, X):
    Y = np.zeros((M.shape[0], X.shape[1]))
    M = M.tocoo()
    for i, j, weight in zip(M.row, M.col, M.data, strict=True):
        Y[i] += weight * X[j]
    return Y


def sparse_product(M, X):
    return M @ X


assert np.allclose(collect(A, start), sparse_product(A, start))
my.keep(sparse_product)

# %% [markdown]
# The two are the same; SciPy's loop is the faster one, and the second function goes into your `my_model.py`. (In this section $M$ is any sparse matrix: a graph, or links.)
#
# ### By hand
#
# With a matrix that is neither square nor symmetric, so that no mistake can hide:
#
# $$M = \begin{pmatrix}1&0\\2&3\\0&4\end{pmatrix},\quad X = \begin{pmatrix}5\\6\end{pmatrix},\quad Y = MX = \begin{pmatrix}5\\28\\24\end{pmatrix},\quad\text{cotangent}\quad G_Y = \begin{pmatrix}1\\-1\\2\end{pmatrix}.$$
#
# The number of which a gradient is wanted is $\langle G_Y, Y\rangle = 5 - 28 + 48 = 25$. On paper: by how much does it grow if the 5 in $X$ becomes 6? If the weight 3 becomes 4? (You will find the answers below; do not look yet.)
#
# ### Your turn

# %%
task_1 = exercise("sparse_product_backward")
task_1

# %%
def sparse_product_backward(grad_Y, M, X):
    raise NotImplementedError


task_1.check(sparse_product_backward).keep();

# %%
# print(task_1.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def sparse_product_backward(grad_Y, M, X):
#     return M.T @ grad_Y
# ```
# </details>
#
# The weights of a graph can be trained as well (the joint model will train those of its links). An entry that is not stored is not a small weight; it is no weight, and has no gradient.

# %%
task_2 = exercise("sparse_product_backward_weights")
task_2

# %%
def sparse_product_backward_weights(grad_Y, M, X):
    raise NotImplementedError


task_2.check(sparse_product_backward_weights).keep();

# %%
# print(task_2.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def sparse_product_backward_weights(grad_Y, M, X):
#     rows = np.repeat(np.arange(M.shape[0]), np.diff(M.indptr))  # the row number of every stored entry
#     values = np.sum(grad_Y[rows] * X[M.indices], axis=1)
#     return sparse.csr_array((values, M.indices, M.indptr), shape=M.shape)
# ```
# </details>
#
# The answers to the questions on paper, from your functions:

# %%
M = sparse.csr_array(np.array([[1.0, 0], [2, 3], [0, 4]]))
X, G = np.array([[5.0], [6]]), np.array([[1.0], [-1], [2]])
assert np.sum(G * my.sparse_product(M, X)) == 25
print("with respect to X:", my.sparse_product_backward(G, M, X).ravel())
print("with respect to the stored weights:", my.sparse_product_backward_weights(G, M, X), sep="\n")
assert np.array_equal(my.sparse_product_backward(G, M, X), [[-1], [5]])

# %% [markdown]
# ### The derivation
#
# <details><summary>The derivation</summary>
#
# Write the sum out, with $M$ of shape $p \times q$, $X$ of $q \times d$ and $Y$ of $p \times d$:
#
# $$\langle G_Y, Y \rangle = \sum_{i=1}^{p} \sum_{j=1}^{q} \sum_{f=1}^{d} (G_Y)_{if}\, M_{ij}\, X_{jf}.$$
#
# One number, linear in each of the three. The gradient with respect to $X_{jf}$ is whatever stands beside it, and likewise for $M_{ij}$:
#
# $$\frac{\partial}{\partial X_{jf}} = \sum_i M_{ij}\, (G_Y)_{if} = (M^\top G_Y)_{jf}, \qquad\qquad \frac{\partial}{\partial M_{ij}} = \sum_f (G_Y)_{if}\, X_{jf} = \langle \text{row } i \text{ of } G_Y,\ \text{row } j \text{ of } X\rangle.$$
#
# The left one is the transpose: forwards, node $i$ collects $M_{ij} X_j$ from its neighbours $j$; backwards, node $j$ collects $M_{ij} (G_Y)_i$ from all $i$ that it has sent to. By hand: the 5 has the gradient $1\cdot1 + 2\cdot(-1) = -1$, the 6 has $3\cdot(-1)+4\cdot2 = 5$, and the weight 3 in row 2, column 2 has $(-1)\cdot6=-6$.
#
# </details>
#
# ## Write: the layers
#
# ### Forward
#
# $X_0$ has one row of $d$ numbers for each node, and $\hat X$ is the graph: here $\hat X = A$; in the model it has a few more nodes, which changes nothing below. With $L$ layers,
#
# $$X_{k+1} = \hat X X_k, \qquad H = \frac{1}{L+1}\,(X_0 + X_1 + \dots + X_L).$$
#
# There is no activation function and no weight matrix: that is LightGCN's simplification, and the model's.

# %%
def propagate(X0, X_hat, n_layers):
    layer, total = X0, X0
    for _ in range(n_layers):
        layer = X_hat @ layer
        total = total + layer
    return total / (n_layers + 1)


my.keep(propagate)

# %% [markdown]
# ### By hand
#
# Two users met the same item: three nodes, two edges. The degrees are 1, 1, 2, so both edges have the weight $1/\sqrt{1\cdot2}$:
#
# $$A = \frac{1}{\sqrt2}\begin{pmatrix} 0&0&1\\0&0&1\\1&1&0 \end{pmatrix}.$$
#
# With $X_0 = (1, 0, 0)^\top$ we get $X_1 = (0, 0, 1/\sqrt2)^\top$, $X_2 = (1/2, 1/2, 0)^\top$, and with $L = 2$ the mean $H = \frac13 (3/2,\ 1/2,\ 1/\sqrt2)^\top$. The second user, who started with nothing, ends with $1/6$, a third of the first user's $1/2$.

# %%
tiny = my.normalised_adjacency(sparse.csr_array(np.array([[1.0], [1.0]])))
H = my.propagate(np.array([[1.0], [0.0], [0.0]]), tiny, 2)[:, 0]
assert np.allclose(H, np.array([3 / 2, 1 / 2, 1 / np.sqrt(2)]) / 3)
assert np.isclose(H[1], 1 / 6) and np.isclose(H[1], H[0] / 3)

# %% [markdown]
# ### Your turn
#
# The question before you write: along how many paths does $X_k$ reach $H$? Two. What comes back along each? The checker's graph is not symmetric.

# %%
task_3 = exercise("propagate_backward")
task_3

# %%
def propagate_backward(grad_H, X0, X_hat, n_layers):
    raise NotImplementedError


task_3.check(propagate_backward).keep();

# %%
# print(task_3.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def propagate_backward(grad_H, X0, X_hat, n_layers):
#     share = grad_H / (n_layers + 1)
#     grad_layer = share  # G_L
#     for _ in range(n_layers):
#         grad_layer = share + X_hat.T @ grad_layer  # G_k = share + X_hat^T G_{k+1}
#     return grad_layer
# ```
# </details>
#
# ### The derivation
#
# <details><summary>The derivation, by the chain rule and by algebra</summary>
#
# **By the chain rule.** Call $G_k$ the gradient at $X_k$, counting *all* paths from $X_k$ to the loss. $X_k$ reaches $H$
#
# 1. as a member of the mean, which sends back $\frac{1}{L+1} G_H$;
# 2. through the next layer, $X_{k+1} = \hat X X_k$, which sends back $\hat X^\top G_{k+1}$, as you found above.
#
# What was sent along two paths comes back as a sum. The last layer has no next one. So
#
# $$G_L = \frac{G_H}{L+1}, \qquad G_k = \frac{G_H}{L+1} + \hat X^\top G_{k+1} \quad (k = L-1, \dots, 0), \qquad G_{X_0} = G_0.$$
#
# **By algebra.** $X_k = \hat X^k X_0$, so $H = P X_0$ with one fixed matrix
#
# $$P = \frac{1}{L+1}\left(I + \hat X + \dots + \hat X^L\right).$$
#
# Propagation is linear, and its backward is the transpose: $G_{X_0} = P^\top G_H$, where $P^\top$ is the same polynomial in $\hat X^\top$.
#
# **They agree.** A polynomial is cheapest from the inside out: $1 + a + a^2 = 1 + a\,(1 + a)$, which is Horner's rule. The recurrence above starts with $G_H/(L+1)$ and $L$ times replaces what it has by $G_H/(L+1) + \hat X^\top(\cdot)$: that is Horner's rule for $P^\top$. The chain rule walks through the layers from last to first, and that *is* the order from the inside out.
#
# **Nothing is stored.** The backward of $Y = \tanh(MX)$ needs $Y$; the backward of $Y = MX$ needs $M$ alone. So no $X_k$ occurs in the recurrence, and no layer has to be kept, however many there are. (The gradient of the *weights* of $\hat X$ would need them.)
#
# </details>
#
# Now trust it. Your two gaps from notebook 01, on a graph with a direction in it ($W$ is a triangle of random numbers):

# %%
rng = np.random.default_rng(0)
W = sparse.csr_array(np.triu(rng.standard_normal((32, 32))) * 0.3)
X0, G_H = rng.standard_normal((2, 32, 4))
gaps = {
    "difference": my.gradient_gap(
        lambda X0: np.sum(G_H * my.propagate(X0, W, 3)), lambda X0: my.propagate_backward(G_H, X0, W, 3), X0
    ),
    "adjoint": my.adjoint_gap(lambda X0: my.propagate(X0, W, 3), lambda G: my.propagate_backward(G, X0, W, 3), X0, G_H),
}
print({name: f"{gap:.0e}" for name, gap in gaps.items()})
assert gaps["difference"] < 1e-6 and gaps["adjoint"] < 1e-14

# %% [markdown]
# ## Write: the rows of a batch
#
# ### Forward
#
# A training step looks at a few users and items. It needs $H$ in their rows only: `propagate(X0, X_hat, n_layers)[rows]`.
#
# ### By hand
#
# In the graph of three nodes above, let a batch look at the second user only, with the cotangent 6. Propagation is a linear map, $H=PX_0$. A 1 on the first user gave $H=\frac13(\frac32,\ \frac12,\ \frac1{\sqrt2})^\top$: that is the first column of $P$. The two users may change places, so the second column is $\frac13(\frac12,\ \frac32,\ \frac1{\sqrt2})^\top$, and since $A$ is symmetric, so is $P$, and this is its second row, too. So the gradient is $6$ times that row, $(1, 3, \sqrt2)$: nodes that the batch did not look at have a gradient, too.
#
# ### Your turn

# %%
task_4 = exercise("propagate_rows_backward")
task_4

# %%
def propagate_rows_backward(grad_H_rows, X0, X_hat, n_layers, rows):
    raise NotImplementedError


task_4.check(propagate_rows_backward).keep();

# %%
# print(task_4.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def propagate_rows_backward(grad_H_rows, X0, X_hat, n_layers, rows):
#     grad_H = np.zeros_like(X0)
#     grad_H[rows] = grad_H_rows  # the transpose of taking rows; they are distinct
#     return my.propagate_backward(grad_H, X0, X_hat, n_layers)
# ```
# </details>

# %%
by_hand = my.propagate_rows_backward(np.array([[6.0]]), np.zeros((3, 1)), tiny, 2, np.array([1]))
assert np.allclose(by_hand[:, 0], [1, 3, np.sqrt(2)])

# %% [markdown]
# ### The derivation
#
# <details><summary>The derivation</summary>
#
# Taking rows is a linear map: a matrix with a single 1 in each row, at the column of the wanted node. Its transpose puts row $k$ of the cotangent into row `rows[k]` of an array of zeros. A transpose of a product reverses the order, so the backward of "propagate, then take rows" is "put into these rows, then propagate backwards". What is saved? Forwards, the *last* product is needed for the batch's rows only; backwards, the *first* product meets a cotangent that is 0 in most rows. The products in between are needed in full, since neighbours of neighbours are soon everybody.
#
# </details>
#
# ## Predict
#
# A mistake that is easily made in this backward is a forgotten transpose. Suppose a student propagates the cotangent with `X_hat` itself, and measures the adjoint gap once on the women's graph $A$ and once on $W$. **Which gap do you expect in each case?** Write down two powers of ten before you run the cell.

# %%
for name, graph in {"A, the women": A, "W": W}.items():
    gap = my.adjoint_gap(lambda X0: my.propagate(X0, graph, 3), lambda G: my.propagate(G, graph, 3), X0, G_H)
    print(f"{name:<13} {gap:.0e}")
    assert gap < 1e-14 if graph is A else 0.01 < gap < 1

# %% [markdown]
# <details><summary>What to expect</summary>
#
# On the women's graph rounding: there $A^\top = A$, the mistake changes nothing, and *no check at all can find it*. On the other something between 0.01 and 1 (two unrelated vectors of 128 entries are nearly, but not quite, orthogonal). The first number is the point. The graph of your first model is symmetric, so there a forgotten transpose is invisible in every test, until somebody normalises by rows, or puts another map into the layers, as notebook 04 does. Test adjoints on matrices that are not symmetric.
# </details>
#
# ## Check
#
# The arrow and its way back, in orange:

# %%
computation("A", "X0", "H", backward=True)

# %% [markdown]
# All functions of this notebook at once, by all the means of notebook 01: central differences, the complex step, the Taylor rate, the adjoint.

# %%
def forward(M, X, X0, X_hat, rows):
    return my.sparse_product(M, X), my.propagate(X0, X_hat, 3), my.propagate(X0, X_hat, 3)[rows]


def backward(grads, M, X, X0, X_hat, rows):
    grad_Y, grad_H, grad_H_rows = grads
    return {
        "grad_M": my.sparse_product_backward_weights(grad_Y, M, X),
        "grad_X": my.sparse_product_backward(grad_Y, M, X),
        "grad_X0": my.propagate_backward(grad_H, X0, X_hat, 3)
        + my.propagate_rows_backward(grad_H_rows, X0, X_hat, 3, rows),
    }


M = sparse.csr_array(np.where(rng.random((9, 6)) < 0.4, rng.standard_normal((9, 6)), 0))
point = {"M": M, "X": rng.standard_normal((6, 3)), "X0": X0, "X_hat": W, "rows": np.array([3, 20, 7])}
report = check_gradients(
    forward, backward, point, wrt=("M", "X", "X0"), linear_in=("M", "X", "X0"), dtypes=("float64",), name="propagation"
)
assert report.passed
report

# %% [markdown]
# *linear* in the column of the Taylor rate: for a linear function the remainder is 0 at every step, up to rounding, and there is no rate to measure. That is the right answer.
#
# ## Try it
#
# ### A batch that names an entity twice
#
# This backward is right for distinct rows. Here is one that is not distinct, and the gap says so. Why? Mend the cell until the gap is below $10^{-8}$.

# %%
rows = np.array([3, 20, 3])
G_rows = rng.standard_normal((3, 4))


def rows_backward(X0):
    G = np.zeros_like(X0)
    G[rows] = G_rows
    return my.propagate_backward(G, X0, W, 3)


print(f"gap {my.gradient_gap(lambda X0: np.sum(G_rows * my.propagate(X0, W, 3)[rows]), rows_backward, X0):.2f}")

# %% [markdown]
# <details><summary>Why</summary>
#
# In `G[rows] = G_rows` the second value for row 3 overwrites the first, where the transpose has to *add* them: row 3 was sent along two paths. `np.add.at(G, rows, G_rows)` adds; `G[rows] += G_rows` does not, since it reads before it writes.
# </details>
#
# ### What layers do to the spectrum
#
# $A$ is symmetric, so it has orthonormal eigenvectors, $A = V\,\mathrm{diag}(\mu)\,V^\top$, and a polynomial in $A$ acts on the eigenvalues alone:
#
# $$P = V\,\mathrm{diag}\big(p_L(\mu)\big)\,V^\top, \qquad p_L(\mu) = \frac{1 + \mu + \dots + \mu^L}{L+1}.$$
#
# To propagate is to write $X_0$ in this basis, multiply each coordinate by $p_L(\mu)$, and go back: $p_L$ is a *filter*. All eigenvalues lie in $[-1, 1]$ (proof in notebook 00). An eigenvector with $\mu$ near 1 varies slowly along edges, one with $\mu$ near $-1$ flips its sign along every edge.

# %%
eigenvalues, V = np.linalg.eigh(A.toarray())


def p(mu, n_layers):
    return sum(mu**k for k in range(n_layers + 1)) / (n_layers + 1)


assert np.allclose(V @ np.diag(p(eigenvalues, 3)) @ V.T @ X0, my.propagate(X0, A, 3)), "layers act on eigenvalues alone"
mu = np.linspace(-1, 1, 201)
filters = {f"$p_{{{n}}}$, $L = {n}$": (mu, p(mu, n)) for n in (1, 2, 3, 8)}
spectrum_and_filters(eigenvalues, filters, title="The graph of the southern women as a filter")

# %% [markdown]
# All filters leave $\mu = 1$ as it is and press the rest down: a **low-pass filter**. (At $\mu=-1$ an odd number of layers cancels in pairs; an even number leaves $1/(L+1)$.) Embeddings become smooth along edges, which is what we want from "people in the same rooms are alike". And the curve at 0 tells why a *mean* is taken instead of the last layer: $p_3(0) = 1/4$, so a quarter remains of what the graph cannot see, where the last layer alone would leave $0^3 = 0$.

# %%
assert p(0.0, 3) == 0.25 and np.isclose(p(1.0, 8), 1)
assert p(-1.0, 3) == 0 and np.isclose(p(-1.0, 2), 1 / 3)

# %% [markdown]
# ### Too many layers
#
# If some smoothing is good, is more better? Take the last layer, $X_k = V\,\mathrm{diag}(\mu^k)\,V^\top X_0$. Every $|\mu| < 1$ dies out, and what survives belongs to $\mu = \pm1$. This graph is connected, so that each of the two has one eigenvector only, with the entries $\pm\sqrt{\text{degree}}$. In the end
#
# $$\text{row of user } u \;\approx\; \sqrt{D_{uu}}\; \times \text{ one and the same row for all users,}$$
#
# and likewise for the items, with a row of their own. (A graph in several pieces has such a row for each piece.) With two columns it can be seen: each row is a point, and the points fall onto lines. Mind the axes, which differ.

# %%
assert sparse.csgraph.connected_components(A)[0] == 1
degree = np.concatenate([R.sum(axis=1), R.sum(axis=0)])
plane = np.random.default_rng(5).standard_normal((32, 2))
shown = {"Start, $X_0$": plane}
for k in (2, 6, 20):
    shown[f"After {k} layers, $X_{{{k}}}$"] = np.linalg.matrix_power(A.toarray(), k) @ plane
direction = shown["After 20 layers, $X_{20}$"][:n_users] / np.sqrt(degree[:n_users, None])
assert np.allclose(direction, direction.mean(axis=0), rtol=0, atol=0.05 * np.linalg.norm(direction.mean(axis=0)))
clouds(shown, n_users, title="Southern women, last layer alone: each point is the row of a woman or an event")

# %% [markdown]
# After twenty layers a point's distance from the origin tells how busy the woman is, and nothing else is left. How fast does it go? Measure which share of the squared length of the women's rows lies outside the common direction.

# %%
depths = np.arange(0, 41)
common = np.sqrt(degree[:n_users]) / np.linalg.norm(np.sqrt(degree[:n_users]))
wide = np.random.default_rng(5).standard_normal((32, 64))
last = [wide]
for _ in depths[1:]:
    last.append(A @ last[-1])


def left_over(rows):
    return float(np.sum((rows - np.outer(common, common @ rows)) ** 2) / np.sum(rows**2))


curves = {
    "mean of layers": np.array([left_over(my.propagate(wide, A, int(n))[:n_users]) for n in depths]),
    "last layer": np.array([left_over(layer[:n_users]) for layer in last]),
}
second = np.sort(eigenvalues)[-2]
rate = curves["last layer"][40] / curves["last layer"][38]
print(f"second eigenvalue {second:.3f}; its fourth power {second**4:.2f}; two more layers multiply by {rate:.2f}")
against_layers(depths, curves, ylabel="share outside the common direction", title="Southern women: the women's rows become alike", log=True)

# %% [markdown]
# The last layer loses it exponentially: two more layers multiply the share by about $\mu_2^4 \approx 0.36$ (a square for the two layers, a square for squared lengths). The mean loses it slowly, since $X_0$ stays a member with the weight $1/(L+1)$. Change the 4 in the exponent, the depth, or the graph, and see what you can break.

# %%
assert abs(rate - second**4) < 0.005 and round(second**4, 2) == 0.36
assert curves["last layer"][20] < 1e-3 * curves["last layer"][0] < curves["mean of layers"][20]

# %% [markdown]
# ## Faster
#
# The package has two **engines**, modules with functions of the same names: `c2f_np.model.text` in NumPy and SciPy, and `c2f_np.kernels`, compiled: rows in parallel, the running sum inside the product (Horner's rule, forwards as well), and no product for rows that nobody asked for. On the planted data, in single precision: are they the same as yours, and how long does each take? The times are printed and not quoted, since they depend on your machine.

# %%
from c2f_np.engine import engine_named

planted = load_dataset("planted")
graph = sparse.csr_array(my.normalised_adjacency(planted.train)).astype(np.float32)
values = np.random.default_rng(1).standard_normal((graph.shape[0], 64)).astype(np.float32)
batch = np.sort(np.random.default_rng(2).choice(graph.shape[0], 200, replace=False))
cotangent = values[batch]
versions = {"yours": (lambda: my.propagate(values, graph, 3), lambda: my.propagate_rows_backward(cotangent, values, graph, 3, batch))}
for name in ("numpy", "numba"):
    engine = engine_named(name)
    layer = engine.operator(graph)
    versions[name] = (
        lambda engine=engine, layer=layer: engine.propagate(values, layer, 3),
        lambda engine=engine, layer=layer: engine.propagate_backward(cotangent, layer, 3, rows=batch),
    )
for name, works in versions.items():
    milliseconds = []
    for work, right in zip(works, versions["yours"], strict=True):
        result, expected = work(), right()
        assert np.abs(result - expected).max() < 100 * np.finfo(np.float32).eps * np.abs(expected).max(), name
        times = []
        for _ in range(9):
            begin = time.perf_counter()
            work()
            times.append(1000 * (time.perf_counter() - begin))
        milliseconds.append(min(times))
    print(f"{name:<6} 3 layers {milliseconds[0]:6.2f} ms, backward of 200 rows {milliseconds[1]:6.2f} ms")

# %% [markdown]
# ## Exercises
#
# ### Layers with weights
#
# A mean gives every layer the same say. What if the weights were trained? Now the gradient with respect to the weights does need the layers.

# %%
task_5 = exercise("weighted_layers_backward")
task_5

# %%
def weighted_layers_backward(grad_H, X0, X_hat, alpha):
    raise NotImplementedError


task_5.check(weighted_layers_backward).keep();

# %%
# print(task_5.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def weighted_layers_backward(grad_H, X0, X_hat, alpha):
#     layer = X0
#     grad_alpha = np.zeros_like(alpha)
#     for k in range(len(alpha)):
#         grad_alpha[k] = np.sum(grad_H * layer)  # alpha_k multiplies X_k
#         layer = X_hat @ layer
#     grad_X0 = alpha[-1] * grad_H
#     for k in reversed(range(len(alpha) - 1)):
#         grad_X0 = alpha[k] * grad_H + X_hat.T @ grad_X0
#     return grad_X0, grad_alpha
# ```
#
# The weights also make a filter of your choice, $p(\mu) = \sum_k \alpha_k \mu^k$.
# </details>
#
# ### To think about
#
# In the model $X_0 = [\tanh(S_c E_c);\, E_c]$, where $E_c$ is trained. Is $H$ linear in $E_c$? Which part of the backward pass has to remember something, and what?
#
# <details><summary>Answer</summary>
#
# No: tanh comes before propagation. $H$ is linear in $X_0$, and only the first block of $X_0$ is not linear in $E_c$. So propagation remembers nothing, and the composition remembers its output $\tanh(S_c E_c)$, once, however many layers there are. Notebook 04 derives it.
# </details>
#
# ## Read next
#
# - [03](03_soft_thresholding.ipynb): the one operation of the model with kinks, where "the derivative" needs a convention.
# - [04](04_composition_and_bridging.ipynb): a layer that is linear but *not* symmetric, so that the transpose can no longer be forgotten.
# - He et al., *LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation* (arXiv 2002.02126). The model here: Wang et al., arXiv 2501.11870.
