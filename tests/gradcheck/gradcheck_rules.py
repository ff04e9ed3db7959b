"""Right pairs of forward and backward to try the checker on, each at a random point of a random scale.

A :class:`Case` is everything one call of ``check_gradients`` needs. Scales are powers of ten from 1e-6 to 1e6. All
functions accept complex input and branch on the real part only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp


@dataclass
class Case:
    forward: object
    backward: object
    arguments: dict
    options: dict = field(default_factory=dict)


def normal(rng, *shape):
    return rng.standard_normal(shape)


def apart(rng, *shape):
    """Normal numbers that keep away from 0."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.2, 2.0, shape)


# ---- functions -------------------------------------------------------------------------------------------------------
def matmul(x, w):
    return x @ w


def matmul_backward(grad_output, x, w):
    return {"grad_x": grad_output @ w.T, "grad_w": x.T @ grad_output}


def scaled_tanh(x, scale):
    return scale * np.tanh(x / scale)


def scaled_tanh_backward(grad_output, x, scale):
    y = np.tanh(x / scale)
    slope = 1 - y * y
    return {"x": grad_output * slope, "scale": np.sum(grad_output * (y - x / scale * slope))}


def softplus(x):
    return np.where(x.real > 0, x, 0) + np.log1p(np.exp(np.where(x.real > 0, -x, x)))


def softplus_backward(grad_output, x):
    e = np.exp(-np.abs(x))
    return grad_output * np.where(x > 0, 1 / (1 + e), e / (1 + e))


def normalise(x):
    return x / np.sqrt(np.sum(x * x, axis=1, keepdims=True))


def normalise_backward(grad_output, x, output):
    length = np.sqrt(np.sum(x * x, axis=1, keepdims=True))
    return (grad_output - output * np.sum(grad_output * output, axis=1, keepdims=True)) / length


def gather(table, index):
    return table[index]


def gather_backward(grad_output, table, index):
    grad_table = np.zeros_like(table)
    np.add.at(grad_table, index, grad_output)
    return grad_table


def scatter(values, index, size):
    out = np.zeros((size, *values.shape[1:]), values.dtype)
    np.add.at(out, index, values)
    return out


def scatter_backward(grad_output, index):
    return grad_output[index]


def soft_threshold(x, tau):
    up, down = x.real > tau.real, x.real < -tau.real
    return np.where(up, x - tau, np.where(down, x + tau, 0 * x))


def soft_threshold_backward(grad_output, x, tau):
    up, down = x > tau, x < -tau
    grad_tau = np.sum(np.where(down, grad_output, 0)) - np.sum(np.where(up, grad_output, 0))
    return {"grad_x": np.where(up | down, grad_output, np.zeros_like(grad_output)), "grad_tau": grad_tau}


def soft_threshold_branches(x, tau):
    return (x > tau).astype(int) - (x < -tau)


def sparse_product(p, x):
    return p @ x


def sparse_product_backward(grad_output, p, x):
    entries = p.tocoo()
    grad_p = p.copy()
    grad_p.data = np.sum(grad_output[entries.row] * x[entries.col], axis=1)
    return {"grad_p": grad_p, "grad_x": p.T @ grad_output}


def mean_square(x, target):
    return np.mean((x - target) ** 2)


def mean_square_backward(grad_output, x, target):
    return 2 * grad_output * (x - target) / x.size


def row_sums(x):
    return x.sum(axis=1), (x * x).sum(axis=0), x.mean()


def row_sums_backward(cotangents, x):
    rows, columns, mean = cotangents
    return rows[:, None] + 2 * x * columns + mean / x.dtype.type(x.size)


def affine(x, w, b):
    return x @ w + b


def affine_backward(grad_output, x, w):
    return grad_output @ w.T, x.T @ grad_output, grad_output.sum(axis=0)


def blend(a, b, gate):
    return gate * a + (1 - gate) * b


def blend_backward(grad_output, a, b, gate):
    return {"a": gate * grad_output, "b": (1 - gate) * grad_output, "gate": np.sum(grad_output * (a - b))}


def softmax(x):
    e = np.exp(x - np.max(x.real, axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_backward(grad_output, output):
    return output * (grad_output - np.sum(grad_output * output, axis=1, keepdims=True))


def two_paths(x):
    return x * np.sin(x)


def two_paths_backward(grad_output, x):
    return grad_output * (np.sin(x) + x * np.cos(x))


def log_ratio(x, y):
    return np.log(x) - np.log(y)


def log_ratio_backward(grad_output, x, y):
    return grad_output / x, -grad_output / y


# ---- cases -----------------------------------------------------------------------------------------------------------
def make_matmul(rng, s, t):
    a, b, c = rng.integers(1, 6, 3)
    arguments = {"x": s * normal(rng, a, b), "w": t * normal(rng, b, c)}
    return Case(matmul, matmul_backward, arguments, {"linear_in": ("x", "w")})


def make_large_matmul(rng, s, t):
    arguments = {"x": s * normal(rng, 30, 20), "w": t * normal(rng, 20, 25)}
    return Case(matmul, matmul_backward, arguments, {"linear_in": ("x", "w")})


def make_uneven_matmul(rng, s, t):
    """Columns of x of very different sizes, and hence rows of the gradient of w."""
    arguments = {"x": s * normal(rng, 5, 4) * 10.0 ** rng.integers(-3, 4, 4), "w": t * normal(rng, 4, 3)}
    return Case(matmul, matmul_backward, arguments, {"linear_in": ("x", "w")})


def make_tanh(rng, s, t):
    return Case(
        scaled_tanh, scaled_tanh_backward, {"x": s * normal(rng, 4, 3), "scale": float(s * rng.uniform(0.5, 2))}
    )


def make_softplus(rng, s, t):
    return Case(softplus, softplus_backward, {"x": min(s, 30.0) * normal(rng, 3, 4)})


def make_normalise(rng, s, t):
    return Case(normalise, normalise_backward, {"x": s * normal(rng, 4, int(rng.integers(2, 7)))})


def make_gather(rng, s, t):
    arguments = {"table": s * normal(rng, 5, 3), "index": rng.integers(0, 5, 9)}
    return Case(gather, gather_backward, arguments, {"linear_in": "table"})


def make_scatter(rng, s, t):
    arguments = {"values": s * normal(rng, 9, 2), "index": rng.integers(0, 4, 9), "size": 4}
    return Case(scatter, scatter_backward, arguments, {"linear_in": "values"})


def make_soft_threshold(rng, s, t):
    arguments = {"x": s * normal(rng, 6, 5), "tau": float(s * rng.uniform(0.1, 0.6))}
    arguments["x"][0, 0] = 2 * s  # never all below the threshold
    return Case(soft_threshold, soft_threshold_backward, arguments, {"active_set": soft_threshold_branches})


def make_large_soft_threshold(rng, s, t):
    arguments = {"x": s * normal(rng, 60, 20), "tau": float(s * rng.uniform(0.1, 0.6))}
    return Case(soft_threshold, soft_threshold_backward, arguments, {"active_set": soft_threshold_branches})


def make_sparse_product(rng, s, t):
    rows, columns = rng.integers(2, 8, 2)
    p = sp.random_array((rows, columns), density=0.5, rng=rng, format="csr", data_sampler=rng.standard_normal)
    p = sp.csr_array(p + sp.csr_array(([1.0], ([0], [0])), shape=p.shape))
    p.data *= s
    return Case(
        sparse_product, sparse_product_backward, {"p": p, "x": t * normal(rng, columns, 3)}, {"linear_in": ("p", "x")}
    )


def make_mean_square(rng, s, t):
    return Case(
        mean_square, mean_square_backward, {"x": s * normal(rng, 4, 3), "target": s * normal(rng, 4, 3)}, {"wrt": "x"}
    )


def make_row_sums(rng, s, t):
    return Case(row_sums, row_sums_backward, {"x": s * apart(rng, 4, 3)})


def make_affine(rng, s, t):
    arguments = {"x": s * normal(rng, 4, 3), "w": t * normal(rng, 3, 2), "b": s * t * normal(rng, 2)}
    return Case(affine, affine_backward, arguments, {"linear_in": ("x", "w", "b")})


def make_blend(rng, s, t):
    arguments = {"a": s * normal(rng, 3, 3), "b": s * normal(rng, 3, 3), "gate": float(rng.uniform(0.2, 0.8))}
    return Case(blend, blend_backward, arguments, {"linear_in": ("a", "b", "gate")})


def make_softmax(rng, s, t):
    return Case(softmax, softmax_backward, {"x": min(s, 3.0) * normal(rng, 3, 4)})


def make_two_paths(rng, s, t):
    return Case(two_paths, two_paths_backward, {"x": min(s, 10.0) * apart(rng, 7)})


def make_log_ratio(rng, s, t):
    return Case(log_ratio, log_ratio_backward, {"x": s * rng.uniform(0.1, 3, 5), "y": t * rng.uniform(0.1, 3, 5)})


MAKERS = {
    name.removeprefix("make_"): function for name, function in list(globals().items()) if name.startswith("make_")
}
