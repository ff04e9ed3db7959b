"""The whole method once more, to be read from top to bottom: dense matrices, plain loops, no backward pass at all.

Nothing is taken from the rest of the package. Gradients are complex steps of the loss, Im f(x + ih) / h with h = 2^-100: exact to
rounding for every operation below, because none of them takes an absolute value or a conjugate of what is differentiated.

    p        dict of dense arrays: E_coarse, S_coarse, bias, bias_global; E_fine, S_fine, S_direct, threshold; F, Y;
             of the baselines embeddings, or codebook and S, or quotients and remainders; item_bias
    s        settings by name, such as s.n_layers
    batch    three arrays of entity numbers: user, positive, negative (item i is entity U + i)
    model    "coarse", "fine", "joint" or "table": see MODELS at the end

Shapes
------
R : (U, I)     A : (N, N)     E_coarse, E_hat : (C, d)     E_fine, F : (M, d)     S_coarse : (N, C)     S_fine : (C, M)
S_direct : (N, M)     Y, Z : (N, d)     H : (N, d), or with the meta nodes below the entities     bias : (N,)     B triples
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

STEP = 2.0**-100


# ---- graph -----------------------------------------------------------------------------------------------------------
def normalise(X, degree="signed"):
    """D^-1/2 X D^-1/2. A node whose degree is not positive has the factor 0."""
    sums, sizes = X.sum(axis=1), (X * np.sign(X.real)).sum(axis=1)
    degrees = sizes if degree == "absolute" else sums
    factor = np.array([1 / np.sqrt(d) if d.real > 1e-9 * size.real else 0.0 for d, size in zip(degrees, sizes, strict=True)])
    return factor[:, None] * X * factor[None, :]


def adjacency(R):
    """A = norm([[0, R], [R^T, 0]])."""
    (u, i), R = R.shape, (R != 0).astype(float)
    return normalise(np.block([[np.zeros((u, u)), R], [R.T, np.zeros((i, i))]]))


def coarse_graph(A, p, s):
    """X_hat = norm([[A, S_c], [S_c^T, 0]])."""
    S = p["S_coarse"]
    return normalise(np.block([[A, S], [S.T, np.zeros((S.shape[1],) * 2)]]), s.degree)


def fine_graph(A, p, s):
    """X_hat = norm([[A, S_c, 0], [S_c^T, 0, S_f], [0, S_f^T, 0]])."""
    S, T = p["S_coarse"], p["S_fine"]
    (n, c), m, zeros = S.shape, T.shape[1], np.zeros
    X = np.block([[A, S, zeros((n, m))], [S.T, zeros((c, c)), T], [zeros((m, n)), T.T, zeros((m, m))]])
    return normalise(X, s.degree)


def plain_graph(A, p, s):
    """A itself: joint training and tables have no meta nodes."""
    return A


# ---- forward ---------------------------------------------------------------------------------------------------------
def soft_threshold(E, tau):
    """sign(E) max(|E| - tau, 0)."""
    return np.where(np.abs(E.real) > np.real(tau), E - tau * np.sign(E.real), 0)


def bridge(p, F, s):
    """E_hat = g S_f F + (1 - g) E_c; of joint training with g = 1 there is no E_c."""
    refined = s.gate * p["S_fine"] @ F
    return refined + (1 - s.gate) * p["E_coarse"] if len(p["E_coarse"]) else refined


def mean_of_layers(X, layer, n_layers):
    """H = mean(X_0, ..., X_L) with X_{k+1} = layer(X_k)."""
    total = X
    for _ in range(n_layers):
        X = layer(X)
        total = total + X
    return total / (n_layers + 1)


def coarse(p, X_hat, s):
    """Z = tanh(S_c E_c), X_0 = [Z; E_c]."""
    Z = np.tanh(p["S_coarse"] @ p["E_coarse"])
    return Z, mean_of_layers(np.concatenate([Z, p["E_coarse"]]), lambda X: X_hat @ X, s.n_layers)


def fine(p, X_hat, s):
    """Z = tanh(S_c E_c) or, read as the paper reads, tanh(S_c E_hat); X_0 = [Z; E_hat; tanh(F)]."""
    F = soft_threshold(p["E_fine"], s.threshold)
    E_hat = bridge(p, F, s)
    Z = np.tanh(p["S_coarse"] @ (E_hat if s.composition == "bridged" else p["E_coarse"]))
    n, c = p["S_coarse"].shape

    def raw(X):
        X = X_hat @ X
        h, q, r = X[:n], X[n : n + c], X[n + c :]
        h = h - p["S_coarse"] @ q
        q = q - p["S_fine"] @ r
        q = s.gate * p["S_fine"] @ r + (1 - s.gate) * q
        h = h + p["S_coarse"] @ q
        return np.concatenate([h, q, r])

    def exchange(X):
        # The entities hear g S_f r + (1 - g) q where they heard q, the coarse rows before this layer.
        q, r = X[n : n + c], X[n + c :]
        bridged = s.gate * p["S_fine"] @ r + (1 - s.gate) * q
        to_entities = X_hat[:n, n : n + c] @ (bridged - q)
        return X_hat @ X + np.concatenate([to_entities, np.zeros((len(X) - n, X.shape[1]))])

    layer = raw if s.layer_bridge == "raw" else exchange
    return Z, mean_of_layers(np.concatenate([Z, E_hat, np.tanh(F)]), layer, s.n_layers)


def codebooks(p, s):
    """E_hat and F of joint training, as far as it has them. (p["F"], zero, is there for its gradient.)"""
    F = soft_threshold(p["E_fine"], p.get("threshold", s.threshold)) + p.get("F", 0) if "E_fine" in p else None
    return bridge(p, F, s) if "S_fine" in p else p["E_coarse"], F


def joint(p, A, s):
    """Z = tanh(S_c E_hat + S_d F), propagated over A. (Y, zero, is there for its gradient: that of tanh's argument.)"""
    E_hat, F = codebooks(p, s)
    Z = np.tanh(p["S_coarse"] @ E_hat + (p["S_direct"] @ F if "S_direct" in p else 0) + p.get("Y", 0))
    return Z, mean_of_layers(Z, lambda X: A @ X, s.n_layers)


def table(p, A, s):
    """The baselines: a row for every entity, a sum of hashed rows, or a product of a quotient row and a remainder row."""
    if "embeddings" in p:
        Z = p["embeddings"]
    elif "codebook" in p:
        Z = p["S"] @ p["codebook"]
    else:
        m = len(p["remainders"])
        Z = np.array([p["quotients"][e // m] * p["remainders"][e % m] for e in range(len(A))])
    return Z, mean_of_layers(Z, lambda X: A @ X, s.n_layers)


def hashed_assignment(n, n_rows, n_hashes, seed):
    """S[e, row] counts the hash functions that send entity e to a row: row = floor(n_rows (a e + b mod 2^64) / 2^64), roughly."""
    a, b = np.random.default_rng([seed, 0x68617368]).integers(0, 2**64, size=(2, n_hashes), dtype=np.uint64).tolist()
    S = np.zeros((n, n_rows))
    for e in range(n):
        for k in range(n_hashes):
            upper = ((a[k] | 1) * e + b[k]) % 2**64 >> 32
            S[e, n_rows * upper >> 32] += 1
    return S


def in_bytes(X):
    """A table column by column in -127..127, and the columns' scales, in float32: the largest magnitude / 127."""
    stored, scales = np.zeros(X.shape, np.int8), np.zeros(X.shape[1], np.float32)
    for j in range(X.shape[1]):
        scales[j] = max(abs(float(x)) for x in X[:, j]) / 127
        for i, x in enumerate(X[:, j]):
            # Divided in the precision of the table: rounded again, the quotient may be half a number.
            stored[i, j] = 0 if scales[j] == 0 else min(127, max(-127, round(float(x / scales[j]))))
    return stored, scales


# ---- loss ------------------------------------------------------------------------------------------------------------
def biases(p, n_entities):
    """A bias for every entity and one for all; the baselines have one for every item, or none."""
    if "bias" in p:
        return p["bias"], p["bias_global"]
    of_items = p.get("item_bias", np.zeros(0))
    return np.concatenate([np.zeros(n_entities - len(of_items)), of_items]), 0


def losses(z, h, bias, bias_global, s):
    """BPR and penalty of every triple, by the three rows of Z, of H and of the biases; loss: mean of bpr + decay * penalty."""
    user, positive, negative = range(3)

    def score(item):
        return (h[user] * h[item]).sum(axis=-1) + bias[user] + bias[item] + bias_global

    return np.log(1 + np.exp(score(negative) - score(positive))), s.l2 * (z * z).sum(axis=(0, -1))


def gradients(model, p, A, batch, s, names):
    """The gradient of the loss by arrays and settings; and the sum of the absolute values of its terms.

    A term is what the loss or the penalty of one triple gives through its user's rows, a positive item's, a negative's or biases.
    """
    make_graph, embed, _ = MODELS[model]
    batch, graph, found, sizes = np.array(batch), make_graph(A, p, s), {}, {}
    # In the first three copies of the batch the rows of one role move, in the last the biases.
    rows_move, biases_move = np.eye(3, 4, dtype=bool)[:, :, None, None], np.array([[False]] * 3 + [[True]])

    def terms(name, value):
        q, r = p, s
        if name in p:
            q = p | {name: value}
        else:
            r = SimpleNamespace(**vars(s) | {name: value})
        # The graph of the two stages holds the assignments; everything else leaves it as it is.
        Z, H = embed(q, make_graph(A, q, r) if name in ("S_coarse", "S_fine") else graph, r)
        bias, bias_global = biases(q, len(A))
        z, h = (np.where(rows_move, X[:, None], X[:, None].real) for X in (Z[batch], H[batch]))
        bias, bias_global = (np.where(biases_move, X, np.real(X)) for X in (bias[batch][:, None], bias_global))
        bpr, penalty = losses(z, h, bias, bias_global, r)
        return np.array([bpr, r.decay * penalty]).imag / STEP

    for name in names:
        value = np.asarray(p[name] if name in p else getattr(s, name), dtype=complex)
        found[name], sizes[name] = np.zeros(value.shape), np.zeros(value.shape)
        for entry in np.ndindex(value.shape):
            moved = value.copy()
            moved[entry] += 1j * STEP
            each = terms(name, moved)
            found[name][entry], sizes[name][entry] = each.sum() / batch.shape[1], np.abs(each).sum() / batch.shape[1]
    return found, sizes


# ---- step ------------------------------------------------------------------------------------------------------------
def adam(x, g, m, v, k, rate):
    """The k-th step of Adam, k from 1."""
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g**2
    return x - rate / (1 - 0.9**k) * m / (np.sqrt(v) / np.sqrt(1 - 0.999**k) + 1e-8), m, v


def keep_largest(W, t):
    """The t largest entries of every row, zero elsewhere; ties go to the lower column."""
    S = np.zeros_like(W)
    for row, kept in zip(W, S, strict=True):
        columns = np.argsort(-row, kind="stable")[:t]
        kept[columns] = row[columns]
    return S


def pinv(H, eps):
    """The Moore-Penrose inverse; singular values below eps times the longer side count as 0."""
    return np.linalg.pinv(H, rcond=max(H.shape) * eps)


def coarse_weights(H, p, eps):
    """W = H_entities pinv(H_coarse)."""
    n = len(p["S_coarse"])
    return H[:n] @ pinv(H[n:], eps)


def fine_weights(H, p, eps):
    """softmax of each row of W_c^T W_f, with W_c = H_entities pinv(H_coarse) and W_f = H_entities pinv(H_fine)."""
    n, c = p["S_coarse"].shape
    T = (H[:n] @ pinv(H[n : n + c], eps)).T @ (H[:n] @ pinv(H[n + c :], eps))
    T = np.exp(T - T.max(axis=1, keepdims=True))
    return T / T.sum(axis=1, keepdims=True)


def new_assignment(model, H, p, s, eps=2.0**-52):
    """The closed-form update of the stage's assignment, from the forward pass of the step."""
    if model == "coarse":
        return {"S_coarse": keep_largest(coarse_weights(H, p, eps), s.t_coarse)}
    S = keep_largest(fine_weights(H, p, eps), s.t_fine)
    return {"S_fine": S / S.sum(axis=1, keepdims=True) if s.renormalise_fine else S}


def start_fine_assignment(S_coarse, parts, n_fine, t_fine, renormalise):
    """The t_f largest of softmax(S_c^T P); P has 0.5 on an entity's own part and 0.5 / (M - 1) on every other."""
    P = np.full((len(parts), n_fine), 0.5 / (n_fine - 1))
    P[np.arange(len(parts)), parts] = 0.5
    T = np.exp(S_coarse.T @ P)
    S = keep_largest(T / T.sum(axis=1, keepdims=True), t_fine)
    return S / S.sum(axis=1, keepdims=True) if renormalise else S


def train_step(model, p, A, batch, s, moments, k, rate, *, links=None, update=False):
    """One whole training step.

    `moments` holds (m, v) by name, `links` says for trained assignments which entries are links. Returns everything that the
    step computed: new p and moments, losses, gradients before and after clipping, sizes, H.
    """
    make_graph, embed, trained = MODELS[model]
    links, names = links or {}, [name for name in trained if name in moments]
    Z, H = embed(p, make_graph(A, p, s), s)
    batch, (bias, bias_global) = np.array(batch), biases(p, len(A))
    bpr, penalty = losses(Z[batch], H[batch], bias[batch], bias_global, s)
    slopes, sizes = gradients(model, p, A, batch, s, [*names, *(["Y"] if "Y" in p else [])])
    if "E_fine" in names and model == "joint" and s.dead_zone == "open":
        # Every entry moves by the gradient at what the threshold makes of it.
        at_F = gradients(model, p | {"F": np.zeros(p["E_fine"].shape)}, A, batch, s, ["F"])
        slopes["E_fine"], sizes["E_fine"] = (part["F"] for part in at_F)
    clipped, new, moved = {}, dict(p), {}
    for name in names:
        g = np.clip(slopes[name], -s.max_grad_value, s.max_grad_value)
        clipped[name] = np.where(links[name], g, 0) if name in links else g
        x, m, v = adam(p[name], clipped[name], *moments[name], k, rate)
        new[name], moved[name] = x, (m, v)
    if update:
        # From this step's H, not from that of the parameters it has just moved.
        new |= new_assignment(model, H, p, s)
    return {"p": new, "moments": moved, "losses": (bpr.mean(), penalty.mean()), "gradients": slopes, "clipped": clipped,
            "sizes": sizes, "H": H}  # fmt: skip


def exchange_links(S, links, E, pull):
    """In every row the weakest link, by |s_ij| |E_j|, goes for the free one of the largest |<pull_i, E_j>|, if that is not 0.

    Returns the new weights (0 for a new link) and the new links.
    """
    S, links = S.copy(), links.copy()
    length = np.sqrt((E**2).sum(axis=1))
    for i in range(len(S)):
        strength = np.where(links[i], np.abs(S[i]) * length, np.inf)
        wish = np.where(links[i], -1, np.abs(E @ pull[i]))
        if wish.max() > 0:
            goes, comes = np.argmin(strength), np.argmax(wish)
            links[i, goes], links[i, comes], S[i, goes], S[i, comes] = False, True, 0, 0
    return S, links


def pursue(Y, E, t):
    """Each row of Y as a sum of t weighted rows of E, chosen one by one; and by how much each choice was the clearest.

    The weights of rows that are all but multiples of each other are kept finite by 1e-8 of the mean squared length of a row.
    """
    length, ridge = np.sqrt((E**2).sum(axis=1)), 1e-8 * max(np.mean(E**2) * E.shape[1], np.finfo(float).tiny)
    S, clear = np.zeros((len(Y), len(E))), np.full(len(Y), np.inf)
    for i, y in enumerate(Y):
        chosen, left = [], y
        for _ in range(t):
            explained = np.abs(E @ left) / np.where(length > 0, length, 1)
            explained[chosen] = -1
            best = np.sort(explained)[::-1]
            clear[i] = min(clear[i], best[0] - best[1] if len(best) > 1 else np.inf)
            chosen.append(int(np.argmax(explained)))
            rows = E[chosen]
            weights = np.linalg.solve(rows @ rows.T + ridge * np.eye(len(rows)), rows @ y)
            left = y - weights @ rows
        S[i, chosen] = weights
    return S, clear


def sparse_factors(X, n_components, alpha, n_sweeps):
    """Factors of a sparse PCA after so many sweeps, and the objective after each: column by column, with all residuals anew."""
    n, d = X.shape
    V, W, objectives = np.zeros((n, n_components)), np.zeros((n_components, d)), []
    for _ in range(n_sweeps):
        for k in range(n_components):
            others = [c for c in range(n_components) if c != k]
            Y = X - V[:, others] @ W[others]
            starts = [V[:, k]]
            longest = max(range(d), key=lambda f: np.sqrt(sum(Y[:, f] ** 2)))
            length = np.sqrt(sum(Y[:, longest] ** 2))
            if length > alpha + 1e-9 * np.sqrt(np.sum(X**2)):
                starts.append(Y[:, longest] / length)
            for v in starts:
                for f in range(d):
                    pull = sum(v * Y[:, f])
                    W[k, f] = np.copysign(max(abs(pull) - alpha, 0), pull)
                if np.any(W[k]):
                    V[:, k] = Y @ W[k] / np.sqrt(sum((Y @ W[k]) ** 2))
                    break
        objectives.append(float(np.sum((X - V @ W) ** 2)) / 2 + alpha * float(np.sum(np.abs(W))))
    return V, W, objectives


def ndcg(scores, known, relevant, k):
    """Mean NDCG@k over the users with a relevant item; known items are left out of the ranking, ties go to the lower item."""
    found = []
    for user in np.flatnonzero(relevant.any(axis=1)):
        ranking = [i for i in np.argsort(-scores[user], kind="stable") if not known[user, i]][:k]
        gain = sum(relevant[user, i] / np.log2(place + 2) for place, i in enumerate(ranking))
        found.append(gain / sum(1 / np.log2(place + 2) for place in range(min(k, relevant[user].sum()))))
    return np.mean(found)


BIASES = ("bias", "bias_global")
#: Of every model its graph, its embeddings (Z, H), and what a step may move.
MODELS = {
    "coarse": (coarse_graph, coarse, ("E_coarse", *BIASES)),
    "fine": (fine_graph, fine, ("E_fine", *BIASES)),
    "joint": (plain_graph, joint, ("E_coarse", "E_fine", "S_coarse", "S_fine", "S_direct", *BIASES)),
    "table": (plain_graph, table, ("embeddings", "codebook", "quotients", "remainders", "item_bias")),
}
