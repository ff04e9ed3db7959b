# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 01 · Checking a gradient
#
# *Reading: 25 minutes. Exercises: 6.*
#
# ## What you will do
#
# Every derivative in this course is written by hand, and none is believed. At the end of this notebook you will have written your first backward, and **your own checker**: `gradient_gap` holds a gradient against differences of its forward, `adjoint_gap` holds the backward of a linear map against the map. All later notebooks use them, and in the last one they have to find ten bugs. Then you see each instrument fail, because one whose errors you do not know is worse than none.
#
# You need the Taylor expansion, matrix products and NumPy; nothing from notebook 00. All letters are on the [page of symbols](symbols.md).

# %%
import time

import numpy as np

from c2f_np.course import exercise, my_model
from c2f_np.gradcheck import check_gradients
from c2f_np.plotting import computation
from c2f_np.plotting.checks import secant_picture, taylor_picture, v_curve_picture

my = my_model(or_answers=True)
rng = np.random.default_rng(0)

# %% [markdown]
# ## The idea
#
# A derivative is a slope, and a slope can be measured: go a small step $h$, see how much the function has changed, divide. Take $f(x)=x^2$ at $x=1$, where the slope is 2, and $h=0.1$. Going to the right only (the **one-sided** difference) gives $(1.21-1)/0.1=2.1$. Going to both sides (the **central** difference) gives $(1.21-0.81)/0.2=2$. The measurement uses the function and nothing else, so it cannot share a mistake with the derivative that you found on paper.

# %%
assert np.isclose((1.1**2 - 1) / 0.1, 2.1) and np.isclose((1.1**2 - 0.9**2) / 0.2, 2)
x = np.linspace(0.2, 1.75, 50)
points = {"one-sided": (1, 1, 1.6, 1.6**2), "central": (0.4, 0.4**2, 1.6, 1.6**2)}
secant_picture(x, x**2, points, tangent=(1, 1, 2), title="f(x) = x² at 1, with a step of 0.6 to make the difference visible")

# %% [markdown]
# The model is a chain of functions, of arrays instead of numbers. Forward, along the arrows, it computes the loss; backward, against them, each function turns the gradient at its output into the gradient at its input. What comes back along each arrow you will find out one arrow at a time in the notebooks that follow, and each will be checked alone. (The names in the boxes are explained there, too.)

# %%
computation("S_c", "E_c", "E_f", "F", "S_d", "E_hat", "Z", "X0", "H", "scores", "loss", model="joint")

# %% [markdown]
# ## Write: a measured gradient
#
# ### Forward
#
# A function of an array with one number as its result has a slope for every entry of the array. The one here, softplus, is what our loss will consist of:

# %%
def loss(x):
    return np.sum(np.log1p(np.exp(x)))


print(loss(np.array([0.0, 1.0, -2.0])))

# %% [markdown]
# ### By hand
#
# $f(x)=x_1^2\,x_2$ at $(1, 2)$ with $h=0.1$. Moving the first entry: $(1.1^2\cdot2-0.9^2\cdot2)/0.2=4$. Moving the second: $(2.1-1.9)/0.2=1$. The measured gradient is $(4, 1)$.
#
# ### Your turn

# %%
task_1 = exercise("central_difference")
task_1

# %%
def central_difference(f, x, h):
    raise NotImplementedError


task_1.check(central_difference).keep();

# %%
# print(task_1.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def central_difference(f, x, h):
#     gradient = np.zeros_like(x)
#     for k in np.ndindex(*x.shape):
#         up, down = x.copy(), x.copy()
#         up[k] += h
#         down[k] -= h
#         gradient[k] = (f(up) - f(down)) / (2 * h)
#     return gradient
# ```
#
# </details>

# %%
assert np.allclose(my.central_difference(lambda x: x[0] ** 2 * x[1], np.array([1.0, 2.0]), 0.1), [4, 1])

# %% [markdown]
# ## Write: a distance
#
# ### Forward
#
# Measured and derived gradient will never agree to the last digit. Close enough, but relative to what? To the norm of the right one: then a gradient of zeros has the error 1 and $-G$ the error 2, whether the entries are of the size $10^{-9}$ or $10^9$.
#
# ### By hand
#
# The right gradient is $(3, 4)$, found is $(3, 5)$. The difference has the norm 1, the right one has the norm 5: the error is $0.2$.
#
# ### Your turn

# %%
task_2 = exercise("relative_error")
task_2

# %%
def relative_error(found, right):
    raise NotImplementedError


task_2.check(relative_error).keep();

# %%
# print(task_2.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def relative_error(found, right):
#     return np.linalg.norm(found - right) / np.linalg.norm(right)
# ```
#
# </details>
#
# Which step? Softplus at 2,000 random points between $-2$ and $2$; its derivative is $e^x/(1+e^x)$, the sigmoid. The third method takes a step in the *imaginary* direction. **Before you run the cell**: which power of ten will the error be for one-sided differences with $h=10^{-8}$, central ones with $10^{-5}$ and with $10^{-12}$, the complex step with $10^{-12}$?

# %%
def softplus(x):
    return np.log1p(np.exp(x))


x = np.random.default_rng(0).uniform(-2, 2, 2000)
right = 1 / (1 + np.exp(-x))
steps = 10.0 ** -np.arange(1, 16, 0.5)
errors = {
    "one-sided": np.array([my.relative_error((softplus(x + h) - softplus(x)) / h, right) for h in steps]),
    "central": np.array([my.relative_error((softplus(x + h) - softplus(x - h)) / (2 * h), right) for h in steps]),
    "complex step": np.array([my.relative_error(softplus(x + 1j * h).imag / h, right) for h in steps]),
}
v_curve_picture(steps, errors, title="Derivative of softplus: error against step")

# %%
at = dict(zip(np.round(-np.log10(steps), 1), range(len(steps)), strict=True))  # which place a step has
assert 1e-9 < errors["one-sided"][at[8.0]] < 1e-7 and errors["one-sided"].min() > 1e-9
assert 1e-12 < errors["central"][at[5.0]] < 1e-10 and errors["central"].min() > 1e-12
assert 1e-5 < errors["central"][at[12.0]] < 1e-3, "far too small a step"
assert errors["complex step"][at[12.0]] < 1e-15

# %% [markdown]
# ### The derivation
#
# <details><summary>Why there is a V, and how low it reaches</summary>
#
# Expand around $x$: $f(x\pm h)=f\pm hf'+\tfrac{h^2}{2}f''\pm\tfrac{h^3}{6}f'''+\dots$ The one-sided difference is $f'+\frac h2f''+\dots$; in the central one $f$ and $f''$ cancel, and it is $f'+\frac{h^2}{6}f'''+\dots$ This **truncation error** says: make $h$ small.
#
# But $f(x)$ is stored with a relative error of about $\mathrm{eps}\approx2\cdot10^{-16}$. The two values that are subtracted are nearly equal: most of their digits cancel and their errors do not. Divided by the step they are an error of about $\mathrm{eps}\,|f|/h$. This **rounding error** says: make $h$ large.
#
# With everything of the order of 1, $h+\mathrm{eps}/h$ is smallest at $h=\sqrt{\mathrm{eps}}\approx10^{-8}$, where the one-sided error is about $10^{-8}$; $h^2+\mathrm{eps}/h$ is smallest near $h=\mathrm{eps}^{1/3}\approx10^{-5}$, where the central error is about $\mathrm{eps}^{2/3}$, some $10^{-11}$. **Half of the digits, two thirds of the digits.** No single step gives more. (Two steps together can; see the last exercise.)
#
# **The complex step.** If the formula also makes sense for complex numbers, $f(x+ih)=f+ihf'-\tfrac{h^2}{2}f''-i\tfrac{h^3}{6}f'''+\dots$, so $\operatorname{Im}f(x+ih)/h=f'-\tfrac{h^2}{6}f'''+\dots$ Nothing is subtracted, so nothing cancels, and $h$ may be so small that the $h^2$ is below every rounding. **All of the digits.**
#
# </details>
#
# ## Write: a backward
#
# ### Forward
#
# Models are not functions of one number. A function takes an array $x$ to an array $y$, and something downstream turns $y$ into a loss $\ell$. All that it tells us is how $\ell$ reacts to each entry of $y$: an array $G_y$ of $y$'s shape, the **cotangent** at $y$. A **backward** turns $G_y$ into $G_x$. By the chain rule
#
# $$(G_x)_j=\sum_k (G_y)_k\,\frac{\partial y_k}{\partial x_j}=\frac{\partial}{\partial x_j}\langle G_y,y\rangle,\qquad \langle G_y,y\rangle=\sum_k (G_y)_k\,y_k .$$
#
# **A backward computes the gradient of the number $\langle G_y,y\rangle$**, with $G_y$ held constant. So every backward can be checked as the gradient of a number, whatever the rest of the model is. The first one that you write is that of a layer:

# %%
def tanh_layer(X, W):
    return np.tanh(X @ W)


my.keep(tanh_layer)

# %% [markdown]
# ### By hand
#
# Without the tanh, with one column:
#
# $$X=\begin{pmatrix}1&0\\1&1\\0&1\end{pmatrix},\quad W=\begin{pmatrix}2\\3\end{pmatrix},\quad Y=XW=\begin{pmatrix}2\\5\\3\end{pmatrix},\quad G_Y=\begin{pmatrix}1\\2\\-1\end{pmatrix},\quad \langle G_Y,Y\rangle=2+10-3=9.$$
#
# How does the 9 react to the 2 in $W$? It enters the first two entries of $Y$ with the weight 1: $1\cdot1+2\cdot1=3$. And to the 3? $2\cdot1+(-1)\cdot1=1$. We have read the *columns* of $X$.

# %%
X, W, G = np.array([[1.0, 0], [1, 1], [0, 1]]), np.array([[2.0], [3]]), np.array([[1.0], [2], [-1]])
assert np.sum(G * (X @ W)) == 9
assert np.allclose(my.central_difference(lambda W: np.sum(G * (X @ W)), W, 0.1), [[3], [1]]), "measured: as by hand"

# %% [markdown]
# ### Your turn

# %%
task_3 = exercise("tanh_layer_backward")
task_3

# %%
def tanh_layer_backward(grad_Y, X, W):
    raise NotImplementedError


task_3.check(tanh_layer_backward).keep();

# %%
# print(task_3.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def tanh_layer_backward(grad_Y, X, W):
#     grad_product = grad_Y * (1 - np.tanh(X @ W) ** 2)
#     return grad_product @ W.T, X.T @ grad_product
# ```
#
# </details>
#
# ### The derivation
#
# <details><summary>The derivation</summary>
#
# Two steps, from the end. Let $Q=XW$ and $Y=\tanh(Q)$. Each entry of $Q$ reaches the loss through one entry of $Y$, and $\tanh'=1-\tanh^2$, so $G_Q=G_Y\circ(1-Y\circ Y)$, where $\circ$ multiplies entry by entry. Then $\langle G_Q,XW\rangle=\sum_{k,j,f}(G_Q)_{kf}X_{kj}W_{jf}$: beside $X_{kj}$ stands $\sum_f(G_Q)_{kf}W_{jf}$, which is $(G_QW^\top)_{kj}$, and beside $W_{jf}$ stands $(X^\top G_Q)_{jf}$.
#
# </details>
#
# ## Write: your checker
#
# ### Forward
#
# Two functions, from what you have. The first: a gradient under test, its loss, a point. The result is one number, the relative error against central differences.
#
# ### Your turn

# %%
task_4 = exercise("gradient_gap")
task_4

# %%
def gradient_gap(loss, gradient, x):
    raise NotImplementedError


task_4.check(gradient_gap).keep();

# %%
# print(task_4.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def gradient_gap(loss, gradient, x):
#     return my.relative_error(gradient(x), my.central_difference(loss, x, 1e-5))
# ```
#
# </details>
#
# The second is for linear maps. Let $T$ be one, $y=Tx$. The derivative of $\langle G_y,Tx\rangle$ is $T^\top G_y$: the backward *is* the transpose. So for all $x$ and $y$
#
# $$\langle Tx,\,y\rangle=\langle x,\,T^\top y\rangle,$$
#
# the **adjoint identity**: exactly, with no step at all; only rounding is left. (By hand: $\langle XW,G_Y\rangle=9$, and $\langle W,X^\top G_Y\rangle=2\cdot3+3\cdot1=9$.) Propagation over a graph is linear, and the most expensive backward of this course is checked like this.

# %%
task_5 = exercise("adjoint_gap")
task_5

# %%
def adjoint_gap(forward, backward, x, y):
    raise NotImplementedError


task_5.check(adjoint_gap).keep();

# %%
# print(task_5.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def adjoint_gap(forward, backward, x, y):
#     image = forward(x)
#     return abs(np.sum(image * y) - np.sum(x * backward(y))) / (np.linalg.norm(image) * np.linalg.norm(y))
# ```
#
# </details>
#
# ## Predict
#
# The layer, with respect to $W$, with random $X$, $W$ and $G_Y$. Which gap will your checker report for the right gradient $G$, for $1.01\,G$, for $-G$, for $0$, and for the backward that forgets tanh′? **Write down** five powers of ten.

# %%
X, W, G = rng.standard_normal((5, 4)), rng.standard_normal((4, 3)), rng.standard_normal((5, 3))


def layer_loss(W):
    return np.sum(G * my.tanh_layer(X, W))


def layer_gradient(W):
    return my.tanh_layer_backward(G, X, W)[1]


candidates = {
    "right": layer_gradient,
    "1.01 G": lambda W: 1.01 * layer_gradient(W),
    "-G": lambda W: -layer_gradient(W),
    "0": lambda W: 0 * layer_gradient(W),
    "without tanh'": lambda W: X.T @ G,
}
gaps = {name: my.gradient_gap(layer_loss, gradient, W) for name, gradient in candidates.items()}
print({name: f"{gap:.0e}" for name, gap in gaps.items()})
print(f"adjoint gap of X @ W: {my.adjoint_gap(lambda W: X @ W, lambda G: X.T @ G, W, G):.0e}")
assert gaps["right"] < 1e-6 and np.allclose([gaps["1.01 G"], gaps["-G"], gaps["0"]], [0.01, 2, 1], rtol=1e-5)
assert gaps["without tanh'"] > 0.1 and my.adjoint_gap(lambda W: X @ W, lambda G: X.T @ G, W, G) < 1e-14

# %% [markdown]
# <details><summary>What to expect</summary>
#
# The right one $10^{-11}$ or so, the bottom of the V. The others $0.01$, $2$, $1$: they follow from the formula. Without tanh′ of the order of 1. There is a wide gap between right and wrong, and a tolerance of $10^{-8}$ lies comfortably in it.
#
# </details>
#
# ## Check
#
# The package has a checker as well, which tries all means at once:

# %%
report = check_gradients(tanh_layer, lambda grad_Y, X, W: my.tanh_layer_backward(grad_Y, X, W), {"X": X, "W": W}, name="layer")
assert report.passed and report.verdict("central_difference", "W").figure < 1e-11
report

# %% [markdown]
# From left to right: the error of central differences (better than a single step allows, since several steps are combined), of the complex step, the Taylor rate (below), the adjoint gap where an argument was declared linear, and how many comparisons were left out. There are 60 for the 20 entries of $X$: each entry is compared for three random cotangents. The row in brackets counts agreements that are not numbers: inputs untouched, the same result at every call, float32 stays float32.
#
# ## Try it
#
# Six cells in which a check goes wrong, and one more instrument. Find out why before you unfold; mend them, or break them further.
#
# ### 1. The gradient of the sum
#
# "Check the gradient of the sum of the outputs" is what many people do. The softmax below is right, and its backward has the wrong sign.

# %%
def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_backward(grad_y, x):
    y = softmax(x)
    return -y * (grad_y - np.sum(grad_y * y, axis=1, keepdims=True))


x = rng.standard_normal((8, 5))
accepted = {}
for name, G_y in {"ones (the sum)": np.ones((8, 5)), "random": rng.standard_normal((8, 5))}.items():
    measured = my.central_difference(lambda x: np.sum(G_y * softmax(x)), x, 1e-5)
    accepted[name] = np.allclose(softmax_backward(G_y, x), measured, atol=1e-8)
print("accepted:", accepted)
assert accepted == {"ones (the sum)": True, "random": False}

# %% [markdown]
# <details><summary>Why</summary>
#
# Each row of a softmax sums to 1, *whatever* $x$ is: the gradient of the sum is 0, and so is that of a backward with the wrong sign, or multiplied by 17. Ones are orthogonal to all there is to see. A random cotangent has no such friends; that is why the exercises give you one.
#
# </details>
#
# ### 2. A transpose forgotten

# %%
T = rng.standard_normal((6, 6))
x, y = rng.standard_normal((2, 6, 3))
forgotten = {}
for name, matrix in {"T + T'": T + T.T, "T": T}.items():
    forgotten[name] = my.adjoint_gap(lambda x: matrix @ x, lambda y: matrix @ y, x, y)
print({name: f"{gap:.0e}" for name, gap in forgotten.items()})
assert forgotten["T + T'"] < 1e-14 and forgotten["T"] > 1e-3

# %% [markdown]
# <details><summary>Why</summary>
#
# $T+T^\top$ is its own transpose: who forgets to transpose it computes the right thing. The graphs of recommenders *are* symmetric, and this is how a forgotten transpose survives for years, until somebody feeds it a directed graph. Test on rectangular and non-symmetric maps, even when the model never uses one.
#
# </details>
#
# ### 3. An absolute tolerance
#
# The gradient of an ordinary ranking loss, the mean of softplus over 2,048 triples, with small embeddings. `np.allclose` accepts 0, and the wrong sign.

# %%
users, liked, other = 0.001 * rng.standard_normal((3, 2048, 64))
difference = np.sum(users * (liked - other), axis=1)
gradient = -(liked - other) / (1 + np.exp(difference))[:, None] / len(difference)
for name, found in {"0": 0 * gradient, "-G": -gradient}.items():
    print(f"{name:<3} accepted: {np.allclose(found, gradient, atol=1e-5)}, gap {my.relative_error(found, gradient):.0f}")
    assert np.allclose(found, gradient, atol=1e-5)

# %% [markdown]
# <details><summary>Why</summary>
#
# Print `np.abs(gradient).max()`. Losses are means over thousands of terms and embeddings start small, so every entry is smaller than the tolerance. An absolute tolerance has the unit of the gradient, and nobody knows that number beforehand.
#
# </details>
#
# ### 4. A small row beside large ones
#
# One row of this gradient has the wrong sign, and even your own gap is tiny. Which, and what would have told?

# %%
scaled = rng.standard_normal((5, 4)) * [1, 1, 1, 1e-9]


def one_row_wrong(W):
    grad_W = scaled.T @ G
    grad_W[3] *= -1
    return grad_W


print(f"gap {my.gradient_gap(lambda W: np.sum(G * (scaled @ W)), one_row_wrong, W):.0e}")
assert my.gradient_gap(lambda W: np.sum(G * (scaled @ W)), one_row_wrong, W) < 1e-8

# %% [markdown]
# <details><summary>Why</summary>
#
# The norm sees the large rows only; the last one is a billion times smaller. Compare row by row, or choose points at which all rows have one size. The package's checker compares each entry with the size of the terms that it is a sum of, and refuses this one.
#
# </details>

# %%
refused = check_gradients(lambda W: scaled @ W, lambda grad_Y, W: scaled.T @ grad_Y * [[1], [1], [1], [-1]], {"W": W})
assert not refused.passed

# %% [markdown]
# ### 5. A kink
#
# The size of a number, $|x|$, has the slope 1 on the right of 0 and $-1$ on the left, no doubt. Where does a gap of this size come from? Which entries are to blame?

# %%
x, h = np.random.default_rng(4).standard_normal(64_000), 1e-5
measured, slope = (np.abs(x + h) - np.abs(x - h)) / (2 * h), np.sign(x)
blame = np.abs(x) < h
print(f"gap {my.relative_error(measured, slope):.0e}; without {np.sum(blame)} entries", end=" ")
print(f"{my.relative_error(measured[~blame], slope[~blame]):.0e}")
assert np.sum(blame) == 3 and my.relative_error(measured, slope) > 1e-3 > 1e-9 > my.relative_error(measured[~blame], slope[~blame])

# %% [markdown]
# <details><summary>Why</summary>
#
# Three of 64,000 entries lie so near to the corner that $x-h$ and $x+h$ are on different sides of it. A difference across a kink is no derivative. The remedy is not a wider tolerance, but to leave out the entries that change sides, and to count them. Notebook 03 does it.
#
# </details>
#
# ### 6. Right once

# %%
def fast_backward(grad_Y, X, W):
    grad_Y *= 1 - np.tanh(X @ W) ** 2
    return grad_Y @ W.T, X.T @ grad_Y


cotangent = G.copy()
repeated = [my.relative_error(fast_backward(cotangent, X, W)[1], layer_gradient(W)) for _ in range(2)]
print(f"gap of the first call {repeated[0]:.0e}, of the second {repeated[1]:.0e}")
assert repeated[0] < 1e-14 and repeated[1] > 0.01

# %% [markdown]
# <details><summary>Why</summary>
#
# `*=` works in place: it overwrites the cotangent, which belongs to the caller. Where two branches of a model use one cotangent, the second gets garbage. This is what the row in brackets of the table above looks for.
#
# </details>
#
# ### 7. A difference that needs no tolerance
#
# Along a direction $v$, with a candidate $G$ for the gradient, take $r(h)=|f(x+hv)-f(x)-h\langle G,v\rangle|$. With the right $G$ the first-order term is gone, and $r$ falls like $h^2$; with a wrong one, however little wrong, it falls like $h$ in the end. That exponent is the **Taylor rate**. Where does each curve leave the line like $h^2$? Down to which factor $1+\delta$ can you see the bend? And what becomes of the right $G$ if you go on to 40 halvings?

# %%
v = rng.standard_normal(W.shape)
halvings = 0.1 * 2.0 ** -np.arange(24)
remainders = {
    f"{factor} G": np.array(
        [abs(layer_loss(W + h * v) - layer_loss(W) - h * factor * np.sum(layer_gradient(W) * v)) for h in halvings]
    )
    for factor in (1, 1.01, 1.00001)
}
rates = {name: np.log2(r[9] / r[10]) for name, r in remainders.items()}
print({name: f"{rate:.1f}" for name, rate in rates.items()}, "where 0.1 has been halved 9 times")
assert abs(rates["1 G"] - 2) < 0.05 and abs(rates["1.01 G"] - 1) < 0.05
taylor_picture(halvings, remainders, title="Taylor remainder of the tanh layer, for right and wrong gradients")

# %% [markdown]
# ## Faster
#
# Why not train with differences and spare ourselves the derivations? Count: a gradient of $q$ entries costs $2q$ forward passes, the backward of this layer costs three products of matrices, one of them its forward's. And the package's own instruments, beside yours:

# %%
from c2f_np import gradcheck

wide_X, wide_W = rng.standard_normal((100, 20)), rng.standard_normal((20, 16))
wide_G = rng.standard_normal((100, 16))
jobs = {
    "backward": lambda: my.tanh_layer_backward(wide_G, wide_X, wide_W)[1],
    "your differences": lambda: my.central_difference(lambda W: np.sum(wide_G * np.tanh(wide_X @ W)), wide_W, 1e-5),
    "package's": lambda: gradcheck.numerical_gradient(tanh_layer, {"X": wide_X, "W": wide_W}, wrt="W", cotangent=wide_G),
}
for name, job in jobs.items():
    begin = time.perf_counter()
    found = job()
    gap = my.relative_error(found, jobs["backward"]())
    print(f"{name:<17} {1000 * (time.perf_counter() - begin):8.1f} ms, gap {gap:.0e}")
    assert gap < 1e-8
pair = lambda W: X @ W, lambda G: X.T @ G, W, G
assert max(my.adjoint_gap(*pair), gradcheck.adjoint_gap(*pair)) < 1e-14

# %% [markdown]
# ## Exercises
#
# ### A transpose without a matrix

# %%
task_6 = exercise("differences_backward")
task_6

# %%
def differences_backward(grad_y, x):
    raise NotImplementedError


task_6.check(differences_backward).keep();

# %%
# print(task_6.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def differences_backward(grad_y, x):
#     grad_x = np.zeros(len(x))
#     grad_x[1:] += grad_y  # x enters with a plus in the difference before it
#     grad_x[:-1] -= grad_y  # and with a minus in the difference after it
#     return grad_x
# ```
#
# </details>
#
# ### On paper
#
# The central difference has the error $\frac{h^2}{6}f'''$. Measure at $h$ and at $h/2$ and call the results $a_1$ and $a_2$. Which combination of them has no $h^2$ term left?
#
# <details><summary>Answer</summary>
#
# $a_1=f'+ch^2+\dots$ and $a_2=f'+c\frac{h^2}4+\dots$, so $\frac{4a_2-a_1}3=f'+0\cdot h^2+\dots$, with an error of the order $h^4$. This is Richardson's extrapolation; with it one can afford a larger step and so loses less to rounding.
#
# </details>

# %%
a_1, a_2 = ((np.exp(1 + h) - np.exp(1 - h)) / (2 * h) for h in (1e-2, 5e-3))
assert abs((4 * a_2 - a_1) / 3 - np.e) < 1e-4 * abs(a_2 - np.e), "four orders of magnitude better than the better of the two"

# %% [markdown]
# ## Read next
#
# - [02](02_sparse_propagation.ipynb) and the notebooks after it: the operations of the model one by one, each held against your checker.
# - [10](10_blind_spots.ipynb) returns to this subject from the other side: wrong code that passes.
# - [docs/checking_gradients.md](../docs/checking_gradients.md): what the package's checker does, in short.
# - Squire and Trapp, *Using complex variables to estimate derivatives of real functions* (SIAM Review 1998); Higham, *Accuracy and Stability of Numerical Algorithms*.
