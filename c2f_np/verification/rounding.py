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

U = 2.0**-24
FUNCTION = 8 * U  # relative error of tanh, exp and log1p
SMALLEST = 2.0**-126  # below it float32 loses digits; an absolute error of that size is always allowed

#: A bound that says less than this share of the result's scale says nothing.
VACUOUS = 1e-3
#: What float64 rounds instead of U; four times as much, as the text that it is compared with rounds too.
IN_FLOAT64 = 4 * 2.0**-53 / U


def gamma(n) -> np.ndarray | float:
    """n u / (1 - n u): the bound of n roundings in a row."""
    return n * U / (1 - n * U)


@dataclass(frozen=True)
class Bounded:
    """The exact value, and how far the float32 computation of it may be off, entry by entry."""

    value: np.ndarray
    error: np.ndarray

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
        return Bounded(-self.value, self.error)

    def __mul__(self, other):
        if np.ndim(other) == 0 and not isinstance(other, Bounded):
            # A Python float is rounded to float32 first.
            other = Bounded(np.asarray(other, dtype=float), np.asarray(U * abs(other)))
        other = bounded(other)
        error = np.abs(self.value) * other.error + np.abs(other.value) * self.error + self.error * other.error
        value = self.value * other.value
        return Bounded(value, error + U * (np.abs(value) + error) + SMALLEST)

    __rmul__ = __mul__

    def __truediv__(self, other):
        other = bounded(other)
        value = self.value / other.value
        error = (self.error + np.abs(value) * other.error) / (np.abs(other.value) - other.error)
        return Bounded(value, error + U * (np.abs(value) + error) + SMALLEST)

    def __getitem__(self, where):
        return Bounded(self.value[where], self.error[where])

    @property
    def T(self):
        return Bounded(self.value.T, self.error.T)

    def sum(self, axis=None):
        """A sum in any order."""
        n = self.value.size if axis is None else self.value.shape[axis]
        error = np.sum(self.error + gamma(n) * self.size, axis=axis)
        return Bounded(np.sum(self.value, axis=axis), error)

    def tanh(self):
        # |tanh'| <= 1, so what comes in goes out no larger.
        value = np.tanh(self.value)
        return Bounded(value, self.error + FUNCTION * np.minimum(np.abs(value) + self.error, 1))

    def root(self):
        """x^(1/2) of numbers that are not negative."""
        value = np.sqrt(self.value)
        high = np.sqrt(self.value + self.error)
        low = np.sqrt(np.maximum(self.value - self.error, 0))
        return Bounded(value, np.maximum(high - value, value - low) + U * high)

    def inverse_root(self):
        """x^(-1/2) of positive numbers: two roundings, and half of the relative error that comes in."""
        value = self.value**-0.5
        low = np.maximum(self.value - self.error, 1e-30) ** -0.5
        return Bounded(value, (low - value) + gamma(2) * low)


def bounded(x) -> Bounded:
    """A number or array that float32 holds exactly."""
    return x if isinstance(x, Bounded) else Bounded(np.asarray(x, dtype=float), np.zeros(np.shape(x)))


def concatenate(parts, axis: int = 0) -> Bounded:
    parts = [bounded(part) for part in parts]
    return Bounded(np.concatenate([p.value for p in parts], axis), np.concatenate([p.error for p in parts], axis))


def product(M, X) -> Bounded:
    """``M X`` with exact sparse M: a row with k stored entries makes k products and adds k terms (to whatever is there)."""
    X = bounded(X)
    M = sparse.csr_array(M)
    count = np.diff(M.indptr)[:, None]
    M = M.toarray()
    return Bounded(M @ X.value, np.abs(M) @ X.error + gamma(count + 1) * (np.abs(M) @ X.size) + SMALLEST)


def dense_product(A, B) -> Bounded:
    """``A B`` of dense matrices."""
    A, B = bounded(A), bounded(B)
    error = A.error @ B.size + np.abs(A.value) @ B.error + gamma(A.value.shape[1] + 1) * (A.size @ B.size)
    return Bounded(A.value @ B.value, error + SMALLEST)


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


def propagation_weights(grad, X0, M, n_layers: int) -> Bounded:
    """The gradient of propagation with respect to the stored entries of M."""
    layers = [bounded(X0)]
    for _ in range(n_layers - 1):
        layers.append(product(M, layers[-1]))
    share = layer_grad = bounded(grad) * (1 / (n_layers + 1))
    total = bounded(np.zeros(M.nnz))
    for layer in reversed(layers[:n_layers]):
        total = total + weights_product(layer_grad, M, layer)
        layer_grad = share + product(M.T, layer_grad)
    return total


def bridged_structure(grad, X0, matrices, g: float, layer_bridge: str, n_layers: int):
    """Gradients of bridged propagation with respect to X_hat, S_c, S_f (stored entries) and g.

    A layer is T = B X_hat ("raw") or T = X_hat + B ("exchange") with a dense matrix B of the assignments and the gate. With
    D = sum_k G_{k+1} X_k^T the gradient with respect to T, everything else is the product rule on dense matrices.
    """
    X_hat, S_coarse, S_fine, message = matrices
    n, c = S_coarse.shape
    h, p = slice(0, n), slice(n, n + c)
    layers = [bounded(X0)]
    for _ in range(n_layers - 1):
        layers.append(bridged_layer(layers[-1], matrices, g, layer_bridge))
    share = layer_grad = bounded(grad) * (1 / (n_layers + 1))
    D = bounded(np.zeros(X_hat.shape))
    for layer in reversed(layers[:n_layers]):
        D = D + dense_product(layer_grad, layer.T)
        layer_grad = share + bridged_layer_backward(layer_grad, matrices, g, layer_bridge)
    X_hat, F = bounded(X_hat.toarray()), bounded(S_fine.toarray())
    if layer_bridge == "raw":
        S = bounded(S_coarse.toarray())
        # B changes p by (2g - 1) S_f q - g p, and h by S_c times that.
        change = concatenate([bounded(np.eye(c)) * -g, F * (2 * g - 1)], axis=1)
        B = np.eye(len(X0)) + np.zeros(X_hat.value.shape)
        B[p, n:] += change.value
        B[h, n:] += S_coarse @ change.value
        # The sums are made term by term, so that what cancels in B must be bounded term by term.
        terms = np.eye(len(X0)) + np.zeros(X_hat.value.shape)
        terms[p, n:] += np.abs(change.value)
        terms[h, n:] += abs(S_coarse) @ np.abs(change.value)
        grad_X_hat = dense_product(Bounded(B.T, gamma(8) * terms.T), D)
        D = dense_product(D, X_hat.T)
        grad_change = D[p, n:] + dense_product(S.T, D[h, n:])
        grad_S = dense_product(D[h, n:], change.T)
        grad_F, of_p = grad_change[:, c:] * (2 * g - 1), grad_change[:, :c]
        grad_g = (grad_change[:, c:] * F).sum() * 2 - (of_p * np.eye(c)).sum()
    else:
        M = bounded(message.toarray())
        exchanged = concatenate([bounded(-np.eye(c)), F], axis=1)
        grad_exchanged = dense_product(M.T, D[h, n:])
        grad_X_hat = D + Bounded(np.zeros(D.value.shape), np.zeros(D.value.shape))
        block = dense_product(D[h, n:], exchanged.T) * g
        grad_X_hat.value[h, p] += block.value
        grad_X_hat.error[h, p] += block.error + U * np.abs(grad_X_hat.value[h, p])
        grad_S = bounded(np.zeros(S_coarse.shape))
        grad_F = grad_exchanged[:, c:] * g
        grad_g = (grad_exchanged * exchanged).sum()
    return tuple(part[_places(m)] for part, m in zip((grad_X_hat, grad_S, grad_F), matrices, strict=False)) + (grad_g,)


def _places(M) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the stored entries."""
    return np.repeat(np.arange(M.shape[0]), np.diff(M.indptr)), M.indices


def block_products(grad_Z, Q, R):
    """Quotient-remainder composition, entity by entity, and its gradients."""
    q, r = np.divmod(np.arange(len(grad_Z)), len(R))
    Z = bounded(Q)[q] * bounded(R)[r]
    return Z, scatter(bounded(grad_Z) * R[r], q, len(Q)), scatter(bounded(grad_Z) * Q[q], r, len(R))


def adam(x, gradients, rate: float):
    """Parameters and moments after Adam steps with these gradients."""
    x, one = bounded(x), bounded(np.ones(()))
    m = v = bounded(np.zeros(x.value.shape))
    for k, g in enumerate(gradients, 1):
        g = bounded(g)
        m, v = m * 0.9 + g * (1 - 0.9), v * 0.999 + g * (1 - 0.999) * g
        x = x - m * (rate / (1 - 0.9**k)) / (v.root() / (one * (1 - 0.999**k) ** 0.5) + one * 1e-8)
    return x, m, v


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
    sigmoid = np.exp(-np.logaddexp(0, -difference))
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


def scores(H, bias, bias_global, left, right) -> Bounded:
    """<H[left], H[right]> and the biases, added in any order."""
    terms = [bounded(H)[left] * bounded(H)[right], *(bounded(b)[:, None] for b in (bias[left], bias[right]))]
    return concatenate([*terms, np.full((len(left), 1), float(bias_global[0]))], axis=1).sum(axis=1)


def penalty(cotangent: float, Z, triples, l2: float):
    """The regulariser and its gradient: every square is rounded once, added, and multiplied a few times."""
    entities = np.concatenate([triples.user, triples.positive, triples.negative])
    count = np.bincount(entities, minlength=len(Z))[:, None]
    total = l2 / len(triples) * np.sum(count * Z * Z)
    grad = 2 * l2 * cotangent / len(triples) * count * Z
    # The squares of a row are added, then rows; or all of them pairwise, as NumPy does, which rounds each at most 40 times.
    depth = Z.shape[1] + entities.size + 40
    return Bounded(total, gamma(depth + 6) * total), Bounded(grad, gamma(8) * np.abs(grad))


def normalisation(G, X, degree: str = "signed"):
    """D^-1/2 X D^-1/2 of stored entries, and its gradient."""
    n = X.shape[0]
    rows, columns = _places(X)
    x = bounded(X.data)
    sign = np.sign(X.data) if degree == "absolute" else np.ones(X.nnz)
    sums = scatter(bounded(sign) * x, rows, n)
    good = sums.value > 1e-6
    root = Bounded(np.where(good, sums.value, 1.0), np.where(good, sums.error, 0.0)).inverse_root()
    f = Bounded(root.value * good, root.error * good)
    X_hat = x * f[rows] * f[columns]
    weighted = bounded(G) * x
    terms = concatenate([weighted * f[columns], weighted * f[rows]])
    grad_sum = scatter(terms, np.concatenate([rows, columns]), n) * (f * f * f) * -0.5
    return X_hat, bounded(G) * f[rows] * f[columns] + grad_sum[rows] * bounded(sign)


# ---- the check -------------------------------------------------------------------------------------------------------
def says_something(bound: Bounded) -> bool:
    """Whether a factor of 1.001 would break the bound; a result that must be 0 is held to 0."""
    return bool(np.linalg.norm(bound.error) <= max(VACUOUS / 2 * np.linalg.norm(bound.value), 1e-30))


def held(check: str, name: str, ours, bound: Bounded, dtype, where: str) -> Verdict:
    """Hold a result of either precision to its bound; the figure is the largest error as a share of it."""
    if np.shape(ours) != np.shape(bound.value):
        return Verdict(check, name, "failed", reason=f"{where}: shape {np.shape(ours)} instead of {np.shape(bound.value)}")
    share = 1.0 if dtype == np.float32 else IN_FLOAT64
    allowed = share * (bound.error + U * np.abs(bound.value)) + SMALLEST
    off = np.abs(np.asarray(ours, np.float64) - bound.value)
    used = float(np.max(off / allowed, initial=0))
    if used <= 1:
        return Verdict(check, name, "passed", used, 1.0, f"{used:.0%} of the error bound")
    worst = np.unravel_index(np.argmax(np.where(np.isnan(off), np.inf, off / allowed)), off.shape)
    place = f" at {', '.join(map(str, worst))}" if worst else ""
    reason = f"{where}: off by {off[worst]:.2e}{place}, where the derived bound is {allowed[worst]:.2e}"
    return Verdict(check, name, "failed", used, 1.0, reason)
