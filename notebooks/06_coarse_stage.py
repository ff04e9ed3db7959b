# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 6 · The coarse stage
#
# ## What you will do
#
# Put the pieces of the earlier notebooks together into a model that can be trained, and take the whole of it backwards. You will
#
# - start an assignment from a partition of the graph,
# - find that the codebook reaches the loss on *three* ways, derive the gradient of each, and check each of them **separately** by cutting the others,
# - solve for an assignment in closed form, as a least-squares problem, and see what happens when its equations do not have one solution,
# - find out what a negative weight does to a graph that is normalised by row sums, and prove that there is a normalisation that it cannot hurt,
# - train the stage on data whose true groups are known, and look at the assignment before and after.
#
# **You need** from the notebooks before: *composition* $Z=\tanh(S_cE_c)$, in which the sparse *assignment* $S_c$ ($N\times C$, $t$ entries a row) makes $N$ entities out of a *codebook* $E_c$ of $C$ rows and $d$ columns; *propagation* $X_{k+1}=\hat XX_k$, $H=\text{mean}(X_0,\dots,X_L)$; the *BPR loss* and its gradient $G_H$, the *regulariser*, and Adam (notebook 5). A cotangent $G_y$ is the gradient of the loss at $y$.
#
# This stage alone is the model LEGCF (Liang et al., [arXiv 2403.18479](https://arxiv.org/abs/2403.18479)); Wang et al. ([arXiv 2501.11870](https://arxiv.org/abs/2501.11870)) build their fine stage on top of it. In the package it is `c2f_np/model/coarse.py` and `c2f_np/model/links.py`.

# %%
import dataclasses
import inspect
import time

import numpy as np
import scipy.sparse as sparse

from c2f_np.course import exercise
from c2f_np.data import cached, load_dataset, load_truth
from c2f_np.engine import engine_named
from c2f_np.gradcheck import check_gradients, tabulate
from c2f_np.model import coarse, graph, links
from c2f_np.model.codebook import compose, compose_backward
from c2f_np.model.loss import Triples, batch_loss, bpr_backward, bpr_loss, squared_norm_penalty, squared_norm_penalty_backward
from c2f_np.model.propagation import propagate, propagate_backward
from c2f_np.model.sampling import sample_triples
from c2f_np.model.sparse import operator
from c2f_np.model.starts import partition_entities, start_coarse_assignment
from c2f_np.plotting import learning_curves
from c2f_np.plotting.inside_a_stage import (
    assignments_side_by_side, computation_graph, expanded_adjacency, gradients_by_way, layer_factors, weights_of_row,
)
from c2f_np.settings import Settings
from c2f_np.training import loop, problem
from c2f_np.training.phases import phases_of

# %% [markdown]
# ## The idea
#
# Every entity is a weighted sum of a few rows of a small codebook; two questions have to be answered in training: *what stands in the rows*, and *which entity uses which rows*. The first is answered by gradient descent. The second cannot be: which two of a hundred rows an entity uses is a discrete choice, and a gradient with respect to the weights that are there says nothing about those that are not. So the two take turns. Most of the time the assignment stands still and the codebook descends; now and then everything stops and the assignment is *solved for*: given where the entities and the codebook rows have got to, which combination of rows comes closest to each entity?
#
# The picture shows one step of descent. Arrows are the forward pass; what is written on an arrow is the gradient that travels along it in the opposite direction. From $E_c$ (framed thick: trained) three ways lead to the two losses on the right; each has its colour. The rest of this notebook explains every label.

# %%
nodes = {
    "S": (0, 1.5, "$S_c$\nassignment", "fixed"), "E": (0, 0, "$E_c$\ncodebook", "trained"),
    "Z": (1.9, 1.0, r"$Z=\tanh(S_cE_c)$", "computed"), "X0": (3.9, 0, "$X_0=[Z;E_c]$", "computed"),
    "H": (5.8, 0, r"$H=P\,X_0$", "computed"), "bpr": (7.4, 0, "BPR", "loss"),
    "r": (7.4, 1.3, "regulariser", "loss"), "b": (5.8, -0.9, "biases $b$", "trained"),
}
edges = [
    ("S", "Z", ""), ("E", "Z", r"$S_c^\top(G_Z\circ(1-Z^2))$", {"shift": (10, -2)}),
    ("Z", "X0", "entity rows of $G_{X_0}$", {"way": 0, "shift": (16, 6)}),
    ("E", "X0", "coarse rows of $G_{X_0}$", {"way": 1, "bend": -0.1}),
    ("Z", "r", r"$\mathrm{decay}\cdot2\lambda c_eZ_e/B$", {"way": 2}),
    ("X0", "H", r"$P^\top G_H$"), ("H", "bpr", "$G_H$"), ("b", "bpr", "$G_b$"),
]
computation_graph(nodes, edges, width=9.5, height=3.5)

# %% [markdown]
# ## The mathematics
#
# ### Where the assignment comes from
#
# At the start nothing is known but the graph. Entities that are close in it should share codebook rows, so the graph is cut into $C$ parts of about equal size with as few edges as possible between parts. That is a *partition*, and METIS (Karypis and Kumar, 1998) is the standard program for it: it shrinks the graph by merging neighbours until it is tiny, cuts that, and undoes the merging step by step, moving nodes across the border wherever that saves an edge. (Where it is not installed, the package uses spectral co-clustering instead.)
#
# Entity $e$ then gets the weight $w^*=\frac12$ on the row of its own part, and $(1-w^*)/(t-1)$ on each of $t-1$ other rows, drawn at random. The random others look odd; at least they let every entity's gradient reach more rows than one. To look at: the 18 women and 14 events of the southern-women data, $C=4$, $t=2$.

# %%
women = load_dataset("southern-women")
R = sparse.csr_array(women.train)
R.sort_indices()
n_users, n_items = R.shape
N, C, d, L, l2, decay = n_users + n_items, 4, 3, 2, 5.0, 0.005
parts = partition_entities(R, C, seed=0)
S = start_coarse_assignment(parts, C, t=2, anchor_weight=0.5, rng=np.random.default_rng(0))
assert N == 32 and S.shape == (32, 4) and (np.diff(S.indptr) == 2).all() and np.allclose(S.sum(axis=1), 1)
u, i = R.nonzero()
within = np.mean(parts[u] == parts[n_users + i])
by_chance = np.mean(parts[u][:, None] == parts[n_users + i])
assert within > by_chance, "a partition keeps more edges within its parts than chance would"
print(f"edges within a part: {within:.0%}; if the same ends were paired at random: {by_chance:.0%}")

# %% [markdown]
# ### The expanded graph
#
# The coarse rows become nodes of the graph, joined to the entities that use them, with the weights of the assignment:
#
# $$\hat X=\text{norm}\begin{pmatrix}A&S_c\\S_c^\top&0\end{pmatrix},\qquad \text{norm}(X)=D^{-1/2}XD^{-1/2},\quad D=\text{diag of the row sums of }X.$$
#
# $A$ ($N\times N$) is the normalised graph of users and items; it is normalised *before* the coarse nodes join it, and the whole is normalised again. By hand, for two users and two items with the interactions $u_0i_0,u_1i_0,u_1i_1$: the degrees are 1, 2, 2, 1, so $A_{u_0i_0}=1/\sqrt{1\cdot2}$, $A_{u_1i_0}=1/\sqrt{2\cdot2}=\frac12$, $A_{u_1i_1}=1/\sqrt{2\cdot1}$. Let $u_0,i_0$ use row $c_0$ and $u_1,i_1$ use $c_1$, each with weight 1. The row sums of the expanded matrix are then $1+\frac1{\sqrt2}\approx1.71$ for $u_0$ and $i_1$, $1+\frac12+\frac1{\sqrt2}\approx2.21$ for $u_1$ and $i_0$, and 2 for both coarse nodes; the edge between $u_0$ and $c_0$ becomes $1/\sqrt{1.71\cdot2}\approx0.541$.

# %%
A_tiny = graph.normalised_adjacency(np.array([[1.0, 0], [1, 1]]))
S_tiny = sparse.csr_array(np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]]))  # u0, u1, i0, i1
expanded = graph.expand(A_tiny, S_tiny)
assert np.allclose(expanded.sum(axis=1), [1.7071, 2.2071, 2.2071, 1.7071, 2, 2], atol=1e-4)
X_tiny = graph.expanded_graph(A_tiny, S_tiny)
assert np.isclose(X_tiny[0, 4], 0.541, atol=5e-4) and abs(X_tiny - X_tiny.T).max() == 0
A = graph.normalised_adjacency(R)
X_hat = graph.expanded_graph(A, S)
assert X_hat[:N, :N].max() > X_hat[:N, N:].max() and X_hat[:n_users, :n_users].nnz == 0 == X_hat[N:, N:].nnz
expanded_adjacency(X_hat, [n_users, n_items, C], ["women", "events", "coarse"], title="expanded graph of the southern-women data")

# %% [markdown]
# Read it in blocks: women meet events (off the diagonal, upper left), both meet coarse nodes (the last rows and columns), and there is nothing within a kind. Every entity has exactly two entries in the last columns, its two coarse rows. Their weights are all of middling size, because a coarse node has many entities and so a large degree; the darkest squares are the edges between women and events that have few others.
#
# ### Negative weights
#
# The closed-form update, below, may make a weight negative. Then "row sum" stops being a sensible size. Take three nodes in a chain, $b-a-c$, with the weights $1$ and $-0.9$. The row sums are $0.1$ for $a$, $1$ for $b$, $-0.9$ for $c$. The root of $-0.9$ is not a number, and in $L$ layers NaN infects the whole graph. If we cut off $c$ (factor 0), finiteness is saved, but look at the edge from $a$ to $b$: $1/\sqrt{0.1\cdot1}=3.16$. Propagation now multiplies by 3.16 in every layer, because two large numbers nearly cancelled. The closer the cancellation, the worse; a row sum of $10^{-16}$, pure rounding noise, multiplies by a hundred million.
#
# The package has two readings, `degree="signed"` (as the released code: row sums, and nodes whose sum is not clearly positive are cut off) and `degree="absolute"`: divide by the sums of *absolute* weights, here $1.9$, $1$ and $0.9$. For non-negative weights the two are the same. For all others, absolute degrees come with a promise: **no eigenvalue of $\hat X$ exceeds 1 in size**. Proof, in two lines. For any numbers $v_i,v_j$ we have $2|v_iv_j|\le v_i^2+v_j^2$; hence with $D=\text{diag}(\sum_j|x_{ij}|)$ and symmetric $X$
#
# $$|v^\top Xv|\le\sum_{ij}|x_{ij}||v_i||v_j|\le\tfrac12\sum_{ij}|x_{ij}|(v_i^2+v_j^2)=\sum_i v_i^2\sum_j|x_{ij}|=v^\top Dv.$$
#
# Put $v=D^{-1/2}w$: $|w^\top D^{-1/2}XD^{-1/2}w|\le w^\top w$ for every $w$, and for a symmetric matrix that bounds every eigenvalue. So no layer blows anything up, whatever the signs.

# %%
chain = sparse.csr_array(np.array([[0, 1, -0.9], [1, 0, 0], [-0.9, 0, 0]]))
sizes, names = {}, np.arange(7)
for degree in ("signed", "absolute"):
    M = graph.normalise(chain, degree=degree).toarray()
    sizes[degree] = np.array([np.linalg.norm(np.linalg.matrix_power(M, int(k)), 2) for k in names])
    radius = np.abs(np.linalg.eigvalsh(M)).max()
    assert np.isclose(radius, {"signed": 3.1623, "absolute": 1.0}[degree], atol=1e-4)
assert np.allclose(chain.sum(axis=1), [0.1, 1, -0.9]) and np.allclose(abs(chain).sum(axis=1), [1.9, 1, 0.9])
assert graph.degree_factors(chain)[2] == 0, "the node with the negative sum is cut off"
assert (graph.degree_factors(chain, degree="absolute") > 0).all(), "with absolute degrees nobody is"
layer_factors(names, sizes, ylabel="largest factor")

# %% [markdown]
# ### The assignment as a least-squares problem
#
# Fix an entity and call its propagated embedding $h$ (a row of $d$ numbers). Call the propagated coarse rows $H_c$ ($C\times d$). Which weights $w$ ($C$ numbers) bring the combination $wH_c$ closest to $h$?
#
# $$f(w)=|h-wH_c|^2\ \to\ \min.$$
#
# Let $w$ move by $dw$: $df=-2\,\langle h-wH_c,\;dw\,H_c\rangle=-2\,\langle(h-wH_c)H_c^\top,\,dw\rangle$. At a minimum this vanishes for every $dw$, so
#
# $$(h-wH_c)H_c^\top=0,\qquad\text{that is}\qquad w\,H_cH_c^\top=hH_c^\top.$$
#
# These are the *normal equations*: what is left over, $h-wH_c$, stands at a right angle to every row of $H_c$. The case that you can do in your head: $H_c=\begin{pmatrix}1&0\\1&1\end{pmatrix}$, $h=(2,1)$. Then $w=(1,1)$, and nothing is left over.
#
# **When there is no single answer.** If the rows of $H_c$ are dependent, $H_cH_c^\top$ has no inverse. Take $H_c=\begin{pmatrix}1&0\\2&0\end{pmatrix}$ and $h=(5,1)$: the second coordinate is out of reach, and the first asks for $w_1+2w_2=5$, a whole line of answers. Which one to take? The one closest to the origin: $w=(1,2)$. It is the only one without a useless part: the others add to it a multiple of $(2,-1)$, which contributes nothing to $wH_c$. This is no corner case here. With more coarse rows than columns ($C>d$; the defaults are $C=100$, $d=64$) the rows are *always* dependent.
#
# **One formula for both.** Write the singular value decomposition $H_c=\sum_{k=1}^r\sigma_k\,p_kq_k^\top$, with orthonormal columns $p_1,\dots,p_r$ ($C$ numbers each) and $q_1,\dots,q_r$ ($d$ numbers each) and singular values $\sigma_1\ge\dots\ge\sigma_r>0$ (only the positive ones; $r$ is the rank). Let $\omega_k=wp_k$ be the coordinates of $w$ in the directions $p_k$, and $\eta_k=hq_k$ those of $h$. Then $wH_c=\sum_k\omega_k\sigma_kq_k^\top$, so
#
# $$|h-wH_c|^2=\sum_k(\eta_k-\omega_k\sigma_k)^2+\text{(what no }w\text{ can reach)},$$
#
# and each term is made zero by $\omega_k=\eta_k/\sigma_k$. Coordinates of $w$ outside the span of the $p_k$ do not occur in the sum; least norm sets them to 0. Altogether
#
# $$w=\sum_{k}\frac{hq_k}{\sigma_k}\,p_k^\top=h\,\text{pinv}(H_c),\qquad\text{pinv}(H_c)=\sum_k\frac1{\sigma_k}\,q_kp_k^\top,$$
#
# the *pseudoinverse*. All entities at once: $W=H_{\text{entities}}\,\text{pinv}(H_c)$. One question is left: when is a singular value positive? In floating point nothing is exactly 0, and dividing by $10^{-17}$ would be a disaster. Values below $\max(C,d)\cdot\text{eps}$ times the largest count as 0, where eps is the machine epsilon (the distance from 1 to the next number that can be stored) of the precision *in which $H_c$ was computed*.

# %%
def weights_of(h, H_c):
    return np.array(h) @ links.pseudoinverse(np.array(H_c, dtype=float))


assert np.allclose(weights_of([2.0, 1], [[1, 0], [1, 1]]), [1, 1])
assert np.allclose(weights_of([5.0, 1], [[1, 0], [2, 0]]), [1, 2]), "of all answers the shortest"
assert np.allclose(np.array([1, 2]) @ [[1, 0], [2, 0]], [5, 0]), "the second coordinate, 1, is out of reach"
noisy = np.array([[1, 0], [2, 0]], dtype=np.float32) + np.float32(1e-9) * np.random.default_rng(0).standard_normal((2, 2)).astype(np.float32)
assert np.allclose(weights_of([5.0, 1], [[1, 0], [2, 0]]), np.array([5.0, 1]) @ links.pseudoinverse(noisy), atol=1e-5)
print(inspect.getsource(links.pseudoinverse).split('"""')[2])

# %% [markdown]
# **Sparse again.** $W$ is full; $S_c$ must have $t$ entries a row, or nothing would be saved. So each row keeps its $t$ *largest* entries (largest as numbers, so that strongly negative ones go) with their values. This is a rule of thumb, not an optimum: the best pair of rows need not be the two largest weights, and once the others are gone the two that stay should be fitted anew. The method does neither; we will measure below what that costs. And since the kept values need not sum to 1, after the first update an entity is no longer a weighted *mean* of its rows.
#
# ### Two phases
#
# First the assignment stays as it started, until the score on held-out validation data stops improving. Then, from where training stands, the first batch of every epoch (or of every $k$-th) also updates the assignment: *after* the forward pass, from whose $H$ it is computed, and *before* Adam's step is applied. The gradient of that batch still belongs to the old graph, in which it was computed. And nothing is differentiated *through* the update: it is a jump, not a path. That is a choice, and a deliberate one: the update changes which entries exist, and that has no derivative.
#
# ## Forward
#
# Compose, put the codebook underneath, propagate. Note that $E_c$ enters the graph twice: inside $Z$ and, without tanh, as the start of the coarse nodes.

# %%
print(inspect.getsource(coarse.coarse_forward).split('"""')[2])
print(inspect.getsource(batch_loss).split('"""')[2])

# %%
rng = np.random.default_rng(1)
E, b, b0 = rng.standard_normal((C, d)), rng.standard_normal(N), np.zeros(1)
plain = engine_named("numpy")
triples = Triples.from_items(*sample_triples(R, 40, 2, 0, engine=plain), n_users, n_items)
layers = coarse.coarse_graph(A, S, engine=plain)
forward = coarse.coarse_forward(E, layers, L)
loss, slope = batch_loss(forward, b, b0, triples, l2=l2, decay=decay, engine=plain)
assert np.isclose(loss.total, loss.bpr + decay * loss.regulariser)
loss

# %% [markdown]
# ## Backward
#
# Start at the loss and walk to the left in the picture.
#
# **1. The loss.** From notebook 5: the slopes $s=\sigma(x)/B$ give $G_H$ for the entities of the batch and $G_b$ for the biases; all other rows of $H$, and all coarse rows, have the gradient 0. (Coarse nodes are never scored. They matter only by what they pass on.)
#
# **2. Propagation.** $H=PX_0$ with $P=\frac1{L+1}(I+\hat X+\dots+\hat X^L)$ is linear, so $G_{X_0}=P^\top G_H$, computed layer by layer: $G_L=\frac{G_H}{L+1}$, $G_k=\frac{G_H}{L+1}+\hat X^\top G_{k+1}$, and $G_{X_0}=G_0$.
#
# **3. The fork.** $X_0=[Z;E_c]$ is a stack, so $G_{X_0}$ is cut where it was glued: its first $N$ rows are a gradient at $Z$ (way 1), its last $C$ rows are a gradient at $E_c$ itself (way 2).
#
# **4. The regulariser** (way 3) acts on $Z$ as well: $\text{decay}\cdot\frac{2\lambda c_e}{B}Z_e$. At $Z$ ways 1 and 3 meet, and meet means add:
#
# $$G_Z=G_{X_0}[\text{entities}]+\text{decay}\,\frac{2\lambda}{B}\,c\circ Z.$$
#
# **5. Composition.** $Z=\tanh(Y)$, $Y=S_cE_c$. Entry by entry $\tanh'=1-\tanh^2$, and linear maps go back by their transpose: $G_Y=G_Z\circ(1-Z^2)$, then $S_c^\top G_Y$.
#
# **6. Sum.**
#
# $$G_{E_c}=\underbrace{G_{X_0}[\text{coarse}]}_{\text{way 2}}+S_c^\top\Big(\big(\underbrace{G_{X_0}[\text{entities}]}_{\text{way 1}}+\underbrace{\text{decay}\,\tfrac{2\lambda}{B}\,c\circ Z}_{\text{way 3}}\big)\circ(1-Z^2)\Big).$$
#
# The package says it line by line:

# %%
print(inspect.getsource(coarse.coarse_gradients).split('"""')[2])

# %% [markdown]
# Now each way by itself, from the same functions, and their sum against these lines.

# %%
grad_H, _, _ = bpr_backward(forward.H_entities, triples, slope)
grad_X0 = propagate_backward(np.concatenate([grad_H, np.zeros((C, d))]), X_hat, L)
at_Z = {"1: Z, graph": grad_X0[:N], "3: Z, regulariser": squared_norm_penalty_backward(decay, forward.Z, triples, l2, np.zeros_like(forward.Z))}
ways = {name: compose_backward(G, S, forward.Z) for name, G in at_Z.items()} | {"2: direct": grad_X0[N:]}
ways = dict(sorted(ways.items()))
together = coarse.coarse_gradients(forward, slope, layers, triples, n_layers=L, l2=l2, decay=decay)
assert np.allclose(sum(ways.values()), together["E_coarse"], rtol=1e-13, atol=1e-15)
gradients_by_way(ways | {"sum": together["E_coarse"]})

# %% [markdown]
# The regulariser's part is visible because this cell uses a decay of 0.005. The model's own is 0.0001, fifty times less. A gradient without way 3 is then *nearly* right, and here is a trap with teeth: it passes the tolerance that many tests use.

# %%
small = coarse.coarse_gradients(forward, slope, layers, triples, n_layers=L, l2=l2, decay=1e-4)["E_coarse"]
without = ways["1: Z, graph"] + ways["2: direct"]
off = np.linalg.norm(without - small) / np.linalg.norm(small)
assert 1e-3 < off < 0.1, "wrong by a small but definite amount"
assert np.allclose(without, small, atol=1e-3), "and accepted by a test with an absolute tolerance of 0.001"
print(f"without the regulariser's way the gradient is off by {off:.1%} of its norm")

# %% [markdown]
# ## Predict
#
# 1. The forward below takes the codebook as *three* arguments, one for each way, all equal to $E_c$. What will the three gradients be? And their relation to the gradient of the ordinary forward?
# 2. The gradient without way 3, at a decay of $10^{-4}$, goes to the checker, which demands a relative error below $10^{-8}$. Passed or failed?
# 3. $H_c$ has more rows than columns ($C>d$) and full column rank. How far is $WH_c$ from $H_{\text{entities}}$, before entries are dropped?
# 4. The least-squares weights of all entities are computed from random embeddings. What share of them is negative?
#
# <details><summary>Answers</summary>
#
# 1. The three ways, one by one; the gradient of the ordinary forward is their sum. Giving a variable a different name at each place where it occurs, differentiating by each, and adding up at the end *is* the chain rule.
# 2. Failed. The error is of the order of a hundredth of the norm, a hundred thousand times what is allowed or more. An absolute tolerance is not a tolerance unless one knows how large gradients are.
# 3. Not at all, up to rounding. With $C\ge d$ independent directions every vector of $d$ numbers is a combination of the rows, and $wH_c=h$ has solutions, for $C>d$ infinitely many. All of the approximation is in what happens next, when all but $t$ weights are dropped.
# 4. About half: nothing prefers one sign.
#
# </details>
#
# ## Check
#
# Cutting the wires: `E_graph`, `E_direct` and `E_penalty` are the same codebook, so that the checker sees each way alone.

# %%
def loss_by_ways(E_graph, E_direct, E_penalty):
    X0 = np.concatenate([compose(S, E_graph), E_direct])
    H = propagate(X0, X_hat, L)[:N]
    penalty = squared_norm_penalty(compose(S, E_penalty), triples, l2)
    return bpr_loss(H, b, b0, triples)[0] + decay * penalty

# %%
def backward_by_ways(grad_loss, E_graph, E_direct, E_penalty):
    Z, Z_penalty = compose(S, E_graph), compose(S, E_penalty)
    H = propagate(np.concatenate([Z, E_direct]), X_hat, L)[:N]
    _, slope = bpr_loss(H, b, b0, triples)
    grad_H, _, _ = bpr_backward(H, triples, grad_loss * slope)
    grad_X0 = propagate_backward(np.concatenate([grad_H, np.zeros_like(E_direct)]), X_hat, L)
    grad_Z_penalty = squared_norm_penalty_backward(grad_loss * decay, Z_penalty, triples, l2, np.zeros_like(Z))
    return {"E_graph": compose_backward(grad_X0[:N], S, Z), "E_direct": grad_X0[N:],
            "E_penalty": compose_backward(grad_Z_penalty, S, Z_penalty)}

# %%
point = {"E_graph": E, "E_direct": E, "E_penalty": E}
report = check_gradients(loss_by_ways, backward_by_ways, point, dtypes=("float64",), name="three ways")
assert report.passed, report
report

# %%
for name, gradient in zip(("1: Z, graph", "2: direct", "3: Z, regulariser"), backward_by_ways(1.0, E, E, E).values(), strict=True):
    assert np.allclose(gradient, ways[name], rtol=1e-12, atol=1e-15), name

# %% [markdown]
# And the whole stage as the package computes it: codebook and item biases (the users' are exactly zero, as notebook 5 showed). The graph is symmetric here, which hides a forgotten transpose; so it is checked on one that is not, too.

# %%
def check_stage(layers, name):
    def run(E_coarse, bias_item):
        forward = coarse.coarse_forward(E_coarse, layers, L)
        biases = np.append(b[:n_users], bias_item), b0
        return forward, *batch_loss(forward, *biases, triples, l2=l2, decay=decay, engine=plain)

    def value(E_coarse, bias_item):
        return run(E_coarse, bias_item)[1].total

    def backward(grad_loss, E_coarse, bias_item):
        forward, _, slope = run(E_coarse, bias_item)
        found = coarse.coarse_gradients(
            forward, grad_loss * slope, layers, triples, n_layers=L, l2=l2, decay=grad_loss * decay
        )
        assert (found["bias"][:n_users] == 0).all() and found["bias_global"][0] == 0
        return {"E_coarse": found["E_coarse"], "bias_item": found["bias"][n_users:]}

    return check_gradients(value, backward, {"E_coarse": E, "bias_item": b[n_users:]}, dtypes=("float64",), name=name)

# %%
skew = sparse.random_array((N + C, N + C), density=0.1, rng=np.random.default_rng(5), format="csr")
reports = [check_stage(layers, "coarse stage")]
reports.append(check_stage(coarse.CoarseGraph(operator(skew), layers.S_coarse, plain), "not symmetric"))
assert all(report.passed for report in reports), "\n".join(map(str, reports))
print(tabulate(reports))

# %% [markdown]
# The gradient without way 3, with the model's own decay, does not pass:

# %%
def value(E_coarse):
    return batch_loss(coarse.coarse_forward(E_coarse, layers, L), b, b0, triples, l2=l2, decay=1e-4, engine=plain)[0].total


def without_way_3(grad_loss, E_coarse):
    forward = coarse.coarse_forward(E_coarse, layers, L)
    _, slope = batch_loss(forward, b, b0, triples, l2=l2, decay=0.0, engine=plain)
    return coarse.coarse_gradients(forward, grad_loss * slope, layers, triples, n_layers=L, l2=l2, decay=0.0)["E_coarse"]


report = check_gradients(value, without_way_3, {"E_coarse": E}, dtypes=("float64",), name="without way 3")
assert not report.passed and 1e-3 < report.verdict("central_difference", "E_coarse").figure < 0.1
print(report)

# %% [markdown]
# The update is not a gradient; it is checked by what defines it. The leftover stands at a right angle to the coarse rows (normal equations), nothing can be added to the weights without making them longer, and random changes do not fit better.

# %%
H_e, H_c = rng.standard_normal((6, 5)), rng.standard_normal((4, 5))
H_c[3] = H_c[0] - 2 * H_c[1]  # rank 3
W = H_e @ links.pseudoinverse(H_c)
assert np.linalg.matrix_rank(H_c) == 3
assert np.abs((H_e - W @ H_c) @ H_c.T).max() < 1e-12, "normal equations"
null = np.array([1, -2, 0, -1.0])  # this combination of rows is zero
assert np.abs(null @ H_c).max() < 1e-12 and np.abs(W @ null).max() < 1e-12, "no useless part in W"
for _ in range(100):
    assert np.linalg.norm(H_e - (W + 0.1 * rng.standard_normal(W.shape)) @ H_c) > np.linalg.norm(H_e - W @ H_c)
H_wide = rng.standard_normal((60, 8))
W = rng.standard_normal((500, 8)) @ links.pseudoinverse(H_wide)
assert 0.47 < np.mean(W < 0) < 0.53, "half of the weights are negative"

# %% [markdown]
# ## Faster
#
# The compiled engine fuses the composition with the stack, propagates without keeping a running sum ($Y\leftarrow X_0+\hat XY$, which is Horner's rule for the polynomial $I+\hat X+\hat X^2+\dots$), and computes only what a batch needs: rows of $H$ for the entities that occur in it. Same gradient, first; then the ratio on your machine.

# %%
data = load_dataset("planted")
settings = Settings.preset(
    "staged", n_coarse=24, dim=16, coarse_lr=1e-2, coarse_batch=2048, max_epochs=16, eval_every=2, patience=3, seed=1,
    dtype="float64",
)
assert data.train.shape == (1000, 800) and (settings.decay, decay) == (1e-4, 0.005), "fifty times"
assert (Settings.preset("staged").n_coarse, Settings.preset("staged").dim) == (100, 64)
posed = problem.pose(data, settings)
phases = phases_of(settings, posed.engine)
progress = loop.begin(phases, posed)
engines = {name: engine_named(name) for name in ("numpy", "numba")}
big_layers = {
    name: coarse.coarse_graph(posed.A, progress.state.S_coarse, degree=settings.degree, engine=engine)
    for name, engine in engines.items()
}
columns = sample_triples(posed.R, 400, 5, 0, engine=plain)
big = Triples.by_user(columns, np.arange(len(columns[0])), posed.n_users, posed.n_items, engine=plain)

# %%
def step(engine):
    weights, state = {"l2": settings.l2, "decay": settings.decay}, progress.state
    forward = coarse.coarse_forward(state.E_coarse, big_layers[engine], settings.n_layers, batch=big)
    _, slope = batch_loss(forward, state.bias, state.bias_global, big, **weights, engine=engines[engine])
    return coarse.coarse_gradients(forward, slope, big_layers[engine], big, n_layers=settings.n_layers, **weights)

# %%
seconds, found = {}, {}
for engine in ("numpy", "numba"):
    found[engine] = step(engine)
    started = time.perf_counter()
    for _ in range(10):
        step(engine)
    seconds[engine] = time.perf_counter() - started
for name in found["numpy"]:
    assert np.allclose(found["numpy"][name], found["numba"][name], rtol=1e-11, atol=1e-14), name
print(f"numpy / numba: {seconds['numpy'] / seconds['numba']:.1f}")
assert seconds["numpy"] / seconds["numba"] > 0

# %% [markdown]
# ### A real training
#
# The planted data: 1,000 users and 800 items in 8 groups (of 5 subgroups each), with a long tail of popularity on top. We know the groups; the model does not. It gets 24 coarse rows of 16 numbers, two of them for each entity. Training runs through both phases; at the moment where phase 1 ends we also let a *control* go on with the old assignment, for just as many epochs as the second phase takes. Without it we could not tell what the updates do from what more epochs do.

# %%
layers_now, branch = None, None
while not progress.phase.startswith("fine"):
    progress, layers_now = loop.run_epoch(phases, progress, posed, layers_now)
    if progress.phase == "coarse" and branch is None:
        branch, phase1 = (progress, layers_now), progress.finished["coarse_phase1"]
phase2 = progress.finished["coarse"]
rows = [row for row in progress.history if row["stage"] == "coarse"]

# %%
n_second = sum(row["phase"] == "coarse" for row in rows)
fixed = dataclasses.replace(phases[1], update_every=None, most_epochs=n_second)  # the second phase without its updates
control, layers_control = branch
for _ in range(n_second):
    control, layers_control = loop.train_epoch(fixed, control, posed, layers_control)
test = {"coarse, phase 1": phase1.state, "coarse, control": control.best.state, "coarse, phase 2": phase2.state}
table = {name: problem.evaluate_state(state, posed, "test").metrics for name, state in test.items()}
assert table["coarse, phase 2"]["ndcg@20"] > 1.2 * max(table["coarse, phase 1"]["ndcg@20"], table["coarse, control"]["ndcg@20"])
learning_curves(rows, table)

# %% [markdown]
# NDCG is a measure of ranking between 0 and 1: how near the top the items stand that were held out. In phase 1 it climbs and levels off. With the first updates it rises to another level. The control, which had the same epochs with the old assignment, stays where phase 1 ended: the gain is that of the assignment. (The assertion above asks for a gain of more than a fifth over both.)
#
# What has changed? Each panel below has a thin row for every entity, in the order of their true groups, and a column for every coarse row. (Columns have no order of their own; each stands with the group that weighs most in it.)

# %%
truth = load_truth()
assert truth.parameters.n_groups == 8 and truth.parameters.subgroups_per_group == 5
groups = np.concatenate([truth.user_group, truth.item_group])
before, after = phase1.state.S_coarse, phase2.state.S_coarse


def purity(S):
    """Share of entities that belong to the commonest group of their strongest coarse row."""
    strongest = S.toarray().argmax(axis=1)
    return sum(np.bincount(groups[strongest == c]).max() for c in np.unique(strongest)) / len(groups)


assert purity(after) > 0.8 > 0.65 > purity(before)
assert (after.data > 0).all() and np.median(after.sum(axis=1)) < 0.5, "positive, and no longer summing to 1"
assignments_side_by_side({"before (partition)": before, "after": after}, groups, [f"group {g}" for g in range(8)], ylabel="")

# %% [markdown]
# On the left the partition has found some of the structure, under the noise of the random second entries. On the right entities of a group share coarse rows, though nobody told the model about groups. The colours say a second thing: weights are smaller on the right. Least squares spreads an entity over all 24 rows, and the two that are kept carry only their own share.
#
# ### What keeping two entries costs
#
# Take the state at the end of phase 1, when the first update is due, and the state after training; compute the full least-squares weights in both, and look at one entity and then at all.

# %%
def least_squares(state):
    stage = phases[0].stage
    forward = stage.forward(state, stage.graph(state, posed.A))
    W = forward.H_entities @ links.pseudoinverse(forward.H_coarse)
    S_new = links.update_coarse_assignment(forward.H_entities, forward.H_coarse, t=2)
    assert np.linalg.matrix_rank(forward.H_coarse) == 16 and W.shape[1] == 24, "more rows than directions"
    return forward, W, S_new


forward, W, S_new = least_squares(phase1.state)
weights_of_row(W[3], S_new.toarray()[3] != 0)

# %%
def leftovers(forward, W, S_new):
    refitted = S_new.toarray()
    for row, h in zip(refitted, forward.H_entities, strict=True):
        kept = np.flatnonzero(row)
        row[kept] = h @ np.linalg.pinv(forward.H_coarse[kept])
    candidates = {"all 24": W, "2 kept": S_new.toarray(), "2 kept, fitted anew": refitted}
    size = np.linalg.norm(forward.H_entities)
    return {name: float(np.linalg.norm(forward.H_entities - S @ forward.H_coarse) / size) for name, S in candidates.items()}


costs = {when: leftovers(*least_squares(state)) for when, state in (("first", phase1.state), ("last", phase2.state))}
assert max(cost["all 24"] for cost in costs.values()) < 1e-10
assert all(cost["2 kept, fitted anew"] < cost["2 kept"] < 0.6 for cost in costs.values())
assert costs["last"]["2 kept"] < costs["first"]["2 kept"] / 1.5
assert purity(S_new) > purity(before) + 0.05 and (S_new.data > 0).all() and 0.4 < np.mean(W < 0) < 0.6
{when: {name: f"{cost:.1%}" for name, cost in cost.items()} for when, cost in costs.items()}

# %% [markdown]
# All 24 weights together reproduce every entity exactly: there are more rows than directions, as the prediction said. Two of them, as they stand, leave a large part of the norm unexplained at the first update, and fitting them anew would do better. And yet that first update already puts more entities with their own kind than the partition did. After training the same rule leaves far less: codebook and assignment have settled so that two rows *nearly* suffice. A method that alternates need not solve each half well; it needs each half to leave the other something to work with.
#
# About half of the full weights are negative at the first update, and of those kept none is; Normalising with absolute degrees is a safeguard for the day when one is.
#
# Real data, if they are there: MovieLens 100K has no true groups, but the partition and the first update can be looked at in the same way.

# %%
name = "ml-100k" if cached("ml-100k") else "southern-women"
R_real = sparse.csr_array(load_dataset(name).train)
n_parts = 24 if name == "ml-100k" else 4
real_parts = partition_entities(R_real, n_parts, seed=0)
ur, ir = R_real.nonzero()
inside = np.mean(real_parts[ur] == real_parts[R_real.shape[0] + ir])
print(f"{name}: {n_parts} parts keep {inside:.0%} of the edges inside; {1 / n_parts:.0%} would be one in {n_parts}")
assert inside > 1 / n_parts

# %% [markdown]
# ## Exercises

# %%
task_stage = exercise("coarse_stage_backward")
task_stage

# %%
def coarse_stage_backward(grad_loss, E_coarse, S_coarse, X_hat, G_H, c, n_layers):
    raise NotImplementedError


task_stage.check(coarse_stage_backward);

# %%
print(task_stage.hint())

# %% [markdown]
# <details><summary>An answer</summary>
#
# ```python
# def coarse_stage_backward(grad_loss, E_coarse, S_coarse, X_hat, G_H, c, n_layers):
#     n = S_coarse.shape[0]
#     Z = np.tanh(S_coarse @ E_coarse)
#     share = np.concatenate([G_H, np.zeros_like(E_coarse)]) / (n_layers + 1)
#     grad_X0 = share
#     for _ in range(n_layers):
#         grad_X0 = share + X_hat.T @ grad_X0
#     grad_Z = grad_X0[:n] + 2 * c[:, None] * Z
#     return grad_loss * (grad_X0[n:] + S_coarse.T @ (grad_Z * (1 - Z**2)))
# ```
#
# </details>

# %%
task_assignment = exercise("least_squares_assignment")
task_assignment

# %%
def least_squares_assignment(H_entities, H_coarse, t):
    raise NotImplementedError


task_assignment.check(least_squares_assignment);

# %%
print(task_assignment.hint())

# %% [markdown]
# <details><summary>An answer</summary>
#
# ```python
# def least_squares_assignment(H_entities, H_coarse, t):
#     W = H_entities @ np.linalg.pinv(H_coarse)
#     smallest_kept = np.sort(W, axis=1)[:, -t]
#     return np.where(W >= smallest_kept[:, None], W, 0.0)
# ```
#
# With equal entries this keeps more than $t$; `links.keep_largest` sorts stably instead and takes the lower column.
#
# </details>
#
# **Without a checker.** Suppose one *did* want to differentiate through the update, with the choice of the kept entries held fixed. Through which function would the gradient have to pass that none of this notebook's formulas covers, and when would it be infinite?
#
# <details><summary>Answer</summary>
#
# Through the pseudoinverse. Its derivative exists as long as the rank does not change; it contains $1/\sigma^2$, and grows without bound when a singular value goes to 0, which is where the rank changes and the pseudoinverse jumps.
#
# </details>
#
# ## Read next
#
# `07_fine_stage` freezes what you have trained here and refines every coarse row by a few rows of a second, sparse codebook. In the package: `docs/model.md` (graph, coarse stage, starts), `coarse_structure_gradients` in `c2f_np/model/coarse.py` for the gradient with respect to the weights of $S_c$ that nobody needs in training but that is derived and checked all the same. G. Karypis and V. Kumar, *A fast and high quality multilevel scheme for partitioning irregular graphs*, SIAM J. Sci. Comput. 20 (1998).
