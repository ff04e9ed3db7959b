"""Reference files of any size and setting, from the dense model that shares no code with what is compared."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np

from c2f_np.verification import reference as dense

TRAINED = ("E_coarse", "E_fine", "bias", "bias_global")
#: The files call the biases by another name.
NAMED = {"bias": "bias_user_item"}


def gradients(stage, p, A, batch, s):
    """By everything that either stage trains; in the coarse one nothing sees the fine codebook."""
    names = [name for name in TRAINED if (stage, name) != ("coarse", "E_fine")]
    return {"E_fine": np.zeros_like(p["E_fine"])} | dense.gradients(stage, p, A, batch, s, names)[0]


def reference(rng, *, n_users=4, n_items=6, dim=2, n_coarse=4, n_fine=3, t_coarse=2, t_fine=2, n_layers=2, gate=0.3,
              threshold=0.5, batch=12, ks=(1, 4), length=5, lr=0.01, clip=3.0, density=0.4, negative=False,
              **changed) -> dict:  # fmt: skip
    """Every quantity of a random problem. `negative`: assignments with negative weights, whose rows sum to 1."""
    meta = dict(n_users=n_users, n_items=n_items, dim=dim, n_coarse=n_coarse, n_fine=n_fine, t_coarse=t_coarse,
                t_fine=t_fine, n_layers=n_layers, gate=gate, threshold=threshold, l2_penalty_factor=5, decay=1e-4,
                lr=lr, clip=clip)  # fmt: skip
    s = SimpleNamespace(**meta, l2=5, max_grad_value=clip, degree="signed", composition="coarse", layer_bridge="raw",
                        renormalise_fine=False)  # fmt: skip
    n = n_users + n_items
    R = (rng.random((n_users, n_items)) < density).astype(float)
    S_c = dense.keep_largest(rng.random((n, n_coarse)) + 0.1, t_coarse)
    S_f = dense.keep_largest(rng.random((n_coarse, n_fine)) + 0.1, t_fine)
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
    out = dict(data, meta=json.dumps(meta))
    out["norm_adj"] = A = dense.adjacency(data["interactions"])
    p0 = {name: data[NAMED.get(name, name)] for name in (*TRAINED, "S_coarse", "S_fine")}
    triples = (data["batch_user"], data["batch_pos"] + n_users, data["batch_neg"] + n_users)
    for stage in ("coarse", "fine"):
        make_graph, embed, trained = dense.MODELS[stage]
        graph = make_graph(A, p0, s)
        Z, H = embed(p0, graph, s)
        # The files' coarse stage has fine nodes without edges.
        whole, nodes = np.zeros((n + n_coarse + n_fine,) * 2), np.zeros((n + n_coarse + n_fine, dim))
        whole[: len(graph), : len(graph)], nodes[: len(H)] = graph, H
        h, h_c, h_f = np.split(nodes, [n, n + n_coarse])
        names = ("expanded_graph", "ego", "h_entities", "h_coarse_nodes", "h_fine_nodes")
        out |= {f"{stage}_{key}": value for key, value in zip(names, (whole, Z, h, h_c, h_f), strict=True)}
        moments = {name: (np.zeros_like(p0[name]), np.zeros_like(p0[name])) for name in trained}
        p, before = p0, []
        for k in (1, 2, 3):
            step = dense.train_step(stage, p, A, triples, s, moments, k, lr, update=k == 1)
            bpr, penalty = step["losses"]
            before.append(bpr + s.decay * penalty)
            if k == 1:
                out |= {f"{stage}_bpr_loss": bpr, f"{stage}_reg_loss": penalty, f"{stage}_total_loss": before[0]}
                updated = "S_coarse" if stage == "coarse" else "S_fine"
                out[f"{stage}_updated_{updated}"] = step["p"][updated]
            # The files' three steps leave the assignments as they are.
            p, moments = step["p"] | {name: p0[name] for name in ("S_coarse", "S_fine")}, step["moments"]
        slopes = gradients(stage, p0, A, triples, s)
        out |= {f"{stage}_grad_{NAMED.get(key, key)}": value for key, value in slopes.items()}
        out[f"{stage}_losses_3_adam_steps"] = np.array(before)
        out |= {f"{stage}_after3_{NAMED.get(key, key)}": p[key] for key in TRAINED}
        if stage == "fine":
            F = dense.soft_threshold(p0["E_fine"], threshold)
            out |= {"fine_soft_thresholded": F, "fine_bridged_coarse": dense.bridge(p0, F, s)}
        b = p0["bias"]
        out[f"{stage}_scores"] = h[:n_users] @ h[n_users:].T + b[:n_users, None] + b[n_users:] + p0["bias_global"]
        if stage == "coarse":
            out |= evaluation(rng, out["coarse_scores"], data["interactions"], ks, length)
    return out


def evaluation(rng, scores, R, ks, length):
    """Masked items come last, as in a ranking that gives them minus infinity."""
    relevant = (R == 0) & (rng.random(R.shape) < 0.4)
    relevant[0, np.flatnonzero(R[0] == 0)[:1]] = True
    order = np.argsort(-np.where(R != 0, -np.inf, scores), axis=1, kind="stable")
    out = {"metric_relevant": relevant.astype(np.int8), "metric_topk": order[:, :length]}
    for k in ks:
        recall = [relevant[u, order[u, :k]].sum() / relevant[u].sum() for u in np.flatnonzero(relevant.any(axis=1))]
        ndcg = dense.ndcg(scores, R != 0, relevant, k)
        out |= {f"metric_ndcg_{k}": ndcg, f"metric_recall_{k}": np.mean(recall)}
    return out
