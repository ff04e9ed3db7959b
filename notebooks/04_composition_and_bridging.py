# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Composition and bridging: thousands of embeddings from two small tables
#
# *About 40 minutes to read.*
#
# ## What you will do
#
# So far every user and item had a row of numbers of its own. Now we take these rows away, and build them when they are needed: from a *coarse codebook* of $C$ rows that everybody shares, and a *fine codebook* of $M$ rows that refines it. You will see how, and differentiate each step with respect to everything that stands in it.
#
# You will learn
#
# - how a sparse *assignment* makes an entity from a few codebook rows, and why the derivative of $\tanh$ wants the output, not the input;
# - what happens to a gradient when one thing is used in two places;
# - the gradient with respect to a mixing weight (the *gate*) and to the stored weights of an assignment;
# - how to transpose a *program*: four lines that overwrite each other, read from the last to the first. The result is a linear layer that is not symmetric, and a place where a forgotten transpose no longer hides.
#
# You need: the sparse product and its two gradients from `02_sparse_propagation` ($Y = MX$ gives $G_X = M^T G_Y$, and $\langle \text{row } i \text{ of } G_Y, \text{row } j \text{ of } X\rangle$ at the stored entry $(i, j)$ of $M$), and the thresholded fine codebook $F$ from `03_soft_thresholding`. $G_y$ always means: the gradient of the loss at $y$, the *cotangent*.

# %%
import c2f_np  # noqa: F401
import functools
import inspect
import time

import ipywidgets as widgets
import numpy as np
import scipy.sparse as sparse
from IPython.display import display

from c2f_np import load_dataset
from c2f_np.course import exercise
from c2f_np.data import cached
from c2f_np.engine import engine_named
from c2f_np.gradcheck import adjoint_gap, check_gradients
from c2f_np.model import propagation
from c2f_np.model.codebook import (
    bridge, bridge_backward, bridge_backward_assignment, bridge_backward_gate,
    compose, compose_above, compose_backward, compose_backward_assignment, soft_threshold, tanh_backward,
)  # fmt: skip
from c2f_np.model.graph import expanded_graph, normalised_adjacency
from c2f_np.model.propagation import BridgedLayer, propagate, propagate_backward
from c2f_np.model.starts import partition_entities, start_coarse_assignment, start_fine_assignment
from c2f_np.plotting.assignments import before_and_after, block_matrices, codebooks, heat_maps

# %% [markdown]
# ## The idea
#
# Think of describing wines. You could store a long description of every bottle. Or you could agree on a few types, and say of each bottle "half this type, half that". The types are the codebook, the halves are the assignment.
#
# A *codebook* $E$ is a table of $C$ rows and $d$ columns. An *assignment* $S$ has a row for each of the $N$ entities (users first, then items) and a column for each codebook row; only $t$ entries of a row are not zero. Entity $i$'s embedding is made from the weighted sum of its $t$ codebook rows, $\sum_j S_{ij} E_j$.
#
# Here for the eighteen women and fourteen events, with four codebook rows and $t = 2$. The assignment begins from a partition of the graph into four parts: each entity puts half its weight on the row of its own part and half on one other row, drawn at random.

# %%
data = load_dataset("southern-women")
R = data.train
n, C, M, d = sum(R.shape), 4, 3, 8
parts = partition_entities(R, C, method="coclustering")
S_coarse = start_coarse_assignment(parts, C, 2, 0.5, np.random.default_rng(1))
E_coarse = np.random.default_rng(2).standard_normal((C, d))
assert S_coarse.shape == (32, 4) and np.all(np.diff(S_coarse.indptr) == 2) and np.allclose(S_coarse.sum(axis=1), 1)

# %%
names = [*data.user_ids, *data.item_ids]
Z = compose(S_coarse, E_coarse)
panels = {"assignment $S$": S_coarse.toarray(), "codebook $E$": E_coarse, "composed, $Z$": Z}
assert len(np.unique(Z, axis=0)) == len(np.unique(S_coarse.toarray(), axis=0)), "as many different rows as assignments"
heat_maps(panels, row_names={"assignment $S$": names}, height=5.8)

# %% [markdown]
# Left: two dark cells in every row. In the middle: the four codebook rows, stretched to the same height (orange is negative, violet positive, zero is white; each panel has its own scale, below it). Right: the 32 composed rows, in the same order as on the left. Entities with the same two codebook rows have the same row on the right, to the last digit; nothing else tells them apart yet. (Propagation will: it mixes in the neighbours, who differ.)
#
# What does it save? A table with its own row for every entity holds $N d$ numbers. The codebook holds $C d$, and the assignment $t$ weights and $t$ column numbers for each entity. On the scale of a real catalogue (70,000 entities, $d = 128$, $C = 300$, $t = 2$):

# %%
own_rows = 70_000 * 128
shared = 300 * 128 + 70_000 * 2 * 2
print(f"{own_rows:,} numbers against {shared:,}: {own_rows / shared:.0f} times less")
assert own_rows == 8_960_000 and shared == 318_400 and round(own_rows / shared) == 28

# %% [markdown]
# ## The mathematics
#
# **Composition.** With $S$ of shape $N \times C$ (sparse) and $E$ of shape $C \times d$,
#
# $$Y = S E, \qquad Z = \tanh(Y) \quad\text{(entry by entry)},$$
#
# both of shape $N \times d$. The $\tanh$ keeps every entry between $-1$ and $1$. By hand, with three entities, two codebook rows and one column:
#
# $$S = \begin{pmatrix} 1 & 0\\ \tfrac12 & \tfrac12\\ 0 & 1\end{pmatrix},\quad E = \begin{pmatrix}1\\-1\end{pmatrix},\quad Y = \begin{pmatrix}1\\0\\-1\end{pmatrix},\quad Z = \begin{pmatrix}\tanh 1\\0\\-\tanh 1\end{pmatrix} \approx \begin{pmatrix}0.762\\0\\-0.762\end{pmatrix}.$$

# %%
S3, E3 = sparse.csr_array(np.array([[1, 0], [0.5, 0.5], [0, 1]])), np.array([[1.0], [-1.0]])
assert np.allclose(compose(S3, E3)[:, 0], [0.762, 0, -0.762], atol=5e-4)

# %% [markdown]
# **The derivative of tanh from its output.** $\tanh = \sinh / \cosh$, with $\sinh' = \cosh$, $\cosh' = \sinh$ and $\cosh^2 - \sinh^2 = 1$. By the quotient rule,
#
# $$\tanh' = \frac{\cosh\cdot\cosh - \sinh\cdot\sinh}{\cosh^2} = 1 - \frac{\sinh^2}{\cosh^2} = 1 - \tanh^2 .$$
#
# So whoever has kept $Z$ needs no $\tanh$ in the backward pass: the slope is $1 - Z^2$. $Z$ is kept anyway, because the next step uses it; $Y$ can be overwritten.
#
# **Bridging.** In the second stage of training, $E_c$ (the codebook from above, now with its name) is frozen, and refined by a few fine rows. $F$ is the thresholded fine codebook, $M \times d$, and $S_f$ a second assignment, $C \times M$: which fine rows does each coarse row listen to? The *bridge weight* or *gate* $g$, a number between 0 and 1, says how much:
#
# $$\hat E = g\, S_f F + (1 - g)\, E_c .$$
#
# By hand, one coarse row, two fine rows, one column: $E_c = 10$, $S_f = (\tfrac12, \tfrac12)$, $F = (2, 4)^T$, $g = 0.2$. Then $S_f F = 3$ and $\hat E = 0.2\cdot 3 + 0.8\cdot 10 = 8.6$.

# %%
hand = {"E_coarse": np.array([[10.0]]), "S_fine": sparse.csr_array(np.array([[0.5, 0.5]])), "F": np.array([[2.0], [4.0]])}
assert np.isclose(bridge(**hand, gate=0.2)[0, 0], 8.6)

# %% [markdown]
# Move the gate (with a running kernel). At $g = 0$ the right picture is the left one; at $g = 1$ it is the middle one. The picture below it is $g = 0.2$, the model's value.

# %%
rng = np.random.default_rng(3)
fine_parts = partition_entities(R, M, method="coclustering")
S_fine = start_fine_assignment(S_coarse, fine_parts, M, 2)
F = soft_threshold(rng.normal(0, 1.5, (M, d)), 1.0)
refined = S_fine @ F
assert np.mean(F == 0) > 0.2, "the threshold has made zeros"


def at_gate(gate):
    display(codebooks(E_coarse, refined, bridge(E_coarse, S_fine, F, gate), gate))


widgets.interact(at_gate, gate=widgets.FloatSlider(value=0.5, min=0, max=1, step=0.05, continuous_update=False));

# %%
codebooks(E_coarse, refined, bridge(E_coarse, S_fine, F, 0.2), 0.2)

# %% [markdown]
# ## Forward
#
# Both are a line. (`operator` makes of a sparse matrix what notebook 02 used: `forward` multiplies by the matrix, `adjoint` by its transpose.)

# %%
print(inspect.getsource(compose))
print(inspect.getsource(bridge))

# %% [markdown]
# ## Backward
#
# ### Composition, with respect to the codebook and to the weights
#
# Two steps forwards, so two steps backwards, in the other order. Given $G_Z$:
#
# 1. through $Z = \tanh(Y)$, entry by entry: $G_Y = G_Z \cdot (1 - Z^2)$;
# 2. through $Y = S E$, a sparse product: $G_E = S^T G_Y$, and for a stored weight $(G_S)_{ij} = \langle \text{row } i \text{ of } G_Y,\ \text{row } j \text{ of } E\rangle$.
#
# In words: a codebook row collects from *all* entities that use it, each with the weight of its use. That is how 32 entities train four rows.
#
# For the small example with $G_Z = (1, 1, 2)^T$: the slopes are $1 - \tanh^2 1 = s \approx 0.420$, then $1$, then $s$ again. $G_Y = (s, 1, 2s)^T$, and $G_E = (s + \tfrac12,\ \tfrac12 + 2s)^T$. The weight in the middle row, first column: $G_Y$ of row 2 times $E$ of row 1, i.e. $1 \cdot 1 = 1$.

# %%
s, G_Z, Z3 = 1 - np.tanh(1.0) ** 2, np.array([[1.0], [1.0], [2.0]]), compose(S3, E3)
assert round(s, 3) == 0.420
assert np.allclose(compose_backward(G_Z, S3, Z3), [[s + 0.5], [0.5 + 2 * s]])
grad_S = compose_backward_assignment(G_Z, S3, E3, Z3)
assert grad_S.nnz == 4 and np.isclose(grad_S[1, 0], 1.0)

# %%
print(inspect.getsource(compose_backward))
print(inspect.getsource(tanh_backward))

# %% [markdown]
# What do the gradients of the stored weights say? Let us say that the first woman should be like the second of her two codebook rows alone, and everybody else should stay as they are. That is a target $Z^\star$ and a loss $\frac12 |Z - Z^\star|^2$, whose cotangent is $G_Z = Z - Z^\star$. One step downhill on the weights:

# %%
first, second = S_coarse.indices[:2]
target = Z.copy()
target[0] = np.tanh(E_coarse[second])
grad_S = compose_backward_assignment(Z - target, S_coarse, E_coarse, Z)
S_after = sparse.csr_array((S_coarse.data - 0.2 * grad_S.data, S_coarse.indices, S_coarse.indptr), shape=S_coarse.shape)
loss = [np.sum((compose(S, E_coarse) - target) ** 2) / 2 for S in (S_coarse, S_after)]
assert loss[1] < loss[0]
assert S_after[0, second] > S_after[0, first], "the second of her rows now weighs more than the first; both were one half"


def stored_only(S):
    """Dense, with NaN where nothing is stored."""
    dense = np.full(S.shape, np.nan)
    dense[np.repeat(np.arange(S.shape[0]), np.diff(S.indptr)), S.indices] = S.data
    return dense


top = slice(0, 6)
before_and_after(
    stored_only(S_coarse)[top], stored_only(S_after)[top], row_names=names[top], titles=("before the step", "after it")
)

# %% [markdown]
# Six of the 32 rows. The crosses are entries that are not stored: they have no gradient, and no step can bring them to life. *Which* codebook rows an entity uses is the structure of the model; only *how much* is a weight. (In training the model does not even use these gradients: it replaces the whole assignment now and then by a least-squares fit. That is the subject of another notebook.) Only the first woman's weights have moved, since only her row of the cotangent is not zero:

# %%
changed = np.flatnonzero(np.abs((S_after - S_coarse).toarray()).sum(axis=1))
assert np.array_equal(changed, [0])

# %% [markdown]
# ### Used twice: gradients add
#
# In the coarse stage the codebook is used in two places: entities are composed from it, *and* its rows are nodes of the graph themselves. Propagation starts from both, stacked:
#
# $$X_0 = \begin{pmatrix}\tanh(S_c E_c)\\ E_c\end{pmatrix}.$$
#
# If a change $\mathrm dE_c$ changes two things, the loss changes by the sum of both consequences: $\langle G_1, \text{first change}\rangle + \langle G_2, \text{second change}\rangle$. Each inner product can be brought into the form $\langle \cdot, \mathrm dE_c\rangle$ by its own transpose, and the brackets add up. Cut the cotangent of $X_0$ into its first $N$ rows and its last $C$:
#
# $$G_{E_c} = S_c^T\left(G_{X_0}^{\text{top}} \cdot (1 - Z^2)\right) + G_{X_0}^{\text{bottom}}.$$

# %%
def above_backward(grad_X0, S, E):
    top, bottom = grad_X0[: S.shape[0]], grad_X0[S.shape[0] :]
    return {"grad_E": compose_backward(top, S, compose(S, E)) + bottom}


twice = check_gradients(compose_above, above_backward, {"S": S_coarse, "E": E_coarse}, wrt="E", name="[tanh(S E); E]")
assert twice.passed
twice

# %% [markdown]
# ### The bridge, with respect to all four
#
# $\hat E = g\, S_f F + (1-g)\, E_c$ is linear in each of its four arguments while the others stand still. With the cotangent $G$ at $\hat E$:
#
# - $E_c$ is multiplied by the number $1 - g$: $\quad G_{E_c} = (1-g)\, G$.
# - $F$ is multiplied by the matrix $g S_f$: $\quad G_F = g\, S_f^T G$.
# - $S_f$: the cotangent at the product $S_f F$ is $g G$, so at a stored entry $\quad (G_{S_f})_{ij} = g\, \langle \text{row } i \text{ of } G,\ \text{row } j \text{ of } F\rangle$.
# - $g$ stands in two places. Sort by $g$: $\hat E = E_c + g\,(S_f F - E_c)$. So $\mathrm d\hat E = (S_f F - E_c)\,\mathrm dg$, and $\mathrm d\ell = \langle G, S_f F - E_c\rangle\, \mathrm dg$: $\quad G_g = \sum_{if} G_{if}\, (S_f F - E_c)_{if}$.
#
# The last one says: a larger gate is good if the fine codebook's opinion differs from the coarse one's in the direction in which the loss falls. For the example by hand with $G = 2$: $G_{E_c} = 1.6$, $G_F = 0.2\cdot(\tfrac12,\tfrac12)^T\cdot 2 = (0.2, 0.2)^T$, $G_{S_f} = 0.2\cdot 2\cdot (2, 4) = (0.8, 1.6)$, $G_g = 2\,(3 - 10) = -14$.

# %%
G1 = np.array([[2.0]])
to_coarse, to_F = bridge_backward(G1, hand["S_fine"], 0.2)
assert np.allclose(to_coarse, 1.6) and np.allclose(to_F, 0.2)
assert np.allclose(bridge_backward_assignment(G1, hand["S_fine"], hand["F"], 0.2).data, [0.8, 1.6])
assert np.isclose(bridge_backward_gate(G1, **hand), -14)

# %%
for function in (bridge_backward, bridge_backward_gate, bridge_backward_assignment):
    print(inspect.getsource(function))

# %% [markdown]
# ### The bridged layer
#
# The fine stage propagates over a graph with three kinds of nodes: $N$ entities, $C$ coarse and $M$ fine ones. $\hat X$ is its normalised matrix: entities are linked as before, an entity with its coarse rows by $S_c$, a coarse row with its fine rows by $S_f$:
#
# $$\hat X = \operatorname{norm}\begin{pmatrix} A & S_c & 0\\ S_c^T & 0 & S_f\\ 0 & S_f^T & 0\end{pmatrix}, \qquad \operatorname{norm}(B) = D^{-1/2} B D^{-1/2} \text{ with the row sums of } B \text{ in } D.$$
#
# It is symmetric, with $N + C + M$ rows. A layer first mixes neighbours, $Y = \hat X X$. Then, and this is new, it applies the bridge *inside* the layer. Cut $Y$ into its entity rows $h$, coarse rows $p$ and fine rows $q$. The released code does
#
# ```text
# (1)  h <- h - S_c p
# (2)  p <- p - S_f q
# (3)  p <- g S_f q + (1 - g) p
# (4)  h <- h + S_c p
# ```
#
# and the next layer's input is $[h; p; q]$. In words: take out of the entities what they have from the coarse rows (1); take out of the coarse rows what they have from the fine ones (2); mix the fine ones back in with the gate (3); put the new coarse rows back into the entities (4).
#
# **By hand**, with one node of each kind and one column. Let all edges of $\hat X$ be 1, $S_c = 1$, $S_f = 0.5$, $g = 0.2$, and start from $(h, p, q) = (1, 2, 3)$:
#
# $$Y = \begin{pmatrix}0&1&0\\1&0&1\\0&1&0\end{pmatrix}\begin{pmatrix}1\\2\\3\end{pmatrix} = \begin{pmatrix}2\\4\\2\end{pmatrix};\quad h = 2 - 4 = -2;\quad p = 4 - 0.5\cdot2 = 3;\quad p = 0.2\cdot 0.5\cdot 2 + 0.8 \cdot 3 = 2.6;\quad h = -2 + 2.6 = 0.6.$$
#
# The layer has made $(0.6,\ 2.6,\ 2)$ of $(1, 2, 3)$.

# %%
engines = {name: engine_named(name) for name in ("numpy", "numba")}
bridged_layer = functools.partial(propagation.bridged_layer, engine=engines["numpy"])

path = sparse.csr_array(np.array([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]))
three = bridged_layer(path, sparse.csr_array([[1.0]]), sparse.csr_array([[0.5]]), 0.2)
x = np.array([[1.0], [2.0], [3.0]])
assert np.allclose(three.forward(x)[:, 0], [0.6, 2.6, 2.0])

# %% [markdown]
# **Each line is a matrix.** A program that overwrites its variables looks nothing like a formula, but each of its lines is a linear map of the *state* $(h, p, q)$ before the line to the state after it. Written as blocks (the identity where nothing happens):
#
# $$L_1 = \begin{pmatrix} I & -S_c & 0\\ 0 & I & 0\\ 0&0&I\end{pmatrix},\quad L_2 = \begin{pmatrix} I & 0 & 0\\ 0 & I & -S_f\\ 0&0&I\end{pmatrix},\quad L_3 = \begin{pmatrix} I & 0 & 0\\ 0 & (1-g) I & g S_f\\ 0&0&I\end{pmatrix},\quad L_4 = \begin{pmatrix} I & S_c & 0\\ 0 & I & 0\\ 0&0&I\end{pmatrix}.$$
#
# A layer is $X_{k+1} = T X_k$ with $T = L_4 L_3 L_2 L_1 \hat X$: what is done first stands on the right. (Multiplied out, $h \leftarrow h + S_c\,((2g-1) S_f q - g p)$ and $p \leftarrow (1-g)\,p + (2g-1)\,S_f q$; the compiled version uses that.)
#
# **The transpose.** A transpose turns the order round:
#
# $$T^T = \hat X^T L_1^T L_2^T L_3^T L_4^T .$$
#
# Now the *last* line stands on the right, so it is done first. Each factor is transposed by itself. Let $(G_h, G_p, G_q)$ be the cotangent at the layer's output.
#
# *Line (4),* $h \leftarrow h + S_c p$. The block $S_c$ stood in row $h$, column $p$ of $L_4$; in $L_4^T$ its transpose stands in row $p$, column $h$:
#
# $$G_p \leftarrow G_p + S_c^T G_h, \qquad G_h, G_q \text{ stay.}$$
#
# Forwards $h$ received from $p$, backwards $p$ receives from $h$. Note what does *not* happen: $h$ keeps its cotangent, because $h$ also stood on the right side of the line.
#
# *Line (3),* $p \leftarrow g S_f q + (1-g)\, p$. Both blocks are in row $p$, so both receive from $G_p$, as it is *before* this line:
#
# $$G_q \leftarrow G_q + g\, S_f^T G_p, \qquad\text{then}\qquad G_p \leftarrow (1-g)\, G_p .$$
#
# The order of the two statements matters: the other way round, $q$ would receive from a $G_p$ that has been scaled already.
#
# *Line (2),* $p \leftarrow p - S_f q$: $\qquad G_q \leftarrow G_q - S_f^T G_p$.
#
# *Line (1),* $h \leftarrow h - S_c p$: $\qquad G_p \leftarrow G_p - S_c^T G_h$.
#
# *The product,* $Y = \hat X X$: $\qquad G_X = \hat X^T\, [G_h; G_p; G_q]$.
#
# Two things can be saved. $G_h$ is never changed by the four lines, so $a = S_c^T G_h$ is computed once and used twice, with a plus in (4) and a minus in (1). And $G_q$ receives $g S_f^T G_p$ in (3) and $-(1-g) S_f^T G_p$ in (2), for the same $G_p$ (the one after line 4): together $(2g - 1)\, S_f^T G_p$, one product instead of two. That is how the package writes it.

# %%
print(inspect.getsource(BridgedLayer.adjoint))

# %% [markdown]
# **By hand**, cotangent $(1, 1, 1)$: line (4) makes $G_p = 1 + 1 = 2$. Line (3): $G_q = 1 + 0.2\cdot0.5\cdot2 = 1.2$, then $G_p = 0.8\cdot2 = 1.6$. Line (2): $G_q = 1.2 - 0.5\cdot 1.6 = 0.4$. Line (1): $G_p = 1.6 - 1 = 0.6$. And $\hat X^T (1, 0.6, 0.4)^T = (0.6,\ 1.4,\ 0.6)^T$. The adjoint identity on paper: $\langle T x, y\rangle = 0.6 + 2.6 + 2 = 5.2$ and $\langle x, T^T y\rangle = 0.6 + 2\cdot1.4 + 3\cdot0.6 = 5.2$.

# %%
back = three.adjoint(np.ones((3, 1)))
assert np.allclose(back[:, 0], [0.6, 1.4, 0.6])
assert np.isclose(np.sum(three.forward(x)), 5.2) and np.isclose(np.sum(x * back), 5.2)

# %% [markdown]
# **T is not symmetric**, although $\hat X$ is. We can look at both: feed the unit vectors into the layer and collect what comes out. And feed them into the backward: that must be the transpose, entry for entry.

# %%
A = normalised_adjacency(R)
X_hat = expanded_graph(A, S_coarse, S_fine)
raw = bridged_layer(X_hat, S_coarse, S_fine, 0.2)
unit = np.eye(n + C + M)
T, T_back = raw.forward(unit), raw.adjoint(unit)
assert abs(X_hat - X_hat.T).max() == 0
assert np.abs(T - T.T).max() > 0.01 * np.abs(T).max(), "not symmetric"
assert np.allclose(T_back, T.T, rtol=0, atol=1e-15), "the backward is the transpose"
shown = {r"the graph, $\hat{X}$": X_hat.toarray(), r"added by the lines, $T - \hat{X}$": T - X_hat, "$T - T^T$": T - T_back}
block_matrices(shown, {"entities": n, "coarse": C, "fine": M})

# %% [markdown]
# Each panel has a scale of its own. Left, the graph: its own mirror image in the diagonal. In the middle, what the four lines add to it: negative numbers (orange) in the rows of the entities, the largest in the narrow columns of the coarse nodes. Right, $T$ minus what the backward applies: a symmetric layer would leave this panel white. That is what a forgotten transpose would get wrong.
#
# Something else can be read off the formula $p \leftarrow (1-g)\,p + (2g-1)\, S_f q$. At the model's $g = 0.2$ the factor of the fine message is $2\cdot 0.2 - 1 = -0.6$: the fine rows are not mixed in, they are *subtracted*. Line (2) takes out $S_f q$ with the weight 1, though the message that came in had the smaller, normalised weight of the graph. Whether the authors meant this, we do not know. Their paper's words suggest something else:
#
# ### Another reading: exchange
#
# "Exchange the coarse node's message for the bridged one" can be taken at its word. The message that entities receive from the coarse rows is $K p_k$, where $K = \hat X[\text{entities}, \text{coarse}]$ holds the weights by which it really travels, and $p_k$, $q_k$ are the coarse and fine rows of the layer's *input*. Take out $K p_k$, put in $K (g\, S_f q_k + (1-g)\, p_k)$:
#
# $$h \leftarrow Y_h + g K (S_f q_k - p_k), \qquad p \leftarrow Y_p, \qquad q \leftarrow Y_q .$$
#
# As a matrix it is a sum of two maps of the same input, and the transpose of a sum is the sum of the transposes:
#
# $$T = \hat X + \begin{pmatrix} 0 & -gK & gK S_f\\ 0&0&0\\0&0&0\end{pmatrix}, \qquad T^T = \hat X^T + \begin{pmatrix} 0&0&0\\ -gK^T & 0 & 0\\ g S_f^T K^T & 0 & 0\end{pmatrix}.$$
#
# So with $a = K^T G_h$: $G_X = \hat X^T G$, then the coarse rows of $G_X$ get $-g\,a$ and the fine rows $g\, S_f^T a$. The package has both (`layer_bridge="raw"` and `"exchange"`); the presets `paper` and `staged` take the second.

# %%
exchange = bridged_layer(X_hat, S_coarse, S_fine, 0.2, layer_bridge="exchange")
T_exchange = exchange.forward(unit)
K = X_hat[:n, n : n + C].toarray()
assert np.allclose(T_exchange[:n, n : n + C], (1 - 0.2) * K) and np.allclose(T_exchange[:n, n + C :], 0.2 * K @ S_fine)
assert np.allclose(exchange.adjoint(unit), T_exchange.T, rtol=0, atol=1e-15)

# %% [markdown]
# ### L layers, and the gate inside them
#
# Around the layer everything is as in `02_sparse_propagation`, with $T$ in the place of $\hat X$: $H$ is the mean of $X_0, \dots, X_L$, and $G_L = \frac{G}{L+1}$, $G_k = \frac{G}{L+1} + T^T G_{k+1}$. Still linear, still nothing stored. Only now $T^T$ is really another function than $T$.
#
# Propagation starts from $X_0 = [\tanh(S_c E_c);\ \hat E;\ \tanh F]$, so that $F$, too, is used twice: in the bridge, and as the fine nodes' own start. By the rule of two ways, with the three blocks of the cotangent at $X_0$, $G_F = g\, S_f^T G_{\hat E} + G_{\tanh F}\cdot(1 - \tanh^2 F)$.
#
# The gate is another matter: $g$ is *inside* $T$, so that $H$ is a polynomial in $g$. One layer shows how it goes. For the raw layer write $c = (2g-1) S_f q - g p$ for the change that the four lines make, $p \leftarrow p + c$ and $h \leftarrow h + S_c c$ (here $p$ and $q$ are rows of $Y$). Then $c$ is used twice, $G_c = G_p + S_c^T G_h$, and $\partial c/\partial g = 2 S_f q - p$ gives $G_g = \langle G_c,\ 2 S_f q - p\rangle$. (The gradients of several layers add up.) It needs the layer's input, so the layers are computed again for it; training keeps $g$ fixed and never asks.
#
# ## Predict
#
# A student derives the raw layer's backward and forgets that $q$ receives anything at all: $G_q$ stays as it came. The check runs at $g = 0.5$, because a gate in the middle seems a fair choice. **What adjoint gap do you expect? And at $g = 0.2$?**
#
# <details><summary>Answer</summary>
#
# At $g = 0.5$ about $10^{-16}$, a clean pass. What $q$ should have received is $(2g-1)\, S_f^T G_p$, and $2g - 1 = 0$. The mistake is invisible at exactly this gate, and only there; at $g = 0.2$ the gap is plain. Round numbers make good examples and bad tests: $g = 0.5$, identity matrices, square shapes, cotangents of ones. A test point should have nothing special about it.
# </details>

# %%
def forgets_q(G, layer):
    """The raw layer's backward without the line of q."""
    S_c, g = layer.S_coarse.matrix, layer.gate
    h, p, q = np.split(G, [n, n + C])
    p = (1 - g) * (p + S_c.T @ h) - S_c.T @ h
    return layer.X_hat.matrix.T @ np.concatenate([h, p, q])


def gap(backward, gate):
    layer = bridged_layer(X_hat, S_coarse, S_fine, gate)
    x, y = np.random.default_rng(4).standard_normal((2, n + C + M, d))
    return float(adjoint_gap(layer.forward, lambda y: backward(y, layer), x, y))


print(f"without the line of q: gap {gap(forgets_q, 0.5):.0e} at 0.5, {gap(forgets_q, 0.2):.0e} at 0.2")
assert gap(forgets_q, 0.5) < 1e-14 and gap(forgets_q, 0.2) > 1e-4
assert gap(lambda y, layer: layer.adjoint(y), 0.2) < 1e-14

# %% [markdown]
# ## Check
#
# Composition with respect to both arguments; the bridge with respect to all four. (What the columns mean: `01_checking_a_gradient`.)

# %%
def compose_both(grad_Z, S, E, output):
    return {"grad_S": compose_backward_assignment(grad_Z, S, E, output), "grad_E": compose_backward(grad_Z, S, output)}


composition = check_gradients(compose, compose_both, {"S": S_coarse, "E": E_coarse}, name="compose")
assert composition.passed
composition

# %%
def bridge_all(grad_E_hat, E_coarse, S_fine, F, gate):
    grad_E_coarse, grad_F = bridge_backward(grad_E_hat, S_fine, gate)
    return {
        "grad_E_coarse": grad_E_coarse,
        "grad_S_fine": bridge_backward_assignment(grad_E_hat, S_fine, F, gate),
        "grad_F": grad_F,
        "grad_gate": bridge_backward_gate(grad_E_hat, E_coarse, S_fine, F),
    }


point = {"E_coarse": E_coarse, "S_fine": S_fine, "F": rng.standard_normal((M, d)), "gate": 0.2}
bridging = check_gradients(bridge, bridge_all, point, linear_in=tuple(point), name="bridge")
assert bridging.passed
bridging

# %% [markdown]
# In the column of the Taylor rate, *linear* everywhere in the second table, also for the gate: the bridge is linear in each argument alone. In the first table the codebook and the weights stand inside $\tanh$, and the rate is 2: what a correct gradient leaves over falls with the square of the step.
#
# Now the layers, both readings, on a "graph" of random numbers that is not symmetric, so that the transpose of $\hat X$ itself is under test, too.

# %%
W = sparse.csr_array(np.where(rng.random((n + C + M,) * 2) < 0.2, rng.normal(0, 0.3, (n + C + M,) * 2), 0))
reports = {}
for reading in ("raw", "exchange"):

    def forward(X0, W, reading=reading):
        S_c, S_f = (S.astype(W.dtype) for S in (S_coarse, S_fine))
        return propagate(X0, bridged_layer(W, S_c, S_f, 0.2, layer_bridge=reading), 3)

    def backward(grad_H, W, reading=reading):
        S_c, S_f = (S.astype(W.dtype) for S in (S_coarse, S_fine))
        return propagate_backward(grad_H, bridged_layer(W, S_c, S_f, 0.2, layer_bridge=reading), 3)

    point = {"X0": rng.standard_normal((n + C + M, 2)), "W": W}
    reports[reading] = check_gradients(forward, backward, point, wrt="X0", linear_in="X0", name=f"3 layers, {reading}")
    assert reports[reading].passed and reports[reading].verdict("adjoint", "X0").figure < 1e-14
reports["raw"]

# %%
reports["exchange"]

# %% [markdown]
# And what a layer is made of: the weights of both assignments, and the gate.

# %%
X = rng.standard_normal((n + C + M, 2))


def layer(S_coarse, S_fine, gate):
    kind = np.result_type(S_coarse, S_fine, gate)  # all of one kind, so that a complex step can be taken in each of them
    S_c, S_f, graph = (matrix.astype(kind) for matrix in (S_coarse, S_fine, W))
    return bridged_layer(graph, S_c, S_f, gate).forward(X.astype(kind))


def layer_structure(grad_next, S_coarse, S_fine, gate):
    layer = bridged_layer(W, S_coarse, S_fine, gate)
    found = layer.structure_gradients(grad_next, X)  # of matrices the gradients of the stored weights
    of_matrices = {name: getattr(layer, name).with_weights(found[name]) for name in ("S_coarse", "S_fine")}
    return of_matrices | {"gate": found["gate"]}


point = {"S_coarse": S_coarse, "S_fine": S_fine, "gate": 0.2}
structure = check_gradients(layer, layer_structure, point, name="inside a layer", dtypes=("float64",))
assert structure.passed
structure

# %% [markdown]
# ## Faster
#
# The compiled versions: composition's backward gathers for each codebook row from the entities that use it, without forming $G_Z \cdot (1 - Z^2)$; a raw layer uses the multiplied-out form with one product less. MovieLens 100K if you have it, the planted data otherwise; 100 coarse and 40 fine rows, $d = 64$, single precision. They agree to rounding, and the ratios are your machine's.

# %%
big = load_dataset("ml-100k" if cached("ml-100k") else "planted")
size, C_big, M_big = sum(big.train.shape), 100, 40
generator = np.random.default_rng(5)
S_c = start_coarse_assignment(generator.integers(0, C_big, size), C_big, 2, 0.5, generator).astype(np.float32)
S_f = start_fine_assignment(S_c, generator.integers(0, M_big, size), M_big, 4).astype(np.float32)
graph = expanded_graph(normalised_adjacency(big.train, dtype=np.float32), S_c, S_f)
layers = {name: bridged_layer(graph, S_c, S_f, 0.2, engine=engine) for name, engine in engines.items()}
book = generator.standard_normal((C_big, 64)).astype(np.float32)
X_big = generator.standard_normal((size + C_big + M_big, 64)).astype(np.float32)
Z_big = compose(S_c, book)
jobs = {
    "compose": lambda name: engines[name].compose(layers[name].S_coarse, book),
    "compose, backward": lambda name: engines[name].compose_backward(X_big[:size], layers[name].S_coarse, Z_big),
    "3 bridged layers": lambda name: engines[name].propagate(X_big, layers[name], 3),
    "3 bridged layers, backward": lambda name: engines[name].propagate_backward(X_big, layers[name], 3),
}
for name, job in jobs.items():
    slow, fast = job("numpy"), job("numba")
    assert np.abs(slow - fast).max() < 1e-4 * np.abs(slow).max(), name
print(f"{big.name}: {size:,} entities; NumPy and Numba agree on {len(jobs)} jobs")

# %%
def best_of(work, n=12):
    """Seconds of the fastest of n calls."""
    times = []
    for _ in range(n):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


# %%
for name, job in jobs.items():
    ratio = best_of(lambda job=job: job("numpy")) / best_of(lambda job=job: job("numba"))
    print(f"{name:<28} NumPy and SciPy take {ratio:4.1f} times as long")
    assert ratio > 0

# %% [markdown]
# ## Exercises
#
# Every backward of this notebook, to be written without looking. The checker compares with differences of the forward and knows the usual mistakes by name.
#
# ### 1. Compose: the codebook

# %%
task = exercise("compose_backward")
task


# %%
def my_compose_backward(grad_Z, S, E):
    raise NotImplementedError


task.check(my_compose_backward);

# %%
# print(task.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def compose_backward(grad_Z, S, E):
#     Z = np.tanh(S @ E)
#     return S.T @ (grad_Z * (1 - Z**2))
# ```
# </details>
#
# ### 2. Compose: the stored weights

# %%
task = exercise("compose_backward_assignment")
task


# %%
def my_compose_backward_assignment(grad_Z, S, E):
    raise NotImplementedError


task.check(my_compose_backward_assignment);

# %%
# print(task.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def compose_backward_assignment(grad_Z, S, E):
#     Z = np.tanh(S @ E)
#     grad_Y = grad_Z * (1 - Z**2)
#     rows = np.repeat(np.arange(S.shape[0]), np.diff(S.indptr))  # the row number of every stored entry
#     values = np.sum(grad_Y[rows] * E[S.indices], axis=1)
#     return sparse.csr_array((values, S.indices, S.indptr), shape=S.shape)
# ```
# </details>
#
# ### 3. A codebook used twice

# %%
task = exercise("compose_above_backward")
task


# %%
def my_compose_above_backward(grad_X0, S, E):
    raise NotImplementedError


task.check(my_compose_above_backward);

# %%
# print(task.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def compose_above_backward(grad_X0, S, E):
#     n = S.shape[0]
#     Z = np.tanh(S @ E)
#     return S.T @ (grad_X0[:n] * (1 - Z**2)) + grad_X0[n:]  # two ways out, one sum back
# ```
# </details>
#
# ### 4. The bridge: both codebooks

# %%
task = exercise("bridge_backward")
task


# %%
def my_bridge_backward(grad_E_hat, E_coarse, S_fine, F, gate):
    raise NotImplementedError


task.check(my_bridge_backward);

# %%
# print(task.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def bridge_backward(grad_E_hat, E_coarse, S_fine, F, gate):
#     grad_E_coarse = (1 - gate) * grad_E_hat
#     grad_F = gate * (S_fine.T @ grad_E_hat)
#     return grad_E_coarse, grad_F
# ```
# </details>
#
# ### 5. The bridge: the gate

# %%
task = exercise("bridge_backward_gate")
task


# %%
def my_bridge_backward_gate(grad_E_hat, E_coarse, S_fine, F, gate):
    raise NotImplementedError


task.check(my_bridge_backward_gate);

# %%
# print(task.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def bridge_backward_gate(grad_E_hat, E_coarse, S_fine, F, gate):
#     return np.sum(grad_E_hat * (S_fine @ F - E_coarse))
# ```
# </details>
#
# ### 6. The bridge: the stored weights

# %%
task = exercise("bridge_backward_assignment")
task


# %%
def my_bridge_backward_assignment(grad_E_hat, E_coarse, S_fine, F, gate):
    raise NotImplementedError


task.check(my_bridge_backward_assignment);

# %%
# print(task.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def bridge_backward_assignment(grad_E_hat, E_coarse, S_fine, F, gate):
#     rows = np.repeat(np.arange(S_fine.shape[0]), np.diff(S_fine.indptr))
#     values = gate * np.sum(grad_E_hat[rows] * F[S_fine.indices], axis=1)
#     return sparse.csr_array((values, S_fine.indices, S_fine.indptr), shape=S_fine.shape)
# ```
# </details>
#
# ### 7. The bridged layer
#
# The one to do on paper first: four lines, transposed one by one, from the last to the first.

# %%
task = exercise("bridged_layer_backward")
task


# %%
def my_bridged_layer_backward(grad_next, X, X_hat, S_coarse, S_fine, gate):
    raise NotImplementedError


task.check(my_bridged_layer_backward);

# %%
# print(task.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def bridged_layer_backward(grad_next, X, X_hat, S_coarse, S_fine, gate):
#     n, c = S_coarse.shape
#     h, p, q = grad_next[:n], grad_next[n : n + c], grad_next[n + c :]
#     p = p + S_coarse.T @ h  # h <- h + S_c p
#     q = q + gate * (S_fine.T @ p)  # p <- g S_f q + (1 - g) p, with the p from before the next line
#     p = (1 - gate) * p
#     q = q - S_fine.T @ p  # p <- p - S_f q
#     p = p - S_coarse.T @ h  # h <- h - S_c p
#     return X_hat.T @ np.concatenate([h, p, q])  # Y = X_hat X
# ```
# </details>
#
# ### 8. The layer that exchanges

# %%
task = exercise("bridged_layer_exchange_backward")
task


# %%
def my_bridged_layer_exchange_backward(grad_next, X, X_hat, S_coarse, S_fine, gate):
    raise NotImplementedError


task.check(my_bridged_layer_exchange_backward);

# %%
# print(task.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def bridged_layer_exchange_backward(grad_next, X, X_hat, S_coarse, S_fine, gate):
#     n, c = S_coarse.shape
#     message = X_hat[:n, n : n + c]
#     grad_X = X_hat.T @ grad_next  # Y = X_hat X
#     grad_difference = gate * (message.T @ grad_next[:n])  # h <- Y_h + g K (S_f q - p)
#     grad_X[n : n + c] -= grad_difference
#     grad_X[n + c :] += S_fine.T @ grad_difference
#     return grad_X
# ```
# </details>
#
# ### 9. To think about
#
# In the fine stage $E_c$ and $S_c$ are frozen, so $\tanh(S_c E_c)$ is a constant. The only thing that changes from step to step is $F$. Propagation is linear. What could be computed once, and for how long does it stay valid?
#
# <details><summary>Answer</summary>
#
# $X_0 = [\tanh(S_c E_c);\ g S_f F + (1-g) E_c;\ \tanh F]$ and $H = P X_0$ with a fixed linear $P$. Everything in it that does not hold $F$ can be propagated once, and the parts that multiply $F$ and $\tanh F$ as well: $H_{\text{entities}} = K + W_1 F + W_2 \tanh F$ with fixed $K$, $W_1$, $W_2$. They stay valid until $S_f$ (and so $P$) changes. The whole propagation of a step shrinks to two small dense products. The notebook on the collapse does it.
# </details>
#
# ## Read next
#
# - `05_loss_and_optimiser`: what the embeddings are for, and where the first cotangent comes from.
# - `docs/model.md`, sections *coarse stage* and *fine stage*, for the same derivations in short.
# - The model: Wang et al., *Coarse-to-Fine Lightweight Meta-Embedding for ID-Based Recommendation* (arXiv 2501.11870); its ancestor: Liang et al. (arXiv 2403.18479).
