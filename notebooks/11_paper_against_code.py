# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 11 · Paper against code
#
# *Reading: 20 minutes. Exercises: 2.*
#
# ## What you will do
#
# A paper describes a model in words and formulas; its authors release a program; and it is the program that produced the table of results. The two are often not the same. Here the differences between *Coarse-to-Fine Lightweight Meta-Embedding* ([arXiv 2501.11870](https://arxiv.org/abs/2501.11870)) and its release are taken one by one: what is said, what is done and where, and one measured number for each. You will have written the gradient at the biases, and the quality of one model under two protocols.
#
# **You need** notebooks 03 (soft threshold), 05 (BPR), 07 (fine stage) and 09 (`paired_interval`). Symbols are on [one page](symbols.md).

# %%
import numpy as np
import scipy.sparse as sparse

from c2f_np import load_dataset
from c2f_np.baselines import make_baseline
from c2f_np.course import exercise, my_model
from c2f_np.course.experiments import study_rows
from c2f_np.evaluation import evaluate_ranking
from c2f_np.model.graph import normalise
from c2f_np.model.links import largest_softmax
from c2f_np.model.starts import partition_entities, start_fine_assignment, start_fine_codebook
from c2f_np.plotting import computation
from c2f_np.plotting.frontier import moved_by
from c2f_np.settings import Settings

my = my_model(or_answers=True)

# %% [markdown]
# ## The idea
#
# The left column is what the paper says: in its abstract (quoted), in its figure of the pipeline, or in the tables of settings of the release's README (sections 3, the coarse stage, and 4, the fine one). Section and equation numbers of the full text are not given here. The right column is what the release does: the repository `htyjers/C2F-MetaEmbed` at commit `4c3d203`, folder `code/`, file and line. The number that belongs to each row is in the table under "Check".
#
# | | the paper | the release |
# |---|---|---|
# | 1 | abstract: nodes are linked "directly to coarse-grained virtual nodes and indirectly to fine-grained" ones; figure: entities are composed from the *bridged* codebook | `models/mat_approx.py`, 302: `self.centroid_assignment @ self.centroid_embs`, from the coarse codebook, which is frozen in this stage |
# | 2 | abstract: "a weight bridging update strategy" that matches each coarse row "with several" fine ones; README, 4: weight parameter .2 | `models/mat_approx.py`, 355 to 358: four lines that take the coarse message away and put another back |
# | 3 | abstract: a start "upon SparsePCA"; README, 4: 80 components | `models/mat_approx.py`, 109: what the SparsePCA transforms the rows into, which are the dense *scores*; 113 to 116 write each row's scores to random places of a row of zeros |
# | 4 | abstract: a "soft thresholding activation function to render the sparseness"; README, 4: threshold 1 | `models/mat_approx.py`, 299, with $\tau = 1$ |
# | 5 | README, 4: each coarse row has 4 fine ones | `models/mat_approx.py`, 130 to 133 and 424 to 426: the largest values of a softmax, not divided by their sum |
# | 6 | in none of these | `models/recsys.py`, 68: `FeaturesLinear`, a bias for each user and item, which starts as standard normal noise |
# | 7 | in none of these | `models/mat_approx.py`, 178: `np.power(rowsum, -0.5)`, also of sums below 0; the assertion in 185 then ends the run |
# | 8 | in none of these | `data_loading/data_loader.py`, 56 to 58: a third of each user's *test* items, drawn anew for each seed, is the validation; `funcs.py`, 145 to 151: only training items are left out of the test ranking |
# | 9 | README, 3: anchor weights .5, .6 and .9 for the three data sets | `models/mat_approx.py`, 194: `selected_assignment_weight: float = .5`, which no call changes |
#
# Nearly every line is something that any of us could have written, and most can only be seen by someone who derives the gradients by hand. The package has both readings as options; the presets `authors` (the release), `paper` (the words) and `staged` bundle them:

# %%
presets = {preset: Settings.preset(preset).to_dict() for preset in ("authors", "paper", "staged")}
different = [key for key in presets["authors"] if len({str(values[key]) for values in presets.values()}) > 1]
print(f"{'':18s}" + "".join(f"{preset:>12s}" for preset in presets))
for option in different:
    print(f"{option:18s}" + "".join(f"{values[option]!s:>12s}" for values in presets.values()))
assert set(different) == {"composition", "layer_bridge", "fine_start", "degree", "renormalise_fine", "bias_start", "coarse_lr"}

# %%
computation("S_f", "F", "E_hat", "E_f", "Z", "X0", "H", model="fine")

# %% [markdown]
# The measured numbers come from two places. Trainings are those of the study `paper-against-code`: the planted data, the preset `staged` with one option changed, five seeds each ([its report](../docs/results/paper-against-code-planted/report.md) has the command). A few things are measured on three coarse stages that are trained here, at once:

# %%
data = load_dataset("planted")
R, N = sparse.csr_array(data.train, dtype=float), data.n_users + data.n_items
SEEDS = (0, 1, 2)
stages = [make_baseline("coarse", n_coarse=40, dim=32, lr=1e-2, phase1_epochs=10, max_epochs=30, random_state=seed, n_jobs=1,
                        bias_start="normal").fit(data) for seed in SEEDS]
print("NDCG@20 of the coarse stages:", [round(stage.evaluate().metrics["ndcg@20"], 4) for stage in stages])

# %% [markdown]
# ## Write: the gradient at the biases (6)
#
# The score of user $u$ and item $i$ is $\langle H_u, H_i\rangle + b_u + b_i + b_0$, and BPR looks at the difference of two scores of the *same* user. The loss is softplus$(-x)$, and $-x = \langle H_u, H_j - H_i\rangle + (b_u + b_j) - (b_u + b_i)$; the first term is called `products` below. **By hand:** one triple with $\langle H_u, H_j - H_i\rangle = 0$, $b_u = 7$, $b_i = b_j = 1$. Then $-x = (7 + 1) - (7 + 1) = 0$, the loss is $\log 2$, and softplus has the slope $\sigma(0) = \tfrac12$ there. The gradient is $-\tfrac12$ at $b_i$ and $\tfrac12$ at $b_j$. And at $b_u$? The user's bias is really in this forward; your backward must find out what becomes of it.

# %%
task_1 = exercise("bias_gradient")
task_1

# %%
def bias_gradient(grad_loss, bias, products, user, positive, negative):
    raise NotImplementedError


task_1.check(bias_gradient).keep();

# %%
# print(task_1.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def bias_gradient(grad_loss, bias, products, user, positive, negative):
#     slope = 1 / (1 + np.exp(-(products + bias[negative] - bias[positive]))) * grad_loss / len(user)
#     gradient = np.zeros_like(bias)
#     np.add.at(gradient, negative, slope)
#     np.add.at(gradient, positive, -slope)
#     return gradient  # the user's bias stands in both scores: slope - slope = 0
# ```
#
# </details>
#
# $b_u$ and $b_0$ cancel: their gradient is not small, it is zero, and so is every step of Adam. In the release they start as noise and are the same noise after training, to the last bit. They do no harm (a constant added to all scores of a user changes no order). Item biases are in every score. What have they learned? Set them to zero in the trained model:

# %%
found = my.bias_gradient(1.0, np.array([7.0, 1, 1]), np.zeros(1), np.array([0]), np.array([1]), np.array([2]))
assert np.allclose(found, [0, -0.5, 0.5])

def ndcg_at_20(stage, bias):
    scores = stage.embeddings_[: data.n_users] @ stage.embeddings_[data.n_users :].T + bias
    return evaluate_ranking(lambda users: scores[users], data.test, data.masked_when_ranking("test")).metrics["ndcg@20"]

# %%
with_bias, without = [], []
for seed, stage in zip(SEEDS, stages):
    bias, noise = stage.state_.bias, np.sort(stage.state_.bias[: data.n_users])
    with_bias.append(ndcg_at_20(stage, bias[data.n_users :]))
    without.append(ndcg_at_20(stage, 0 * bias[data.n_users :]))
    assert abs(noise.mean()) < 0.15 and abs(noise.std() - 1) < 0.1, "still the normal noise that they started as"
cost = my.paired_interval(np.array(without), np.array(with_bias))
print("without item biases: {:+.4f} ({:+.4f} to {:+.4f})".format(*cost))
assert cost[2] < 0

# %% [markdown]
# ## Write: one model under two protocols (8)
#
# Validation items are items that the user did choose. A good model ranks them high. If they are left out of the test ranking, nothing happens; if they compete, each pushes a test item down, and the model is punished for being right. **By hand:** the list is *v*, *t* with *v* a validation item and *t* the only test item. Left out: *t* is first, NDCG 1. Competing: *t* is second, $1/\log_2 3 = .631$.

# %%
task_2 = exercise("ndcg_twice")
task_2

# %%
def ndcg_twice(scores, train, validation, held_out, n):
    raise NotImplementedError


task_2.check(ndcg_twice).keep();

# %%
# print(task_2.hint())

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def ndcg_twice(scores, train, validation, held_out, n):
#     left_out = my.ndcg(my.top_items(scores, train | validation, n), held_out, n)
#     competing = my.ndcg(my.top_items(scores, train, n), held_out, n)
#     return left_out, competing
# ```
#
# </details>

# %%
train, validation, test = (part.toarray() > 0 for part in (data.train, data.validation, data.test))
both = []
for stage in stages:
    scores = stage.embeddings_[: data.n_users] @ stage.embeddings_[data.n_users :].T + stage.state_.bias[data.n_users :]
    both.append(np.mean([my.ndcg_twice(scores[u], train[u], validation[u], np.flatnonzero(test[u]), 20)
                         for u in range(data.n_users) if test[u].any()], axis=0))
left_out, competing = np.array(both).T
masking = my.paired_interval(competing, left_out)
print("left out", left_out.round(4), "competing", competing.round(4), "difference {:+.4f} ({:+.4f} to {:+.4f})".format(*masking))
assert np.allclose(left_out, with_bias) and masking[2] < 0

# %% [markdown]
# The same models, the same test items, and no line of the model has changed. A number without the name of its protocol is worth nothing.
#
# ## Question: what do the four lines of a layer do? (2)
#
# After the product $\hat X X_k$ call the rows of the entities $h$, of the coarse nodes $p$, of the fine nodes $q$. Lines 355 to 358 are
#
# $$h \leftarrow h - S_c p, \qquad p \leftarrow p - S_f q, \qquad p \leftarrow g S_f q + (1-g) p, \qquad h \leftarrow h + S_c p.$$
#
# The intention can be read: take the coarse message out of the entities, mix the fine one into it, put it back. Follow what happens. After the third line $p$ is $(1-g)\,p + (2g - 1)\, S_f q$, and after the fourth
#
# $$h_{\text{new}} = h + S_c\bigl((2g-1)\, S_f q - g\, p\bigr).$$
#
# With the release's $g = 0.2$ the fine message comes in with the factor $2g - 1 = -0.6$: **with a minus sign**. And what is taken out of $h$ is $S_c p$, with raw weights, where the message was added with normalised ones. There is a simple test for a bridge: with $g = 0$ it should do nothing.

# %%
def four_lines(h, p, q, S_c, S_f, g):
    h = h - S_c @ p
    p = p - S_f @ q
    p = g * S_f @ q + (1 - g) * p
    return h + S_c @ p

one = np.ones((1, 1))
assert four_lines(5 * one, one, 2 * one, one, one, 0.0) == 3, "by hand: 5 - 1, then 1 - 2, then -1, then 4 - 1"
rng = np.random.default_rng(0)
h, p, q, S_c, S_f = (rng.random(shape) for shape in ((7, 2), (4, 2), (3, 2), (7, 4), (4, 3)))
for g in (0.0, 0.2, 0.5):
    assert np.allclose(four_lines(h, p, q, S_c, S_f, g), h + S_c @ ((2 * g - 1) * (S_f @ q) - g * p))
assert np.isclose(2 * 0.2 - 1, -0.6) and not np.allclose(four_lines(h, p, q, S_c, S_f, 0.0), h)

# %% [markdown]
# A user with the number 5 and one coarse and one fine node (1 and 2, all weights 1) is left with 3, though the bridge is closed. In the reading `exchange` a closed bridge does nothing (notebook 07).
#
# ## Question: what reaches the fine codebook? (1)
#
# In the paper's composition $Z = \tanh(S_c \hat E)$ depends on $F$; in the release's, $Z = \tanh(S_c E_c)$ does not, and $F$ acts through the graph alone. So there the regulariser, a sum of $|Z|^2$, has no gradient at the fine codebook: the stage that trains it does not regularise it.

# %%
E_c, F = rng.standard_normal((4, 2)), rng.standard_normal((3, 2))

def penalty(F, composed_from):
    E_hat = 0.2 * S_f @ F + 0.8 * E_c
    return np.sum(np.tanh(S_c @ (E_hat if composed_from == "bridged" else E_c)) ** 2)

for reading in ("coarse", "bridged"):
    slope = my.central_difference(lambda F: penalty(F, reading), F, 1e-5)
    print(f"composed from the {reading} codebook: norm of the regulariser's gradient at F {np.linalg.norm(slope):.2g}")
    assert slope.any() == (reading == "bridged")

# %% [markdown]
# ## Question: how sparse is the start, and what is it made of? (3, 4)
#
# A sparse PCA writes a matrix as *scores* times *components*, and it is the components that it makes sparse. The release keeps the scores, which have no zeros here: half of the entries (16 of 32) are zero by padding, and not by any analysis. And $|E_f| \le \tau$ is a dead zone: no gradient, no step (notebook 03), so an entry that begins there stays there for ever.

# %%
zeros, dead = {}, {}
for kind in ("scores", "components"):
    starts = [start_fine_codebook(stage.state_.E_coarse, 16, 16, kind=kind, threshold=1.0, seed=seed) for seed, stage in zip(SEEDS, stages)]
    zeros[kind] = [np.mean(E_f == 0) for E_f in starts]
    dead[kind] = [np.mean(np.abs(E_f) <= 1) for E_f in starts]
    print(f"start from {kind:10s} zero: {np.mean(zeros[kind]):.2f}, seeds {np.round(zeros[kind], 2)}; "
          f"within the threshold: {np.mean(dead[kind]):.2f}, seeds {np.round(dead[kind], 2)}")
assert np.allclose(zeros["scores"], 0.5), "the padding, and not one zero more"
assert min(zeros["components"]) > 0.6 and min(dead["scores"]) > 0.5 and min(dead["components"]) > 0.5

# %% [markdown]
# ## Question: do the links of a bridge sum to one? (5)
#
# A softmax over all $M$ fine rows sums to 1; the release keeps the $t_f$ largest of its values. If it is nearly flat, each is about $1/M$, and what is kept sums to about $t_f/M$: with $t_f = 4$ that is .25 for $M = 16$ and .04 for the paper's $M = 100$. The term $g S_f F$ then has a twenty-fifth of the weight that $g$ promises, while $(1-g)E_c$ is still reduced to $1 - g$.

# %%
for M in (16, 100):
    sums = []
    for seed, stage in zip(SEEDS, stages):
        parts = partition_entities(R, M, seed=seed + 10)
        sums.append(start_fine_assignment(stage.state_.S_coarse, parts, M, 4).sum(axis=1).mean())
    flat = largest_softmax(np.zeros((1, M)), 4).sum()
    print(f"M = {M}: a flat softmax {flat:.2f}; at the start here {np.mean(sums):.2f}, seeds {np.round(sums, 2)}")
    assert np.isclose(flat, 4 / M) and flat < min(sums) and max(sums) < 0.95

# %% [markdown]
# How flat it is depends on the data; on the planted set the groups are clear and the sums are not tiny. They are below 1 in any case.
#
# ## Question: and if a degree is negative? (7)
#
# A closed-form update keeps the largest weights of a least-squares fit, and one of these may be negative. A row may then sum to less than nothing, whose root is not a number (and one negative weight in the graph is enough for the release's assertion). The package cuts such a node off (`signed`) or takes the sum of the sizes (`absolute`). How often does it happen?

# %%
X = sparse.csr_array(np.array([[0.0, 0.5, -0.6], [0.5, 0.0, 1.0], [-0.6, 1.0, 0.0]]))
with np.errstate(invalid="ignore"):
    assert np.isnan(np.power(X.sum(axis=1)[0], -0.5))
signed, absolute = (normalise(X, degree=degree).toarray() for degree in ("signed", "absolute"))
assert not signed[0].any() and absolute[0].any() and np.isfinite(signed).all()
negative = [np.mean(stage.state_.S_coarse.data < 0) for stage in stages]
print("share of negative weights in the trained S_c:", np.round(negative, 4))
assert max(negative) < 0.01

# %% [markdown]
# ## Question: does the anchor weight matter? (9)
#
# At the start an entity puts the *anchor weight* on the row of its own part and the rest on another row, drawn at random. The same coarse stages, once more with .9 in place of .5:

# %%
anchored = [make_baseline("coarse", n_coarse=40, dim=32, lr=1e-2, phase1_epochs=10, max_epochs=30, random_state=seed, n_jobs=1,
                          bias_start="normal", anchor_weight=0.9).fit(data).evaluate().metrics["ndcg@20"] for seed in SEEDS]
anchor = my.paired_interval(np.array(anchored), np.array([stage.evaluate().metrics["ndcg@20"] for stage in stages]))
print("anchor weight .9 instead of .5: {:+.4f} ({:+.4f} to {:+.4f})".format(*anchor))
assert anchor[1] < 0 < anchor[2], "three seeds do not tell the two apart"

# %% [markdown]
# ## Predict
#
# Take the trained model of the fine stage, set its whole fine codebook to **zero**, change nothing else, and measure again. What is left of its NDCG@20: all of it, half, nothing?
#
# <details><summary>Answer</summary>
#
# Nearly all of it, in each of the three presets: see the first lines of the next table. What the fine stage changes, it changes by its *edges*: $S_f$ enters the graph, the graph is normalised again, and the coarse rows are weighted differently. These edges are there before the first step of training.
#
# </details>

# %% [markdown]
# ## Check
#
# What each difference moves, on the planted set: test NDCG@20 after training, five seeds, minus that of the reference with the same seeds, with the 95 % interval of notebook 09. The first lines change a trained model, the others are trainings of their own.

# %%
rows = study_rows("paper-against-code-planted")
reached = {name: each["test_ndcg@20"] for name, each in rows.items()}
pairs = [(f"{preset}: {what}", f"{preset} / {part}", preset) for what, part in (("fine codebook zeroed", "zero-fine"), ("nothing fine at all", "no-fine"))
         for preset in ("staged", "authors", "paper")]
pairs += [(name, name, "staged") for name in rows if "/" not in name and name not in presets]
moved = {label: my.paired_interval(reached[changed], reached[reference]) for label, changed, reference in pairs}
print("reached:", {preset: round(float(reached[preset].mean()), 4) for preset in presets}, "seeds:", len(reached["staged"]))
for label, (mean, low, high) in moved.items():
    print(f"  {label:46s} {mean:+.4f} ({low:+.4f} to {high:+.4f})")

# %% [markdown]
# And the table of the beginning once more, with one number for each of its rows: what is changed in test NDCG@20, or a share where there is nothing to compare.

# %%
def of_seeds(values):
    return my.paired_interval(np.array(values), np.zeros(len(values)))

measured = {
    "1 composed from the bridged codebook": (moved["entities composed from the bridged codebook"], 5),
    "2 the four lines": (moved["bridge in a layer: raw"], 5),
    "3 start from scores": (moved["start: scores"], 5),
    "4 share of such a start within the threshold": (of_seeds(dead["scores"]), len(SEEDS)),
    "5 fine links that sum to one": (moved["fine links that sum to one"], 5),
    "6 item biases set to zero": (cost, len(SEEDS)),
    "7 share of negative weights in the trained S_c": (of_seeds(negative), len(SEEDS)),
    "8 validation items compete": (masking, len(SEEDS)),
    "9 anchor weight .9 instead of .5": (anchor, len(SEEDS)),
}
for label, ((mean, low, high), n_seeds) in measured.items():
    print(f"{label:48s} {mean:+.4f} ({low:+.4f} to {high:+.4f}), {n_seeds} seeds")

# %%
moved_by(list(moved), [reached[changed] - reached[reference] for _, changed, reference in pairs], 0.0,
         xlabel="change of test NDCG@20 (circles: seeds, squares: their mean)", title="Planted set: what each difference moves")

# %% [markdown]
# - **The layer's four lines (2) cost most**: about .05, with every seed.
# - **The bridged composition (1)** costs about .011 here. It does what the paper says; it does not make the model better.
# - **Start (3), links that sum to one (5), noise in the biases (6)** move little; look at the intervals before you call one of them better.
# - **The trained fine codebook does nearly nothing**: with zeros in its place the three presets lose less than .005. For `paper` and `authors` the interval does not contain 0, so there it does something; in `staged` it may be nothing.
# - **Without anything fine** (no rows, no edges) all three are *better*, `authors` by more than .03 (the raw layer alone costs more than that).

# %%
assert all(len(reached[changed]) == len(reached[reference]) == 5 for _, changed, reference in pairs)
assert -0.06 < moved["bridge in a layer: raw"][0] < -0.04 and max(reached["bridge in a layer: raw"] - reached["staged"]) < -0.03
assert moved["entities composed from the bridged codebook"][2] < 0 and round(float(moved["entities composed from the bridged codebook"][0]), 3) == -0.011
assert all(abs(moved[name][0]) < 0.005 for name in ("start: scores", "fine links that sum to one", "biases start as noise"))
zeroed = {preset: moved[f"{preset}: fine codebook zeroed"] for preset in presets}
assert all(-0.005 < mean < 0.001 for mean, _, _ in zeroed.values()) and max(zeroed["paper"][2], zeroed["authors"][2]) < 0 < zeroed["staged"][2]
nothing = {preset: moved[f"{preset}: nothing fine at all"] for preset in presets}
assert all(low > 0 for _, low, _ in nothing.values()) and nothing["authors"][0] > 0.03

# %% [markdown]
# MovieLens 100K, trained at full length with three seeds ([docs/results/fine-codebook-ml-100k](../docs/results/fine-codebook-ml-100k/report.md)), with a *control*: the fine stage of the paper comes with another learning rate, another batch and further epochs, so the coarse stage is continued with exactly these, and without any fine codebook.

# %%
full = study_rows("fine-codebook-ml-100k")
for preset in ("authors", "paper", "default"):
    for what in ("zero-fine", "no-fine", "control"):
        if f"{preset} / {what}" in full:
            mean, low, high = my.paired_interval(full[f"{preset} / {what}"]["test_ndcg@20"], full[preset]["test_ndcg@20"])
            print(f"{preset:8s} {full[preset]['test_ndcg@20'].mean():.4f}   {what:10s} {mean:+.4f} ({low:+.4f} to {high:+.4f})")
            if preset == "default":
                assert mean < -0.015 and high < 0
            else:
                assert abs(mean) < 0.005

# %% [markdown]
# In the two stages neither the trained codebook, nor anything fine, nor the control moves the mean by .005; the intervals of three seeds reach further. In joint training, the preset `default`, the same operation costs .02. That a model needs a part which it was trained with is not yet a reason to have the part: whether its bytes are better spent otherwise is the table of notebook 09. And why a bridge into a *trained* codebook has nothing to add, notebook 12 proves in four lines.
#
# What does one make of a model whose second half does next to nothing? The coarse stage stands: it is the older LEGCF, and it compresses well. A comparison needs a control. And once one knows *why* a part has nothing to do, one can give it something: direct links and joint training come from the questions above.
#
# ## Read next
#
# - Notebook 12: the joint model, derived and trained. [docs/fine_codebook.md](../docs/fine_codebook.md): the argument, and what was made of it.
# - [docs/model.md](../docs/model.md), its last section: every difference in two tables, with the reason for each choice.
# - Try one yourself: `python -m c2f_np train planted --preset staged --layer-bridge raw --out runs/raw`.
