# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 13 · Find the bug
#
# *Reading: 15 minutes. Exercises: 6.*
#
# ## What you will do
#
# Ten training steps lie before you. Each of them trains: its loss falls, and it recommends better than popularity. One part of each is wrong. You cannot read their code; you can call their parts. At the end you will have written six functions: five checks of a part (gradients, propagation, memory, sampling, update), and `diagnose(step)`, which names the wrong part of any such step.
#
# **You need** your gradient check and your adjoint test (`gradient_gap` and `adjoint_gap`, notebook 01), the parts of a step (05 and 06) and the three ways for a fault to hide (10). Symbols are on [one page](symbols.md).

# %%
import dataclasses

import numpy as np
import scipy.sparse as sparse

from c2f_np import load_dataset
from c2f_np.baselines import make_baseline
from c2f_np.course import exercise, my_model
from c2f_np.course.find_the_bug import PARTS, Batch, Step, example, planted_case, ten_steps, wrong_lines
from c2f_np.evaluation import evaluate_embeddings
from c2f_np.plotting import computation
from c2f_np.plotting.checks import caught_picture, curves_beside_one

my = my_model(or_answers=True)

# %% [markdown]
# ## The idea
#
# The model of these steps is the coarse stage of notebook 06, with direct links to a fine codebook beside it, so that every operation of the course has a part in it:
#
# $$F = \operatorname{soft}(E_f, \tau), \quad Z = \tanh(S_c E_c + S_d F), \quad X_0 = [Z; E_c], \quad H = P X_0, \quad x = \langle H_u, H_i - H_j\rangle + b_i - b_j,$$
#
# $$\ell = \frac1B \sum \log(1 + e^{-x}) + \frac{\lambda}{B} \sum \bigl(|Z_u|^2 + |Z_i|^2 + |Z_j|^2\bigr).$$
#
# Trained are $E_c$, $E_f$ and $b$, by Adam. In the course's picture it is the lit part; the fine rows enter at $Z$.

# %%
computation("R", "A", "triples", "S_c", "E_c", "Z", "X0", "H", "scores", "loss", "step", model="coarse", backward=True)

# %% [markdown]
# ### What can be called
#
# A step is an object with these methods. `theta` is a dict with the trained arrays `"E_c"`, `"E_f"` and `"b"`; a `case` holds `R`, `A`, `S_c`, `S_d`, `tau`, `decay` ($\lambda$) and `n_layers`; a `batch` has `user`, `positive` and `negative`, numbers of entities.
#
# | method | returns |
# |---|---|
# | `sample(R, rng)` | an epoch's triples |
# | `loss(theta, case, batch)` | $\ell$. It is right in all of them |
# | `gradients(theta, case, batch)` | a dict of gradients, as `theta` |
# | `propagate(X0, X_hat, n_layers)`, `propagate_backward(grad_H, X_hat, n_layers)` | $P X_0$, and the way back |
# | `update(theta, gradients, memory, rate)` | the new `theta` and memory after a step of Adam (first clipped to ±3 by value). `memory` is `None` at the first |
# | `embeddings(theta, case)` | $H$ of the entities |
# | `fresh()` | a new step of the same kind, which nobody has called |
#
# So an epoch of training is three lines, here with the planted data. Half-way the links $S_c$ are chosen anew, more simply than in notebook 06.

# %%
def relinked(H, theta, case):
    """Each entity linked to the two coarse rows with the largest product, with weights of one half."""
    rows = np.argsort(-(H @ theta["E_c"].T), axis=1)[:, :2]
    S_c = sparse.csr_array((np.full(rows.size, 0.5), (np.repeat(np.arange(len(H)), 2), rows.ravel())), shape=case.S_c.shape)
    return dataclasses.replace(case, S_c=S_c)

def trained(step, case, theta, n_epochs=16, rate=0.1):
    rng, memory, losses = np.random.default_rng(0), None, []
    for epoch in range(n_epochs):
        if epoch == n_epochs // 2:
            case = relinked(step.embeddings(theta, case), theta, case)
        batch = step.sample(case.R, rng)
        theta, memory = step.update(theta, step.gradients(theta, case, batch), memory, rate)
        losses.append(step.loss(theta, case, batch))
    return losses, step.embeddings(theta, case), theta["b"]

# %%
data = load_dataset("planted")
masked = data.masked_when_ranking("test")
case, start = planted_case()
steps = {"right": Step()} | {f"step {k}": step for k, step in enumerate(ten_steps(), 1)}
curves, quality = {}, {}
for name, step in steps.items():
    curves[name], H, b = trained(step, case, start)
    quality[name] = evaluate_embeddings(H[:1000], H[1000:], b[1000:], data.test, masked, n_threads=1).metrics["ndcg@20"]
    print(f"{name:8s} loss {curves[name][0]:.3f} to {curves[name][-1]:.3f}   NDCG@20 {quality[name]:.4f}")

# %%
curves_beside_one(curves, "right", xlabel="epoch", ylabel="loss of the step's own batch", title="Planted set: ten wrong steps, each beside the right one")

# %%
popularity = make_baseline("popularity").fit(data).evaluate().metrics["ndcg@20"]
wrong = {name: value for name, value in quality.items() if name != "right"}
assert all(losses[-1] < 0.9 * losses[0] for losses in curves.values()), "every loss falls"
assert min(quality.values()) > popularity, "every one beats popularity"
assert sum(value > quality["right"] - 0.01 for value in wrong.values()) >= 4, "some are as good as the right one, here"

# %% [markdown]
# All fall, all beat popularity, and some of the ten do as well on these data as the right step. So neither the loss nor the quality tells. A fault may cost much (compare the numbers), or nothing on *these* data with *these* settings, until somebody changes one of them.
#
# ## Write: one point, and its blind spots
#
# `example(seed)` is a small problem, of the kind that one writes down in a hurry. Your `gradient_gap` compares one gradient with differences; for all three at once:

# %%
def gaps(step, theta, case, batch):
    found = {}
    for name in theta:

        def loss(x, name=name):
            return step.loss(theta | {name: x}, case, batch)

        def gradient(x, name=name):
            return step.gradients(theta | {name: x}, case, batch)[name]

        found[name] = my.gradient_gap(loss, gradient, theta[name])
    return found

my.keep(gaps)

# %%
small_case, theta, batch = example(0)
for name, step in steps.items():
    print(f"{name:8s}", {gradient: f"{gap:.0e}" for gradient, gap in gaps(step.fresh(), theta, small_case, batch).items()})

# %% [markdown]
# Two of the ten are found. The other eight pass a gradient check, one that you wrote yourself and that is right.

# %%
found = [name for name, step in steps.items() if max(gaps(step.fresh(), theta, small_case, batch).values()) > 1e-6]
assert len(found) == 2 and "right" not in found
print(f"decay {small_case.decay}, tau {small_case.tau}, E_f from {theta['E_f'].min():.2f} to {theta['E_f'].max():.2f}")
print("users", batch.user, "positives", batch.positive, "negatives", batch.negative)

# %% [markdown]
# Look at the point. There is no penalty. Nobody occurs twice. Every entry of $E_f$ is positive and above the threshold. All numbers are small. Each of these hides something: the penalty's gradient, contributions that overwrite one another, the threshold's two other branches, and whatever happens to large gradients only.
#
# ### Your turn

# %%
task_1 = exercise("gradients_pass")
task_1

# %%
def gradients_pass(step):
    raise NotImplementedError


task_1.check(gradients_pass).keep();

# %%
# print(task_1.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def gradients_pass(step):
#     case, theta, batch = example(0)
#     case = dataclasses.replace(case, tau=2.0, decay=0.1)
#     theta = {name: 10 * value for name, value in theta.items()}
#     theta["E_f"] *= [1, -1]  # of both signs, and on both sides of tau
#     batch = Batch(batch.user[[0, 0, 1, 2, 0]], batch.positive[[0, 0, 1, 2, 1]], batch.negative[[0, 2, 0, 1, 0]])
#     return max(my.gaps(step, theta, case, batch).values()) < 1e-6
# ```
#
# One point with everything in it. It says that something is wrong, but not what; for that, one thing at a time has to change (the last exercise).
#
# </details>
#
# ## Write: what differences of the loss cannot see
#
# Differences compare `gradients` with `loss`. Four kinds of fault lie beyond that.
#
# ### A graph that the model never has
#
# $A$ and $\hat X$ are symmetric, so $P^\top = P$ in this model, and a backward that forgets the transpose is right at every `theta`, for every batch. It goes wrong when somebody makes the graph directed. `propagate` and `propagate_backward` take the graph as an argument: give them one that is not symmetric.

# %%
task_2 = exercise("propagation_passes")
task_2

# %%
def propagation_passes(step):
    raise NotImplementedError


task_2.check(propagation_passes).keep();

# %%
# print(task_2.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def propagation_passes(step):
#     rng = np.random.default_rng(0)
#     X_hat, X, Y = rng.standard_normal((5, 5)), rng.standard_normal((5, 2)), rng.standard_normal((5, 2))
#
#     def forward(X):
#         return step.propagate(X, X_hat, 3)
#
#     def backward(G):
#         return step.propagate_backward(G, X_hat, 3)
#
#     return my.adjoint_gap(forward, backward, X, Y) < 1e-12
# ```
#
# </details>
#
# ### Memory
#
# Building a graph takes time, so a step may keep it. Then the links change, and the step goes on with the old graph. If loss *and* gradients use the old one, they agree with each other, and every gradient check passes. What is wrong is that the result depends on what was called before. A step that nobody has called cannot remember anything: compare with `step.fresh()`.

# %%
task_3 = exercise("has_no_memory")
task_3

# %%
def has_no_memory(step):
    raise NotImplementedError


task_3.check(has_no_memory).keep();

# %%
# print(task_3.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def has_no_memory(step):
#     case, theta, batch = example(0)
#     used, new = step.fresh(), step.fresh()
#     used.gradients(theta, case, batch)
#     later = dataclasses.replace(case, S_c=case.S_c**2)  # the same links, other weights
#     if used.loss(theta, later, batch) != new.loss(theta, later, batch):
#         return False
#     ours, right = (each.gradients(theta, later, batch) for each in (used, new))
#     return all(np.array_equal(ours[name], right[name]) for name in right)
# ```
#
# </details>
#
# ### Sampling
#
# A loss is computed from triples, and whether these are the right ones no derivative knows. If every epoch draws the same negatives, the loss falls nicely: the model learns them by heart.

# %%
task_4 = exercise("sampling_passes")
task_4

# %%
def sampling_passes(step):
    raise NotImplementedError


task_4.check(sampling_passes).keep();

# %%
# print(task_4.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def sampling_passes(step):
#     rng = np.random.default_rng(0)
#     R = sparse.csr_array((rng.random((40, 30)) < 0.2) * 1.0)
#     first, second = step.sample(R, rng), step.sample(R, rng)
#     has = R.toarray() > 0
#     if has[first.user, first.negative - 40].any() or not has[first.user, first.positive - 40].all():
#         return False
#     same = [np.mean(a == b) for a, b in zip(first, second, strict=True)]  # by chance a few per cent
#     return max(same) < 0.3
# ```
#
# </details>
#
# ### The update
#
# After the gradient comes Adam, which has no forward to compare with. It has cases of which you know the outcome. **By hand:** with a gradient $G$ that never changes, the corrected moments are $G$ and $G^2$ in every step, so every entry moves by $\eta\, G/|G| = \pm\eta$. Without any correction the first step has $m = 0.1\,G$ and $v = 0.001\,G^2$, and moves by $0.1/\sqrt{0.001} \approx 3.16$ times $\eta$.

# %%
assert round(0.1 / np.sqrt(0.001), 2) == 3.16
moved, _ = Step().update({"x": np.zeros(2)}, {"x": np.array([2.0, -0.01])}, None, 0.1)
assert np.allclose(moved["x"], [-0.1, 0.1])

# %%
task_5 = exercise("update_passes")
task_5

# %%
def update_passes(step):
    raise NotImplementedError


task_5.check(update_passes).keep();

# %%
# print(task_5.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def update_passes(step):
#     theta, gradients = {"x": np.zeros(4)}, {"x": np.array([1.0, -0.5, 1e-3, -2.0])}
#     memory = None
#     for k in range(1, 6):  # a gradient that stays the same moves everything by the rate, in every step
#         theta, memory = step.update(theta, gradients, memory, 0.1)
#         if not np.allclose(theta["x"], -0.1 * k * np.sign(gradients["x"]), rtol=1e-4):
#             return False
#     return True
# ```
#
# A comparison with your own `my.adam_step`, with gradients that change, sees more: this one would let pass an Adam whose $\beta_1$ is wrong.
#
# </details>
#
# ## Write: the diagnosis
#
# Five checks say that something is wrong. Now say what. A fault is found by two points that differ in *one* thing: at one of them the check passes, at the other it fails, and the thing is where the fault lies. At `example(0)` two of six faults of the gradient show; add a penalty, and one more does; and so on.

# %%
print(*PARTS, sep="\n")
task_6 = exercise("diagnose")
task_6

# %%
def diagnose(step):
    raise NotImplementedError


task_6.check(diagnose).keep();

# %%
# print(task_6.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def diagnose(step):
#     if not my.sampling_passes(step):
#         return "sampling"
#     if not my.update_passes(step):
#         return "Adam"
#     if not my.has_no_memory(step):
#         return "graph"
#     if not my.propagation_passes(step):
#         return "propagation"
#
#     def wrong(theta, case, batch):
#         return {name for name, gap in my.gaps(step, theta, case, batch).items() if not gap < 1e-6}
#
#     case, theta, batch = example(0)
#     if plain := wrong(theta, case, batch):
#         return "biases" if "b" in plain else "fork"
#     if wrong(theta, dataclasses.replace(case, decay=0.1), batch):
#         return "penalty"
#     if wrong(theta | {"E_f": theta["E_f"] * [1, -1]}, dataclasses.replace(case, tau=0.2), batch):
#         return "threshold"
#     if wrong(theta, case, Batch(batch.user[[0, 0, 1]], batch.positive[[0, 0, 1]], batch.negative[[0, 1, 0]])):
#         return "repeated rows"
#     if wrong({name: 10 * value for name, value in theta.items()}, case, batch):
#         return "clipping"
#     return "nothing"
# ```
#
# The order matters. A step that keeps an old graph would fail the gradient checks as well, as soon as it is used on a second case.
#
# </details>
#
# ## Predict
#
# Which of your five checks reject which of the ten? Fill in a table of ten rows and five columns before you run the next cell. How many rows have more than one filled square?

# %% [markdown]
# ## Check

# %%
checks = {"gradients": my.gradients_pass, "propagation": my.propagation_passes, "memory": my.has_no_memory,
          "sampling": my.sampling_passes, "update": my.update_passes}
rejected = np.array([[not check(step.fresh()) for check in checks.values()] for step in ten_steps()])
caught_picture(rejected, [f"step {k}" for k in range(1, 11)], list(checks), title="Which check rejects which step", width=5.5)

# %%
assert rejected.any(axis=1).all(), "every one of the ten is found"
assert (rejected.sum(axis=1) == 1).all(), "and by one check alone: none of the five can be left out"
assert all(check(Step()) for check in checks.values()), "the right step passes all"
assert rejected[:, 0].sum() == 6

# %% [markdown]
# Six steps have a wrong gradient, and four have right ones and are wrong all the same. Each is seen by exactly one of the five checks.
#
# Now the verdicts: what each fault costs, in an order that does not say which step has it. The last line does, once you take away its comment sign; make your own list first.

# %%
verdicts = {f"step {k}": my.diagnose(step) for k, step in enumerate(ten_steps(), 1)}
for verdict, name in sorted((verdict, name) for name, verdict in verdicts.items()):
    print(f"{verdict:14s} NDCG@20 {quality[name] - quality['right']:+.4f} against the right step")
assert list(verdicts.values()) == [step.part for step in ten_steps()] and my.diagnose(Step()) == "nothing"
# print(verdicts)

# %% [markdown]
# Read the last column with care: it is one training on one set, and a positive number is no reason to keep a fault. `propagation` cannot cost anything here, since the graph is symmetric: its curve *is* the right one. `penalty` is harmless while $\lambda$ is small. Nobody would have found them by looking at results.

# %%
of = {verdict: name for name, verdict in verdicts.items()}
assert np.allclose(curves[of["propagation"]], curves["right"], rtol=1e-9)
assert abs(quality[of["penalty"]] - quality["right"]) < 0.01

# %% [markdown]
# ## Try it
#
# - The lines that differ: take away the comment sign below, for the step that you want to see.
# - Raise $\lambda$ (`dataclasses.replace(case, decay=0.1)`) and train `penalty` and the right step again. What does the fault cost now?
# - Write an eleventh step: a class derived from `Step` in which one method is wrong, such that your `diagnose` says `nothing`. Which point, or which check, was missing?

# %%
# print(wrong_lines(ten_steps()[0]))

# %%
class Forgetful(Step):
    """Adam's second moment with 0.99 in place of 0.999, and corrected accordingly: a constant gradient does not tell."""

    def update(self, theta, gradients, memory, rate):
        memory = memory or {"step": 0, "m": dict.fromkeys(theta, 0.0), "v": dict.fromkeys(theta, 0.0)}
        new, after = {}, {"step": memory["step"] + 1, "m": {}, "v": {}}
        for name, value in theta.items():
            g = np.clip(gradients[name], -3, 3)
            m = after["m"][name] = 0.9 * memory["m"][name] + 0.1 * g
            v = after["v"][name] = 0.99 * memory["v"][name] + 0.01 * g**2
            k = after["step"]
            new[name] = value - rate * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.99**k)) + 1e-8)
        return new, after

print("the eleventh:", my.diagnose(Forgetful()))

# %% [markdown]
# If your `update_passes` compares with your own Adam and lets the gradient change, it says `Adam`. If it goes by a constant gradient, as the folded answer does, it says `nothing`: the check has a blind spot, and now you know where.
#
# ## Read next
#
# - [docs/adding_an_operation.md](../docs/adding_an_operation.md): put in something of your own, with its gradient and with the points at which it has to be checked.
# - [docs/mutation.md](../docs/mutation.md): the same game by machine. `python -m c2f_np gradcheck --mutate 100` makes a hundred small changes to this package and lists those that its checks let pass.
# - Your `my_model.py`. It is a graph recommender with a backward pass of its own, and you know how to find out whether every gradient in it is right.
