# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 03 · Soft thresholding: zeros on purpose, and what a derivative means at a kink
#
# *Reading: 20 minutes. Exercises: 4.*
#
# ## What you will do
#
# The model stores its finer details in a small table of $M$ rows and $d$ columns, the *fine codebook* $E_f$. It is made sparse: every entry is moved towards zero by a fixed amount $\tau$, and what would cross zero stops there. At the end you will have written the backward of this with respect to the codebook and to $\tau$, and solved the small optimisation problem that the function is the answer to. Then you watch what a slope of 0 does to a training, and check a function with kinks without fooling yourself.
#
# You need your checker from [01](01_checking_a_gradient.ipynb), and nothing from 00 and 02. All letters are on the [page of symbols](symbols.md); here $e$ is one entry of a codebook.

# %%
import math
import time

import numpy as np

from c2f_np.course import exercise, my_model
from c2f_np.gradcheck import check_gradients
from c2f_np.plotting import computation
from c2f_np.plotting.functions import against_threshold, function_and_slope, objectives, shrinking, trajectories

my = my_model(or_answers=True)
rng = np.random.default_rng(0)

# %% [markdown]
# ## The idea
#
# Say an entry is $e = 2.5$ and the threshold is $\tau = 1$: the result is $1.5$. For $e = -3$ it is $-2$. For $e = 0.4$ it is $0$, and for $e = -0.9$ as well. Everything within $\tau$ of zero *becomes* zero, exactly, not nearly. A zero need not be stored and need not be multiplied.

# %%
computation("E_f", "F", model="fine")

# %% [markdown]
# ## Write: the threshold
#
# ### Forward
#
# $$f = \operatorname{sign}(e)\,\max(|e| - \tau,\ 0),\qquad F=f(E_f)\ \text{entry by entry.}$$

# %%
def soft_threshold(E, tau):
    outside = np.abs(np.real(E)) > np.real(tau)  # the real part decides, so that a complex step can be taken
    return np.where(outside, E - np.sign(np.real(E)) * tau, 0.0)


my.keep(soft_threshold)

# %% [markdown]
# ### By hand
#
# A $3 \times 2$ codebook, $\tau = 1$. One entry lies exactly at the threshold.
#
# $$E_f = \begin{pmatrix} 2.5 & -0.4\\ -3 & 1\\ 0.8 & 1.5\end{pmatrix}, \qquad F = \begin{pmatrix} 1.5 & 0\\ -2 & 0\\ 0 & 0.5\end{pmatrix}, \qquad\text{cotangent}\quad G_F = \begin{pmatrix}1&2\\3&4\\5&6\end{pmatrix}.$$
#
# On paper: which entries of $F$ move if you add a little to $E_f$, and by how much? By how much does $\langle G_F, F\rangle$ change if $\tau$ becomes $1+\mathrm d\tau$?

# %%
E = np.array([[2.5, -0.4], [-3.0, 1.0], [0.8, 1.5]])
assert np.array_equal(my.soft_threshold(E, 1.0), [[1.5, 0], [-2, 0], [0, 0.5]])

# %% [markdown]
# ### Your turn
#
# At $|e|=\tau$ the function has two slopes, one on each side, and no derivative. A program must return some number, and which is a **convention**: here it is 0.

# %%
task_1 = exercise("soft_threshold_backward")
task_1

# %%
def soft_threshold_backward(grad_F, E, tau):
    raise NotImplementedError


task_1.check(soft_threshold_backward).keep();

# %%
# print(task_1.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def soft_threshold_backward(grad_F, E, tau):
#     return np.where(np.abs(E) > tau, grad_F, 0.0)
# ```
# </details>

# %%
task_2 = exercise("soft_threshold_backward_tau")
task_2

# %%
def soft_threshold_backward_tau(grad_F, E, tau):
    raise NotImplementedError


task_2.check(soft_threshold_backward_tau).keep();

# %%
# print(task_2.hint())

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
# The function and its slope, and the numbers that were asked for on paper:

# %%
G = np.array([[1.0, 2], [3, 4], [5, 6]])
print("with respect to the codebook:", my.soft_threshold_backward(G, E, 1.0), sep="\n")
print("with respect to the threshold:", my.soft_threshold_backward_tau(G, E, 1.0))
assert np.array_equal(my.soft_threshold_backward(G, E, 1.0), [[1, 0], [3, 0], [0, 6]])
e = np.linspace(-3, 3, 602)  # no point lies at a kink
slope = my.soft_threshold_backward(np.ones((1, 602)), e[None], 1.0)[0]
function_and_slope(e, my.soft_threshold(e, 1.0), slope, {-1.0: (0, 1, 0), 1.0: (0, 1, 0)}, title="Soft threshold, τ = 1")

# %% [markdown]
# Three straight pieces, joined without a jump at $\pm\tau$. What survives is moved by $\tau$, too, and stays that far from the dashed identity.
#
# ### The derivation
#
# <details><summary>The derivation</summary>
#
# **With respect to the codebook.** Each entry of $F$ depends on the same entry of $E_f$ alone. The pieces $e-\tau$, $0$ and $e+\tau$ have the slopes 1, 0 and 1; the sign of $e$ has nothing to say. By the chain rule, entry by entry,
#
# $$G_{E_f} = G_F \circ [\,|E_f| > \tau\,].$$
#
# **With respect to the threshold.** $e - \tau$ has the derivative $-1$ with respect to $\tau$, $e + \tau$ has $+1$, and $0$ has $0$: in one formula $-\operatorname{sign}(e)$ outside and $0$ inside. But one $\tau$ serves *all* entries, and what is *repeated* in the forward is *summed* in the backward:
#
# $$G_\tau = -\sum_{|E_f| > \tau} G_F \operatorname{sign}(E_f).$$
#
# By hand: outside the threshold lie $2.5$, $-3$ and $1.5$, so $G_\tau = -(1\cdot 1 + 3\cdot(-1) + 6\cdot 1) = -4$.
#
# **Exactly at the threshold.** Near $+\tau$ the function is $\max(e-\tau, 0)$, whose corner points down: a line through the corner with any slope between 0 and 1 stays below the function there. Each such slope is called a *subgradient*, and each would be a defensible convention. (At $-\tau$ the picture is upside down, so that the function as a whole is neither convex nor concave.) What matters is that the choice is made once, written down, and tested to the last bit, since no measurement can decide it.
#
# </details>

# %%
assert my.soft_threshold_backward_tau(G, E, 1.0) == -4
at_the_corners = my.soft_threshold_backward(np.ones(5), np.array([1.0, -1.0, 1.5, -2.0, 0.5]), 1.0)
assert np.array_equal(at_the_corners, [0, 0, 1, 1, 0]), "the convention, to the last bit"

# %% [markdown]
# ## Write: the best compromise
#
# ### Forward
#
# Where does the function come from? Fix a number $e$. Which $x$ is close to $e$ *and* small? Weigh the two wishes against each other:
#
# $$x^\star = \arg\min_x\ q(x), \qquad q(x) = \tfrac12 (x - e)^2 + \tau |x|, \qquad \tau \ge 0.$$
#
# The first term pulls towards $e$, the second towards 0. (This is called the *proximal map* of $\tau|x|$.) The soft threshold is not a hack that makes zeros: it is the exact answer. In the second panel the kink of $\tau|x|$ at 0 is stronger than the pull of the parabola, and holds the minimum exactly at 0.

# %%
x = np.linspace(-1.2, 3.2, 441)
panels = {}
for at in (2.0, 0.6):
    q = (x - at) ** 2 / 2 + np.abs(x)
    best = float(my.soft_threshold(np.array([at]), 1.0)[0])
    panels[f"e = {at:g}, threshold 1"] = (x, {"q(x)": q, "(x - e)²/2": (x - at) ** 2 / 2, "|x|": np.abs(x)}, best)
    assert np.isclose(x[np.argmin(q)], best), "the formula finds the lowest point of the curve"
objectives(panels, title=r"The soft threshold is the minimiser of $q$")

# %% [markdown]
# ### By hand
#
# For $e=2$ and $\tau=1$: where $x>0$, $q'(x)=x-2+1$, which is 0 at $x=1$. So $x^\star=1$, as in the picture.
#
# ### Your turn
#
# Now with another penalty beside it, which makes large entries dear as well. Take paper: the cases are $x>0$, $x<0$ and $x=0$.

# %%
task_3 = exercise("elastic_net_prox")
task_3

# %%
def elastic_net_prox(e, tau, rho):
    raise NotImplementedError


task_3.check(elastic_net_prox).keep();

# %%
# print(task_3.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def elastic_net_prox(e, tau, rho):
#     return np.sign(e) * np.maximum(np.abs(e) - tau, 0) / (1 + rho)
# ```
# </details>

# %%
some = rng.normal(0, 1.5, 1000)
grid = np.linspace(-8, 8, 3201)  # spacing 0.005, zero included
for rho in (0.0, 0.5):
    q = (grid - some[:, None]) ** 2 / 2 + np.abs(grid) + rho / 2 * grid**2
    assert np.abs(grid[np.argmin(q, axis=1)] - my.elastic_net_prox(some, 1.0, rho)).max() < 0.0026, "half a spacing"
assert np.allclose(my.elastic_net_prox(some, 1.0, 0.0), my.soft_threshold(some, 1.0)), "without the second penalty"

# %% [markdown]
# ### The derivation
#
# <details><summary>The derivation</summary>
#
# $q(x) = \frac12 (x-e)^2 + \tau|x| + \frac\rho2x^2$.
#
# **Case $x > 0$.** $q'(x) = x - e + \tau + \rho x$, which is 0 at $x = (e - \tau)/(1+\rho)$: a point of this case only if $e > \tau$. If $e \le \tau$, then $q'(x) \ge (1+\rho)x > 0$: $q$ increases all the way on this side, and nothing here is better than $x = 0$.
#
# **Case $x < 0$.** $q'(x) = x - e - \tau + \rho x$, which is 0 at $x = (e + \tau)/(1+\rho)$: in this case only if $e < -\tau$. If $e \ge -\tau$, then $q'(x) \le (1+\rho)x < 0$: $q$ decreases up to 0.
#
# **Together.** If $e > \tau$, the minimum is $(e - \tau)/(1+\rho)$; if $e < -\tau$, it is $(e + \tau)/(1+\rho)$; if $|e| \le \tau$, neither side offers anything better than 0. With $\rho=0$ this is the soft threshold. The quadratic term changes how far a survivor is moved, but not who survives.
#
# </details>
#
# ## Predict
#
# You check your gradient with a central difference, $h = 10^{-5}$. One entry lies a hair outside the threshold: $e = \tau + 10^{-7}$. The derivative there is 1, no doubt. **What does the central difference say?** Does a ten times smaller step help?

# %%
near = np.array([1 + 1e-7])
for h in (1e-5, 1e-6, 1e-8):
    print(f"h = {h:.0e}: {my.central_difference(lambda e: my.soft_threshold(e, 1.0)[0], near, h)[0]:.3f}")
assert abs(my.central_difference(lambda e: my.soft_threshold(e, 1.0)[0], near, 1e-5)[0] - 0.505) < 1e-6

# %% [markdown]
# <details><summary>Why</summary>
#
# $e - h$ lies inside, where $f = 0$; $e + h$ lies outside, where $f = h + 10^{-7}$. So the difference is $(h + 10^{-7}) / (2h) = 0.505$. It is not a matter of rounding, and a smaller step does not help until $h < 10^{-7}$. A difference across a kink is not an approximation of any derivative.
# </details>
#
# ## Check
#
# What is to be done? Not to loosen the tolerance until it passes: a tolerance that lets this by lets everything by. Instead, say *which branch each entry takes*. The checker then uses a step only if no entry changes branch between $e - h$ and $e + h$; an entry for which no step is small enough is left out, and counted, and too many of them are a failure. Two entries lie exactly at the threshold:

# %%
def branches(E, tau):
    return (E > tau).astype(int) - (E < -tau)


def backward(grad_F, E, tau):
    return my.soft_threshold_backward(grad_F, E, tau)


E = rng.standard_normal((8, 6))
E[0, 0], E[1, 1] = 0.5, -0.5
report = check_gradients(my.soft_threshold, backward, {"E": E, "tau": 0.5}, wrt="E", active_set=branches, name="threshold")
assert report.passed and report.verdict("central_difference", "E").left_out == 2
report

# %% [markdown]
# The central difference left out exactly our two entries; that is asserted. (The column shows the larger count of the Taylor rate, which walks along random directions with larger steps, and so crosses more kinks.) For $\tau$ your own gap will do, at a point without entries near the threshold: a change of $\tau$ moves it past them.

# %%
off = np.where(np.abs(np.abs(E) - 0.5) < 0.02, 1.0, E)
G = rng.standard_normal(E.shape)
gap_tau = my.gradient_gap(
    lambda tau: np.sum(G * my.soft_threshold(off, tau[0])), lambda tau: np.array([my.soft_threshold_backward_tau(G, off, tau[0])]),
    np.array([0.5]),
)
print(f"gap of the threshold's gradient {gap_tau:.0e}")
assert gap_tau < 1e-6

# %% [markdown]
# ## Try it
#
# ### How sparse?
#
# If entries are spread like a normal distribution with variance 1, the share of zeros is the probability of $|e| \le \tau$, which is $\operatorname{erf}(\tau/\sqrt2)$: at $\tau = 1$ 68 %, two of three entries. Put other numbers in; is it still true of a codebook after training?

# %%
codebook = rng.standard_normal((40, 64))
taus = np.linspace(0, 3, 31)
expected = np.array([math.erf(t / math.sqrt(2)) for t in taus])
counted = np.array([np.mean(my.soft_threshold(codebook, t) == 0) for t in taus])
assert round(math.erf(1 / math.sqrt(2)), 2) == 0.68
assert np.abs(counted - expected).max() < 4 * 0.5 / np.sqrt(codebook.size), "four standard deviations of a share, at most"
curves = {"normal distribution": expected, "40 x 64 random entries": counted}
against_threshold(taus, curves, ylabel="share of zeros in F", title="How many entries become 0", mark=1.0)

# %%
small = np.random.default_rng(3).standard_normal((12, 16))
shrinking(small, my.soft_threshold(small, 1.0), 1.0)

# %% [markdown]
# On the right each dot is an entry: across, what it was; up, what it is now. The two branches outside the hatched dead zone run parallel to the dashed identity, $\tau$ nearer to zero. Change the threshold in the cell.
#
# ### The dead zone
#
# Inside the threshold the gradient is not small: it is 0. An entry there contributes nothing, so nothing tells it to move, so it stays. Outside, an entry may be pushed in at any step. The door opens in one direction only. A toy training shows it: six entries, each with a target, and the loss $\frac12 \sum (F - \text{target})^2$, so that the cotangent is $F - \text{target}$. **Which of the six will not arrive?**

# %%
targets = np.array([[2.5, -1.5, 1.7, 0.6, -2.0, 0.0]])
begin = np.array([[1.2, -1.2, 0.9, -0.3, 1.4, 2.2]])


def through_the_threshold(E, steps=40, rate=0.15):
    path = [E[0].copy()]
    for _ in range(steps):
        F = my.soft_threshold(E, 1.0)
        E = E - rate * my.soft_threshold_backward(F - targets, E, 1.0)
        path.append(E[0].copy())
    return np.array(path)


def threshold_after_the_step(x, steps=40, rate=0.15):
    x = my.soft_threshold(x, 1.0)
    path = [x[0].copy()]
    for _ in range(steps):
        x = my.soft_threshold(x - rate * (x - targets), rate * 1.0)
        path.append(x[0].copy())
    return np.array(path)


through, proximal = through_the_threshold(begin), threshold_after_the_step(begin)
titles = {"Gradient through the threshold: E (hatched: dead zone)": (through, 1.0), "Threshold after each step: x": (proximal, 0.0)}
trajectories(titles, targets[0], title="Six numbers on their way to six targets (same colour and marker)")

# %% [markdown]
# Each line belongs to the target with the same marker, at the right edge. Left: two entries began inside the dead zone (0.9 and −0.3), and their lines are level whatever their targets. The one that began at 1.4 with the target −2 walks into the zone and is caught. The one whose target is 0 comes down to the edge of the zone. The other two go to $\text{target} + \operatorname{sign}(\text{target})\,\tau$, which is where $F$ is the target.
#
# Right: another use of the same function, as in the method ISTA. The parameter $x$ is thresholded *after* each step, by a threshold in proportion to the step, and the gradient is taken without any mask. It minimises $\frac12 \sum (x - \text{target})^2 + \sum |x|$. Entries leave zero and pass through it freely, and end at the thresholded target. The two are not two ways of writing one method. In the model, thresholding is a *layer*: $E_f$ may be anything, and what is used is $F$. The left picture is what it does.

# %%
assert np.all(through[:, 2] == 0.9) and np.all(through[:, 3] == -0.3), "they began inside and never moved"
assert abs(through[-1, 4]) < 1 and np.all(through[-10:, 4] == through[-1, 4]), "walked in, and was caught"
assert np.allclose(through[-1, [0, 1]], [3.5, -2.5], atol=0.01), "target plus sign times threshold"
assert 1 <= through[-1, 5] < 1.01, "at the edge"
assert np.allclose(proximal[-1], my.soft_threshold(targets, 1.0)[0], atol=0.01)
assert proximal[0, 2] == 0 < proximal[-1, 2] and proximal[0, 4] > 0 > proximal[-1, 4], "left zero; passed through it"

# %% [markdown]
# ### A threshold that is switched off
#
# With $\tau = 0$ the function is a straight line without a kink. And yet here is a training with $\tau=0$ in which one entry never moves. Why? What is the smallest change to `begin` that sets it free?

# %%
frozen = np.array([[0.0, 0.5]])
for _ in range(100):
    frozen = frozen - 0.1 * my.soft_threshold_backward(my.soft_threshold(frozen, 0.0) - 1.0, frozen, 0.0)
print("both should be 1:", frozen)
assert frozen[0, 0] == 0 and abs(frozen[0, 1] - 1) < 1e-4

# %% [markdown]
# <details><summary>Why</summary>
#
# The entry is exactly 0, so $|e|\le\tau$, and the convention gives it the slope 0. Whoever switches thresholding off in this way, and starts from a codebook with zeros, freezes them. Any push, $10^{-300}$ say, sets them free. A convention is a decision with consequences.
# </details>

# %%
assert my.soft_threshold_backward(np.ones(1), np.array([1e-300]), 0.0)[0] == 1

# %% [markdown]
# ## Faster
#
# The package's functions are the same lines, and there is no compiled version: a fine codebook is small, say 40 rows of 64 numbers. What it costs, beside one product of a graph as large as that of MovieLens 100K, of which a training step needs several:

# %%
import scipy.sparse as sparse

from c2f_np.model import codebook as package

assert np.array_equal(my.soft_threshold(codebook, 1.0), package.soft_threshold(codebook, 1.0))
E_f, G_F = codebook.astype(np.float32), rng.standard_normal(codebook.shape).astype(np.float32)
assert np.array_equal(my.soft_threshold_backward(G_F, E_f, 1.0), package.soft_threshold_backward(G_F, E_f, 1.0))
graph = sparse.random_array((2700, 2700), density=200_000 / 2700**2, format="csr", rng=np.random.default_rng(1), dtype=np.float32)
values = rng.standard_normal((2700, 64)).astype(np.float32)
microseconds = {}
for name, work in {"threshold": lambda: my.soft_threshold(E_f, 1.0), "product": lambda: graph @ values}.items():
    times = []
    for _ in range(15):
        begin_time = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin_time)
    microseconds[name] = 1e6 * min(times)
print({name: f"{value:.0f} microseconds" for name, value in microseconds.items()})
assert microseconds["threshold"] < microseconds["product"]

# %% [markdown]
# ## Exercises
#
# ### One threshold for each column

# %%
task_4 = exercise("soft_threshold_columns_backward")
task_4

# %%
def soft_threshold_columns_backward(grad_F, E, tau):
    raise NotImplementedError


task_4.check(soft_threshold_columns_backward).keep();

# %%
# print(task_4.hint())

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
# ### To think about
#
# A loss is smallest for *large* entries of $F$. Which sign has $G_\tau$, and what would happen if $\tau$ were trained together with the codebook?
#
# <details><summary>Answer</summary>
#
# If the loss falls when entries grow in size, then $G_F$ has the opposite sign of $E_f$ on the survivors, each product $G_F \operatorname{sign}(E_f)$ is negative, and $G_\tau > 0$: a gradient step makes $\tau$ smaller. Unless something pays for sparsity, nothing in this gradient keeps a trained threshold from going to 0. That is why $\tau$ is a setting here, and its gradient is there for whoever wants to add such a price.
# </details>
#
# ## Read next
#
# - [04](04_composition_and_bridging.ipynb): where the thresholded codebook $F$ goes.
# - [docs/checking_gradients.md](../docs/checking_gradients.md), section *Kinks*.
# - N. Parikh and S. Boyd, *Proximal Algorithms* (2014), for proximal maps of everything else. The model: Wang et al., arXiv 2501.11870.
