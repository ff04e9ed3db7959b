"""Functions as people write them, each with a right backward: a table for the tests of the checker.

``FUNCTIONS[name]`` is (forward, backward, arguments, options). Backwards return dictionaries. Wrong versions are made by
:func:`spoiled_leaves`, or stand in the tests.
"""

from __future__ import annotations

import functools
import inspect
from collections import namedtuple

import numpy as np
import scipy.linalg as sl
import scipy.sparse as sp
import scipy.special as special
from gradcheck_family import ELEMENTWISE, logsumexp, softmax

RNG = np.random.default_rng(12)


def normal(*shape):
    return RNG.standard_normal(shape)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def positive(n):
    a = normal(n, n)
    return a @ a.T + n * np.eye(n)


# ---- networks --------------------------------------------------------------------------------------------------------
def layer_norm(x, gamma, beta, eps=1e-5):
    centred = x - x.mean(axis=-1, keepdims=True)
    return gamma * centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps) + beta


def layer_norm_backward(g, x, gamma, eps=1e-5):
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + x.dtype.type(eps))
    y, h = centred * scale, g * gamma
    grad_x = scale * (h - h.mean(axis=-1, keepdims=True) - y * (h * y).mean(axis=-1, keepdims=True))
    return {"x": grad_x, "gamma": (g * y).sum(axis=0), "beta": g.sum(axis=0)}


def attention(q, k, v, mask):
    return softmax(np.where(mask, q @ k.T / np.sqrt(q.shape[1]), -np.inf)) @ v


def attention_backward(g, q, k, v, mask):
    p = softmax(np.where(mask, q @ k.T / np.sqrt(q.dtype.type(q.shape[1])), -np.inf).astype(q.dtype))
    gp = g @ v.T
    s = p * (gp - (gp * p).sum(axis=1, keepdims=True)) / np.sqrt(q.dtype.type(q.shape[1]))
    return {"q": s @ k, "k": s.T @ q, "v": p.T @ g}


def lstm(x, state, params):
    h, c = state
    z = x @ params["w"] + h @ params["u"] + params["b"]
    i, f, o, a = np.split(z, 4, axis=-1)
    new = sigmoid(f) * c + sigmoid(i) * np.tanh(a)
    return {"h": sigmoid(o) * np.tanh(new), "c": new}


def lstm_backward(g, x, state, params):
    h, c = state
    i, f, o, a = np.split(x @ params["w"] + h @ params["u"] + params["b"], 4, axis=-1)
    i, f, o, a = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(a)
    t = np.tanh(f * c + i * a)
    gc = g["c"] + g["h"] * o * (1 - t * t)
    z = np.concatenate(
        [gc * a * i * (1 - i), gc * c * f * (1 - f), g["h"] * t * o * (1 - o), gc * i * (1 - a * a)], axis=-1
    )
    grad_params = {"w": x.T @ z, "u": h.T @ z, "b": z.sum(axis=0)}
    return {"x": z @ params["w"].T, "state": (z @ params["u"].T, gc * f), "params": grad_params}


def mlp(layers, x):
    for layer in layers[:-1]:
        x = np.tanh(x @ layer["w"] + layer["b"])
    return x @ layers[-1]["w"] + layers[-1]["b"]


def mlp_backward(g, layers, x):
    inputs, grads = [x], []
    for layer in layers[:-1]:
        inputs.append(np.tanh(inputs[-1] @ layer["w"] + layer["b"]))
    for layer, a in zip(reversed(layers), reversed(inputs), strict=True):
        grads.append({"w": a.T @ g, "b": g.sum(axis=0)})
        g = (g @ layer["w"].T) * (1 - a * a if a is not x else 1)
    return {"layers": grads[::-1], "x": g}


def cross_entropy(logits, labels):
    return np.mean(logsumexp(logits) - logits[np.arange(len(labels)), labels])


def cross_entropy_backward(g, logits, labels):
    p = softmax(logits)
    p[np.arange(len(labels)), labels] -= 1
    return {"logits": g * p / logits.dtype.type(len(labels))}


def convolution(x, w):
    n = x.shape[-1] - w.shape[-1] + 1
    return sum(np.einsum("cn,oc->on", x[:, k : k + n], w[:, :, k]) for k in range(w.shape[-1]))


def convolution_backward(g, x, w):
    grad_x, grad_w, n = np.zeros_like(x), np.zeros_like(w), g.shape[-1]
    for k in range(w.shape[-1]):
        grad_x[:, k : k + n] += np.einsum("on,oc->cn", g, w[:, :, k])
        grad_w[:, :, k] = np.einsum("on,cn->oc", g, x[:, k : k + n])
    return {"x": grad_x, "w": grad_w}


def max_pool(x):
    return x.reshape(len(x), -1, 2).max(axis=-1)


def max_pool_backward(g, x):
    pairs = x.reshape(len(x), -1, 2)
    first = np.argmax(pairs, axis=-1)[..., None] == np.arange(2)
    return {"x": np.where(first, g[..., None], g.dtype.type(0)).reshape(x.shape)}


def embedding(table, index, weight):
    return weight * table[index].sum(axis=1)


def embedding_backward(g, table, index, weight):
    out = np.zeros_like(table)
    np.add.at(out, index, (weight * g)[:, None, :])
    return {"table": out, "weight": (g * table[index].sum(axis=1)).sum(axis=1, keepdims=True)}


def gelu(x):
    return 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))


def gelu_backward(g, x):
    t = np.tanh(0.7978845608 * (x + 0.044715 * x**3))
    return {"x": g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608 * (1 + 3 * 0.044715 * x * x))}


# ---- linear algebra ----------------------------------------------------------------------------------------------------
def solve_backward(g, a, b):
    y = np.linalg.solve(a.T, g)
    return {"a": -np.outer(y, np.linalg.solve(a, b)), "b": y}


def inverse_backward(g, a):
    b = np.linalg.inv(a)
    return {"a": -b.T @ g @ b.T}


def cholesky(a):
    return np.linalg.cholesky((a + a.T) / 2)


def cholesky_backward(g, a):
    factor = cholesky(a)
    middle = np.tril(factor.T @ np.tril(g))
    middle[np.diag_indices_from(middle)] *= 0.5
    inverse = np.linalg.inv(factor)
    whole = inverse.T @ middle @ inverse
    return {"a": (whole + whole.T) / 2}


def singular_values_backward(g, a):
    u, _, v = np.linalg.svd(a, full_matrices=False)
    return {"a": (u * g) @ v}


def eigenvalues(a):
    return np.linalg.eigvalsh((a + a.T) / 2)


def eigenvalues_backward(g, a):
    _, v = np.linalg.eigh((a + a.T) / 2)
    return {"a": (v * g) @ v.T}


def expm_backward(g, a):
    return {"a": sl.expm_frechet(a.T, g, compute_expm=False).astype(a.dtype)}


def rotation(angles):
    c, s = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)


def rotation_backward(g, angles):
    c, s = np.cos(angles), np.sin(angles)
    return {"angles": -s * (g[:, 0, 0] + g[:, 1, 1]) + c * (g[:, 1, 0] - g[:, 0, 1])}


# ---- statistics --------------------------------------------------------------------------------------------------------
def variance_backward(g, x):
    return {"x": 2 * g * (x - x.mean(axis=0)) / x.dtype.type(len(x) - 1)}


def nan_mean(x):
    return np.nanmean(x, axis=0)


def nan_mean_backward(g, x):
    seen = ~np.isnan(x)
    return {"x": np.where(seen, g / seen.sum(axis=0).astype(x.dtype), 0 * g)}


def mixture(x, params):
    z = (x[:, None] - params.mean) / np.exp(params.log_scale)
    return logsumexp(params.log_weight - 0.5 * z * z - params.log_scale).sum()


Mixture = namedtuple("Mixture", "mean log_scale log_weight")


def mixture_backward(g, x, params):
    scale = np.exp(params.log_scale)
    z = (x[:, None] - params.mean) / scale
    p = g * softmax(params.log_weight - 0.5 * z * z - params.log_scale)
    return {
        "x": (-p * z / scale).sum(axis=1),
        "params": Mixture((p * z / scale).sum(axis=0), (p * (z * z - 1)).sum(axis=0), p.sum(axis=0)),
    }


def cosine(a, b):
    return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


def cosine_backward(g, a, b):
    y, (na, nb) = cosine(a, b)[:, None], ((v * v).sum(-1, keepdims=True) for v in (a, b))
    g = g[:, None]
    return {"a": g * (b / np.sqrt(na * nb) - y * a / na), "b": g * (a / np.sqrt(na * nb) - y * b / nb)}


def moments(x):
    return {"mean": x.mean(), "parts": [np.square(x), (x > 0).sum()]}


def moments_backward(g, x):
    return {"x": np.full_like(x, g["mean"] / x.dtype.type(x.size)) + 2 * x * g["parts"][0]}


def power_spectrum_backward(g, x):
    return {"x": 2 * np.real(np.fft.fft(g * np.fft.fft(x).conj()))}


def euler(y, rate, steps):
    for _ in range(steps):
        y = y + 0.1 * rate * np.sin(y)
    return y


def euler_backward(g, y, rate, steps):
    seen = [y]
    for _ in range(steps):
        seen.append(seen[-1] + 0.1 * rate * np.sin(seen[-1]))
    grad_rate = 0 * rate
    for y in reversed(seen[:-1]):
        grad_rate = grad_rate + (0.1 * g * np.sin(y)).sum()
        g = g + 0.1 * rate * np.cos(y) * g
    return {"y": g, "rate": grad_rate}


def in_place(x):
    out = x.copy()
    out *= 2
    out[1:] += np.square(x[:-1])
    return out


def in_place_backward(g, x):
    grad = 2 * g
    grad[:-1] += 2 * x[:-1] * g[1:]
    return {"x": grad}


def temperature(x, beta):
    return softmax(x * beta)


def temperature_backward(g, x, beta):
    p = softmax(x * beta)
    h = p * (g - (g * p).sum(axis=-1, keepdims=True))
    return {"x": h * beta, "beta": (h * x).sum()}


def linear_list(x, w):
    return x * w[0][0] + x**2 * w[1][1] + w[0][1] * w[1][0]


def linear_list_backward(g, x, w):
    grad_w = [[(g * x).sum(), g.sum() * w[1][0]], [g.sum() * w[0][1], (g * x**2).sum()]]
    return {"x": g * (w[0][0] + 2 * x * w[1][1]), "w": grad_w}


SPARSE = sp.csr_array(np.where(RNG.random((6, 5)) < 0.5, normal(6, 5), 0) + np.eye(6, 5))
HILBERT = 1 / (np.arange(4)[:, None] + np.arange(4) + 1.0)
GAPS = np.where(RNG.random((6, 3)) < 0.3, np.nan, normal(6, 3)) + np.where(np.arange(6)[:, None] == 0, 0, 0)
GAPS[0] = [1.0, 2.0, 3.0]


def sparse_backward(g, p, x):
    entries = p.tocoo()
    return {"p": np.sum(g[entries.row] * x[entries.col], axis=1), "x": p.T @ g}


def elementwise(f, slope):
    """The pair for a function with this slope, a function of x or of x and the result."""
    of_both = len(inspect.signature(slope).parameters) == 2 if not isinstance(slope, np.ufunc) else False
    return f, lambda g, x: {"x": g * (slope(x, f(x)) if of_both else slope(x))}


F64 = {"dtypes": ("float64",)}


def relu(x):
    return np.maximum(x, 0)


WEIGHTS = [{"w": normal(3, 4), "b": normal(4)}, {"w": normal(4, 4), "b": normal(4)}, {"w": normal(4, 2), "b": normal(2)}]
LSTM = {"w": normal(3, 8), "u": normal(2, 8), "b": normal(8)}
LSE = (logsumexp, lambda g, x: {"x": g[..., None] * softmax(x)})
LAYER = {"x": normal(4, 5), "gamma": normal(5), "beta": normal(5)}

FUNCTIONS = {
    "layer norm": (layer_norm, layer_norm_backward, LAYER, {}),
    "layer norm about 1e4": (layer_norm, layer_norm_backward, {**LAYER, "x": 1e4 + LAYER["x"]}, F64),
    "attention": (
        attention, attention_backward, {"q": normal(4, 3), "k": normal(5, 3), "v": normal(5, 2), "mask": np.tri(4, 5, 1) > 0},
        {"linear_in": "v"},
    ),
    "lstm": (lstm, lstm_backward, {"x": normal(3, 3), "state": (normal(3, 2), normal(3, 2)), "params": LSTM}, {}),
    "mlp": (mlp, mlp_backward, {"layers": WEIGHTS, "x": normal(5, 3)}, {"linear_in": "layers[2]"}),
    "cross entropy": (cross_entropy, cross_entropy_backward, {"logits": 3 * normal(5, 4), "labels": np.arange(5) % 4}, {}),
    "convolution": (convolution, convolution_backward, {"x": normal(2, 9), "w": normal(3, 2, 3)}, {"linear_in": ("x", "w")}),
    "max pooling": (max_pool, max_pool_backward, {"x": normal(3, 8)}, {}),
    "embedding": (
        embedding, embedding_backward, {"table": normal(5, 3), "index": RNG.integers(0, 5, (4, 2)), "weight": normal(4, 1)}, {},
    ),
    "gelu": (gelu, gelu_backward, {"x": normal(4, 3)}, {}),
    "solve": (np.linalg.solve, solve_backward, {"a": positive(4), "b": normal(4)}, {"linear_in": "b"}),
    "inverse": (np.linalg.inv, inverse_backward, {"a": positive(3)}, {}),
    "inverse of a Hilbert matrix": (np.linalg.inv, inverse_backward, {"a": HILBERT}, F64),
    "Cholesky": (cholesky, cholesky_backward, {"a": positive(4)}, {}),
    "log determinant": (lambda a: np.linalg.slogdet(a)[1], lambda g, a: {"a": g * np.linalg.inv(a).T}, {"a": normal(4, 4)}, {}),
    "singular values": (lambda a: np.linalg.svd(a, compute_uv=False), singular_values_backward, {"a": normal(5, 3)}, {}),
    "eigenvalues": (eigenvalues, eigenvalues_backward, {"a": positive(4)}, {}),
    "matrix exponential": (lambda a: sl.expm(a), expm_backward, {"a": normal(3, 3)}, {}),
    "rotation": (rotation, rotation_backward, {"angles": np.array([0.3, 40.0, -1000.0])}, {}),
    "variance": (lambda x: x.var(axis=0, ddof=1), variance_backward, {"x": normal(6, 2)}, {}),
    "mean of what is no NaN": (nan_mean, nan_mean_backward, {"x": GAPS}, {}),
    "mixture": (mixture, mixture_backward, {"x": 3 * normal(6), "params": Mixture(normal(3), normal(3), normal(3))}, {}),
    "cosine": (cosine, cosine_backward, {"a": normal(4, 3), "b": normal(4, 3)}, {}),
    "moments": (moments, moments_backward, {"x": normal(5)}, {}),
    "power spectrum": (lambda x: np.abs(np.fft.fft(x)) ** 2, power_spectrum_backward, {"x": normal(8)}, {}),
    "Euler steps": (euler, euler_backward, {"y": normal(4), "rate": 0.7, "steps": 6}, {}),
    "in place inside": (in_place, in_place_backward, {"x": normal(5)}, {}),
    "temperature": (temperature, temperature_backward, {"x": normal(3, 4), "beta": 2.5}, {}),
    "list of numbers": (linear_list, linear_list_backward, {"x": normal(4), "w": [[0.5, 2.0], [-1.5, 0.3]]}, {}),
    "sparse argument": (lambda p, x: p @ x, sparse_backward, {"p": SPARSE, "x": normal(5, 2)}, {"linear_in": ("p", "x")}),
    "log-sum-exp": (*LSE, {"x": normal(3, 4)}, {}),
    "log-sum-exp near -1e4": (*LSE, {"x": -1e4 + normal(3, 4)}, {}),
    "log-sum-exp of one row near -1e5": (*LSE, {"x": np.array([[-1e5, -1e5 + 0.5, -1e5 - 1.3]])}, {}),
    "sin of large and small": (*elementwise(np.sin, np.cos), {"x": np.array([0.3, 1.1, 2.3, 1e4])}, {}),
    "tanh of 2e4": (*elementwise(np.tanh, lambda x: 1 - np.tanh(x) ** 2), {"x": np.array([0.3, -0.5, 2e4])}, {}),
    "1 / y over four decades": (*elementwise(lambda x: 1 / x, lambda x: -1 / x**2), {"x": np.logspace(-4, 0, 7)}, {}),
    "bell far out": (*elementwise(*ELEMENTWISE["bell"]), {"x": np.array([0.3, -0.5, 3e3])}, {}),
    "bell at 1e4": (
        *elementwise(lambda x: np.exp(-((x - 1e4) ** 2)), lambda x: -2 * (x - 1e4) * np.exp(-((x - 1e4) ** 2))),
        {"x": np.array([1e4 + 0.3])}, F64,
    ),
    "time of day": (
        *elementwise(lambda x: np.cos(2 * np.pi * x / 86400), lambda t: -2 * np.pi / 86400 * np.sin(2 * np.pi * t / 86400)),
        {"x": 1.7e9 + np.array([0.0, 3600, 7200, 50000])}, {},
    ),
    "small sum on a large constant": (
        lambda x: 1e6 + 1e-4 * np.sum(x * x), lambda g, x: {"x": g * 2e-4 * x}, {"x": normal(5)}, F64,
    ),
    "exp(600)": (*elementwise(np.exp, np.exp), {"x": np.array([600.0, 1.0])}, {}),
    "1e200": (*elementwise(lambda x: x * np.tanh(x / 1e200), lambda x: np.tanh(x / 1e200) + x / 1e200 / np.cosh(x / 1e200) ** 2),
              {"x": 1e200 * normal(4)}, {}),
    "1e-200": (*elementwise(lambda x: 3 * x, lambda x: 3.0), {"x": 1e-200 * normal(4)}, {"linear_in": "x"}),
    "float16": (*elementwise(np.tanh, lambda x: 1 - np.tanh(x) ** 2), {"x": normal(4).astype(np.float16)}, {}),
    "Fortran order": (*elementwise(np.sin, np.cos), {"x": np.asfortranarray(normal(3, 4))}, {}),
    "strided": (*elementwise(np.sin, np.cos), {"x": normal(6, 8)[::2, ::-3]}, {}),
    "error function": (*elementwise(special.erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x)), {"x": normal(5)}, F64),
    "log gamma": (*elementwise(special.gammaln, special.digamma), {"x": np.array([0.2, 1.5, 7.0, 30.0])}, {}),
    "hypotenuse": (
        np.hypot, lambda g, x, y: {"x": g * x / np.hypot(x, y), "y": g * y / np.hypot(x, y)},
        {"x": normal(4), "y": normal(4)}, {},
    ),
    "norm": (lambda x: np.linalg.norm(x), lambda g, x: {"x": g * x / np.linalg.norm(x)}, {"x": normal(3, 3)}, {}),
    "sorted": (lambda x: np.sort(x) * np.arange(5), lambda g, x: {"x": (g * np.arange(5))[np.argsort(np.argsort(x))]},
               {"x": normal(5)}, F64),
    "cumulative product": (
        lambda x: np.cumprod(x), lambda g, x: {"x": np.cumsum((g * np.cumprod(x))[::-1])[::-1] / x},
        {"x": 1 + 0.3 * normal(5)}, {},
    ),
    "relu near 0": (*elementwise(relu, lambda x: x > 0), {"x": np.array([1e-3, -4e-4, 0.5, -2.0, 1.0])}, {}),
    "relu at 0": (*elementwise(relu, lambda x: x > 0), {"x": np.array([0.0, 0.5, -2.0, 1.0])}, {}),
    "abs at 0": (np.abs, lambda g, x: {"x": g * np.sign(x)}, {"x": np.array([0.0, 0.5, -2.0])}, {}),
    "sum of abs at 0": (lambda x: np.abs(x).sum(), lambda g, x: {"x": g * np.sign(x)}, {"x": np.array([0.0, 0.5, -2.0])}, {}),
    "hinge": (lambda x, y: np.maximum(0, 1 - y * x).mean(), lambda g, x, y: {"x": -g * y * (y * x < 1) / y.dtype.type(y.size)},
              {"x": normal(6), "y": RNG.choice([-1.0, 1.0], 6)}, {"wrt": "x"}),
    "ties in a maximum": (max_pool, max_pool_backward, {"x": np.array([[1.0, 1.0, 0.3, 2.0, 0.1, -1.0]])}, {}),
    "bias of relu, one row at 0": (
        lambda x, b: np.maximum(x + b, 0), lambda g, x, b: {"x": g * (x + b > 0), "b": (g * (x + b > 0)).sum(axis=0)},
        {"x": np.vstack([np.zeros(3), normal(5, 3)]), "b": np.zeros(3)}, {},
    ),
    "interpolation": (
        *elementwise(lambda x: np.interp(x, [0, 1, 2, 3], [0, 2, 1, 4]), lambda x: np.array([2, -1, 3])[x.astype(int)]),
        {"x": np.array([0.4, 1.5, 2.2, 0.999])}, F64,
    ),
    "many entries": (*elementwise(lambda x: np.log1p(np.exp(x)), sigmoid), {"x": 3 * normal(60, 20)}, {}),
    "relu of many, some at 0": (
        *elementwise(relu, lambda x: x > 0), {"x": np.where(RNG.random((40, 50)) < 0.2, 0, normal(40, 50))}, {},
    ),
    "lasso of many, most at 0": (
        lambda x: np.abs(x).sum() + np.square(x).sum(), lambda g, x: {"x": g * (np.sign(x) + 2 * x)},
        {"x": np.where(RNG.random(900) < 0.7, 0, normal(900))}, {},
    ),
}  # fmt: skip


MISTAKES = {
    "1.001": lambda g: g * np.asarray(g).dtype.type(1.001),
    "minus": lambda g: -1 * g,
    "last entry": lambda g: g * np.where(np.arange(np.size(g)).reshape(np.shape(g)) == np.size(g) - 1, 0.9, 1.0),
}


def spoiled_leaves(backward, arguments: dict):
    """Wrong versions of a backward, (words, backward): each mistake in each leaf of what it returns, if that changes it."""

    def spoiled(tree, which, mistake):
        """The tree with a mistake in one leaf; ``which`` counts down to it, as a list of one number."""
        if isinstance(tree, dict):
            return {key: spoiled(part, which, mistake) for key, part in tree.items()}
        if isinstance(tree, list | tuple):
            parts = [spoiled(part, which, mistake) for part in tree]
            return tree._make(parts) if hasattr(tree, "_make") else type(tree)(parts)
        which[0] -= 1
        return mistake(tree) if which[0] == -1 else tree

    def wrong(number, mistake):
        @functools.wraps(backward)
        def spoiled_backward(cotangent, *args, **kwargs):
            return spoiled(backward(cotangent, *args, **kwargs), [number], mistake)

        return spoiled_backward

    count = [0]
    spoiled(arguments, count, lambda g: g)
    return [(f"leaf {k}: {words}", wrong(k, mistake)) for k in range(-count[0]) for words, mistake in MISTAKES.items()]
