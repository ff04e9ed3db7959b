"""Right answers to the exercises, written otherwise than the solutions: by loops, dense matrices, other names, other tools."""

from __future__ import annotations

import dataclasses
import types

import numpy as np
import scipy.linalg
import scipy.sparse as sparse
import scipy.special
import scipy.stats
from sklearn.metrics import adjusted_rand_score

from c2f_np.course import all_exercises
from c2f_np.course.find_the_bug import Batch, example, gaps, update_passes
from c2f_np.course.loss_and_optimiser import bpr_loss
from c2f_np.gradcheck import check_convention, check_gradients

TASKS = all_exercises()


def typed(function):
    """The same text, as a reader would have typed it."""

    def elsewhere(code):
        parts = (elsewhere(part) if isinstance(part, types.CodeType) else part for part in code.co_consts)
        return code.replace(co_filename="typed by a reader", co_consts=tuple(parts))

    return types.FunctionType(elsewhere(function.__code__), function.__globals__, function.__name__, function.__defaults__)


# ---- data and graph --------------------------------------------------------------------------------------------------
def blocks(R):
    R = R.toarray()
    n = sum(R.shape)
    A_0 = np.zeros((n, n))
    A_0[: len(R), len(R) :] = R
    A_0 += A_0.T
    with np.errstate(divide="ignore"):
        root = 1 / np.sqrt(A_0.sum(0))
    root[np.isinf(root)] = 0
    return np.diag(root) @ A_0 @ np.diag(root)


def edge_by_edge(R):
    n_users, n_items = R.shape
    A = np.zeros((n_users + n_items, n_users + n_items))
    of_users, of_items = R.sum(axis=1), R.sum(axis=0)
    for u, i in zip(*R.nonzero(), strict=True):
        A[u, n_users + i] = A[n_users + i, u] = (of_users[u] * of_items[i]) ** -0.5
    return A


def block_of_the_cube(R):
    return np.linalg.matrix_power(edge_by_edge(R), 3)[: R.shape[0], R.shape[0] :]


def degrees_by_counting(R):
    return np.ones((R.shape[0], 1)) * np.bincount(R.indices, minlength=R.shape[1])


def sorted_pairs(scores, known, n):
    return [i for _, i in sorted((-s, i) for i, s in enumerate(scores) if not known[i])][:n]


def of_the_unknown(scores, known, n):
    candidates = np.flatnonzero(~known)
    return candidates[np.argsort(-scores[candidates], kind="stable")[:n]]


def recall_by_sets(recommended, held_out):
    return len({*recommended.tolist()} & {*held_out.tolist()}) / held_out.size


def ndcg_in_a_loop(recommended, held_out, n):
    found = best = 0.0
    for place, item in enumerate(list(recommended)[:n], 1):
        found += (item in set(held_out.tolist())) / np.log(place + 1)
        best += (place <= len(held_out)) / np.log(place + 1)
    return found / best


def user_by_user(scores, R, test, n):
    R, test = R.toarray(), test.toarray()
    lists = [(sorted_pairs(scores[u], R[u] > 0, n), np.flatnonzero(test[u])) for u in range(len(R)) if test[u].any()]
    return sum(ndcg_in_a_loop(best, held_out, n) for best, held_out in lists) / len(lists)


# ---- gradient checks -------------------------------------------------------------------------------------------------
def flattened(f, x, h):
    """Steps along the rows of an identity matrix."""
    units = np.eye(x.size).reshape(x.size, *x.shape)
    return np.array([(f(x + h * e) - f(x - h * e)) / h / 2 for e in units]).reshape(x.shape)


def moved_and_put_back(f, x, h):
    x, gradient = np.array(x), np.empty(x.shape)
    for k, old in np.ndenumerate(x):
        x[k] = old + h
        above = f(x)
        x[k] = old - h
        gradient[k] = (above - f(x)) / (2 * h)
        x[k] = old
    return gradient


def gap_by_extrapolation(loss, gradient, x):
    """Another measurement: Richardson's extrapolation of two steps."""
    rough, fine = (moved_and_put_back(loss, x, h) for h in (2e-3, 1e-3))
    measured = (4 * fine - rough) / 3
    return np.sqrt(np.sum((measured - gradient(x)) ** 2) / np.sum(measured**2))


def gap_with_another_step(f, g, point):
    measured = flattened(f, point, 3e-6)
    return squares_by_hand(g(point), measured)


def gap_by_vdot(T, T_transposed, a, b):
    return abs(np.vdot(T(a), b) - np.vdot(a, T_transposed(b))) / np.sqrt(np.vdot(T(a), T(a)) * np.vdot(b, b))


def squares_by_hand(found, right):
    return (((found - right) ** 2).sum() / (right**2).sum()) ** 0.5


def in_terms_of_cosh(G, A, B):
    inner = G / np.cosh(A @ B) ** 2
    return np.einsum("ik,jk->ij", inner, B), np.einsum("ij,ik->jk", A, inner)


def padded(g, x):
    return np.concatenate([[0.0], g]) - np.concatenate([g, [0.0]])


def by_the_matrix(g, x):
    return np.diff(np.eye(len(x)), axis=0).T @ g


# ---- propagation -----------------------------------------------------------------------------------------------------
def dense_product(grad_Y, M, X):
    return np.einsum("if,ij->jf", grad_Y, M.toarray())


def weights_entry_by_entry(grad_Y, M, X, factor=1.0):
    coo = M.tocoo()
    values = [factor * (grad_Y[i] @ X[j]) for i, j in zip(coo.row, coo.col, strict=True)]
    return sparse.csr_array((values, (coo.row, coo.col)), shape=M.shape)


def weights_as_a_vector(grad_Y, M, X):
    coo = M.tocoo()
    return np.einsum("kf,kf->k", grad_Y[coo.row], X[coo.col])


def weights_dense(grad_Y, M, X):
    return np.where(M.toarray() != 0, grad_Y @ X.T, 0.0)


def forward_of_the_transpose(grad_H, X0, X_hat, n_layers):
    """The forward's loop, with the transpose in place of the graph."""
    layers = [grad_H]
    while len(layers) <= n_layers:
        layers.append(X_hat.T @ layers[-1])
    return sum(layers) / len(layers)


def polynomial(M, coefficients):
    M = M.toarray()
    return sum(c * np.linalg.matrix_power(M, k) for k, c in enumerate(coefficients))


def transposed_polynomial(grad_H, X0, X_hat, n_layers):
    return polynomial(X_hat, [1 / (n_layers + 1)] * (n_layers + 1)).T @ grad_H


def selection_matrix(grad_H_rows, X0, X_hat, n_layers, rows):
    selection = np.eye(len(X0))[rows]
    return transposed_polynomial(selection.T @ grad_H_rows, X0, X_hat, n_layers)


def powers_of_the_matrix(grad_H, X0, X_hat, alpha):
    powers = [polynomial(X_hat, [0] * k + [1]) for k in range(len(alpha))]
    return polynomial(X_hat, alpha).T @ grad_H, np.array([np.sum(grad_H * (power @ X0)) for power in powers])


# ---- soft threshold --------------------------------------------------------------------------------------------------
def product_with_a_mask(grad_F, E, tau):
    return grad_F * ((E > tau) | (E < -tau))


def where_something_is_left(grad_F, E, tau):
    return grad_F * np.abs(np.sign(np.maximum(np.abs(E) - tau, 0)))


def threshold_entry_by_entry(grad_F, E, tau):
    total = 0.0
    for g, e in zip(grad_F.ravel(), E.ravel(), strict=True):
        total += -g if e > tau else g if e < -tau else 0.0
    return total


def column_by_column(grad_F, E, tau):
    columns = range(E.shape[1])
    masked = np.stack([product_with_a_mask(grad_F[:, f], E[:, f], tau[f]) for f in columns], axis=1)
    return masked, np.array([threshold_entry_by_entry(grad_F[:, f], E[:, f], tau[f]) for f in columns])


def elastic_by_cases(e, tau, rho):
    return np.where(e > tau, (e - tau) / (1 + rho), np.where(e < -tau, (e + tau) / (1 + rho), 0.0))


# ---- composition -----------------------------------------------------------------------------------------------------
def slope_from_cosh(grad_Z, S, E):
    return np.einsum("ij,if->jf", S.toarray(), grad_Z / np.cosh(S @ E) ** 2)


def stacked(grad_X0, S, E):
    slopes = np.concatenate([1 - np.tanh(S @ E) ** 2, np.ones_like(E)])
    return np.concatenate([S.toarray(), np.eye(len(E))]).T @ (grad_X0 * slopes)


def bridge_by_columns(grad_E_hat, S_fine, F, E_coarse, gate):
    return grad_E_hat - gate * grad_E_hat, (gate * S_fine.toarray()).T @ grad_E_hat


def layer_backward_multiplied_out(grad_next, X, X_hat, S_coarse, S_fine, gate):
    """h <- h + S_c ((2g - 1) S_f q - g p),  p <- (1 - g) p + (2g - 1) S_f q."""
    n, c = S_coarse.shape
    G_h, G_p, G_q = np.split(grad_next, [n, n + c])
    a = S_coarse.toarray().T @ G_h
    to_q = S_fine.toarray().T @ (a + G_p)
    return X_hat.toarray().T @ np.vstack([G_h, (1 - gate) * G_p - gate * a, G_q + (2 * gate - 1) * to_q])


def transposed(layer):
    """The matrix of a linear layer is what it makes of each unit vector."""

    def backward(grad_next, X, X_hat, S_coarse, S_fine, gate):
        return layer(np.eye(X_hat.shape[0]), X_hat, S_coarse, S_fine, gate).T @ grad_next

    return backward


# ---- loss ------------------------------------------------------------------------------------------------------------
def softplus_by_logaddexp(values):
    return np.logaddexp(0.0, values)


def softplus_one_by_one(values):
    found = [np.log1p(np.exp(y)) if y < 0 else y + np.log1p(np.exp(-y)) for y in values.ravel()]
    return np.array(found).reshape(values.shape)


def sigmoid_by_tanh(values):
    return 0.5 * (1 + np.tanh(values / 2))


def gather_by_one_hot(arrived, numbers, how_many):
    return np.eye(how_many)[numbers].T @ arrived


def gather_in_a_loop(arrived, numbers, how_many):
    found = np.zeros((how_many,) + arrived.shape[1:])
    for row, values in zip(numbers.tolist(), arrived, strict=True):
        found[row] += values
    return found


def bpr_with_matrices(G, emb, b, u, i, j):
    """Other names; one-hot matrices instead of np.add.at; the slope by tanh."""
    n = len(emb)
    one_hot_u, one_hot_i, one_hot_j = (np.eye(n)[rows] for rows in (u, i, j))
    difference = one_hot_j - one_hot_i
    x = np.sum((one_hot_u @ emb) * (difference @ emb), axis=1) + difference @ b
    s = G * (1 + np.tanh(x / 2)) / 2 / len(u)
    rows = s[:, None] * np.concatenate([difference @ emb, one_hot_u @ emb], axis=1)
    width = emb.shape[1]
    return one_hot_u.T @ rows[:, :width] + difference.T @ rows[:, width:], difference.T @ s


def penalty_in_a_loop(G, Z, first, second, third, strength):
    grad = np.zeros_like(Z)
    for triple in zip(first, second, third, strict=True):
        for e in triple:
            grad[e] = grad[e] + G * 2 * strength * Z[e] / len(first)
    return grad


def draw_with_rejection(R, rng):
    """Try again, whoever is wrong; users first shuffled out of those who can be drawn."""
    n_users, n_items = R.shape
    has = R.toarray() > 0
    usable = [u for u in range(n_users) if 0 < has[u].sum() < n_items]
    user = np.array(usable)[rng.integers(0, len(usable), R.nnz)]
    positive, negative = rng.integers(0, n_items, (2, R.nnz))
    while not (fine := has[user, positive]).all():
        positive[~fine] = rng.integers(0, n_items, np.sum(~fine))
    while (taken := has[user, negative]).any():
        negative[taken] = rng.integers(0, n_items, np.sum(taken))
    return user, positive + n_users, negative + n_users


def draw_one_by_one(R, rng):
    """A triple at a time; a user who cannot be drawn is passed over, so that there are fewer."""
    n_users, n_items = R.shape
    has = [set(each.tolist()) for each in np.split(R.indices, R.indptr[1:-1])]
    hers, others = [sorted(items) for items in has], [sorted(set(range(n_items)) - items) for items in has]
    triples = []
    for u in rng.integers(n_users, size=R.nnz).tolist():
        if hers[u] and others[u]:
            i, j = (int(len(items) * rng.random()) for items in (hers[u], others[u]))
            triples.append((u, n_users + hers[u][i], n_users + others[u][j]))
    return tuple(np.array(triples).T)


def adam_rearranged(w, grad, mean, square, k, lr):
    mean = mean + 0.1 * (grad - mean)
    square = square + 0.001 * (grad**2 - square)
    step = lr / (1 - 0.9**k) * mean / (np.sqrt(square) / np.sqrt(1 - 0.999**k) + 1e-8)
    return [w - step, mean, square]


def loop_over_lists(loss_and_gradients):
    """A loop that keeps everything in lists, steps counted by hand."""

    def train(parameters, batches, rate):
        theta = [np.array(p) for p in parameters]
        m, v, k, found = [0.0, 0.0], [0.0, 0.0], 0, np.zeros(len(batches))
        while k < len(batches):
            found[k], *gradients = loss_and_gradients(*theta, batches[k])
            k += 1
            for part, gradient in enumerate(gradients):
                theta[part], m[part], v[part] = adam_rearranged(theta[part], gradient, m[part], v[part], k, rate)
        return theta[0], theta[1], found

    return train


def table_by_the_loop(H, b, batches, rate):
    return loop_over_lists(lambda H, b, B: (bpr_loss(H, b, *B), *bpr_with_matrices(1.0, H, b, *B)))((H, b), batches, rate)


# ---- coarse stage ----------------------------------------------------------------------------------------------------
def forward_by_a_polynomial(E, S, graph, depth):
    ego = np.tanh(S.toarray() @ E)
    return ego, polynomial(graph, [1 / (depth + 1)] * (depth + 1)) @ np.vstack([ego, E])


def loss_to_all_rows(H, b, u, i, j):
    """BPR with biases of coarse nodes that are 0: nothing arrives at their rows by itself."""
    padded_b = np.concatenate([b, np.zeros(len(H) - len(b))])
    grad_H, grad_b = bpr_with_matrices(1.0, H, padded_b, u, i, j)
    return grad_H, grad_b[: len(b)]


def fork_by_split(G, upper, lower):
    return np.split(G, [len(upper)])


def penalty_joined(G, Z, u, i, j, strength):
    return penalty_in_a_loop(1.0, Z, u, i, j, strength) + G


def codebook_by_einsum(at_Z, at_E, S, E):
    return at_E + slope_from_cosh(at_Z, S, E)


def gradients_with_dense_powers(E, b, S, graph, depth, u, i, j, strength):
    """The propagation as one dense matrix, the three paths apart."""
    n = len(b)
    Z, H = forward_by_a_polynomial(E, S, graph, depth)
    P, S = polynomial(graph, [1 / (depth + 1)] * (depth + 1)), S.toarray()
    at_H, at_b = bpr_with_matrices(1.0, H[:n], b, u, i, j)
    sech2 = 1 / np.cosh(S @ E) ** 2
    through_graph = S.T @ (sech2 * (P[:n, :n].T @ at_H))
    through_penalty = S.T @ (sech2 * penalty_in_a_loop(1.0, Z, u, i, j, strength))
    x = np.sum(H[u] * (H[i] - H[j]), axis=1) + b[i] - b[j]
    loss = np.logaddexp(0, -x).mean() + strength / len(u) * sum((Z[rows] ** 2).sum() for rows in (u, i, j))
    return [loss, through_graph + through_penalty + P[:n, n:].T @ at_H, at_b]


def coarse_by_the_loop(E, b, S, graph, depth, batches, strength, rate):
    return loop_over_lists(lambda E, b, B: gradients_with_dense_powers(E, b, S, graph, depth, *B, strength))(
        (E, b), batches, rate
    )


def assignment_by_lstsq(targets, rows, kept):
    """Least squares by SciPy, entries chosen one after the other; a sparse result is as good."""
    W = scipy.linalg.lstsq(rows.T, targets.T)[0].T
    found = np.zeros_like(W)
    for i, weights in enumerate(W):
        for j in np.argpartition(-weights, kept - 1)[:kept]:
            found[i, j] = weights[j]
    return found


# ---- fine stage ------------------------------------------------------------------------------------------------------
def one_bridged_layer(X_hat, S_c, S_f, g):
    """The layer as a dense matrix: X_hat and what the exchange adds to the entities' rows."""
    S_c, S_f, T = S_c.toarray(), S_f.toarray(), X_hat.toarray()
    n, c = S_c.shape
    Q = T[:n, n : n + c].copy()
    T[:n, n : n + c] -= g * Q
    T[:n, n + c :] += g * Q @ S_f
    return sparse.csr_array(T)


def fine_forward_densely(Ef, Ec, Sc, Sf, X_hat, threshold, share, depth):
    F = Ef - np.clip(Ef, -threshold, threshold)
    rows = share * Sf.toarray() @ F + (1 - share) * Ec
    X0 = np.vstack([np.tanh(Sc.toarray() @ rows), rows, np.tanh(F)])
    return X0[: Sc.shape[0]], polynomial(one_bridged_layer(X_hat, Sc, Sf, share), [1 / (depth + 1)] * (depth + 1)) @ X0


def layers_by_the_dense_transpose(G, X0, X_hat, Sc, Sf, share, depth):
    return polynomial(one_bridged_layer(X_hat, Sc, Sf, share), [1 / (depth + 1)] * (depth + 1)).T @ G


def fine_codebook_by_cosh(G_rows, G_fine, Ef, Sf, threshold, share):
    F = np.sign(Ef) * np.maximum(np.abs(Ef) - threshold, 0)
    return (share * Sf.toarray().T @ G_rows + G_fine * np.cosh(F) ** -2.0) * (F != 0)


def fine_gradients_path_by_path(Ef, b, Ec, Sc, Sf, X_hat, threshold, share, depth, u, i, j, strength):
    """One dense matrix for all layers; the four paths apart."""
    n, c = Sc.shape
    P = polynomial(one_bridged_layer(X_hat, Sc, Sf, share), [1 / (depth + 1)] * (depth + 1))[:n]
    Z, H = fine_forward_densely(Ef, Ec, Sc, Sf, X_hat, threshold, share, depth)
    H = H[:n]
    G, at_b = bpr_with_matrices(1.0, H, b, u, i, j)
    penalised = penalty_in_a_loop(1.0, Z, u, i, j, strength)
    to_rows, none = Sc.toarray().T, np.zeros_like(Ef)
    F = Ef - np.clip(Ef, -threshold, threshold)
    slope = np.cosh(Sc @ (share * Sf @ F + (1 - share) * Ec)) ** -2.0
    bridged = [P[:, n : n + c].T @ G, to_rows @ (slope * (P[:, :n].T @ G)), to_rows @ (slope * penalised)]
    paths = [fine_codebook_by_cosh(path, none, Ef, Sf, threshold, share) for path in bridged]
    paths.append(fine_codebook_by_cosh(0 * Ec, P[:, n + c :].T @ G, Ef, Sf, threshold, share))
    x = np.sum(H[u] * (H[j] - H[i]), axis=1) + b[j] - b[i]
    loss = np.logaddexp(0, x).mean() + strength * sum(np.sum(Z[rows] ** 2) for rows in (u, i, j)) / len(u)
    return float(loss), sum(paths), at_b


def train_fine_in_one_vector(Ef, b, Ec, Sc, Sf, X_hat, threshold, share, depth, batches, strength, rate):
    """E_f and b in one vector with one m and one v."""
    theta = np.concatenate([Ef.ravel(), b])
    m, v, losses = np.zeros((2, theta.size)), None, np.zeros(len(batches))
    for k, batch in enumerate(batches):
        fine, bias = theta[: Ef.size].reshape(Ef.shape), theta[Ef.size :]
        found = fine_gradients_path_by_path(fine, bias, Ec, Sc, Sf, X_hat, threshold, share, depth, *batch, strength)
        losses[k], v = found[0], np.concatenate([found[1].ravel(), found[2]])
        m = np.array([0.9 * m[0] + 0.1 * v, 0.999 * m[1] + 0.001 * v * v])
        theta = theta - rate * m[0] / (1 - 0.9 ** (k + 1)) / (np.sqrt(m[1] / (1 - 0.999 ** (k + 1))) + 1e-8)
    return theta[: Ef.size].reshape(Ef.shape), theta[Ef.size :], losses


def fine_assignment_row_by_row(entities, coarse, fine, kept):
    affinity = np.linalg.pinv(coarse).T @ (entities.T @ entities) @ np.linalg.pinv(fine)
    found = np.zeros_like(affinity)
    for row, result in zip(affinity, found, strict=True):
        values = scipy.special.softmax(row)
        chosen = np.argsort(-row)[:kept]
        result[chosen] = values[chosen]
    return sparse.csr_array(found)


# ---- collapse --------------------------------------------------------------------------------------------------------
def backward_by_loops(g, codebook, constant, first, second):
    result = np.zeros(codebook.shape)
    for entity in range(len(g)):
        for row in range(len(codebook)):
            result[row] += first[entity, row] * g[entity] + second[entity, row] * g[entity] / np.cosh(codebook[row]) ** 2
    return result


def count_as_one_expression(nnz, R, M, d, L):
    return [L * nnz * d + L * nnz * d, 4 * M * d * R, L * (nnz * M + nnz * M + nnz * d)]


def collapse_by_the_dense_matrix(Z, Ec, X_hat, Sc, Sf, share, depth):
    """The blocks of the propagation's matrix."""
    n, c = Sc.shape
    P = polynomial(one_bridged_layer(X_hat, Sc, Sf, share), [1 / (depth + 1)] * (depth + 1))[:n]
    at_rows = P[:, n : n + c]
    return P[:, :n] @ Z + at_rows @ Ec - share * at_rows @ Ec, share * at_rows @ Sf.toarray(), P[:, n + c :]


def collapse_by_columns(P, S_c, E_c, S_f, g):
    """Whatever is linear can be read off by putting units in."""

    def start(F, E):
        E_hat = g * S_f @ F + (1 - g) * E
        return np.concatenate([S_c @ E_hat, E_hat, np.zeros((S_f.shape[1], F.shape[1]))])

    m = S_f.shape[1]
    W1 = P @ start(np.eye(m), np.zeros((len(E_c), m)))
    W2 = P @ np.concatenate([np.zeros((P.shape[1] - m, m)), np.eye(m)])
    return P @ start(np.zeros((m, E_c.shape[1])), E_c), W1, W2


# ---- joint model -----------------------------------------------------------------------------------------------------
def joint_by_one_codebook(m, A, depth):
    """[E_hat; F] as one codebook and [S_c, S_d] as one assignment; layers as a dense polynomial."""
    F = np.sign(m["E_f"]) * np.maximum(np.abs(m["E_f"]) - m["tau"], 0)
    E_hat = m["E_c"] + m["g"] * (m["S_f"].toarray() @ F - m["E_c"])
    Z = np.tanh(sparse.hstack([m["S_c"], m["S_d"]]).toarray() @ np.concatenate([E_hat, F]))
    return Z, polynomial(A, [1 / (depth + 1)] * (depth + 1)) @ Z


def codebooks_by_the_product(G, m):
    """E_f reaches Y by one matrix: S_d + g S_c S_f."""
    S_c, S_f, S_d = (m[name].toarray() for name in ("S_c", "S_f", "S_d"))
    outside = (m["E_f"] > m["tau"]) | (m["E_f"] < -m["tau"])
    return [(S_c.T @ G) * (1 - m["g"]), ((S_d + m["g"] * S_c @ S_f).T @ G) * outside]


def links_by_coordinates(G, S, E):
    coo = S.tocoo()
    return [float(G[i] @ E[j]) for i, j in zip(coo.row, coo.col, strict=True)]


def moved_into_the_coarse_codebook(E, F, S, share):
    return (share * S.toarray() @ F + (1 - share) * E) / (1 - share)


def to_Y_with_dense_powers(m, A, batch, depth, strength):
    """The loss with one-hot matrices, the layers as one dense matrix."""
    P = polynomial(A, [1 / (depth + 1)] * (depth + 1))
    Z, H = joint_by_one_codebook(m, A, depth)
    u, i, j = (np.eye(len(Z))[rows] for rows in batch)
    x = np.sum((u @ H) * ((j - i) @ H), axis=1) + (j - i) @ m["b"]
    s = (0.5 + 0.5 * np.tanh(x / 2))[:, None] / len(x)
    G = P.T @ (u.T @ (s * ((j - i) @ H)) + (j - i).T @ (s * (u @ H)))
    G = G + 2 * strength / len(x) * (u + i + j).sum(axis=0)[:, None] * Z
    return G - G * Z * Z, ((j - i).T @ s)[:, 0]


def gradients_as_numbers(m, A, batch, depth, strength):
    G, at_b = to_Y_with_dense_powers(m, A, batch, depth, strength)
    at_E, at_F = codebooks_by_the_product(G, m)
    F = m["E_f"] - np.clip(m["E_f"], -m["tau"], m["tau"])
    E_hat = m["g"] * (m["S_f"] @ F) + (1 - m["g"]) * m["E_c"]
    return {
        "b": at_b, "S_d": links_by_coordinates(G, m["S_d"], F), "S_c": links_by_coordinates(G, m["S_c"], E_hat), "E_f": at_F,
        "E_c": at_E,
    }  # fmt: skip


def pursue_by_squares(Y, E, t):
    """Every candidate tried: the row that leaves the smallest square joins."""
    W = np.zeros((len(Y), len(E)))
    for k, y in enumerate(Y):
        taken, left = [], y
        for _ in range(t):
            leaves = [np.inf if j in taken else left @ left - (left @ E[j]) ** 2 / (E[j] @ E[j]) for j in range(len(E))]
            taken = [*taken, int(np.argmin(leaves))]
            weights = scipy.linalg.lstsq(E[taken].T, y)[0]
            left = y - weights @ E[taken]
        W[k, taken] = weights
    return W


def train_with_lists(m, A, batches, depth, strength, rate, names):
    """Moments in arrays side by side, Adam as one formula."""

    def numbers(part):
        return part.data.copy() if sparse.issparse(part) else part.copy()

    now = {name: numbers(m[name]) for name in names}
    mean, square = ({name: np.zeros_like(values) for name, values in now.items()} for _ in range(2))
    losses = np.zeros(len(batches))
    for k, batch in enumerate(batches):
        here = dict(m)
        for name, values in now.items():
            here[name] = m[name].copy() if sparse.issparse(m[name]) else values
            if sparse.issparse(m[name]):
                here[name].data = values.copy()
        Z, H = joint_by_one_codebook(here, A, depth)
        u, i, j = batch
        x = np.einsum("bf,bf->b", H[u], H[j] - H[i]) + here["b"][j] - here["b"][i]
        losses[k] = np.logaddexp(0, x).mean() + strength * sum(np.sum(Z[rows] ** 2) for rows in batch) / len(u)
        found = gradients_as_numbers(here, A, batch, depth, strength)
        for name in names:
            g = np.asarray(found[name])
            mean[name] = mean[name] + 0.1 * (g - mean[name])
            square[name] = square[name] + 0.001 * (g * g - square[name])
            root = np.sqrt(square[name] / (1 - 0.999 ** (k + 1)))
            now[name] = now[name] - rate / (1 - 0.9 ** (k + 1)) * mean[name] / (root + 1e-8)
    result = dict(m)
    for name, values in now.items():
        old = m[name]
        result[name] = sparse.csr_array((values, old.indices, old.indptr), old.shape) if sparse.issparse(old) else values
    return {"losses": losses, **result}


# ---- experiments -----------------------------------------------------------------------------------------------------
def size_by_types(N, C, M, d, t, f):
    one = [np.min_scalar_type(rows - 1).itemsize for rows in (C, M)]
    return 4 * (d * (C + M) + N * t + C * f + N + 1) + one[0] * N * t + one[1] * C * f


def frontier_by_loops(sizes, qualities):
    def beats(j, i):
        return sizes[j] <= sizes[i] and qualities[j] >= qualities[i] and (sizes[j], qualities[j]) != (sizes[i], qualities[i])

    every = range(len(sizes))
    return [not any(beats(j, i) for j in every) for i in every]


def rand_by_pairs(labels, truth):
    n = len(labels)
    ours, theirs = (np.equal.outer(x, x)[np.triu_indices(n, 1)] for x in (labels, truth))
    chance = ours.sum() * theirs.sum() / len(ours)
    return ((ours & theirs).sum() - chance) / ((ours.sum() + theirs.sum()) / 2 - chance)


def ndcg_twice_by_loop(scores, train, validation, held_out, n):
    def value(left_out):
        free = sorted((i for i in range(len(scores)) if not left_out[i]), key=lambda i: -scores[i])
        gain = sum(1 / np.log2(place + 2) for place, i in enumerate(free[:n]) if i in held_out)
        return gain / sum(1 / np.log2(place + 2) for place in range(min(n, len(held_out))))

    return value(np.logical_or(train, validation)), value(train)


def interval_of_scipy(ours, theirs):
    found = scipy.stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    return [(found.low + found.high) / 2, found.low, found.high]


def gradient_by_loop(g, b, x, users, winners, losers):
    result = np.zeros(len(b))
    for value, i, j in zip(x, winners, losers, strict=True):
        s = g / len(x) * (0.5 + 0.5 * np.tanh((value + b[j] - b[i]) / 2))
        result[j] += s
        result[i] -= s
    return result


def gradient_by_bincount(g, b, x, users, winners, losers):
    s = g / x.size / (1 + np.exp(b[winners] - b[losers] - x))
    return np.bincount(losers, s, len(b)) - np.bincount(winners, s, len(b))


# ---- find the bug ----------------------------------------------------------------------------------------------------
def slopes_along_directions(step):
    """Directional differences at a point with everything in it, drawn otherwise."""
    case, theta, batch = example(3)
    case, rng = dataclasses.replace(case, tau=1.3, decay=0.3, n_layers=3), np.random.default_rng(1)
    theta = {name: 6 * value * rng.choice([-1, 1], value.shape) for name, value in theta.items()}
    u, i, j = batch
    batch = Batch(u[[1, 1, 2, 1]], np.array([i[0], i[0], j[0], i[1]]), np.array([j[1], j[0], i[0], j[1]]))
    grads = step.gradients(theta, case, batch)
    for name in theta:
        for _ in range(3):
            v, h = rng.standard_normal(theta[name].shape), 1e-6
            up, down = (step.loss({**theta, name: theta[name] + s * v}, case, batch) for s in (h, -h))
            if abs((up - down) / (2 * h) - np.sum(v * grads[name])) > 1e-6 * np.linalg.norm(v) * np.linalg.norm(grads[name]):
                return False
    return True


def both_as_matrices(step):
    M = np.triu(np.arange(1.0, 17).reshape(4, 4))
    forward, backward = step.propagate(np.eye(4), M, 2), step.propagate_backward(np.eye(4), M, 2)
    return bool(np.allclose(forward.T, backward))


def three_cases_in_turn(step):
    cases = [dataclasses.replace(case, S_c=case.S_c * factor) for case, _, _ in (example(0),) for factor in (1.0, 0.2, 3.0)]
    _, theta, batch = example(0)
    used = step.fresh()
    for case in (*cases, cases[0]):
        new = step.fresh()
        for ask in ("loss", "gradients"):
            ours, right = (getattr(each, ask)(theta, case, batch) for each in (used, new))
            if str(ours) != str(right):
                return False
    return True


def triples_as_sets(step):
    R = sparse.csr_array(np.random.default_rng(8).random((60, 50)) < 0.1, dtype=float)
    pairs, rng = set(zip(*R.nonzero(), strict=True)), np.random.default_rng(9)
    epochs = [step.sample(R, rng) for _ in range(3)]
    for user, positive, negative in epochs:
        if not pairs.issuperset(zip(user, positive - 60, strict=True)) or pairs & set(zip(user, negative - 60, strict=True)):
            return False
    agree = sum(np.sum(a.negative == b.negative) for a, b in zip(epochs, epochs[1:], strict=False))
    return bool(agree < 0.15 * 2 * R.nnz)


def moments_as_sums(step):
    """Adam's moments as sums over all gradients so far."""
    rng, memory = np.random.default_rng(2), None
    theta, x, seen = {"a": np.ones(3)}, np.ones(3), []
    for k in range(1, 5):
        seen.append(rng.uniform(-2, 2, 3))
        theta, memory = step.update(theta, {"a": seen[-1]}, memory, 0.3)
        m = sum(0.1 * 0.9 ** (k - 1 - i) * g for i, g in enumerate(seen)) / (1 - 0.9**k)
        v = sum(0.001 * 0.999 ** (k - 1 - i) * g**2 for i, g in enumerate(seen)) / (1 - 0.999**k)
        x = x - 0.3 * m / np.sqrt(v)
        np.testing.assert_allclose(theta["a"], x, rtol=1e-6)
    return True


def from_the_last_check_to_the_first(step):
    """Gradients first, on steps that nobody has used."""

    def fails(scale=1.0, repeat=(0, 1, 2), signs=1, **changes):
        case, theta, batch = example(5)
        theta = {name: scale * value for name, value in theta.items()}
        theta["E_f"][1:] *= signs
        rows = [list(repeat)] * 3
        batch = Batch(*(part[each] for part, each in zip(batch, rows, strict=True)))
        found = gaps(step.fresh(), theta, dataclasses.replace(case, **changes), batch)
        return [name for name, gap in found.items() if gap > 1e-5]

    if (wrong := fails()) and three_cases_in_turn(step):
        return {"E_c": "fork", "b": "biases"}[wrong[0]]
    answers = {
        "penalty": lambda: fails(decay=1.0), "repeated rows": lambda: fails(repeat=(0, 0, 0)),
        "threshold": lambda: fails(tau=0.18, signs=-1), "clipping": lambda: fails(scale=12.0),
        "Adam": lambda: not update_passes(step), "sampling": lambda: not triples_as_sets(step),
        "graph": lambda: not three_cases_in_turn(step), "propagation": lambda: not both_as_matrices(step),
    }  # fmt: skip
    return next((name for name, found in answers.items() if found()), "nothing")


# ---- blind spots -----------------------------------------------------------------------------------------------------
def product_by_the_checker(product, backward):
    rng = np.random.default_rng(5)
    return all(
        check_gradients(
            lambda X, M=M: product(M, X),
            lambda G, X, M=M: backward(G, M),
            {"X": rng.standard_normal((5, 2))},
            linear_in="X",
            dtypes=("float64",),
        ).passed
        for M in (rng.standard_normal((3, 5)), rng.standard_normal((5, 5)))
    )


def product_by_units(product, backward):
    """One unit cotangent at a time, with assertions."""
    for n, m in ((3, 2), (3, 3)):
        M = np.arange(1.0, n * m + 1).reshape(n, m) ** 2
        for k in range(n):
            G = np.zeros((n, 1))
            G[k] = 1
            np.testing.assert_allclose(backward(G, M)[:, 0], M[k], rtol=1e-12)
    return True


def loss_by_the_checker(loss, backward):
    user, positive, negative = np.array([0, 0, 1, 0, 1]), np.array([2, 2, 3, 4, 2]), np.array([3, 4, 2, 3, 4])
    return check_gradients(
        lambda H: loss(H, user, positive, negative),
        lambda g, H: g * backward(H, user, positive, negative),
        {"H": np.random.default_rng(3).standard_normal((5, 2))},
        dtypes=("float64",),
    ).passed


def loss_along_directions(loss, backward):
    rng = np.random.default_rng(4)
    for _ in range(4):
        H = rng.standard_normal((8, 3))
        batch = rng.integers(0, 3, 20), rng.integers(3, 8, 20), rng.integers(3, 8, 20)
        v, h = rng.standard_normal(H.shape), 1e-5
        slope = (loss(H + h * v, *batch) - loss(H - h * v, *batch)) / (2 * h)
        if abs(slope - np.vdot(backward(H, *batch), v)) > 1e-8 * np.linalg.norm(v):
            return False
    return True


def threshold_by_the_checker(shrink, backward):
    for tau in (0.3, 1.7):
        E = tau * np.array([-30.0, -3, -0.5, 0.2, 0.8, 1.5, 40])
        pair = (lambda E, t=tau: shrink(E, t)), (lambda G, E, t=tau: backward(G, E, t))
        numbers = check_gradients(*pair, {"E": E}, dtypes=("float64",))
        corner = check_convention(backward, at={"E": np.array([tau, -tau]), "tau": tau}, expected={"E": np.zeros(2)})
        if not (numbers.passed and corner.passed):
            return False
    return True


def threshold_against_a_table(shrink, backward):
    E = np.array([-50.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 50.0])
    G = np.arange(1.0, 10.0)
    for tau, passes in ((2.0, [1, 0, 0, 0, 0, 0, 0, 0, 1]), (0.5, [1, 1, 1, 0, 0, 0, 1, 1, 1])):
        if (backward(G, E, tau) != G * passes).any():
            return False
    return True


#: By the names of the exercises.
WRITTEN_DIFFERENTLY = {
    "normalised_adjacency": (blocks, edge_by_edge),
    "three_step_walks": (block_of_the_cube,),
    "top_items": (sorted_pairs, of_the_unknown),
    "recall": (recall_by_sets,),
    "ndcg": (ndcg_in_a_loop,),
    "popularity": (degrees_by_counting,),
    "evaluate": (user_by_user,),
    "central_difference": (flattened, moved_and_put_back),
    "relative_error": (squares_by_hand,),
    "tanh_layer_backward": (in_terms_of_cosh,),
    "gradient_gap": (gap_by_extrapolation, gap_with_another_step),
    "adjoint_gap": (gap_by_vdot,),
    "differences_backward": (padded, by_the_matrix),
    "sparse_product_backward": (dense_product,),
    "sparse_product_backward_weights": (weights_entry_by_entry, weights_as_a_vector, weights_dense),
    "propagate_backward": (transposed_polynomial, forward_of_the_transpose),
    "propagate_rows_backward": (selection_matrix,),
    "weighted_layers_backward": (powers_of_the_matrix,),
    "soft_threshold_backward": (product_with_a_mask, where_something_is_left),
    "soft_threshold_backward_tau": (threshold_entry_by_entry,),
    "soft_threshold_columns_backward": (column_by_column,),
    "elastic_net_prox": (elastic_by_cases,),
    "compose_backward": (slope_from_cosh,),
    "compose_backward_assignment": (
        lambda g, S, E: weights_entry_by_entry(g / np.cosh(S @ E) ** 2, S, E),
        lambda g, S, E: weights_as_a_vector(g / np.cosh(S @ E) ** 2, S, E),
        lambda g, S, E: weights_dense(g / np.cosh(S @ E) ** 2, S, E),
    ),
    "compose_above_backward": (stacked,),
    "bridge_backward": (bridge_by_columns,),
    "bridge_backward_gate": (lambda g, S_f, F, E_c, gate: np.vdot(g, S_f @ F) - np.vdot(g, E_c),),
    "bridge_backward_assignment": (
        lambda g, S_f, F, E_c, gate: weights_entry_by_entry(g, S_f, F, gate),
        lambda g, S_f, F, E_c, gate: gate * weights_as_a_vector(g, S_f, F),
        lambda g, S_f, F, E_c, gate: weights_dense(gate * g, S_f, F),
    ),
    "bridged_layer_backward": (transposed(TASKS["bridged_layer_backward"].forward), layer_backward_multiplied_out),
    "bridged_layer_exchange_backward": (transposed(TASKS["bridged_layer_exchange_backward"].forward),),
    "softplus": (softplus_by_logaddexp, softplus_one_by_one),
    "sigmoid": (sigmoid_by_tanh, scipy.special.expit),
    "gather_backward": (gather_by_one_hot, gather_in_a_loop),
    "bpr_backward": (bpr_with_matrices,),
    "penalty_backward": (penalty_in_a_loop,),
    "sample_triples": (draw_with_rejection, draw_one_by_one),
    "adam_step": (adam_rearranged,),
    "train_table": (table_by_the_loop,),
    "coarse_forward": (forward_by_a_polynomial,),
    "loss_to_H": (loss_to_all_rows,),
    "fork": (fork_by_split, lambda G, Z, E: (G[: -len(E)], G[-len(E) :])),
    "to_Z": (penalty_joined,),
    "to_E_c": (codebook_by_einsum,),
    "coarse_gradients": (gradients_with_dense_powers,),
    "train_coarse": (coarse_by_the_loop,),
    "least_squares_assignment": (assignment_by_lstsq,),
    "fine_forward": (fine_forward_densely,),
    "bridged_propagate_backward": (layers_by_the_dense_transpose,),
    "to_E_f": (fine_codebook_by_cosh,),
    "fine_gradients": (fine_gradients_path_by_path,),
    "train_fine": (train_fine_in_one_vector,),
    "fine_assignment": (fine_assignment_row_by_row,),
    "collapsed_backward": (backward_by_loops,),
    "multiplications": (count_as_one_expression,),
    "collapse": (collapse_by_the_dense_matrix,),
    "collapse_without_tanh": (collapse_by_columns,),
    "joint_forward": (joint_by_one_codebook,),
    "joint_backward_codebooks": (codebooks_by_the_product,),
    "links_backward": (links_by_coordinates,),
    "without_bridge": (moved_into_the_coarse_codebook,),
    "loss_to_Y": (to_Y_with_dense_powers,),
    "joint_gradients": (gradients_as_numbers,),
    "pursue": (pursue_by_squares, lambda Y, E, t: sparse.coo_array(pursue_by_squares(Y, E, t))),
    "train_joint": (train_with_lists,),
    "size_of_model": (size_by_types,),
    "on_the_frontier": (frontier_by_loops,),
    "adjusted_rand": (rand_by_pairs, adjusted_rand_score),
    "ndcg_twice": (ndcg_twice_by_loop,),
    "paired_interval": (interval_of_scipy,),
    "bias_gradient": (gradient_by_loop, gradient_by_bincount),
    "check_of_a_product": (product_by_the_checker, product_by_units),
    "check_of_a_pairwise_loss": (loss_by_the_checker, loss_along_directions),
    "check_of_a_threshold": (threshold_by_the_checker, threshold_against_a_table),
    "gradients_pass": (slopes_along_directions,),
    "propagation_passes": (both_as_matrices,),
    "has_no_memory": (three_cases_in_turn,),
    "sampling_passes": (triples_as_sets,),
    "update_passes": (moments_as_sums,),
    "diagnose": (from_the_last_check_to_the_first,),
}
