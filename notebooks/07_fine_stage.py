# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 07 · The fine stage
#
# *Reading: 20 minutes. Exercises: 6.*
#
# ## What you will do
#
# You freeze the coarse codebook that you trained in [06](06_coarse_stage.ipynb) and refine each of its rows by a few rows of a second, smaller and *sparse* codebook. At the end you will have written the stage's forward, its backward in steps, its training loop and the update of its links; your loss curve will lie on the package's; and you will have asked whether all this makes the recommendations better.
#
# You need `propagate` of [02](02_sparse_propagation.ipynb), the soft threshold of [03](03_soft_thresholding.ipynb), the bridge of [04](04_composition_and_bridging.ipynb), and the steps of 06, three of which you use again as they are. Letters are on the [page of symbols](symbols.md). The stage is the second half of Wang et al., [arXiv 2501.11870](https://arxiv.org/abs/2501.11870).

# %%
import time

import numpy as np
import scipy.sparse as sparse

from c2f_np.course import exercise, my_model
from c2f_np.data import load_dataset
from c2f_np.model.starts import partition_entities, start_coarse_assignment, start_fine_assignment, start_fine_codebook
from c2f_np.plotting import computation
from c2f_np.plotting.inside_a_stage import codebook_sparsity, codebooks_side_by_side, gradients_by_way
from c2f_np.plotting.losses import compared_losses

my = my_model(or_answers=True)

# %% [markdown]
# ## The idea
#
# A coarse row serves many entities at once, so it can only say what they have in common. The fine stage gives each coarse row a few corrections from a common stock of $M<C$ fine rows: *this* coarse row, but a little more like fine rows 3 and 7. Two decisions keep that cheap. The corrections hang on the coarse rows, not on the entities, so the links $S_f$ are only $C\times M$ with $t_f$ in a row. And the fine codebook is sparse: what is trained is $E_f$, what is used is $F$, its soft threshold, and only the entries of $F$ that are not 0 need be stored.
#
# The picture shows one step. $E_c$ and $S_c$ are frozen. $F$ forks: into the bridge, and as the start of the fine *nodes*. $\hat E$ forks, too: entities are composed from it, and it is the start of the coarse nodes. Where a value is used twice, gradients add.

# %%
computation("E_f", "F", "S_f", "E_hat", "Z", "X0", "H", "loss", "scores", model="fine")

# %% [markdown]
# ## Write: the forward
#
# ### Forward
#
# The graph has three kinds of nodes now, entities, coarse rows and fine rows, joined by the links and normalised by sums of absolute weights:

# %%
def fine_graph(A, S_c, S_f):
    X = sparse.csr_array(sparse.block_array([[A, S_c, None], [S_c.T, None, S_f], [None, S_f.T, None]]))
    degree = abs(X).sum(axis=1)
    half = sparse.diags_array(1 / np.sqrt(np.where(degree > 0, degree, 1)))
    return sparse.csr_array(half @ X @ half)


my.keep(fine_graph)

# %% [markdown]
# Every layer bridges anew: it is `bridged_layer_exchange` of notebook 04. With $X_k=[h;p;q]$ (entities, coarse, fine) it is $\hat XX_k$, except that entities receive from a coarse node not its message $p$ but the bridged one, $g\,S_fq+(1-g)p$. That message travels by the weights $Q=\hat X[\text{entities},\text{coarse}]$, so their rows receive $g\,Q(S_fq-p)$ in addition. (The released code does something else here: [11](11_paper_against_code.ipynb).)

# %%
def bridged_propagate(X0, X_hat, S_c, S_f, g, n_layers):
    layer, total = X0, X0
    for _ in range(n_layers):
        layer = my.bridged_layer_exchange(layer, X_hat, S_c, S_f, g)
        total = total + layer
    return total / (n_layers + 1)


my.keep(bridged_propagate)

# %% [markdown]
# What goes into the layers is
#
# $$F=\text{soft}(E_f,\tau),\qquad \hat E=g\,S_fF+(1-g)E_c,\qquad Z=\tanh(S_c\hat E),\qquad X_0=[Z;\hat E;\tanh F].$$
#
# ### By hand
#
# One coarse row $(2,1)$, two fine rows $(2,\,0.4)$ and $(-0.3,\,4)$, $S_f=(\frac12,\frac12)$, $g=0.2$, $\tau=1$. The threshold takes 1 off each size and stops at 0: $F=\begin{pmatrix}1&0\\0&3\end{pmatrix}$. Then $S_fF=(0.5,\,1.5)$ and $\hat E=0.2\,(0.5,\,1.5)+0.8\,(2,\,1)=(1.7,\,1.1)$. An entity with the weight 1 on this row starts at $\tanh(1.7,\,1.1)$.
#
# ### Your turn

# %%
task_1 = exercise("fine_forward")
task_1

# %%
def fine_forward(E_f, E_c, S_c, S_f, X_hat, tau, g, n_layers):
    raise NotImplementedError


task_1.check(fine_forward).keep();

# %%
# print(task_1.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def fine_forward(E_f, E_c, S_c, S_f, X_hat, tau, g, n_layers):
#     F = my.soft_threshold(E_f, tau)
#     E_hat = my.bridge(S_f, F, E_c, g)
#     Z = my.compose(S_c, E_hat)
#     X0 = np.concatenate([Z, E_hat, np.tanh(F)])
#     return Z, my.bridged_propagate(X0, X_hat, S_c, S_f, g, n_layers)
# ```
#
# </details>

# %%
tiny = (np.array([[2.0, 0.4], [-0.3, 4.0]]), np.array([[2.0, 1.0]]), sparse.csr_array([[1.0]]), sparse.csr_array([[0.5, 0.5]]))
Z_tiny, H_tiny = my.fine_forward(*tiny, sparse.csr_array((4, 4)), 1.0, 0.2, 0)
assert np.allclose(Z_tiny, np.tanh([[1.7, 1.1]]), rtol=1e-14) and np.allclose(H_tiny[1], [1.7, 1.1])

# %% [markdown]
# ## Write: back through the layers
#
# ### By hand
#
# $H=\frac1{L+1}(X_0+TX_0+\dots+T^LX_0)$ with $T$ one bridged layer. So the recursion of notebook 02 holds, with $T^\top$ in place of $\hat X^\top$. With $L=1$: $G_{X_0}=\frac12\,(G_H+T^\top G_H)$. You wrote $T^\top$ in notebook 04. It is not $T$, even though $\hat X$ is symmetric: the term $g\,Q(S_fq-p)$ goes to the entities alone.
#
# ### Your turn

# %%
task_2 = exercise("bridged_propagate_backward")
task_2

# %%
def bridged_propagate_backward(grad_H, X0, X_hat, S_c, S_f, g, n_layers):
    raise NotImplementedError


task_2.check(bridged_propagate_backward).keep();

# %%
# print(task_2.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def bridged_propagate_backward(grad_H, X0, X_hat, S_c, S_f, g, n_layers):
#     share = grad_H / (n_layers + 1)
#     grad_layer = share
#     for _ in range(n_layers):
#         grad_layer = share + my.bridged_layer_exchange_backward(grad_layer, X0, X_hat, S_c, S_f, g)
#     return grad_layer
# ```
#
# </details>
#
# ## Write: from the bridge to the fine codebook
#
# ### By hand
#
# In the tiny model let $G_{\hat E}=(1,1)$ arrive at $\hat E$ and nothing at the fine nodes. The bridge sends $0.2\cdot\frac12=0.1$ to all four entries of $F$. The threshold lets it through where $|E_f|>1$, at the entries 2 and 4. The entries $0.4$ and $-0.3$ receive 0, whatever the loss would like.
#
# ### Your turn

# %%
task_3 = exercise("to_E_f")
task_3

# %%
def to_E_f(grad_E_hat, grad_fine, E_f, S_f, tau, g):
    raise NotImplementedError


task_3.check(to_E_f).keep();

# %%
# print(task_3.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def to_E_f(grad_E_hat, grad_fine, E_f, S_f, tau, g):
#     F = my.soft_threshold(E_f, tau)
#     grad_F = g * (S_f.T @ grad_E_hat) + grad_fine * (1 - np.tanh(F) ** 2)
#     return my.soft_threshold_backward(grad_F, E_f, tau)
# ```
#
# </details>

# %%
grad_tiny = my.to_E_f(np.array([[1.0, 1.0]]), np.zeros((2, 2)), tiny[0], tiny[3], 1.0, 0.2)
assert np.allclose(grad_tiny, [[0.1, 0], [0, 0.1]])

# %% [markdown]
# ## Write: the gradient of the stage
#
# ### Forward
#
# The loss is that of notebook 06, BPR plus penalty:

# %%
def fine_loss(E_f, b, E_c, S_c, S_f, X_hat, tau, g, n_layers, user, positive, negative, l2):
    Z, H = my.fine_forward(E_f, E_c, S_c, S_f, X_hat, tau, g, n_layers)
    return my.bpr_loss(H, b, user, positive, negative) + my.penalty(Z, user, positive, negative, l2)


my.keep(fine_loss)

# %% [markdown]
# Backward there are six steps: to $H$ (`my.loss_to_H`), through the layers, the fork in three, to $Z$ (`my.to_Z` adds the penalty), to $\hat E$, to $E_f$. For the fifth there is nothing new to write: $\hat E$ stands here where $E_c$ stood in 06, so `my.to_E_c` at $\hat E$ is the function.
#
# ### Your turn

# %%
task_4 = exercise("fine_gradients")
task_4

# %%
def fine_gradients(E_f, b, E_c, S_c, S_f, X_hat, tau, g, n_layers, user, positive, negative, l2):
    raise NotImplementedError


task_4.check(fine_gradients).keep();

# %%
# print(task_4.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def fine_gradients(E_f, b, E_c, S_c, S_f, X_hat, tau, g, n_layers, user, positive, negative, l2):
#     Z, H = my.fine_forward(E_f, E_c, S_c, S_f, X_hat, tau, g, n_layers)
#     loss = my.bpr_loss(H, b, user, positive, negative) + my.penalty(Z, user, positive, negative, l2)
#     grad_H, grad_b = my.loss_to_H(H, b, user, positive, negative)
#     grad_X0 = my.bridged_propagate_backward(grad_H, H, X_hat, S_c, S_f, g, n_layers)
#     n, c = S_c.shape
#     grad_Z, grad_coarse, grad_fine = np.split(grad_X0, [n, n + c])
#     grad_Z = my.to_Z(grad_Z, Z, user, positive, negative, l2)
#     grad_E_hat = my.to_E_c(grad_Z, grad_coarse, S_c, my.bridge(S_f, my.soft_threshold(E_f, tau), E_c, g))
#     return loss, my.to_E_f(grad_E_hat, grad_fine, E_f, S_f, tau, g), grad_b
# ```
#
# </details>
#
# ### The derivation
#
# <details><summary>The derivation</summary>
#
# With $P=\frac1{L+1}(I+T+\dots+T^L)$ and $G_{X_0}=P^\top G_H$, cut into entity, coarse and fine rows $[G^e;G^c;G^f]$:
#
# $$G_Z=G^e+\tfrac{2\lambda}B\,c\circ Z,\qquad G_{\hat E}=G^c+S_c^\top\big(G_Z\circ(1-Z^2)\big),$$
#
# where $c\circ Z$ multiplies every row $Z_e$ by $c_e$, the number of times that entity $e$ occurs in the batch, and
#
# $$G_F=g\,S_f^\top G_{\hat E}+G^f\circ(1-\tanh^2F),\qquad G_{E_f}=G_F\circ[\,|E_f|>\tau\,].$$
#
# Multiply out, and four paths appear: (1) bridge, coarse nodes; (2) fine nodes; (3) bridge, $Z$, graph; (4) bridge, $Z$, penalty. The paper's text describes all four. The released code composes entities from the frozen $E_c$, so it has the first two only.
#
# </details>
#
# Each path by itself, at a small instance: the southern-women data, five coarse rows, three fine ones with entries on both sides of $\tau=0.8$. Your steps do it, with zeros where a path is cut.

# %%
women = sparse.csr_array(load_dataset("southern-women").train, dtype=float)
n_w, rng = sum(women.shape), np.random.default_rng(0)
A_w = sparse.csr_array(my.normalised_adjacency(women))
S_c_w = start_coarse_assignment(partition_entities(women, 5, method="random"), 5, 2, 0.5, rng)
S_f_w = sparse.csr_array(np.where(np.arange(3) != np.arange(5)[:, None] % 3, 0.5, 0.0))
E_c_w, b_w = rng.standard_normal((5, 4)), rng.standard_normal(n_w)
E_f_w = np.array([[1.5, 0.2, -1.2, 0.4], [-0.3, 2.0, 0.5, -1.6], [0.1, -0.2, 1.4, 0.3]])
X_w, tau_w, g_w, L_w, l2_w = my.fine_graph(A_w, S_c_w, S_f_w), 0.8, 0.3, 2, 5e-4
batch_w = my.sample_triples(women, rng)
fixed = (E_c_w, S_c_w, S_f_w, X_w, tau_w, g_w, L_w, *batch_w, l2_w)

# %%
E_hat_w = my.bridge(S_f_w, my.soft_threshold(E_f_w, tau_w), E_c_w, g_w)
Z_w, H_w = my.fine_forward(E_f_w, *fixed[:7])
grad_H, _ = my.loss_to_H(H_w, b_w, *batch_w)
at_Z, at_coarse, at_fine = np.split(my.bridged_propagate_backward(grad_H, H_w, X_w, S_c_w, S_f_w, g_w, L_w), [n_w, n_w + 5])
from_penalty = my.to_Z(np.zeros_like(Z_w), Z_w, *batch_w, l2_w)
no_coarse, no_fine = np.zeros_like(E_c_w), np.zeros_like(E_f_w)
at_E_hat = {"1: coarse nodes": at_coarse, "3: Z, graph": my.to_E_c(at_Z, no_coarse, S_c_w, E_hat_w),
            "4: Z, penalty": my.to_E_c(from_penalty, no_coarse, S_c_w, E_hat_w)}
paths = {name: my.to_E_f(G, no_fine, E_f_w, S_f_w, tau_w, g_w) for name, G in at_E_hat.items()}
paths["2: fine nodes"] = my.to_E_f(no_coarse, at_fine, E_f_w, S_f_w, tau_w, g_w)
paths = dict(sorted(paths.items()))
_, whole, _ = my.fine_gradients(E_f_w, b_w, *fixed)
assert np.allclose(sum(paths.values()), whole, rtol=1e-12, atol=1e-16)
assert all((part[np.abs(E_f_w) <= tau_w] == 0).all() for part in paths.values())
norms = {name: float(np.linalg.norm(part)) for name, part in paths.items()}
assert norms["3: Z, graph"] > max(norms["1: coarse nodes"], norms["2: fine nodes"]) and norms["4: Z, penalty"] < 0.05 * norms["3: Z, graph"]
gradients_by_way(paths | {"sum": whole}, ylabel="fine row", title="Southern women: gradient at the fine codebook, path by path")

# %% [markdown]
# Entries within the threshold are exactly 0 on every path (white; so are others, but only nearly). The penalty's path is too weak to be seen with the model's own $\lambda$. The third path, which the released code does not have, is the strongest here.
#
# ## Write: the training loop
#
# ### Your turn

# %%
task_5 = exercise("train_fine")
task_5

# %%
def train_fine(E_f, b, E_c, S_c, S_f, X_hat, tau, g, n_layers, batches, l2, rate):
    raise NotImplementedError


task_5.check(train_fine).keep();

# %%
# print(task_5.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def train_fine(E_f, b, E_c, S_c, S_f, X_hat, tau, g, n_layers, batches, l2, rate):
#     m_E = v_E = np.zeros_like(E_f)
#     m_b = v_b = np.zeros_like(b)
#     losses = []
#     for step, batch in enumerate(batches, 1):
#         loss, grad_E_f, grad_b = my.fine_gradients(E_f, b, E_c, S_c, S_f, X_hat, tau, g, n_layers, *batch, l2)
#         losses.append(loss)
#         E_f, m_E, v_E = my.adam_step(E_f, grad_E_f, m_E, v_E, step, rate)
#         b, m_b, v_b = my.adam_step(b, grad_b, m_b, v_b, step, rate)
#     return E_f, b, losses
# ```
#
# </details>
#
# ### A coarse stage to begin with
#
# The planted data, trained with your functions as in notebook 06, only shorter.

# %%
data = load_dataset("planted")
R, validation, test = (sparse.csr_array(part, dtype=float) for part in (data.train, data.validation, data.test))
n_users, N, C, M, d, L, l2, tau, g = R.shape[0], sum(R.shape), 40, 16, 32, 3, 5e-4, 1.0, 0.2
A, known, rng = sparse.csr_array(my.normalised_adjacency(R)), R + validation, np.random.default_rng(0)
S_c = start_coarse_assignment(partition_entities(R, C, seed=0), C, 2, 0.5, rng)
E_c, b = rng.standard_normal((C, d)), np.zeros(N)
for k in range(5):
    X_hat = my.expanded_graph(A, S_c)
    if k >= 2:  # solve for the links, then descend again
        _, H = my.coarse_forward(E_c, S_c, X_hat, L)
        S_c = sparse.csr_array(my.least_squares_assignment(H[:N], H[N:], 2))
        X_hat = my.expanded_graph(A, S_c)
    E_c, b, _ = my.train_coarse(E_c, b, S_c, X_hat, L, my.draw_batches(R, 4, 2048, rng), l2, 0.02)


def ndcg(H, b):
    return float(my.evaluate(H[:n_users] @ H[n_users:N].T + b[n_users:], known, test, 20))


def coarse_quality(E_c, b):
    return ndcg(my.coarse_forward(E_c, S_c, my.expanded_graph(A, S_c), L)[1], b)


quality = {name: float(my.evaluate(my.dense(scores), known, test, 20)) for name, scores in
           {"popularity": my.popularity(R), "three-step walks": my.three_step_walks(R)}.items()}
quality["coarse stage"] = coarse_quality(E_c, b)
assert quality["coarse stage"] > 2 * quality["popularity"] and round(quality["three-step walks"], 4) == 0.2910
quality

# %% [markdown]
# ### The start of the fine codebook
#
# A fine codebook of small random numbers would be dead on arrival, all of it within the threshold. The method starts it from a **sparse principal component analysis** of the coarse codebook: $M$ rows of $E_c$ are drawn, with replacement, and called $Y$ ($M\times d$). One looks for $Y\approx\Omega\Psi$, with the *components* in the rows of $\Psi$ and the *scores* in $\Omega$, by minimising
#
# $$\tfrac12|Y-\Omega\Psi|^2+\alpha\sum_{cf}|\Psi_{cf}|\qquad\text{where no column of }\Omega\text{ is longer than }1.$$
#
# The penalty makes most entries of $\Psi$ exactly 0, as soft thresholding does. The constraint is needed: without it $\Omega$ could grow, $\Psi$ shrink, and the penalty would vanish with the product unchanged. The **paper** starts from the sparse *components*; they have length 1, so all their entries lie within $\tau=1$, and the package scales each to the size of its scores and moves it away from zero by $\tau$. The **released code** writes the *scores*, which are dense, to random places of rows of zeros. A score is a coefficient: it belongs to no coordinate.

# %%
starts = {kind: start_fine_codebook(E_c, M, M, kind=kind, threshold=tau, seed=2) for kind in ("scores", "components")}
sparsity = {kind: float(np.mean(np.abs(E_f) <= tau)) for kind, E_f in starts.items()}
assert sparsity["components"] > 0.5 and np.all(np.abs(starts["components"][starts["components"] != 0]) > tau)
codebooks_side_by_side(starts, threshold=tau, title="Planted set: two starts of the fine codebook (grey: set to 0 by the threshold)")

# %% [markdown]
# Grey is what the threshold sets to 0. We go on with the components, and with $E_c$ and $S_c$ frozen. A first round of descent follows here, two more once you have written the update of the links; before and after each we note which entries lie beyond the threshold.

# %%
parts = partition_entities(R, M, seed=1)
first_S_f = start_fine_assignment(S_c, parts, M, 4)
first_E_f, first_b, graph = starts["components"], b, my.fine_graph(A, S_c, first_S_f)
first_batches = my.draw_batches(R, 4, 2048, rng)


def fine_quality(E_f, b, S_f):
    _, H = my.fine_forward(E_f, E_c, S_c, S_f, my.fine_graph(A, S_c, S_f), tau, g, L)
    return ndcg(H, b)


quality["fine stage, untrained"] = fine_quality(first_E_f, first_b, first_S_f)
E_f, b_f, first_losses = my.train_fine(first_E_f, first_b, E_c, S_c, first_S_f, graph, tau, g, L, first_batches, l2, 0.02)
masks = [np.abs(E) > tau for E in (first_E_f, E_f)]
quality["fine stage, one round"] = fine_quality(E_f, b_f, first_S_f)
assert np.mean(first_losses[-10:]) < np.mean(first_losses[:10])
quality

# %% [markdown]
# ## Write: the links in closed form
#
# ### Forward
#
# As in the coarse stage, links are solved for and not descended to. Which fine rows should refine a coarse row? Those that the same entities lean on. By least squares every entity has weights over the coarse rows, $W_c=H_{\text{entities}}\,\text{pinv}(H_{\text{coarse}})$, and over the fine ones, $W_f=H_{\text{entities}}\,\text{pinv}(H_{\text{fine}})$. Multiply and add over entities: $W_c^\top W_f$, $C\times M$. A softmax turns every row into positive numbers that sum to 1; the $t_f$ largest are kept as they are.
#
# ### By hand
#
# Two entities: $W_c=\begin{pmatrix}1&0\\0&1\end{pmatrix}$, $W_f=\begin{pmatrix}2&0\\1&1\end{pmatrix}$. Then $W_c^\top W_f=W_f$: coarse row 0 goes with fine row 0, coarse row 1 with both alike. The softmax of $(2,0)$ is $(0.881,\,0.119)$, of which $t_f=1$ keeps the first.
#
# ### Your turn

# %%
task_6 = exercise("fine_assignment")
task_6

# %%
def fine_assignment(H_entities, H_coarse, H_fine, t_f):
    raise NotImplementedError


task_6.check(fine_assignment).keep();

# %%
# print(task_6.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def fine_assignment(H_entities, H_coarse, H_fine, t_f):
#     affinity = (H_entities @ np.linalg.pinv(H_coarse)).T @ (H_entities @ np.linalg.pinv(H_fine))
#     powers = np.exp(affinity - affinity.max(axis=1, keepdims=True))
#     S_f = powers / powers.sum(axis=1, keepdims=True)
#     return np.where(S_f >= np.sort(S_f, axis=1)[:, -t_f][:, None], S_f, 0.0)
# ```
#
# With millions of entities one multiplies in another order: $\text{pinv}(H_c)^\top(H_e^\top H_e)\,\text{pinv}(H_f)$, where only $H_e^\top H_e$, $d\times d$, has seen them all.
#
# </details>

# %%
soft = my.fine_assignment(np.array([[2.0, 0], [1, 1]]), np.array([[2.0, 0], [1, 1]]), np.eye(2), 1)
assert np.isclose(soft[0, 0], 0.881, atol=5e-4) and soft[0, 1] == 0

# %% [markdown]
# Two more rounds, with the links solved for before each.

# %%
S_f = first_S_f
for _ in range(2):
    _, H = my.fine_forward(E_f, E_c, S_c, S_f, my.fine_graph(A, S_c, S_f), tau, g, L)
    S_f = sparse.csr_array(my.fine_assignment(H[:N], H[N : N + C], H[N + C :], 4))
    graph, batches = my.fine_graph(A, S_c, S_f), my.draw_batches(R, 4, 2048, rng)
    E_f, b_f, losses = my.train_fine(E_f, b_f, E_c, S_c, S_f, graph, tau, g, L, batches, l2, 0.02)
    masks.append(np.abs(E_f) > tau)
quality["fine stage, three rounds"] = fine_quality(E_f, b_f, S_f)
masks = np.array(masks)
died = np.concatenate([[0], np.cumsum((masks[:-1] & ~masks[1:]).sum(axis=(1, 2)))])
revived = np.concatenate([[0], np.cumsum((~masks[:-1] & masks[1:]).sum(axis=(1, 2)))])
assert revived[-1] == 0 and (E_f[first_E_f == 0] == 0).all(), "nothing ever comes back"
codebook_sparsity(
    np.arange(len(masks)), masks.mean(axis=(1, 2)), died=died, revived=revived, xlabel="round of the fine stage",
    title="Planted set: entries of the fine codebook beyond the threshold",
)

# %% [markdown]
# The dashed line lies on the axis: no entry ever comes back. Sparsity is a one-way street in this method, and what the start did not provide training cannot add. Why, is the second question below.
#
# ## Predict
#
# 1. With no layers at all ($L=0$): which of the four paths are left?
# 2. An entry drifts into the dead zone during training. Its gradient is 0 from then on, but Adam still carries momentum. Can the momentum carry it through the zone and out on the other side, if the rate is 0.02 and $\tau=1$?
# 3. Take the trained fine codebook and set it to 0. How much of the NDCG is lost?
#
# <details><summary>Answers</summary>
#
# 1. The third and the fourth. $H_{\text{entities}}=Z$ then, and what the coarse and fine nodes start at reaches nobody.
# 2. No. By the Cauchy-Schwarz inequality $|m|/\sqrt v$ never exceeds $\sqrt{10/(1-0.81/0.999)}\approx7.27$. From then on $m$ shrinks by 0.9 and $\sqrt v$ by $\sqrt{0.999}$ a step, so all remaining steps together are at most $7.27\,q/(1-q)\approx66$ rates, $q=0.9/\sqrt{0.999}$: a distance of 1.3, and the zone is 2 wide. And it cannot turn round: $m$ keeps the sign with which the entry came in. (Bias correction makes steps smaller still.)
# 3. Measured below.
#
# </details>

# %%
most, q = np.sqrt(10 / (1 - 0.81 / 0.999)), 0.9 / np.sqrt(0.999)
assert round(float(most), 2) == 7.27 and round(float(most * q / (1 - q))) == 66 and 0.02 * most * q / (1 - q) < 1.33 < 2 * tau
k = np.arange(1, 20_000)
assert np.all(np.sqrt(1 - 0.999**k) / (1 - 0.9**k) < 1), "bias correction makes steps smaller"
m = v = 0.0
for gradient in (0.9 / 0.999) ** np.arange(400)[::-1]:  # the gradients for which the bound is reached
    m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
assert m / np.sqrt(v) > 0.999 * most
no_layers = (*fixed[:6], 0, *fixed[7:])
assert np.any(my.fine_gradients(E_f_w, b_w, *no_layers)[1] != 0)
assert not my.loss_to_H(my.fine_forward(E_f_w, *no_layers[:7])[1], b_w, *batch_w)[0][n_w:].any(), "nodes of rows reach nobody"
quality["fine stage, E_f set to 0"] = fine_quality(0 * E_f, b_f, S_f)
for name, value in quality.items():
    print(f"{name:28s} NDCG@20 {value:.4f}")

# %% [markdown]
# ## Check
#
# In orange, what your steps send back along each arrow:

# %%
computation("E_f", "F", "S_f", "E_hat", "Z", "X0", "H", "loss", "scores", model="fine", backward=True)

# %% [markdown]
# Your checker on your gradient, at the small instance, before and after ten steps; no entry is near the threshold. In the last line somebody follows the released code in the backward pass and the paper in the forward: paths 3 and 4 are lost.

# %%
later, b_later, _ = my.train_fine(E_f_w, b_w, *fixed[:7], [batch_w] * 10, l2_w, 0.02)


def two_paths(E):
    Z, H = my.fine_forward(E, *fixed[:7])
    grad_H, _ = my.loss_to_H(H, b_w, *batch_w)
    _, coarse, fine = np.split(my.bridged_propagate_backward(grad_H, H, X_w, S_c_w, S_f_w, g_w, L_w), [n_w, n_w + 5])
    return my.to_E_f(coarse, fine, E, S_f_w, tau_w, g_w)


gaps = {}
for name, E, bias in (("at the start", E_f_w, b_w), ("after ten steps", later, b_later)):
    gaps[f"E_f, {name}"] = my.gradient_gap(
        lambda x, bias=bias: my.fine_loss(x, bias, *fixed), lambda x, bias=bias: my.fine_gradients(x, bias, *fixed)[1], E)
    gaps[f"b, {name}"] = my.gradient_gap(
        lambda x, E=E: my.fine_loss(E, x, *fixed), lambda x, E=E: my.fine_gradients(E, x, *fixed)[2], bias)
assert max(gaps.values()) < 1e-7 and np.min(np.abs(np.abs(later) - tau_w)) > 1e-3
gaps["E_f, two paths of four"] = my.gradient_gap(lambda x: my.fine_loss(x, b_w, *fixed), two_paths, E_f_w)
assert gaps["E_f, two paths of four"] > 0.1
for name, gap in gaps.items():
    print(f"{name:26s} gap {gap:.0e}")

# %% [markdown]
# ## Try it
#
# **What did the fine codebook contribute?** Above, compare the last lines. A fair question needs a control, too: let the *coarse* stage go on for as many steps, with the links that it has.

# %%
E_more, b_more = E_c, b
for _ in range(3):
    batches = my.draw_batches(R, 4, 2048, rng)
    E_more, b_more, _ = my.train_coarse(E_more, b_more, S_c, my.expanded_graph(A, S_c), L, batches, l2, 0.02)
quality["control: coarse, as long"] = coarse_quality(E_more, b_more)
nothing = np.zeros((M, d))
no_edges = sparse.csr_array((C, M))
for name, S, share in (("only fine nodes, g = 0", first_S_f, 0.0), ("only the bridge's factor 1 - g", no_edges, g)):
    _, H = my.fine_forward(nothing, E_c, S_c, S, my.fine_graph(A, S_c, S), tau, share, L)
    quality[name] = ndcg(H, b)
for name, value in quality.items():
    print(f"{name:32s} NDCG@20 {value:.4f}")
assert abs(quality["fine stage, three rounds"] - quality["fine stage, E_f set to 0"]) < 0.02
assert quality["control: coarse, as long"] > quality["coarse stage"] > quality["fine stage, three rounds"]
assert abs(quality["coarse stage"] - quality["only fine nodes, g = 0"]) < 0.005
assert abs(quality["fine stage, untrained"] - quality["only the bridge's factor 1 - g"]) < 0.005

# %% [markdown]
# The gradients are right to the last digits, and yet the stage ends below the coarse stage that it began with, while the control gains. Setting the trained $E_f$ to 0 changes little. So what costs? The last two lines take the stage apart, untrained and with $E_f=0$: the fine nodes alone, with the gate closed, cost next to nothing. The gate alone, without a fine node, costs nearly all. A codebook that was trained without a bridge is multiplied by $1-g=0.8$ in $\hat E$, and its messages once more in every layer. It is frozen, so only $F$ could make up for that, and here it does not.
#
# A right gradient says how to lower the loss, not whether there is much to gain. This is one seed, one data set, a short training; notebook 11 has more of each, and [12](12_the_joint_model.ipynb) shows what a bridge can say at all, and what to do instead.
#
# **Straight through.** To let dead entries come back, somebody passes the gradient through the threshold as if it were the identity. Does your checker accept that? Should it?

# %%
def straight_through(E):
    F = my.soft_threshold(E, tau_w)
    Z, H = my.fine_forward(E, *fixed[:7])
    grad_H, _ = my.loss_to_H(H, b_w, *batch_w)
    at_Z, at_coarse, at_fine = np.split(my.bridged_propagate_backward(grad_H, H, X_w, S_c_w, S_f_w, g_w, L_w), [n_w, n_w + 5])
    at_E_hat = my.to_E_c(my.to_Z(at_Z, Z, *batch_w, l2_w), at_coarse, S_c_w, my.bridge(S_f_w, F, E_c_w, g_w))
    return g_w * S_f_w.T @ at_E_hat + at_fine * (1 - np.tanh(F) ** 2)  # the gradient at F, and no mask


outside = np.abs(E_f_w) > tau_w
assert np.allclose(straight_through(E_f_w)[outside], my.fine_gradients(E_f_w, b_w, *fixed)[1][outside], rtol=1e-9)
gap = my.gradient_gap(lambda x: my.fine_loss(x, b_w, *fixed), straight_through, E_f_w)
print(f"gap {gap:.2f}")
assert gap > 0.1

# %% [markdown]
# <details><summary>Answer</summary>
#
# It does not, and rightly: within the threshold the loss is flat, and what is passed through is not its derivative. One may train with it as a heuristic, but then one should say so.
#
# </details>
#
# ## Faster
#
# The package's fine stage, in the same reading, from your start and with your triples.

# %%
from c2f_np.engine import engine_named
from c2f_np.model.fine import FineStage
from c2f_np.model.loss import Triples
from c2f_np.model.step import ModelState, fresh_moments, train_step
from c2f_np.settings import Settings

reading = {"composition": "bridged", "layer_bridge": "exchange", "degree": "absolute", "threshold": tau, "gate": g}
settings = Settings.preset("staged", n_coarse=C, n_fine=M, dim=d, n_layers=L, dtype="float64", **reading)
assert np.isclose(settings.l2 * settings.decay, l2)
stage = FineStage(settings, engine_named("numpy"))
state = ModelState(E_c, S_c, first_b, np.zeros(1), first_E_f, first_S_f)
moments, graph, theirs = fresh_moments(state.parameters(stage.trained)), stage.graph(state, A), []
weights = {"l2": settings.l2, "decay": settings.decay, "clip": settings.max_grad_value, "learning_rate": 0.02}
began = time.perf_counter()
for batch in first_batches:
    step = train_step(stage, state, moments, graph, Triples(*batch, N), **weights)
    state, moments, graph = step.state, step.moments, step.graph
    theirs.append(step.losses[0] + settings.decay * step.losses[1])
their_seconds = time.perf_counter() - began
began = time.perf_counter()
my.train_fine(first_E_f, first_b, E_c, S_c, first_S_f, my.fine_graph(A, S_c, first_S_f), tau, g, L, first_batches, l2, 0.02)
my_seconds = time.perf_counter() - began

# %%
apart = np.max(np.abs(np.array(theirs) - first_losses) / np.array(theirs))
print(f"{len(theirs)} losses differ by {apart:.0e} of their size at most; the package is {my_seconds / their_seconds:.1f} times as fast")
assert apart < 1e-6
compared_losses({"the package": theirs, "yours": first_losses}, title="Planted set: loss of the first round of the fine stage")

# %% [markdown]
# ## Read next
#
# - [08 the collapse](08_the_collapse.ipynb): in the released code's reading of the composition all the layers become two small dense matrices.
# - [12 the joint model](12_the_joint_model.ipynb): two codebooks trained together, and why the bridge adds nothing there.
# - [docs/model.md](../docs/model.md): the fine stage, the readings, and the gradients with respect to $S_c$, $S_f$, $\tau$ and $g$.
