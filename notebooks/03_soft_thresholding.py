# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Soft thresholding: zeros on purpose, and what a derivative means at a kink
#
# *About 25 minutes to read.*
#
# ## What you will do
#
# The model stores its finer details in a small table of $M$ rows and $d$ columns, the *fine codebook* $E_f$. It is made sparse: every entry is moved towards zero by a fixed amount $\tau$, and what would cross zero stops there. This notebook shows where that function comes from, differentiates it, and looks at what the derivative does in training.
#
# You will learn
#
# - why "move towards zero by $\tau$, and no further" is the exact answer to a small optimisation problem, derived case by case;
# - the gradient with respect to the codebook and with respect to $\tau$, and a convention where there is no derivative;
# - the dead zone: why an entry that has become 0 gets no gradient any more, and how other methods find a way back;
# - how to check a gradient of a function with kinks without fooling yourself.
#
# You need: derivatives, NumPy, and from `01_checking_a_gradient` what a central difference is. Nothing from the notebook on propagation is used here, except the word *cotangent*: the gradient of the loss at the output, which a backward pass is given.

# %%
import c2f_np  # noqa: F401
import inspect
import math
import time

import ipywidgets as widgets
import numpy as np
import scipy.sparse as sparse
from IPython.display import display

from c2f_np.course import exercise
from c2f_np.gradcheck import check_convention, check_gradients
from c2f_np.model.codebook import soft_threshold, soft_threshold_backward, soft_threshold_backward_tau
from c2f_np.plotting.functions import against_threshold, function_and_slope, objectives, shrinking, trajectories

# %% [markdown]
# ## The idea
#
# Say an entry is $e = 2.5$ and the threshold is $\tau = 1$: the result is $1.5$. For $e = -3$ it is $-2$. For $e = 0.4$ it is $0$, and for $e = -0.9$ as well. In one formula,
#
# $$f = \operatorname{sign}(e)\,\max(|e| - \tau,\ 0).$$
#
# Everything within $\tau$ of zero *becomes* zero, exactly, not nearly. A zero need not be stored and need not be multiplied; and a codebook in which each row uses a few columns only is easier to read than one in which everything is a little on. Here is the function, beside its slope, for $\tau = 1$.

# %%
tau = 1.0
e = np.linspace(-3, 3, 602)  # no point lies at a kink
one = np.ones((1, len(e)))
value, slope = soft_threshold(e[None], tau)[0], soft_threshold_backward(one, e[None], tau)[0]
function_and_slope(e, value, slope, {-1.0: (0.0, 1.0, 0.0), 1.0: (0.0, 1.0, 0.0)})

# %% [markdown]
# Three straight pieces, joined without a jump at $\pm\tau$. The slope is 1 outside and 0 inside; at the two kinks it jumps. The dots say which value *we* take there; more on that below. Note that the function never reaches the dashed identity: what survives is moved by $\tau$, too.
#
# ## The mathematics
#
# **Where it comes from.** Fix a number $e$. Which $x$ is close to $e$ *and* small? Weigh the two wishes against each other:
#
# $$x^\star = \arg\min_x\ q(x), \qquad q(x) = \tfrac12 (x - e)^2 + \tau |x|, \qquad \tau \ge 0.$$
#
# The first term pulls towards $e$, the second towards 0. (This is called the *proximal map* of $\tau|x|$.) Because of $|x|$ we go case by case.
#
# **Case $x > 0$.** There $q(x) = \frac12 (x-e)^2 + \tau x$, with the derivative $q'(x) = x - e + \tau$. It is 0 at $x = e - \tau$. That is a point of this case only if $e - \tau > 0$, i.e. $e > \tau$. If $e \le \tau$, then $q'(x) = x - (e - \tau) \ge x > 0$: $q$ increases all the way on this side, and nothing here is better than $x = 0$.
#
# **Case $x < 0$.** There $q(x) = \frac12 (x-e)^2 - \tau x$ and $q'(x) = x - e - \tau$, which is 0 at $x = e + \tau$: in this case only if $e < -\tau$. If $e \ge -\tau$, then $q'(x) = x - (e + \tau) \le x < 0$: $q$ decreases up to 0, and nothing here is better than $x = 0$.
#
# **Together.** If $e > \tau$, the second case has nothing to offer (since $e \ge -\tau$) and the minimum is $e - \tau$. If $e < -\tau$, it is $e + \tau$. If $-\tau \le e \le \tau$, neither side offers anything better than 0, and the minimum is 0:
#
# $$x^\star = \begin{cases} e - \tau & e > \tau\\ 0 & |e| \le \tau\\ e + \tau & e < -\tau\end{cases} \;=\; \operatorname{sign}(e)\max(|e|-\tau, 0).$$
#
# The soft threshold is not a hack that makes zeros: it is the exact compromise between "stay where you are" and "be small", when small is measured by the absolute value. Below, the objective for $e = 2$ and for $e = 0.6$. In the second the kink of $\tau|x|$ at 0 is stronger than the pull of the parabola, and holds the minimum exactly at 0.

# %%
x = np.linspace(-1.2, 3.2, 441)
panels = {}
for at in (2.0, 0.6):
    q = (x - at) ** 2 / 2 + tau * np.abs(x)
    best = soft_threshold(np.array([[at]]), tau)[0, 0]
    panels[f"e = {at:g}"] = (x, {"q": q, "(x - e)²/2": (x - at) ** 2 / 2, "|x|": np.abs(x)}, best)
    assert np.isclose(x[np.argmin(q)], best), "the formula finds the lowest point of the curve"
objectives(panels)

# %% [markdown]
# The same for a thousand random $e$, against the lowest point of a fine grid:

# %%
rng = np.random.default_rng(0)
some = rng.normal(0, 1.5, 1000)
grid = np.linspace(-8, 8, 3201)  # spacing 0.005, zero included
lowest = grid[np.argmin((grid - some[:, None]) ** 2 / 2 + tau * np.abs(grid), axis=1)]
assert np.max(np.abs(lowest - soft_threshold(some[None], tau)[0])) < 0.0026, "within half a spacing of the grid"

# %% [markdown]
# **How sparse?** If the entries are spread like a normal distribution with variance 1, the share of zeros is the probability of $|e| \le \tau$, which is $\operatorname{erf}(\tau/\sqrt2)$. At $\tau = 1$ that is 68 %: two of three entries.

# %%
E = rng.standard_normal((40, 64))
taus = np.linspace(0, 3, 31)
expected = np.array([math.erf(t / math.sqrt(2)) for t in taus])
counted = np.array([np.mean(soft_threshold(E, t) == 0) for t in taus])
assert round(math.erf(1 / math.sqrt(2)), 2) == 0.68
assert np.abs(counted - expected).max() < 4 * 0.5 / np.sqrt(E.size), "four standard deviations of a share, at most"
against_threshold(taus, {"normal distribution": expected, "40 x 64 random entries": counted}, ylabel="share of zeros", mark=1.0)

# %% [markdown]
# A picture to play with. Move the slider (with a running kernel) and watch the white grow; the picture under it is the same thing at $\tau = 1$, for readers without one.

# %%
codebook = np.random.default_rng(3).standard_normal((12, 16))


def at_threshold(tau):
    display(shrinking(codebook, soft_threshold(codebook, tau), tau))


widgets.interact(at_threshold, tau=widgets.FloatSlider(value=0.5, min=0, max=2.5, step=0.05, continuous_update=False));

# %%
shrinking(codebook, soft_threshold(codebook, 1.0), 1.0)

# %% [markdown]
# On the right each dot is an entry: across, what it was; up, what it is now. The hatched band is the dead zone, where everything lies at 0; the two branches outside run parallel to the dashed identity, $\tau$ nearer to zero.
#
# ## Forward

# %%
print(inspect.getsource(soft_threshold))

# %% [markdown]
# Two details deserve a word. The branch asks for `E.real`, because one of the checks below puts complex numbers in. And an entry at exactly $\tau$ counts as inside (its value is 0 either way). `_require_threshold` refuses a negative $\tau$; `number` keeps a NumPy scalar from raising the precision of the codebook.
#
# A $3 \times 2$ codebook by hand, $\tau = 1$. One entry lies exactly at the threshold.
#
# $$E = \begin{pmatrix} 2.5 & -0.4\\ -3 & 1\\ 0.8 & 1.5\end{pmatrix}, \qquad F = \begin{pmatrix} 1.5 & 0\\ -2 & 0\\ 0 & 0.5\end{pmatrix}.$$

# %%
E = np.array([[2.5, -0.4], [-3.0, 1.0], [0.8, 1.5]])
assert np.array_equal(soft_threshold(E, 1.0), [[1.5, 0], [-2, 0], [0, 0.5]])

# %% [markdown]
# ## Backward
#
# **With respect to the codebook.** Each entry of $F$ depends on the same entry of $E$ alone. The derivative of each of the three pieces can be read off:
#
# $$\frac{\partial f}{\partial e} = \begin{cases} 1 & |e| > \tau\\ 0 & |e| < \tau\end{cases}$$
#
# (in the piece $e + \tau$, for negative $e$, it is $+1$ as well: the sign has nothing to say here). With the cotangent $G_F$, the gradient of the loss at $F$, the chain rule gives, entry by entry,
#
# $$G_E = G_F \cdot [\,|E| > \tau\,].$$
#
# **With respect to the threshold.** Again piece by piece: $e - \tau$ has the derivative $-1$ with respect to $\tau$, $e + \tau$ has $+1$, and $0$ has $0$. In one formula, $-\operatorname{sign}(e)$ outside and $0$ inside. But now one $\tau$ serves *all* entries. A change $\mathrm d\tau$ changes every $F_{mf}$, and the loss by the sum of all consequences:
#
# $$\mathrm d\ell = \sum_{mf} (G_F)_{mf}\, \mathrm dF_{mf} = -\sum_{mf:\, |E_{mf}| > \tau} (G_F)_{mf} \operatorname{sign}(E_{mf})\; \mathrm d\tau, \qquad\text{so}\qquad G_\tau = -\sum_{|E| > \tau} G_F \operatorname{sign}(E).$$
#
# What is *repeated* in the forward is *summed* in the backward.
#
# **By hand**, for the codebook above, with $G_F = \begin{pmatrix}1&2\\3&4\\5&6\end{pmatrix}$. Outside the threshold lie $2.5$, $-3$ and $1.5$, so
#
# $$G_E = \begin{pmatrix}1&0\\3&0\\0&6\end{pmatrix}, \qquad G_\tau = -(1\cdot 1 + 3\cdot(-1) + 6\cdot 1) = -4.$$

# %%
G = np.array([[1.0, 2], [3, 4], [5, 6]])
assert np.array_equal(soft_threshold_backward(G, E, 1.0), [[1, 0], [3, 0], [0, 6]])
assert soft_threshold_backward_tau(G, E, 1.0) == -4

# %%
print(inspect.getsource(soft_threshold_backward))
print(inspect.getsource(soft_threshold_backward_tau))

# %% [markdown]
# **Exactly at the threshold** the function has a slope of 0 on one side and 1 on the other, and no derivative. At $+\tau$ the corner points down, and a line through it with any slope between 0 and 1 stays below the function: each such slope is called a *subgradient*. (At $-\tau$ the picture is upside down.) A program must return some number, and we say which: **0**. What matters is that the choice is made once, written down, and tested to the last bit, since no numerical check can decide it.

# %%
at = {"E": np.array([[1.0, -1.0, 1.5, -2.0, 0.5]]), "tau": 1.0}
convention = check_convention(
    lambda grad_F, E, tau: {"grad_E": soft_threshold_backward(grad_F, E, tau)},
    at=at, expected={"E": np.array([[0.0, 0, 1, 1, 0]])}, name="at the threshold",
)  # fmt: skip
assert convention.passed
convention

# %% [markdown]
# Does an entry ever lie there? A random number hits $\tau = 1$ practically never. But there is one case that does occur: $\tau = 0$. Then $f(e) = e$, a straight line without any kink, and yet an entry that is exactly $0$ satisfies $|e| \le \tau$ and gets the slope 0. Someone who switches thresholding off by $\tau = 0$, and starts from a codebook that contains zeros, freezes these zeros. A convention is a decision with consequences; better to know them.

# %%
zeros = np.zeros((1, 3))
assert np.all(soft_threshold_backward(np.ones((1, 3)), zeros, 0.0) == 0), "at tau = 0 a zero entry gets no gradient"
assert np.all(soft_threshold_backward(np.ones((1, 3)), zeros + 1e-300, 0.0) == 1), "the smallest push sets it free"

# %% [markdown]
# ### The dead zone
#
# Inside the threshold the gradient is not small: it is 0. An entry there contributes nothing, so nothing tells it to move, so it stays. Outside, an entry may be pushed in at any step. The door opens in one direction only.
#
# A toy training shows it. Six entries; each has a target $t$, and the loss is $\frac12 \sum (F - t)^2$, so the cotangent is $F - t$. We take gradient steps on $E$, with $\tau = 1$. All targets but the last are not 0: to reach them, an entry of $E$ has to be outside of the threshold in the end.

# %%
targets = np.array([[2.5, -1.5, 1.7, 0.6, -2.0, 0.0]])
begin = np.array([[1.2, -1.2, 0.9, -0.3, 1.4, 2.2]])


def train(begin, steps=40, rate=0.15):
    E = begin.copy()
    path = [E[0].copy()]
    for _ in range(steps):
        F = soft_threshold(E, 1.0)
        E = E - rate * soft_threshold_backward(F - targets, E, 1.0)
        path.append(E[0].copy())
    return np.array(path)


through = train(begin)

# %% [markdown]
# Now the other way to use the same function, as in the method ISTA: the parameter $x$ is what is thresholded *after* each step, with a threshold in proportion to the step, and the gradient is taken at $x$ without any mask. It minimises $\frac12 \sum (x - t)^2 + \sum |x|$.

# %%
def train_proximal(begin, steps=40, rate=0.15):
    x = soft_threshold(begin, 1.0)
    path = [x[0].copy()]
    for _ in range(steps):
        x = soft_threshold(x - rate * (x - targets), rate * 1.0)
        path.append(x[0].copy())
    return np.array(path)


proximal = train_proximal(begin)
titles = {"gradient through the threshold: E": (through, 1.0), "threshold after the step: x": (proximal, 0.0)}
trajectories(titles, targets[0])

# %% [markdown]
# Each line belongs to the target with the same marker, at the right edge of its panel. Left: the hatched band is the dead zone. Two entries began inside it (0.9 and -0.3) and their lines are level from the first step to the last, whatever their targets. The one that began at 1.4 with the target $-2$ walks into the band and is caught. The others go to $t + \operatorname{sign}(t)\tau$, which is where $F = t$; the one with the target 0 approaches the edge of the band from outside. Right: there is no such band for $x$. Entries leave zero and pass through it freely, and end at the thresholded target: $1.5$ for the target $2.5$, and so on.
#
# The two are not two ways of writing one method. In the model, thresholding is a *layer*: the codebook $E_f$ may be anything, and what is used is $F$. The left picture is what it does.

# %%
assert np.all(through[:, 2] == 0.9) and np.all(through[:, 3] == -0.3), "they began inside and never moved"
assert abs(through[-1, 4]) < 1 and np.all(through[-10:, 4] == through[-1, 4]), "walked in, and was caught"
assert np.allclose(through[-1, [0, 1]], [3.5, -2.5], atol=0.01), "target plus sign times threshold"
assert np.allclose(proximal[-1], soft_threshold(targets, 1.0)[0], atol=0.01), "the proximal method ends at the thresholded target"
assert proximal[0, 2] == 0 < proximal[-1, 2], "one entry left zero"
assert proximal[0, 4] > 0 > proximal[-1, 4], "one entry went through zero to the other side"

# %% [markdown]
# (With an optimiser that has momentum, such as Adam, an entry coasts on for a few steps after its gradient has become zero, and may by luck coast out at the far side. Nothing steers it, though.)
#
# ## Predict
#
# You check this gradient with a central difference, $\frac{f(e+h) - f(e-h)}{2h}$ with $h = 10^{-5}$. One entry lies a hair outside the threshold: $e = \tau + 10^{-7}$. The derivative there is 1, no doubt. **What does the central difference say, and what error do you expect?**
#
# <details><summary>Answer</summary>
#
# $e - h$ lies inside, where $f = 0$; $e + h$ lies outside, where $f = h + 10^{-7}$. So the difference is $(h + 10^{-7}) / (2h) = 0.505$, and the error is about one half. It is not a matter of rounding, and making $h$ ten times smaller does not help until $h < 10^{-7}$. A difference across a kink is not an approximation of any derivative.
# </details>

# %%
h, near = 1e-5, np.array([[1 + 1e-7]])
difference = (soft_threshold(near + h, 1.0) - soft_threshold(near - h, 1.0)) / (2 * h)
print(f"central difference {difference[0, 0]:.3f}, derivative {soft_threshold_backward(np.ones((1, 1)), near, 1.0)[0, 0]:.0f}")
assert abs(difference[0, 0] - 0.505) < 1e-6

# %% [markdown]
# ## Check
#
# What is to be done? Not to loosen the tolerance until it passes: a tolerance that lets this by lets everything by. Instead, tell the checker *which branch each entry takes*. It then uses a step only if no entry changes branch between $e - h$ and $e + h$; an entry for which no step is small enough is left out, and counted, and too many of them are a failure.

# %%
def backward(grad_F, E, tau):
    return {"grad_E": soft_threshold_backward(grad_F, E, tau), "grad_tau": soft_threshold_backward_tau(grad_F, E, tau)}


def branches(E, tau):
    return (E > tau).astype(int) - (E < -tau)


E = rng.standard_normal((8, 6))
E[0, 0], E[1, 1] = 0.5, -0.5  # exactly at the threshold: no step is small enough
report = check_gradients(soft_threshold, backward, {"E": E, "tau": 0.5}, wrt="E", active_set=branches, name="soft threshold")
assert report.passed
assert report.verdict("central_difference", "E").left_out == 2
report

# %% [markdown]
# The central difference left out exactly our two entries; that is asserted. (The column shows the larger count of the Taylor rate, which walks along random directions with larger steps, and so crosses a few more kinks.) For $\tau$ we take a codebook without such entries, because a change of $\tau$ moves the threshold past them for *every* step:

# %%
off = np.where(np.abs(np.abs(E) - 0.5) < 0.02, 1.0, E)
assert np.abs(np.abs(off) - 0.5).min() > 0.01
report_tau = check_gradients(
    soft_threshold, backward, {"E": off, "tau": 0.5}, wrt=("E", "tau"), active_set=branches, name="soft threshold"
)
assert report_tau.passed
report_tau

# %% [markdown]
# And three wrong backwards that somebody has written somewhere, which must not pass:

# %%
wrong = {
    "no mask": lambda grad_F, E, tau: {"grad_E": 1.0 * grad_F},
    "mask on the wrong side": lambda grad_F, E, tau: {"grad_E": np.where(np.abs(E) > tau, 0.0, grad_F)},
    "sign left in": lambda grad_F, E, tau: {"grad_E": np.where(np.abs(E) > tau, grad_F * np.sign(E), 0.0)},
}
for name, function in wrong.items():
    found = check_gradients(soft_threshold, function, {"E": off, "tau": 0.5}, wrt="E", active_set=branches)
    print(f"{name:<24} rejected by {', '.join(found.killed_by)}")
    assert not found.passed

# %% [markdown]
# ## Faster
#
# There is no compiled version. NumPy makes several passes over the codebook (absolute values, comparison, signs, product, difference, selection), each with an array of its own; but a fine codebook is small, 40 rows of 64 numbers in the presets, and stays in the processor's cache. What one threshold costs, beside one sparse product of the size of MovieLens 100K, which a training step needs several times:

# %%
codebook = rng.standard_normal((40, 64)).astype(np.float32)
graph = sparse.random_array((2700, 2700), density=200_000 / 2700**2, format="csr", rng=np.random.default_rng(1), dtype=np.float32)
values = rng.standard_normal((2700, 64)).astype(np.float32)


def best_of(work, n=15):
    """Seconds of the fastest of n calls."""
    times = []
    for _ in range(n):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


threshold, product = best_of(lambda: soft_threshold(codebook, 1.0)), best_of(lambda: graph @ values)
print(f"a threshold takes {threshold / product:.1%} of a sparse product")
assert threshold < product

# %% [markdown]
# ## Exercises
#
# ### 1. The gradient with respect to the codebook

# %%
task = exercise("soft_threshold_backward")
task


# %%
def my_soft_threshold_backward(grad_F, E, tau):
    raise NotImplementedError


task.check(my_soft_threshold_backward);

# %%
# print(task.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def soft_threshold_backward(grad_F, E, tau):
#     return np.where(np.abs(E) > tau, grad_F, 0.0)
# ```
# </details>
#
# ### 2. The gradient with respect to the threshold

# %%
task = exercise("soft_threshold_backward_tau")
task


# %%
def my_soft_threshold_backward_tau(grad_F, E, tau):
    raise NotImplementedError


task.check(my_soft_threshold_backward_tau);

# %%
# print(task.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def soft_threshold_backward_tau(grad_F, E, tau):
#     outside = np.abs(E) > tau
#     return -np.sum(grad_F[outside] * np.sign(E[outside]))
# ```
# </details>
#
# ### 3. One threshold for each column

# %%
task = exercise("soft_threshold_columns_backward")
task


# %%
def my_soft_threshold_columns_backward(grad_F, E, tau):
    raise NotImplementedError


task.check(my_soft_threshold_columns_backward);

# %%
# print(task.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def soft_threshold_columns_backward(grad_F, E, tau):
#     outside = np.abs(E) > tau  # tau of shape (d,) meets every row
#     grad_E = np.where(outside, grad_F, 0.0)
#     grad_tau = -np.sum(grad_E * np.sign(E), axis=0)  # repeated over rows in the forward, so summed over rows here
#     return grad_E, grad_tau
# ```
# </details>
#
# ### 4. Another penalty
#
# Derive it on paper first, with the three cases as above.

# %%
task = exercise("elastic_net_prox")
task


# %%
def my_prox(e, tau, rho):
    raise NotImplementedError


task.check(my_prox);

# %%
# print(task.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# For $x > 0$ the derivative is $(x - e) + \tau + \rho x$, zero at $x = (e - \tau)/(1 + \rho)$, which is positive exactly if $e > \tau$. The case $x < 0$ is the mirror image, and for $|e| \le \tau$ neither side improves on 0. The quadratic term changes how far a survivor is moved, but not who survives.
#
# ```python
# def elastic_net_prox(e, tau, rho):
#     return np.sign(e) * np.maximum(np.abs(e) - tau, 0) / (1 + rho)
# ```
# </details>
#
# ### 5. To think about
#
# A loss is smallest for *large* entries of $F$. In which direction does $G_\tau$ point, and what would happen if $\tau$ were trained together with the codebook?
#
# <details><summary>Answer</summary>
#
# If the loss falls when entries grow in size, then $G_F$ has the opposite sign of $E$ on the survivors, each product $G_F \operatorname{sign}(E)$ is negative, and $G_\tau > 0$: a gradient step makes $\tau$ smaller. Unless something pays for sparsity, a trained threshold has no reason not to go to 0. That is why $\tau$ is a setting here and its gradient is there for whoever wants to add such a price.
# </details>
#
# ## Read next
#
# - `04_composition_and_bridging`: where the thresholded codebook $F$ goes.
# - `docs/checking_gradients.md`, section *Kinks*: the same story with 64,000 entries.
# - N. Parikh and S. Boyd, *Proximal Algorithms* (2014), for proximal maps of everything else. The model: Wang et al., arXiv 2501.11870.
