# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 00 · The data and the graph
#
# *Reading: 20 minutes. Exercises: 7.*
#
# ## What you will do
#
# In this course you write a graph recommender: its graph, every forward and every backward pass, the optimiser, and the evaluation. Whatever you write is kept in one file of your own, `my_model.py` in this folder; it grows from notebook to notebook, and in the end it trains.
#
# At the end of this first notebook you will have written the graph as a matrix, a recommender that has no parameters at all (three steps along the graph), and the judge: rankings, Recall and NDCG. You will have the two numbers that your trained model has to beat.
#
# You need NumPy, matrix products and what an eigenvalue is; nothing about recommenders. All letters are on the [page of symbols](symbols.md).

# %%
import time

import numpy as np
import scipy.sparse as sparse

from c2f_np.course import exercise, my_model
from c2f_np.data import Interactions, cached, load_dataset, southern_women_split, split_random, split_temporal
from c2f_np.plotting import computation
from c2f_np.plotting.graphs import bipartite_graph_picture, block_matrix_picture, degree_tail_picture

my = my_model(or_answers=True)

# %% [markdown]
# That last line stands in every notebook. `my.name` is the function `name` of your file. Where you have not written one yet, the course's answer stands in and says so, so that every notebook runs to its end.
#
# ## The idea
#
# A recommender is given pairs: this user has had to do with that item. Nothing is known about either, no age, no genre, no text. From the pairs alone it is to say which further items a user would like. It can work because tastes overlap: whoever shares three items with you may know a fourth.
#
# Our first data are older than the computer. In the 1930s, in Natchez, Mississippi, anthropologists wrote down which of **18 women** had been at which of **14 social events**. The women are the users, the events are the items. Some attendances are *held out*: they play the part of the future and are drawn dashed.

# %%
women = southern_women_split()
print(women.train.shape, "women x events;", women.train.nnz, "attendances known,", women.test.nnz, "held out")
assert women.train.shape == (18, 14) and women.train.nnz == 64 and women.test.nnz == 25
bipartite_graph_picture(women.train, women.user_ids, women.item_ids, held_out=women.test, title="Southern women: who came to which event")

# %% [markdown]
# A graph whose nodes fall into two groups, with edges only *between* the groups, is called **bipartite**. Look at one of the women.

# %%
laura = women.user_ids.tolist().index("Laura Mandeville")
print("known:   ", ", ".join(women.item_ids[women.train[[laura]].indices]))
print("held out:", ", ".join(women.item_ids[women.test[[laura]].indices]))
assert women.item_ids[women.test[[laura]].indices].tolist() == ["E2", "E3"]
bipartite_graph_picture(
    women.train, women.user_ids, women.item_ids, highlight_user=laura, title="Laura's known attendances, in black"
)

# %% [markdown]
# What would you recommend to Laura? Follow her five lines to the right, from there all lines back to the left, which finds the women who go where she goes, and then their lines to the right again. Where many of these walks end, there she may like to be. A step along a graph is a product with a matrix, so we need that matrix. In the whole computation of the model this notebook is the beginning and the end. The pale boxes are those of later notebooks, which explain their names:

# %%
computation("R", "A", "scores", "list", model="joint")

# %% [markdown]
# ## Write: the graph as a matrix
#
# ### Forward
#
# $U$ users and $I$ items make $N=U+I$ **entities**, users first: item $i$ is entity $U+i$. The interactions are the matrix $R$ of shape $U\times I$, with $R_{ui}=1$ if user $u$ has had to do with item $i$. An edge has no direction, and users are not linked to users, so the graph is
#
# $$A_0=\begin{pmatrix}0&R\\R^\top&0\end{pmatrix}.$$
#
# Most of it is 0, so it is stored as a sparse matrix. Two functions for your file:

# %%
def adjacency(R):
    return sparse.block_array([[None, R], [R.T, None]], format="csr")


def dense(matrix):
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


my.keep(adjacency)
my.keep(dense)

# %% [markdown]
# Multiply $A_0$ with a vector that has one number per node, and every node gets the sum of its neighbours' numbers. Do it often and the numbers explode. The number of links of a node is its **degree**; the degrees stand on the diagonal of $D$. The cure that this model and its relatives use divides every edge by the roots of *both* its nodes' degrees:
#
# $$A=D^{-1/2}\,A_0\,D^{-1/2},\qquad A_{vw}=\frac{(A_0)_{vw}}{\sqrt{D_{vv}}\,\sqrt{D_{ww}}}.$$
#
# A node without links has the degree 0. Its row is empty, and stays so.
#
# ### By hand
#
# Ann drinks tea, Bob drinks tea and rum, Cy drinks rum. The degrees are Ann 1, Bob 2, Cy 1, tea 2, rum 2. So the edge Ann–tea gets $1/\sqrt{1\cdot2}\approx0.7071$, and the edge Bob–tea $1/\sqrt{2\cdot2}=0.5$: Bob has two drinks, and each of them means less. Fill in the other two edges on paper.

# %%
R = sparse.csr_array(np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
bipartite_graph_picture(R, ["Ann", "Bob", "Cy"], ["tea", "rum"], title="Who drinks what")

# %% [markdown]
# ### Your turn
#
# An exercise is three cells: the task, an empty function with its check, and hints that come one by one. The check says what is wrong, as far as it can tell, and does not care how you write it. If it is right, `.keep()` puts it into your file.

# %%
task_1 = exercise("normalised_adjacency")
task_1

# %%
def normalised_adjacency(R):
    raise NotImplementedError


task_1.check(normalised_adjacency).keep();

# %%
# print(task_1.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def normalised_adjacency(R):
#     A_0 = my.adjacency(R)
#     degree = A_0.sum(axis=1)
#     half = sparse.diags_array(1 / np.sqrt(np.where(degree > 0, degree, 1)))  # an empty row stays empty
#     return sparse.csr_array(half @ A_0 @ half)
# ```
#
# </details>

# %%
A = my.dense(my.normalised_adjacency(R))
assert round(A[0, 3], 4) == 0.7071 and np.isclose(A[1, 3], 0.5) and np.array_equal(A, A.T)
block_matrix_picture(A, (3, 2), ("users", "items"), title="A of the five nodes (white: 0)")

# %% [markdown]
# ### The derivation
#
# <details><summary>Why both roots, and why nothing explodes</summary>
#
# **Average instead of adding**, $D^{-1}A_0$: every row sums to 1, but the matrix is no longer symmetric. Ann listens to tea with weight $1$, tea to Ann with weight $\tfrac12$. **Distribute instead of copying**, $A_0D^{-1}$, is the same from the other side. $D^{-1/2}A_0D^{-1/2}$ does half of each and stays symmetric.
#
# **1 is an eigenvalue.** Let $s$ have the entries $s_v=\sqrt{D_{vv}}$. Then $D^{-1/2}s$ is 1 at every node, $A_0\mathbf 1$ is the vector of degrees, and $D_{vv}/\sqrt{D_{vv}}=\sqrt{D_{vv}}$: so $As=s$. (Nodes without links stand aside: all their entries are 0.)
#
# **No eigenvalue $\mu$ has $|\mu|>1$.** $A$ is symmetric, so its eigenvalues are real, with real eigenvectors. Take any vector $x$ and $y=D^{-1/2}x$. Since $2|ab|\le a^2+b^2$ and no entry of $A_0$ is negative,
#
# $$|x^\top A x|=\Big|\sum_{v,w}(A_0)_{vw}\,y_v y_w\Big|\le\sum_{v,w}(A_0)_{vw}\,\frac{y_v^2+y_w^2}{2}=\sum_v D_{vv}\,y_v^2\le\sum_v x_v^2 .$$
#
# In the last but one step each half of the sum gives $\frac12\sum_v D_{vv}y_v^2$, because $A_0$ is symmetric. For a unit eigenvector the left side is $|\mu|$ and the right side is 1. And because a symmetric matrix is diagonal in an orthonormal basis of eigenvectors, no vector grows, however often it is multiplied with $A$.
#
# **$-1$ is one, too**, in a bipartite graph: turn the sign of all items in an eigenvector to $\mu$. Every edge joins a user with an item, so $A$ turns the result into $-\mu$ times itself.
#
# </details>

# %%
eigenvalues = np.linalg.eigvalsh(my.dense(my.normalised_adjacency(women.train)))
without = np.linalg.eigvalsh(my.dense(my.adjacency(women.train))).max()
print(f"the women's graph: eigenvalues from {eigenvalues.min():.3f} to {eigenvalues.max():.3f}; without the roots up to {without:.3f}")
assert np.isclose(eigenvalues.max(), 1) and np.isclose(eigenvalues.min(), -1) and without > 5

# %% [markdown]
# ## Write: three steps along the graph
#
# ### Forward
#
# Three steps from a user end at items: the block of $A\,A\,A$ with rows of users and columns of items. The weight of a walk is the product of its edges, and the product of matrices adds up all walks. That number is the **score** of the item for the user.
#
# ### By hand
#
# For Ann there is a single walk to rum: Ann–tea–Bob–rum, with the weight $\tfrac1{\sqrt2}\cdot\tfrac12\cdot\tfrac12\approx0.1768$.
#
# ### Your turn

# %%
task_2 = exercise("three_step_walks")
task_2

# %%
def three_step_walks(R):
    raise NotImplementedError


task_2.check(three_step_walks).keep();

# %%
# print(task_2.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def three_step_walks(R):
#     n_users = R.shape[0]
#     R_tilde = my.normalised_adjacency(R)[:n_users, n_users:]
#     return R_tilde @ R_tilde.T @ R_tilde
# ```
#
# </details>

# %%
assert round(my.dense(my.three_step_walks(R))[0, 1], 4) == 0.1768

# %% [markdown]
# A user does not want a recommendation of what they have: known items are left out, the others are put in order of their scores.

# %%
task_3 = exercise("top_items")
task_3

# %%
def top_items(scores, known, n):
    raise NotImplementedError


task_3.check(top_items).keep();

# %%
# print(task_3.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def top_items(scores, known, n):
#     lowered = np.where(known, -np.inf, scores)  # a new array; a known item loses against every score
#     return np.argsort(-lowered, kind="stable")[:n]  # stable: equal scores stay in the order of their numbers
# ```
#
# </details>
#
# The graph recommends to Laura, before anything has been trained:

# %%
scores = my.dense(my.three_step_walks(women.train))
lauras = my.top_items(scores[laura], women.train[[laura]].toarray()[0] > 0, 5)
for place, item in enumerate(lauras, 1):
    print(place, women.item_ids[item], "  held out: a hit" if women.test[laura, item] else "")
assert women.item_ids[lauras].tolist() == ["E4", "E3", "E9", "E10", "E2"]

# %% [markdown]
# ## Write: the judge
#
# ### Forward
#
# Two numbers judge a list of length $n$. **Recall** is the share of the held-out items that are on it. **NDCG** (normalised discounted cumulative gain) also asks how far up. Let $\mathrm{hit}(j)$ be 1 if the item at place $j$, counted from 1, is one of the user's $r$ held-out items:
#
# $$\mathrm{Recall@}n=\frac{\sum_{j=1}^{n}\mathrm{hit}(j)}{r},\qquad \mathrm{NDCG@}n=\frac{\sum_{j=1}^{n}\mathrm{hit}(j)/\log_2(j+1)}{\sum_{j=1}^{\min(n,r)}1/\log_2(j+1)} .$$
#
# A hit at place 1 counts $1$, at place 2 $1/\log_2 3\approx0.6309$, at place 3 $0.5$. The denominator is the same sum for the best list there could be, which has no more hits than places and no more than held-out items; so the best NDCG is exactly 1.
#
# ### By hand
#
# Laura's held-out events are E2 and E3; E3 stands at place 2 of her list, E2 at place 5. What are her Recall@5 and her NDCG@5? ($1/\log_2 6\approx0.3869$.)
#
# ### Your turn

# %%
task_4 = exercise("recall")
task_4

# %%
def recall(recommended, held_out):
    raise NotImplementedError


task_4.check(recall).keep();

# %%
# print(task_4.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def recall(recommended, held_out):
#     return np.sum(np.isin(recommended, held_out)) / len(held_out)
# ```
#
# </details>

# %%
task_5 = exercise("ndcg")
task_5

# %%
def ndcg(recommended, held_out, n):
    raise NotImplementedError


task_5.check(ndcg).keep();

# %%
# print(task_5.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def ndcg(recommended, held_out, n):
#     discount = 1 / np.log2(np.arange(2, n + 2))  # places 1, 2, ..., n
#     hit = np.isin(recommended[:n], held_out)
#     return np.sum(discount * hit) / np.sum(discount[: min(n, len(held_out))])
# ```
#
# </details>
#
# <details><summary>Laura's numbers</summary>
#
# Recall@5 $=2/2=1$: both are on the list. NDCG@5 $=\dfrac{0.6309+0.3869}{1+0.6309}\approx0.6241$: the best list would have them at places 1 and 2.
#
# </details>

# %%
held_out = women.test[[laura]].indices
assert my.recall(lauras, held_out) == 1 and round(my.ndcg(lauras, held_out, 5), 4) == 0.6241

# %% [markdown]
# The number that is reported is the mean over all users who have something held out. And a number needs another beside it: a recommender that offers everybody the most popular items knows nothing about anybody, and whoever does not beat it has nothing to say.

# %%
task_6 = exercise("evaluate")
task_6

# %%
def evaluate(scores, R, test, n):
    raise NotImplementedError


task_6.check(evaluate).keep();

# %%
# print(task_6.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def evaluate(scores, R, test, n):
#     values = []
#     for u in range(R.shape[0]):
#         held_out = test[[u]].indices
#         if len(held_out) > 0:
#             known = R[[u]].toarray()[0] > 0
#             values.append(my.ndcg(my.top_items(scores[u], known, n), held_out, n))
#     return np.mean(values)
# ```
#
# </details>

# %%
task_7 = exercise("popularity")
task_7

# %%
def popularity(R):
    raise NotImplementedError


task_7.check(popularity).keep();

# %%
# print(task_7.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def popularity(R):
#     return np.tile(R.sum(axis=0), (R.shape[0], 1))
# ```
#
# </details>
#
# ## Predict
#
# A **leak** is knowledge of the answer that reaches a model or its score by a side door. Nothing crashes; the numbers are just too good, or in one case too bad. The *planted* data come with the package: 1,000 made-up users and 800 items, with 8 groups in them, divided into training, validation and test. Honest is: the graph holds the training interactions, and a user's training *and* validation items are left out of the lists. **Write down**, for each change, whether the NDCG@20 of the three steps rises or falls, and whether by some per cent or by a multiple:
#
# - (a) the test interactions are in the graph as well ("it is only the graph");
# - (b) nothing is left out of the lists;
# - (c) the training items are left out, the validation items are not.

# %%
planted = load_dataset("planted")
assert planted.train.shape == (1000, 800)
known = planted.train + planted.validation
walks = my.dense(my.three_step_walks(planted.train))
leaky = my.dense(my.three_step_walks(planted.train + planted.test))
honest = my.evaluate(walks, known, planted.test, 20)
changed = {
    "(a) test edges in the graph": my.evaluate(leaky, known, planted.test, 20),
    "(b) nothing left out": my.evaluate(walks, 0 * known, planted.test, 20),
    "(c) validation items compete": my.evaluate(walks, planted.train, planted.test, 20),
}
print(f"{'honest':<30} {honest:.3f}")
for what, value in changed.items():
    print(f"{what:<30} {value:.3f}")
assert np.allclose([honest, *changed.values()], [0.291, 0.862, 0.065, 0.280], rtol=0, atol=0.001)
has = planted.train.toarray() > 0
assert walks[has].mean() > 3 * walks[~has].mean(), "most walks end at what a user has"

# %% [markdown]
# <details><summary>Why</summary>
#
# (a) rises by a multiple, to almost three times: each test item is then one step away, and the walk that goes along that edge, back and along it again gives it a high weight. (b) falls by a multiple: the items that a user has are the ones with the most walks, and they fill the list. (c) falls by 4 per cent: there are a few more competitors, which the user has, so that they cannot be hits. It is the smallest of the three, and therefore the dangerous one: nobody notices it. Published code differs in this point. The package names its two **protocols**: `authors` leaves only training items out, `clean` training and validation items.
#
# </details>
#
# ## Check
#
# Your two baselines, by your own judge. **These are the numbers to beat.** The second data set is MovieLens 100K, if you have fetched it (`python -m c2f_np data fetch ml-100k`).

# %%
to_beat = {}
for name in ["planted", "ml-100k"] if cached("ml-100k") else ["planted"]:
    data = load_dataset(name)
    known = data.train + data.validation
    print(f"{name}, NDCG@20 on the test items")
    for kind, table in {"popularity": my.popularity(data.train), "three steps": my.three_step_walks(data.train)}.items():
        to_beat[name, kind] = my.evaluate(my.dense(table), known, data.test, 20)
        print(f"    {kind:<12} {to_beat[name, kind]:.4f}")
assert abs(to_beat["planted", "popularity"] - 0.0926) < 0.0005 and abs(to_beat["planted", "three steps"] - 0.2910) < 0.0005

# %% [markdown]
# ## Try it
#
# ### Fame
#
# A few items have very many interactions, and most have few: a **long tail**, as nearly all real data have one.

# %%
degrees = np.asarray(planted.train.sum(axis=0)).ravel()
tenth = np.sort(degrees)[::-1][:80].sum() / degrees.sum()
print(f"the most popular tenth of the items has {tenth:.0%} of the interactions")
assert round(tenth, 2) == 0.3
degree_tail_picture({"planted": degrees}, title="Items of the planted data")

# %% [markdown]
# Many walks end at popular items, because many edges do. Is it the roots of the degrees that keep the three steps from being popularity in disguise? Take them away:

# %%
bare = my.dense(planted.train @ planted.train.T @ planted.train)
known = planted.train + planted.validation
found = my.evaluate(bare, known, planted.test, 20)
print(f"three steps along A_0: {found:.4f}")
assert found < to_beat["planted", "popularity"]

# %% [markdown]
# Worse than popularity. Find the exponent that is best instead of $-\frac12$ (is it $-\frac12$?), try five steps instead of three, or add popularity to the score; look at the *validation* items when you choose, and at the test items once.
#
# ### What is held out, and how
#
# A split is made *per user*, so that everybody has something to learn from and something to be judged by. Two ways are common: at random, or by time, each user's last items. A log of two users, with the day of each interaction:

# %%
log = Interactions(
    user=np.array([0, 0, 0, 0, 1, 1, 1, 1]), item=np.array([0, 1, 2, 3, 0, 1, 2, 4]),
    timestamp=np.array([1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0]),
    user_ids=np.array(["early", "late"]), item_ids=np.array(list("abcde")),
)
splits = {"by time": split_temporal(log, n_last=1), "at random": split_random(log, test_fraction=0.25, seed=0)}
for name, split in splits.items():
    in_training = split.train[log.user, log.item] > 0
    for u, user in enumerate(log.user_ids):
        asked = log.timestamp[(log.user == u) & ~in_training]
        print(f"{name:<10} {user:<6} is asked about day {asked[0]:.0f}; training knows day {log.timestamp[in_training].max():.0f}")
        assert name != "by time" or asked[0] == {"early": 4, "late": 9}[user]
assert log.timestamp[splits["by time"].train[log.user, log.item] > 0].max() == 8

# %% [markdown]
# A random split lets the model learn from Friday and then asks about Monday. The split by time is fairer, but for the user *early* not perfectly fair either: the training data hold what *late* did four days later. Only a single date for all users would be free of the future, and it leaves many users with nothing to be asked. There is no split without a fault; there are only splits whose fault is stated.
#
# ## Faster
#
# The package's versions of all this. They must agree with yours to rounding. Ranking is the expensive part: sorting whole rows is wasteful when only 20 places are wanted, and the compiled version goes once along each row and keeps the best so far.

# %%
from c2f_np import evaluation
from c2f_np.model import graph

A_package = graph.normalised_adjacency(planted.train)
assert np.allclose(my.dense(my.normalised_adjacency(planted.train)), A_package.toarray())
seconds = {}
for engine in ("yours", "numpy", "numba"):
    def judge():
        if engine == "yours":
            return my.evaluate(walks, known, planted.test, 20)
        found = evaluation.evaluate_ranking(lambda users: walks[users], planted.test, known, (20,), engine=engine)
        return found.metrics["ndcg@20"]

    if engine == "numba":
        judge()  # the first call compiles
    begin = time.perf_counter()
    assert np.isclose(judge(), honest), engine
    seconds[engine] = time.perf_counter() - begin
print({name: f"{1000 * value:.0f} ms" for name, value in seconds.items()})

# %% [markdown]
# ## Exercises
#
# In the proof that no eigenvalue exceeds 1, where was it used that no entry of $A_0$ is negative? What would you have to write in the place of the degrees if some were?
#
# <details><summary>Answer</summary>
#
# In the inequality: $|(A_0)_{vw}\,y_vy_w|=(A_0)_{vw}|y_vy_w|$ needs $(A_0)_{vw}\ge0$. With the sums of the absolute values as degrees the proof goes through for weights of any sign. The model needs that where an update in closed form makes weights negative (notebook 06).
#
# </details>
#
# ## Read next
#
# - [01](01_checking_a_gradient.ipynb): everything after this notebook has a derivative, written by hand. How does one know that it is right?
# - [docs/data.md](../docs/data.md): file formats and splits; [docs/evaluation.md](../docs/evaluation.md): metrics and protocols in full.
# - Davis, Gardner and Gardner, *Deep South* (1941), for the women; He et al., *LightGCN* (SIGIR 2020), for the graph.
