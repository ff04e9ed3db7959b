"""Compiled sparse products: propagation by Horner's rule, the collapsed fine stage, composition by links.

Rows are handed to threads in groups with about the same load. The dense products go to BLAS in blocks of a fixed size, each on
one thread, and sums over blocks are made in their order: the bits are the same on any number of threads.

Shapes
------
matrix : (n, m) csr with indptr, indices, data     X : (m, d)     base, out : (n, d)
bounds : (G + 1,); group g owns the rows bounds[g] .. bounds[g + 1] - 1
rows : (K,) distinct row numbers     place : (n,) with place[rows[k]] = k and -1 elsewhere     collapsed: see the text
S : (N, C)     E, grad_E : (C, d)     Z, grad_Z : (N, d)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numba
import numpy as np
import scipy.sparse as sparse
from numba import prange

from ..model import propagation as text
from ..model.sparse import SparseOperator, matrix_and_transpose
from ..threads import in_threads, one_blas_thread
from .buffers import empty
from .compiled import ENTRIES_OF_A_BLOCK, carray, njit, prefetch_row, row_sum, stack_pointer

# Up to here a width gets a kernel of its own, with the width as a constant of the program; of narrow ones, multiples of four.
_WIDEST, _NARROW = 512, 48
# Entries between asking for a row of X and using it. Measured: 4 help little, 12 to 24 are equally good.
_AHEAD = 16
# Enough groups that two or eight threads finish together, few enough that handing them out costs nothing.
_N_GROUPS = 64
# Rows of a block of a dense product.
_BLOCK = 4096

_NOTHING = np.empty(0, np.int32)


def even_row_groups(indptr: np.ndarray, n_groups: int = _N_GROUPS) -> np.ndarray:
    """The bounds of groups of rows of a csr matrix with about the same number of entries."""
    n_rows = len(indptr) - 1
    # A row costs its entries plus one write of its own, hence the row number in the load.
    load = indptr + np.arange(n_rows + 1)
    bounds = np.searchsorted(load, np.linspace(0, load[-1], n_groups + 1)).astype(np.int64)
    bounds[0], bounds[-1] = 0, n_rows
    return bounds


def even_groups_of(lengths: np.ndarray, n_groups: int = _N_GROUPS) -> np.ndarray:
    """The same for rows given by their numbers of entries."""
    return even_row_groups(np.concatenate([[0], np.cumsum(lengths)]), n_groups)


# ---- the sparse product --------------------------------------------------------------------------------------------------
def constant_width(width: int) -> int:
    """The width for which a kernel is to be compiled: that of the rows, or 0 for the kernel that takes any."""
    return width if width <= _WIDEST and (width >= _NARROW or width % 4 == 0) else 0


add_scaled = row_sum(lambda total, weight, x: total + weight * x)
add_scaled_by_tanh_slope = row_sum(lambda total, weight, grad_z, z: total + weight * (grad_z * (1 - z * z)))


@cache
def _product(width: int):
    """``out = scale * (base + matrix @ X)``, of one width, each row summed in registers; of any width (0), in memory.

    `out` has the rows `rows` of the product, or all; `X` and `base` are whole, or hold only the rows that their `place` names.
    """

    @njit(parallel=True)
    def product(bounds, indptr, indices, data, X, base, scale, out, rows, X_place, base_place):
        n_entries = indices.shape[0]
        for g in prange(bounds.shape[0] - 1):
            d = width if width else out.shape[1]
            for k in range(bounds[g], bounds[g + 1]):
                row = carray(stack_pointer(out, width), (width,)) if width else out[k]
                i = np.int64(rows[k]) if rows.shape[0] > 0 else k
                b = np.int64(base_place[i]) if base_place.shape[0] > 0 else i
                if base.shape[0] > 0 and b >= 0:
                    for f in range(d):
                        row[f] = base[b, f]
                else:
                    for f in range(d):
                        row[f] = 0
                for p in range(indptr[i], indptr[i + 1]):
                    if width and p + _AHEAD < n_entries:
                        ahead = np.int64(indices[p + _AHEAD])
                        if X_place.shape[0] > 0:
                            ahead = max(np.int64(X_place[ahead]), 0)
                        prefetch_row(X, ahead, width)
                    j = np.int64(indices[p])
                    if X_place.shape[0] > 0:
                        j = np.int64(X_place[j])
                        if j < 0:
                            continue
                    add_scaled(row, data[p], X, j, width)
                for f in range(d):
                    out[k, f] = scale * row[f]

    return product


def _run(matrix, bounds, X, base, scale, out, *, rows=_NOTHING, X_place=_NOTHING, base_place=_NOTHING) -> None:
    csr = matrix.indptr, matrix.indices, matrix.data
    rows = rows.astype(np.int32, copy=False)
    _product(constant_width(X.shape[1]))(bounds, *csr, X, base, scale, out, rows, X_place, base_place)


def _widened(X: np.ndarray) -> np.ndarray:
    """X, with zeros up to a width that has a kernel of its own: the one for any width takes several times as long."""
    missing = -X.shape[1] % 4 if X.shape[1] < _NARROW else 0
    return np.ascontiguousarray(np.concatenate([X, np.zeros((len(X), missing), X.dtype)], axis=1) if missing else X)


def multiply(matrix, bounds: np.ndarray, X: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """``matrix @ X``."""
    width, X = X.shape[1], _widened(X) if out is None else np.ascontiguousarray(X)
    if out is None:
        out = empty((matrix.shape[0], X.shape[1]), np.result_type(matrix.dtype, X.dtype))
    _run(matrix, bounds, X, X[:0], out.dtype.type(1), out)
    return np.ascontiguousarray(out[:, :width])


def mean_of_powers(
    matrix, bounds: np.ndarray, X: np.ndarray, n_layers: int, *, wanted: np.ndarray | None = None, given: np.ndarray | None = None
) -> np.ndarray:
    """``(I + M + ... + M^L) X / (L + 1)`` by Horner's rule: L > 0 times Y <- X + M Y, starting from Y = X.

    The running sum over layers is part of the product, and no layer is stored. The last product is made for the `wanted` rows
    only. If X is zero but for the rows `given`, only these are handed in, and X as a whole is never formed.
    """
    width = X.shape[1]
    Y = X = _widened(X)
    dtype = np.result_type(matrix.dtype, X.dtype)
    one, share, place = dtype.type(1), dtype.type(1 / (n_layers + 1)), _NOTHING
    if given is not None:
        place = np.full(matrix.shape[1], -1, np.int32)
        place[given] = np.arange(len(given), dtype=np.int32)
    for layer in range(n_layers):
        last, rows, groups = layer == n_layers - 1, _NOTHING, bounds
        if last and wanted is not None:
            rows, groups = wanted, even_groups_of(np.diff(matrix.indptr)[wanted])
        out = empty((groups[-1], X.shape[1]), dtype)
        X_place = place if layer == 0 else _NOTHING
        _run(matrix, groups, Y, X, share if last else one, out, rows=rows, X_place=X_place, base_place=place)
        Y = out
    return np.ascontiguousarray(Y[:, :width])


@njit(parallel=True)
def _weights_gradient(indptr, indices, grad_Y, X, values):
    for i in prange(indptr.shape[0] - 1):
        for p in range(indptr[i], indptr[i + 1]):
            j = indices[p]
            total = values.dtype.type(0)
            for f in range(X.shape[1]):
                total += grad_Y[i, f] * X[j, f]
            values[p] = total


@dataclass(frozen=True)
class CompiledOperator(SparseOperator):
    """A sparse operator with groups of its rows; the adjoint gathers through the transpose: each thread owns what it writes."""

    row_bounds: np.ndarray
    transpose_row_bounds: np.ndarray

    def forward(self, X: np.ndarray) -> np.ndarray:
        return multiply(self.matrix, self.row_bounds, X)

    def adjoint(self, grad_Y: np.ndarray) -> np.ndarray:
        return multiply(self.transpose, self.transpose_row_bounds, grad_Y)

    def add_forward(self, X: np.ndarray, total: np.ndarray) -> None:
        _run(self.matrix, self.row_bounds, np.ascontiguousarray(X), total, total.dtype.type(1), total)

    def weights_gradient(self, grad_Y: np.ndarray, X: np.ndarray) -> np.ndarray:
        values = np.empty(self.matrix.nnz, dtype=np.result_type(grad_Y.dtype, X.dtype))
        grad_Y, X = np.ascontiguousarray(grad_Y), np.ascontiguousarray(X)
        _weights_gradient(self.matrix.indptr, self.matrix.indices, grad_Y, X, values)
        return values


def operator(matrix) -> CompiledOperator:
    """Prepare a matrix for products with it and with its transpose; a compiled operator is returned as it is."""
    if isinstance(matrix, CompiledOperator):
        return matrix
    rows, columns = matrix_and_transpose(matrix)
    return CompiledOperator(rows, columns, even_row_groups(rows.indptr), even_row_groups(columns.indptr))


def symmetric_operator(matrix) -> CompiledOperator:
    """An operator that is its own transpose to the last bit, which is the caller's promise: nothing is transposed."""
    bounds = even_row_groups(matrix.indptr)
    return CompiledOperator(matrix, matrix, bounds, bounds)


# ---- propagation ---------------------------------------------------------------------------------------------------------
class BridgedLayer(text.BridgedLayer):
    """The raw bridge with one sparse product instead of two."""

    def bridge_raw(self, h: np.ndarray, p: np.ndarray, fine: np.ndarray) -> None:
        """The four lines change p by (2g - 1) S_f q - g p, and h by S_c times that."""
        change = (2 * self.gate - 1) * fine - self.gate * p
        self.S_coarse.add_forward(change, h)
        p += change


def propagate(X0: np.ndarray, layer, n_layers: int, *, rows: np.ndarray | None = None) -> np.ndarray:
    """H, or some of its rows: by Horner's rule where a layer is a sparse operator."""
    layer = operator(layer) if sparse.issparse(layer) else layer
    if not isinstance(layer, CompiledOperator) or n_layers < 1:
        return text.propagate(X0, layer, n_layers, rows=rows)
    return mean_of_powers(layer.matrix, layer.row_bounds, X0, n_layers, wanted=rows)


def propagate_backward(grad_H: np.ndarray, layer, n_layers: int, *, rows: np.ndarray | None = None) -> np.ndarray:
    """grad_X0; with `rows` the cotangent of all other rows is 0, and never formed."""
    layer = operator(layer) if sparse.issparse(layer) else layer
    if not isinstance(layer, CompiledOperator) or n_layers < 1:
        return text.propagate_backward(grad_H, layer, n_layers, rows=rows)
    return mean_of_powers(layer.transpose, layer.transpose_row_bounds, grad_H, n_layers, given=rows)


def propagate_collapsed(F, tanh_F, collapsed, *, rows: np.ndarray, block: int = _BLOCK) -> np.ndarray:
    """Some rows of H_entities: ``K + W1 F + W2 tanh(F)``."""
    K, W, X = collapsed.constant, collapsed.weights, np.concatenate([F, tanh_F])
    out = empty((len(rows), X.shape[1]), np.result_type(K.dtype, W.dtype, X.dtype))

    def work(first: int) -> None:
        mine, product = rows[first : first + block], out[first : first + block]
        np.matmul(W[mine], X, out=product)
        product += K[mine]

    _in_blocks(work, len(rows), block)
    return out


def propagate_collapsed_backward(grad_H, collapsed, *, rows: np.ndarray, block: int = _BLOCK):
    """grad_F and grad_tanh_F, as of two arguments."""
    W, starts = collapsed.weights, range(0, len(rows), block)
    parts = np.zeros((len(starts), W.shape[1], grad_H.shape[1]), np.result_type(W.dtype, grad_H.dtype))

    def work(first: int) -> None:
        np.matmul(W[rows[first : first + block]].T, grad_H[first : first + block], out=parts[first // block])

    _in_blocks(work, len(rows), block)
    both = parts.sum(axis=0)
    return both[: len(both) // 2], both[len(both) // 2 :]


def _in_blocks(work, n_rows: int, block: int) -> None:
    with one_blas_thread():
        in_threads(work, range(0, n_rows, block), numba.get_num_threads())


# ---- composition --------------------------------------------------------------------------------------------------------
# tanh itself is left to NumPy in the forward pass: its vectorised version is several times faster than a call per entry.
def compose(S, E: np.ndarray) -> np.ndarray:
    """``tanh(S E)``."""
    return tanh_in_place(operator(S).forward(E))


def compose_above(S, E: np.ndarray) -> np.ndarray:
    """``[tanh(S E); E]``, the first part computed where it belongs."""
    S = operator(S)
    n = S.shape[0]
    both = empty((n + len(E), E.shape[1]), np.result_type(S.matrix.dtype, E.dtype))
    tanh_in_place(multiply(S.matrix, S.row_bounds, E, out=both[:n]))
    both[n:] = E
    return both


def tanh_in_place(X: np.ndarray, *, worth_a_thread: int = 1 << 20, n_chunks: int = 16) -> np.ndarray:
    """NumPy's tanh, on as many threads as the kernels use.

    Below `worth_a_thread` entries, handing rows to threads takes longer than their tanh.
    """
    if X.size < worth_a_thread:
        return np.tanh(X, out=X)
    rows = -(-len(X) // n_chunks)

    def work(first: int) -> None:
        np.tanh(X[first : first + rows], out=X[first : first + rows])

    in_threads(work, range(0, len(X), rows), numba.get_num_threads())
    return X


def compose_backward(grad_Z: np.ndarray, S, Z: np.ndarray) -> np.ndarray:
    """``S^T (grad_Z * (1 - Z^2))`` without forming the product in the brackets, which would take several times as long."""
    S, width, grad_Z, Z = operator(S), Z.shape[1], _widened(grad_Z), _widened(Z)
    T = S.transpose
    grad_E = np.zeros((T.shape[0], Z.shape[1]), dtype=np.result_type(T.dtype, grad_Z.dtype))
    _gather_links(constant_width(Z.shape[1]))(S.transpose_row_bounds, T.indptr, T.indices, T.data, grad_Z, Z, grad_E)
    return np.ascontiguousarray(grad_E[:, :width])


@cache
def _gather_links(width: int):
    """The kernel for rows of one width, summed in registers; of any width (0), in memory."""

    @njit(parallel=True)
    def gather(bounds, indptr, indices, data, grad_Z, Z, grad_E):
        for g in prange(bounds.shape[0] - 1):
            d = width if width else Z.shape[1]
            for c in range(bounds[g], bounds[g + 1]):
                row = carray(stack_pointer(grad_E, width), (width,)) if width else grad_E[c]
                for f in range(d):
                    row[f] = 0
                for p in range(indptr[c], indptr[c + 1]):
                    if width and p + _AHEAD < indices.shape[0]:
                        prefetch_row(Z, indices[p + _AHEAD], width)
                        prefetch_row(grad_Z, indices[p + _AHEAD], width)
                    add_scaled_by_tanh_slope(row, data[p], grad_Z, indices[p], Z, indices[p], width)
                for f in range(width):
                    grad_E[c, f] = row[f]

    return gather


def tanh_backward(grad_Z: np.ndarray, Z: np.ndarray, *, block: int = ENTRIES_OF_A_BLOCK) -> np.ndarray:
    """``grad_Z * (1 - Z^2)``, in one trip through memory."""
    out = empty(Z.shape, np.result_type(grad_Z.dtype, Z.dtype))
    _scale_by_tanh_slope(*(np.ascontiguousarray(part).reshape(-1) for part in (grad_Z, Z)), out.reshape(-1), block)
    return out


@njit(parallel=True)
def _scale_by_tanh_slope(grad_Z, Z, out, block):
    one = out.dtype.type(1)
    for b in prange((out.shape[0] + block - 1) // block):
        for k in range(b * block, min((b + 1) * block, out.shape[0])):
            out[k] = grad_Z[k] * (one - Z[k] * Z[k])
