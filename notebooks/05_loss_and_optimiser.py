# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 05 · The loss and the optimiser
#
# *Reading: 25 minutes. Exercises: 8.*
#
# ## What you will do
#
# You have a score for every pair of a user and an item, and a list of what people chose. At the end of this notebook you will have written what turns the two into a better model: the loss and its gradient, the draw of training examples, the optimiser's step, and a first training loop. The model that it trains is the simplest there is, a table with a row for every entity. In [06](06_coarse_stage.ipynb) a *codebook* (a small table whose rows many entities share) and a graph take the table's place, and the penalty joins the loss.
#
# You need the cotangents of [01](01_checking_a_gradient.ipynb). *Entities* are the users and then the items: item $i$ of $U$ users is entity $U+i$. Letters are on the [page of symbols](symbols.md).

# %%
import time

import numpy as np
import scipy.sparse as sparse

from c2f_np.course import exercise, my_model
from c2f_np.data import load_dataset, southern_women_split
from c2f_np.gradcheck import check_gradients
from c2f_np.plotting import computation
from c2f_np.plotting.losses import (
    first_steps, free_ranks, loss_and_order, loss_and_slope, scatter_and_gather, triple_in_the_plane,
)  # fmt: skip

my = my_model(or_answers=True)

# %% [markdown]
# ## The idea
#
# A list of choices says what people took. It does not say what they rejected: an item without a click may be disliked or just unseen. Who trains a model to answer 0 for all of them teaches it that nearly all items are bad, those included that it should recommend tomorrow. But that a user took item $i$ and not item $j$ is weak evidence that she prefers $i$ to $j$, and a recommender needs only the *order*. So the unit of training is a triple $(u,i,j)$, a user with a positive and a negative item, and its loss is a function of
#
# $$x=s_{ui}-s_{uj},\qquad s_{ui}=\langle H_u,H_i\rangle+b_u+b_i+b_0,$$
#
# where $H$ ($N\times d$) has a row of $d$ numbers for every entity, its *embedding*, $b$ ($N$) holds a *bias* for every entity, a number that is added to all of its scores, and $b_0$ is one bias for all. (From here on $i$ and $j$ are entity numbers.) The order is right when $x>0$.

# %%
computation("H", "triples", "scores", "loss", "step", backward=True, model="coarse")

# %% [markdown]
# One would like to count wrong orders, the dashed staircase on the left. But its derivative is 0 wherever it has one. *Bayesian personalised ranking*, BPR (Rendle et al., 2009), reads $\sigma(x)=1/(1+e^{-x})$ as the probability that the order is right. The model under which the observed orders are most probable has the largest $\sum\log\sigma(x)$, so the loss of a triple is the smooth curve $-\log\sigma(x)=\log(1+e^{-x})$. With $\text{softplus}(y)=\log(1+e^y)$ this is $\text{softplus}(-x)$.

# %%
x = np.linspace(-5, 5, 401)
curves = {"softplus(-x)": np.log(1 + np.exp(-x)), "1 if the order is wrong, else 0": (x < 0) * 1.0}
loss_and_slope(x, curves, {"sigmoid(-x)": 1 / (1 + np.exp(x))})

# %% [markdown]
# The right panel shows the character of this loss. A pair in the right order ($x\gg0$) is left in peace. One in the wrong order pulls with a strength near 1 and never more: a single absurd click cannot outshout the rest.
#
# ## Write: the curve
#
# ### Forward
#
# As it stands, the formula is one line, and it fails at both ends:

# %%
with np.errstate(over="ignore"):
    naive = np.log(1 + np.exp(np.array([1000.0, -50.0])))
assert np.isinf(naive[0]) and naive[1] == 0
naive

# %% [markdown]
# $e^{1000}$ is infinite in floating point, and $1+e^{-50}$ is exactly 1.
#
# ### By hand
#
# softplus(0) is $\log2\approx0.6931$, softplus(−1) is $\log(1+0.3679)\approx0.3133$, and softplus(1) is $1+0.3133$: for large $y$ the curve is $y$ plus something small.
#
# ### Your turn

# %%
task_1 = exercise("softplus")
task_1

# %%
def softplus(x):
    raise NotImplementedError


task_1.check(softplus).keep();

# %%
# print(task_1.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def softplus(x):
#     return np.maximum(x, 0) + np.log1p(np.exp(np.minimum(x, -x)))
# ```
#
# </details>

# %%
task_2 = exercise("sigmoid")
task_2

# %%
def sigmoid(x):
    raise NotImplementedError


task_2.check(sigmoid).keep();

# %%
# print(task_2.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def sigmoid(x):
#     small = np.exp(-np.abs(x))
#     return np.where(x >= 0, 1, small) / (1 + small)
# ```
#
# </details>

# %%
assert np.allclose(my.softplus(np.array([0.0, -1, 1])), [0.6931, 0.3133, 1.3133], atol=5e-5)
gap = my.gradient_gap(lambda y: np.sum(my.softplus(y)), my.sigmoid, np.linspace(-3, 3, 7))
assert gap < 1e-8
print(f"the sigmoid is the derivative of softplus: gap {gap:.0e}")

# %% [markdown]
# ### The derivation
#
# <details><summary>The derivation</summary>
#
# For $y>0$ take the larger term out of the sum: $\log(1+e^y)=\log\big(e^y(e^{-y}+1)\big)=y+\log(1+e^{-y})$. So in both cases it is $\max(y,0)+\log(1+e^{-|y|})$, and `log1p` computes $\log(1+z)$ of a tiny $z$ without forming $1+z$. The derivative is $\frac{e^y}{1+e^y}=\frac1{1+e^{-y}}=\sigma(y)$. The loss of one triple has therefore the derivative $-\sigma(-x)$ with respect to $x$.
#
# </details>
#
# ## Write: rows that are fetched
#
# ### Forward
#
# The loss needs the rows of $H$ that the triples name: `Y = X[rows]`. A user occurs in many triples, so that `rows` names the same number again and again.
#
# ### By hand
#
# `rows = [2, 0, 2]`, and the numbers 1, 10 and 100 arrive at the three fetched entries. Then row 0 receives 10, and row 2 receives $1+100=101$: *used twice, gradients add*. Most people write the following once in their lives.

# %%
received = np.zeros(3)
received[[2, 0, 2]] += np.array([1.0, 10, 100])
assert received.tolist() == [10, 0, 100]
received

# %% [markdown]
# NumPy fetches `received[rows]`, adds, and stores: of two results for one row the second overwrites the first, without a word.
#
# ### Your turn

# %%
task_3 = exercise("gather_backward")
task_3

# %%
def gather_backward(grad_rows, rows, n_rows):
    raise NotImplementedError


task_3.check(gather_backward).keep();

# %%
# print(task_3.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def gather_backward(grad_rows, rows, n_rows):
#     grad_X = np.zeros((n_rows, *grad_rows.shape[1:]))
#     np.add.at(grad_X, rows, grad_rows)
#     return grad_X
# ```
#
# </details>
#
# ### The derivation
#
# <details><summary>The derivation</summary>
#
# Fetching is a product with a matrix of zeros with a single 1 in each row, at the column that is fetched. Its transpose has several ones in a row where a number was fetched several times, and none where it was not: it adds.
#
# </details>
#
# ## Write: the loss, backwards
#
# ### Forward
#
# The user's bias and $b_0$ stand in both scores, so they cancel in $x$, and the function needs neither.

# %%
def bpr_loss(H, b, user, positive, negative):
    x = np.sum(H[user] * (H[positive] - H[negative]), axis=1) + b[positive] - b[negative]
    return np.mean(my.softplus(-x))


my.keep(bpr_loss)

# %% [markdown]
# ### By hand
#
# Two users (entities 0, 1), three items (2, 3, 4), $d=2$, no biases, three triples:
#
# | triple | user | positive | negative | $x=\langle H_u,H_i-H_j\rangle$ |
# |---|---|---|---|---|
# | 0 | 0: (1, 0) | 2: (1, 1) | 3: (0, 1) | $\langle(1,0),(1,0)\rangle=1$ |
# | 1 | 0: (1, 0) | 2: (1, 1) | 4: (1, 0) | $\langle(1,0),(0,1)\rangle=0$ |
# | 2 | 1: (0, 1) | 3: (0, 1) | 2: (1, 1) | $\langle(0,1),(-1,0)\rangle=0$ |
#
# The loss is $(0.3133+0.6931+0.6931)/3\approx0.5665$. Item 2 is positive twice and negative once. On paper: what is the gradient at its row, and at its bias? (The answer stands below the exercise.)
#
# ### Your turn

# %%
task_4 = exercise("bpr_backward")
task_4

# %%
def bpr_backward(grad_loss, H, b, user, positive, negative):
    raise NotImplementedError


task_4.check(bpr_backward).keep();

# %%
# print(task_4.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def bpr_backward(grad_loss, H, b, user, positive, negative):
#     x = np.sum(H[user] * (H[positive] - H[negative]), axis=1) + b[positive] - b[negative]
#     grad_x = -grad_loss * my.sigmoid(-x) / len(user)
#     to_user, to_item = grad_x[:, None] * (H[positive] - H[negative]), grad_x[:, None] * H[user]
#     grad_H = my.gather_backward(to_user, user, len(H))
#     grad_H += my.gather_backward(to_item, positive, len(H)) - my.gather_backward(to_item, negative, len(H))
#     grad_b = my.gather_backward(grad_x, positive, len(b)) - my.gather_backward(grad_x, negative, len(b))
#     return grad_H, grad_b
# ```
#
# </details>
#
# By hand: $-\sigma(-x)/3$ is $-0.0896$, $-\frac16$ and $-\frac16$. Beside item 2 stands the user's row, with a plus where it is positive and a minus where it is negative. So it receives $-0.0896\,(1,0)-\frac16(1,0)+\frac16(0,1)=(-0.2563,\,0.1667)$, and its bias $-0.0896-\frac16+\frac16=-0.0896$.

# %%
H = np.array([[1.0, 0], [0, 1], [1, 1], [0, 1], [1, 0]])
batch = np.array([0, 0, 1]), np.array([2, 2, 3]), np.array([3, 4, 2])
grad_H, grad_b = my.bpr_backward(1.0, H, np.zeros(5), *batch)
assert round(float(my.bpr_loss(H, np.zeros(5), *batch)), 4) == 0.5665
assert np.allclose(grad_H[2], [-0.2563, 0.1667], atol=5e-5) and np.isclose(grad_b[2], -0.0896, atol=5e-5)
assert (grad_b[:2] == 0).all(), "the users' biases: exactly zero"

# %% [markdown]
# What a step against this gradient does to a triple can be drawn. The positive item moves *parallel to the user's row*, not towards the user: the dot product grows, not the closeness. The negative moves the opposite way, and the user in the direction $H_i-H_j$.

# %%
H_drawn = np.array([[1.0, 0.5], [0.3, 1.0], [1.2, -0.4]])  # user, positive, negative
one = np.array([0]), np.array([1]), np.array([2])
arrows = -0.6 * my.bpr_backward(1.0, H_drawn, np.zeros(3), *one)[0]
towards = H_drawn[0] - H_drawn[1]
angle = np.degrees(np.arccos(arrows[1] @ towards / np.linalg.norm(arrows[1]) / np.linalg.norm(towards)))
assert abs(np.cross([*arrows[1], 0], [*H_drawn[0], 0])[2]) < 1e-12 and 60 < angle < 65
print(f"the positive item's arrow is parallel to the user's row, and {angle:.0f} degrees off the line to her")
triple_in_the_plane(H_drawn, arrows, ["user u", "positive i", "negative j"], [0, 1, 2])

# %% [markdown]
# ### The derivation
#
# <details><summary>The derivation</summary>
#
# Let every symbol in $x$ move a little:
#
# $$dx=\langle dH_u,H_i-H_j\rangle+\langle H_u,dH_i\rangle-\langle H_u,dH_j\rangle+db_i-db_j+(db_u-db_u)+(db_0-db_0).$$
#
# With $d\ell=\sum G_x\,dx$ and $G_x=-\sigma(-x)/B$, what stands beside each $d$ is its gradient: $G_x(H_i-H_j)$ for the user, $G_xH_u$ for the positive item, $-G_xH_u$ for the negative one, $G_x$ and $-G_x$ for their biases; an entity that occurs several times receives all of its contributions.
#
# The last two brackets are 0. The gradient of a user's bias and of the global bias is zero to the last bit, always, so no step on this loss ever moves them. If they start as random noise, they stay random noise. Item biases do move.
#
# </details>
#
# ## Write: the penalty
#
# ### Forward
#
# Making all embeddings larger makes every right order look more certain. A *regulariser* or penalty, with the weight $\lambda$ (`l2`), pulls the rows that a batch touches back towards zero. It acts on $Z$, what an entity is before the graph mixes it with others:

# %%
def penalty(Z, user, positive, negative, l2):
    return l2 * sum(np.sum(Z[rows] * Z[rows]) for rows in (user, positive, negative)) / len(user)


my.keep(penalty)

# %% [markdown]
# ### By hand
#
# Sorted by entity instead of by triple the sum is $\frac\lambda B\sum_ec_e|Z_e|^2$, where $c_e$ counts how often entity $e$ occurs in the batch, in any role. In the batch above the counts are 2, 1, 3, 2, 1: nine places in three triples. An entity that is not in the batch has $c_e=0$.
#
# ### Your turn

# %%
task_5 = exercise("penalty_backward")
task_5

# %%
def penalty_backward(grad_penalty, Z, user, positive, negative, l2):
    raise NotImplementedError


task_5.check(penalty_backward).keep();

# %%
# print(task_5.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def penalty_backward(grad_penalty, Z, user, positive, negative, l2):
#     count = np.bincount(np.concatenate([user, positive, negative]), minlength=len(Z))
#     return grad_penalty * 2 * l2 / len(user) * count[:, None] * Z
# ```
#
# </details>

# %%
counts = np.bincount(np.concatenate(batch))
assert counts.tolist() == [2, 1, 3, 2, 1]
assert np.isclose(my.penalty(H, *batch, 5.0), 5.0 / 3 * np.sum(counts * np.sum(H * H, axis=1)))

# %% [markdown]
# ## Write: the draw of triples
#
# ### Forward
#
# Users are drawn uniformly, not interactions: a user with 500 clicks would otherwise be heard 500 times as often as one with a single click. The obvious way to find a negative is to draw any item, and to draw again if the user has it. That hangs when somebody has every item. There is a way without a second try: rank the items that she *lacks* among themselves, and draw a rank.
#
# ### By hand
#
# A user has the items 1, 3 and 4 of seven. She lacks 0, 2, 5, 6, so rank 2 is item 5. One stable sort of `[0, 1, 0, 1, 1, 0, 0]` puts the lacking items in front, in order, and hers behind.

# %%
assert np.argsort([0, 1, 0, 1, 1, 0, 0], kind="stable").tolist() == [0, 2, 5, 6, 1, 3, 4]
free_ranks(taken=[1, 3, 4], n_items=7, rank=2)

# %% [markdown]
# ### Your turn

# %%
task_6 = exercise("sample_triples")
task_6

# %%
def sample_triples(R, rng):
    raise NotImplementedError


task_6.check(sample_triples).keep();

# %%
# print(task_6.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def sample_triples(R, rng):
#     has = R.toarray() != 0
#     n_users, n_items = has.shape
#     degree = has.sum(axis=1)
#     items = np.argsort(has, axis=1, kind="stable")  # in each row first the items that the user lacks, then those that she has
#     user = rng.choice(np.flatnonzero((degree > 0) & (degree < n_items)), R.nnz)
#     n_free = n_items - degree[user]
#     negative = items[user, rng.integers(0, n_free)]
#     positive = items[user, n_free + rng.integers(0, degree[user])]
#     return user, n_users + positive, n_users + negative
# ```
#
# </details>
#
# The loop will be fed by this function, which draws several times and cuts the draws into batches:

# %%
def draw_batches(R, n_draws, size, rng):
    draws = [my.sample_triples(R, rng) for _ in range(n_draws)]
    user, positive, negative = (np.concatenate(parts) for parts in zip(*draws, strict=True))
    cuts = range(0, len(user), size)
    return [(user[k : k + size], positive[k : k + size], negative[k : k + size]) for k in cuts]


my.keep(draw_batches)

# %% [markdown]
# Do not believe that the draw is uniform: count. One user with the items 1, 3 and 4, and some 8,000 negatives, about 2,000 for each item that she lacks. How far from 2,000 may a count be? $\chi^2$ adds up (count − expected)² / expected; of uniform draws its distribution is known.

# %%
lonely = sparse.csr_array(np.array([[0, 1, 0, 1, 1, 0, 0]]))
rng = np.random.default_rng(0)
drawn = np.concatenate([my.sample_triples(lonely, rng)[2] for _ in range(8000 // 3)]) - 1
items, times = np.unique(drawn, return_counts=True)
assert items.tolist() == [0, 2, 5, 6]
expected = len(drawn) / 4
chi_square = np.sum((times - expected) ** 2 / expected)
assert chi_square < 21.2, "with 4 items, uniform draws exceed 16.3 once in a thousand times, 21.2 once in ten thousand"
dict(zip(items.tolist(), times.tolist(), strict=True))

# %% [markdown]
# ## Write: the step
#
# ### Forward
#
# Plain descent is one line, `theta = theta - rate * grad`. But the size of a gradient is a poor guide for the length of a step: it depends on how often an entity occurs, on the batch's size, on the scale of the loss. **Adam** (Kingma and Ba, 2015) decides the length for each number by itself, from running means of the gradient and of its square. In this section $k=1,2,\dots$ counts steps, and $G_k$ is the gradient of step $k$:
#
# $$m_k=\beta_1m_{k-1}+(1-\beta_1)G_k,\qquad v_k=\beta_2v_{k-1}+(1-\beta_2)G_k^2,\qquad\theta_k=\theta_{k-1}-\eta\,\frac{m_k/(1-\beta_1^k)}{\sqrt{v_k/(1-\beta_2^k)}+\varepsilon},$$
#
# with $m_0=v_0=0$, $\beta_1=0.9$, $\beta_2=0.999$, $\varepsilon=10^{-8}$ against a division by 0, all of it entry by entry.
#
# ### By hand
#
# The first step with $G_1=0.02$: $m=0.002$, $v=4\cdot10^{-7}$; divided by 0.1 and 0.001 they are 0.02 and 0.0004, whose root is 0.02. The step is $\eta$, whatever the gradient's size.
#
# ### Your turn

# %%
task_7 = exercise("adam_step")
task_7

# %%
def adam_step(theta, grad, m, v, step, rate):
    raise NotImplementedError


task_7.check(adam_step).keep();

# %%
# print(task_7.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def adam_step(theta, grad, m, v, step, rate):
#     m = 0.9 * m + 0.1 * grad
#     v = 0.999 * v + 0.001 * grad**2
#     mean, square = m / (1 - 0.9**step), v / (1 - 0.999**step)
#     return theta - rate * mean / (np.sqrt(square) + 1e-8), m, v
# ```
#
# </details>
#
# How far does it move? Below are a constant gradient, one that fades, $G_k=0.95^k$, and one that an entity receives which occurs in every 20th batch. The dashed curve is Adam without its corrections.

# %%
def lengths(gradients):
    theta, m, v, found = np.zeros(1), np.zeros(1), np.zeros(1), []
    for step, grad in enumerate(gradients, 1):
        moved, m, v = my.adam_step(theta, np.array([grad]), m, v, step, 1.0)
        found.append(float(theta[0] - moved[0]))
        theta = moved
    return np.array(found)


k = np.arange(1, 2001)
constant, fading, rare = lengths(0.02 + 0 * k), lengths(0.95**k), lengths((k % 20 == 0) * 0.02)
uncorrected = (1 - 0.9**k) / np.sqrt(1 - 0.999**k)
assert np.allclose(constant, 1, atol=1e-6) and round(float(fading[49]), 2) == 0.32
assert round(float(rare[-20:].mean()), 2) == 0.22 and (rare[100:] > 0).all()
assert round(float(uncorrected[0]), 2) == 3.16 and uncorrected.max() > 6.5 and k[uncorrected.argmax()] == 12
first_steps(k, {"constant gradient": constant, "without correction": uncorrected, "fading: 0.95^k": fading, "every 20th batch": rare})

# %% [markdown]
# A constant gradient gives steps of the learning rate. If a gradient fades, the step is shorter, although the sign never changes: .32 of the rate at step 50, because $v$ remembers the large gradients longer than $m$ does. An entity that batches rarely touch is the normal case here. It moves in *every* batch, also in those without it, since $m$ is not yet forgotten; on average by .22 of the rate in our example. Without the corrections the first step is 3.16 times too long, and the twelfth more than 6.5 times.
#
# ### The derivation
#
# <details><summary>The derivation</summary>
#
# Unrolled, $m_k=\sum_{l\le k}(1-\beta_1)\beta_1^{k-l}G_l$. A mean needs weights that add up to 1; these add up to $1-\beta_1^k$, a tenth at the first step. The rest belongs to the zero that we started from. Dividing by the weights that are there repairs it, for $m$ and likewise for $v$. Both are too small at first, but not by the same factor: $0.1/\sqrt{0.001}\approx3.16$.
#
# </details>
#
# ## Write: a training loop
#
# ### Forward
#
# Loss, gradient, step: that is a trainer. Here it trains a table: $H$ itself is the parameter, with a row for each entity.
#
# ### Your turn

# %%
task_8 = exercise("train_table")
task_8

# %%
def train_table(H, b, batches, rate):
    raise NotImplementedError


task_8.check(train_table).keep();

# %%
# print(task_8.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def train_table(H, b, batches, rate):
#     m_H = v_H = np.zeros_like(H)
#     m_b = v_b = np.zeros_like(b)
#     losses = []
#     for step, batch in enumerate(batches, 1):
#         losses.append(my.bpr_loss(H, b, *batch))
#         grad_H, grad_b = my.bpr_backward(1.0, H, b, *batch)
#         H, m_H, v_H = my.adam_step(H, grad_H, m_H, v_H, step, rate)
#         b, m_b, v_b = my.adam_step(b, grad_b, m_b, v_b, step, rate)
#     return H, b, losses
# ```
#
# </details>
#
# The 18 women and 14 events, four numbers for each of them. At the start all scores are nearly equal: every softplus is near $\log2$, and the orders are right about as often as a coin's.

# %%
women = southern_women_split()
R, rng = women.train, np.random.default_rng(3)
H, b = 0.01 * rng.standard_normal((32, 4)), np.zeros(32)
batches = my.draw_batches(R, 300, R.nnz, rng)
trained_H, trained_b, losses = my.train_table(H, b, batches, 0.03)


def share_right(H, b):
    user, positive, negative = batches[-1]
    return np.mean(np.sum(H[user] * (H[positive] - H[negative]), axis=1) + b[positive] > b[negative])


shares = [share_right(*my.train_table(H, b, batches[:n], 0.03)[:2]) for n in range(0, 301, 20)]
assert abs(losses[0] - np.log(2)) < 0.01 and losses[-1] < 0.3 and 0.3 < shares[0] < 0.7 and shares[-1] > 0.95
assert (trained_b[:18] == 0).all() and (trained_b[18:] != 0).all(), "only item biases have moved"
shares = np.interp(np.arange(300), np.arange(0, 301, 20), shares)
loss_and_order(np.arange(300), losses, shares, start=np.log(2), title="A table of 32 rows, trained on the southern women")

# %% [markdown]
# Nearly all *training* pairs end in the right order. That does not make it a good recommender: its 128 numbers describe 64 attendances, so it can learn them by heart. On held-out events it does not reach the walks, which need no training at all:

# %%
quality = {
    "your table": my.evaluate(trained_H[:18] @ trained_H[18:].T + trained_b[18:], R, women.test, 5),
    "popularity": my.evaluate(my.dense(my.popularity(R)), R, women.test, 5),
    "three-step walks": my.evaluate(my.dense(my.three_step_walks(R)), R, women.test, 5),
}
assert quality["your table"] < quality["three-step walks"]
{name: f"NDCG@5 {value:.3f}" for name, value in quality.items()}

# %% [markdown]
# ## Predict
#
# 1. A colleague writes `grad_H[user] += ...` in `bpr_backward` and checks it at four triples in which **no entity occurs twice**. What does the checker say? And at nine triples with repetitions?
# 2. All gradients are multiplied by 1,000. What becomes of the path that Adam takes?
# 3. The gradient of the users' biases is zero. A checker that compares relative errors divides by the gradient's size. What should it do?
#
# <details><summary>Answers</summary>
#
# 1. It passes, and rightly: at that point the wrong function computes the right numbers. With repetitions it fails. *Points without duplicates are the classical blind spot of gradient checks on embeddings.*
# 2. Nothing: $m$ and $\sqrt v$ grow by the same factor, and only $\varepsilon$ sees a difference.
# 3. Refuse. A zero gradient is more often a bug than a fact, so it has to be declared (`zero_gradient=...`). Below it is left out of the table and was asserted by itself above.
#
# </details>
#
# ## Check
#
# Your loss and your penalty at a batch with repetitions, by the means of notebook 01. (The complex step is left out: a softplus may be right without taking complex numbers.)

# %%
def draw(size, repeated, rng):
    user = rng.integers(0, 4, size) if repeated else np.arange(size)
    positive = rng.integers(4, 12, size) if repeated else 4 + np.arange(size)
    negative = 4 + (positive - 4 + rng.integers(1, 8, size)) % 8 if repeated else 8 + np.arange(size)
    return user, positive, negative


rng = np.random.default_rng(1)
batch = draw(9, True, rng)
point = {"H": rng.standard_normal((12, 3)), "b_items": rng.standard_normal(8), "Z": rng.standard_normal((12, 3))}


def loss(H, b_items, Z):
    b = np.append(np.ones(4), b_items)
    return my.bpr_loss(H, b, *batch), my.penalty(Z, *batch, 5.0)


def backward(grads, H, b_items, Z):
    grad_H, grad_b = my.bpr_backward(grads[0], H, np.append(np.ones(4), b_items), *batch)
    return {"H": grad_H, "b_items": grad_b[4:], "Z": my.penalty_backward(grads[1], Z, *batch, 5.0)}


report = check_gradients(
    loss, backward, point, dtypes=("float64",), checks=("contract", "central_difference", "taylor_rate"), name="loss"
)
assert report.passed, report
report

# %% [markdown]
# ## Try it
#
# **The colleague.** Here is that function, with its two gaps. Mend it.

# %%
def forgetful(H, b, user, positive, negative):
    x = np.sum(H[user] * (H[positive] - H[negative]), axis=1) + b[positive] - b[negative]
    grad_x = -my.sigmoid(-x)[:, None] / len(user)
    grad_H = np.zeros_like(H)
    grad_H[user] += grad_x * (H[positive] - H[negative])
    grad_H[positive] += grad_x * H[user]
    grad_H[negative] -= grad_x * H[user]
    return grad_H


H, b, gaps = rng.standard_normal((12, 3)), rng.standard_normal(12), []
for repeated, size in ((False, 4), (True, 9)):
    batch = draw(size, repeated, rng)
    gaps.append(my.gradient_gap(lambda H: my.bpr_loss(H, b, *batch), lambda H: forgetful(H, b, *batch), H))
assert gaps[0] < 1e-7 and gaps[1] > 0.01
print(f"without repetitions {gaps[0]:.0e}, with repetitions {gaps[1]:.0e}")

# %% [markdown]
# **A thousandfold gradient**, the second prediction. How small must a gradient be for $\varepsilon$ to be felt?

# %%
paths = []
for factor in (1, 1000):
    theta = m = v = np.zeros(3)
    for step in range(1, 20):
        theta, m, v = my.adam_step(theta, factor * np.sin(step + np.arange(3)), m, v, step, 0.1)
    paths.append(theta)
assert np.allclose(*paths, rtol=1e-5)
np.abs(paths[0] - paths[1]).max()

# %% [markdown]
# **Clipping.** The released code cuts every entry of a gradient to $[-3,3]$ before Adam. Does that matter? The gradient is that of a *mean* over thousands of triples: at the start of training on the planted data its largest entry is far below 3. Try a batch of one triple.

# %%
planted, rng = sparse.csr_array(load_dataset("planted").train), np.random.default_rng(0)
H_start = rng.standard_normal((sum(planted.shape), 16))
first = my.draw_batches(planted, 1, 8192, rng)[0]
largest = np.abs(my.bpr_backward(1.0, H_start, np.zeros(len(H_start)), *first)[0]).max()
assert largest < 0.3
largest

# %% [markdown]
# **Popular negatives.** What becomes of item biases if negatives are drawn in proportion to their popularity? Change your sampler and look at `trained_b`.
#
# ## Faster
#
# `np.add.at` *scatters*: each triple adds to three rows, and two threads may want to add to the same row at the same moment. The package's compiled engine turns the loop inside out. It sorts the $3B$ places of a batch by entity, and then each entity *gathers* its own. Below, the line style is that of the thread that adds; a thick frame marks an entity to which two threads would write.

# %%
places = [f"{role} {k}" for role in ("user", "pos", "neg") for k in range(3)]
scatter_and_gather(places, np.array([0, 0, 1, 2, 2, 3, 3, 4, 2]), np.arange(9) % 3, ["u0", "u1", "i0", "i1", "i2"])

# %% [markdown]
# On the right no two threads write to one row, and each sum is made in a fixed order, whatever the number of threads. The package's sampler finds negatives by rank, as yours does, but five *different* ones for each positive; and each random number is a function of (seed, draw, position), so that any thread can make any draw. First the same numbers as yours, then the ratio on your machine.

# %%
from c2f_np.engine import engine_named
from c2f_np.model.loss import Triples
from c2f_np.model.sampling import sample_triples as sample_of_package

compiled = engine_named("numba")
H_big, b_big = rng.standard_normal((len(H_start), 64)), rng.standard_normal(len(H_start))
triples = Triples(*first, len(H_big))


def of_the_package():
    loss, slope = compiled.bpr_loss(H_big, b_big, np.zeros(1), triples)
    return compiled.bpr_backward(H_big, triples, slope)


seconds = {}
for name, run in {"package": of_the_package, "yours": lambda: my.bpr_backward(1.0, H_big, b_big, *first)}.items():
    found = run()  # the first call compiles
    started = time.perf_counter()
    for _ in range(5):
        run()
    seconds[name] = time.perf_counter() - started
    reference = found if name == "package" else reference
assert all(np.allclose(a, c, rtol=1e-10, atol=1e-13) for a, c in zip(found, reference, strict=False))
assert all((a == c).all() for a, c in zip(of_the_package(), of_the_package(), strict=True)), "the same bits again"
planted.sort_indices()
drawn = [sample_of_package(planted, 5000, 5, 9, engine=engine_named(name)) for name in ("numpy", "numba")]
assert all((a == c).all() for a, c in zip(*drawn, strict=True)), "both engines draw the same triples"
print(f"yours takes {seconds['yours'] / seconds['package']:.1f} times as long")

# %% [markdown]
# ## Read next
#
# [06](06_coarse_stage.ipynb) puts this loss on top of a codebook and a graph. In the package: `docs/model.md` (coarse stage, 4 to 6), `docs/checking_gradients.md`. Rendle, Freudenthaler, Gantner and Schmidt-Thieme, *BPR: Bayesian personalized ranking from implicit feedback*, UAI 2009; Kingma and Ba, *Adam: a method for stochastic optimization*, ICLR 2015.
