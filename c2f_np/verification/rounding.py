"""How far float32 may be from float64: error bounds derived from the standard model of rounding, not chosen.

Every operation of floating-point arithmetic returns the exact result times (1 + delta), |delta| <= u = 2^-24. A sum of n
terms, added in whatever order, is then off by at most gamma_n times the sum of the absolute terms, gamma_n = n u / (1 - n u).
(Higham, *Accuracy and Stability of Numerical Algorithms*, chapters 3 and 4.)

:class:`Bounded` is a float64 array together with a bound of the error that the same computation makes in float32. Adding,
multiplying and so on carry the bound along, so that the bound of an operation is written down by writing down the operation.
Beside each operation's cases stands such a function; it holds for both engines, since it assumes no order of summation.

NumPy's float32 tanh, exp and log1p are off by at most 4 ulp (its own tests demand that), which is 8 u.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from ..gradcheck import Verdict
from ..gradcheck.operation import Operation, stream
from ..gradcheck.values import cast, to_vector

U = 2.0**-24
FUNCTION = 8 * U  # relative error of tanh, exp and log1p
SMALLEST = 2.0**-126  # below it float32 loses digits; an absolute error of that size is always allowed

#: A bound that says less than this share of the result's scale says nothing.
VACUOUS = 1e-3


def gamma(n) -> np.ndarray | float:
    """n u / (1 - n u): the bound of n roundings in a row."""
    return n * U / (1 - n * U)


@dataclass(frozen=True)
class Bounded:
    """The exact value, and how far the float32 computation of it may be off, entry by entry.

    ``terms`` is the sum of the absolute terms when the last step was a sum: the scale of a result that cancels.
    """

    value: np.ndarray
    error: np.ndarray
    terms: np.ndarray | float = 0.0

    @property
    def size(self) -> np.ndarray:
        """The largest magnitude that the float32 result may have."""
        return np.abs(self.value) + self.error

    def __add__(self, other):
        other = bounded(other)
        value, error = self.value + other.value, self.error + other.error
        return Bounded(value, error + U * (np.abs(value) + error))

    def __sub__(self, other):
        return self + (-bounded(other))

    def __neg__(self):
        return Bounded(-self.value, self.error, self.terms)

    def __mul__(self, other):
        if np.ndim(other) == 0 and not isinstance(other, Bounded):
            # A Python float is rounded to float32 first.
            other = Bounded(np.asarray(other, dtype=float), np.asarray(U * abs(other)))
        other = bounded(other)
        error = np.abs(self.value) * other.error + np.abs(other.value) * self.error + self.error * other.error
        value = self.value * other.value
        return Bounded(value, error + U * (np.abs(value) + error) + SMALLEST)

    __rmul__ = __mul__

    def __getitem__(self, where):
        return Bounded(self.value[where], self.error[where])

    def sum(self, axis=None):
        """A sum in any order."""
        n = self.value.size if axis is None else self.value.shape[axis]
        error = np.sum(self.error + gamma(n) * self.size, axis=axis)
        return Bounded(np.sum(self.value, axis=axis), error, np.sum(np.abs(self.value), axis=axis))

    def tanh(self):
        # |tanh'| <= 1, so what comes in goes out no larger.
        value = np.tanh(self.value)
        return Bounded(value, self.error + FUNCTION * np.minimum(np.abs(value) + self.error, 1))

    def inverse_root(self):
        """x^(-1/2) of positive numbers: two roundings, and half of the relative error that comes in."""
        value = self.value**-0.5
        low = np.maximum(self.value - self.error, 1e-30) ** -0.5
        return Bounded(value, (low - value) + gamma(2) * low)


def bounded(x) -> Bounded:
    """A number or array that float32 holds exactly."""
    return x if isinstance(x, Bounded) else Bounded(np.asarray(x, dtype=float), np.zeros(np.shape(x)))


def concatenate(parts) -> Bounded:
    parts = [bounded(part) for part in parts]
    return Bounded(np.concatenate([p.value for p in parts]), np.concatenate([p.error for p in parts]))


def product(M, X) -> Bounded:
    """``M X`` with exact sparse M: a row with k stored entries makes k products and adds k terms (to whatever is there)."""
    X = bounded(X)
    M = sparse.csr_array(M)
    count = np.diff(M.indptr)[:, None]
    return Bounded(M @ X.value, abs(M) @ X.error + gamma(count + 1) * (abs(M) @ X.size) + SMALLEST)


def weights_product(grad, M, X) -> Bounded:
    """``<grad[i], X[j]>`` at the stored entries of M."""
    rows = np.repeat(np.arange(M.shape[0]), np.diff(M.indptr))
    return (bounded(grad)[rows] * bounded(X)[M.indices]).sum(axis=1)


def scatter(values: Bounded, index: np.ndarray, n: int) -> Bounded:
    """Sums of the values that share an index, in any order."""
    shape = (n, *values.value.shape[1:])
    total, error, size = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    np.add.at(total, index, values.value)
    np.add.at(error, index, values.error)
    np.add.at(size, index, values.size)
    count = np.bincount(index, minlength=n).reshape(-1, *[1] * (len(shape) - 1))
    return Bounded(total, error + gamma(count) * size)


# ---- the operations --------------------------------------------------------------------------------------------------
def composition(grad_Z, S, E):
    """tanh(S E), and its gradients with respect to E and to the stored entries of S."""
    Z, inner = squashing(grad_Z, product(S, E))
    return Z, product(sparse.csr_array(S.T), inner), weights_product(inner, S, E)


def squashing(grad_Z, Y):
    """tanh(Y), and its gradient."""
    Z = bounded(Y).tanh()
    return Z, bounded(grad_Z) * _one_minus_square(Z)


def _one_minus_square(Z: Bounded) -> Bounded:
    return bounded(np.ones(Z.value.shape)) - Z * Z


def shrinkage(grad_F, E, tau: float):
    """Soft thresholding and its gradients; the sum over the active entries is made in any order."""
    active = np.abs(E) > tau
    sign = np.sign(E) * active
    threshold = Bounded(sign * tau, np.abs(sign) * U * tau)
    F = Bounded(E * active, np.zeros(E.shape)) - threshold
    return F, bounded(np.where(active, grad_F, 0.0)), -bounded(grad_F * sign).sum()


def bridging(grad, E_coarse, S_fine, F, g: float):
    """g S_f F + (1 - g) E_c, and its gradients with respect to E_c, F, g and the stored entries of S_f."""
    fine = product(S_fine, F)
    E_hat = fine * g + bounded(E_coarse) * (1 - g)
    grad_g = (bounded(grad) * (fine - E_coarse)).sum()
    grad_S = weights_product(bounded(grad) * g, S_fine, F)
    return E_hat, bounded(grad) * (1 - g), product(sparse.csr_array(S_fine.T), bounded(grad)) * g, grad_g, grad_S


def propagation(X0, M, n_layers: int) -> Bounded:
    """The mean over layers, by the running sum or by Horner's rule: the larger bound of the two."""
    X0 = bounded(X0)
    layer, total = X0, X0
    horner = X0
    scaled_first = share = X0 * (1 / (n_layers + 1))
    for _ in range(n_layers):
        layer = product(M, layer)
        total = total + layer
        horner = X0 + product(M, horner)
        scaled_first = share + product(M, scaled_first)
    ways = (total * (1 / (n_layers + 1)), horner * (1 / (n_layers + 1)), scaled_first)
    return Bounded(ways[0].value, np.maximum.reduce([way.error for way in ways]))


def bridged_layer(X, matrices, g: float, layer_bridge: str) -> Bounded:
    """One layer of the fine stage; `matrices` are X_hat, S_c, S_f and the coarse message."""
    X_hat, S_coarse, S_fine, message = matrices
    n, c = S_coarse.shape
    X = bounded(X)
    Y = product(X_hat, X)
    if layer_bridge == "exchange":
        p, q = X[n : n + c], X[n + c :]
        exchange = (product(S_fine, q) * g + p * (1 - g)) - p
        return concatenate([Y[:n] + product(message, exchange), Y[n:]])
    h, p, q = Y[:n], Y[n : n + c], Y[n + c :]
    fine = product(S_fine, q)
    stepwise_p = fine * g + (p - fine) * (1 - g)
    stepwise_h = (h - product(S_coarse, p)) + product(S_coarse, stepwise_p)
    change = fine * (2 * g - 1) - p * g
    short = concatenate([h + product(S_coarse, change), p + change, q])
    stepwise = concatenate([stepwise_h, stepwise_p, q])
    return Bounded(stepwise.value, np.maximum(stepwise.error, short.error))


def bridged_layer_backward(grad, matrices, g: float, layer_bridge: str) -> Bounded:
    """The transpose of one layer, with |.| of every matrix on the way."""
    X_hat, S_coarse, S_fine, message = (sparse.csr_array(matrix.T) for matrix in matrices)
    c, n = S_coarse.shape
    grad = bounded(grad)
    if layer_bridge == "exchange":
        out = product(X_hat, grad)
        back = product(message, grad[:n])
        return concatenate(
            [out[:n], out[n : n + c] - back * g, out[n + c :] + product(S_fine, back) * g]
        )
    from_entities = product(S_coarse, grad[:n])
    p = grad[n : n + c] + from_entities
    q = grad[n + c :] + product(S_fine, p * (2 * g - 1))
    return product(X_hat, concatenate([grad[:n], p * (1 - g) - from_entities, q]))


def bridged_propagation(X0, matrices, g, layer_bridge, n_layers: int) -> Bounded:
    layer = total = bounded(X0)
    for _ in range(n_layers):
        layer = bridged_layer(layer, matrices, g, layer_bridge)
        total = total + layer
    return total * (1 / (n_layers + 1))


def bridged_propagation_backward(grad, matrices, g, layer_bridge, n_layers: int) -> Bounded:
    share = layer = bounded(grad) * (1 / (n_layers + 1))
    for _ in range(n_layers):
        layer = share + bridged_layer_backward(layer, matrices, g, layer_bridge)
    return layer


def pairwise_loss(cotangent: float, H, bias, bias_global, triples):
    """BPR: the mean loss, and its gradients with respect to H and the biases."""
    u, i, j = triples.user, triples.positive, triples.negative
    H, n, d = bounded(H), len(H), H.shape[1]
    difference = np.sum(H.value[u] * (H.value[j] - H.value[i]), axis=1) + bias[j] - bias[i]
    terms = np.sum(np.abs(H.value[u]) * (np.abs(H.value[j]) + np.abs(H.value[i])), axis=1)
    terms = terms + 2 * np.abs(bias[u]) + np.abs(bias[i]) + np.abs(bias[j]) + 2 * np.abs(bias_global)
    # A product, d - 1 additions, three for the biases, two differences.
    error = gamma(d + 6) * terms
    softplus = np.logaddexp(0, difference)
    sigmoid = 0.5 * (1 + np.tanh(difference / 2))
    # softplus' = sigmoid and sigmoid' < sigmoid, hence exp(error) - 1 of it; then exp, log1p and an addition of their own
    losses = Bounded(softplus, sigmoid * np.expm1(error) + gamma(22) * softplus)
    loss = losses.sum() * (1 / len(u))
    # exp, an addition, two divisions
    slope = Bounded(sigmoid, sigmoid * (np.expm1(error) + gamma(20)) + SMALLEST) * (1 / len(u)) * cotangent
    s = slope[:, None]
    grad_H = scatter(
        concatenate([s * (H[j] - H[i]), -(s * H[u]), s * H[u]]), np.concatenate([u, i, j]), n
    )
    grad_bias = scatter(concatenate([-slope, slope]), np.concatenate([i, j]), n)
    return loss, grad_H, grad_bias


def penalty(cotangent: float, Z, triples, l2: float):
    """The regulariser and its gradient: every square is rounded once, added, and multiplied a few times."""
    entities = np.concatenate([triples.user, triples.positive, triples.negative])
    count = np.bincount(entities, minlength=len(Z))[:, None]
    total = l2 / len(triples) * np.sum(count * Z * Z)
    grad = 2 * l2 * cotangent / len(triples) * count * Z
    return Bounded(total, gamma(entities.size * Z.shape[1] + 6) * total), Bounded(grad, gamma(8) * np.abs(grad))


def normalisation(G, X):
    """D^-1/2 X D^-1/2 of stored entries, and its gradient (signed degrees)."""
    n = X.shape[0]
    rows, columns = np.repeat(np.arange(n), np.diff(X.indptr)), X.indices
    x = bounded(X.data)
    sums = scatter(x, rows, n)
    good = sums.value > 1e-6
    root = Bounded(np.where(good, sums.value, 1.0), np.where(good, sums.error, 0.0)).inverse_root()
    f = Bounded(root.value * good, root.error * good)
    X_hat = x * f[rows] * f[columns]
    weighted = bounded(G) * x
    terms = concatenate([weighted * f[columns], weighted * f[rows]])
    grad_sum = scatter(terms, np.concatenate([rows, columns]), n) * (f * f * f) * -0.5
    return X_hat, bounded(G) * f[rows] * f[columns] + grad_sum[rows]


# ---- the check -------------------------------------------------------------------------------------------------------
def float32_verdicts(forward, backward, arguments: dict, rounding, wrt, seed: int) -> list[Verdict]:
    """Hold float32 to the bound, in the forward and in every gradient.

    Returns
    -------
    list of Verdict
        One for each output and gradient; the figure is the largest error as a share of its bound.
    """
    operation = Operation(forward, backward, arguments, wrt=wrt)
    cotangents = operation.cotangents(stream(seed, "float32"))
    cotangents = [c.astype(np.float32).astype(np.float64) for c in cotangents]
    found = []
    for dtype in (np.float64, np.float32):
        given = {key: cast(value, dtype) for key, value in operation.changed({}).items()}
        result = operation.raw_forward(given)
        result = list(result) if isinstance(result, tuple | list) else [result]
        named = operation.named(operation.raw_backward(operation.pack(cotangents, dtype), given))
        outputs = [np.asarray(to_vector(result[k]), dtype=np.float64).ravel() for k in operation.outputs]
        found.append((outputs, {key: np.asarray(to_vector(named[key]), np.float64) for key in operation.wrt}))
    out_bounds, grad_bounds = rounding(operation.pack(cotangents), **operation.changed({}))
    (exact, exact_grads), (single, single_grads) = found
    pairs = [("output", a, b, bound) for a, b, bound in zip(exact, single, out_bounds, strict=True)]
    pairs += [(key, exact_grads[key], single_grads[key], grad_bounds[key]) for key in operation.wrt if key in grad_bounds]
    return [_verdict(*pair) for pair in pairs]


def _verdict(name: str, exact, single, bound: Bounded) -> Verdict:
    value, error = np.ravel(bound.value), np.ravel(bound.error) + 1e-12 * np.max(np.abs(exact), initial=0) + SMALLEST
    scale = np.max([np.max(np.abs(exact), initial=0), np.max(bound.terms)])
    off = np.abs(single - exact)
    used = float(np.max(off / error, initial=0))
    if np.max(np.abs(value - exact), initial=0) > 1e-10 * scale:
        return Verdict("float32", name, "failed", used, 1.0, "the bound's own value is not the float64 value")
    if np.max(error, initial=0) > VACUOUS * scale > 0:
        share = np.max(error) / scale
        return Verdict("float32", name, "failed", used, 1.0, f"the bound is {share:.0e} of the scale and says nothing")
    if not used <= 1:
        i = int(np.argmax(off / error))
        reason = f"entry {i}: float32 is off by {off[i]:.2e}, the derived bound is {error[i]:.2e}"
        return Verdict("float32", name, "failed", used, 1.0, reason)
    return Verdict("float32", name, "passed", used, 1.0, f"float32 uses {used:.0%} of its error bound")
