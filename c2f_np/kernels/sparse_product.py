"""Compiled sparse products.

Shapes
------
matrix : (n, m) csr with indptr, indices, data     X : (m, d)     base, out : (n, d)     bounds : groups of rows
rows : (K,) distinct row numbers     place : (n,) with place[rows[k]] = k and -1 elsewhere
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numba import prange

from ..model import propagation as text
from ..model.sparse import SparseOperator, matrix_and_transpose
from .accumulator import carray, stack_pointer
from .buffers import empty
from .compiled import njit
from .prefetch import prefetch_row
from .row_groups import even_groups_of, even_row_groups
from .widths import has_own_kernel

# Entries between asking for a row of X and using it. Measured: 4 help little, 12 to 24 are equally good.
_AHEAD = 16

_NOTHING = np.empty(0, np.int32)


def multiply(matrix, bounds: np.ndarray, X: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """``matrix @ X``."""
    X = np.ascontiguousarray(X)
    if out is None:
        out = empty((matrix.shape[0], X.shape[1]), np.result_type(matrix.dtype, X.dtype))
    _run(matrix, bounds, X, X[:0], out.dtype.type(1), out)
    return out


def add_product(matrix, bounds: np.ndarray, X: np.ndarray, total: np.ndarray) -> np.ndarray:
    """``total += matrix @ X``, row by row in place; `total` is returned."""
    _run(matrix, bounds, np.ascontiguousarray(X), total, total.dtype.type(1), total)
    return total


def mean_of_powers(matrix, bounds: np.ndarray, X: np.ndarray, n_layers: int, rows: np.ndarray | None = None) -> np.ndarray:
    """``(I + M + ... + M^L) X / (L + 1)`` by Horner's rule: L times Y <- X + M Y, starting from Y = X.

    The running sum over layers is part of the product, and no layer is stored. With `rows` the last product is made for
    these rows only.
    """
    X = np.ascontiguousarray(X)
    dtype = np.result_type(matrix.dtype, X.dtype)
    if n_layers == 0:
        return (X if rows is None else X[rows]).astype(dtype)
    one, share = dtype.type(1), dtype.type(1 / (n_layers + 1))
    Y = X
    for _ in range(n_layers - 1):
        out = empty(X.shape, dtype)
        _run(matrix, bounds, Y, X, one, out)
        Y = out
    if rows is None:
        out = empty(X.shape, dtype)
        _run(matrix, bounds, Y, X, share, out)
        return out
    out = empty((len(rows), X.shape[1]), dtype)
    _run(matrix, even_groups_of(np.diff(matrix.indptr)[rows]), Y, X, share, out, rows=rows)
    return out


def mean_of_powers_from_rows(
    matrix, bounds: np.ndarray, X_rows: np.ndarray, n_layers: int, rows: np.ndarray
) -> np.ndarray:
    """:func:`mean_of_powers` of a matrix X that is zero but for `rows`, where it is `X_rows`; X itself is never formed."""
    X_rows = np.ascontiguousarray(X_rows)
    dtype = np.result_type(matrix.dtype, X_rows.dtype)
    shape = (matrix.shape[0], X_rows.shape[1])
    if n_layers == 0:
        out = np.zeros(shape, dtype)
        out[rows] = X_rows
        return out
    one, share = dtype.type(1), dtype.type(1 / (n_layers + 1))
    place = np.full(matrix.shape[1], -1, np.int32)
    place[rows] = np.arange(len(rows), dtype=np.int32)
    Y = X_rows
    for layer in range(n_layers):
        out = empty(shape, dtype)
        scale = share if layer == n_layers - 1 else one
        _run(matrix, bounds, Y, X_rows, scale, out, X_place=place if layer == 0 else _NOTHING, base_place=place)
        Y = out
    return Y


def _run(matrix, bounds, X, base, scale, out, *, rows=_NOTHING, X_place=_NOTHING, base_place=_NOTHING) -> None:
    """``out = scale * (base + matrix @ X)``.

    `out` has the rows `rows` of the product, or all; `X` and `base` are whole, or hold only the rows that their `place` names.
    """
    kernel = _kernel(X.shape[1], len(rows) > 0, len(X_place) > 0, len(base_place) > 0)
    kernel(
        bounds, matrix.indptr, matrix.indices, matrix.data, X, base, scale, out,
        rows.astype(np.int32, copy=False), X_place, base_place,
    )  # fmt: skip


@cache
def _kernel(width: int, some_rows: bool, X_placed: bool, base_placed: bool):
    """The product for one width: a constant of the program where that pays, any width otherwise."""
    return _fixed_width(width, some_rows, X_placed, base_placed) if has_own_kernel(width) else _any_width


def _fixed_width(width: int, some_rows: bool, X_placed: bool, base_placed: bool):
    @njit(parallel=True)
    def product(bounds, indptr, indices, data, X, base, scale, out, rows, X_place, base_place):
        n_entries = indices.shape[0]
        for g in prange(bounds.shape[0] - 1):
            row = carray(stack_pointer(out, width), (width,))
            for k in range(bounds[g], bounds[g + 1]):
                i = np.int64(rows[k]) if some_rows else k
                b = np.int64(base_place[i]) if base_placed else i
                if base.shape[0] > 0 and b >= 0:
                    for f in range(width):
                        row[f] = base[b, f]
                else:
                    for f in range(width):
                        row[f] = 0
                for p in range(indptr[i], indptr[i + 1]):
                    if p + _AHEAD < n_entries:
                        ahead = np.int64(indices[p + _AHEAD])
                        if X_placed:
                            ahead = max(np.int64(X_place[ahead]), 0)
                        prefetch_row(X, ahead, width)
                    j = np.int64(indices[p])
                    if X_placed:
                        j = np.int64(X_place[j])
                        if j < 0:
                            continue
                    weight = data[p]
                    for f in range(width):
                        row[f] += weight * X[j, f]
                for f in range(width):
                    out[k, f] = scale * row[f]

    return product


@njit(parallel=True)
def _any_width(bounds, indptr, indices, data, X, base, scale, out, rows, X_place, base_place):
    for g in prange(bounds.shape[0] - 1):
        for k in range(bounds[g], bounds[g + 1]):
            i = np.int64(rows[k]) if rows.shape[0] > 0 else k
            b = np.int64(base_place[i]) if base_place.shape[0] > 0 else i
            for f in range(out.shape[1]):
                out[k, f] = base[b, f] if base.shape[0] > 0 and b >= 0 else 0
            for p in range(indptr[i], indptr[i + 1]):
                j = np.int64(indices[p])
                if X_place.shape[0] > 0:
                    j = np.int64(X_place[j])
                    if j < 0:
                        continue
                weight = data[p]
                for f in range(out.shape[1]):
                    out[k, f] += weight * X[j, f]
            for f in range(out.shape[1]):
                out[k, f] *= scale


def weights_gradient(indptr: np.ndarray, indices: np.ndarray, grad_Y: np.ndarray, X: np.ndarray) -> np.ndarray:
    """``<grad_Y[i], X[j]>`` for every stored entry (i, j)."""
    values = np.empty(len(indices), dtype=np.result_type(grad_Y.dtype, X.dtype))
    _weights_gradient(indptr, indices, np.ascontiguousarray(grad_Y), np.ascontiguousarray(X), values)
    return values


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
    """A sparse operator with evenly loaded groups of its rows.

    The backward pass gathers through the transpose, so that each thread owns the rows it writes.
    """

    row_bounds: np.ndarray
    transpose_row_bounds: np.ndarray

    def forward(self, X: np.ndarray) -> np.ndarray:
        return multiply(self.matrix, self.row_bounds, X)

    def adjoint(self, grad_Y: np.ndarray) -> np.ndarray:
        return multiply(self.transpose, self.transpose_row_bounds, grad_Y)

    def add_forward(self, X: np.ndarray, total: np.ndarray) -> None:
        add_product(self.matrix, self.row_bounds, X, total)

    def weights_gradient(self, grad_Y: np.ndarray, X: np.ndarray) -> np.ndarray:
        return weights_gradient(self.matrix.indptr, self.matrix.indices, grad_Y, X)


def operator(matrix) -> CompiledOperator:
    """Prepare a sparse matrix for products with it and with its transpose."""
    rows, columns = matrix_and_transpose(matrix)
    return CompiledOperator(rows, columns, even_row_groups(rows.indptr), even_row_groups(columns.indptr))


def symmetric_operator(matrix) -> CompiledOperator:
    """An operator that is its own transpose to the last bit, which is the caller's promise: nothing is transposed."""
    bounds = even_row_groups(matrix.indptr)
    return CompiledOperator(matrix, matrix, bounds, bounds)


class BridgedLayer(text.BridgedLayer):
    """The raw bridge with one sparse product instead of two."""

    def bridge_raw(self, h: np.ndarray, p: np.ndarray, fine: np.ndarray) -> None:
        """The four lines change p by (2g - 1) S_f q - g p, and h by S_c times that."""
        change = (2 * self.gate - 1) * fine - self.gate * p
        self.S_coarse.add_forward(change, h)
        p += change


def propagate(X0: np.ndarray, layer, n_layers: int, *, rows: np.ndarray | None = None) -> np.ndarray:
    """H, or some of its rows: by Horner's rule where a layer is a sparse operator."""
    if not isinstance(layer, CompiledOperator):
        return text.propagate(X0, layer, n_layers, rows=rows)
    text.as_layer(layer, n_layers)
    return mean_of_powers(layer.matrix, layer.row_bounds, X0, n_layers, rows)


def propagate_backward(grad_H: np.ndarray, layer, n_layers: int, *, rows: np.ndarray | None = None) -> np.ndarray:
    """grad_X0; with `rows` the cotangent of all other rows is 0, and never formed."""
    if not isinstance(layer, CompiledOperator):
        return text.propagate_backward(grad_H, layer, n_layers, rows=rows)
    text.as_layer(layer, n_layers)
    of_transpose = layer.transpose, layer.transpose_row_bounds
    if rows is None:
        return mean_of_powers(*of_transpose, grad_H, n_layers)
    return mean_of_powers_from_rows(*of_transpose, grad_H, n_layers, rows)
