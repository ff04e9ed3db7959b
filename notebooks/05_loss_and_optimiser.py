# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 5 · The loss and the optimiser
#
# ## What you will do
#
# You have a score for every pair of a user and an item, and a list of what people clicked. This notebook turns the two into one number, the loss, and that number into a better model. You will
#
# - see why the loss compares *pairs* of items instead of predicting clicks one by one,
# - derive the gradient of that loss by hand, term by term, and find that two of the model's parameters can never move,
# - meet the mistake that almost everybody makes once in code like this, `array[rows] += values`, and see which check finds it and which does not,
# - derive Adam, the rule that turns a gradient into a step, with the correction that its first steps need,
# - draw training examples without ever throwing one away.
#
# **You need** the chain rule, NumPy, and three things from the notebooks before: *entities* are the users and then the items, numbered $0, \dots, N-1$, so that item $i$ of $U$ users' catalogue is entity $U+i$; every entity $e$ has a row $H_e$ of $d$ numbers (its propagated embedding) in a matrix $H$ of shape $N\times d$; and a *cotangent* $G_y$ is the gradient of the final loss with respect to some intermediate result $y$, of the shape of $y$. Where $H$ comes from does not matter here.
#
# **You get** the functions of `loss.py`, `step.py` and `sampling.py` in `c2f_np/model/`, each derived and checked.

# %%
import inspect
import time

import numpy as np
import scipy.sparse as sparse

from c2f_np.course import exercise
from c2f_np.data import cached, load_dataset
from c2f_np.engine import engine_named
from c2f_np.gradcheck import check_gradients
from c2f_np.model import sampling
from c2f_np.model import loss as bpr
from c2f_np.model.loss import Triples
from c2f_np.model.step import BETA1, BETA2, EPSILON, adam_step, adam_update, clip_by_value, fresh_moments
from c2f_np.plotting.losses import (
    first_steps, free_ranks, loss_and_order, loss_and_slope, scatter_and_gather, triple_in_the_plane,
)
from c2f_np.settings import Settings

# %% [markdown]
# ## The idea
#
# **What the data do not say.** A list of clicks says what people chose. It never says what they rejected: an item without a click may be disliked, or simply never seen. If you train a model to output 1 for a click and 0 for everything else, you teach it that nearly all items are bad, including all those that it should recommend tomorrow.
#
# **What they do say.** That a user chose item $i$ and not item $j$ is weak evidence that she prefers $i$ to $j$, and a recommender only needs the *order*. So the unit of training is a triple (user $u$, positive item $i$, negative item $j$), and the wish is
#
# $$\text{score}(u,i) > \text{score}(u,j).$$
#
# This is *Bayesian personalised ranking*, BPR (Rendle et al., 2009). Let $x = \text{score}(u,j)-\text{score}(u,i)$: the order is right when $x<0$ and wrong when $x>0$. One would like to count wrong orders, the dashed staircase below. But a staircase has the derivative 0 wherever it has one, and nothing can be learned from that. BPR puts a smooth curve in its place.

# %%
x = np.linspace(-5, 5, 401)
loss_and_slope(x, {"softplus(x)": bpr.softplus(x), "1 if the order is wrong, else 0": (x > 0) * 1.0}, {"sigmoid(x)": bpr.sigmoid(x)})

# %% [markdown]
# The right-hand picture is the whole character of this loss. A triple whose order is clearly right ($x\ll0$) has a slope near 0: it is left in peace. One that is clearly wrong has a slope near 1, and no more than 1: a single absurd click cannot outshout the rest. In between the pull fades smoothly. *The slope of a triple is how wrong its order is, as a number between 0 and 1.*
#
# In the plane, one step of descent does what you would do by hand: it draws the positive item towards the user, pushes the negative one away from her, and turns the user from the one to the other. (Why exactly these arrows is the subject of the section on the backward pass.)

# %%
H_drawn = np.array([[1.0, 0.5], [0.3, 1.0], [1.2, -0.4]])  # user u, positive i, negative j
one = Triples(np.array([0]), np.array([1]), np.array([2]), n_entities=3)
_, slope = bpr.bpr_loss(H_drawn, np.zeros(3), np.zeros(1), one)
arrows = -0.6 * bpr.bpr_backward(H_drawn, one, slope)[0]
triple_in_the_plane(H_drawn, arrows, ["user u", "positive i", "negative j"], [0, 1, 2])

# %% [markdown]
# ## The mathematics
#
# ### The score
#
# $$\text{score}(u,i)=\langle H_u, H_{U+i}\rangle + b_u + b_{U+i} + b_0,$$
#
# the dot product of two rows of $H$, one *bias* for each entity ($b$, of shape $N$) and one for all ($b_0$). A bias of an item says "everybody likes this"; that is what popularity becomes inside the model. From here on $i$ and $j$ stand for entity numbers, so that we can write $H_i$ for the row of the positive item.
#
# ### The loss of a triple
#
# Read $\sigma(-x) = 1/(1+e^{x})$ as the probability that the order is right; it is near 1 for $x\ll0$ and near 0 for $x\gg0$. Maximum likelihood asks for a large product of these probabilities over all triples, or, which is the same, for a small sum of their negative logarithms:
#
# $$-\log\sigma(-x) = -\log\frac{1}{1+e^{x}} = \log(1+e^{x}) = \text{softplus}(x).$$
#
# Over a batch of $B$ triples the loss is the mean, $\ell=\frac1B\sum_t \text{softplus}(x_t)$. Its derivative by one $x_t$:
#
# $$\frac{d}{dx}\log(1+e^x)=\frac{e^x}{1+e^x}=\frac{1}{1+e^{-x}}=\sigma(x), \qquad\text{so}\qquad s_t=\frac{\partial \ell}{\partial x_t}=\frac{\sigma(x_t)}{B}.$$
#
# The numbers $s_t$ are the **slopes**. Everything in the backward pass is a slope times something.
#
# ### The same curve without overflow
#
# Typed in as it stands, $\log(1+e^x)$ fails twice: $e^{1000}$ is infinite in floating point, and $1+e^{-50}$ is exactly 1, so that the logarithm is 0. Both go away when the larger term is taken out of the sum:
#
# $$\log(1+e^x)=\log\big(e^x(e^{-x}+1)\big)=x+\log(1+e^{-x}),$$
#
# which is used for $x>0$; in both cases the exponent is $-|x|\le0$, so that $\log(1+e^x)=\max(x,0)+\log(1+e^{-|x|})$, and `log1p` computes $\log(1+y)$ for tiny $y$ without forming $1+y$.

# %%
with np.errstate(over="ignore"):
    naive = np.log(1 + np.exp(np.array([1000.0, -50.0])))
careful = bpr.softplus(np.array([1000.0, -50.0]))
assert np.isinf(naive[0]) and naive[1] == 0, "the naive formula fails at both ends"
assert careful[0] == 1000 and np.isclose(careful[1], np.exp(-50), rtol=1e-12), "the careful one does not"
print(inspect.getsource(bpr.softplus))

# %% [markdown]
# ### A batch one can compute by hand
#
# Two users (entities 0 and 1), three items (entities 2, 3, 4), width $d=2$, no biases, three triples. Entity 0, the first user, occurs twice; entity 2, the first item, occurs three times: twice as a positive and once as a negative. *Occurring more than once is the normal case*: an epoch draws several triples for every user.
#
# | triple | user | positive | negative | $x=\langle H_u, H_j-H_i\rangle$ |
# |---|---|---|---|---|
# | 0 | 0: (1, 0) | 2: (1, 1) | 3: (0, 1) | $\langle(1,0),(-1,0)\rangle=-1$ |
# | 1 | 0: (1, 0) | 2: (1, 1) | 4: (1, 0) | $\langle(1,0),(0,-1)\rangle=0$ |
# | 2 | 1: (0, 1) | 3: (0, 1) | 2: (1, 1) | $\langle(0,1),(1,0)\rangle=0$ |
#
# The first order is right, the two others are undecided. softplus(0) is $\log 2\approx0.6931$, softplus(−1) is 0.3133, so the loss is 0.5665. The slopes are $\sigma(-1)/3=0.0896$ and twice $\sigma(0)/3=1/6$.

# %%
H = np.array([[1.0, 0], [0, 1], [1, 1], [0, 1], [1, 0]])
b, b0 = np.zeros(5), np.zeros(1)
triples = Triples(user=np.array([0, 0, 1]), positive=np.array([2, 2, 3]), negative=np.array([3, 4, 2]), n_entities=5)
loss, slope = bpr.bpr_loss(H, b, b0, triples)
assert round(float(loss), 4) == 0.5665 and round(float(np.log(2)), 4) == 0.6931
assert round(float(bpr.softplus(np.array(-1.0))), 4) == 0.3133
assert np.allclose(slope, [0.0896, 1 / 6, 1 / 6], atol=5e-5)
loss, slope

# %% [markdown]
# ### The regulariser
#
# Nothing above stops embeddings from growing: making all scores larger makes every right order look more certain. So the loss gets a second term that pulls rows towards zero. It acts on $Z$, the $N\times d$ matrix of *ego* embeddings, which are what an entity is before the graph mixes it with others ($Z=\tanh(S_cE_c)$ in this model), and only on the rows that the batch touches:
#
# $$r=\frac{\lambda}{B}\sum_{t}\left(|Z_{u_t}|^2+|Z_{i_t}|^2+|Z_{j_t}|^2\right)=\frac{\lambda}{B}\sum_e c_e|Z_e|^2,\qquad \text{total loss}=\ell+\text{decay}\cdot r.$$
#
# $\lambda$ is called `l2` in the code (5 by default), decay is $10^{-4}$, and $c_e$ counts how often entity $e$ occurs in the batch, in any role. The second form of the sum, by entity instead of by triple, is the same number; it is the one that is easy to differentiate. In our batch the counts are $(2,1,3,2,1)$: nine places, three triples.
#
# ## Forward
#
# Here is the text of the package, the whole of it.

# %%
print(inspect.getsource(bpr.score_pairs))
print(inspect.getsource(bpr.squared_norm_penalty))

# %%
counts = np.bincount(np.concatenate([triples.user, triples.positive, triples.negative]), minlength=5)
assert counts.tolist() == [2, 1, 3, 2, 1]
by_triple = bpr.squared_norm_penalty(H, triples, l2=5.0)
by_entity = 5.0 / 3 * np.sum(counts * np.sum(H * H, axis=1))
assert np.isclose(by_triple, by_entity), "the two forms of the sum are one number"
assert (Settings().l2, Settings().decay, Settings().max_grad_value, Settings().neg_size) == (5.0, 1e-4, 3.0, 5)
by_triple

# %% [markdown]
# ### Where triples come from
#
# An epoch draws users uniformly (not interactions: a user with 500 clicks would otherwise be heard 500 times as often as one with a single click), for each of them one of her items as the positive, and five items that she does *not* have as negatives. The obvious way to draw a negative is to draw any item and to try again if she has it. That works until somebody has nearly everything: with all items but one, a catalogue of $n$ takes $n$ tries on average, and with all items the loop never ends.
#
# The better way has no loop. Number the items that she does not have among themselves, $0,1,2,\dots$; draw one of *these* numbers; look up which item it is. Suppose she has the items 1, 3 and 4 of seven:

# %%
free_ranks(taken=[1, 3, 4], n_items=7, rank=2)

# %% [markdown]
# The free item of rank 2 is item 5. To find it without listing the free items: let $c_0<c_1<\dots$ be the items that she has. Before $c_k$ there are $c_k$ items, $k$ of them hers, hence $c_k-k$ free ones: here $(1, 3-1, 4-2)=(1,2,2)$. An item of hers lies before the free item of rank $r$ exactly if at most $r$ free ones lie before it, $c_k-k\le r$. So
#
# $$\text{item}(r)=r+\#\{k : c_k-k\le r\},$$
#
# and because $c_k-k$ never falls, the count is found by bisection. For $r=2$ all three count: $2+3=5$.

# %%
plain = engine_named("numpy")
item = sampling._free_item(np.array([1, 3, 4]), first=np.zeros(4, dtype=int), degree=np.full(4, 3), rank=np.arange(4))
assert item.tolist() == [0, 2, 5, 6], "the four free items, in order"
print(inspect.getsource(sampling._free_item))

# %% [markdown]
# Five *different* negatives out of $n$ free items are five different ranks. Floyd's algorithm draws them without a retry either: for top $=n-5,\dots,n-1$ draw a number from $0$ to top; if it has been chosen already, choose top itself. Why every subset is equally likely: suppose that so far every subset of $m$ numbers below $T$ is equally likely, with probability $1/\binom Tm$, and draw from $0,\dots,T$. A set of $m+1$ numbers *without* $T$ arises from $m+1$ subsets (leave out any one of its members, then draw it), each way with probability $\frac1{T+1}$: altogether $\frac{m+1}{T+1}/\binom Tm$. A set *with* $T$ arises from one subset only (leave out $T$), but by $m+1$ draws: $T$ itself, or any of the $m$ members that are there already. The same number, so all sets are equally likely again.
#
# Do not believe it: count. One user, four free items, two negatives a draw, six possible pairs.

# %%
R = sparse.csr_array(np.array([[0, 1, 0, 1, 1, 0, 0]]))
_, _, negatives = sampling.sample_triples(R, n_draws=6000, neg_size=2, seed=1, engine=plain)
pairs, times = np.unique(np.sort(negatives.reshape(-1, 2), axis=1), axis=0, return_counts=True)
assert len(pairs) == 6 and times.sum() == 6000
chi_square = np.sum((times - 1000) ** 2 / 1000)
assert chi_square < 20.5, "with 5 degrees of freedom, uniform draws exceed 20.5 once in a thousand times"
dict(zip(map(tuple, pairs.tolist()), times.tolist()))

# %%
everything_but_one = sparse.csr_array(1 - np.eye(1, 7, 4, dtype=int))
_, _, negatives = sampling.sample_triples(everything_but_one, n_draws=1000, neg_size=5, seed=0, engine=plain)
assert set(negatives.tolist()) == {4} and len(negatives) == 1000, "one free item gives one negative a draw, and no endless loop"

# %% [markdown]
# On data: MovieLens 100K if `python -m c2f_np data fetch ml-100k` has been run on this machine, otherwise the planted data set that ships with the package (1,000 users, 800 items). No sampled negative may be a training item, and the busiest user shows what rejection would have cost.

# %%
name = "ml-100k" if cached("ml-100k") else "planted"
R = sparse.csr_array(load_dataset(name).train)
R.sort_indices()
users, positives, negatives = sampling.sample_triples(R, n_draws=R.nnz, neg_size=5, seed=0, engine=plain)
assert (R[users, positives] != 0).all() and (R[users, negatives] == 0).all(), "positives are hers, negatives are not"
share = np.diff(R.indptr).max() / R.shape[1]
print(f"{name}: {len(users):,} triples in an epoch; the busiest user has {share:.0%} of all items,")
print(f"so that for her rejection would have needed {1 / (1 - share):.2f} tries for each negative")

# %% [markdown]
# On such data rejection would have been cheap. What the ranks buy is the worst case: every draw costs the same few steps, whoever the user is, so that a draw can be handed to any thread and cannot hang.
#
# ## Backward
#
# ### One triple
#
# Only three rows of $H$ and two entries of $b$ are in $x$. Write it out and let every symbol move a little:
#
# $$x=\langle H_u,\,H_j-H_i\rangle+(b_u+b_j+b_0)-(b_u+b_i+b_0),$$
#
# $$dx=\langle dH_u,\,H_j-H_i\rangle+\langle H_u,\,dH_j\rangle-\langle H_u,\,dH_i\rangle+db_j-db_i.$$
#
# The gradient of something is what stands beside its $d$. With $d\ell=\sum_t s_t\,dx_t$, a triple therefore contributes
#
# | to | | |
# |---|---|---|
# | $G_{H_u}$ | $+\,s\,(H_j-H_i)$ | the user turns from $j$ to $i$ (descent subtracts) |
# | $G_{H_i}$ | $-\,s\,H_u$ | the positive is drawn to the user |
# | $G_{H_j}$ | $+\,s\,H_u$ | the negative is pushed away |
# | $G_{b_i}$, $G_{b_j}$ | $-\,s$, $+\,s$ | the positive gains, the negative loses |
# | $G_{b_u}$, $G_{b_0}$ | $s-s=0$ | |
#
# ### Two parameters that cannot move
#
# The last line deserves a stop. The user's bias and the global bias stand in *both* scores, and a difference does not see what its two terms share. Their gradient is not small, it is zero, to the last bit, at every point and for every batch. So Adam (below) never moves them: user biases stay where they started, for the whole of training. That is harmless, because adding the same number to all of one user's scores does not change her ranking; but if they start as random noise, they stay random noise, and whoever prints them and looks for meaning will find none. Item biases do move: they collect popularity.
#
# ### A batch: contributions add up
#
# An entity that occurs several times receives *all* of its contributions; this is the rule "used twice, gradients add" again. By hand for our batch, with slopes $s=(0.0896, \frac16, \frac16)$:
#
# - $G_{H_0}=0.0896\cdot(-1,0)+\frac16(0,-1)=(-0.0896,-0.1667)$: the user of triples 0 and 1;
# - $G_{H_2}=-0.0896\,(1,0)-\frac16(1,0)+\frac16(0,1)=(-0.2563,\,0.1667)$: twice positive, once negative;
# - $G_{b_2}=-0.0896-\frac16+\frac16=-0.0896$.

# %%
grad_H, grad_b, grad_b0 = bpr.bpr_backward(H, triples, slope)
assert np.allclose(grad_H[0], [-0.0896, -0.1667], atol=5e-5)
assert np.allclose(grad_H[2], [-0.2563, 0.1667], atol=5e-5)
assert np.isclose(grad_b[2], -0.0896, atol=5e-5)
assert (grad_b[:2] == 0).all() and grad_b0[0] == 0, "exactly zero, not nearly"
print(inspect.getsource(bpr.bpr_backward).split('"""')[2])

# %% [markdown]
# ### The trap
#
# The NumPy lines say `np.add.at(grad_H, user, values)` where one would like to write `grad_H[user] += values`. The two differ precisely when `user` holds a number twice. `a[rows] += v` means: *fetch* all `a[rows]`, add `v`, *store* the results; of two results for the same row the second overwrites the first. Nothing warns you. Here is what becomes of entity 0:

# %%
lost = np.zeros_like(H)
lost[triples.user] += slope[:, None] * (H[triples.negative] - H[triples.positive])
assert np.allclose(lost[0], [0, -1 / 6]), "of two contributions only the last is there"
lost[0], grad_H[0]

# %% [markdown]
# ### Scatter or gather
#
# `np.add.at` goes through the triples and *scatters*: each triple adds to three rows. It cannot be shared out among threads as it stands, since two triples may add to the same row at the same moment. The compiled version turns the loop inside out. It first sorts the $3B$ *slots* of the batch (slot $s$ is triple $s \bmod B$ in role $\lfloor s/B\rfloor$: user, positive, negative) by entity; then every entity *gathers* what its slots have for it. Below, the thread that adds has a line style; a thick frame marks an entity to which two threads would write.

# %%
where = triples.occurrences
names = [f"{role} {t}" for role in ("user", "pos", "neg") for t in range(3)]
entity_of_slot = np.concatenate([triples.user, triples.positive, triples.negative])
scatter_and_gather(names, entity_of_slot, np.arange(9) % 3, ["u0", "u1", "i0", "i1", "i2"])

# %% [markdown]
# `Triples.occurrences` holds the sorted slots the way a sparse matrix holds its rows: entity `entities[k]` fills `slots[start[k]:start[k + 1]]`. On the right nobody shares a row, so there is no conflict, no lock, and one thing more: the sum of each entity is made in a fixed order, *whatever* the number of threads. The gradient has the same bits on one core and on sixty-four.

# %%
assert where.entities.tolist() == [0, 1, 2, 3, 4] and where.start.tolist() == [0, 2, 3, 6, 8, 9]
assert where.slots[where.start[2] : where.start[3]].tolist() == [3, 4, 8], "entity 2: positive of 0 and 1, negative of 2"
assert (where.counts == counts).all(), "the counts of the regulariser come for free"
where

# %% [markdown]
# ### The regulariser
#
# $r=\frac\lambda B\sum_e c_e|Z_e|^2$ and the derivative of $|z|^2$ is $2z$, so with the cotangent $G_r$ (in the total loss this is the decay)
#
# $$G_{Z_e}=G_r\,\frac{2\lambda c_e}{B}\,Z_e.$$
#
# An entity that the batch does not touch has $c_e=0$ and is left alone; one that is touched three times is pulled three times as hard. In a stage $Z$ has a gradient from another way already: that is `onto`, and the function adds its own.

# %%
print(inspect.getsource(bpr.squared_norm_penalty_backward).split('"""')[2])

# %% [markdown]
# ### From a gradient to a step
#
# A gradient says which way is uphill. It does not say how far to go, and its size is a poor guide: it depends on how often an entity occurs, on the batch size, on how we scaled the loss. **Adam** (Kingma and Ba, 2015) decides the length for each number separately, from two running means over the steps $k=1,2,\dots$ (all operations entry by entry):
#
# $$m_k=\beta_1m_{k-1}+(1-\beta_1)g_k,\qquad v_k=\beta_2v_{k-1}+(1-\beta_2)g_k^2,\qquad m_0=v_0=0,$$
#
# with $\beta_1=0.9$, $\beta_2=0.999$. Unroll the first: $m_1=(1-\beta_1)g_1$, $m_2=(1-\beta_1)(\beta_1g_1+g_2)$, and so on,
#
# $$m_k=\sum_{l=1}^{k}w_l\,g_l,\qquad w_l=(1-\beta_1)\beta_1^{k-l}.$$
#
# A mean needs weights that add up to 1. These add up to a geometric sum,
#
# $$\sum_{l=1}^kw_l=(1-\beta_1)\frac{1-\beta_1^k}{1-\beta_1}=1-\beta_1^k,$$
#
# which is 0.1 at the first step. So $m_1$ is a tenth of the gradient that it should be the mean of; the missing nine tenths belong to the zero that we started from. Dividing by the weights that are there repairs that, for $m$ and likewise for $v$:
#
# $$\hat m_k=\frac{m_k}{1-\beta_1^k},\qquad\hat v_k=\frac{v_k}{1-\beta_2^k},\qquad \theta_k=\theta_{k-1}-\eta\,\frac{\hat m_k}{\sqrt{\hat v_k}+\epsilon},$$
#
# where $\theta$ is the parameter, $\eta$ the learning rate and $\epsilon=10^{-8}$ keeps 0/0 away. If the gradient is the same number $g$ at each step, then $\hat m=g$ and $\hat v=g^2$ exactly and the step is $\eta\,g/|g|$, that is $\eta$ in the direction of the sign. *Adam moves every number by about the learning rate, whatever the units of its gradient; it moves by less only where the gradient keeps changing its sign.*
#
# Why is the correction needed at all, if $m$ and $v$ are both too small? Because they are not too small by the same factor: without it the first step is $0.1/\sqrt{0.001}\approx3.16$ times too long, and it gets worse before it gets better.

# %%
k = np.arange(1, 10_001)
uncorrected = (1 - BETA1**k) / np.sqrt(1 - BETA2**k)
assert round(float(uncorrected[0]), 2) == 3.16 and uncorrected[:100].max() > 6.5 and k[uncorrected.argmax()] == 12
assert 1.25 < uncorrected[999] < 1.3
parameters, corrected = {"theta": np.zeros(1)}, []
moments = fresh_moments(parameters)
for _ in k:
    moved, moments = adam_step(parameters, {"theta": np.array([0.02])}, moments, learning_rate=1.0, clip=np.inf)
    corrected.append(float(parameters["theta"][0] - moved["theta"][0]))
assert np.allclose(corrected, 1, atol=1e-6), "with the correction a constant gradient gives steps of the learning rate"
first_steps(k, {"without correction": uncorrected, "Adam": np.array(corrected)})

# %% [markdown]
# The worst is at step 12, where the uncorrected step is more than 6.5 times the learning rate, and after a thousand steps it is still a quarter too long. Two consequences of the formula, to be checked rather than believed: multiplying all gradients by a thousand changes (almost) nothing, and a parameter with gradient zero stays where it is, to the last bit: that is what happens to the user biases.

# %%
rng = np.random.default_rng(0)
theta, gradients = rng.standard_normal(50), rng.standard_normal((20, 50))
ends = []
for scale in (1.0, 1000.0, 0.0):
    parameters = {"theta": theta}
    moments = fresh_moments(parameters)
    for g in gradients:
        parameters, moments = adam_step(parameters, {"theta": scale * g}, moments, learning_rate=0.01, clip=np.inf)
    ends.append(parameters["theta"])
assert np.allclose(ends[0], ends[1], atol=1e-6) and (ends[2] == theta).all()
print(inspect.getsource(adam_update))

# %% [markdown]
# The package divides $\sqrt{v}$ instead of $v$ by its correction, $\sqrt{v_k/(1-\beta_2^k)}=\sqrt{v_k}/\sqrt{1-\beta_2^k}$. That is the same number, and $\epsilon$ is added after it, as PyTorch does it.
#
# **Clipping by value.** Before a gradient enters Adam every entry is cut to $[-c,c]$, with $c=3$. "By value" means each entry by itself; the direction may change, which clipping the norm would avoid. Since Adam forgets the scale anyway, a clip matters only for rare outliers, which would otherwise sit in $v$ for a thousand steps and keep the step short. How rare? In this model the gradient is that of a *mean* over thousands of triples, and at the start of training on this notebook's data its largest entry is far below 3:

# %%
n_users, n_items = R.shape
batch = Triples.from_items(users[:8192], positives[:8192], negatives[:8192], n_users, n_items)
H_start = np.random.default_rng(0).standard_normal((n_users + n_items, 16))
_, slope = bpr.bpr_loss(H_start, np.zeros(len(H_start)), np.zeros(1), batch)
grad_start, _, _ = bpr.bpr_backward(H_start, batch, slope)
assert np.abs(grad_start).max() < 0.3, "the clip at 3 does nothing here"
assert (clip_by_value(np.array([-5.0, 0.5, 4.0]), 3.0) == [-3.0, 0.5, 3.0]).all()

# %% [markdown]
# ### All of it together, without a codebook
#
# Loss, gradient, Adam: that is a complete trainer. To see it run, take the 18 women and 14 social events of the southern-women data (Davis, Gardner and Gardner, 1941), give each of the 32 entities four numbers of its own, and descend. No graph, no codebook; those are what the other notebooks add. At the start all scores are nearly equal, each softplus is near $\log2$, and the orders are right about as often as a coin's.

# %%
women = sparse.csr_array(load_dataset("southern-women").train)
women.sort_indices()
assert women.shape == (18, 14)
parameters = {"H": 0.01 * np.random.default_rng(3).standard_normal((32, 4)), "b": np.zeros(32)}
moments, losses, shares = fresh_moments(parameters), [], []
for step in range(300):
    batch = Triples.from_items(*sampling.sample_triples(women, women.nnz, 2, step, engine=plain), *women.shape)
    loss, slope = bpr.bpr_loss(parameters["H"], parameters["b"], np.zeros(1), batch)
    grad_H, grad_b, _ = bpr.bpr_backward(parameters["H"], batch, slope)
    losses.append(float(loss))
    shares.append(float(np.mean(slope * len(batch) < 0.5)))  # sigmoid(x) < 1/2 means x < 0: the right order
    parameters, moments = adam_step(parameters, {"H": grad_H, "b": grad_b}, moments, learning_rate=0.03, clip=np.inf)
assert abs(losses[0] - np.log(2)) < 0.01 and losses[-1] < 0.3 and 0.35 < shares[0] < 0.65 and shares[-1] > 0.95
assert parameters["H"].size == 128 and (parameters["b"][:18] == 0).all() and (parameters["b"][18:] != 0).all(), "only item biases have moved"
loss_and_order(np.arange(300), losses, shares, start=np.log(2))

# %% [markdown]
# Do not be impressed: the pairs in the right order are *training* pairs, and 128 free numbers can memorise the attendance of 32 entities without learning anything about the next event. That is what validation data, the regulariser and, in this model, the small codebook are for.
#
# ## Predict
#
# Before you run the next section, answer on paper.
#
# 1. A colleague writes `grad_H[user] += ...` in `bpr_backward` and checks it with the best gradient checker there is, at a batch of four triples in which **no entity occurs twice**. What does the checker say?
# 2. The same colleague checks at a batch of nine triples with repetitions. And now?
# 3. In float64, how large will the relative error of the *right* gradient be against a central difference, and against a complex step?
# 4. The gradient of the user biases is zero. A checker that compares relative errors divides by the gradient's size. What should it do?
#
# <details><summary>Answers</summary>
#
# 1. It passes, and rightly: at that point the wrong function computes the right numbers. A check speaks about the points at which it is made, and about no others. *Points without duplicates are the classical blind spot of gradient checks on embeddings.*
# 2. It fails, in every check.
# 3. Central differences: below 1e-8 (truncation and rounding balance near 1e-10 to 1e-11, then there is some room). Complex step: below 1e-13, since nothing is subtracted.
# 4. Refuse. A gradient that is zero is more often a bug than a fact, so the checker calls it a failure unless zero has been declared (`zero_gradient=...`). The clean way, taken below, is to assert two things apart: that the backward gives 0 to the last bit, and that the forward does not notice when all these biases are moved.
#
# </details>
#
# ## Check
#
# The forward takes the biases of users and items apart, so that the zero ones can be treated by themselves. Everything else is the package.

# %%
def make_point(seed, n_users, n_items, size, repeated):
    rng = np.random.default_rng(seed)
    if repeated:
        user, positive = rng.integers(0, n_users, size), rng.integers(0, n_items, size)
        negative = (positive + rng.integers(1, n_items, size)) % n_items
    else:
        user, (positive, negative) = np.arange(size), np.arange(2 * size).reshape(2, size)
    n = n_users + n_items
    point = {"H": rng.standard_normal((n, 3)), "bias_user": rng.standard_normal(n_users),
             "bias_item": rng.standard_normal(n_items), "bias_global": rng.standard_normal(1)}
    return point, Triples.from_items(user, positive, negative, n_users, n_items)


point, batch = make_point(seed=1, n_users=3, n_items=4, size=9, repeated=True)

# %%
def loss_of(H, bias_user, bias_item, bias_global):
    return bpr.bpr_loss(H, np.concatenate([bias_user, bias_item]), bias_global, batch)[0]


def loss_backward(grad_loss, H, bias_user, bias_item, bias_global):
    _, slope = bpr.bpr_loss(H, np.concatenate([bias_user, bias_item]), bias_global, batch)
    grad_H, grad_bias, grad_global = bpr.bpr_backward(H, batch, grad_loss * slope)
    n = len(bias_user)
    return {"H": grad_H, "bias_user": grad_bias[:n], "bias_item": grad_bias[n:], "bias_global": grad_global}


report = check_gradients(loss_of, loss_backward, point, wrt=("H", "bias_item"), dtypes=("float64",), name="BPR")
assert report.passed, report
assert report.verdict("central_difference", "H").figure < 1e-8 and report.verdict("complex_step", "H").figure < 1e-13
report

# %% [markdown]
# The two gradients that are left out of the table are zero, by our function and by the forward itself:

# %%
zeros = loss_backward(1.0, **point)
assert (zeros["bias_user"] == 0).all() and (zeros["bias_global"] == 0).all(), "0 to the last bit"
moved = point | {"bias_user": point["bias_user"] + 100 * rng.standard_normal(3), "bias_global": point["bias_global"] - 7}
assert np.isclose(loss_of(**moved), loss_of(**point), rtol=1e-12), "moving them changes the loss by rounding only"
assert not np.isclose(loss_of(**point | {"bias_item": point["bias_item"] + np.arange(4)}), loss_of(**point), rtol=1e-3)

# %% [markdown]
# The regulariser is quadratic, hence not linear in $Z$, but its gradient is. The same batch, so with duplicates:

# %%
report = check_gradients(
    lambda Z: bpr.squared_norm_penalty(Z, batch, l2=5.0),
    lambda grad_penalty, Z: bpr.squared_norm_penalty_backward(grad_penalty, Z, batch, 5.0, np.zeros_like(Z)),
    {"Z": np.tanh(point["H"])}, name="regulariser",
)
assert report.passed, report
report

# %% [markdown]
# Now the colleague's version: it passes without duplicates and fails with them. A gradient check is only as good as its points.

# %%
def backward_that_forgets(grad_loss, H, bias_user, bias_item, bias_global):
    _, slope = bpr.bpr_loss(H, np.concatenate([bias_user, bias_item]), bias_global, batch)
    s, grad_H = (grad_loss * slope)[:, None], np.zeros_like(H)
    grad_H[batch.user] += s * (H[batch.negative] - H[batch.positive])
    grad_H[batch.positive] -= s * H[batch.user]
    grad_H[batch.negative] += s * H[batch.user]
    return {"H": grad_H}


verdicts = {}
for repeated in (False, True):
    point, batch = make_point(seed=1, n_users=4, n_items=8, size=9 if repeated else 4, repeated=repeated)
    verdicts[repeated] = check_gradients(loss_of, backward_that_forgets, point, wrt="H", dtypes=("float64",), name="forgetful").passed
assert verdicts == {False: True, True: False}
verdicts

# %% [markdown]
# Adam is not a derivative, so it is checked against another way of writing it: the sums with their weights, instead of the recurrence.

# %%
gradients = rng.standard_normal((7, 5))
parameters, moments = {"theta": np.zeros(5)}, fresh_moments({"theta": np.zeros(5)})
by_sums = np.zeros(5)
for k in range(1, 8):
    parameters, moments = adam_step(parameters, {"theta": gradients[k - 1]}, moments, learning_rate=0.01, clip=np.inf)
    w1, w2 = (beta ** np.arange(k - 1, -1, -1.0) for beta in (BETA1, BETA2))
    mean, square = w1 @ gradients[:k] / w1.sum(), w2 @ gradients[:k] ** 2 / w2.sum()
    by_sums = by_sums - 0.01 * mean / (np.sqrt(square) + EPSILON)
assert np.allclose(parameters["theta"], by_sums, rtol=1e-12, atol=1e-15)

# %% [markdown]
# ## Faster
#
# The compiled engine, `c2f_np.kernels`, gathers instead of scattering. First it must give the same numbers (only the order of the sums differs), then it may be fast. The ratio depends on your machine and on how many cores it has, so the text quotes none.

# %%
big = Triples.from_items(users[:8192], positives[:8192], negatives[:8192], n_users, n_items)
H_big, bias_big = rng.standard_normal((n_users + n_items, 64)), rng.standard_normal(n_users + n_items)


def step(engine):
    functions = engine_named(engine)
    loss, slope = functions.bpr_loss(H_big, bias_big, np.zeros(1), big)
    return loss, *functions.bpr_backward(H_big, big, slope)

# %%
seconds = {}
for engine in ("numpy", "numba"):
    found = step(engine)  # the first call compiles
    started = time.perf_counter()
    for _ in range(5):
        step(engine)
    seconds[engine] = time.perf_counter() - started
    reference = found if engine == "numpy" else reference
    assert all(np.allclose(a, c, rtol=1e-11, atol=1e-14) for a, c in zip(found, reference, strict=True))
print(f"numpy / numba: {seconds['numpy'] / seconds['numba']:.1f}")
assert seconds["numpy"] / seconds["numba"] > 0

# %% [markdown]
# The sampler, too, has two engines, and they give the *same triples*: each random number is a function of (seed, draw, position), so that it does not matter which thread makes which draw.

# %%
for a, c in zip(*(sampling.sample_triples(R, 5000, 5, 9, engine=engine_named(name)) for name in ("numpy", "numba")), strict=True):
    assert (a == c).all()

# %% [markdown]
# ## Exercises
#
# Write the function, run the check; it tells you what is wrong. `task.hint()` gives one more hint each time.

# %%
task_bpr = exercise("bpr_backward")
task_bpr

# %%
def bpr_backward(grad_loss, H, bias, user, positive, negative):
    raise NotImplementedError


task_bpr.check(bpr_backward);

# %%
print(task_bpr.hint())

# %% [markdown]
# <details><summary>An answer</summary>
#
# ```python
# def bpr_backward(grad_loss, H, bias, user, positive, negative):
#     x = np.sum(H[user] * (H[negative] - H[positive]), axis=1) + bias[negative] - bias[positive]
#     s = grad_loss * bpr.sigmoid(x) / len(user)
#     grad_H, grad_bias = np.zeros_like(H), np.zeros_like(bias)
#     np.add.at(grad_H, user, s[:, None] * (H[negative] - H[positive]))
#     np.add.at(grad_H, positive, -s[:, None] * H[user])
#     np.add.at(grad_H, negative, s[:, None] * H[user])
#     np.add.at(grad_bias, positive, -s)
#     np.add.at(grad_bias, negative, s)
#     return grad_H, grad_bias
# ```
#
# The cotangent `grad_loss` goes into the slope, once, and from there everywhere. The biases do not appear in the gradient with respect to $H$ except through the slope, but there they do.
#
# </details>

# %%
task_penalty = exercise("penalty_backward")
task_penalty

# %%
def penalty_backward(grad_penalty, Z, user, positive, negative, l2):
    raise NotImplementedError


task_penalty.check(penalty_backward);

# %%
print(task_penalty.hint())

# %% [markdown]
# <details><summary>An answer</summary>
#
# ```python
# def penalty_backward(grad_penalty, Z, user, positive, negative, l2):
#     count = np.bincount(np.concatenate([user, positive, negative]), minlength=len(Z))
#     return grad_penalty * 2 * l2 / len(user) * count[:, None] * Z
# ```
#
# </details>

# %%
task_adam = exercise("one_adam_step")
task_adam

# %%
def one_adam_step(x, g, m, v, step, rate, limit):
    raise NotImplementedError


task_adam.check(one_adam_step);

# %%
print(task_adam.hint())

# %% [markdown]
# <details><summary>An answer</summary>
#
# ```python
# def one_adam_step(x, g, m, v, step, rate, limit):
#     g = np.clip(g, -limit, limit)
#     m = 0.9 * m + 0.1 * g
#     v = 0.999 * v + 0.001 * g * g
#     mean, square = m / (1 - 0.9**step), v / (1 - 0.999**step)
#     return x - rate * mean / (np.sqrt(square) + 1e-8), m, v
# ```
#
# </details>
#
# **Two more, without a checker.** (a) Suppose the negative were drawn in proportion to its popularity instead of uniformly. Which term of the gradient of an item bias changes its expectation, and in which direction do popular items move? (b) Replace softplus by $\max(x,0)$. What becomes of the slope at $x=0$, where every triple is at the beginning if all embeddings start at zero?
#
# <details><summary>Answers</summary>
#
# (a) The term $+s$ of the negative role. A popular item then occurs as a negative as often as its popularity says, which works against the $-s$ that it receives as a positive: popular items sink, and the biases hold less of the popularity. (b) There is a kink: the derivative is 0 on the left and 1 on the right, and at 0 itself a convention decides. With the convention 0 nothing would ever move. softplus has the slope $\frac12$ there.
#
# </details>
#
# ## Read next
#
# `06_coarse_stage` puts this loss on top of a codebook and a graph and takes the whole of it backwards. In the package: `docs/model.md` (coarse stage, 4 to 6), `docs/checking_gradients.md` for what a check can and cannot see. Rendle, Freudenthaler, Gantner and Schmidt-Thieme, *BPR: Bayesian personalized ranking from implicit feedback*, UAI 2009; Kingma and Ba, *Adam: a method for stochastic optimization*, ICLR 2015.
