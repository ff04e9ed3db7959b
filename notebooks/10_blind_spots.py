# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 10 · Blind spots
#
# *Reading: 25 minutes. Exercises: 3.*
#
# ## What you will do
#
# Until now you have written right code and watched it pass. Here the roles are reversed: **you write the test**, and it is tried on right code, written in several ways, which it must accept, and on wrong code, which it must reject. Then seven blind spots of a gradient check: for each a real mistake slips through a test that looks reasonable, and the test is repaired. At the end the package is broken on purpose, mistake by mistake, to see which check notices.
#
# **You need** notebook 01, and the operations of the model as they are met in the notebooks between (each is recalled in a line where it is used). Symbols are on [one page](symbols.md).

# %%
import math

import numpy as np
import scipy.sparse as sparse

from c2f_np.course import exercise
from c2f_np.data import southern_women_split
from c2f_np.gradcheck import check_gradients, numerical_gradient
from c2f_np.model import codebook, graph, links, loss, propagation
from c2f_np.model.loss import Triples
from c2f_np.plotting import computation
from c2f_np.plotting.checks import caught_picture
from c2f_np.verification.mutants import MUTANTS, Mutant, applied, kill

# %% [markdown]
# ## The idea
#
# A test looks at a function in a few points, with a few cotangents, and sees nothing beside them. The numbers $\begin{pmatrix}0&2\\2&0\end{pmatrix}$ are a fine matrix $M$ to test a product $y=Mx$ with, except that $M^\top=M$: whoever forgets the transpose in the backward gets the right answer. With $\begin{pmatrix}0&1\\2&0\end{pmatrix}$ the cotangent $G=(1,1)$ should give $M^\top G=(2,1)$, and without the transpose it gives $(1,2)$. Nothing about the test changed but its *point*.

# %%
G = np.array([1.0, 1.0])
symmetric, not_symmetric = np.array([[0.0, 2], [2, 0]]), np.array([[0.0, 1], [2, 0]])
assert np.array_equal(symmetric.T @ G, symmetric @ G)
assert (not_symmetric.T @ G).tolist() == [2, 1] and (not_symmetric @ G).tolist() == [1, 2]

# %% [markdown]
# The way to learn what a test does not see is to put a mistake into the code, deliberately, and to look whether the test fails. Code with one deliberate mistake is called a **mutant**; a test that fails on it **kills** it; a mutant that passes everything **survives**, and it shows you a blind spot.
#
# In the course's picture a check looks at what comes back along the arrows, one after the other:

# %%
computation(model="joint")

# %% [markdown]
# ### One formula for all of them
#
# All blind spots are one formula. At a point $x$ (all inputs together), the function $y=f(x)$ has the **Jacobian** $J(x)$, the matrix of all partial derivatives, $J_{kj}=\partial y_k/\partial x_j$. The right backward takes a cotangent $G$ to $J(x)^\top G$. A wrong backward that is still linear in $G$, as nearly all are, takes it to $\tilde J(x)^\top G$ with another matrix $\tilde J$. A test at $x$ with the cotangent $G$ and the tolerance $\delta$ lets the mistake pass exactly if
#
# $$\big\|\,(\tilde J(x)-J(x))^\top G\,\big\|\;\le\;\delta .$$
#
# Three things can make the left side small, and one the right side large.
#
# - **The point.** $\tilde J(x)=J(x)$ at this $x$, though not elsewhere: a symmetric operator, a gate of one half, a batch without repetitions, a codebook near zero, a branch that no entry takes.
# - **The cotangent.** $\tilde J\ne J$, but $G$ lies in the null space of $(\tilde J-J)^\top$: a vector of ones, an equal value in each row.
# - **The size.** $\tilde J$ and $J$ are both small, and $\delta$ is absolute.
#
# The cotangent is the easiest to repair. If $\tilde J\ne J$, the null space of $(\tilde J-J)^\top$ is a subspace of lower dimension, and a random $G$ (with a density, such as a normal one) lies in it with probability zero. *One* random cotangent is enough.
#
# The point is harder. If $J$ and $\tilde J$ are analytic expressions without branches, the same argument helps: a random $x$ reveals them. With branches it does not, because $\tilde J=J$ may hold on a whole *region*, and random points may stay inside of it. Branches have to be visited on purpose.

# %% [markdown]
# ## Write: a test for a product
#
# Your function is given a forward and a backward and returns `True` if the backward is right, `False` if not. An exception on wrong code counts as a rejection. Write what you would write today; the grader says which wrong code gets past it.

# %%
task_1 = exercise("check_of_a_product")
task_1

# %%
def check_of_a_product(product, backward):
    raise NotImplementedError


task_1.check(check_of_a_product).keep();

# %%
# print(task_1.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def check_of_a_product(product, backward):
#     rng = np.random.default_rng(0)
#     for n, m in ((4, 3), (4, 4)):                    # rectangular, and square but not symmetric
#         M = rng.standard_normal((n, m))
#         X, G = rng.standard_normal((m, 2)), rng.standard_normal((n, 2))
#         left, right = np.sum(product(M, X) * G), np.sum(X * backward(G, M))
#         if abs(left - right) > 1e-12 * np.linalg.norm(X) * np.linalg.norm(G) * np.linalg.norm(M):
#             return False
#     return True
# ```
#
# Why is the square case needed? There is code that tries `M @ G` and takes the transpose only when the shapes complain.
#
# </details>

# %% [markdown]
# And what does the grader say to a test as it is often written: a symmetric operator, a cotangent of ones?

# %%
def first_attempt(product, backward):
    M = np.array([[2.0, 1.0], [1.0, 3.0]])
    G = np.ones((2, 2))
    return bool(np.allclose(backward(G, M), M @ G))

marked = task_1.check(first_attempt)
assert not marked

# %% [markdown]
# ## Write: a test for a loss over a batch
#
# The loss of notebook 05. What can happen in a batch that does not happen in a single triple?

# %%
task_2 = exercise("check_of_a_pairwise_loss")
task_2

# %%
def check_of_a_pairwise_loss(loss, backward):
    raise NotImplementedError


task_2.check(check_of_a_pairwise_loss).keep();

# %%
# print(task_2.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def check_of_a_pairwise_loss(loss, backward):
#     H = np.random.default_rng(0).standard_normal((7, 3))      # users are rows 0 to 2, items rows 3 to 6
#     user = np.array([0, 0, 1, 0, 2])                          # repeated
#     positive = np.array([3, 3, 4, 5, 3])                      # repeated
#     negative = np.array([4, 6, 5, 4, 6])                      # repeated, and 4 and 5 are positives too
#     numerical = np.zeros_like(H)
#     for k in np.ndindex(*H.shape):
#         up, down = H.copy(), H.copy()
#         up[k] += 1e-5
#         down[k] -= 1e-5
#         numerical[k] = (loss(up, user, positive, negative) - loss(down, user, positive, negative)) / 2e-5
#     found = backward(H, user, positive, negative)
#     return bool(np.linalg.norm(found - numerical) <= 1e-7 * np.linalg.norm(numerical))
# ```
#
# </details>

# %% [markdown]
# ## Write: a test for a threshold
#
# The soft threshold of notebook 03 has three branches and two corners.

# %%
task_3 = exercise("check_of_a_threshold")
task_3

# %%
def check_of_a_threshold(shrink, backward):
    raise NotImplementedError


task_3.check(check_of_a_threshold).keep();

# %%
# print(task_3.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def check_of_a_threshold(shrink, backward):
#     rng = np.random.default_rng(0)
#     for tau in (0.5, 2.0):
#         E = tau * np.array([-20.0, -2.5, -1.1, -0.3, 0.1, 0.4, 1.2, 20.0])   # both sides, inside, far out; no corner
#         G = rng.uniform(0.5, 1.5, E.size) * rng.choice([-1, 1], E.size)
#         numerical = G * (shrink(E + 1e-5, tau) - shrink(E - 1e-5, tau)) / 2e-5
#         if not np.allclose(backward(G, E, tau), numerical, rtol=1e-7, atol=1e-7):
#             return False
#         if np.any(backward(np.ones(2), np.array([tau, -tau]), tau) != 0):     # the convention, at the corners
#             return False
#     return True
# ```
#
# All entries can be moved at once here, because each output depends on its own entry alone. (The absolute tolerance is harmless: the slopes are 0 and 1, so the scale is known.)
#
# </details>

# %% [markdown]
# ## Question: which wrong code passes, and why?
#
# A test as it stands in many repositories: central differences of the forward, a cotangent, `np.allclose`. We keep it fixed and vary only where it looks.

# %%
def textbook_check(forward, backward, x, cotangent, **tolerance):
    """Whether backward(cotangent, x) is close to central differences of sum(cotangent * forward(x))."""
    numerical = numerical_gradient(lambda x: forward(x), {"x": x}, wrt="x", cotangent=cotangent)
    return bool(np.allclose(backward(cotangent, x), numerical, **tolerance))

RELATIVE = {"rtol": 1e-6, "atol": 1e-9}

def mutant(place, mistake):
    """One of the package's catalogue."""
    return next(m for m in MUTANTS if m.place.endswith(place) and m.mistake == mistake)

# %% [markdown]
# A mutant is a place in the package, an expression or a statement there, and what takes its place. `applied` compiles the changed function and gives the package's function this code, until the `with` block ends.

# %%
forgotten = mutant("compose_backward", "tanh' forgotten")
print(forgotten.place, "|", forgotten.old, " becomes ", forgotten.new)
before = codebook.compose_backward.__code__
with applied(forgotten):
    assert codebook.compose_backward.__code__ is not before
assert codebook.compose_backward.__code__ is before, "and it is gone again"

# %% [markdown]
# Seven mistakes, one after the other: the mistake, the test that does not see it, the repair. `results` collects what happened.

# %%
results = {}

def record(name, weak, repaired):
    """`weak` and `repaired`: whether each test accepts the wrong code."""
    results[name] = (not weak, not repaired)
    print(f"{name}: the weak test {'accepts' if weak else 'rejects'} it, the repaired one {'accepts' if repaired else 'rejects'} it")

# %% [markdown]
# ### 1. Symmetric operators
#
# Propagation over a graph is $H=PX_0$ with $P=\frac1{L+1}(I+\hat X+\dots+\hat X^L)$: $L$ products with the sparse graph $\hat X$, and the mean over all layers. Its backward is $P^\top$. The graph of users and items is symmetric, so $P^\top=P$, and a backward that forgets the transpose is right on *every graph that the model will ever see*. That is fine until somebody makes the graph directed, or uses the same product for something else. The repair is an operator that the model never has: not symmetric.

# %%
rng = np.random.default_rng(0)
A = graph.normalised_adjacency(southern_women_split().train)            # symmetric
directed = A.copy()
directed.data = A.data * rng.uniform(0.5, 1.5, A.nnz)                   # the same edges, a weight for each direction
X0, G = rng.standard_normal((32, 2)), rng.standard_normal((32, 2))

def propagation_passes(X_hat):
    return textbook_check(lambda x: propagation.propagate(x, X_hat, 2), lambda g, x: propagation.propagate_backward(g, X_hat, 2),
                          X0, G, **RELATIVE)

assert propagation_passes(A) and propagation_passes(directed), "right code passes both"
with applied(mutant("SparseOperator.adjoint", "transpose forgotten, seen from propagation")):
    record("transpose forgotten", weak=propagation_passes(A), repaired=propagation_passes(directed))

# %% [markdown]
# ### 2. Special values
#
# The bridge mixes two codebooks with a gate $g$: $\hat E=g\,S_fF+(1-g)E_c$. The gradient at $E_c$ is $(1-g)G$. With $g=\frac12$, the most natural number for a test, $g=1-g$, and the two halves may be exchanged unseen. The same goes for one layer, square matrices, equal sizes, $\tau=1$, a batch of one. **Choose numbers that are equal to nothing**: a gate of 0.3, sizes 7, 5 and 3.

# %%
S_fine = sparse.csr_array(rng.random((7, 5)) * (rng.random((7, 5)) < 0.5))
F, E_coarse, G = rng.standard_normal((5, 3)), rng.standard_normal((7, 3)), rng.standard_normal((7, 3))

def bridge_passes(gate):
    return textbook_check(lambda x: codebook.bridge(x, S_fine, F, gate), lambda g, x: codebook.bridge_backward(g, S_fine, gate)[0],
                          E_coarse, G, **RELATIVE)

assert bridge_passes(0.5) and bridge_passes(0.3)
with applied(mutant("bridge_backward", "the halves of the bridge exchanged")):
    record("gate exchanged", weak=bridge_passes(0.5), repaired=bridge_passes(0.3))

# %% [markdown]
# ### 3. Cotangents of ones
#
# The softmax of a row, $y_k=e^{x_k}/\sum_m e^{x_m}$, has the derivative $\partial y_k/\partial x_j=y_k(\delta_{kj}-y_j)$ ($\delta_{kj}$ is 1 if $k=j$, else 0), so its backward is $y_j\,(G_j-\sum_k G_ky_k)$: subtract the weighted mean of the cotangent. A plausible mistake is to subtract the plain mean. With $G=\mathbf 1$ the weighted mean is $\sum_k y_k=1$ and the plain mean is 1: both give $1-1=0$, and so does everything.

# %%
softmax = links.softmax_rows

def softmax_backward(g, x):
    y = softmax(x)
    return y * (g - np.sum(g * y, axis=1, keepdims=True))

def plain_mean(g, x):
    return softmax(x) * (g - np.mean(g, axis=1, keepdims=True))

x, ones, G = rng.standard_normal((6, 4)), np.ones((6, 4)), rng.standard_normal((6, 4))
assert textbook_check(softmax, softmax_backward, x, ones, **RELATIVE) and textbook_check(softmax, softmax_backward, x, G, **RELATIVE)
record("softmax, plain mean", weak=textbook_check(softmax, plain_mean, x, ones, **RELATIVE),
       repaired=textbook_check(softmax, plain_mean, x, G, **RELATIVE))

# %% [markdown]
# ### 4. Absolute tolerances
#
# The regulariser of the model is a sum of squared embeddings over a batch of $B$ triples, divided by $B$ and multiplied with a decay of $10^{-4}$. With embeddings as they are at the start, each entry of its gradient is smaller than $10^{-5}$. A tolerance of `atol=1e-5` was perhaps chosen for another function. It accepts a forgotten factor of 2; it accepts zero, too. The repair is to compare relative to the norm.

# %%
users, positives = rng.integers(0, 20, 2048), rng.integers(0, 30, 2048)
triples = Triples.from_items(users, positives, (positives + 7) % 30, 20, 30)
Z = np.tanh(0.03 * rng.standard_normal((50, 4)))

def penalty(x):
    return 1e-4 * loss.squared_norm_penalty(x, triples, 5.0)

def penalty_backward(g, x):
    return loss.squared_norm_penalty_backward(1e-4 * float(g), x, triples, 5.0, np.zeros_like(x))

def relative_check():
    numerical = numerical_gradient(penalty, {"x": Z}, wrt="x")
    return bool(np.linalg.norm(penalty_backward(1.0, Z) - numerical) < 1e-7 * np.linalg.norm(numerical))

assert np.max(np.abs(penalty_backward(1.0, Z))) < 1e-5
assert textbook_check(penalty, lambda g, x: np.zeros_like(x), Z, 1.0, atol=1e-5), "zero is accepted"
assert textbook_check(penalty, penalty_backward, Z, 1.0, atol=1e-5) and relative_check()

# %%
with applied(mutant("squared_norm_penalty_backward", "factor 2 forgotten")):
    record("factor 2 forgotten", weak=textbook_check(penalty, penalty_backward, Z, 1.0, atol=1e-5), repaired=relative_check())

# %% [markdown]
# ### 5. The start of training
#
# The embeddings are $Z=\tanh(SE)$, with the backward $S^\top(G\circ(1-Z^2))$. Forget the factor $1-Z^2$, and test where training starts, with a small random codebook: there $Z\approx0$ and the factor is 1. A wrong gradient that is right at the start also trains well for a while, which is worse than one that fails at once. So check at the start *and* where a trained model would be.

# %%
S = sparse.csr_array([[0.7, 0.3, 0.0], [0.0, 0.4, 0.6], [0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
E, G = rng.standard_normal((3, 2)), rng.standard_normal((4, 2))

def compose_passes(E):
    return textbook_check(lambda x: codebook.compose(S, x),
                          lambda g, x: codebook.compose_backward(g, S, codebook.compose(S, x)), E, G, **RELATIVE)

assert compose_passes(1e-4 * E) and compose_passes(E)
with applied(mutant("compose_backward", "tanh' forgotten")):
    record("tanh' forgotten", weak=compose_passes(1e-4 * E), repaired=compose_passes(E))

# %% [markdown]
# There is a harder case of the same thing: gradients that **vanish** at the start. Where all entries of a codebook lie inside the soft threshold, the output is zero and so is the gradient, and any multiple of zero is zero. A test that compares zero with zero has compared nothing. The checker of the package therefore fails on a zero gradient, unless one declares that it is meant:

# %%
inside = rng.uniform(-0.9, 0.9, (5, 4))        # threshold 1
asleep = check_gradients(lambda E: codebook.soft_threshold(E, 1.0), lambda g, E: 17 * codebook.soft_threshold_backward(g, E, 1.0),
                         {"E": inside}, name="seventeen times zero")
print(asleep.failures[0].reason)
assert not asleep.passed

# %% [markdown]
# ### 6. Batches without repetitions
#
# In the BPR loss an entity collects a contribution from every triple in which it occurs. `grad[index] += ...` keeps only the *last* of several, because NumPy reads all the old values first and then writes; `np.add.at` adds them all. In a small test batch drawn at random from many users nobody occurs twice, and the two are the same. In training, with thousands of triples, everybody does.

# %%
H = rng.standard_normal((50, 3))
bias = rng.standard_normal(50)
nobody_twice = Triples.from_items([0, 1, 2], [0, 1, 2], [3, 4, 5], 20, 30)
repeated = Triples.from_items([0, 0, 2], [0, 1, 2], [3, 4, 5], 20, 30)

def bpr_passes(batch):
    def bpr(x):
        return loss.bpr_loss(x, bias, np.zeros(1), batch)[0]

    def backward(g, x):
        return loss.bpr_backward(x, batch, g * loss.bpr_loss(x, bias, np.zeros(1), batch)[1])[0]

    return textbook_check(bpr, backward, H, 1.0, **RELATIVE)

assert bpr_passes(nobody_twice) and bpr_passes(repeated)
with applied(mutant("bpr_backward", "duplicate users overwritten")):
    record("duplicates overwritten", weak=bpr_passes(nobody_twice), repaired=bpr_passes(repeated))

# %% [markdown]
# ### 7. Branches that nobody takes
#
# The mask of the soft threshold is $|E|>\tau$. Leave out the bars, and test with positive numbers.

# %%
def threshold_passes(E):
    return textbook_check(lambda x: codebook.soft_threshold(x, 0.5), lambda g, x: codebook.soft_threshold_backward(g, x, 0.5),
                          E, np.array([1.3, -0.7, 0.9, -1.1]), **RELATIVE)

positive, both_signs = np.array([0.2, 0.9, 1.4, 0.1]), np.array([-0.2, 0.9, -1.4, 0.1])
assert threshold_passes(positive) and threshold_passes(both_signs)
with applied(mutant("soft_threshold_backward", "mask of one side only")):
    record("mask of one side", weak=threshold_passes(positive), repaired=threshold_passes(both_signs))

# %% [markdown]
# More random points are a poor repair for a rare branch. Suppose a backward is wrong above 2.5, and the test draws 50 normal numbers. One number stays below 2.5 with the probability $\Phi(2.5)\approx0.9938$, all fifty with $0.9938^{50}\approx0.73$. So the mistake should pass about three times in four. It does:

# %%
below = 0.5 * (1 + math.erf(2.5 / math.sqrt(2)))
assert round(below, 4) == 0.9938 and round(below**50, 2) == 0.73

def wrong_above(g, x):
    return np.where(x > 2.5, 0.0, g * (1 - np.tanh(x) ** 2))

passed = 0
for seed in range(100):
    rng = np.random.default_rng(seed)
    x, G = rng.standard_normal(50), rng.standard_normal(50)
    passed += textbook_check(np.tanh, wrong_above, x, G, **RELATIVE)
print(f"passes at {passed} of 100 points")
assert 60 < passed < 88

# %% [markdown]
# The picture of all seven. The left column is the reason for this notebook.

# %%
assert all(not weak and repaired for weak, repaired in results.values()) and len(results) == 7
caught_picture(np.array(list(results.values())), list(results), ["weak test", "repaired test"], title="Seven mistakes", width=4.5)

# %% [markdown]
# ## Predict
#
# The package has a catalogue of mutants, several for every backward. Its checks are those of notebook 01: the **contract** (inputs untouched, ...), **central differences**, the **complex step**, the **Taylor rate**, the **adjoint** for linear arguments, and asserted **conventions** at kinks. For each of these mutants, which checks kill it?
#
# - (a) propagation: the mean over layers is forgotten;
# - (b) soft threshold: the mask is $|E|\ge\tau$ instead of $|E|>\tau$;
# - (c) a bridged layer: it works in place and overwrites its cotangent;
# - (d) composition: tanh' forgotten;
# - (e) sparse product: transpose forgotten;
# - (f) composition: `1 - Z**2` is written as `1 - Z * Z`.
#
# <details><summary>What happens</summary>
#
# (a) all four numerical checks; propagation is linear, so the adjoint is among them. (b) only the convention: no entry of a random codebook *is* the threshold. (c) only the contract: the numbers are right. (d) central, complex and Taylor; the composition is not linear, there is no adjoint. (e) The first operator of the cases is rectangular, and the product cannot even be formed: an error, which the contract reports as "raises". (f) nothing: it is no mistake. Such *equivalent mutants* must survive.
#
# </details>
#
# ## Check

# %%
no_mistake = Mutant("model.codebook.tanh_backward", "no mistake", "1 - Z**2", "1 - Z * Z", ("compose",))
predicted = {
    "a": mutant("propagation.propagate_backward", "mean over layers forgotten"),
    "b": mutant("codebook.soft_threshold_backward", "other convention at the threshold"),
    "c": mutant("BridgedLayer.adjoint", "cotangent modified"),
    "d": mutant("compose_backward", "tanh' forgotten"),
    "e": mutant("SparseOperator.adjoint", "transpose forgotten (NumPy)"),
    "f": no_mistake,
}
killers = {}
for letter, broken in predicted.items():
    outcome = kill(broken, engine="numpy", op=broken.expects[0])[0]
    killers[letter] = {check.partition(".")[0] for check in outcome.killed_by}
    print(f"({letter}) {broken.mistake}: {', '.join(outcome.killed_by) or 'survives'}")

# %%
numerical = {"central_difference", "complex_step", "taylor_rate"}
assert killers == {"a": numerical | {"adjoint"}, "b": {"convention"}, "c": {"contract"}, "d": numerical, "e": {"contract"}, "f": set()}

# %% [markdown]
# Now a larger batch of them, everything in the catalogue for a few NumPy backwards, and who kills whom.

# %%
places = ("sparse.SparseOperator.adjoint", "codebook.compose_backward", "codebook.soft_threshold_backward",
          "codebook.bridge_backward", "loss.bpr_backward")
chosen = [m for m in MUTANTS if m.place.removeprefix("model.") in places]
chosen.append(predicted["c"])
checks = ["contract", "central_difference", "complex_step", "taylor_rate", "adjoint", "convention"]
table = np.zeros((len(chosen), len(checks)))
for row, broken in enumerate(chosen):
    by = kill(broken, engine="numpy", op=broken.expects[0])[0].killed_by
    table[row] = [any(name.startswith(check) for name in by) for check in checks]
survivors = [m.name for m, row in zip(chosen, table) if not row.any()]
assert not survivors, survivors

# %%
linear = [m.expects[0] in ("sparse_product", "propagate", "bridge", "bridged_layer") for m in chosen]
has_kink = [m.expects[0] == "soft_threshold" for m in chosen]
assert not table[~np.array(linear), 4].any() and not table[~np.array(has_kink), 5].any()
table[~np.array(linear), 4] = np.nan          # the adjoint is for linear operations only
table[~np.array(has_kink), 5] = np.nan        # a convention is needed at kinks only
labels = [f"{m.place.split('.', 2)[2]}: {m.mistake}" for m in chosen]
caught_picture(table, labels, [check.replace("_", "\n") for check in checks], title="Which check kills which mutant", width=8)

# %% [markdown]
# Most mistakes are killed several times over. Look at the rows with a single filled square: these are why there is more than one kind of check. (A dash: the check does not apply to this operation. An empty square beside a filled one may mean that the check was not reached: where a backward raises an error there are no numbers to compare, and the first case that notices ends the run, before the convention is looked at.)
#
# **Is the package's own catalogue of checks without blind spots?** No. Here is a mutant that is not in the catalogue: the soft threshold's backward gives zero for entries beyond 100. No case of the package has such an entry.

# %%
beyond = Mutant("model.codebook.soft_threshold_backward", "nothing beyond 100", "np.abs(E) > tau",
                "(np.abs(E) > tau) & (np.abs(E) < 100)", ("soft_threshold",))
survives = not kill(beyond, engine="numpy")[0].killed
print("survives" if survives else "is killed")
assert survives, "if this fails, somebody has added such a case: change the text"

# %% [markdown]
# It survives. Is that a defect? Nobody would write this mistake, and no finite number of points visits everything. What the cases should contain is every branch that the *code* has, and this code has none at 100. That is the practical rule: **read the code under test, list its branches, repetitions and special sizes, and put each of them into a case.** The check compares a backward with its forward at the points it is given; where to look remains your business.
#
# ## Try it
#
# A mutant of your own: open `c2f_np/model/loss.py`, choose a line of `bpr_backward`, and think of a mistake that you could have made there and that the catalogue does not have. Write it as a `Mutant` (the old expression must stand in the function exactly once) and try to get it past the package. If it survives and is a real mistake, you have found a blind spot of the package; please report it. Here the bias of the negative item is forgotten:

# %%
mine = Mutant("model.loss.bpr_backward", "bias of the negative forgotten", "np.add.at(grad_bias, negative, slope)", "pass", ("bpr",))
outcome = kill(mine, engine="numpy")[0]
print(outcome.killed_by)
assert outcome.killed

# %% [markdown]
# Compiled kernels have blind spots of their own: they work in groups of rows, have variants for some widths, and run in threads. The catalogue has mutants of kernels too; each is put in where Numba does not compile and kernels are plain Python, in a process of its own, and must be killed by the cases of the compiled engine.

# %%
once = next(m for m in MUTANTS if m.place.endswith("kernels.step._gather") and m.mistake == "first occurrence only")
outcome = kill(once, engine="numba", op="bpr")[0]
print(outcome.case, "|", ", ".join(outcome.killed_by))
assert outcome.killed

# %% [markdown]
# ## Read next
#
# - [docs/checking_gradients.md](../docs/checking_gradients.md), and at its end the checklist.
# - [docs/adding_an_operation.md](../docs/adding_an_operation.md): which cases an operation needs, and how its mutants are written down.
# - `python -m c2f_np gradcheck --mutants` kills the whole catalogue on your machine, and `python -m c2f_np gradcheck --mutate 100` makes a hundred small changes by machine and lists those that survive.
# - DeMillo, Lipton and Sayward, *Hints on test data selection* (IEEE Computer 1978), where mutation testing begins.
