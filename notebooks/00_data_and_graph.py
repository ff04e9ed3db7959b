# %% [markdown]
# # 00 · The data and the graph
#
# ## What you will do
#
# You take a table of who came to which event, draw it as a graph, write the graph as a matrix, scale that matrix so that repeated multiplication by it neither explodes nor dies out, and let the bare matrix recommend something, before any model has been trained. Then you learn how a recommendation is judged: what to hold out, what leaks, and how two numbers, Recall@k and NDCG@k, are computed by hand.
#
# **You will learn** the matrices $R$, $B$ and $A$ on which every later notebook stands; why their entries are what they are; and how an evaluation can be wrong although every line of it runs.
#
# **You need** NumPy, matrix products and what an eigenvalue is. No recommender systems. About 30 minutes.

# %%
import inspect
import time

import numpy as np
import scipy.sparse as sparse

import c2f_np
from c2f_np import evaluation
from c2f_np.baselines import Popularity
from c2f_np.course import exercise
from c2f_np.data import Interactions, cached, load_dataset, southern_women_split, split_random, split_temporal
from c2f_np.model import graph
from c2f_np.plotting.graphs import bipartite_graph_picture, block_matrix_picture, degree_tail_picture

# %% [markdown]
# ## The idea
#
# A recommender is given a list of pairs: this user has had to do with that item. Nothing is known about either of them, no age, no genre, no text; each is a bare number. From the pairs alone it is to say which further items a user would like. It can work because tastes overlap: whoever shares three items with you may know a fourth.
#
# Our first data are older than the computer. In the 1930s, in Natchez, Mississippi, a team of anthropologists went through the local newspapers and wrote down which of **18 women** had been at which of **14 social events**. The "users" are the women, the "items" are the events, and the table is small enough to be drawn. Some attendances are held out; they play the part of the future and are drawn dashed.

# %%
women = southern_women_split()
print(women.train.shape, "women x events;", women.train.nnz, "attendances known,", women.test.nnz, "held out")
assert women.train.shape == (18, 14) and women.train.nnz == 64 and women.test.nnz == 25
bipartite_graph_picture(women.train, women.user_ids, women.item_ids, held_out=women.test)

# %% [markdown]
# A graph whose nodes fall into two groups, with edges only *between* the groups, is called **bipartite**. Nobody is linked to a woman except through an event. Look at one of them.

# %%
laura = women.user_ids.tolist().index("Laura Mandeville")
print("known:   ", ", ".join(women.item_ids[women.train[[laura]].indices]))
print("held out:", ", ".join(women.item_ids[women.test[[laura]].indices]))
assert women.item_ids[women.test[[laura]].indices].tolist() == ["E2", "E3"]
bipartite_graph_picture(women.train, women.user_ids, women.item_ids, highlight_user=laura)

# %% [markdown]
# What would you recommend to Laura? You would follow her five lines to the right, from there all lines back to the left, which finds the women who go where she goes, and then their lines to the right again. Where many of these walks end, there she may like to be. Three steps along the graph: this is all the "idea" there is, and the rest of the course is about doing it well. A step along a graph is a product with a matrix, so we need that matrix.
#
# ## The mathematics
#
# ### The adjacency matrix, on three people and two drinks
#
# Let $U$ be the number of users, $I$ the number of items and $N=U+I$ the number of both together; a user or an item is called an **entity**. The known pairs are the **interaction matrix** $R$, of shape $U\times I$: $R_{ui}=1$ if user $u$ has interacted with item $i$, and $0$ if not. Draw this one on paper: Ann drinks tea, Bob drinks tea and rum, Cy drinks rum.

# %%
R = np.array([[1.0, 0.0],
              [1.0, 1.0],
              [0.0, 1.0]])
names = ["Ann", "Bob", "Cy"], ["tea", "rum"]
bipartite_graph_picture(R, *names)

# %% [markdown]
# Now number all five nodes in one row, **users first, then items**: Ann 0, Bob 1, Cy 2, tea 3, rum 4. Item $i$ is entity $U+i$; this convention holds in the whole package. The **adjacency matrix** $B$, of shape $N\times N$, has a 1 wherever two nodes are linked. Users are not linked to users nor items to items, and a link has no direction, so
#
# $$B=\begin{pmatrix}0&R\\R^\top&0\end{pmatrix}.$$

# %%
B = graph.bipartite_adjacency(R)
by_hand = np.array([[0, 0, 0, 1, 0],
                    [0, 0, 0, 1, 1],
                    [0, 0, 0, 0, 1],
                    [1, 1, 0, 0, 0],
                    [0, 1, 1, 0, 0]])
assert np.array_equal(B.toarray(), by_hand), "the package and the drawing disagree"
block_matrix_picture(B, (3, 2), ("users", "items"), title="B")

# %% [markdown]
# Multiply $B$ with a vector $x$ that has one number per node: $(Bx)_v=\sum_w B_{vw}x_w$ adds up the numbers of the neighbours of $v$. One product is one step along the graph.
#
# ### Why $B$ itself will not do
#
# Take many steps and the numbers explode, fastest at the nodes with the most links. The number of links of node $v$ is its **degree** $d_v=\sum_w B_{vw}$, the sum of its row. Put the degrees on the diagonal of a matrix, $D=\mathrm{diag}(d_1,\dots,d_N)$. Three cures suggest themselves.
#
# - **Average instead of adding**, $D^{-1}B$: every row sums to 1. Nothing explodes, but the matrix is no longer symmetric: Ann, who drinks nothing but tea, listens to tea with weight $1$, while tea listens to her with weight $\tfrac12$.
# - **Distribute instead of copying**, $BD^{-1}$: every column sums to 1. The same, seen from the other side.
# - **Do half of each**, from both sides:
#
# $$A=D^{-1/2}\,B\,D^{-1/2},\qquad A_{vw}=\frac{B_{vw}}{\sqrt{d_v}\,\sqrt{d_w}}.$$
#
# The second form follows because multiplying with a diagonal matrix from the left scales the rows, and from the right scales the columns. This is the **symmetric normalisation**, and $A$ is the graph that LightGCN and its descendants, ours among them, propagate on. A node without links has $d_v=0$; its row is empty anyway, and we leave it so instead of dividing by zero.
#
# By hand: the degrees are Ann 1, Bob 2, Cy 1, tea 2, rum 2. So the edge Ann–tea gets $1/\sqrt{1\cdot2}\approx0.7071$, the edge Bob–tea $1/\sqrt{2\cdot2}=0.5$. Bob has two drinks, and each of them means half as much.

# %%
degrees = B.toarray().sum(axis=1)
assert degrees.tolist() == [1, 2, 1, 2, 2]
A = graph.normalised_adjacency(R)
assert np.isclose(A[0, 3], 1 / np.sqrt(2)) and round(A[0, 3], 4) == 0.7071 and np.isclose(A[1, 3], 0.5)
D = np.diag(degrees)
assert np.allclose(A.toarray(), np.diag(degrees**-0.5) @ B.toarray() @ np.diag(degrees**-0.5))
block_matrix_picture(A, (3, 2), ("users", "items"), title="A")

# %% [markdown]
# ### Why it does not explode
#
# Two short proofs, each of which we then check. First, $A$ has the eigenvalue 1. Let $s$ be the vector with $s_v=\sqrt{d_v}$. Then
#
# $$A s=D^{-1/2}B\,D^{-1/2}s=D^{-1/2}B\,\mathbf 1=D^{-1/2}d=s,$$
#
# because $D^{-1/2}s$ is 1 at every node, $B\mathbf 1$ is the vector $d$ of row sums, and $d_v/\sqrt{d_v}=\sqrt{d_v}$. (Nodes without links stand aside: all their entries are 0.)
#
# Second, no eigenvalue is larger than 1 in absolute value. For any two numbers $2|ab|\le a^2+b^2$, since $(|a|-|b|)^2\ge0$. Take any vector $x$ and write $y=D^{-1/2}x$. Then
#
# $$|x^\top A x|=\Big|\sum_{v,w}B_{vw}\,y_v y_w\Big|\le\sum_{v,w}B_{vw}\,\frac{y_v^2+y_w^2}{2}=\sum_v d_v\,y_v^2=\sum_v x_v^2 .$$
#
# In the last but one step each of the two halves of the sum gives $\frac12\sum_v d_v y_v^2$, one by summing over $w$ first and one by summing over $v$ first, because $B$ is symmetric. For a unit eigenvector the left side is $|\lambda|$ and the right side is 1. So however often we multiply with $A$, no vector grows.

# %%
A_women = graph.normalised_adjacency(women.train)
eigenvalues = np.linalg.eigvalsh(A_women.toarray())
s = np.sqrt(np.asarray(graph.bipartite_adjacency(women.train).sum(axis=1)).ravel())
assert np.allclose(A_women @ s, s), "the roots of the degrees are an eigenvector"
assert np.isclose(eigenvalues.max(), 1) and np.isclose(eigenvalues.min(), -1)
growth = np.linalg.eigvalsh(graph.bipartite_adjacency(women.train).toarray()).max()
print(f"largest eigenvalue: {eigenvalues.max():.3f} with the normalisation, {growth:.3f} without")
assert growth > 5

# %% [markdown]
# The smallest eigenvalue is $-1$, exactly. That is no accident: flip the sign of all items in the eigenvector $s$, and since every edge joins a user with an item, $A$ turns the result into its negative. A bipartite graph always has the two together.
#
# ### How a recommendation is judged
#
# The model gives every item a **score** for a user. Items that the user is known to have are taken out (**masked**); the others are put in order of their scores. This is a **full ranking**: every remaining item of the catalogue competes. (One finds evaluations where a hit competes with a hundred random items only. The numbers are nicer and can order two models the wrong way round.) Let $\mathrm{rel}(u)$ be the user's held-out items and let $\mathrm{hit}(j)$ be 1 if the item at place $j$ of the list is among them, else 0; places are counted from 1. With lists of length $k$,
#
# $$\mathrm{Recall@}k=\frac{\sum_{j=1}^{k}\mathrm{hit}(j)}{|\mathrm{rel}(u)|},\qquad \mathrm{NDCG@}k=\frac{\sum_{j=1}^{k}\mathrm{hit}(j)/\log_2(j+1)}{\sum_{j=1}^{\min(k,|\mathrm{rel}(u)|)}1/\log_2(j+1)} .$$
#
# Recall asks how many of the held-out items are on the list, NDCG (normalised discounted cumulative gain) also how far up: a hit at place 1 counts $1/\log_2 2=1$, at place 2 it counts $1/\log_2 3\approx0.6309$, at place 3 it counts $0.5$, at place 5 it counts $1/\log_2 6\approx0.3869$. The denominator is the same sum for the best list there could be, with all its hits on top, of which there are no more than $k$ and no more than there are relevant items. So the best possible NDCG is exactly 1.
#
# ## Forward
#
# The two functions that we have used are a few lines each. This is their source as the package runs it, not a copy.

# %%
print(inspect.getsource(graph.bipartite_adjacency))
print(inspect.getsource(graph.normalise))

# %% [markdown]
# (Ignore the remarks about negative weights; plain interactions have none. They matter once assignments are learnt.)
#
# **The graph recommends by itself.** Three steps from a user end at items: the block of $A^3$ with user rows and item columns. With $\tilde R$ the upper right block of $A$ (users by items) that block is $\tilde R\tilde R^\top\tilde R$: from the user to items, back to users, on to items. For Ann there is a single walk to rum, Ann–tea–Bob–rum, with the weight $\tfrac1{\sqrt2}\cdot\tfrac12\cdot\tfrac12\approx0.1768$.

# %%
def three_steps(train):
    """Scores of all items for all users: the weights of the walks user, item, user, item."""
    n_users = train.shape[0]
    R_tilde = graph.normalised_adjacency(train)[:n_users, n_users:]
    return (R_tilde @ (R_tilde.T @ R_tilde)).toarray()

ann_rum = three_steps(R)[0, 1]
assert np.isclose(ann_rum, 0.5 * 0.5 / np.sqrt(2)) and round(ann_rum, 4) == 0.1768
assert np.allclose(three_steps(R), (A @ A @ A).toarray()[:3, 3:]), "it is a block of the cube"

# %% [markdown]
# And for Laura, with the events she is known to have attended masked:

# %%
scores = three_steps(women.train)
ranking = evaluation.rank_items(scores, women.train, 5, engine="numpy")
for place, item in enumerate(ranking[laura], 1):
    print(place, women.item_ids[item], "  held out: a hit" if women.test[laura, item] else "")
assert women.item_ids[ranking[laura]].tolist() == ["E4", "E3", "E9", "E10", "E2"]

# %% [markdown]
# Now the two metrics by hand. Her held-out events are E2 and E3; E3 stands at place 2, E2 at place 5.
#
# - Recall@5 $=2/2=1$: both are on the list.
# - NDCG@5 $=\dfrac{1/\log_2 3+1/\log_2 6}{1/\log_2 2+1/\log_2 3}\approx\dfrac{0.6309+0.3869}{1+0.6309}\approx0.6241$: the best list would have them at places 1 and 2.

# %%
by_hand = (1 / np.log2(3) + 1 / np.log2(6)) / (1 / np.log2(2) + 1 / np.log2(3))
assert round(1 / np.log2(3), 4) == 0.6309 and round(1 / np.log2(6), 4) == 0.3869 and round(by_hand, 4) == 0.6241
each = evaluation.metrics_per_user(ranking, women.test, ks=(5,))
assert np.isclose(each["ndcg@5"][laura], by_hand) and each["recall@5"][laura] == 1
mean, n_users, n_without = evaluation.mean_metrics(each)
print({name: round(value, 4) for name, value in mean.items()}, "over", n_users, "women")

# %% [markdown]
# The number that is reported is the mean over all users who have something held out. Users without anything to be found are left out, not counted as 0.
#
# ### Real sizes and long tails
#
# The next cell takes **MovieLens 100K** if you have fetched it (`python -m c2f_np data fetch ml-100k`), and otherwise the *planted* data that come with the package: 1,000 made-up users and 800 items with a known structure. Everything below works on either.

# %%
name = "ml-100k" if cached("ml-100k") else "planted"
data = load_dataset(name)
print(data.describe())

# %%
degree_of_items = np.bincount(data.train.indices, minlength=data.n_items)
top_tenth = np.sort(degree_of_items)[::-1][: data.n_items // 10].sum() / degree_of_items.sum()
print(f"the most popular tenth of the items has {top_tenth:.0%} of the interactions")
assert top_tenth > 0.25
degree_tail_picture({name: degree_of_items}, title=f"Items of {name}")

# %% [markdown]
# A few items have very many interactions, and most have few; that is called a **long tail**, and nearly all real data have one. (Left: degrees in descending order, both axes logarithmic. Right: the share of all interactions that the most popular items hold; if all items were equal it would be the dotted line.) Two things follow. Recommending the popular items to everybody is a baseline that a model must beat before anybody should listen to it. And without the normalisation, walks would mostly lead to the popular items, because most walks do: dividing by $\sqrt{d_v}$ on both sides is also a correction for fame.
#
# ### What is held out, and how
#
# A **split** divides the interactions into training and test. It is made *per user*, so that every user has something to learn from and something to be judged by. Two ways are common: at random, or by time, each user's last items. Here is a log of two users with the day of each interaction.

# %%
log = Interactions(
    user=np.array([0, 0, 0, 0, 1, 1, 1, 1]), item=np.array([0, 1, 2, 3, 0, 1, 2, 4]),
    timestamp=np.array([1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0]),
    user_ids=np.array(["early", "late"]), item_ids=np.array(list("abcde")),
)
by_time, at_random = split_temporal(log, n_last=1), split_random(log, test_fraction=0.25, seed=0)
print("by time:  ", [log.item_ids[by_time.test[[u]].indices].tolist() for u in (0, 1)], "held out")
print("at random:", [log.item_ids[at_random.test[[u]].indices].tolist() for u in (0, 1)], "held out")
assert [by_time.test[[u]].indices.tolist() for u in (0, 1)] == [[3], [4]]

# %% [markdown]
# A random split lets the model learn from Friday and then asks about Monday. A split by time per user is fairer, but not perfectly fair either: the user *early* is asked about day 4, while the training data hold what *late* did on days 6, 7 and 8. Only a single date for all users would be free of the future, and it leaves many users with nothing to be asked. There is no split without a fault; there are only splits whose fault is stated.

# %%
in_training = by_time.train[log.user, log.item] > 0
asked_about = log.timestamp[(log.user == 0) & ~in_training]
assert log.timestamp[in_training].max() == 8 and asked_about.tolist() == [4], "training knows days that come after the question"

# %% [markdown]
# A third part is usually cut off for **validation**: one trains on the first, decides on the second when to stop and which settings to take, and looks at the test part once.
#
# ### What leaks
#
# A **leak** is knowledge of the answer that reaches the model or its score by a side door. Nothing crashes, the numbers are just too good, or in one case too bad. Three are worth meeting here.
#
# 1. **Test interactions in the graph.** If $R$ is built from all pairs "because it is only the graph", the answer is an edge.
# 2. **Forgotten masks.** If the training items are not masked, the list is full of what the user has already.
# 3. **Validation items that compete.** At test time the user's validation items are known and were not held out to be found now. If they are not masked, a good model ranks them high, as it should, and is punished for it. Published code differs in this point. The package knows both **protocols**, calls them `authors` (only training items are masked) and `clean` (training and validation items are), and writes the name into every result.
#
# ## Predict
#
# The three-step graph recommender has no parameters, so it is the ideal guinea pig. Call its NDCG@20 under the clean protocol *the honest number*. **Before you go on, write down**, for each of these three changes, whether the number rises or falls, and whether by some per cent, by half, or by a multiple:
#
# - (a) the test interactions are put into the graph;
# - (b) nothing is masked;
# - (c) the training items are masked, the validation items are not.
#
# <details><summary>What happens</summary>
#
# (a) rises by far, by half or more: each test item is then one step away, and the walk that goes along that edge, back and along it again gives it a high weight. (b) falls by a multiple: the training items are the ones with the most walks, and they fill the list. (c) falls by some per cent: there are a few more competitors, and they deserve their high places. It is the smallest of the three, and therefore the dangerous one: nobody notices it.
#
# </details>
#
# ## Check

# %%
def ndcg(train_of_graph, masked):
    table = three_steps(train_of_graph)
    found = evaluation.evaluate_ranking(lambda users: table[users], data.test, masked, (20,), engine="numpy")
    return found.metrics["ndcg@20"]

known = data.masked_when_ranking("test")          # clean: training and validation items
honest = ndcg(data.train, known)
leaky_graph = ndcg(data.train + data.test, known)
nothing_masked = ndcg(data.train, None)
validation_competes = ndcg(data.train, data.train)
for what, value in (("honest", honest), ("(a) test edges in the graph", leaky_graph),
                    ("(b) nothing masked", nothing_masked), ("(c) validation items compete", validation_competes)):
    print(f"{what:<30} {value:.4f}")

# %%
assert leaky_graph > 1.4 * honest, "(a) rises a lot"
assert nothing_masked < 0.5 * honest, "(b) falls a lot"
assert 0.85 * honest < validation_competes < 0.99 * honest, "(c) falls a little"
assert known.nnz == data.train.nnz + data.validation.nnz

# %% [markdown]
# And the baseline: the same list of popular items for everybody, less what each user has. The three-step walks must beat it, or the graph says nothing about people.

# %%
popular = Popularity(engine="numpy").fit(data).evaluate(ks=(20,))
print(f"popularity {popular.metrics['ndcg@20']:.4f}, three steps {honest:.4f}, over {popular.n_users} users")
assert honest > popular.metrics["ndcg@20"]

# %% [markdown]
# Last, the definitions themselves. Ten random users, their metrics written in plain Python from the formulas above, against the package.

# %%
table = three_steps(data.train)
lists = evaluation.rank_items(table, known, 20, engine="numpy")
of_package = evaluation.metrics_per_user(lists, data.test, ks=(20,))
for u in np.random.default_rng(0).choice(np.flatnonzero(np.diff(data.test.indptr)), 10, replace=False):
    relevant = set(data.test[[u]].indices.tolist())
    hits = [item in relevant for item in lists[u].tolist()]
    gain = sum(hit / np.log2(j + 1) for j, hit in enumerate(hits, 1))
    best = sum(1 / np.log2(j + 1) for j in range(1, min(20, len(relevant)) + 1))
    assert np.isclose(of_package["ndcg@20"][u], gain / best) and np.isclose(of_package["recall@20"][u], sum(hits) / len(relevant))

# %% [markdown]
# ## Faster
#
# Ranking is the expensive part of an evaluation: all items, for all users. Sorting whole rows is wasteful when only 20 places are wanted. The compiled version goes once along each row and keeps the best $k$ so far, which is a comparison per item and rarely more. It must give the same lists, ties included.

# %%
def seconds(engine):
    started = time.perf_counter()
    evaluation.rank_items(table, known, 20, engine=engine, n_threads=1)
    return time.perf_counter() - started

compiled = evaluation.rank_items(table, known, 20, engine="numba", n_threads=1)   # the first call compiles
assert np.array_equal(compiled, lists), "the same lists"
ratio = min(seconds("numpy") for _ in range(3)) / min(seconds("numba") for _ in range(3))
print(f"one thread: {ratio:.1f} times as fast as NumPy on this machine")
assert ratio > 0

# %% [markdown]
# ## Exercises
#
# A word on how they work. Each exercise has an empty function; you write its body, run the cell, and run the check below it. The check says what is wrong, as far as it can tell, and does not care how you write it. `hint()` gives one more hint each time. The answer is folded away at the end.
#
# ### 1. The normalised adjacency

# %%
normalise_task = exercise("normalise_by_hand")
normalise_task

# %%
def normalise_by_hand(R):
    raise NotImplementedError

# %%
normalise_task.check(normalise_by_hand)

# %%
print(normalise_task.hint())

# %% [markdown]
# <details><summary>An answer</summary>
#
# ```python
# def normalise_by_hand(R):
#     n_users, n_items = R.shape
#     B = np.block([[np.zeros((n_users, n_users)), R], [R.T, np.zeros((n_items, n_items))]])
#     degree = B.sum(axis=1)
#     root = np.sqrt(np.where(degree > 0, degree, 1))   # an empty row is divided by 1 and stays empty
#     return B / root[:, None] / root
# ```
#
# </details>
#
# ### 2. A ranking with a mask

# %%
rank_task = exercise("rank_one_user")
rank_task

# %%
def rank_one_user(scores, masked, k):
    raise NotImplementedError

# %%
rank_task.check(rank_one_user)

# %%
print(rank_task.hint())

# %% [markdown]
# <details><summary>An answer</summary>
#
# ```python
# def rank_one_user(scores, masked, k):
#     lowered = np.where(masked, -np.inf, scores)       # a new array; a masked item loses against every score
#     return np.argsort(-lowered, kind="stable")[:k]    # stable: equal scores stay in the order of their indices
# ```
#
# </details>
#
# ### 3. NDCG of one user

# %%
ndcg_task = exercise("ndcg_one_user")
ndcg_task

# %%
def ndcg_one_user(ranked, relevant, k):
    raise NotImplementedError

# %%
ndcg_task.check(ndcg_one_user)

# %%
print(ndcg_task.hint())

# %% [markdown]
# <details><summary>An answer</summary>
#
# ```python
# def ndcg_one_user(ranked, relevant, k):
#     discount = 1 / np.log2(np.arange(2, k + 2))       # places 1, 2, ..., k
#     hit = np.isin(ranked[:k], relevant)
#     return np.sum(discount * hit) / np.sum(discount[: min(k, len(relevant))])
# ```
#
# </details>
#
# One more, without a checker. In the proof that no eigenvalue exceeds 1, where was it used that the entries of $B$ are not negative? What would you have to write in the place of $d_v$ if they were?
#
# <details><summary>An answer</summary>
#
# In the inequality: $|B_{vw}y_vy_w|=B_{vw}|y_vy_w|$ needs $B_{vw}\ge0$. With $d_v=\sum_w|B_{vw}|$, the sum of the absolute values, the proof goes through for weights of any sign. The argument `degree="absolute"` of `graph.normalise` does exactly that; it will be needed when assignments are updated in closed form and weights turn negative.
#
# </details>
#
# ## Read next
#
# - `01_checking_a_gradient`: everything after this notebook has a derivative, written by hand. How does one know that it is right?
# - [docs/data.md](../docs/data.md): file formats and splits; [docs/evaluation.md](../docs/evaluation.md): the metrics and protocols in full, and what ties do.
# - Davis, Gardner and Gardner, *Deep South* (1941), for the women; He et al., *LightGCN* (SIGIR 2020), for the graph.
