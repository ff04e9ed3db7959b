# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 08 · The collapse: why the fine stage needs no propagation
#
# *Reading: 15 minutes. Exercises: 4.*
#
# ## What you will do
#
# A graph recommender spends its time multiplying a sparse matrix with a dense one, layer after layer, forward and backward, in every step. In the fine stage of the released code none of that is needed. Until the links change, all its layers are **one small formula**,
#
# $$H=K+W_1F+W_2\tanh(F),$$
#
# which gives the same numbers up to rounding. At the end you will have written the collapse and its backward, compared a whole training step with the layered one, counted what is saved, and broken it in three ways.
#
# You need [02](02_sparse_propagation.ipynb) (propagation is linear) and [07](07_fine_stage.ipynb), whose `bridged_propagate` and `to_E_f` you use again. Letters are on the [page of symbols](symbols.md).

# %%
import time

import numpy as np
import scipy.sparse as sparse

from c2f_np.course import exercise, my_model
from c2f_np.data import load_dataset
from c2f_np.gradcheck import check_gradients
from c2f_np.model.starts import partition_entities, start_coarse_assignment, start_fine_assignment
from c2f_np.plotting import computation
from c2f_np.plotting.frontier import graph_and_strip, work_of_two_ways

my = my_model(or_answers=True)

# %% [markdown]
# ## The idea
#
# Ask of every symbol in the fine stage: **who changes it, and when?** $E_c$ and $S_c$ are frozen. $S_f$, and with it the graph and the layer, changes once an epoch at most. $E_f$ changes in every step. The released code composes entities from the frozen codebook, $Z=\tanh(S_cE_c)$; so $Z$ stands still, too. What is left moves only $F$, and $F$ has no more than $M$ rows. However many products are made, what reaches the entities is a mixture of $M$ rows, with weights that never changed. Whatever stands still can be computed once.

# %%
computation("E_f", "F", "E_hat", "X0", "H", model="fine")

# %% [markdown]
# Lit is what $F$ reaches if entities are composed from $E_c$ (the arrow from $\hat E$ to $Z$ is the paper's, of notebook 07). Real sizes: the planted data, 40 coarse and 16 fine rows of 32 numbers, links as they start, and a fine codebook somewhere in training.

# %%
R = sparse.csr_array(load_dataset("planted").train, dtype=float)
N, C, M, d, L, g, tau, l2 = sum(R.shape), 40, 16, 32, 3, 0.2, 1.0, 5e-4
rng = np.random.default_rng(0)
A = sparse.csr_array(my.normalised_adjacency(R))
S_c = start_coarse_assignment(partition_entities(R, C, seed=0), C, 2, 0.5, rng)
S_f = start_fine_assignment(S_c, partition_entities(R, M, seed=1), M, 4)
X_hat, E_c, E_f, b = my.fine_graph(A, S_c, S_f), rng.standard_normal((C, d)), 2 * rng.standard_normal((M, d)), np.zeros(N)
Z, F = np.tanh(S_c @ E_c), my.soft_threshold(E_f, tau)
assert X_hat.shape == (N + C + M,) * 2 == (1856, 1856)

# %% [markdown]
# ## Write: the collapse
#
# ### Forward
#
# What has to be collapsed, in three lines (`my.bridged_propagate` is that of 07):

# %%
def layered(F):
    E_hat = my.bridge(S_f, F, E_c, g)
    return my.bridged_propagate(np.concatenate([Z, E_hat, np.tanh(F)]), X_hat, S_c, S_f, g, L)[:N]


# %% [markdown]
# All layers together are one linear map $P$, and its entity rows fall into three blocks of columns: $H_{\text{entities}}=P_eZ+P_c\hat E+P_f\tanh F$. The matrix $P$ is dense and large, and nobody wants to form it. But a product $PV$ costs as much as propagating $V$.
#
# ### By hand
#
# One user, one item whom the user has met, one coarse row $e$, one fine row with thresholded value $f$, all of width 1; all links 1, $g=\frac12$, $L=1$. With the codebook nodes the rows of the graph sum to 2 (user), 2 (item), 3 (coarse), 1 (fine), so $\hat X_{\text{user, item}}=\frac12$ and $\hat X_{\text{user, coarse}}=\frac1{\sqrt6}$. Let $z=\tanh e$ and $\hat e=gf+(1-g)e$. After one layer the user's row is $\frac12z+\frac1{\sqrt6}\big(g\tanh f+(1-g)\hat e\big)$, and the mean of both layers is
#
# $$H=\underbrace{\tfrac34z+\tfrac{(1-g)^2}{2\sqrt6}\,e}_{K}+\underbrace{\tfrac{g(1-g)}{2\sqrt6}}_{W_1}f+\underbrace{\tfrac g{2\sqrt6}}_{W_2}\tanh f.$$
#
# ### Your turn

# %%
task_1 = exercise("collapse")
task_1

# %%
def collapse(Z, E_c, X_hat, S_c, S_f, g, n_layers):
    raise NotImplementedError


task_1.check(collapse).keep();

# %%
# print(task_1.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def collapse(Z, E_c, X_hat, S_c, S_f, g, n_layers):
#     (n, c), m = S_c.shape, S_f.shape[1]
#
#     def to_entities(entities, coarse, fine):
#         return my.bridged_propagate(np.concatenate([entities, coarse, fine]), X_hat, S_c, S_f, g, n_layers)[:n]
#
#     K = to_entities(Z, (1 - g) * E_c, np.zeros((m, E_c.shape[1])))
#     W_1 = to_entities(np.zeros((n, m)), g * S_f.toarray(), np.zeros((m, m)))
#     W_2 = to_entities(np.zeros((n, m)), np.zeros((c, m)), np.eye(m))
#     return K, W_1, W_2
# ```
#
# </details>
#
# ### The derivation
#
# <details><summary>The derivation</summary>
#
# Put $\hat E=g\,S_fF+(1-g)E_c$ into $P_eZ+P_c\hat E+P_f\tanh F$ and multiply out:
#
# $$H_{\text{entities}}=\underbrace{P_eZ+(1-g)P_cE_c}_{K}+\underbrace{g\,P_cS_f}_{W_1}F+\underbrace{P_f}_{W_2}\tanh F.$$
#
# Nothing was approximated; everything that is not linear happens before the propagation begins. $K$, $W_1$ and $W_2$ are $P$ times $[Z;(1-g)E_c;0]$, $[0;g\,S_f;0]$ and $[0;0;I]$, so three propagations give them, of $d$, $M$ and $M$ columns.
#
# </details>

# %%
e, f, one = 0.8, 1.3, np.ones((1, 1))
both = sparse.csr_array(np.ones((2, 1)))
tiny_graph = my.fine_graph(sparse.csr_array([[0.0, 1.0], [1.0, 0.0]]), both, sparse.csr_array(one))
tiny = my.collapse(np.tanh(e) * np.ones((2, 1)), e * one, tiny_graph, both, sparse.csr_array(one), 0.5, 1)
by_hand = [0.75 * np.tanh(e) + 0.25 / (2 * np.sqrt(6)) * e, 0.25 / (2 * np.sqrt(6)), 0.5 / (2 * np.sqrt(6))]
assert np.allclose([part[0, 0] for part in tiny], by_hand, rtol=1e-14)

# %%
K, W_1, W_2 = my.collapse(Z, E_c, X_hat, S_c, S_f, g, L)
entries = X_hat.tocoo()
blocks = [("users", 1000), ("items", 800), ("codebook rows", C + M)]
assert W_1.shape == W_2.shape == (1800, 16)
graph_and_strip(
    entries.row, entries.col, blocks, np.concatenate([W_1, W_2], axis=1), names=("the expanded graph", "$W_1$, $W_2$"),
    title="Planted set: a step multiplies six times with the graph, or twice with the strip",
)

# %% [markdown]
# To the left is the graph, the darker the more entries there are (the last rows and columns, too thin to be told apart, belong to the codebooks); to the right, at the same scale, what its layers do to $F$ (darker is larger).
#
# ## Write: its backward
#
# ### Forward
#
# The formula itself:

# %%
def collapsed_forward(F, K, W_1, W_2):
    return K + W_1 @ F + W_2 @ np.tanh(F)


my.keep(collapsed_forward)

# %% [markdown]
# ### By hand
#
# Two entities, one fine row of width 1: $W_1=\begin{pmatrix}1\\2\end{pmatrix}$, $W_2=\begin{pmatrix}3\\0\end{pmatrix}$, $F=0$. If $G_H=\begin{pmatrix}1\\1\end{pmatrix}$, then $dH=W_1\,dF+W_2\,dF$ at $F=0$, where the slope of tanh is 1, and the gradient is $1+2+3=6$. With a large $F$ the slope is nearly 0, and nearly 3 is left.
#
# ### Your turn

# %%
task_2 = exercise("collapsed_backward")
task_2

# %%
def collapsed_backward(grad_H, F, K, W_1, W_2):
    raise NotImplementedError


task_2.check(collapsed_backward).keep();

# %%
# print(task_2.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def collapsed_backward(grad_H, F, K, W_1, W_2):
#     return W_1.T @ grad_H + (W_2.T @ grad_H) * (1 - np.tanh(F) ** 2)
# ```
#
# </details>
#
# ### The derivation
#
# <details><summary>The derivation</summary>
#
# $dH=W_1\,dF+W_2\,\big((1-\tanh^2F)\circ dF\big)$. Move each factor to the other side of the inner product, a matrix as its transpose, an entry-by-entry factor as it is:
#
# $$G_F=W_1^\top G_H+(W_2^\top G_H)\circ(1-\tanh^2F).$$
#
# Through layers one would apply $T^\top$ $L$ times to $N+C+M$ rows. It is the same number, because $(PV)^\top G=V^\top(P^\top G)$: *propagate the units forward once, and meet the gradient there*, instead of *propagating every gradient back to the units*.
#
# </details>

# %%
at_zero, far = (my.collapsed_backward(np.ones((2, 1)), np.array([[x]]), np.zeros((2, 1)), np.array([[1.0], [2]]), np.array([[3.0], [0]]))
                for x in (0.0, 20.0))
assert np.isclose(at_zero[0, 0], 6) and np.isclose(far[0, 0], 3)

# %% [markdown]
# ## Predict
#
# 1. How far apart will layered and collapsed embeddings be, relative to the largest? $10^{-4}$, like two methods? $10^{-8}$, like a numerical derivative? Or less?
# 2. Will they be equal to the last bit?
# 3. Could the *coarse* stage be collapsed in the same way?
#
# <details><summary>Answers</summary>
#
# 1. About $10^{-15}$. They are the same polynomial with its terms in another order, so only rounding is left. 2. Hardly: $(a+b)+c$ and $a+(b+c)$ differ in the last bit, and the collapse is nothing but a change of brackets. 3. Not with a gain. There $E_c$ is trained and entities start at $\tanh(S_cE_c)$: what moves has $N$ different rows *after* its last non-linearity, and the block $P_e$ that multiplies them is $N\times N$ and dense.
#
# </details>
#
# ## Check
#
# A whole training step with your functions: forward, loss, back to $E_f$, once through layers and once collapsed. And the backward against differences of its own forward, since two equal gradients may share a mistake.

# %%
batch = my.draw_batches(R, 1, 2048, rng)[0]


def layered_step(E_f):
    F = my.soft_threshold(E_f, tau)
    H = layered(F)
    grad_H, _ = my.bpr_backward(1.0, H, b, *batch)
    grad_H = np.concatenate([grad_H, np.zeros((C + M, d))])
    _, at_E_hat, at_fine = np.split(my.bridged_propagate_backward(grad_H, grad_H, X_hat, S_c, S_f, g, L), [N, N + C])
    return my.bpr_loss(H, b, *batch), my.to_E_f(at_E_hat, at_fine, E_f, S_f, tau, g)


def collapsed_step(E_f):
    F = my.soft_threshold(E_f, tau)
    H = my.collapsed_forward(F, K, W_1, W_2)
    grad_H, _ = my.bpr_backward(1.0, H, b, *batch)
    return my.bpr_loss(H, b, *batch), my.soft_threshold_backward(my.collapsed_backward(grad_H, F, K, W_1, W_2), E_f, tau)


def apart(a, b):
    return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))


# %%
(loss_a, grad_a), (loss_b, grad_b) = layered_step(E_f), collapsed_step(E_f)
H_a, H_b, some = layered(F), my.collapsed_forward(F, K, W_1, W_2), np.arange(0, 1800, 60)
report = check_gradients(
    lambda F: my.collapsed_forward(F, K[some], W_1[some], W_2[some]),
    lambda grad_H, F: my.collapsed_backward(grad_H, F, K[some], W_1[some], W_2[some]),
    {"F": F}, name="collapsed propagation", dtypes=("float64",),
)
assert max(apart(H_b, H_a), abs(loss_b - loss_a) / loss_a, apart(grad_b, grad_a)) < 1e-12 and report.passed
assert not np.array_equal(H_a, H_b), "not to the last bit"
print(f"embeddings {apart(H_b, H_a):.0e}, loss {abs(loss_b - loss_a) / loss_a:.0e}, gradient {apart(grad_b, grad_a):.0e}")
report

# %% [markdown]
# ## Try it
#
# A derivation is understood when one knows where it breaks. Three ways to break it; before you run a cell, say what will come out.
#
# **Stale.** The links are solved for, and somebody goes on with the old $K$, $W_1$, $W_2$.

# %%
other_S_f = S_f[rng.permutation(C)]
other_graph = my.fine_graph(A, S_c, other_S_f)
after = my.bridged_propagate(np.concatenate([Z, my.bridge(other_S_f, F, E_c, g), np.tanh(F)]), other_graph, S_c, other_S_f, g, L)[:N]
fresh = my.collapsed_forward(F, *my.collapse(Z, E_c, other_graph, S_c, other_S_f, g, L))
print(f"stale: {apart(H_b, after):.0e}, collapsed anew: {apart(fresh, after):.0e}")
assert apart(H_b, after) > 1e-4 and apart(fresh, after) < 1e-12

# %% [markdown]
# **The paper's composition**, $Z=\tanh(S_c\hat E)$: a tanh acts on a *mixture* of fine rows. One sees without looking for them that no $W_1$, $W_2$ can exist. If $H=K+W_1F+W_2\tanh F$, fine rows contribute one by one, and contributions add. Let $F_1$ hold the first half of the rows and $F_2$ the others; since $\tanh0=0$, it would follow that $H(F_1+F_2)-H(F_1)-H(F_2)+H(0)=0$.

# %%
first = np.arange(M)[:, None] < M // 2


def papers(F):
    return my.fine_forward(F, E_c, S_c, S_f, X_hat, 0.0, g, L)[1][:N]


interaction = {name: np.max(np.abs(H(F) - H(F * first) - H(F * ~first) + H(0 * F))) for name, H in
               {"entities from E_c": layered, "entities from E_hat": papers}.items()}
print({name: f"{value:.0e}" for name, value in interaction.items()})
assert interaction["entities from E_c"] < 1e-14 and interaction["entities from E_hat"] > 1e-7

# %% [markdown]
# A tanh on a mixture makes rows act on each other. What stops this composition from collapsing is that one tanh; without it the stage collapses again, which is the last exercise.
#
# **The coarse codebook moves.** Somebody thaws $E_c$ and trains both codebooks with `collapsed_step`. Its gradient at $E_f$ is checked, as above. What is wrong?

# %%
moved = E_c + 0.1 * rng.standard_normal(E_c.shape)
Z_moved = np.tanh(S_c @ moved)
now = my.collapsed_forward(F, *my.collapse(Z_moved, moved, X_hat, S_c, S_f, g, L))
print(f"H with the old K: {apart(H_b, now):.0e} off")
assert apart(H_b, now) > 1e-3

# %% [markdown]
# <details><summary>Answer</summary>
#
# $E_c$ is inside $K$, so $K$ must be computed anew after every step: a forward through all layers, and for the gradient at $E_c$ a backward. Nothing is saved.
#
# </details>
#
# ## Faster
#
# ### Counted
#
# Count multiplications, on paper first. Which products does a step through layers make, forward and backward? Which does a collapsed step make, on the batch's rows alone? And which does collapsing itself take?

# %%
task_3 = exercise("multiplications")
task_3

# %%
def multiplications(n_entries, n_rows, n_fine, dim, n_layers):
    raise NotImplementedError


task_3.check(multiplications).keep();

# %%
# print(task_3.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def multiplications(n_entries, n_rows, n_fine, dim, n_layers):
#     layered = 2 * n_layers * n_entries * dim  # forward and backward
#     collapsed = 2 * n_rows * (2 * n_fine) * dim  # W [F; tanh F], and its transpose
#     collapsing = n_layers * n_entries * (2 * n_fine + dim)  # units and constants, forward only
#     return float(layered), float(collapsed), float(collapsing)
# ```
#
# </details>

# %%
n_rows = len(np.unique(np.concatenate(batch)))
work = my.multiplications(X_hat.nnz, n_rows, M, d, L)
assert 2 * M == d and work[2] == work[0] and 2 < work[0] / work[1] < 10
assert -(-R.nnz * 5 // 8192) > 12, "steps of an epoch of the package, of five triples an interaction and 8,192 a batch"
work_of_two_ways(*(each / 1e6 for each in work), n_steps=12, title="Planted set, 16 fine rows: work until the links change")

# %% [markdown]
# Collapsing costs as much as *one* step through layers (because $2M=d$ here), and every step after it less than half. Counting is not measuring, though. On Gowalla, the paper's larger data set (29,858 users, 40,981 items, 810,128 interactions), at the paper's sizes and with a batch that touches everybody, a collapsed step makes more than twice as *many* multiplications:

# %%
n_large = 29_858 + 40_981
nnz_large = 2 * 810_128 + 2 * 2 * n_large + 2 * 4 * 300  # interactions, S_c with 2 in a row, S_f with 4, both ways
large = my.multiplications(nnz_large, n_large, 100, 128, 3)
print(f"layers {large[0] / 1e9:.2f} billion, collapsed {large[1] / 1e9:.2f} billion")
assert large[1] > 2 * large[0]

# %% [markdown]
# and yet the package collapses there. A dense product reads its numbers in order; a sparse one picks a row here and a row there. The package counts a sparse multiplication as four dense ones, a number that was measured once and written down, so that a run that is resumed elsewhere makes the same choices. With ten times as many fine rows it stays with the layers.

# %%
from c2f_np.model.propagation import SPARSE_COST, collapse_pays

assert SPARSE_COST == 4.0 and collapse_pays(n_large, nnz_large, 100, 128, 3, n_steps=124, n_rows=n_large)
assert not collapse_pays(n_large, nnz_large, 1000, 128, 3, n_steps=124, n_rows=n_large)

# %% [markdown]
# ### Measured
#
# Your two steps, and the package's matrices from the same links, which must be yours.

# %%
from c2f_np.engine import engine_named
from c2f_np.model.fine import collapsed_graph, fine_graph

theirs = fine_graph(A, S_c, S_f, g, composition="coarse", layer_bridge="exchange", degree="absolute", engine=engine_named("numpy"))
theirs = collapsed_graph(theirs, E_c, L).collapsed
assert max(apart(theirs.constant, K), apart(theirs.weights, np.concatenate([W_1, W_2], axis=1))) < 1e-12
seconds = {}
for name, step in (("through layers", layered_step), ("collapsed", collapsed_step)):
    taken = []
    for _ in range(7):
        began = time.perf_counter()
        step(E_f)
        taken.append(time.perf_counter() - began)
    seconds[name] = float(np.median(taken))
print(f"through layers / collapsed: {seconds['through layers'] / seconds['collapsed']:.1f}")
assert min(seconds.values()) > 0

# %% [markdown]
# What a step does besides, scoring the triples and gathering their gradients, is the same in both ways, and no collapse makes it shorter. (The package computes only the rows of the batch, and refuses to go on with an $E_c$ that it did not collapse with.)
#
# ## Exercises
#
# **A collapse that the model does not have.** Entities start at $S_c\hat E$, without the tanh.

# %%
task_4 = exercise("collapse_without_tanh")
task_4

# %%
def collapse_without_tanh(P, S_c, E_c, S_f, g):
    raise NotImplementedError


task_4.check(collapse_without_tanh).keep();

# %%
# print(task_4.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def collapse_without_tanh(P, S_c, E_c, S_f, g):
#     n, c = S_c.shape
#     to_codebook = P[:, :n] @ S_c + P[:, n : n + c]  # E_hat reaches H through the entities and through the coarse nodes
#     K = (1 - g) * to_codebook @ E_c
#     W_1 = g * to_codebook @ S_f
#     W_2 = P[:, n + c :]
#     return K, W_1, W_2
# ```
#
# </details>
#
# ## Read next
#
# - [09 does it work](09_does_it_work.ipynb) asks whether the models of this course are any good.
# - `c2f_np/model/propagation.py` and `c2f_np/model/fine.py`; [docs/model.md](../docs/model.md) has the equations under "Collapsed".
# - [benchmarks/results.md](../benchmarks/results.md): times at full size, and how they were taken.
