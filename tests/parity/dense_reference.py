"""The model once more, dense and plain, with gradients by the complex step: reference files of any size and setting.

Nothing is taken from c2f_np. Every gradient is Im f(x + ih) / h with h = 1e-30, exact to rounding.
"""

from __future__ import annotations

import json

import numpy as np

TRAINED = ("E_coarse", "E_fine", "bias_user_item", "bias_global")


def normalise(X):
    sums = X.sum(axis=1)
    factor = np.where(sums > 0, 1 / np.sqrt(np.where(sums > 0, sums, 1)), 0)
    return factor[:, None] * X * factor[None, :]


def forward(stage, graph, p, S_c, S_f, meta):
    """X_0 to H, and what lies on the way."""
    n, c = S_c.shape
    g = meta["gate"]
    F = np.where(np.abs(p["E_fine"].real) > meta["threshold"],
                 p["E_fine"] - np.sign(p["E_fine"].real) * meta["threshold"], 0)  # fmt: skip
    E_hat = g * (S_f @ F) + (1 - g) * p["E_coarse"]
    Z = np.tanh(S_c @ p["E_coarse"])
    if stage == "coarse":
        X = np.concatenate([Z, p["E_coarse"], 0 * p["E_fine"]])
    else:
        X = np.concatenate([Z, E_hat, np.tanh(F)])
    layers = [X]
    for _ in range(meta["n_layers"]):
        X = graph @ X
        if stage == "fine":
            h, P, q = X[:n], X[n : n + c], X[n + c :]
            h = h - S_c @ P
            P = P - S_f @ q
            P = g * (S_f @ q) + (1 - g) * P
            h = h + S_c @ P
            X = np.concatenate([h, P, q])
        layers.append(X)
    return F, E_hat, Z, sum(layers) / len(layers)


def losses(stage, graph, p, data, meta):
    u = len(data["interactions"])
    _, _, Z, H = forward(stage, graph, p, data["S_coarse"], data["S_fine"], meta)
    user, pos, neg = data["batch_user"], data["batch_pos"] + u, data["batch_neg"] + u
    b = p["bias_user_item"]

    def score(item):
        return (H[user] * H[item]).sum(axis=1) + b[user] + b[item] + p["bias_global"]

    bpr = np.mean(np.log(1 + np.exp(score(neg) - score(pos))))
    reg = meta["l2_penalty_factor"] * sum((Z[rows] ** 2).sum() for rows in (user, pos, neg)) / len(user)
    return bpr, reg, bpr + meta["decay"] * reg


def gradients(stage, graph, p, data, meta, names=TRAINED):
    result = {}
    for name in names:
        grad = np.zeros(p[name].shape)
        for index in np.ndindex(*grad.shape):
            moved = {key: value.astype(complex) for key, value in p.items()}
            moved[name][index] += 1e-30j
            grad[index] = losses(stage, graph, moved, data, meta)[2].imag / 1e-30
        result[name] = grad
    return result


def keep_largest(W, t):
    S = np.zeros_like(W)
    for i, row in enumerate(W):
        columns = np.argsort(-row, kind="stable")[:t]
        S[i, columns] = row[columns]
    return S


def reference(rng, *, n_users=4, n_items=6, dim=2, n_coarse=4, n_fine=3, t_coarse=2, t_fine=2, n_layers=2, gate=0.3,
              threshold=0.5, batch=12, ks=(1, 4), length=5, lr=0.01, clip=3.0, density=0.4, negative=False,
              **changed) -> dict:  # fmt: skip
    """Every quantity of a random problem. `negative`: assignments with negative weights, whose rows sum to 1."""
    meta = dict(n_users=n_users, n_items=n_items, dim=dim, n_coarse=n_coarse, n_fine=n_fine, t_coarse=t_coarse,
                t_fine=t_fine, n_layers=n_layers, gate=gate, threshold=threshold, l2_penalty_factor=5, decay=1e-4,
                lr=lr, clip=clip)  # fmt: skip
    n = n_users + n_items
    R = (rng.random((n_users, n_items)) < density).astype(float)
    S_c = keep_largest(rng.random((n, n_coarse)) + 0.1, t_coarse)
    S_f = keep_largest(rng.random((n_coarse, n_fine)) + 0.1, t_fine)
    if negative:
        S_c[::3, :] = 0
        S_c[::3, 0], S_c[::3, 1] = 1.3, -0.3
    data = dict(
        interactions=R,
        S_coarse=S_c,
        S_fine=S_f,
        E_coarse=rng.normal(size=(n_coarse, dim)),
        E_fine=rng.normal(size=(n_fine, dim)) * 1.5,
        bias_user_item=rng.normal(size=n) * 0.1,
        bias_global=np.array([0.05]),
        batch_user=rng.integers(0, n_users, batch),
        batch_pos=rng.integers(0, n_items, batch),
        batch_neg=rng.integers(0, n_items, batch),
    ) | changed
    R, S_c, S_f = data["interactions"], data["S_coarse"], data["S_fine"]
    out = dict(data, meta=json.dumps(meta))
    empty = np.zeros
    out["norm_adj"] = A = normalise(np.block([[empty((n_users,) * 2), R], [R.T, empty((n_items,) * 2)]]))
    p0 = {name: data[name] for name in TRAINED}
    c, m = n_coarse, n_fine
    for stage in ("coarse", "fine"):
        link = S_f if stage == "fine" else empty((c, m))
        graph = normalise(np.block([
            [A, S_c, empty((n, m))], [S_c.T, empty((c, c)), link], [empty((m, n)), link.T, empty((m, m))],
        ]))  # fmt: skip
        F, E_hat, Z, H = forward(stage, graph, p0, S_c, S_f, meta)
        h, h_c, h_f = H[:n], H[n : n + c], H[n + c :]
        names = ("expanded_graph", "ego", "h_entities", "h_coarse_nodes", "h_fine_nodes")
        out |= {f"{stage}_{key}": value for key, value in zip(names, (graph, Z, h, h_c, h_f), strict=True)}
        for key, value in zip(("bpr", "reg", "total"), losses(stage, graph, p0, data, meta), strict=True):
            out[f"{stage}_{key}_loss"] = value[0] if np.ndim(value) else value
        first = gradients(stage, graph, p0, data, meta)
        out |= {f"{stage}_grad_{key}": value for key, value in first.items()}
        p, mean, square, before = dict(p0), {}, {}, []
        for k in (1, 2, 3):
            before.append(losses(stage, graph, p, data, meta)[2])
            trained = [key for key in TRAINED if key != ("E_coarse" if stage == "fine" else "E_fine")]
            now = first if k == 1 else gradients(stage, graph, p, data, meta, trained)
            for key in trained:
                grad = now[key]
                grad = np.clip(grad, -clip, clip)
                mean[key] = 0.9 * mean.get(key, 0) + 0.1 * grad
                square[key] = 0.999 * square.get(key, 0) + 0.001 * grad**2
                root = np.sqrt(square[key]) / np.sqrt(1 - 0.999**k) + 1e-8
                p[key] = p[key] - lr / (1 - 0.9**k) * mean[key] / root
        out[f"{stage}_losses_3_adam_steps"] = np.array(before)
        out |= {f"{stage}_after3_{key}": value for key, value in p.items()}
        W_c = h @ np.linalg.pinv(h_c, rcond=max(h_c.shape) * 2.2e-16)
        if stage == "coarse":
            out["coarse_updated_S_coarse"] = keep_largest(W_c, t_coarse)
        else:
            W_f = h @ np.linalg.pinv(h_f, rcond=max(h_f.shape) * 2.2e-16)
            T = np.exp(W_c.T @ W_f - (W_c.T @ W_f).max(axis=1, keepdims=True))
            out["fine_updated_S_fine"] = keep_largest(T / T.sum(axis=1, keepdims=True), t_fine)
            out |= {"fine_soft_thresholded": F, "fine_bridged_coarse": E_hat}
        b = data["bias_user_item"]
        scores = h[:n_users] @ h[n_users:].T + b[:n_users, None] + b[n_users:] + data["bias_global"]
        out[f"{stage}_scores"] = scores
        if stage == "coarse":
            out |= evaluation(rng, scores, R, ks, length)
    return out


def evaluation(rng, scores, R, ks, length):
    """Masked items come last, as in a ranking that gives them minus infinity."""
    relevant = (R == 0) & (rng.random(R.shape) < 0.4)
    relevant[0, np.flatnonzero(R[0] == 0)[:1]] = True
    order = np.argsort(-np.where(R != 0, -np.inf, scores), axis=1, kind="stable")
    out = {"metric_relevant": relevant.astype(np.int8), "metric_topk": order[:, :length]}
    for k in ks:
        ndcg, recall = [], []
        for user in np.flatnonzero(relevant.any(axis=1)):
            hits = relevant[user, order[user, :k]]
            discount = 1 / np.log2(np.arange(2, k + 2))
            ideal = discount[: min(k, relevant[user].sum())].sum()
            ndcg.append((hits * discount[: len(hits)]).sum() / ideal)
            recall.append(hits.sum() / relevant[user].sum())
        out |= {f"metric_ndcg_{k}": np.mean(ndcg), f"metric_recall_{k}": np.mean(recall)}
    return out
