# %% [markdown]
# # 01 · Checking a gradient
#
# ## What you will do
#
# Every derivative in this course is written by hand, and none is believed. You build the instruments that tell a right derivative from a wrong one: differences, the complex step, the Taylor remainder, the adjoint identity. You see each of them fail, because an instrument whose errors you do not know is worse than none. At the end you hand a real operation of the package to a checker that uses all of them at once.
#
# **You will learn** how accurate each method can be and why, and at which steps; why "the gradient of the sum of the outputs" is the wrong thing to check; what to do at a kink; and how to say "close enough" without fooling yourself.
#
# **You need** the Taylor expansion, matrix products and NumPy. About 35 minutes.

# %%
import inspect
import time

import numpy as np
import scipy.sparse as sparse

import c2f_np
from c2f_np import kernels
from c2f_np.course import exercise
from c2f_np.gradcheck import CheckSettings, adjoint_gap, check_convention, check_gradients, lessons, numerical_gradient
from c2f_np.model.codebook import compose, compose_backward, soft_threshold, soft_threshold_backward, tanh_backward
from c2f_np.model.loss import sigmoid, softplus
from c2f_np.model.sparse import operator
from c2f_np.plotting.checks import secant_picture, taylor_picture, v_curve_picture

# %% [markdown]
# ## The idea
#
# A derivative is a slope, and a slope can be measured: go a small step $h$ to the right, see how much the function has changed, divide. Take $f(x)=x^2$ at $x=1$, where the slope is 2, and the step $h=0.1$. Going to the right only (the **one-sided** difference) gives $(1.21-1)/0.1=2.1$. Going to both sides (the **central** difference) gives $(1.21-0.81)/0.2=2$. The measurement uses the function and nothing else, so it cannot share a mistake with the derivative that you derived on paper. That is the whole idea; the rest is about what "small", "close" and "measured" mean.

# %%
assert np.isclose((1.1**2 - 1) / 0.1, 2.1) and np.isclose((1.1**2 - 0.9**2) / 0.2, 2)
x = np.linspace(0.2, 1.75, 50)
points = {"one-sided": (1, 1, 1.6, 1.6**2), "central": (0.4, 0.4**2, 1.6, 1.6**2)}
secant_picture(x, x**2, points, tangent=(1, 1, 2), title="x² at 1, with a step of 0.6 to make the difference visible")

# %% [markdown]
# ## The mathematics
#
# ### What a backward computes
#
# Models are not functions of one number. Let a function take an array $x$ to an array $y$. If something downstream turns $y$ into a loss $\ell$, all it needs to tell us is how the loss reacts to each entry of $y$: an array $G_y$ of the shape of $y$ with $(G_y)_k=\partial\ell/\partial y_k$, the **cotangent** at $y$. The job of a **backward** function is to turn $G_y$ into $G_x$, the same thing at $x$. By the chain rule,
#
# $$(G_x)_j=\sum_k (G_y)_k\,\frac{\partial y_k}{\partial x_j}=\frac{\partial}{\partial x_j}\sum_k (G_y)_k\,y_k .$$
#
# Read the right-hand side again: **a backward computes the gradient of the number $\sum_k (G_y)_k\,y_k$**, with $G_y$ held constant. So any backward can be checked as the gradient of a scalar function, whatever the rest of the model is. We write this number as $\langle G_y, y\rangle$, the sum of the products of all entries.
#
# On paper, with a $3\times2$ matrix (the one from the last notebook) and two weights:
#
# $$X=\begin{pmatrix}1&0\\1&1\\0&1\end{pmatrix},\quad w=\begin{pmatrix}2\\3\end{pmatrix},\quad y=Xw=\begin{pmatrix}2\\5\\3\end{pmatrix},\quad G_y=\begin{pmatrix}1\\2\\-1\end{pmatrix},\quad \langle G_y,y\rangle=2+10-3=9.$$
#
# How does the 9 react to $w_1$? It enters $y_1$ and $y_2$ with the weight 1: $G_{w_1}=1\cdot1+2\cdot1=3$. And $w_2$ enters $y_2$ and $y_3$: $G_{w_2}=2\cdot1+(-1)\cdot1=1$. We have read the columns of $X$, and that is $X^\top G_y$. In general $\langle G_y,Xw\rangle=\sum_{k,j}(G_y)_kX_{kj}w_j$, and the factor beside $w_j$ is $\sum_k X_{kj}(G_y)_k=(X^\top G_y)_j$. The factor beside $X_{kj}$ is $(G_y)_k w_j$, so $G_X=G_y w^\top$.

# %%
X = np.array([[1.0, 0], [1, 1], [0, 1]])
w, G = np.array([2.0, 3]), np.array([1.0, 2, -1])
assert G @ (X @ w) == 9 and (X.T @ G).tolist() == [3, 1]
moved = w + [0.1, 0]
assert np.isclose((G @ (X @ moved) - 9) / 0.1, 3), "measured: 3, as derived"

# %% [markdown]
# ### How wrong is a difference?
#
# Expand around $x$, with the derivatives $f',f'',f'''$ taken at $x$:
#
# $$f(x\pm h)=f\pm hf'+\tfrac{h^2}{2}f''\pm\tfrac{h^3}{6}f'''+\dots$$
#
# The one-sided difference: take off $f(x)$, divide by $h$. What remains is $f'+\frac h2f''+\dots$, an error proportional to $h$. The central difference: subtract the two lines from each other. $f$ and $f''$ stand in both with the same sign and cancel, and after division by $2h$ we have $f'+\frac{h^2}{6}f'''+\dots$, an error proportional to $h^2$. This is the **truncation error**, and it says: make $h$ small.
#
# But a computer stores $f(x)$ with a relative error of about $\varepsilon\approx2\cdot10^{-16}$, the **machine precision**. The two values that we subtract are nearly equal, so most of their digits cancel, and the errors, each about $\varepsilon|f|$, do not. Divided by the step they become an error of about $\varepsilon|f|/h$. This is the **rounding error**, and it says: make $h$ large.
#
# The best step balances the two. For the one-sided difference, with $|f|$ and the derivatives of the order of 1, the sum $h+\varepsilon/h$ is smallest where its derivative $1-\varepsilon/h^2$ is zero: $h=\sqrt\varepsilon\approx10^{-8}$, and there the error is about $10^{-8}$. For the central one $h^2+\varepsilon/h$ is smallest where $2h=\varepsilon/h^2$, near $h=\varepsilon^{1/3}\approx10^{-5}$, and there the error is about $\varepsilon^{2/3}\approx10^{-11}$. **Half of the digits, two thirds of the digits.** No step gives more.

# %%
eps = np.finfo(float).eps
assert 2.2e-16 < eps < 2.3e-16
assert 1e-8 < eps**0.5 < 2e-8 and 5e-6 < eps ** (1 / 3) < 1e-5 and 1e-11 < eps ** (2 / 3) < 1e-10

# %% [markdown]
# ### The complex step
#
# The rounding error comes from the subtraction. Can one do without? Let $f$ be given by a formula that also makes sense for complex numbers, and take the step in the *imaginary* direction, $i^2=-1$:
#
# $$f(x+ih)=f+ihf'-\tfrac{h^2}{2}f''-i\tfrac{h^3}{6}f'''+\dots\qquad\Longrightarrow\qquad \frac{\operatorname{Im} f(x+ih)}{h}=f'-\tfrac{h^2}{6}f'''+\dots$$
#
# Function value and derivative travel in separate halves of the complex number. Nothing is subtracted, so nothing cancels, and $h$ may be so small that the $h^2$ is below every rounding: $h=10^{-100}$ is fine. **All of the digits.**
#
# ### The Taylor remainder
#
# The three methods so far ask "is this number right?", with some tolerance. The next asks "does this gradient *behave* like the gradient?", and needs none. Take a direction $v$, an array of the shape of $x$, and a candidate $g$, and define
#
# $$r(h)=\big|f(x+hv)-f(x)-h\langle g,v\rangle\big| .$$
#
# With the right $g$ the first-order term is gone and $r(h)\approx\frac{h^2}2|\dots|$: halve $h$, and $r$ becomes four times smaller. With a wrong one, $g+e$, what stays is $h|\langle e,v\rangle|$: halve $h$, and $r$ becomes two times smaller. In a plot of $\log r$ against $\log h$ these are slopes of 2 and of 1, however small the mistake $e$ is. The slope is called the **rate**.
#
# ### The adjoint identity
#
# Let $P$ be linear, $y=Px$. Then the derivative of $\langle G_y,Px\rangle$ is $P^\top G_y$, and the backward *is* the transpose. So for every $x$ and every $G$
#
# $$\langle Px,\,G\rangle=\langle x,\,P^\top G\rangle,$$
#
# exactly, with no step at all; only rounding is left. (In the example on paper: $\langle Xw,G\rangle=9$, and $\langle w,X^\top G\rangle=2\cdot3+3\cdot1=9$.) Propagation over a graph is linear, and the most expensive backward of this course is checked like this, to 14 digits.
#
# ## Forward
#
# The guinea pig for the steps is softplus, $\log(1+e^x)$, of which our loss consists. The package writes it so that it neither overflows nor breaks with complex numbers:

# %%
print(inspect.getsource(softplus))

# %% [markdown]
# "Branches on the real part" is the habit to copy: where a function has to choose between two formulas, the choice is made by `x.real`, so that a complex step goes through whichever branch the real point is on.
#
# The guinea pig for arrays is the composition $Z=\tanh(SE)$: each row of $Z$ is a weighted sum of few rows of a table $E$ (a **codebook**), passed through tanh; the sparse matrix $S$ holds the weights. It is how our model makes the embeddings of users and items, and a notebook of its own explains it. Here it only matters that it has a linear part and a curved one.

# %%
rng = np.random.default_rng(0)
weights = sparse.csr_array([[0.7, 0.3, 0.0], [0.0, 0.4, 0.6], [0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])   # 4 entities, 3 codebook rows
S = operator(weights)                       # the matrix and its transpose: S.forward(X) is S X, S.adjoint(G) is S' G
E = rng.standard_normal((3, 2))
assert np.allclose(compose(S, E), np.tanh(weights.toarray() @ E))

# %% [markdown]
# ## Backward
#
# **Softplus.** $\frac{d}{dx}\log(1+e^x)=\frac{e^x}{1+e^x}=\frac1{1+e^{-x}}$, the sigmoid.
#
# **Composition**, in two steps backwards. Write $Y=SE$, so that $Z=\tanh(Y)$ entry by entry. Each entry of $Y$ reaches the loss through one entry of $Z$ only, and $\tanh'=1-\tanh^2$, so
#
# $$G_Y=G_Z\odot(1-Z\odot Z),$$
#
# where $\odot$ multiplies entry by entry. Then $Y=SE$ is a product, of which we have read the columns above: $G_E=S^\top G_Y$. Together $G_E=S^\top\big(G_Z\odot(1-Z\odot Z)\big)$, and the package says the same (`operator(S)` is the operator itself if it is given one, as here):

# %%
print(inspect.getsource(compose_backward))
print(inspect.getsource(tanh_backward))

# %% [markdown]
# ## Predict
#
# Softplus at 2,000 random points between $-2$ and $2$; the error is the norm of (measured − sigmoid) relative to the norm of the sigmoid. **Write down** the error that you expect, as a power of ten, for each of these:
#
# - (a) one-sided with $h=10^{-8}$, (b) central with $h=10^{-5}$, (c) central with $h=10^{-12}$, (d) complex with $h=10^{-12}$, (e) complex with $h=10^{-3}$.
#
# <details><summary>What to expect</summary>
#
# (a) $10^{-8}$, the best it can do. (b) $10^{-11}$, the best it can do. (c) Truncation is $10^{-24}$, but rounding is $\varepsilon/h\approx10^{-4}$: far *too small* a step. (d) $10^{-16}$: nothing cancels. (e) The complex step truncates like the central difference, $h^2/6$, some $10^{-8}$.
#
# </details>
#
# ## Check
#
# ### The V

# %%
x = np.random.default_rng(0).uniform(-2, 2, 2000)
steps = 10.0 ** -np.arange(1, 16, 0.5)

def relative(found, right):
    return np.linalg.norm(found - right) / np.linalg.norm(right)

errors = {
    "one-sided": np.array([relative((softplus(x + h) - softplus(x)) / h, sigmoid(x)) for h in steps]),
    "central": np.array([relative((softplus(x + h) - softplus(x - h)) / (2 * h), sigmoid(x)) for h in steps]),
    "complex step": np.array([relative(softplus(x + 1j * h).imag / h, sigmoid(x)) for h in steps]),
}
v_curve_picture(steps, errors, title="Derivative of softplus: error against step")

# %% [markdown]
# Read it from right to left. The truncation lines fall, one-sided with slope 1, central and complex with slope 2. Then two of the three hit the rising line of rounding and turn around; that is the V. The third never turns.

# %%
at = dict(zip(np.round(-np.log10(steps), 1), range(len(steps))))        # which place a step has
assert 1e-9 < errors["one-sided"][at[8.0]] < 1e-7, "(a)"
assert 1e-12 < errors["central"][at[5.0]] < 1e-10, "(b)"
assert 1e-5 < errors["central"][at[12.0]] < 1e-3, "(c)"
assert errors["complex step"][at[12.0]] < 1e-15, "(d)"
assert 1e-9 < errors["complex step"][at[3.0]] < 1e-7, "(e)"
tiny = softplus(x + 1e-100j).imag / 1e-100
assert relative(tiny, sigmoid(x)) < 1e-15, "and with 1e-100 too"

# %% [markdown]
# **Where differences lie.** A popular habit is $h=10^{-5}$ or so everywhere. It is right for values of the order of 1. Where $x$ is $10^{6}$, a step of $10^{-5}$ is nearly lost in the digits of $x$; where $x$ is $10^{-7}$, it jumps over everything interesting. So scale the step with the size of $x$, or, as the checker of this package does, try a ladder of steps and take the value that agrees best with its neighbours, *without looking at the gradient under test*.
#
# **Where the complex step lies.** It needs a formula that is **analytic**, and NumPy does not warn. The modulus of a complex number is real, so the imaginary part, and with it the derivative, disappears:

# %%
silent = np.abs(np.array([3.0]) + 1e-30j).imag / 1e-30
print("'derivative' of |x| at 3 by the complex step:", silent)
assert silent[0] == 0, "a wrong answer without a warning; right is 1"
report = check_gradients(np.abs, lambda grad_y, x: grad_y * np.sign(x), {"x": np.array([3.0, -2.0, 1.5])}, name="abs")
print(report.verdict("complex_step").status, "-", report.verdict("complex_step").reason)
assert report.verdict("complex_step").status == "not applicable"

# %% [markdown]
# The checker notices (it compares the imaginary parts with small real steps of the forward before it trusts them) and refuses to judge. The same happens with `np.linalg.norm`, `conj`, a cast to `float`, and compiled functions that take no complex numbers.
#
# ### The Taylor remainder
#
# A scalar function of the codebook: $f(E)=\langle G,\tanh(SE)\rangle$ with a random $G$. Three candidates: the backward, the backward times 1.01, and the backward times 1.00001.

# %%
G = rng.standard_normal((4, 2))
v = np.random.default_rng(2).standard_normal(E.shape)
gradient = compose_backward(G, S, compose(S, E))

def remainder(g, h):
    return abs(np.sum(G * (compose(S, E + h * v) - compose(S, E))) - h * np.sum(g * v))

halvings = 0.1 * 2.0 ** -np.arange(16)
remainders = {f"{k} g": np.array([remainder(k * gradient, h) for h in halvings]) for k in (1, 1.01, 1.00001)}
taylor_picture(halvings, remainders, title="Taylor remainder of the composition")

# %% [markdown]
# The right gradient falls with $h^2$ until rounding. The one that is 1 % off falls with $h$ only, nearly from the beginning. The third is right to five digits: it follows the right one for a while and *bends* where its tiny first-order term takes over. So the rate has to be read off at small steps, just above the rounding. Let the checker do that:

# %%
def compose_E(E):
    return compose(S, E)

for factor in (1, 1.01, 1.00001):
    report = check_gradients(
        compose_E, lambda grad_Z, E: factor * compose_backward(grad_Z, S, compose(S, E)), {"E": E}, checks="taylor_rate"
    )
    rate = report.verdict("taylor_rate").figure
    print(f"{factor:<8} rate {rate:.2f}")
    assert abs(rate - (2 if factor == 1 else 1)) < 0.1 and report.passed == (factor == 1)

# %% [markdown]
# **Where the rate lies.** If one asks for a rate above 0.9 only, every wrong gradient passes. A check that would accept anything checks nothing; the checker calls it **vacuous**. It repeats every comparison with $0$, with $-g$ and with $1.01\,g$ in the gradient's place, and counts it as a failure if one of these is accepted. And a *linear* function has no second-order term: its remainder is rounding at every step, there is no slope to be measured, and the adjoint identity is the right test instead.

# %%
loose = check_gradients(np.sin, lambda grad_y, x: grad_y * np.cos(x), {"x": np.linspace(0.1, 3, 9)},
                        checks="taylor_rate", settings=CheckSettings(rate=0.9))
assert loose.verdict("taylor_rate").vacuous and not loose.passed, "a right gradient, but a check that proves nothing"

# %% [markdown]
# ### The adjoint identity
#
# With a sparse matrix $M$ of shape $4\times3$, `M.forward(X)` computes $MX$, and its backward `M.adjoint(G)` $M^\top G$. Both sides of the identity, relative to the norms:

# %%
M = S
gap = adjoint_gap(M.forward, M.adjoint, rng.standard_normal((3, 2)), rng.standard_normal((4, 2)))
print(f"gap {gap:.0e}")
assert gap < 1e-14

# %% [markdown]
# **Where the adjoint lies.** If the matrix is symmetric, then $M^\top=M$, and who forgets the transpose computes the right thing. The graphs of recommenders *are* symmetric. This is how a forgotten transpose survives for years, until somebody feeds it a directed graph:

# %%
print("\n".join(lessons.transpose()))
assert "passed: True" in lessons.transpose()[0] and "passed: False" in lessons.transpose()[1]

# %% [markdown]
# So an adjoint is tested on rectangular and non-symmetric operators, even when the model never uses one.
#
# ### Kinks
#
# Soft thresholding moves every number towards zero by $\tau$ and no further, $F=\mathrm{sign}(E)\max(|E|-\tau,0)$. It will make our fine codebook sparse. Its graph has two corners, and a secant across a corner measures neither the slope on the left nor the one on the right:

# %%
tau = 1.0
curve = np.linspace(0.6, 1.5, 200)
left, right = 1.02 - 0.1, 1.02 + 0.1
f = lambda value: float(soft_threshold(np.array([value]), tau)[0])
assert np.isclose((f(right) - f(left)) / 0.2, 0.6), "the difference says 0.6; the slope at 1.02 is 1"
secant_picture(curve, soft_threshold(curve, tau), {"central": (left, f(left), right, f(right))},
               tangent=(1.02, f(1.02), 1), labels=("E", "F"), title="Soft threshold at 1.02, step 0.1, threshold 1")

# %% [markdown]
# A smaller step crosses less often, but with many entries some will always lie close to a corner. The remedy is not a wider tolerance. It is to say **which branch each entry takes**, its **active set**, and to leave out the entries whose branch differs between $x-h$ and $x+h$; and to count them, since a check that leaves out everything proves nothing. The complex step stays on its branch by construction.

# %%
print("\n".join(lessons.kinks()))

def branch(E, tau):
    return np.sign(E) * (np.abs(E) > tau)

E_fine = rng.standard_normal((50, 4))
E_fine[0, 0] = tau + 1e-7                 # close to the corner
report = check_gradients(soft_threshold, soft_threshold_backward, {"E": E_fine, "tau": tau}, wrt="E", active_set=branch)
assert report.passed
report

# %% [markdown]
# *At* the corner there is no derivative, and a **convention** decides. Ours is 0 at $|E|=\tau$. A convention is not measured, it is asserted, to the last bit:

# %%
at_the_corner = {"E": np.array([tau, -tau, 2.0, 0.5]), "tau": tau}
convention = check_convention(soft_threshold_backward, at=at_the_corner, expected=np.array([0.0, 0.0, 1.0, 0.0]))
assert convention.passed

# %% [markdown]
# ### Close enough, relative to what?
#
# `np.allclose(a, b)` has a relative tolerance and an *absolute* one, $10^{-8}$ unless told otherwise, and people like to raise it until the test passes. But losses are means over thousands of terms and embeddings start small, so gradients are smaller than one thinks. Here is the gradient of an ordinary ranking loss, and what an absolute tolerance of $10^{-5}$ says to *zero* and to the gradient with the *wrong sign*:

# %%
print("\n".join(lessons.absolute()))
assert all("accepted at atol=1e-5: True" in line for line in lessons.absolute()[1:])

# %% [markdown]
# Both pass. An absolute tolerance has the unit of the gradient, and nobody knows that number beforehand. So measure **relative to the norm of the gradient**: $\|g-\hat g\|/\|\hat g\|$ with $\hat g$ the measured one; then $0$ has the error 1, and $-g$ has the error 2, at every scale.
#
# The norm has a blind spot of its own: small entries beside large ones. If one row of the gradient is a billion times smaller than the others, it may have the wrong sign and the norm does not notice. The checker therefore also compares single entries, each with the size of the terms that it is a sum of:

# %%
print("\n".join(lessons.small_entries()))
assert lessons.small_entries()[-1].endswith("failed")

# %% [markdown]
# ### Which cotangent?
#
# "Check the gradient of the sum of the outputs" is what many people do, because a sum is a scalar. It is the cotangent of ones. Take the softmax of each row of $x$: each row of the output sums to 1, *whatever* $x$ is. The sum of the outputs is constant and its gradient is zero; and a backward with the wrong sign, or multiplied by seventeen, gives zero too. Ones are orthogonal to all there is to see.

# %%
print("\n".join(lessons.ones()))
assert lessons.ones()[0].endswith("True") and lessons.ones()[1].endswith("False")

# %% [markdown]
# **Random cotangents** have no such friends. One random $G$, none of whose entries is near zero, sees every output at once. This is also why the exercises of this course give your backward a random cotangent, and why a backward that ignores it fails.
#
# ### More than numbers
#
# A backward can return the right numbers and still be wrong to use. This one works in place, and overwrites the array that it was given:

# %%
def in_place(grad_Z, E):
    Z = compose(S, E)
    grad_Z *= 1 - Z**2            # the caller's array
    return S.adjoint(grad_Z)

report = check_gradients(compose_E, in_place, {"E": E}, name="in place")
print([verdict.check for verdict in report.failures])
assert not report.passed and all(verdict.check.startswith("contract") for verdict in report.failures)

# %% [markdown]
# In a model where two branches use the same cotangent, the second would get garbage. Such agreements (inputs untouched, the same result at every call, float32 stays float32, linear in the cotangent) are called the **contract**.
#
# ### All of it at once
#
# One call. `linear_in` would name arguments in which the forward is linear; here the tanh prevents that for the composition, but the product has one.

# %%
report = check_gradients(compose_E, lambda grad_Z, E: compose_backward(grad_Z, S, compose(S, E)), {"E": E}, name="compose")
product = check_gradients(lambda X: S.forward(X), lambda grad_Y, X: S.adjoint(grad_Y),
                          {"X": rng.standard_normal((3, 5))}, linear_in="X", name="sparse product")
assert report.passed and product.passed
assert report.verdict("central_difference").figure < 1e-8 and report.verdict("complex_step").figure < 1e-13
assert product.verdict("adjoint").figure < 1e-14
report

# %%
product

# %% [markdown]
# How to read the table: the columns are the errors relative to the gradient's norm (central difference, complex step), the Taylor rate, and the adjoint gap where an argument was declared linear; "linear" in the column of the rate means that there was no second-order term. The row in brackets counts the items of the contract. (The note says that float32 was not tried, since our $S$ is stored in double precision.)
#
# And if something is wrong, it says what. Forget tanh' and look:

# %%
wrong = check_gradients(compose_E, lambda grad_Z, E: S.adjoint(grad_Z), {"E": E}, name="without tanh'")
assert not wrong.passed and set(wrong.killed_by) == {"central_difference", "complex_step", "taylor_rate"}
wrong

# %% [markdown]
# ## Faster
#
# Why not use differences for training and spare ourselves the derivations? Because a gradient of $n$ entries costs $2n$ evaluations of the forward, and a backward costs about one. And the compiled kernels (Numba) of the package take no complex numbers; how are they checked? Their *backward* is held to the complex step of the NumPy forward, which is the same function: one line chooses.

# %%
compiled_S = kernels.operator(weights)

def twin(E):
    return compose(S, E) if np.iscomplexobj(E) else kernels.compose(compiled_S, E)

def compiled_backward(grad_Z, E):
    return kernels.compose_backward(grad_Z, compiled_S, kernels.compose(compiled_S, E))

report = check_gradients(twin, compiled_backward, {"E": E}, name="compose, compiled")
assert report.passed and report.verdict("complex_step").figure < 1e-13
report

# %%
large_weights = sparse.random_array((20_000, 300), density=2 / 300, format="csr", rng=np.random.default_rng(1))
large_S, fast_S = operator(large_weights), kernels.operator(large_weights)
large_E = rng.standard_normal((300, 64))
large_Z = compose(large_S, large_E)
large_G = rng.standard_normal(large_Z.shape)

def seconds(function, repeats=3):
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)

assert np.allclose(kernels.compose_backward(large_G, fast_S, large_Z), compose_backward(large_G, large_S, large_Z))
numpy_time = seconds(lambda: compose_backward(large_G, large_S, large_Z))
numba_time = seconds(lambda: kernels.compose_backward(large_G, fast_S, large_Z))
forward_time = seconds(lambda: compose(large_S, large_E))
print(f"the compiled backward: {numpy_time / numba_time:.1f} times as fast as NumPy on this machine")
print(f"central differences of all {large_E.size:,} entries: {2 * large_E.size * forward_time / numpy_time:,.0f} times as slow as the backward")
assert numpy_time / numba_time > 0

# %% [markdown]
# ## Exercises
#
# ### 1. A central difference

# %%
central_task = exercise("central_difference")
central_task

# %%
def central_difference(f, x, h):
    raise NotImplementedError

# %%
central_task.check(central_difference)

# %%
print(central_task.hint())

# %% [markdown]
# <details><summary>An answer</summary>
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
#
# ### 2. A relative error

# %%
relative_task = exercise("relative_error")
relative_task

# %%
def relative_error(found, right):
    raise NotImplementedError

# %%
relative_task.check(relative_error)

# %%
print(relative_task.hint())

# %% [markdown]
# <details><summary>An answer</summary>
#
# ```python
# def relative_error(found, right):
#     return np.linalg.norm(found - right) / np.linalg.norm(right)
# ```
#
# </details>
#
# ### 3. Your first backward: a layer

# %%
layer_task = exercise("tanh_layer_backward")
layer_task

# %%
def tanh_layer_backward(grad_Y, X, W):
    raise NotImplementedError

# %%
layer_task.check(tanh_layer_backward)

# %%
print(layer_task.hint())

# %% [markdown]
# <details><summary>An answer</summary>
#
# ```python
# def tanh_layer_backward(grad_Y, X, W):
#     Y = np.tanh(X @ W)
#     grad_product = grad_Y * (1 - Y**2)
#     return grad_product @ W.T, X.T @ grad_product
# ```
#
# For $P=XW$ the entry $X_{kj}$ stands beside $\sum_m G_{km}W_{jm}$, which is $(GW^\top)_{kj}$, and $W_{jm}$ stands beside $\sum_k X_{kj}G_{km}=(X^\top G)_{jm}$.
#
# </details>
#
# ### 4. A transpose without a matrix

# %%
differences_task = exercise("differences_backward")
differences_task

# %%
def differences_backward(grad_y, x):
    raise NotImplementedError

# %%
differences_task.check(differences_backward)

# %%
print(differences_task.hint())

# %% [markdown]
# <details><summary>An answer</summary>
#
# ```python
# def differences_backward(grad_y, x):
#     grad_x = np.zeros(len(x))
#     grad_x[1:] += grad_y      # x enters with a plus in the difference before it
#     grad_x[:-1] -= grad_y     # and with a minus in the difference after it
#     return grad_x
# ```
#
# </details>
#
# ### 5. On paper
#
# The central difference has the error $\frac{h^2}{6}f'''$. Measure at $h$ and at $h/2$ and call the results $a$ and $b$. Which combination of $a$ and $b$ has no $h^2$ term left?
#
# <details><summary>An answer</summary>
#
# $a=f'+ch^2+\dots$ and $b=f'+c\frac{h^2}4+\dots$, so $\frac{4b-a}3=f'+0\cdot h^2+\dots$, with an error of the order $h^4$. This is Richardson's extrapolation; with it one can afford a larger step and so loses less to rounding. The checker's ladder of steps does this.
#
# </details>

# %%
f_three = lambda h: (np.exp(1 + h) - np.exp(1 - h)) / (2 * h)
a, b = f_three(1e-2), f_three(5e-3)
assert abs((4 * b - a) / 3 - np.e) < 1e-4 * abs(b - np.e), "four orders of magnitude better than the better of the two"

# %% [markdown]
# ## Read next
#
# - `02_sparse_propagation` and the notebooks after it derive the operations of the model one by one, and each ends with a table like the ones above.
# - `10_blind_spots` returns to this subject from the other side: wrong code that passes.
# - [docs/checking_gradients.md](../docs/checking_gradients.md): the same lessons in short; `python -m c2f_np.gradcheck.lessons` prints them.
# - Squire and Trapp, *Using complex variables to estimate derivatives of real functions* (SIAM Review 1998); Higham, *Accuracy and Stability of Numerical Algorithms*.
