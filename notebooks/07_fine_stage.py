# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 7 · The fine stage
#
# ## What you will do
#
# Freeze the coarse codebook and refine each of its rows by a few rows of a second, smaller and *sparse* codebook. You will
#
# - seed that codebook with a sparse principal component analysis, in two readings that differ more than their names suggest,
# - follow one number from the fine codebook to the loss on up to *four* ways, and take the whole stage backwards in one picture, with a gradient on every edge,
# - check each way by itself, and the stage in all four combinations of its readings,
# - derive the update of the fine assignment, and compute it without ever forming the matrices that define it,
# - watch entries of the codebook die while it is trained, and prove that none of them can come back,
# - and ask, with a control, what the fine codebook contributes.
#
# **You need** the coarse stage (notebook 6): $E_c$ ($C\times d$), $S_c$ ($N\times C$), expanded graph, least-squares assignment; soft thresholding (notebook 3); the bridge and the bridged layer (notebook 4), which are repeated here in short. As always $G_y$ is the gradient of the loss at $y$.
#
# **You get** `fine.py` and parts of `starts.py` and `links.py` in `c2f_np/model/`, for the method of Wang et al., *Coarse-to-Fine Lightweight Meta-Embedding for ID-Based Recommendation* ([arXiv 2501.11870](https://arxiv.org/abs/2501.11870)).

# %%
import dataclasses
import inspect
import time

import numpy as np
import scipy.sparse as sparse

from c2f_np.course import exercise
from c2f_np.data import load_dataset
from c2f_np.engine import engine_named
from c2f_np.gradcheck import check_gradients, numerical_gradient, tabulate
from c2f_np.model import fine, graph, links, starts
from c2f_np.model.codebook import bridge, bridge_backward, compose, compose_backward, soft_threshold, soft_threshold_backward
from c2f_np.model.loss import Triples, batch_loss, bpr_backward, bpr_loss, squared_norm_penalty, squared_norm_penalty_backward
from c2f_np.model.propagation import propagate, propagate_backward
from c2f_np.model.sampling import sample_triples
from c2f_np.model.step import fresh_moments
from c2f_np.plotting.inside_a_stage import codebook_sparsity, codebooks_side_by_side, computation_graph, gradients_by_way
from c2f_np.settings import Settings
from c2f_np.training import loop, problem
from c2f_np.training.phases import phases_of

# %% [markdown]
# ## The idea
#
# A coarse row serves many entities at once, so it can only say what they have in common. The fine stage gives each coarse row a few corrections, taken from a common stock of $M<C$ fine rows: *this* coarse row, but a little more like fine rows 3 and 7. Two decisions keep that cheap. The corrections hang on the coarse rows, not on the entities, so the assignment $S_f$ is only $C\times M$ with $t_f$ entries a row. And the fine codebook is sparse: what is stored is $E_f$ ($M\times d$), what is used is
#
# $$F=\text{sign}(E_f)\max(|E_f|-\tau,0),\qquad \hat E=g\,S_fF+(1-g)E_c,$$
#
# the *soft threshold* with the threshold $\tau$ (1 in the paper's stages) and the *bridge* with the weight $g$ (0.2). $E_c$ and $S_c$ no longer move.
#
# Here is the whole stage, and the whole of its backward pass. Arrows are the forward pass; on each stands the gradient that travels it in the opposite direction. Dashed arrows carry none that is used: what they come from is frozen.

# %%
nodes = {
    "Ef": (0, 0, "$E_f$\nfine codebook", "trained"), "F": (2.4, 0, "$F$\nthresholded", "computed"),
    "Ehat": (4.3, 0.9, r"$\hat{E}$" + "\nbridged", "computed"), "tanhF": (4.3, -1.0, r"$\tanh F$", "computed"),
    "Ec": (2.4, 2.3, "$E_c$, $S_c$\nfrozen", "fixed"), "Z": (6.0, 2.3, "$Z$", "computed"),
    "X0": (7.0, 0, r"$X_0=[Z;\hat{E};\tanh F]$", "computed"), "H": (9.0, 0, "$H=P\\,X_0$", "computed"),
    "bpr": (10.4, 0, "BPR", "loss"), "r": (10.4, 2.3, "regulariser", "loss"),
}

# %%
edges = [
    ("Ef", "F", r"$G_F\circ[|E_f|>\tau]$", {"shift": (0, 13)}),
    ("F", "Ehat", r"$g\,S_f^\top G_{\hat{E}}$", {"shift": (-14, 8)}),
    ("F", "tanhF", r"$G_{\tanh F}\circ(1-\tanh^2F)$", {"way": 1, "shift": (-20, -10)}),
    ("Ec", "Ehat", ""), ("Ec", "Z", ""),
    ("Ehat", "Z", r"$S_c^\top(G_Z\circ(1-Z^2))$", {"way": 2, "shift": (-22, 12)}),
    ("Ehat", "X0", "coarse rows of $G_{X_0}$", {"way": 0, "shift": (4, 4)}),
    ("tanhF", "X0", "fine rows of $G_{X_0}$", {"way": 1, "shift": (22, -6)}),
    ("Z", "X0", "entity rows of $G_{X_0}$", {"way": 2, "shift": (26, 0)}),
    ("Z", "r", r"$\mathrm{decay}\cdot2\lambda c_eZ_e/B$", {"way": 4}),
    ("X0", "H", r"$P^\top G_H$", {"shift": (0, 10)}), ("H", "bpr", "$G_H$", {"shift": (0, 10)}),
]
computation_graph(nodes, edges, width=11, height=4.8)

# %% [markdown]
# Two nodes split what they receive. $F$ goes into the bridge and, by tanh, becomes the start of the fine nodes. $\hat E$ becomes the start of the coarse nodes and, in *one of two readings*, what entities are composed from (the arrow from $\hat E$ to $Z$). Wherever an arrow forks in the forward pass, gradients are added in the backward pass; that is all there is to it, and the rest is bookkeeping.
#
# ## The mathematics
#
# ### Two readings of the composition
#
# The paper describes entities as composed from the *bridged* codebook, $Z=\tanh(S_c\hat E)$. The released code composes them from the frozen one, $Z=\tanh(S_cE_c)$, which is then a constant. The package has both, as `composition="bridged"` and `"coarse"`, and the difference is one arrow of the picture: in the second reading the arrow from $\hat E$ to $Z$ is not there, $E_f$ reaches the entities only through the graph, and the regulariser does not see it at all.
#
# ### Two readings of the layer
#
# The expanded graph holds entities, coarse nodes and fine nodes,
#
# $$\hat X=\text{norm}\begin{pmatrix}A&S_c&0\\S_c^\top&0&S_f\\0&S_f^\top&0\end{pmatrix},$$
#
# and every layer of the fine stage bridges anew. With $X_k=[h_k;p_k;q_k]$ and $[h;p;q]=\hat XX_k$:
#
# - `layer_bridge="raw"`, the released code: $h\leftarrow h-S_cp$; $p\leftarrow p-S_fq$; $p\leftarrow g\,S_fq+(1-g)p$; $h\leftarrow h+S_cp$.
# - `layer_bridge="exchange"`, the paper's words: in what the entities receive, the coarse node's message $p_k$ is *exchanged* for the bridged one. That message travels by the weights $K=\hat X[\text{entities},\text{coarse}]$, so $h\leftarrow h+g\,K(S_fq_k-p_k)$.
#
# The raw reading subtracts $S_cp$ from $h$, but what had been added to $h$ was $Kp_k$: other weights (normalised ones), and another $p$ (the last layer's). Below we measure how far the two are apart. Either way a layer is a *linear* map, $X_{k+1}=TX_k$, and $T$ is not symmetric although $\hat X$ is. Therefore the backward pass of a layer is $T^\top$, which reads the lines from the last to the first. For the exchange, with the cotangent $[G_h;G_p;G_q]$ of the layer's output and $a=K^\top G_h$:
#
# $$G_{X_k}=\hat X^\top[G_h;G_p;G_q],\qquad\text{then } G_{p_k}\mathrel{-}=g\,a,\qquad G_{q_k}\mathrel{+}=g\,S_f^\top a.$$
#
# And for the raw reading, with $a=S_c^\top G_h$ and the lines backwards: $h\leftarrow h+S_cp$ gives $G_p\mathrel{+}=a$. The two lines of $p$ together are $p\leftarrow(1-g)p+(2g-1)S_fq$, so $G_q\mathrel{+}=(2g-1)S_f^\top G_p$ and then $G_p\leftarrow(1-g)G_p$. The first line, $h\leftarrow h-S_cp$, gives $G_p\mathrel{-}=a$. Last, $\hat X^\top$. (Where does $2g-1$ come from? $q$ enters $p$ once with $-1$, which $(1-g)$ then scales to $-(1-g)$, and once with $g$: $g-(1-g)=2g-1$.)
#
# ### The bridge by hand
#
# One coarse row $(2,1)$, two fine rows, weights $S_f=(\frac12,\frac12)$, $g=0.2$, $\tau=1$. The stored fine rows are $(2,\,0.4)$ and $(-0.3,\,4)$; thresholding takes 1 off each size and stops at 0, which leaves $F=\begin{pmatrix}1&0\\0&3\end{pmatrix}$. Then $S_fF=(0.5,1.5)$ and $\hat E=0.2\,(0.5,1.5)+0.8\,(2,1)=(1.7,\,1.1)$. Backwards, let $G_{\hat E}=(1,1)$: $G_F=g\,S_f^\top G_{\hat E}$ puts $0.2\cdot\frac12=0.1$ into all four entries, and the threshold lets it through where $|E_f|>1$: in the two entries 2 and 4, and nowhere else. The entries $0.4$ and $-0.3$ receive 0, whatever the loss would like.

# %%
E_f_tiny, S_f_tiny = np.array([[2.0, 0.4], [-0.3, 4.0]]), sparse.csr_array(np.array([[0.5, 0.5]]))
F_tiny = soft_threshold(E_f_tiny, 1.0)
assert np.allclose(F_tiny, [[1, 0], [0, 3]])
assert np.allclose(bridge(np.array([[2.0, 1.0]]), S_f_tiny, F_tiny, 0.2), [[1.7, 1.1]])
_, grad_F = bridge_backward(np.array([[1.0, 1.0]]), S_f_tiny, 0.2)
assert np.allclose(grad_F, 0.1)
assert np.allclose(soft_threshold_backward(grad_F, E_f_tiny, 1.0), [[0.1, 0], [0, 0.1]])

# %% [markdown]
# ### The seed of the fine codebook
#
# A fine codebook of small random numbers would be dead on arrival: all of it inside the threshold. The method seeds it with a **sparse principal component analysis** of the coarse codebook. Draw $M$ rows of $E_c$ and call them $Y$ ($M\times d$). Sparse PCA looks for $Y\approx UV$, with $k$ rows in $V$ ($k\times d$, the *components*) and coefficients $U$ ($M\times k$, the *scores*), by minimising
#
# $$\tfrac12|Y-UV|^2+\alpha\sum_{cf}|V_{cf}|.$$
#
# The penalty on absolute values makes most entries of $V$ exactly zero, as soft thresholding does: it pulls every entry towards zero with the same force $\alpha$, however small the entry already is, and small entries cannot resist. The scores carry no penalty and are dense.
#
# Now the two readings. The **paper** speaks of a codebook seeded by the *sparse components*: vectors in the space of embeddings, each with a few coordinates that are not zero. The **released code** takes the *scores* and writes those of each row, in order, to random positions of a row of zeros. A score is a coefficient of a component; it has no coordinate of embedding space that it belongs to, so its position there is arbitrary, and zeros come from the padding.
#
# With components there is one thing to see to. They have length 1, so all their entries are at most 1, and with $\tau=1$ every one of them lies in the dead zone. So `kind="components"` scales each to the size of its scores, and then moves its entries *away* from zero by $\tau$: soft thresholding returns exactly the scaled components.
#
# To see both we need a coarse stage that has been trained. A short one, on the planted data (1,000 users, 800 items, groups within groups):

# %%
data = load_dataset("planted")
settings = Settings.preset(
    "staged", n_coarse=24, n_fine=12, n_components=12, t_fine=3, dim=16, coarse_lr=1e-2, coarse_batch=2048, fine_batch=4096,
    phase1_epochs=8, max_epochs=16, eval_every=2, patience=3, seed=1,
)
posed = problem.pose(data, settings)
phases = phases_of(settings, posed.engine)
progress, layers_now = loop.begin(phases, posed), None
while not progress.phase.startswith("fine"):
    progress, layers_now = loop.run_epoch(phases, progress, posed, layers_now)
coarse_state = progress.finished["coarse"].state
assert data.train.shape == (1000, 800) and (settings.threshold, settings.gate, settings.decay) == (1.0, 0.2, 1e-4)
E_c = coarse_state.E_coarse.astype(np.float64)
seeds = {
    kind: starts.start_fine_codebook(E_c, 12, 12, kind=kind, threshold=1.0, seed=2) for kind in ("scores", "components")
}
codebooks_side_by_side(seeds, threshold=1.0)

# %% [markdown]
# Grey is what soft thresholding sets to zero. How much of the coarse codebook lies in the span of the twelve thresholded fine rows? Twelve rows of sixteen coordinates cannot hold everything, but those with the components' directions should hold more than those whose coordinates were scrambled.

# %%
def not_spanned(E_f):
    F = soft_threshold(E_f, 1.0)
    return np.linalg.norm(E_c - E_c @ np.linalg.pinv(F) @ F) / np.linalg.norm(E_c)


sparsity = {kind: float(np.mean(soft_threshold(E_f, 1.0) == 0)) for kind, E_f in seeds.items()}
missed = {kind: float(not_spanned(E_f)) for kind, E_f in seeds.items()}
assert missed["components"] < missed["scores"] and sparsity["components"] > 0.7 > 0.5 > sparsity["scores"]
components = seeds["components"]
assert (np.abs(components[components != 0]) > 1).all(), "nothing but exact zeros lies in the dead zone"
{"zeros": sparsity, "share of E_c that is out of reach": missed}

# %% [markdown]
# The components are sparser *and* span more of what they are meant to refine.
#
# ### The update of the fine assignment
#
# As in the coarse stage, now and then the assignment is computed anew from the propagated embeddings. Which fine rows should refine a coarse row? Those that the same entities lean on. By least squares (notebook 6) every entity has weights over the coarse rows, $W_c=H_{\text{entities}}\,\text{pinv}(H_{\text{coarse}})$, and over the fine ones, $W_f=H_{\text{entities}}\,\text{pinv}(H_{\text{fine}})$. Multiply and add over entities (this $T$, $C\times M$, has nothing to do with the layer's):
#
# $$T_{cf}=\sum_e (W_c)_{ec}(W_f)_{ef},\qquad T=W_c^\top W_f.$$
#
# By hand, with two entities: if $W_c=\begin{pmatrix}1&0\\0&1\end{pmatrix}$ (entity 0 is coarse row 0, entity 1 is row 1) and $W_f=\begin{pmatrix}2&0\\1&1\end{pmatrix}$, then $T=W_f$: coarse row 0 goes with fine row 0, coarse row 1 with both alike. Then a softmax turns every row of $T$ into positive numbers that add up to 1, and the $t_f$ largest are kept: for the rows $(2,0)$ and $(1,1)$ and $t_f=1$ that gives 0.881 in the first and 0.5 in the second. They are *not* scaled up again, so row sums stay below 1; `renormalise=True` divides each row by its sum.
#
# $W_c$ and $W_f$ have a row for every entity, and there may be millions. But the entities occur only in a product with themselves:
#
# $$T=\big(H_e\,\text{pinv}(H_c)\big)^\top H_e\,\text{pinv}(H_f)=\text{pinv}(H_c)^\top\underbrace{(H_e^\top H_e)}_{d\times d}\,\text{pinv}(H_f),$$
#
# and all that is left of $N$ is one $d\times d$ matrix. (One thing does grow with $N$: the entries of $T$ are sums over entities, and a softmax of large numbers is nearly *one-hot*, a single 1 and zeros. The second-largest entry that is kept may then be next to nothing, as the cell shows for 400 random entities.)

# %%
S_kept = links.largest_softmax(np.array([[2.0, 0], [1, 1]]), 1).toarray()
assert np.allclose(S_kept, [[0.881, 0], [0.5, 0]], atol=5e-4), "of equal entries the lower column is kept"
rng = np.random.default_rng(0)
H_e, H_c, H_f = (rng.standard_normal((n, 6)) for n in (400, 9, 4))
W_c, W_f = (H_e @ np.linalg.pinv(rows) for rows in (H_c, H_f))
assert np.allclose(links.fine_affinity(H_e, H_c, H_f), W_c.T @ W_f, rtol=1e-10)
S_new = links.update_fine_assignment(H_e, H_c, H_f, 2)
assert (S_new.data >= 0).all() and (S_new.sum(axis=1) < 1 + 1e-12).all()
assert np.median(S_new.toarray().max(axis=1)) > 0.9, "nearly one-hot: T is a sum over 400 entities"
print(inspect.getsource(links.fine_affinity).split('"""')[2])

# %% [markdown]
# ## Forward
#
# A small instance to differentiate at: the southern-women data (18 women, 14 events), five coarse rows, three fine ones, $d=4$, two layers. The fine codebook is written out, with entries on both sides of the threshold $\tau=0.8$ and none close to it.

# %%
R = sparse.csr_array(load_dataset("southern-women").train)
R.sort_indices()
n_users, n_items = R.shape
N, C, M, d, L, tau, g, l2, decay = n_users + n_items, 5, 3, 4, 2, 0.8, 0.3, 5.0, 0.005
A = graph.normalised_adjacency(R)
S_c = starts.start_coarse_assignment(starts.partition_entities(R, C, method="random"), C, 2, 0.5, rng)
S_f = links.largest_softmax(rng.standard_normal((C, M)), 2)
E_c, b, b0 = rng.standard_normal((C, d)), rng.standard_normal(N), np.zeros(1)
E_f = np.array([[1.5, 0.2, -1.2, 0.4], [-0.3, 2.0, 0.5, -1.6], [0.1, -0.2, 1.4, 0.3]])
plain = engine_named("numpy")
triples = Triples.from_items(*sample_triples(R, 40, 2, 0, engine=plain), n_users, n_items)
layers = {
    (c, w): fine.fine_graph(A, S_c, S_f, g, composition=c, layer_bridge=w, engine=plain)
    for c in fine.COMPOSITIONS for w in ("raw", "exchange")
}
print(inspect.getsource(fine.fine_forward).split('"""')[2])

# %% [markdown]
# (The branch with `collapsed` is a short cut for batches; notebook 8 is about it.)
#
# The layer as a matrix: apply it to the identity, column by column. It is not symmetric, in either reading, and what the raw reading takes away from the entities is not what they had received.

# %%
size = N + C + M
for reading in ("raw", "exchange"):
    layer = layers["coarse", reading].layer
    T = layer.forward(np.eye(size))
    assert np.abs(T - T.T).max() > 0.01, "not symmetric"
    assert np.allclose(layer.adjoint(np.eye(size)), T.T, atol=1e-15), "T transposed"
X_hat = layers["coarse", "raw"].layer.X_hat.matrix
X_k = rng.standard_normal((size, d))
received = X_hat[:N, N : N + C] @ X_k[N : N + C]
taken_away = S_c @ (X_hat @ X_k)[N : N + C]
mismatch = np.linalg.norm(received - taken_away) / np.linalg.norm(received)
assert mismatch > 0.5
print(f"received from coarse nodes and taken away again differ by {mismatch:.0%} of what was received")

# %% [markdown]
# ## Backward
#
# From the right of the picture to the left; $P$ is now the mean of the powers of $T$.
#
# **1. Loss:** $G_H$ for the entities of the batch, 0 for all other rows. As in notebook 5.
#
# **2. Propagation:** $G_{X_0}=P^\top G_H$, by $G_L=\frac{G_H}{L+1}$, $G_k=\frac{G_H}{L+1}+T^\top G_{k+1}$.
#
# **3. The stack** $X_0=[Z;\hat E;\tanh F]$ is cut into entity rows, coarse rows, fine rows: $G_{X_0}=[G^{e};G^{c};G^{f}]$.
#
# **4. At $Z$:** $G_Z=G^e+\text{decay}\frac{2\lambda}{B}\,c\circ Z$, where the vector $c$ counts how often each entity occurs in the batch.
#
# **5. At $\hat E$:** the coarse rows; in the bridged reading also what comes back through the composition:
#
# $$G_{\hat E}=G^c\;\big[+\;S_c^\top\big(G_Z\circ(1-Z^2)\big)\text{ if entities are composed from }\hat E\big].$$
#
# **6. At $F$:** through the bridge, and through tanh at the fine nodes:
#
# $$G_F=g\,S_f^\top G_{\hat E}+G^f\circ(1-\tanh^2F).$$
#
# **7. At $E_f$:** what lies outside the threshold, $G_{E_f}=G_F\circ[|E_f|>\tau]$.
#
# **8. At $E_c$**, although nobody uses it here: $(1-g)G_{\hat E}$ from the bridge, and in the coarse reading the composition's part. It costs next to nothing, it is checked below, and whoever wants to train both codebooks together has it.

# %%
print(inspect.getsource(fine.fine_gradients).split('"""')[2])

# %% [markdown]
# Four ways lead from $E_f$ to the loss in the bridged reading: (1) bridge, coarse rows; (2) tanh, fine rows; (3) bridge, composition, graph; (4) bridge, composition, regulariser. The coarse reading has the first two. Here is each by itself.

# %%
def four_ways(E_f, setting="bridged", weight=1.0):
    """The gradient at E_f by each way, from the package's operations; `weight` is the cotangent of the loss."""
    stage = layers[setting, "exchange"]
    forward = fine.fine_forward(E_f, E_c, stage, threshold=tau, n_layers=L)
    _, slope = bpr_loss(forward.H_entities, b, b0, triples)
    grad_H, _, _ = bpr_backward(forward.H_entities, triples, weight * slope)
    grad_H = np.concatenate([grad_H, np.zeros((C + M, d))])
    at_entities, at_coarse, at_fine = stage.layer.split(propagate_backward(grad_H, stage.layer, L))
    penalty = squared_norm_penalty_backward(weight * decay, forward.Z, triples, l2, np.zeros_like(forward.Z))
    at_E_hat = {"1: coarse rows": at_coarse}
    if setting == "bridged":
        at_E_hat["3: Z, graph"] = compose_backward(at_entities, S_c, forward.Z)
        at_E_hat["4: Z, regulariser"] = compose_backward(penalty, S_c, forward.Z)
    at_F = {name: bridge_backward(G, S_f, g)[1] for name, G in at_E_hat.items()}
    at_F["2: fine rows"] = at_fine * (1 - forward.tanh_F**2)
    return {name: soft_threshold_backward(at_F[name], E_f, tau) for name in sorted(at_F)}

# %%
ways = four_ways(E_f)
for setting in fine.COMPOSITIONS:
    stage = layers[setting, "exchange"]
    forward = fine.fine_forward(E_f, E_c, stage, threshold=tau, n_layers=L)
    _, slope = batch_loss(forward, b, b0, triples, l2=l2, decay=decay, engine=plain)
    whole = fine.fine_gradients(forward, slope, E_f, stage, triples, threshold=tau, n_layers=L, l2=l2, decay=decay)["E_fine"]
    assert np.allclose(sum(four_ways(E_f, setting).values()), whole, rtol=1e-12, atol=1e-16), setting
    if setting == "bridged":
        shown = ways | {"sum": whole}
assert all((part[np.abs(E_f) <= tau] == 0).all() for part in shown.values()), "nothing reaches an entry inside the threshold"
gradients_by_way(shown, ylabel="fine row")

# %% [markdown]
# The blank squares are the same in every panel: entries inside the threshold. And compare sizes. Way 4 is drawn with a decay fifty times the model's own, so that it can be seen at all; but way 3, which the released code does not have, needs no such help, and at this point it outweighs each of the two that the released code has.

# %%
norms = {name: float(np.linalg.norm(part)) for name, part in ways.items()}
assert norms["3: Z, graph"] > norms["1: coarse rows"] and norms["3: Z, graph"] > norms["2: fine rows"]
norms

# %% [markdown]
# ## Predict
#
# 1. With no layers at all ($L=0$) and `composition="coarse"`: what is the gradient at $E_f$?
# 2. The same with `composition="bridged"`?
# 3. You move an entry of $E_f$ from 0.2 to 0.3; the threshold is 0.8. By how much does the loss change?
# 4. An entry drifts from outside into the dead zone during training. Its gradient is 0 from then on, but Adam still carries momentum. Can the momentum bring it back out?
#
# <details><summary>Answers</summary>
#
# 1. Exactly zero. Entities start at a constant, and without a layer nothing of coarse and fine nodes reaches them.
# 2. Not zero: $Z$ itself depends on $\hat E$.
# 3. Not at all.
# 4. Not on the side where it came from. It entered because its last step pointed inwards, that is, because the sign of Adam's mean $m$ says "inwards". With gradients of 0, $m$ shrinks but keeps its sign, so that the entry moves further in. It could only come out by crossing the whole zone of width $2\tau$, and the remaining steps add up to no more than 30 learning rates: $|m|/\sqrt v$ is at most $0.1/\sqrt{0.001}$, and $0.9+0.9^2+\dots=9$. Dead is dead.
#
# </details>

# %%
assert 9 * 0.1 / np.sqrt(0.001) < 30 and np.isclose(sum(0.9**k for k in range(1, 400)), 9)
assert 30 * settings.fine_lr < 2 * settings.threshold, "too short to cross the dead zone"
E_moved = E_f.copy()
E_moved[0, 1] = 0.3
for setting in fine.COMPOSITIONS:
    stage, losses = layers[setting, "exchange"], []
    for E in (E_f, E_moved):
        forward = fine.fine_forward(E, E_c, stage, threshold=tau, n_layers=0)
        loss, slope = batch_loss(forward, b, b0, triples, l2=l2, decay=decay, engine=plain)
        losses.append(loss.total)
    options = {"threshold": tau, "n_layers": 0, "l2": l2, "decay": decay}
    zero_layers = fine.fine_gradients(forward, slope, E_moved, stage, triples, **options)["E_fine"]
    assert (zero_layers == 0).all() == (setting == "coarse") and losses[0] == losses[1]

# %% [markdown]
# ## Check
#
# First the four ways, each as an argument of its own (as in notebook 6): the same codebook under four names.

# %%
stage = layers["bridged", "exchange"]


def bridged(E):
    return bridge(E_c, S_f, soft_threshold(E, tau), g)

# %%
def loss_by_ways(E_1, E_2, E_3, E_4):
    Z, Z_penalty = compose(S_c, bridged(E_3)), compose(S_c, bridged(E_4))
    X0 = np.concatenate([Z, bridged(E_1), np.tanh(soft_threshold(E_2, tau))])
    H = propagate(X0, stage.layer, L)[:N]
    return bpr_loss(H, b, b0, triples)[0] + decay * squared_norm_penalty(Z_penalty, triples, l2)

# %%
same_codebook = dict.fromkeys(("E_1", "E_2", "E_3", "E_4"), E_f)
for argument, (name, ours) in zip(same_codebook, ways.items(), strict=True):
    theirs = numerical_gradient(loss_by_ways, same_codebook, wrt=argument, method="complex")
    error = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    print(f"{name:20s} error {error:.1e}")
    assert error < 1e-13, name

# %% [markdown]
# Then the stage as the package computes it, in all four combinations of readings, with respect to the fine codebook *and* the frozen coarse one. The threshold has a kink, so the checker is told which side each entry is on (`active_set`).

# %%
def check_stage(stage, name):
    def run(E_fine, E_coarse):
        forward = fine.fine_forward(E_fine, E_coarse, stage, threshold=tau, n_layers=L)
        return forward, *batch_loss(forward, b, b0, triples, l2=l2, decay=decay, engine=plain)

    def value(E_fine, E_coarse):
        return run(E_fine, E_coarse)[1].total

    def backward(grad_loss, E_fine, E_coarse):
        forward, _, slope = run(E_fine, E_coarse)
        options = {"threshold": tau, "n_layers": L, "l2": l2, "decay": grad_loss * decay}
        found = fine.fine_gradients(forward, grad_loss * slope, E_fine, stage, triples, **options)
        return {"E_fine": found["E_fine"], "E_coarse": found["E_coarse"]}

    options = {"active_set": lambda E_fine: np.abs(E_fine) > tau, "dtypes": ("float64",)}
    return check_gradients(value, backward, {"E_fine": E_f, "E_coarse": E_c}, name=name, **options)

# %%
reports = [check_stage(stage, ", ".join(reading)) for reading, stage in layers.items()]
assert all(report.passed for report in reports), tabulate(reports)
for report in reports:
    assert report.verdict("central_difference", "E_fine").figure < 1e-8
    assert report.verdict("complex_step", "E_fine").figure < 1e-13
print(tabulate(reports))

# %% [markdown]
# And a wrong one, to see that the points can tell: somebody follows the released code's reading in the backward pass and the paper's in the forward pass, so that ways 3 and 4 are lost.

# %%
def value(E_fine):
    forward = fine.fine_forward(E_fine, E_c, layers["bridged", "exchange"], threshold=tau, n_layers=L)
    return batch_loss(forward, b, b0, triples, l2=l2, decay=decay, engine=plain)[0].total


def two_ways_only(grad_loss, E_fine):
    found = four_ways(E_fine, weight=grad_loss)
    return found["1: coarse rows"] + found["2: fine rows"]


report = check_gradients(value, two_ways_only, {"E_fine": E_f}, active_set=lambda E_fine: np.abs(E_fine) > tau, dtypes=("float64",), name="two ways of four")
assert not report.passed
print(report)

# %% [markdown]
# ## Faster
#
# The compiled engine computes the same stage; in the coarse reading it usually does not even propagate, because until the assignments change everything but $F$ is a constant (notebook 8). Here only the layers are compared: same gradient, then the ratio.

# %%
state = starts.start_fine(coarse_state, posed.R, settings).astype(settings.dtype)
engines = {name: engine_named(name) for name in ("numpy", "numba")}
big_layers = {name: fine.FineStage(settings, engine).graph(state, posed.A) for name, engine in engines.items()}
columns = sample_triples(posed.R, 800, 5, 0, engine=plain)
big = Triples.by_user(columns, np.arange(len(columns[0])), posed.n_users, posed.n_items, engine=plain)

# %%
def step(engine):
    options, weights = {"threshold": 1.0, "n_layers": settings.n_layers}, {"l2": settings.l2, "decay": settings.decay}
    forward = fine.fine_forward(state.E_fine, state.E_coarse, big_layers[engine], batch=big, **options)
    _, slope = batch_loss(forward, state.bias, state.bias_global, big, **weights, engine=engines[engine])
    return fine.fine_gradients(forward, slope, state.E_fine, big_layers[engine], big, **options, **weights)["E_fine"]

# %%
seconds, found = {}, {}
for engine in ("numpy", "numba"):
    found[engine] = step(engine)
    started = time.perf_counter()
    for _ in range(10):
        step(engine)
    seconds[engine] = time.perf_counter() - started
assert np.allclose(found["numpy"], found["numba"], rtol=1e-3, atol=1e-6 * np.abs(found["numpy"]).max() + 1e-8), "float32 here"
print(f"numpy / numba: {seconds['numpy'] / seconds['numba']:.1f}")
assert seconds["numpy"] / seconds["numba"] > 0

# %% [markdown]
# ### A training, and the sparsity of the codebook
#
# The fine stage starts from the best coarse state, with $S_c$ and $E_c$ frozen. After every epoch we note which entries of $E_f$ lie outside the threshold.

# %%
fine_phases = phases[-2:]
moments = fresh_moments(state.parameters(fine_phases[0].stage.trained))
progress = dataclasses.replace(progress, state=state, moments=moments)
seed_codebook, masks, gone_through, layers_now = state.E_fine, [np.abs(state.E_fine) > 1], [], None
while not progress.is_done:
    gone_through.append(progress.phase)
    progress, layers_now = loop.run_epoch(phases, progress, posed, layers_now)
    masks.append(np.abs(progress.state.E_fine) > 1)
masks = np.array(masks)
died = np.concatenate([[0], np.cumsum((masks[:-1] & ~masks[1:]).sum(axis=(1, 2)))])
revived = np.concatenate([[0], np.cumsum((~masks[:-1] & masks[1:]).sum(axis=(1, 2)))])
assert revived[-1] == 0, "nothing ever comes back"
assert (progress.state.E_fine[seed_codebook == 0] == 0).all(), "what starts at zero stays there, to the last bit"
starts = {"phase 1": 0, "phase 2: $S_f$ is updated": gone_through.index("fine")}
codebook_sparsity(np.arange(len(masks)), masks.mean(axis=(1, 2)), died=died, revived=revived, phase_starts=starts)

# %% [markdown]
# The dashed line lies on the axis: no entry ever comes back, as predicted. Sparsity is a one-way street in this method. It can only grow, and what the seed did not provide training cannot add. That makes the seed important; a codebook seeded with components has most of its entries fixed at zero for ever.
#
# ### What does the fine codebook contribute?
#
# The last question of the notebook, and one that a reader of any paper should ask. Take the trained fine stage and *set $E_f$ to zero*. What remains are the edges of the fine nodes, the changed normalisation, and the biases, which went on training.

# %%
best = progress.finished["fine"].state
candidates = {
    "coarse stage": coarse_state,
    "fine stage, before any training": state,
    "fine stage": best,
    "fine stage, E_f set to zero": dataclasses.replace(best, E_fine=np.zeros_like(best.E_fine)),
}
scores = {name: problem.evaluate_state(s, posed, "test").metrics["ndcg@20"] for name, s in candidates.items()}
assert abs(scores["fine stage"] - scores["fine stage, E_f set to zero"]) < 0.005
assert abs(scores["fine stage"] - scores["coarse stage"]) < 0.02
for name, score in scores.items():
    print(f"{name:34s} test NDCG@20 {score:.4f}")

# %% [markdown]
# On these data, at this size, in this reading, the codebook that we have just differentiated with such care contributes next to nothing: without it the ranking is as good, to within 0.005. Its gradients are right all the same; a right gradient tells you how to improve the loss, not whether there is much to be gained. What the readings, seeds and data sets make of this is measured in `docs/results/presets.md`.
#
# ## Exercises

# %%
task_fine = exercise("fine_stage_backward")
task_fine

# %%
def fine_stage_backward(grad_loss, E_fine, E_coarse, S_coarse, S_fine, T, G_H, c, tau, gate, n_layers):
    raise NotImplementedError


task_fine.check(fine_stage_backward);

# %%
print(task_fine.hint())

# %% [markdown]
# <details><summary>An answer</summary>
#
# ```python
# def fine_stage_backward(grad_loss, E_fine, E_coarse, S_coarse, S_fine, T, G_H, c, tau, gate, n_layers):
#     n, n_coarse = S_coarse.shape
#     outside = np.abs(E_fine) > tau
#     F = np.where(outside, E_fine - tau * np.sign(E_fine), 0.0)
#     Z = np.tanh(S_coarse @ (gate * (S_fine @ F) + (1 - gate) * E_coarse))
#
#     share = np.zeros((T.shape[0], G_H.shape[1]))
#     share[:n] = grad_loss * G_H / (n_layers + 1)
#     grad_X0 = share
#     for _ in range(n_layers):
#         grad_X0 = share + T.T @ grad_X0
#
#     grad_Z = grad_X0[:n] + grad_loss * 2 * c[:, None] * Z
#     grad_E_hat = grad_X0[n : n + n_coarse] + S_coarse.T @ (grad_Z * (1 - Z**2))
#     grad_F = gate * (S_fine.T @ grad_E_hat) + grad_X0[n + n_coarse :] * (1 - np.tanh(F) ** 2)
#     return np.where(outside, grad_F, 0.0)
# ```
#
# </details>
#
# **Two more, without a checker.** (a) A way to let dead entries come back would be to pass the gradient through the threshold as if it were the identity (a "straight-through" gradient). Would a gradient checker accept that? Should it? (b) In the coarse reading, which of the eight steps of the backward pass can be left out, and what has to be computed only once between two updates of $S_f$?
#
# <details><summary>Answers</summary>
#
# (a) No, and rightly: inside the threshold the function is flat, and the straight-through gradient is not its derivative. One may still train with it, as a heuristic, but then one should say so and check it against *its own* definition. (b) Step 4, and the bracket of step 5: nothing comes back through $Z$. And $H_{\text{entities}}$ is a constant plus a linear function of $F$ and $\tanh F$, whose matrices stand still until $S_f$ changes; that is the subject of the next notebook.
#
# </details>
#
# ## Read next
#
# `08_the_collapse` makes of all the layers two small dense matrices. In the package: `docs/model.md` (fine stage; paper, code, staged and default), `fine_structure_gradients` in `c2f_np/model/fine.py` for the gradients with respect to $S_c$, $S_f$, $\tau$ and $g$.
