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
# A graph recommender spends its time multiplying a sparse matrix with a dense one, layer after layer, forward and backward, in every training step. In the fine stage of this model none of that is needed. Between two updates of the assignments the whole of the propagation, however many layers it has, can be replaced by **one small formula**,
#
# $$H = K + W_1 F + W_2 \tanh(F),$$
#
# which gives the same numbers up to rounding. This notebook derives it, differentiates it, checks it, counts what it saves, and shows where it stops being true.

# %% [markdown]
# ## What you will do
#
# You will
#
# - find out which of the fine stage's quantities change during training, and which stand still;
# - work the collapse out by hand for one user and one item, then for any graph;
# - derive its backward pass, which is two small products, and check it;
# - compare it with the layers in the values and the gradients of a whole training step, to $10^{-12}$;
# - count multiplications, and see that a count can mislead;
# - break it on purpose, in three ways.
#
# **You need** notebooks 02 (propagation is linear, its backward is the transpose), 03 (soft thresholding) and 07 (the fine stage). About 30 minutes.

# %%
import functools
import time

import numpy as np
import scipy.sparse as sparse

import c2f_np
from c2f_np.course import exercise
from c2f_np.engine import engine_named
from c2f_np.errors import SettingsError
from c2f_np.gradcheck import check_gradients
from c2f_np.model import fine
from c2f_np.model.codebook import soft_threshold
from c2f_np.model.fine import collapsed_graph, fine_forward, fine_gradients
from c2f_np.model.graph import normalised_adjacency
from c2f_np.model.loss import Triples, batch_loss
from c2f_np.model.propagation import SPARSE_COST, collapse, collapse_pays
from c2f_np.model.propagation import propagate, propagate_collapsed, propagate_collapsed_backward
from c2f_np.model.starts import start_coarse, start_fine
from c2f_np.plotting.frontier import graph_and_strip, work_of_two_ways

# %% [markdown]
# ## The idea
#
# Here is the fine stage again, as notebook 07 left it. There are $N$ entities (users and items), $C$ rows of the coarse codebook $E_c$ and $M$ rows of the fine codebook $E_f$, each of width $d$. The graph has a node for each of them, $N + C + M$ nodes in all. $S_c$ ($N \times C$) says which coarse rows an entity is composed from, $S_f$ ($C \times M$) which fine rows refine a coarse row, and $g$ is the weight of the bridge between them.
#
# $$F = \operatorname{shrink}_\tau(E_f), \qquad \hat E = g\, S_f F + (1-g)\, E_c, \qquad X_0 = \begin{bmatrix} \tanh(S_c E_c) \\ \hat E \\ \tanh(F) \end{bmatrix}, \qquad X_{k+1} = T X_k, \qquad H = \frac{X_0 + \dots + X_L}{L + 1}.$$
#
# ($\operatorname{shrink}_\tau$ is soft thresholding; $T$ is one bridged layer, a matrix of shape $(N+C+M) \times (N+C+M)$; $L$ is the number of layers.)
#
# Now ask of every symbol: **who changes it, and when?** In the fine stage $E_c$ and $S_c$ are frozen. $S_f$, and with it the graph and $T$, changes once an epoch at most. $E_f$ changes in every step. So within an epoch, only $F$ moves, and $F$ has no more than $M$ rows. However many products are made, what reaches the entities is still only a mixture of those $M$ rows, and the weights of the mixture never changed. Whatever is fixed can be computed once.
#
# Let us look at it on real sizes: the planted data set (1,000 users, 800 items), with 40 coarse and 16 fine rows. A partition of the graph gives the assignments their start, as in training.

# %%
from c2f_np.settings import Settings
from c2f_np.training.problem import pose

engines = {name: engine_named(name) for name in ("numpy", "numba")}
fine_graph = functools.partial(fine.fine_graph, engine=engines["numpy"])

data = c2f_np.load_dataset("planted")
settings = Settings.preset("staged", n_coarse=40, n_fine=16, dim=32, n_components=16, dtype="float64")
problem = pose(data, settings)
state = start_fine(start_coarse(problem.R, settings), problem.R, settings)
graph = fine_graph(problem.A, state.S_coarse, state.S_fine, settings.gate, layer_bridge="exchange")
N, C, M = graph.layer.sizes
L, d = settings.n_layers, settings.dim
assert (N, C, M, L, d) == (1800, 40, 16, 3, 32)

# %%
collapsed = collapsed_graph(graph, state.E_coarse, L)
X_hat = graph.layer.X_hat.matrix.tocoo()
blocks = [("users", 1000), ("items", 800), ("codebook rows", C + M)]
graph_and_strip(X_hat.row, X_hat.col, blocks, collapsed.collapsed.weights, names=("the expanded graph", "W1, W2"))

# %% [markdown]
# To the left is the expanded graph, 1,856 nodes square, the darker the more entries there are; the last rows and columns, too thin to be told apart, belong to the two codebooks. A step through layers multiplies with it six times: three layers forward, three backward. To the right, at the same scale, stand $W_1$ and $W_2$, side by side, 32 columns in all (darker is larger). They hold everything that those layers do to $F$. A step needs the rows of its own batch, once forward and once backward.

# %%
assert N + C + M == 1856 and 2 * L == 6
assert collapsed.collapsed.weights.shape == (N, 2 * M) == (1800, 32)

# %% [markdown]
# ## The mathematics
#
# ### The smallest case, by hand
#
# Take one user, one item whom the user has met, one coarse row $e$, one fine row whose thresholded value is $f$, all of width 1. Let $S_c = \begin{bmatrix}1\\1\end{bmatrix}$, $S_f = [1]$, $g = \tfrac12$, and one layer, $L = 1$.
#
# *The graph.* The adjacency of user and item is already normalised: its only weight is 1. With the meta nodes the rows sum to 2 (the user: the item and the coarse node), 2 (the item), 3 (the coarse node: two entities and the fine node) and 1 (the fine node). Each weight is divided by the square roots of its two sums:
#
# $$\hat X_{\text{user, item}} = \frac{1}{\sqrt2 \sqrt2} = \frac12, \qquad \hat X_{\text{user, coarse}} = \frac{1}{\sqrt2\sqrt3} = \frac1{\sqrt6}.$$
#
# *The start.* User and item begin at $z = \tanh(e)$, the coarse node at $\hat e = g f + (1-g) e$, the fine node at $q = \tanh(f)$.
#
# *The layer* (in the reading `layer_bridge="exchange"`): what the user hears from the coarse node is not $\hat e$ but the bridged message $g q + (1-g)\hat e$. So the user's row after one layer is
#
# $$h = \tfrac12 z + \tfrac{1}{\sqrt6}\bigl(g q + (1-g)\hat e\bigr).$$
#
# *The mean* over $X_0$ and $X_1$, with everything put in:
#
# $$H = \tfrac12\bigl(z + h\bigr) = \underbrace{\tfrac34 z + \tfrac{(1-g)^2}{2\sqrt6}\, e}_{K} \;+\; \underbrace{\tfrac{g(1-g)}{2\sqrt6}}_{W_1} f \;+\; \underbrace{\tfrac{g}{2\sqrt6}}_{W_2} \tanh(f).$$
#
# There it is: a constant, something times $f$, something times $\tanh f$. The package should find the same three numbers.

# %%
one = np.ones((1, 1))
e, f, g = 0.8, 1.3, 0.5
adjacency = normalised_adjacency(sparse.csr_array(one))
tiny = fine_graph(adjacency, sparse.csr_array(np.ones((2, 1))), sparse.csr_array(one), g, layer_bridge="exchange")
found = collapse(np.tanh(e) * np.ones((2, 1)), e * one, tiny.layer, n_layers=1)

K_by_hand = 0.75 * np.tanh(e) + (1 - g) ** 2 / (2 * np.sqrt(6)) * e
W_by_hand = [g * (1 - g) / (2 * np.sqrt(6)), g / (2 * np.sqrt(6))]
assert np.allclose(found.constant, K_by_hand, rtol=1e-14), "K by hand and K of the package differ"
assert np.allclose(found.weights, W_by_hand, rtol=1e-14), "W1, W2 by hand and of the package differ"
print("K", found.constant.ravel(), "  [W1, W2]", found.weights[0])

# %% [markdown]
# ### Any graph, any number of layers
#
# One layer is linear in $X_k$, so $L$ of them are, and so is the mean of all of them. Hence there is a matrix $P$ with
#
# $$H = P X_0, \qquad P = \frac{I + T + T^2 + \dots + T^L}{L + 1}.$$
#
# Only the entities are ever scored, so keep the first $N$ rows of $P$, and cut these into three blocks of columns, for the three blocks of $X_0$: $P_e$ ($N \times N$), $P_c$ ($N \times C$) and $P_f$ ($N \times M$). Then
#
# $$H_{\text{entities}} = P_e \tanh(S_c E_c) + P_c \hat E + P_f \tanh(F).$$
#
# Put $\hat E = g\,S_f F + (1-g)\,E_c$ in and multiply out:
#
# $$H_{\text{entities}} = \underbrace{P_e \tanh(S_c E_c) + (1-g)\, P_c E_c}_{K,\; N \times d} \;+\; \underbrace{g\,P_c S_f}_{W_1,\; N \times M} F \;+\; \underbrace{P_f}_{W_2,\; N \times M} \tanh(F).$$
#
# Nothing was approximated. That is the whole derivation, and its only ingredient is: **everything that is not linear (the threshold, the two tanh) happens before the propagation begins**, and of these only two act on what is trained.
#
# $P$ itself is a dense matrix with $(N + C + M)^2$ entries, and nobody wants to form it. But a product $P V$ costs as much as propagating $V$. So put into the propagation exactly the columns whose results are wanted:
#
# - $[\tanh(S_c E_c);\; (1-g)E_c;\; 0]$, of $d$ columns: out comes $K$;
# - $[0;\; g S_f;\; 0]$, of $M$ columns: out comes $W_1$. These are the units of $F$, spread over the coarse nodes by the bridge;
# - $[0;\; 0;\; I]$, of $M$ columns: out comes $W_2$.

# %% [markdown]
# ## Forward
#
# The package does exactly that: two propagations (of $K$'s start and of the units), and the formula.

# %%
import inspect

body = inspect.getsource(collapse).split('"""')[2]
print(body)

# %% [markdown]
# The formula itself is one line. `rows` are the entities of a batch; for all others nothing is computed.

# %%
print(inspect.getsource(propagate_collapsed).split('"""')[2])

# %% [markdown]
# For a graph this small we can afford to form $P$ after all, by propagating the identity, and hold the three blocks against the derivation.

# %%
P = propagate(np.eye(N + C + M), graph.layer, L)[:N]
P_e, P_c, P_f = P[:, :N], P[:, N:N + C], P[:, N + C:]
S_c, S_f, gate = state.S_coarse, state.S_fine.toarray(), settings.gate

K, W = collapsed.collapsed.constant, collapsed.collapsed.weights
assert np.allclose(K, P_e @ np.tanh(S_c @ state.E_coarse) + (1 - gate) * P_c @ state.E_coarse, rtol=0, atol=1e-13)
assert np.allclose(W[:, :M], gate * P_c @ S_f, rtol=0, atol=1e-13)
assert np.allclose(W[:, M:], P_f, rtol=0, atol=1e-13)

# %% [markdown]
# ## Backward
#
# Let $G = G_H$ be the gradient of the loss at $H$ (shape $N \times d$, zero in the rows of entities that are not in the batch). We want $G_F$, then $G_{E_f}$. As everywhere in this course, change the input a little, see what the output does, and read the gradient off $\langle G, dH \rangle$, where $\langle A, B \rangle = \sum_{ij} A_{ij} B_{ij}$.
#
# **Step 1.** $K$, $W_1$ and $W_2$ are constants, so
#
# $$dH = W_1\, dF + W_2\, d\tanh(F).$$
#
# **Step 2.** Move each matrix to the other side, where it becomes its transpose, $\langle G, W\,dX \rangle = \langle W^\top G, dX\rangle$:
#
# $$\langle G, dH \rangle = \langle W_1^\top G,\; dF \rangle + \langle W_2^\top G,\; d\tanh(F) \rangle.$$
#
# **Step 3.** $d\tanh(F) = (1 - \tanh^2 F) \odot dF$, entry by entry ($\odot$). An entry-by-entry factor may be moved to the other side as it is:
#
# $$G_F = W_1^\top G + (W_2^\top G) \odot (1 - \tanh^2 F).$$
#
# **Step 4.** Soft thresholding passes the gradient where $|E_f| > \tau$ and stops it elsewhere (notebook 03): $G_{E_f} = G_F \odot [\,|E_f| > \tau\,]$.
#
# Compare this with what the layers would need: $T^\top$ applied $L$ times to a matrix of $N + C + M$ rows, where each $T^\top$ is four lines read backwards. It is the same number in the end, because $(P V)^\top G = V^\top (P^\top G)$: *first propagate the units forward, once, and meet the gradient there* instead of *propagating every gradient backward to the units*.
#
# In the package, steps 1 to 3 without the slope of tanh (that one is shared with the layered way):

# %%
print(inspect.getsource(propagate_collapsed_backward).split('"""')[2])

# %% [markdown]
# ## Predict
#
# Two ways of computing the same thing are about to be compared: through three layers, and collapsed. Both work in float64, whose unit of rounding is about $10^{-16}$.
#
# 1. How far apart will the embeddings be, relative to the largest? $10^{-4}$, like two different methods? $10^{-8}$, like a numerical derivative? Or less?
# 2. Will they be equal to the last bit, with three layers?
#
# <details><summary>Answer</summary>
#
# 1. About $10^{-15}$. There is no step size and no truncation here: the two are the same polynomial with its terms in another order, so only rounding is left, and there are few roundings in a row. 2. Hardly. Floating-point addition is not associative: $(a + b) + c$ and $a + (b + c)$ differ in the last bit, and the collapse is nothing but a change of brackets.
#
# </details>

# %% [markdown]
# ## Check
#
# First the values, for both readings of the layer and for several numbers of layers. `raw` and `exchange` are two different $T$; the derivation used nothing of $T$ but its linearity.

# %%
rng = np.random.default_rng(0)
E_fine = state.E_fine + 0.3 * rng.standard_normal(state.E_fine.shape)  # somewhere in the middle of a training
F = soft_threshold(E_fine, settings.threshold)

everybody = np.arange(N)

def largest_difference(a, b):
    return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))

for layer_bridge in ("raw", "exchange"):
    for n_layers in (0, 1, 3, 5):
        layers = fine_graph(problem.A, state.S_coarse, state.S_fine, gate, layer_bridge=layer_bridge)
        short = collapsed_graph(layers, state.E_coarse, n_layers).collapsed
        whole = fine_forward(E_fine, state.E_coarse, layers, threshold=settings.threshold, n_layers=n_layers).H_entities
        error = largest_difference(propagate_collapsed(F, np.tanh(F), short, rows=everybody), whole)
        print(f"{layer_bridge:9s} L = {n_layers}: {error:.1e}")
        assert error < 1e-12, "the collapse is not exact"

# %% [markdown]
# Now a whole training step: forward, loss and backward for a batch of triples (user, item met, item not met), once through layers and once collapsed. `fine_forward` takes the short way when the graph that it is given has one.

# %%
batch = Triples.from_items(*(rng.integers(0, k, 2000) for k in (1000, 800, 800)), 1000, 800)

def step(which):
    how = {"threshold": settings.threshold, "n_layers": L}
    weights = {"l2": settings.l2, "decay": settings.decay}
    forward = fine_forward(E_fine, state.E_coarse, which, batch=batch, **how)
    loss, slope = batch_loss(forward, state.bias, state.bias_global, batch, **weights, engine=which.engine)
    gradients = fine_gradients(forward, slope, E_fine, which, batch, **how | weights)
    return loss.total, gradients

(loss_layers, by_layers), (loss_short, by_short) = step(graph), step(collapsed)
errors = {name: largest_difference(by_short[name], by_layers[name]) for name in ("E_fine", "bias")}
print("loss", loss_layers, "difference", abs(loss_layers - loss_short), "gradients", errors)
assert abs(loss_layers - loss_short) < 1e-12 * loss_layers
assert max(errors.values()) < 1e-12
assert np.abs(by_layers["E_fine"]).max() > 0

# %% [markdown]
# Equal to layers is not the same as right: both could share a mistake. So the collapsed pass is also held to differences of its own forward, as any hand-written derivative should be. The function from $F$ to $H$, on the rows of 30 entities:

# %%
rows = np.arange(0, 1800, 60)

def embeddings(F):
    return propagate_collapsed(F, np.tanh(F), collapsed.collapsed, rows=rows)

def embeddings_backward(grad_H, F):
    grad_F, grad_tanh = propagate_collapsed_backward(grad_H, collapsed.collapsed, rows=rows)
    return grad_F + grad_tanh * (1 - np.tanh(F) ** 2)

report = check_gradients(embeddings, embeddings_backward, {"F": F}, name="collapsed propagation")
assert report.passed and len(rows) == 30
report

# %% [markdown]
# ### When it does not hold
#
# A derivation is understood when one knows where it breaks. It used three things: that $P$ is fixed, that $E_c$ is fixed, and that nothing trained passes through a non-linearity other than entry by entry on $F$ itself.
#
# **The assignments have changed.** $S_f$ is replaced, the graph with it, and $P$ is another matrix. The old $K$, $W_1$, $W_2$ are then simply wrong, by far more than rounding; they must be computed anew.

# %%
other_S_f = state.S_fine[rng.permutation(C)]
other = fine_graph(problem.A, state.S_coarse, other_S_f, gate, layer_bridge="exchange")
after = fine_forward(E_fine, state.E_coarse, other, threshold=settings.threshold, n_layers=L).H_entities
stale = propagate_collapsed(F, np.tanh(F), collapsed.collapsed, rows=everybody)
fresh = propagate_collapsed(F, np.tanh(F), collapsed_graph(other, state.E_coarse, L).collapsed, rows=everybody)
print(f"stale: {largest_difference(stale, after):.1e}, collapsed anew: {largest_difference(fresh, after):.1e}")
assert largest_difference(stale, after) > 1e-4 and largest_difference(fresh, after) < 1e-12

# %% [markdown]
# **The coarse codebook has changed.** $E_c$ is inside $K$. The package remembers which $E_c$ it collapsed with and refuses another one.

# %%
try:
    fine_forward(E_fine, state.E_coarse + 0.1, collapsed, threshold=settings.threshold, n_layers=L, batch=batch)
    raise AssertionError("should have been refused")
except SettingsError as refusal:
    print(refusal)

# %% [markdown]
# **The composition is the paper's.** With `composition="bridged"` entities start at $\tanh(S_c \hat E)$ instead of $\tanh(S_c E_c)$: now a tanh acts on a *mixture* of the fine rows. Then there are no matrices $W_1$, $W_2$ at all, and this can be seen without looking for them. If $H = K + W_1 F + W_2\tanh(F)$, each fine row contributes on its own, and contributions add. Split $F$ into $F_1 + F_2$, where $F_1$ holds the first half of the rows and $F_2$ the others. Since $\tanh(0) = 0$, it would follow that
#
# $$H(F_1 + F_2) - H(F_1) - H(F_2) + H(0) = 0.$$

# %%
def interaction(composition):
    which = fine_graph(problem.A, state.S_coarse, state.S_fine, gate, layer_bridge="exchange", composition=composition)
    first = np.arange(M)[:, None] < M // 2

    def H(F):  # a threshold of 0 leaves F as it is
        return fine_forward(F, state.E_coarse, which, threshold=0.0, n_layers=L).H_entities

    return float(np.max(np.abs(H(F) - H(F * first) - H(F * ~first) + H(0 * F))))

coarse_reading, papers_reading = interaction("coarse"), interaction("bridged")
print(f"composition coarse: {coarse_reading:.1e}, bridged: {papers_reading:.1e}")
assert coarse_reading < 1e-14 and papers_reading > 1e-7

# %% [markdown]
# In the released code's reading the interaction is rounding; in the paper's it is not. It is small beside the embeddings themselves, but no formula of this form can produce it. So `collapsed_graph` refuses, rather than being nearly right.

# %%
try:
    collapsed_graph(fine_graph(problem.A, state.S_coarse, state.S_fine, gate, composition="bridged"), state.E_coarse, L)
    raise AssertionError("should have been refused")
except SettingsError as refusal:
    print(refusal)

# %% [markdown]
# ## Faster
#
# ### Counted
#
# Let nnz be the number of stored entries of $\hat X$. A sparse product of width $d$ takes $\text{nnz} \cdot d$ multiplications; a step through layers makes $2L$ of them (forward and backward). A collapsed step multiplies the batch's $R$ rows of $[W_1, W_2]$ with a $2M \times d$ matrix, and its transpose comes back: $2 \cdot R \cdot 2M \cdot d$. Before the first one, collapsing propagates $2M + d$ columns through $L$ layers.

# %%
nnz, R = graph.layer.X_hat.matrix.nnz, len(batch.occurrences.entities)
layered = 2 * L * nnz * d
collapsed_step = 2 * R * 2 * M * d
collapsing = L * nnz * (2 * M + d)
print(f"{layered:,} in layers, {collapsed_step:,} collapsed, {collapsing:,} to collapse; rows of the batch: {R:,}")
assert 2 < layered / collapsed_step < 6
assert 0.9 < collapsing / layered < 1.1
work_of_two_ways(layered / 1e6, collapsed_step / 1e6, collapsing / 1e6, n_steps=12)

# %% [markdown]
# Collapsing costs about as much as *one* step through layers (here $2M = d$, so exactly as much), and every step after it less than half. An epoch of these data has more than a dozen steps at a batch of 8,192 triples.

# %%
steps_of_an_epoch = -(-data.train.nnz * settings.neg_size // 8192)
assert steps_of_an_epoch > 12 and 2 * M == d and collapsing == layered

# %% [markdown]
# Counting is not measuring, though, and it can mislead in either direction. Take the numbers of Gowalla, the paper's larger data set (29,858 users, 40,981 items, 810,128 interactions) with the paper's sizes, and a batch that touches all entities:

# %%
n_large = 29_858 + 40_981
nnz_large = 2 * 810_128 + 2 * 2 * n_large + 2 * 4 * 300  # interactions, S_c with 2 entries a row, S_f with 4, both ways
layered_large = 2 * 3 * nnz_large * 128
collapsed_large = 2 * n_large * 2 * 100 * 128
print(f"layers {layered_large / 1e9:.2f} billion, collapsed {collapsed_large / 1e9:.2f} billion")
assert collapsed_large > 2 * layered_large
assert collapse_pays(n_large, nnz_large, 100, 128, 3, n_steps=124, n_rows=n_large)
assert not collapse_pays(n_large, nnz_large, 1000, 128, 3, n_steps=124, n_rows=n_large)

# %% [markdown]
# The collapsed step makes more than twice as *many* multiplications there, and yet `collapse_pays` says that it pays. The reason is that multiplications are not alike. A dense product reads its numbers in order and uses each many times while it is at hand; a sparse product picks a row here and a row there, and mostly waits for memory. The package counts a sparse multiplication as `SPARSE_COST` dense ones, a number that was measured once on large problems and written down. It is not measured anew on each machine, because a run that is interrupted and resumed elsewhere must make the same choices. With ten times as many fine rows the strip $W$ becomes so wide that layers are the better bargain.

# %%
assert SPARSE_COST == 4.0

# %% [markdown]
# ### Measured
#
# The same step, both ways, in NumPy and with the compiled kernels (Numba). First they must agree; then they are timed. The ratios depend on your machine and on what else it is doing, so they are printed and nothing is claimed about them but that they are numbers.

# %%
compiled = fine_graph(problem.A, state.S_coarse, state.S_fine, settings.gate, layer_bridge="exchange", engine=engines["numba"])
ways = {("layers", "numpy"): graph, ("collapsed", "numpy"): collapsed,
        ("layers", "numba"): compiled, ("collapsed", "numba"): collapsed_graph(compiled, state.E_coarse, L)}
loss_compiled, by_compiled = step(ways["collapsed", "numba"])
assert abs(loss_compiled - loss_layers) < 1e-12 * loss_layers
assert largest_difference(by_compiled["E_fine"], by_layers["E_fine"]) < 1e-12

def seconds(which, repeats=7):
    times = []
    for _ in range(repeats + 1):  # the first call compiles, or warms up
        started = time.perf_counter()
        step(which)
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:]))

taken = {way: seconds(which) for way, which in ways.items()}
for (name, engine), t in taken.items():
    print(f"{name:10s} {engine:6s} layers in NumPy take {taken['layers', 'numpy'] / t:5.1f} times as long")
    assert t > 0

# %% [markdown]
# What a collapsed step does besides its two small products is the loss: it scores the triples and gathers their gradients by entity. That part is the same in both ways, and no collapse makes it any shorter.

# %% [markdown]
# ## Exercises
#
# Write each function, run its check, and take a hint if you like. A check compares numbers (and, for a backward, differences of the forward), so any right way of writing it is right.
#
# ### 1. The backward of the collapsed formula

# %%
task = exercise("collapsed_backward")
task

# %%
def my_backward(grad_H, F, K, W1, W2):
    raise NotImplementedError

task.check(my_backward)

# %%
print(task.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def collapsed_backward(grad_H, F, K, W1, W2):
#     return W1.T @ grad_H + (W2.T @ grad_H) * (1 - np.tanh(F) ** 2)
# ```
#
# The transposes come from moving $W_1$ and $W_2$ to the other side of the inner product. Only the second way passes through tanh.
#
# </details>

# %% [markdown]
# ### 2. What it costs

# %%
task = exercise("multiplications")
task

# %%
def my_count(n_entries, n_rows, n_fine, dim, n_layers):
    raise NotImplementedError

task.check(my_count)

# %%
print(task.hint())

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

# %% [markdown]
# ### 3. A collapse that the model does not have
#
# What stops the paper's composition from collapsing is one tanh. Without it, it would collapse. How?

# %%
task = exercise("collapse_without_tanh")
task

# %%
def my_collapse(P, S_coarse, E_coarse, S_fine, gate):
    raise NotImplementedError

task.check(my_collapse)

# %%
print(task.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def collapse_without_tanh(P, S_coarse, E_coarse, S_fine, gate):
#     n, c = S_coarse.shape
#     to_codebook = P[:, :n] @ S_coarse + P[:, n : n + c]  # E_hat reaches H through the entities and through the coarse nodes
#     K = (1 - gate) * to_codebook @ E_coarse
#     W1 = gate * to_codebook @ S_fine
#     W2 = P[:, n + c :]
#     return K, W1, W2
# ```
#
# </details>

# %% [markdown]
# ### To think about
#
# Could the *coarse* stage be collapsed in the same way? There $E_c$ is trained, entities start at $\tanh(S_c E_c)$, coarse nodes at $E_c$.
#
# <details><summary>Answer</summary>
#
# Formally: $H = P_e \tanh(S_c E_c) + P_c E_c$, and $P_c$ is a strip of $C$ columns that could be computed once. But $P_e$ is $N \times N$ and dense, and what it multiplies changes in every step and has $N$ different rows. The collapse pays because everything that is trained passes through a bottleneck of $2M$ rows *after* its last non-linearity. In the coarse stage tanh comes after the bottleneck, where there are $N$ rows already: the same obstacle as in the paper's composition.
#
# </details>

# %% [markdown]
# ## Read next
#
# - Notebook 09 asks whether the model that is trained this way is any good.
# - `c2f_np/model/propagation.py` and `c2f_np/model/fine.py` hold the code; [docs/model.md](../docs/model.md) has the equations under "Collapsed".
# - `tests/model/test_model_batch_rows.py` asserts the equality of both ways for every width, engine and number of layers.
# - [benchmarks/results.md](../benchmarks/results.md) has times at full size, and how they were taken.
