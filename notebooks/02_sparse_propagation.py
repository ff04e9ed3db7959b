# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Propagation: a linear map, and so its backward is its transpose
#
# *About 35 minutes to read.*
#
# ## What you will do
#
# A graph recommender does one thing that ordinary matrix factorisation does not: before two embeddings are compared, each node's row is mixed with its neighbours' rows, several times. This notebook takes that mixing apart, runs it, and runs it backwards.
#
# You will learn
#
# - why $L$ layers of neighbour averaging are *one* linear map, and what follows from that for the backward pass: it is the transpose, it stores nothing, and a whole family of bugs can be caught by a single identity;
# - how the same sum is computed by Horner's rule, and why the chain rule finds Horner's rule by itself;
# - how to compute and differentiate only the rows that a batch looks at;
# - what layers do to the spectrum of a graph, and why too many of them make all embeddings alike.
#
# You need: matrix products, the chain rule, NumPy. From `00_data_and_graph` you need one thing, which is repeated here: users and items are the $N$ nodes of a graph, users first; $B$ ($N \times N$) holds a 1 for every user and item that met; and $A = D^{-1/2} B D^{-1/2}$, with the degrees (row sums of $B$) on the diagonal of $D$, is the normalised adjacency. What a gradient check does is in `01_checking_a_gradient`.

# %%
import c2f_np  # noqa: F401  (first, so that a missing installation says so at once)
import inspect
import time

import numpy as np
import scipy.sparse as sparse

from c2f_np import load_dataset
from c2f_np.course import exercise
from c2f_np.data import cached
from c2f_np.engine import engine_named
from c2f_np.gradcheck import adjoint_gap, check_gradients
from c2f_np.model.graph import bipartite_adjacency, normalised_adjacency
from c2f_np.model.propagation import in_rows, propagate, propagate_backward
from c2f_np.model.sparse import SparseOperator, operator
from c2f_np.plotting.smoothing import against_layers, clouds, spectrum_and_filters, spreading

# %% [markdown]
# ## The idea
#
# Suppose Evelyn went to events E1 and E3, and Laura to E1, E2 and E3. Nobody told the model that the two women are alike; but they were in the same rooms. If every event's row of numbers is made from the rows of the women who came, and every woman's row from those of her events, then after two such rounds Laura's row holds something of Evelyn's. Similarity travels along edges.
#
# The data are small enough to draw: eighteen women, fourteen social events, 1930s Mississippi. Put the number 1 on one woman and 0 on everybody else (white), then mix once, twice, three times.

# %%
data = load_dataset("southern-women")
R = data.train
n_users, n_items = R.shape
A = normalised_adjacency(R)
assert (n_users, n_items, R.nnz) == (18, 14, 57)
assert A.shape == (32, 32) and abs(A - A.T).max() == 0, "this graph is symmetric to the last bit"

# %%
start = np.zeros((32, 1))
start[0] = 1.0
layers = [start]
for _ in range(3):
    layers.append(A @ layers[-1])
mean = sum(layers) / 4
panels = {f"$X_{k}$": layer[:, 0] for k, layer in enumerate(layers)} | {"mean, $H$": mean[:, 0]}
spreading(panels, R, data.user_ids, data.item_ids, label="value of the node")

# %% [markdown]
# Read the panels from left to right. $X_0$ is the single 1. After one round it has moved to Evelyn's events and left Evelyn herself: a bipartite graph has no edge from a woman to a woman. After two rounds it is back on the women's side, on all who shared an event with her; after three on every event. The last panel is what the model uses: the mean of all four, in which Evelyn still stands out most.
#
# What the picture says, checked:

# %%
assert np.all(layers[1][:n_users] == 0) and np.all(layers[2][n_users:] == 0), "the rounds alternate between the sides"
assert np.all(layers[3][n_users:] > 0), "three rounds reach every event"
assert np.argmax(mean) == 0 and np.all(mean[:n_users][layers[2][:n_users] > 0] > 0)
met = np.flatnonzero((R[[0]].toarray() @ R.T.toarray())[0])
assert np.array_equal(np.flatnonzero(layers[2][:, 0]), met), "two rounds reach exactly the women who share an event with her"

# %% [markdown]
# ## The mathematics
#
# **The recurrence.** $X_0$ is an $n \times d$ matrix, one row of $d$ numbers for each of the $n$ nodes. $\hat X$ is an $n \times n$ matrix, the graph (in this notebook mostly $\hat X = A$; in the model it holds a few more nodes, which changes nothing below). Then
#
# $$X_{k+1} = \hat X X_k, \qquad H = \frac{1}{L+1}\,(X_0 + X_1 + \dots + X_L).$$
#
# $L$ is the number of layers. There is no activation function and no weight matrix in it: that is LightGCN's simplification, and the model's.
#
# **By hand.** Take two users who met the same item: nodes $u_1, u_2, i$, edges $u_1 i$ and $u_2 i$. Degrees are 1, 1, 2, so both edges have the weight $1/\sqrt{1 \cdot 2} = 1/\sqrt 2$:
#
# $$A = \frac{1}{\sqrt2}\begin{pmatrix} 0&0&1\\0&0&1\\1&1&0 \end{pmatrix},\qquad A^2 = \frac12 \begin{pmatrix} 1&1&0\\1&1&0\\0&0&2\end{pmatrix}.$$
#
# With $X_0 = (1, 0, 0)^T$ we get $X_1 = A X_0 = (0, 0, 1/\sqrt2)^T$ and $X_2 = A X_1 = (1/2, 1/2, 0)^T$. With $L = 2$ the mean is $H = \frac13 (3/2,\ 1/2,\ 1/\sqrt2)^T$. The second user, who started with nothing, ends with $1/6$: half of the first user's number, a third of the mean.

# %%
tiny = normalised_adjacency(sparse.csr_array(np.array([[1.0], [1.0]])))
assert np.allclose(tiny.toarray(), np.array([[0, 0, 1], [0, 0, 1], [1, 1, 0]]) / np.sqrt(2))
assert np.allclose((tiny @ tiny).toarray(), np.array([[1, 1, 0], [1, 1, 0], [0, 0, 2]]) / 2)
H = propagate(np.array([[1.0], [0.0], [0.0]]), operator(tiny), n_layers=2)
assert np.allclose(H[:, 0], np.array([3 / 2, 1 / 2, 1 / np.sqrt(2)]) / 3) and np.isclose(H[1, 0], 1 / 6)

# %% [markdown]
# **One map.** $X_1 = \hat X X_0$, $X_2 = \hat X \hat X X_0 = \hat X^2 X_0$, and so on: $X_k = \hat X^k X_0$. Put that into the mean:
#
# $$H = P X_0, \qquad P = \frac{1}{L+1}\left(I + \hat X + \hat X^2 + \dots + \hat X^L\right).$$
#
# $P$ is a fixed $n \times n$ matrix. Whatever $X_0$ is, the result is $P$ times it: **propagation is linear**. We shall never form $P$ (it is dense: after a few rounds everybody has met everybody), but everything that is true of $x \mapsto Px$ is true of propagation.
#
# **Horner's rule.** A polynomial is cheapest from the inside out: $1 + a + a^2 = 1 + a\,(1 + a)$. The same with matrices:
#
# $$(I + \hat X + \hat X^2)\,X_0 = X_0 + \hat X\,(X_0 + \hat X X_0).$$
#
# So: start with $Y = X_0$, replace $Y$ by $X_0 + \hat X Y$ in all $L$ times, divide by $L+1$. That is as many products as the recurrence needs, but "add to the running sum" has become part of the product, and there is no layer to keep apart from the sum. The compiled engine does it so.

# %%
def horner(X0, X_hat, n_layers):
    Y = X0
    for _ in range(n_layers):
        Y = X0 + X_hat @ Y
    return Y / (n_layers + 1)


rng = np.random.default_rng(0)
X0 = rng.standard_normal((32, 5))
layer = operator(A)     # the matrix and its transpose: layer.forward(X) is A X, layer.adjoint(G) is A' G
assert np.allclose(horner(X0, A, 3), propagate(X0, layer, 3), rtol=0, atol=1e-14)

# %% [markdown]
# ## Forward
#
# All of propagation is made of one operation, the product of a sparse matrix with a dense one. Sparse means: only the entries that are not zero are stored, row by row, as (column, value) pairs. A product then costs one multiplication and addition for each stored entry and each of the $d$ columns. The package keeps a matrix together with its transpose, in a `SparseOperator`; here are its `forward` and the function that propagates (`as_layer` makes such an operator of a sparse matrix, and leaves an operator as it is).

# %%
print(inspect.getsource(SparseOperator.forward))

# %%
print(inspect.getsource(propagate))

# %% [markdown]
# Note what the loop keeps: `X` and `total`, whatever $L$ is. Nothing is put aside for the backward pass, and the next section shows that nothing is needed.
#
# ## Backward
#
# **What is wanted.** Somewhere above, a loss $\ell$ is computed from $H$. Its gradient at $H$, an array $G$ of the shape of $H$ with $G_{if} = \partial \ell / \partial H_{if}$, is handed to us and is called the *cotangent*. Wanted is the gradient at $X_0$. To first order, a change $\mathrm dH$ changes the loss by $\sum_{if} G_{if}\, \mathrm dH_{if}$, written $\langle G, \mathrm dH\rangle$: multiply entry by entry and add up.
#
# **The sparse product, term by term.** $Y = M X$, with $M$ of shape $n \times m$, $X$ of $m \times d$ and $Y$ of $n \times d$. Written out, with the cotangent $G$ at $Y$:
#
# $$\langle G, Y \rangle = \sum_{i=1}^{n} \sum_{j=1}^{m} \sum_{f=1}^{d} G_{if}\, M_{ij}\, X_{jf}.$$
#
# One number, linear in each of the three. The gradient with respect to $X_{jf}$ is whatever stands beside it, and likewise for $M_{ij}$:
#
# $$\frac{\partial}{\partial X_{jf}} = \sum_i M_{ij}\, G_{if} = (M^T G)_{jf}, \qquad\qquad \frac{\partial}{\partial M_{ij}} = \sum_f G_{if}\, X_{jf} = \langle \text{row } i \text{ of } G,\ \text{row } j \text{ of } X\rangle.$$
#
# The left one is the transpose. In words: forwards, node $i$ *collects* $M_{ij} X_j$ from its neighbours $j$; backwards, node $j$ collects $M_{ij} G_i$ from all $i$ that it has sent to. The right one exists only where an entry is stored, because an entry that is not stored is not a small weight: it is no weight.
#
# By hand, with a matrix that is neither square nor symmetric:
#
# $$M = \begin{pmatrix}1&0\\2&3\\0&4\end{pmatrix},\quad X = \begin{pmatrix}5\\6\end{pmatrix},\quad MX = \begin{pmatrix}5\\28\\24\end{pmatrix},\quad G = \begin{pmatrix}1\\-1\\2\end{pmatrix},\quad M^T G = \begin{pmatrix}1\cdot1 + 2\cdot(-1)\\ 3\cdot(-1) + 4\cdot2\end{pmatrix} = \begin{pmatrix}-1\\5\end{pmatrix}.$$
#
# The weight 3 stands in row 2, column 2: its gradient is $G_2 X_2 = (-1)\cdot 6 = -6$.

# %%
M = operator(np.array([[1.0, 0], [2, 3], [0, 4]]))
X, G = np.array([[5.0], [6]]), np.array([[1.0], [-1], [2]])
assert np.array_equal(M.forward(X), [[5], [28], [24]])
assert np.array_equal(M.adjoint(G), [[-1], [5]])
grad_M = M.with_weights(M.weights_gradient(G, X))
assert grad_M.nnz == M.matrix.nnz == 4 and grad_M[1, 1] == -6, "four weights, four gradients"

# %% [markdown]
# **Propagation by the chain rule.** Call $G_k$ the gradient at $X_k$, counting *all* ways from $X_k$ to the loss, and let $G = G_H$. How does $X_k$ reach $H$? In two ways:
#
# 1. as a member of the mean: $H = \frac{1}{L+1}(\dots + X_k + \dots)$, which sends back $\frac{1}{L+1} G$;
# 2. through the next layer, $X_{k+1} = \hat X X_k$: a sparse product, which sends back $\hat X^T G_{k+1}$, by the rule we just derived.
#
# What is sent on two ways comes back as a sum. The last layer has no next one. So
#
# $$G_L = \frac{G}{L+1}, \qquad G_k = \frac{G}{L+1} + \hat X^T G_{k+1} \quad (k = L-1, \dots, 0), \qquad \text{and the gradient at } X_0 \text{ is } G_0.$$
#
# **Propagation by algebra.** $H = P X_0$ is itself a product with a matrix, so the same rule gives the answer at once: $G_0 = P^T G$. A transpose goes through sums and powers, $(\hat X^k)^T = (\hat X^T)^k$, hence
#
# $$P^T = \frac{1}{L+1}\left(I + \hat X^T + (\hat X^T)^2 + \dots + (\hat X^T)^L\right).$$
#
# **They agree, and you have seen the recurrence before.** With $S = G/(L+1)$ the chain rule says: start with $S$, then $L$ times replace by $S + \hat X^T \cdot$. That is Horner's rule for $P^T$. The chain rule knows nothing of polynomials, yet it walks through the layers from last to first, and that *is* the order from the inside out.
#
# **Nothing is stored.** The backward of $Y = \tanh(MX)$ needs $Y$; the backward of $Y = MX$ needs $M$ and nothing else. So no $X_k$ occurs in the recurrence for $G_k$. An automatic differentiation system that treats each layer as an unknown function may well keep $L$ arrays of $n \times d$; we keep none. (The gradient with respect to the *weights* of $\hat X$ does need them, as the right-hand formula above shows: it contains $X$. The model does not train these weights by gradient.)

# %%
print(inspect.getsource(propagate_backward))

# %% [markdown]
# **The adjoint identity.** For any matrix $P$ and any two arrays,
#
# $$\langle P x, y \rangle = \sum_{ij} P_{ij}\, x_j\, y_i = \langle x, P^T y \rangle.$$
#
# Both sides are the same double sum. For a program this is a test that needs no small step and no tolerance to speak of: draw $x$ and $y$ at random, run the forward on $x$, the backward on $y$, form two dot products. If the backward is the transpose, they agree to rounding. If it is not, they do not, with probability one.

# %%
W = operator(np.triu(rng.standard_normal((32, 32))) * 0.3)  # not symmetric at all
x, y = rng.standard_normal((2, 32, 4))
left = np.sum(propagate(x, W, 3) * y)
right = np.sum(x * propagate_backward(y, W, 3))
print(f"<P x, y> = {left:.15f}\n<x, P'y> = {right:.15f}")
assert abs(left - right) < 1e-12 * np.linalg.norm(propagate(x, W, 3)) * np.linalg.norm(y)

# %% [markdown]
# **Only the rows of a batch.** A training step looks at a batch of users and items, say $K$ of the $N$ entities. It needs $H$ in these rows only. Taking rows is a linear map as well: with the $K \times n$ matrix $\mathcal R$ that has a single 1 in each row, at the column of the wanted node, $H[\text{rows}] = \mathcal R H = \mathcal R P X_0$. Transposing reverses the order:
#
# $$G_0 = (\mathcal R P)^T G_{\text{rows}} = P^T\, \mathcal R^T G_{\text{rows}}.$$
#
# $\mathcal R^T$ puts row $k$ of the cotangent into row `rows[k]` of an array of zeros: the function `in_rows`. So the backward of "propagate, then look at some rows" is "write into these rows, then propagate backwards". What is saved? Forwards, the *last* product is needed for $K$ rows only; backwards, the *first* product starts from a cotangent with $K$ rows that are not zero. The products in between are needed in full, since neighbours of neighbours are soon everybody.

# %%
rows = np.array([3, 20, 7])
some = propagate(X0, layer, 3, rows=rows)
assert np.array_equal(some, propagate(X0, layer, 3)[rows])
G_rows = rng.standard_normal(some.shape)
print(inspect.getsource(in_rows))
whole = propagate_backward(in_rows(G_rows, rows, 32), layer, 3)
assert np.array_equal(propagate_backward(G_rows, layer, 3, rows=rows), whole)

# %% [markdown]
# There is a trap in `whole[rows] = values`: if a row were named twice, the second value would overwrite the first, where the transpose has to *add* them. That is why `rows` must be distinct, and why the model asks for each entity of a batch once. With repeated rows one needs `np.add.at`:

# %%
twice = np.array([3, 3])
two = np.ones((2, 1))
added = np.zeros((32, 1))
np.add.at(added, twice, two)
assert in_rows(two, twice, 32)[3, 0] == 1 and added[3, 0] == 2, "the assignment loses one of the two"

# %% [markdown]
# ## Predict
#
# The most common mistake in this backward is a forgotten transpose: `X_hat @ G` instead of `X_hat.T @ G`. Suppose a student makes it, and checks it with the adjoint identity, once on the graph of the southern women ($A$, symmetric) and once on a matrix that is not symmetric. The gap is measured relative to the norms of the vectors, so that "completely unrelated" is somewhere between 0.01 and 1. **Which gap do you expect in each case?** Write down two powers of ten before you go on.
#
# <details><summary>Answer</summary>
#
# On the symmetric graph about $10^{-16}$: there $A^T = A$, the mistake changes nothing, and *no check at all can find it*. On the other matrix somewhere between 0.01 and 1 (two unrelated vectors of 128 entries are nearly, but not quite, orthogonal). The point of the exercise is the first number. The model's own graph is symmetric, so a forgotten transpose would be invisible in every test on it, until somebody normalises by rows instead, or puts a bridge into the layers (which the fine stage does). Test adjoints on matrices that are not symmetric; the cells below do.
# </details>

# %%
def without_transpose(G, M):
    return propagate(G, M, 3)


def gap(M):
    x, y = rng.standard_normal((2, 32, 4))
    return float(adjoint_gap(lambda x: propagate(x, M, 3), lambda y: without_transpose(y, M), x, y))


gaps = {"southern women (symmetric)": gap(layer), "not symmetric": gap(W)}
print({name: f"{value:.0e}" for name, value in gaps.items()})
assert gaps["southern women (symmetric)"] < 1e-14
assert 0.01 < gaps["not symmetric"] < 1, "unrelated"

# %% [markdown]
# ## Check
#
# Now everything by all the means of `01_checking_a_gradient`: central differences, the complex step, the Taylor rate and the adjoint. First the sparse product, rectangular, with respect to both of its arguments.

# %%
M = sparse.csr_array(np.where(rng.random((9, 6)) < 0.4, rng.standard_normal((9, 6)), 0))


def product(M, X):
    return operator(M).forward(X)


def product_backward(grad_Y, M, X):
    M = operator(M)
    return {"grad_M": M.with_weights(M.weights_gradient(grad_Y, X)), "grad_X": M.adjoint(grad_Y)}


report = check_gradients(
    product, product_backward, {"M": M, "X": rng.standard_normal((6, 3))}, linear_in=("M", "X"), name="sparse product"
)
assert report.passed
report

# %% [markdown]
# In the column of the Taylor rate stands *linear*: for a linear function the remainder $f(x + hv) - f(x) - h\langle g, v\rangle$ is not small but zero, at every step, up to rounding. There is no rate to measure, and that is the right answer.
#
# Next propagation, on the matrix that is not symmetric, all rows and some.

# %%
def forward(X0, X_hat, rows=None):
    return propagate(X0, operator(X_hat), 3, rows=rows)


def backward(grad_H, X_hat, rows=None):
    return propagate_backward(grad_H, operator(X_hat), 3, rows=rows)


point = {"X0": rng.standard_normal((32, 2)), "X_hat": W.matrix}
whole = check_gradients(forward, backward, point, wrt="X0", linear_in="X0", name="all rows")
part = check_gradients(forward, backward, point | {"rows": rows}, wrt="X0", linear_in="X0", name="three rows")
assert whole.passed and part.passed
assert whole.verdict("adjoint", "X0").figure < 1e-14
whole

# %%
part

# %% [markdown]
# And the wrong one, which must not pass:

# %%
def wrong_backward(grad_H, X_hat):
    return without_transpose(grad_H, X_hat)


wrong = check_gradients(forward, wrong_backward, point, wrt="X0", linear_in="X0", name="no transpose")
assert not wrong.passed
wrong

# %% [markdown]
# ### What the layers do to the graph's spectrum
#
# We now know how to run propagation both ways. What does it *do*? A symmetric matrix has an orthonormal basis of eigenvectors: $A = V \Lambda V^T$, with the eigenvalues $\lambda_1, \dots, \lambda_n$ on the diagonal of $\Lambda$. Powers act on the eigenvalues alone, $A^k = V \Lambda^k V^T$, and so does every polynomial:
#
# $$P = V\, p_L(\Lambda)\, V^T, \qquad p_L(\lambda) = \frac{1 + \lambda + \dots + \lambda^L}{L+1}.$$
#
# To propagate is to write $X_0$ in this basis, multiply each coordinate by $p_L(\lambda)$, and go back. $p_L$ is a *filter*, and eigenvalues play the part of frequencies: an eigenvector with $\lambda$ near 1 varies slowly along edges (neighbours have similar values), one with $\lambda$ near $-1$ flips its sign along every edge.
#
# **All eigenvalues lie in $[-1, 1]$.** With $a_{ij} = b_{ij}/\sqrt{d_i d_j}$ and $b_{ij} \ge 0$, use $2st \le s^2 + t^2$ for $s = |v_i|/\sqrt{d_i}$ and $t = |v_j|/\sqrt{d_j}$:
#
# $$|v^T A v| \le \sum_{ij} b_{ij} \frac{|v_i|}{\sqrt{d_i}} \frac{|v_j|}{\sqrt{d_j}} \le \sum_{ij} b_{ij}\, \frac12\left(\frac{v_i^2}{d_i} + \frac{v_j^2}{d_j}\right) = \sum_i \frac{v_i^2}{d_i} \sum_j b_{ij} = \sum_i v_i^2 .$$
#
# (The two halves are equal by symmetry, and $\sum_j b_{ij} = d_i$.) So $|v^T A v| \le v^T v$, and an eigenvector gives $|\lambda| \le 1$.
#
# **The value 1 is taken**, by $v_i = \sqrt{d_i}$: $(Av)_i = \sum_j \frac{b_{ij}}{\sqrt{d_i d_j}} \sqrt{d_j} = \frac{d_i}{\sqrt{d_i}} = v_i$. **And in a bipartite graph so is $-1$**: turn the sign of the items' part of any eigenvector, and $A v = \lambda v$ becomes $A v' = -\lambda v'$, because every edge connects the two sides. The spectrum is a mirror image of itself.

# %%
eigenvalues, V = np.linalg.eigh(A.toarray())
degree = np.asarray(bipartite_adjacency(R).sum(axis=1)).ravel()
top = np.sqrt(degree) / np.linalg.norm(np.sqrt(degree))
assert np.allclose(A @ top, top), "the roots of the degrees are an eigenvector to the eigenvalue 1"
assert np.allclose(eigenvalues, -eigenvalues[::-1]) and np.isclose(eigenvalues[-1], 1)
second = eigenvalues[-2]
print(f"second largest eigenvalue: {second:.3f}")
assert round(second, 3) == 0.808


def p(lam, n_layers):
    return sum(lam**k for k in range(n_layers + 1)) / (n_layers + 1)


assert np.allclose(V @ np.diag(p(eigenvalues, 3)) @ V.T @ X0, propagate(X0, layer, 3)), "layers act on eigenvalues alone"

# %%
lam = np.linspace(-1, 1, 201)
spectrum_and_filters(eigenvalues, {f"$p_{{{n}}}$, $L = {n}$": (lam, p(lam, n)) for n in (1, 2, 3, 8)})

# %% [markdown]
# Left, the 32 eigenvalues: mirrored about 0, with one at each end. Right, what each is multiplied by. All filters leave $\lambda = 1$ as it is ($p_L(1) = 1$) and press the rest down: a **low-pass filter**. (With an even number of layers the far left end rises again a little, since $\lambda^2 = 1$ at $\lambda = -1$.) Embeddings become smooth along edges, which is what we want from "people in the same rooms are alike".
#
# Where the curve is at 0 tells why a *mean* is taken instead of the last layer alone. $p_L(0) = 1/(L+1)$: of what the graph cannot see (eigenvalue 0), a quarter remains after three layers. The last layer alone would multiply it by $0^3 = 0$: a node would forget who it was.

# %%
assert p(0.0, 3) == 0.25 and np.isclose(p(1.0, 8), 1)
assert p(-1.0, 3) == 0 and np.isclose(p(-1.0, 2), 1 / 3), "at -1 an odd number of layers cancels in pairs"

# %% [markdown]
# ### Over-smoothing, shown
#
# If some smoothing is good, is more better? Take the last layer, $X_k = V \Lambda^k V^T X_0$. Every $|\lambda| < 1$ dies like $|\lambda|^k$; what survives is the part on $\lambda = \pm 1$. On the users' side alone both surviving eigenvectors are multiples of $\sqrt{d}$, so that in the end
#
# $$\text{row of user } u \;\approx\; \sqrt{d_u}\; \times \text{ one and the same row for all users.}$$
#
# All users point in the same direction, and differ only by how many events they went to. (So do all items, with a row of their own.) With $d = 2$ columns one can see it: each row is a point in the plane, and the points fall onto lines.

# %%
X0 = np.random.default_rng(5).standard_normal((32, 2))
shown = {"start, $X_0$": X0}
for k in (2, 6, 20):
    shown[f"after {k} layers, $X_{{{k}}}$"] = np.linalg.matrix_power(A.toarray(), k) @ X0
clouds(shown, n_users)

# %% [markdown]
# After twenty layers the users stand on one line through the origin, and the items on another (the two eigenvalues $1$ and $-1$ leave each side a direction of its own). On its line a point sits at a distance proportional to the root of its degree and says nothing else: the dot product of a user and an item no longer depends on taste, only on how busy both are. Mind the axes, which differ from panel to panel.

# %%
direction = shown["after 20 layers, $X_{20}$"][:n_users] / np.sqrt(degree[:n_users, None])
assert np.allclose(direction, direction.mean(axis=0), rtol=0, atol=0.05 * np.linalg.norm(direction.mean(axis=0)))

# %% [markdown]
# How fast? Measure, among the users, how much of the squared length lies outside the one common direction (outside of $\sqrt{d}$): 1 would be "all of it", 0 is complete collapse.

# %%
depths = np.arange(0, 41)
common = np.sqrt(degree[:n_users]) / np.linalg.norm(np.sqrt(degree[:n_users]))


def left_over(rows):
    """Share of the squared length of the users' rows that is not in the common direction."""
    inside = np.outer(common, common @ rows)
    return float(np.sum((rows - inside) ** 2) / np.sum(rows**2))


X0 = np.random.default_rng(5).standard_normal((32, 64))
last = [X0]
for _ in depths[1:]:
    last.append(A @ last[-1])
curves = {
    "mean of layers": np.array([left_over(propagate(X0, layer, int(n))[:n_users]) for n in depths]),
    "last layer": np.array([left_over(layer[:n_users]) for layer in last]),
}
against_layers(depths, curves, ylabel="share outside the common direction", log=True)

# %% [markdown]
# The last layer loses everything exponentially: two more layers multiply the share by about $\lambda_2^4 = 0.808^4 \approx 0.43$ (a square for the two layers, a square for squared lengths). The mean over layers loses it, too, but slowly, since $X_0$ remains a member of the mean, if only with the weight $1/(L+1)$. Three or four layers are what the model uses.

# %%
rate = curves["last layer"][40] / curves["last layer"][38]
assert abs(rate - second**4) < 0.005 and round(second**4, 2) == 0.43
assert curves["last layer"][20] < 1e-3 * curves["last layer"][0] < curves["mean of layers"][20]

# %% [markdown]
# ## Faster
#
# There are two **engines**, modules with functions of the same names: `c2f_np.model.text`, what you have read, and `c2f_np.kernels`, which computes the same with compiled loops: rows in parallel, the running sum inside the product (Horner), and, for the rows of a batch, no product for rows that nobody asked for. First: are they the same? Then: how long does each take? The first is no straw man: its products are SciPy's, which is compiled C++.
#
# This cell takes MovieLens 100K if you have fetched it (`python -m c2f_np data fetch ml-100k`), otherwise the planted data that ship with the package.

# %%
large = load_dataset("ml-100k" if cached("ml-100k") else "planted")
graph = normalised_adjacency(large.train, dtype=np.float32)
engines = {name: engine_named(name) for name in ("numpy", "numba")}
layers = {name: engine.operator(graph) for name, engine in engines.items()}
print(f"{large.name}: {graph.shape[0]:,} nodes, {graph.nnz:,} stored entries")
values = np.random.default_rng(1).standard_normal((graph.shape[0], 64)).astype(np.float32)
batch = np.sort(np.random.default_rng(2).choice(graph.shape[0], 200, replace=False))
bits = np.finfo(np.float32).eps
for options in ({}, {"rows": batch}):
    slow, fast = (engines[name].propagate(values, layers[name], 3, **options) for name in engines)
    assert np.abs(slow - fast).max() < 100 * bits * np.abs(slow).max()
    slow, fast = (engines[name].propagate_backward(slow, layers[name], 3, **options) for name in engines)
    assert np.abs(slow - fast).max() < 100 * bits * np.abs(slow).max()

# %%
def best_of(work, n=15):
    """Seconds of the fastest of n calls: the one that was disturbed least."""
    times = []
    for _ in range(n):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


# %% [markdown]
# Each call is timed several times and the fastest counts. What is compared: a single product, the layers, and the two passes of a batch.

# %%
cotangent = values[batch]
jobs = {
    "one product": lambda name: layers[name].forward(values),
    "3 layers, all rows": lambda name: engines[name].propagate(values, layers[name], 3),
    "3 layers, 200 rows": lambda name: engines[name].propagate(values, layers[name], 3, rows=batch),
    "backward of 200 rows": lambda name: engines[name].propagate_backward(cotangent, layers[name], 3, rows=batch),
}
for name, job in jobs.items():
    job("numba")  # compiled before the clock runs
    ratio = best_of(lambda job=job: job("numpy")) / best_of(lambda job=job: job("numba"))
    print(f"{name:<22} SciPy takes {ratio:4.1f} times as long")
    assert ratio > 0

# %% [markdown]
# The ratios depend on your machine, on its cores, and on what else it is doing; that is why they are printed and not quoted. What to look for: the whole propagation gains more than the single product, since Horner's rule saves the passes over memory that `total += layer` and the division cost, and a batch's rows save a part of the first or the last product.
#
# ## Exercises
#
# The checker runs your function against differences of the forward, not against our text: any right way of writing it is right. Until you write them, the cells say so and go on. `task.hint()` gives one more hint at each call.
#
# ### 1. The sparse product, backwards

# %%
task = exercise("sparse_product_backward")
task


# %%
def my_sparse_product_backward(grad_Y, M, X):
    raise NotImplementedError


task.check(my_sparse_product_backward);

# %%
# print(task.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def sparse_product_backward(grad_Y, M, X):
#     return M.T @ grad_Y
# ```
# </details>
#
# ### 2. The gradient of the stored weights

# %%
task = exercise("sparse_product_backward_weights")
task


# %%
def my_sparse_product_backward_weights(grad_Y, M, X):
    raise NotImplementedError


task.check(my_sparse_product_backward_weights);

# %%
# print(task.hint())

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
# ### 3. Propagation, backwards

# %%
task = exercise("propagate_backward")
task


# %%
def my_propagate_backward(grad_H, X0, X_hat, n_layers):
    raise NotImplementedError


task.check(my_propagate_backward);

# %%
# print(task.hint())

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
# ### 4. Only a batch's rows

# %%
task = exercise("propagate_rows_backward")
task


# %%
def my_propagate_rows_backward(grad_H_rows, X0, X_hat, n_layers, rows):
    raise NotImplementedError


task.check(my_propagate_rows_backward);

# %%
# print(task.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def propagate_rows_backward(grad_H_rows, X0, X_hat, n_layers, rows):
#     grad_H = np.zeros_like(X0)
#     grad_H[rows] = grad_H_rows  # the transpose of taking rows; they are distinct
#     share = grad_H / (n_layers + 1)
#     grad_layer = share
#     for _ in range(n_layers):
#         grad_layer = share + X_hat.T @ grad_layer
#     return grad_layer
# ```
# </details>
#
# ### 5. Layers with weights
#
# A mean gives every layer the same say. What if the weights were trained? Now the gradient with respect to the weights does need the layers.

# %%
task = exercise("weighted_layers_backward")
task


# %%
def my_weighted_layers_backward(grad_H, X0, X_hat, alpha):
    raise NotImplementedError


task.check(my_weighted_layers_backward);

# %%
# print(task.hint())

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
# The weights also make a filter of your choice: $p(\lambda) = \sum_k \alpha_k \lambda^k$.
# </details>
#
# ### 6. To think about
#
# Propagation in the model starts from $X_0 = [\tanh(S_c E_c);\, E_c]$, where $E_c$ is trained. Is $H$ linear in $E_c$? Which part of the backward pass has to remember something, and what?
#
# <details><summary>Answer</summary>
#
# No: tanh comes before propagation. $H$ is linear in $X_0$, and only the first block of $X_0$ is not linear in $E_c$. So propagation remembers nothing, and the composition remembers its output $\tanh(S_c E_c)$, once, however many layers there are. The notebook on composition derives it.
# </details>
#
# ## Read next
#
# - `03_soft_thresholding`: the one operation of the model with kinks, where "the derivative" needs a convention.
# - `04_composition_and_bridging`: a layer that is linear but *not* symmetric, so that the transpose can no longer be forgotten.
# - `docs/model.md`, section *coarse stage*: the same derivation in six lines.
# - LightGCN: He et al., *LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation* (arXiv 2002.02126). The model here: Wang et al., arXiv 2501.11870.
