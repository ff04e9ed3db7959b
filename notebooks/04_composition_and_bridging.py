# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 04 · Composition and bridging: thousands of embeddings from two small tables
#
# *Reading: 20 minutes. Exercises: 8.*
#
# ## What you will do
#
# So far every user and item had a row of numbers of its own. Now we take these rows away and build them when they are needed: from a *coarse codebook* of $C$ rows that everybody shares, and a *fine codebook* of $M$ rows that refines it. You will write the backward of each step with respect to everything that stands in it. At the end you will have transposed a *program*, four lines that overwrite each other. The result is a layer that is not symmetric, where a forgotten transpose can no longer hide.
#
# You need the sparse product and its two gradients from [02](02_sparse_propagation.ipynb), and the thresholded fine codebook $F$ of [03](03_soft_thresholding.ipynb). Letters are on the [page of symbols](symbols.md).

# %%
import time

import numpy as np
import scipy.sparse as sparse

from c2f_np.course import exercise, my_model
from c2f_np.data import southern_women_split
from c2f_np.gradcheck import check_gradients
from c2f_np.model.starts import partition_entities, start_coarse_assignment, start_fine_assignment
from c2f_np.plotting import computation
from c2f_np.plotting.assignments import before_and_after, block_matrices, codebooks, heat_maps

my = my_model(or_answers=True)

# %% [markdown]
# ## The idea
#
# Think of describing wines. You could store a long description of every bottle. Or you could agree on a few types, and say of each bottle "half this type, half that". The types are the codebook, the halves are the assignment.
#
# A *codebook* $E$ is a table of $C$ rows and $d$ columns. An *assignment* $S$ ($N\times C$) has a row for each entity, in which only $t$ entries are not 0. The embedding of entity $e$ is made of $t$ codebook rows, $\sum_cS_{ec}E_c$. In the second half of this notebook the codebook is itself refined: each of its rows listens to a few rows of a second, fine codebook. This is the left part of the computation. ($Z$ holds the *ego embeddings*: what an entity is by itself, before the graph mixes it with its neighbours. They are the first rows of *layer 0*, $X_0$; the codebooks' rows follow.)

# %%
computation("S_c", "E_c", "Z", "X0", "E_f", "F", "S_f", "E_hat", model="fine")

# %% [markdown]
# Below are the 18 women and 14 events with four codebook rows and $t=2$. The graph is cut into four parts by *spectral co-clustering*, which groups users and items by the leading singular vectors of the normalised $R$, so that few edges run between parts. Each entity puts half of its weight on the row of its own part, and half on another row, drawn at random.

# %%
women = southern_women_split()
n, C, M, d = sum(women.train.shape), 4, 3, 8
parts = partition_entities(women.train, C, method="coclustering")
S_c = start_coarse_assignment(parts, C, 2, 0.5, np.random.default_rng(1))
E_c = np.random.default_rng(2).standard_normal((C, d))
Z = np.tanh(S_c @ E_c)
assert S_c.shape == (32, 4) and np.all(np.diff(S_c.indptr) == 2) and np.allclose(S_c.sum(axis=1), 1)
assert len(np.unique(Z.round(12), axis=0)) == len(np.unique(S_c.toarray(), axis=0))
panels = {"Assignment $S$": S_c.toarray(), "Codebook $E$": E_c, "Composed, $Z$": Z}
kinds = {"Codebook $E$": "codebook row", "Composed, $Z$": "entity, in the same order"}
names = {"Assignment $S$": [*women.user_ids, *women.item_ids]}
heat_maps(panels, row_names=names, row_kinds=kinds, height=5.8, title="Southern women: 32 entities composed from 4 codebook rows")

# %% [markdown]
# Left: two dark cells in every row. Middle: the codebook, its four rows stretched to the same height (orange is negative, violet positive; each panel has its own scale). Right: the composed rows. Entities with the same two codebook rows have the same row on the right; nothing else tells them apart until propagation mixes in their neighbours.
#
# What does it save? For 70,000 entities, $d=128$, $C=300$ and $t=2$ a table holds $70{,}000\cdot128$ numbers, codebook and assignment $300\cdot128+70{,}000\cdot4$ (two weights and two column numbers each).

# %%
own_rows, shared = 70_000 * 128, 300 * 128 + 70_000 * 2 * 2
assert round(own_rows / shared) == 28
print(f"{own_rows:,} numbers against {shared:,}: {own_rows / shared:.0f} times less")

# %% [markdown]
# ## Write: composition
#
# ### Forward
#
# The tanh keeps every entry between $-1$ and $1$.

# %%
def compose(S, E):
    return np.tanh(S @ E)


my.keep(compose)

# %% [markdown]
# ### By hand
#
# Three entities, two codebook rows, one column:
#
# $$S=\begin{pmatrix}1&0\\\tfrac12&\tfrac12\\0&1\end{pmatrix},\quad E=\begin{pmatrix}1\\-1\end{pmatrix},\quad Y=SE=\begin{pmatrix}1\\0\\-1\end{pmatrix},\quad Z=\tanh Y\approx\begin{pmatrix}0.762\\0\\-0.762\end{pmatrix}.$$
#
# Let $G_Z=(1,1,2)^\top$ arrive. The slopes of tanh are $s=1-0.762^2\approx0.420$, 1 and $s$, so $G_Y=(s,1,2s)^\top$. The first codebook row is used by entity 0 with weight 1 and by entity 1 with weight $\frac12$: it receives $s+\frac12$. The second receives $\frac12+2s$. A codebook row collects from all entities that use it; that is how 32 entities train four rows.
#
# ### Your turn
#
# First with respect to the codebook, then with respect to the stored weights.

# %%
task_1 = exercise("compose_backward")
task_1

# %%
def compose_backward(grad_Z, S, E):
    raise NotImplementedError


task_1.check(compose_backward).keep();

# %%
# print(task_1.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def compose_backward(grad_Z, S, E):
#     Z = my.compose(S, E)
#     return S.T @ (grad_Z * (1 - Z**2))
# ```
# </details>

# %%
task_2 = exercise("compose_backward_assignment")
task_2

# %%
def compose_backward_assignment(grad_Z, S, E):
    raise NotImplementedError


task_2.check(compose_backward_assignment).keep();

# %%
# print(task_2.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def compose_backward_assignment(grad_Z, S, E):
#     Z = my.compose(S, E)
#     return my.sparse_product_backward_weights(grad_Z * (1 - Z**2), S, E)
# ```
# </details>
#
# The codebook is used twice in this model: entities are composed from it, *and* its rows are nodes of the graph. Propagation starts from both:

# %%
def compose_above(S, E):
    return np.concatenate([my.compose(S, E), E])


my.keep(compose_above)

# %%
task_3 = exercise("compose_above_backward")
task_3

# %%
def compose_above_backward(grad_X0, S, E):
    raise NotImplementedError


task_3.check(compose_above_backward).keep();

# %%
# print(task_3.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def compose_above_backward(grad_X0, S, E):
#     n = S.shape[0]
#     return my.compose_backward(grad_X0[:n], S, E) + grad_X0[n:]  # two paths out, one sum back
# ```
# </details>

# %%
S3, E3 = sparse.csr_array(np.array([[1, 0], [0.5, 0.5], [0, 1]])), np.array([[1.0], [-1.0]])
s, G_Z = 1 - np.tanh(1.0) ** 2, np.array([[1.0], [1.0], [2.0]])
assert np.allclose(my.compose(S3, E3)[:, 0], [0.762, 0, -0.762], atol=5e-4) and round(s, 3) == 0.420
assert np.allclose(my.compose_backward(G_Z, S3, E3)[:, 0], [s + 0.5, 0.5 + 2 * s])
assert np.allclose(my.compose_above_backward(np.append(G_Z, [[1.0], [1.0]], axis=0), S3, E3)[:, 0], [s + 1.5, 1.5 + 2 * s])

# %% [markdown]
# ### The derivation
#
# <details><summary>The derivation</summary>
#
# *The slope from the output.* $\tanh=\sinh/\cosh$, $\sinh'=\cosh$, $\cosh'=\sinh$, and $\cosh^2-\sinh^2=1$. By the quotient rule $\tanh'=(\cosh^2-\sinh^2)/\cosh^2=1-\tanh^2$. Whoever has $Z$ needs no tanh backwards.
#
# *Two steps forwards, two steps backwards, in the other order.* Through $Z=\tanh Y$, entry by entry: $G_Y=G_Z\circ(1-Z^2)$. Through $Y=SE$: $G_E=S^\top G_Y$, and at a stored weight $\langle\text{row }e\text{ of }G_Y,\text{row }c\text{ of }E\rangle$, both from [02](02_sparse_propagation.ipynb).
#
# *Used twice.* If $dE$ changes two things, the loss changes by the sum of both consequences. Each inner product is brought into the form $\langle\cdot,dE\rangle$ by its own transpose, and the brackets add up: the first $N$ rows of $G_{X_0}$ go back through the composition, the last $C$ rows are a gradient at $E$ already.
#
# </details>
#
# ## Write: the bridge
#
# ### Forward
#
# In the second stage of training $E_c$ is refined by a few fine rows. $S_f$ ($C\times M$) says which fine rows a coarse row listens to, and the *gate* $g$, a number between 0 and 1, how much.

# %%
def bridge(S_f, F, E_c, g):
    return g * (S_f @ F) + (1 - g) * E_c


my.keep(bridge)

# %% [markdown]
# ### By hand
#
# One coarse row, two fine rows, one column: $E_c=10$, $S_f=(\frac12,\frac12)$, $F=(2,4)^\top$, $g=0.2$. Then $S_fF=3$ and $\hat E=0.2\cdot3+0.8\cdot10=8.6$. If $g$ grows by a little, $\hat E$ falls by 7 times as much. What does a change of $E_c$ do, of $F$, of a weight?

# %%
hand = (sparse.csr_array(np.array([[0.5, 0.5]])), np.array([[2.0], [4.0]]), np.array([[10.0]]), 0.2)
assert np.isclose(my.bridge(*hand)[0, 0], 8.6)
fine_parts = partition_entities(women.train, M, method="coclustering")
S_f = start_fine_assignment(S_c, fine_parts, M, 2)
F = np.random.default_rng(3).normal(0, 1.5, (M, d))
F = np.sign(F) * np.maximum(np.abs(F) - 1, 0)
codebooks(E_c, S_f @ F, my.bridge(S_f, F, E_c, 0.2), 0.2)

# %% [markdown]
# Left the coarse codebook, in the middle what the fine rows say about it, right their mixture.
#
# ### Your turn

# %%
task_4 = exercise("bridge_backward")
task_4

# %%
def bridge_backward(grad_E_hat, S_f, F, E_c, g):
    raise NotImplementedError


task_4.check(bridge_backward).keep();

# %%
# print(task_4.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def bridge_backward(grad_E_hat, S_f, F, E_c, g):
#     grad_E_c = (1 - g) * grad_E_hat
#     grad_F = g * (S_f.T @ grad_E_hat)
#     return grad_E_c, grad_F
# ```
# </details>

# %%
task_5 = exercise("bridge_backward_gate")
task_5

# %%
def bridge_backward_gate(grad_E_hat, S_f, F, E_c, g):
    raise NotImplementedError


task_5.check(bridge_backward_gate).keep();

# %%
# print(task_5.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def bridge_backward_gate(grad_E_hat, S_f, F, E_c, g):
#     return np.sum(grad_E_hat * (S_f @ F - E_c))
# ```
# </details>

# %%
task_6 = exercise("bridge_backward_assignment")
task_6

# %%
def bridge_backward_assignment(grad_E_hat, S_f, F, E_c, g):
    raise NotImplementedError


task_6.check(bridge_backward_assignment).keep();

# %%
# print(task_6.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def bridge_backward_assignment(grad_E_hat, S_f, F, E_c, g):
#     return my.sparse_product_backward_weights(g * grad_E_hat, S_f, F)
# ```
# </details>

# %%
to_E_c, to_F = my.bridge_backward(np.array([[2.0]]), *hand)
assert np.allclose(to_E_c, 1.6) and np.allclose(to_F, 0.2)
assert np.isclose(my.bridge_backward_gate(np.array([[2.0]]), *hand), -14)

# %% [markdown]
# ### The derivation
#
# <details><summary>The derivation</summary>
#
# $\hat E=g\,S_fF+(1-g)\,E_c$ is linear in each of its four arguments while the others stand still. $E_c$ is multiplied by a number: $G_{E_c}=(1-g)\,G$. $F$ is multiplied by the matrix $g\,S_f$: $G_F=g\,S_f^\top G$. The cotangent at the product $S_fF$ is $g\,G$, so a stored weight receives $g\,\langle\text{row }c\text{ of }G,\text{its row of }F\rangle$. And $g$ stands in two places; sorted, $\hat E=E_c+g\,(S_fF-E_c)$, so that $G_g=\langle G,S_fF-E_c\rangle$, summed over all entries: one gate serves them all. By hand with $G=2$: $1.6$, $(0.2,0.2)$, $(0.8,1.6)$ and $2\,(3-10)=-14$.
#
# </details>
#
# ## Write: the bridged layer
#
# ### Forward
#
# The fine stage propagates over a graph of $N$ entities, $C$ coarse and $M$ fine nodes. A layer first mixes neighbours, $\hat XX$. Then it applies the bridge *inside* the layer. Cut the rows into entities $h$, coarse $p$ and fine $q$. The released code does this:

# %%
def bridged_layer(X, X_hat, S_c, S_f, g):
    n, c = S_c.shape
    h, p, q = np.split(X_hat @ X, [n, n + c])
    h = h - S_c @ p
    p = p - S_f @ q
    p = g * (S_f @ q) + (1 - g) * p
    h = h + S_c @ p
    return np.concatenate([h, p, q])


my.keep(bridged_layer)

# %% [markdown]
# In words: take out of the entities what they have from the coarse rows; take out of the coarse rows what they have from the fine ones; mix the fine ones back in with the gate; put the new coarse rows back into the entities.
#
# ### By hand
#
# One node of each kind, one column, all edges 1, $S_c=1$, $S_f=0.5$, $g=0.2$. From $(h,p,q)=(1,2,3)$ the graph makes $(2,4,2)$. Then $h=2-4=-2$; $p=4-0.5\cdot2=3$; $p=0.2\cdot0.5\cdot2+0.8\cdot3=2.6$; $h=-2+2.6=0.6$. So $(1,2,3)$ becomes $(0.6,\,2.6,\,2)$.
#
# How is a program transposed whose lines overwrite each other? Take a smaller one, of two numbers: first $a\leftarrow a+2b$, then $b\leftarrow3a-b$. From $(a,b)=(1,1)$ it makes $(3,8)$. Backwards with $(G_a,G_b)=(1,1)$, from the *last* line to the first:
#
# - $b\leftarrow3a-b$. The new $b$ is made of both, so its cotangent goes to both: $G_a=1+3\cdot1=4$; the old $b$ lives on in this line alone, so $G_b=-1\cdot1=-1$ takes the place of what was there.
# - $a\leftarrow a+2b$. Here $b$ is read and stays, so it keeps what it has and receives more: $G_b=-1+2\cdot4=7$. $G_a=4$ stays.
#
# The adjoint identity: $1\cdot3+1\cdot8=11=4\cdot1+7\cdot1$. On paper: do the same with the four lines and the graph, and with $(1,1,1)$ for the cotangent. Whatever comes back, its product with $(1,2,3)$ has to be $0.6+2.6+2=5.2$.

# %%
two_lines = np.array([[1, 0], [3, -1]]) @ np.array([[1, 2], [0, 1]])  # the second line after the first
assert (two_lines @ [1, 1]).tolist() == [3, 8] and (two_lines.T @ [1, 1]).tolist() == [4, 7]

# %% [markdown]
#
# ### Your turn

# %%
task_7 = exercise("bridged_layer_backward")
task_7

# %%
def bridged_layer_backward(grad_next, X, X_hat, S_c, S_f, g):
    raise NotImplementedError


task_7.check(bridged_layer_backward).keep();

# %%
# print(task_7.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def bridged_layer_backward(grad_next, X, X_hat, S_c, S_f, g):
#     n, c = S_c.shape
#     h, p, q = np.split(grad_next, [n, n + c])
#     p = p + S_c.T @ h  # h <- h + S_c p
#     q = q + g * (S_f.T @ p)  # p <- g S_f q + (1 - g) p, with the p from before the next line
#     p = (1 - g) * p
#     q = q - S_f.T @ p  # p <- p - S_f q
#     p = p - S_c.T @ h  # h <- h - S_c p
#     return X_hat.T @ np.concatenate([h, p, q])
# ```
# </details>

# %%
path = sparse.csr_array(np.array([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]))
three = (path, sparse.csr_array([[1.0]]), sparse.csr_array([[0.5]]), 0.2)
x = np.array([[1.0], [2.0], [3.0]])
assert np.allclose(my.bridged_layer(x, *three)[:, 0], [0.6, 2.6, 2.0])
assert np.allclose(my.bridged_layer_backward(np.ones((3, 1)), x, *three)[:, 0], [0.6, 1.4, 0.6])

# %% [markdown]
# ### The derivation
#
# <details><summary>The derivation</summary>
#
# Each line is a linear map of the state $(h,p,q)$ before it to the state after it. Written as blocks, with the identity where nothing happens:
#
# $$T_1=\begin{pmatrix}I&-S_c&0\\0&I&0\\0&0&I\end{pmatrix},\;T_2=\begin{pmatrix}I&0&0\\0&I&-S_f\\0&0&I\end{pmatrix},\;T_3=\begin{pmatrix}I&0&0\\0&(1-g)I&gS_f\\0&0&I\end{pmatrix},\;T_4=\begin{pmatrix}I&S_c&0\\0&I&0\\0&0&I\end{pmatrix}.$$
#
# The layer is $T=T_4T_3T_2T_1\hat X$, and a transpose turns the order round: $T^\top=\hat X^\top T_1^\top T_2^\top T_3^\top T_4^\top$. What came last is done first, each factor transposed by itself. In $T_4$ the block $S_c$ stands in row $h$, column $p$; in $T_4^\top$ its transpose stands in row $p$, column $h$. So $G_p\leftarrow G_p+S_c^\top G_h$, and $G_h$ stays, because $h$ stood on the right side of the line as well. In $T_3$ both blocks stand in row $p$, so both receive from $G_p$ as it is *before* this line: first $G_q\leftarrow G_q+g\,S_f^\top G_p$, then $G_p\leftarrow(1-g)\,G_p$.
#
# </details>
#
# The whole layer, from $X_k$ to $X_{k+1}$, is a linear map; call it $T$. $\hat X$ is symmetric; is $T$? Feed unit vectors into the layer and collect what comes out, and feed them into your backward.

# %%
A = sparse.csr_array(my.normalised_adjacency(women.train))
X_hat = sparse.csr_array(sparse.block_array([[A, S_c, None], [S_c.T, None, S_f], [None, S_f.T, None]]))
half = sparse.diags_array(1 / np.sqrt(X_hat.sum(axis=1)))
X_hat = sparse.csr_array(half @ X_hat @ half)
unit = np.eye(n + C + M)
T, T_back = my.bridged_layer(unit, X_hat, S_c, S_f, 0.2), my.bridged_layer_backward(unit, unit, X_hat, S_c, S_f, 0.2)
assert abs(X_hat - X_hat.T).max() < 1e-15 and np.abs(T - T.T).max() > 0.01 * np.abs(T).max()
assert np.allclose(T_back, T.T, rtol=0, atol=1e-14), "your backward is the transpose, entry for entry"
added = np.abs(T - X_hat)
assert added.max() == added[:, n : n + C].max(), "the largest numbers stand in the columns of the coarse nodes"
shown = {r"The graph, $\hat{X}$": X_hat.toarray(), r"Added by the four lines, $T - \hat{X}$": T - X_hat, r"$T - T^\top$": T - T_back}
block_matrices(shown, {"entities": n, "coarse": C, "fine": M}, title="A bridged layer $T$ of the southern women is not symmetric")

# %% [markdown]
# Left, the graph is its own mirror image. In the middle, what the four lines add: the largest numbers stand in the narrow columns of the coarse nodes. On the right a symmetric layer would leave the panel white. That is what a forgotten transpose gets wrong. (Each panel has its own scale.)
#
# ## Write: the layer that exchanges
#
# ### Forward
#
# Multiplied out, the released code's lines say $p\leftarrow(1-g)\,p+(2g-1)\,S_fq$. At the model's $g=0.2$ the factor of the fine message is $-0.6$: the fine rows are *subtracted*. The paper's words suggest something else, to exchange the coarse node's message for the bridged one. The message that entities receive from the coarse rows travels by the weights $Q=\hat X[\text{entities},\text{coarse}]$. Take out $Qp$, put in $Q(g\,S_fq+(1-g)\,p)$:

# %%
def bridged_layer_exchange(X, X_hat, S_c, S_f, g):
    n, c = S_c.shape
    Y = X_hat @ X
    message = X_hat[:n, n : n + c]
    p, q = X[n : n + c], X[n + c :]
    return np.concatenate([Y[:n] + g * (message @ (S_f @ q - p)), Y[n:]])


my.keep(bridged_layer_exchange)

# %% [markdown]
# ### By hand
#
# The three nodes again: the graph makes $(2,4,2)$ of $(1,2,3)$. $Q=1$, so $h=2+0.2\cdot(0.5\cdot3-2)=1.9$.
#
# ### Your turn

# %%
task_8 = exercise("bridged_layer_exchange_backward")
task_8

# %%
def bridged_layer_exchange_backward(grad_next, X, X_hat, S_c, S_f, g):
    raise NotImplementedError


task_8.check(bridged_layer_exchange_backward).keep();

# %%
# print(task_8.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def bridged_layer_exchange_backward(grad_next, X, X_hat, S_c, S_f, g):
#     n, c = S_c.shape
#     message = X_hat[:n, n : n + c]
#     grad_X = X_hat.T @ grad_next  # Y = X_hat X
#     grad_difference = g * (message.T @ grad_next[:n])  # h <- Y_h + g Q (S_f q - p)
#     grad_X[n : n + c] -= grad_difference
#     grad_X[n + c :] += S_f.T @ grad_difference
#     return grad_X
# ```
# </details>

# %%
assert np.isclose(my.bridged_layer_exchange(x, *three)[0, 0], 1.9)
T_exchange = my.bridged_layer_exchange(unit, X_hat, S_c, S_f, 0.2)
graph = X_hat.toarray()
assert np.allclose(T[n : n + C], 0.8 * graph[n : n + C] - 0.6 * S_f @ graph[n + C :]), "what the released lines do to p"
assert np.allclose(my.bridged_layer_exchange_backward(unit, unit, X_hat, S_c, S_f, 0.2), T_exchange.T, rtol=0, atol=1e-14)

# %% [markdown]
# ### The derivation
#
# <details><summary>The derivation</summary>
#
# The layer is a sum of two maps of the same input, so the transpose is the sum of the transposes:
#
# $$T^\top=\hat X^\top+\begin{pmatrix}0&0&0\\-g\,Q^\top&0&0\\g\,S_f^\top Q^\top&0&0\end{pmatrix}.$$
#
# With $a=g\,Q^\top G_h$ the coarse rows get $-a$ in addition, the fine rows $S_f^\top a$.
#
# </details>
#
# ## Predict
#
# A student derives the released layer's backward and forgets that $q$ receives anything: $G_q$ stays as it came. The check runs at $g=0.5$, because a gate in the middle seems a fair choice. **What adjoint gap do you expect? And at $g=0.2$?**

# %%
def forgets_q(grad_next, g):
    no_graph = sparse.eye_array(n + C + M, format="csr")  # what is left of the layer are its four lines
    grad = my.bridged_layer_backward(grad_next, grad_next, no_graph, S_c, S_f, g)
    grad[n + C :] = grad_next[n + C :]
    return X_hat.T @ grad


x, y = np.random.default_rng(4).standard_normal((2, n + C + M, d))
gaps = {g: my.adjoint_gap(lambda X: my.bridged_layer(X, X_hat, S_c, S_f, g), lambda G: forgets_q(G, g), x, y) for g in (0.5, 0.2)}
assert gaps[0.5] < 1e-14 and gaps[0.2] > 1e-4
{g: f"{gap:.0e}" for g, gap in gaps.items()}

# %% [markdown]
# <details><summary>Why</summary>
#
# At $g=0.5$ the gap is rounding. What $q$ should have received is $(2g-1)\,S_f^\top G_p$, and $2g-1=0$: the mistake is invisible at exactly this gate. Round numbers make good examples and bad tests: $g=0.5$, identity matrices, square shapes, cotangents of ones.
# </details>
#
# ## Check
#
# In orange, what the fine stage sends back along each arrow. It trains $E_f$ alone: what your functions send to $E_c$, $S_c$ and $S_f$ is not used there, and is drawn where it is used, in [12](12_the_joint_model.ipynb).

# %%
computation("S_c", "E_c", "Z", "X0", "E_f", "F", "S_f", "E_hat", model="fine", backward=True)

# %% [markdown]
# All of it at once, on a graph of random numbers that is not symmetric. (What the columns mean: [01](01_checking_a_gradient.ipynb).)

# %%
rng = np.random.default_rng(5)
size = n + C + M
W = sparse.csr_array(np.where(rng.random((size, size)) < 0.2, rng.normal(0, 0.3, (size, size)), 0))


def stored(found, S):
    """The stored entries of a gradient of weights, whether yours is sparse, a vector, or dense."""
    found = found.toarray() if sparse.issparse(found) else np.asarray(found)
    return found if found.ndim == 1 else found[np.repeat(np.arange(S.shape[0]), np.diff(S.indptr)), S.indices]


def forward(S, E, S_f, F, g, X):
    layer = (X, W, S_c, S_fine, 0.2)
    return my.compose_above(S, E), my.bridge(S_f, F, E, g), my.bridged_layer(*layer), my.bridged_layer_exchange(*layer)


def backward(grads, S, E, S_f, F, g, X):
    grad_X0, grad_E_hat, grad_released, grad_exchange = grads
    to_E, to_F = my.bridge_backward(grad_E_hat, S_f, F, E, g)
    layer = (X, W, S_c, S_fine, 0.2)
    return {
        "S": stored(my.compose_backward_assignment(grad_X0[:n], S, E), S),
        "E": my.compose_above_backward(grad_X0, S, E) + to_E,
        "S_f": stored(my.bridge_backward_assignment(grad_E_hat, S_f, F, E, g), S_f),
        "F": to_F,
        "g": my.bridge_backward_gate(grad_E_hat, S_f, F, E, g),
        "X": my.bridged_layer_backward(grad_released, *layer) + my.bridged_layer_exchange_backward(grad_exchange, *layer),
    }


S_fine = S_f
point = {"S": S_c, "E": E_c, "S_f": S_f, "F": rng.standard_normal((M, d)), "g": 0.2, "X": rng.standard_normal((size, 2))}
report = check_gradients(forward, backward, point, linear_in=("S_f", "F", "g", "X"), dtypes=("float64",), name="all of 04")
assert report.passed, report
report

# %% [markdown]
# *linear* in the column of the Taylor rate: the bridge is linear in each argument by itself, the gate included, and a layer in $X$. Codebook and weights of the composition stand inside tanh.
#
# ## Try it
#
# **A step on the weights.** Let us want the first woman to be like the second of her two codebook rows alone, and everybody else to stay. The loss is $\frac12|Z-Z^\star|^2$, its cotangent $Z-Z^\star$. One step downhill:

# %%
first, second = S_c.indices[:2]
target = Z.copy()
target[0] = np.tanh(E_c[second])
grad_S = stored(my.compose_backward_assignment(Z - target, S_c, E_c), S_c)
S_after = sparse.csr_array((S_c.data - 0.2 * grad_S, S_c.indices, S_c.indptr), shape=S_c.shape)
losses = [np.sum((my.compose(S, E_c) - target) ** 2) / 2 for S in (S_c, S_after)]
assert losses[1] < losses[0] and S_after[0, second] > S_after[0, first]
assert np.flatnonzero(abs(S_after - S_c).sum(axis=1)).tolist() == [0]


def stored_only(S):
    dense = np.full(S.shape, np.nan)
    dense[S.tocoo().coords] = S.data
    return dense[:6]


before_and_after(stored_only(S_c), stored_only(S_after), row_names=women.user_ids[:6], title="Weights of six women's links, one step of descent")

# %% [markdown]
# The crosses are entries that are not stored. They have no gradient, and no step brings them to life: *which* codebook rows an entity uses is the structure of the model, only *how much* is a weight. Take many steps. Does the loss reach 0?
#
# **The collapse.** In the fine stage $E_c$ and $S_c$ are frozen, propagation is linear, and only $F$ changes from step to step. What could be computed once, and how long would it stay valid? ([08](08_the_collapse.ipynb) answers.)
#
# ## Faster
#
# The package's compiled composition, with the entities shared out among threads: the same numbers first, then the ratios on your machine.

# %%
from c2f_np.engine import engine_named

compiled, rng = engine_named("numba"), np.random.default_rng(6)
n_big, C_big = 20_000, 100
S_big = start_coarse_assignment(rng.integers(0, C_big, n_big), C_big, 2, 0.5, rng)
E_big, G_big = rng.standard_normal((C_big, 64)), rng.standard_normal((n_big, 64))
operator = compiled.operator(S_big)
jobs = {
    "compose": (lambda: my.compose(S_big, E_big), lambda: compiled.compose(operator, E_big)),
    "forward and backward": (
        lambda: my.compose_backward(G_big, S_big, E_big),
        lambda: compiled.compose_backward(G_big, operator, compiled.compose(operator, E_big)),
    ),
}
for name, both in jobs.items():
    seconds, results = [], [job() for job in both]  # the first call compiles
    for job in both:
        started = time.perf_counter()
        for _ in range(5):
            job()
        seconds.append(time.perf_counter() - started)
    assert np.allclose(*results, rtol=1e-10, atol=1e-10)
    print(f"{name:<22} yours takes {seconds[0] / seconds[1]:.1f} times as long")

# %% [markdown]
# ## Read next
#
# [05](05_loss_and_optimiser.ipynb): what embeddings are for, and where the first cotangent comes from. In the package: [docs/model.md](../docs/model.md), sections *coarse stage* and *fine stage*. The model: Wang et al., *Coarse-to-Fine Lightweight Meta-Embedding for ID-Based Recommendation* (arXiv 2501.11870); its ancestor: Liang et al. (arXiv 2403.18479).
