"""Plausible mistakes in every backward pass, put in one at a time: each must be killed.

A :class:`Mutant` replaces a piece of a function's source by another. The old text must stand in that source exactly once (a test
asserts it, so the catalogue cannot fall behind the code). The changed function is compiled in the namespace of its module and
takes the place of the original wherever the package has imported it. Compiled kernels are compiled anew, without threads.
"""

from __future__ import annotations

import importlib
import inspect
import json as json_format
import pkgutil
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import SettingsError
from ..gradcheck import Report
from .catalogue import CHECKED, cases
from .threads import one_kernel_thread


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes
    ----------
    place : str
        Module and function, ``operations.bpr.bpr_backward``.
    mistake : str
        In words.
    old, new : str
        Text of the function's source and what replaces it.
    expects : tuple of str
        The operations or stages whose cases must notice; each of them alone must.
    """

    place: str
    mistake: str
    old: str
    new: str
    expects: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.place}: {self.mistake}"

    def function(self):
        """The function as the package has it."""
        module, name = self.place.rsplit(".", 1)
        return getattr(importlib.import_module(f"c2f_np.{module}"), name)

    def source(self) -> str:
        """Source of the function that is mutated."""
        function = self.function()
        function = getattr(function, "py_func", function)  # Numba's dispatcher
        return textwrap.dedent(inspect.getsource(inspect.unwrap(function)))


def _in(place: str, *expects: str):
    """Several mistakes in one function: each a (mistake, old, new)."""

    def listed(*mistakes) -> list[Mutant]:
        return [Mutant(place, mistake, old, new, expects) for mistake, old, new in mistakes]

    return listed


MUTANTS: tuple[Mutant, ...] = (
    # ---- sparse product
    *_in("operations.sparse_product.sparse_product_backward", "sparse_product")(
        ("transpose forgotten (NumPy)", "return M.transpose @ grad_Y", "return M.matrix @ grad_Y"),
        ("wrong sign", "return M.transpose @ grad_Y", "return -(M.transpose @ grad_Y)"),
        ("factor 1.03", "return M.transpose @ grad_Y", "return grad_Y.dtype.type(1.03) * (M.transpose @ grad_Y)"),
        ("transpose forgotten (compiled)", "multiply(M.transpose, M.transpose_row_bounds, grad_Y)",
         "multiply(M.matrix, M.row_bounds, grad_Y)"),
        ("half of the row groups", "M.transpose_row_bounds, grad_Y", "M.transpose_row_bounds[:32], grad_Y"),
    ),
    *_in("operations.sparse_product.sparse_product_backward", "propagate")(
        ("transpose forgotten, seen from propagation", "return M.transpose @ grad_Y", "return M.matrix @ grad_Y"),
    ),
    *_in("operations.sparse_product.sparse_product_backward_weights", "sparse_product")(
        ("rows and columns exchanged", "grad_Y[rows] * X[matrix.indices]",
         "grad_Y[matrix.indices % len(grad_Y)] * X[rows % len(X)]"),
        ("only the first column of the width", "axis=1)", "axis=1) * 0 + grad_Y[rows, 0] * X[matrix.indices, 0]"),
        ("factor 1.03", "values = np.sum(", "values = grad_Y.dtype.type(1.03) * np.sum("),
    ),
    *_in("kernels.sparse_product._weights_gradient", "sparse_product")(
        ("overwrites instead of adding up", "total += grad_Y", "total = grad_Y"),
        ("row of the wrong matrix", "X[j, f]", "X[i % X.shape[0], f]"),
    ),
    *_in("kernels.sparse_product._any_width", "sparse_product", "propagate")(
        ("overwrites instead of adding up", "out[k, f] += weight * X[j, f]", "out[k, f] = weight * X[j, f]"),
        ("last entry of each row lost", "indptr[i + 1]):", "indptr[i + 1] - 1):"),
        ("last group of rows lost", "bounds.shape[0] - 1", "bounds.shape[0] - 2"),
    ),
    *_in("kernels.sparse_product._fixed_width", "sparse_product", "propagate")(
        ("overwrites instead of adding up", "row[f] += weight * X[j, f]", "row[f] = weight * X[j, f]"),
        ("weight left out", "row[f] += weight * X[j, f]", "row[f] += X[j, f]"),
        ("row of the wrong node", "row[f] += weight * X[j, f]", "row[f] += weight * X[i % X.shape[0], f]"),
    ),
    *_in("kernels.sparse_product._fixed_width", "propagate")(
        ("base of the next row", "row[f] = base[b, f]", "row[f] = base[b - 1, f]"),
    ),
    *_in("kernels.sparse_product.mean_of_powers", "propagate")(
        ("mean over layers forgotten", "dtype.type(1 / (n_layers + 1))", "dtype.type(1)"),
        ("mean over L layers", "1 / (n_layers + 1)", "1 / n_layers"),
        ("one layer too few", "range(n_layers - 1)", "range(n_layers - 2)"),
        ("last layer only", "_run(matrix, bounds, Y, X, share, out)", "_run(matrix, bounds, Y, X[:0], share, out)"),
        ("rows: last layer only", "Y, X, share, out, rows=rows)", "Y, X[:0], share, out, rows=rows)"),
        ("rows: those of the groups", "out, rows=rows)", "out)"),
    ),
    *_in("kernels.sparse_product.mean_of_powers_from_rows", "propagate", "coarse_stage")(
        ("mean over layers forgotten", "dtype.type(1 / (n_layers + 1))", "dtype.type(1)"),
        ("scaled one layer too early", "if layer == n_layers - 1 else", "if layer == n_layers - 2 else"),
        ("rows at the wrong place", "place[rows] = np.arange(len(rows), dtype=np.int32)",
         "place[rows] = np.arange(len(rows), dtype=np.int32)[::-1]"),
        ("share of the mean forgotten after the first layer", "X_rows, scale, out",
         "X_rows[: None if layer == 0 else 0], scale, out"),
    ),
    # ---- propagation
    *_in("operations.propagation.propagate_backward", "propagate")(
        ("mean over layers forgotten", "share = grad_H / (n_layers + 1)", "share = grad_H"),
        ("mean over L layers", "share = grad_H / (n_layers + 1)", "share = grad_H / max(n_layers, 1)"),
        ("one layer too few", "range(n_layers)", "range(n_layers - 1)"),
        ("one layer too many", "range(n_layers)", "range(n_layers + 1)"),
        ("overwrites instead of accumulating", "grad_layer = share + sparse", "grad_layer = sparse"),
        ("wrong sign", "grad_layer = share + sparse", "grad_layer = share - sparse"),
        ("transpose forgotten (compiled)", "mean_of_powers(X_hat.transpose, X_hat.transpose_row_bounds",
         "mean_of_powers(X_hat.matrix, X_hat.row_bounds"),
        ("rows: transpose forgotten (compiled)", "from_rows(X_hat.transpose, X_hat.transpose_row_bounds",
         "from_rows(X_hat.matrix, X_hat.row_bounds"),
    ),
    *_in("operations.propagation_structure.propagate_backward_weights", "propagate", "coarse_stage")(
        ("layers in the wrong order", "reversed(layers[:n_layers])", "layers[:n_layers]"),
        ("overwrites instead of accumulating", "values += sparse", "values = sparse"),
        ("stale layer", "layers[-1], engine", "layers[0], engine"),
        ("mean over layers forgotten", "share = grad_H / (n_layers + 1)", "share = grad_H"),
    ),
    # ---- composition
    *_in("operations.composition.compose_backward", "compose", "coarse_stage")(
        ("tanh' forgotten", "tanh_backward(grad_Z, Z)", "grad_Z"),
    ),
    *_in("operations.composition.compose_backward", "compose")(
        ("half of the row groups", "S.transpose_row_bounds, grad_Z", "S.transpose_row_bounds[:32], grad_Z"),
    ),
    *_in("operations.composition.compose_backward_assignment", "compose", "coarse_stage")(
        ("tanh' forgotten", "tanh_backward(grad_Z, Z)", "grad_Z"),
        ("factor 1.03", "tanh_backward(grad_Z, Z)", "tanh_backward(grad_Z, Z) * grad_Z.dtype.type(1.03)"),
    ),
    *_in("operations.composition.tanh_backward", "compose", "coarse_stage", "joint_stage")(
        ("wrong sign", "1 - Z**2", "1 + Z**2"),
        ("square forgotten", "1 - Z**2", "1 - Z"),
    ),
    *_in("kernels.elementwise._scale_by_tanh_slope", "compose", "joint_stage")(
        ("wrong sign", "one - Z[k] * Z[k]", "one + Z[k] * Z[k]"),
        ("square forgotten", "one - Z[k] * Z[k]", "one - Z[k]"),
    ),
    *_in("kernels.elementwise._scale_by_tanh_slope", "compose")(
        ("slope of the first block in every block", "Z[k] * Z[k]", "Z[k % block] * Z[k % block]"),
    ),
    *_in("kernels.composition._gather_fixed_width", "compose")(
        ("tanh' forgotten", "(grad_Z[i, f] * (one - Z[i, f] * Z[i, f]))", "grad_Z[i, f]"),
        ("overwrites instead of accumulating", "row[f] += weight", "row[f] = weight"),
        ("row of the next codebook entry", "grad_E[c, f] = row[f]", "grad_E[c - 1, f] = row[f]"),
    ),
    *_in("kernels.composition._gather_any_width", "compose", "coarse_stage")(
        ("tanh' forgotten", "(grad_Z[i, f] * (one - Z[i, f] * Z[i, f]))", "grad_Z[i, f]"),
        ("overwrites instead of accumulating", "grad_E[c, f] +=", "grad_E[c, f] ="),
        ("weight of the assignment forgotten", "weight * (grad", "(grad"),
        ("last entry of each column lost", "indptr[c + 1])", "indptr[c + 1] - 1)"),
    ),
    # ---- soft threshold
    *_in("operations.soft_threshold.soft_threshold_backward", "soft_threshold", "fine_stage")(
        ("mask forgotten", "np.where(np.abs(E) > tau, grad_F, grad_F.dtype.type(0))", "grad_F.copy()"),
        ("mask inverted", "np.abs(E) > tau", "np.abs(E) <= tau"),
        ("mask of one side only", "np.abs(E) > tau", "E > tau"),
    ),
    *_in("operations.soft_threshold.soft_threshold_backward", "soft_threshold")(
        ("other convention at the threshold", "np.abs(E) > tau", "np.abs(E) >= tau"),
    ),
    *_in("operations.soft_threshold.soft_threshold_backward_tau", "soft_threshold", "fine_stage")(
        ("wrong sign", "float(-np.sum", "float(np.sum"),
        ("sign of the entry forgotten", "grad_F * np.sign(E)", "grad_F"),
        ("mask forgotten", "np.abs(E) > tau", "np.abs(E) > 0"),
    ),
    *_in("kernels.soft_threshold.mask_shrunk", "soft_threshold", "fine_stage")(
        ("mask of one side only", "abs(E[i, f]) > tau", "E[i, f] > tau"),
        ("shrinks the gradient too", "= grad_F[i, f]", "= grad_F[i, f] - tau"),
    ),
    *_in("kernels.soft_threshold.mask_shrunk", "soft_threshold")(
        ("other convention at the threshold", "abs(E[i, f]) > tau", "abs(E[i, f]) >= tau"),
    ),
    # ---- bridge
    *_in("operations.bridging.bridge_backward", "bridge", "fine_stage")(
        ("the halves of the bridge exchanged", "return (1 - gate) * grad_E_hat, gate *",
         "return gate * grad_E_hat, (1 - gate) *"),
        ("gate forgotten", ", gate * sparse", ", sparse"),
        ("wrong sign", "return (1 - gate)", "return -(1 - gate)"),
    ),
    *_in("operations.bridging.bridge_backward_gate", "bridge", "fine_stage")(
        ("coarse half forgotten", " - E_coarse", ""),
        ("wrong sign", " - E_coarse", " + E_coarse"),
    ),
    *_in("operations.bridging.bridge_backward_assignment", "bridge", "fine_stage")(
        ("gate forgotten", "gate * grad_E_hat", "grad_E_hat"),
        ("the other half's gate", "gate * grad_E_hat", "(1 - gate) * grad_E_hat"),
    ),
    # ---- bridged layers
    *_in("operations.bridged_propagation.bridged_layer_backward", "bridged_layer", "fine_stage")(
        ("entities' message forgotten", "    grad_p += from_entities\n", ""),
        ("subtraction forgotten", "    grad_p -= from_entities\n", ""),
        ("wrong half of the bridge", "grad_p *= 1 - g", "grad_p *= g"),
        ("stale coarse rows", "grad_p *= 1 - g", "grad_p = grad_p * (1 - g)"),
        ("the second way to the fine nodes forgotten", "(2 * g - 1) * grad_p", "g * grad_p"),
        ("fine nodes overwritten", "    grad_q += sparse", "    grad_q[:] = sparse"),
        ("exchange: wrong sign", "grad_X[n : n + c] -= g", "grad_X[n : n + c] += g"),
        ("exchange: gate forgotten", "grad_X[n : n + c] -= g * ", "grad_X[n : n + c] -= "),
        ("exchange: fine nodes forgotten", "grad_X[n + c :] += g *", "grad_X[n + c :] += 0 *"),
    ),
    *_in("operations.bridged_propagation.bridged_layer_backward", "bridged_layer")(
        ("transpose forgotten", "return sparse_product_backward(grad_Y, graph.X_hat, engine=engine)",
         "return sparse_product(graph.X_hat, grad_Y, engine=engine)"),
        ("cotangent modified", "grad_X_next.copy()", "grad_X_next"),
    ),
    *_in("operations.bridged_propagation.propagate_bridged_backward", "propagate_bridged", "fine_stage")(
        ("mean over layers forgotten", "graph.X_hat.shape[0])) / (n_layers + 1)", "graph.X_hat.shape[0]))"),
        ("one layer too few", "range(n_layers)", "range(n_layers - 1)"),
        ("overwrites instead of accumulating", "grad_layer = share + bridged", "grad_layer = bridged"),
    ),
    *_in("operations.propagation_structure.bridged_layer_backward_structure", "bridged_layer", "fine_stage")(
        ("exchange: message's part forgotten", "        grad_X_hat = _add_block(grad_X_hat, message, n)\n", ""),
        ("raw: wrong half of the gate", "2 * fine - p", "fine - p"),
        ("raw: entities' part forgotten", "+ sparse_product_backward(grad_h, graph.S_coarse, engine=engine)", ""),
        ("raw: coarse rows forgotten", "    grad_Y[n : n + c] -= g * grad_change\n", ""),
    ),
    *_in("operations.propagation_structure.propagate_bridged_backward_structure", "propagate_bridged", "fine_stage")(
        ("layers in the wrong order", "reversed(layers[:n_layers])", "layers[:n_layers]"),
        ("overwrites instead of accumulating", "total = total + bridged", "total = bridged"),
    ),
    # ---- collapsed
    *_in("operations.collapsed_propagation.propagate_collapsed_backward", "propagate_collapsed", "fine_stage")(
        ("halves exchanged", "return both[:m], both[m:]", "return both[m:], both[:m]"),
        ("all rows from the start (NumPy)", "in_rows(grad_H, rows, len(W))", "in_rows(grad_H, np.sort(rows)[::-1], len(W))"),
        ("wrong sign (compiled)", "transposed_product_of_rows(W, grad_H, rows)", "-transposed_product_of_rows(W, grad_H, rows)"),
    ),
    *_in("kernels.row_products.transposed_product_of_rows", "propagate_collapsed")(
        ("last block only", "parts.sum(axis=0)", "parts[-1]"),
        ("the first rows instead of the chosen", "W[rows[first : first + block]]", "W[first : min(first + block, len(rows))]"),
    ),
    *_in("operations.collapsed_propagation.collapse", "fine_stage")(
        ("gate of W1 forgotten", "= g * sparse_product", "= sparse_product"),
        ("the other gate of the constant", "(1 - g) * E_coarse", "g * E_coarse"),
        ("fine nodes forgotten", "    units[n + c :, m:] = identity\n", ""),
    ),
    # ---- graph
    *_in("operations.graph_backward.normalise_backward", "graph", "coarse_stage")(
        ("degrees held constant", " + through_sum", ""),
        ("wrong sign of the degree's derivative", "-0.5 * factor**3", "0.5 * factor**3"),
        ("wrong power", "factor**3", "factor**2"),
        ("degree of the column forgotten", "    np.add.at(grad_factor, X.indices, weighted * factor[rows])\n", ""),
        ("duplicates forgotten", "np.add.at(grad_factor, rows, weighted * factor[X.indices])",
         "grad_factor[rows] += weighted * factor[X.indices]"),
        ("sign of absolute degrees forgotten", 'np.sign(X.data) if degree == "absolute" else 1', "1"),
    ),
    *_in("operations.graph_backward._both_blocks", "graph", "coarse_stage", "fine_stage")(
        ("one block only", " + _entries(grad_X, columns, rows)", ""),
        ("one block twice", "_entries(grad_X, columns, rows)", "_entries(grad_X, rows, columns)"),
    ),
    # ---- loss
    *_in("operations.bpr.bpr_backward", "bpr", "coarse_stage")(
        ("positive and negative exchanged for the user", "s * (H[negative] - H[positive])", "s * (H[positive] - H[negative])"),
        ("wrong sign at the positive", "positive, -s * H[user]", "positive, s * H[user]"),
        ("duplicate users overwritten", "np.add.at(grad_H, user, s * (H[negative] - H[positive]))",
         "grad_H[user] += s * (H[negative] - H[positive])"),
        ("duplicate negatives overwritten", "np.add.at(grad_bias, negative, slope)", "grad_bias[negative] += slope"),
        ("bias of the positive forgotten", "    np.add.at(grad_bias, positive, -slope)\n", ""),
        ("bias of the user", "np.add.at(grad_bias, positive, -slope)", "np.add.at(grad_bias, user, -slope)"),
        ("factor 1.03", "s = slope[:, None]", "s = slope.dtype.type(1.03) * slope[:, None]"),
    ),
    *_in("operations.bpr.bpr_loss", "bpr", "coarse_stage")(
        ("mean over the batch forgotten in the slope", ".real) / len(triples)", ".real)"),
        ("slope of the reversed difference", "sigmoid((negative - positive).real)", "sigmoid((positive - negative).real)"),
    ),
    *_in("operations.bpr.sigmoid", "bpr", "coarse_stage")(
        ("branches exchanged", "np.where(x >= 0, 1, small)", "np.where(x >= 0, small, 1)"),
        ("one branch only", "np.where(x >= 0, 1, small)", "1"),
    ),
    *_in("kernels.bpr._softplus_and_slopes", "bpr", "coarse_stage")(
        ("mean over the batch forgotten in the slope", " / share", ""),
        ("branches exchanged", "one if difference >= 0 else small", "small if difference >= 0 else one"),
    ),
    *_in("kernels.bpr._gather_any_width", "bpr", "coarse_stage")(
        ("duplicates overwritten at the user", "grad_H[e, f] += s * (H[j, f] - H[i, f])",
         "grad_H[e, f] = s * (H[j, f] - H[i, f])"),
        ("sign of the positive forgotten", "s = -s", "s = s"),
        ("items' roles exchanged", "if role == 1", "if role == 2"),
        ("duplicate biases overwritten", "grad_bias[e] += s", "grad_bias[e] = s"),
        ("first occurrence only", "range(start[k], start[k + 1])", "range(start[k], start[k] + 1)"),
        ("user's bias", "                if role == 0:\n",
         "                if role == 0:\n                    grad_bias[e] += s\n"),
    ),
    *_in("kernels.bpr._gather_fixed_width", "bpr")(
        ("duplicates overwritten at the item", "row[f] += s * H[u, f]", "row[f] = s * H[u, f]"),
        ("sign of the positive forgotten", "s = -s", "s = s"),
        ("row of another entity", "grad_H[entities[k], f] = row[f]", "grad_H[entities[k - 1], f] = row[f]"),
        ("biases of the group added up", "                total = H.dtype.type(0)\n",
         "                total = grad_bias[entities[k - 1]]\n"),
    ),
    # ---- regulariser
    *_in("operations.regulariser.squared_norm_penalty_backward", "regulariser", "coarse_stage")(
        ("factor 2 forgotten", "2 * l2 * grad_penalty", "l2 * grad_penalty"),
        ("mean over the batch forgotten", " / len(triples)", ""),
        ("duplicates forgotten", "np.add.at(count, entities, 1)", "count[entities] += 1"),
        ("negatives forgotten", "(triples.user, triples.positive, triples.negative)", "(triples.user, triples.positive)"),
        ("count forgotten (compiled)", "factor * where.counts", "factor * where.counts**0"),
    ),
    *_in("operations.regulariser.squared_norm_penalty_backward", "coarse_stage")(
        ("what came on another way forgotten (NumPy)", "grad_Z if onto is None else onto + grad_Z", "grad_Z"),
        ("what came on another way forgotten (compiled)", "np.zeros_like(Z) if onto is None else onto", "np.zeros_like(Z)"),
    ),
    *_in("kernels.bpr.add_scaled_rows", "regulariser", "coarse_stage")(
        ("row of the position, not of the entity", "+= factor * Z[entities[k], f]", "+= factor * Z[k, f]"),
        ("last width lost", "range(Z.shape[1])", "range(Z.shape[1] - 1)"),
    ),
    *_in("kernels.bpr.add_scaled_rows", "coarse_stage")(
        ("overwrites instead of accumulating", "total[entities[k], f] +=", "total[entities[k], f] ="),
    ),
    # ---- triples
    *_in("kernels.triples.sort_slots", "bpr")(
        ("slots of the negatives in the wrong role", "2 * n_triples + b", "n_triples + b"),
    ),
    # ---- stages
    *_in("stages.batch_loss.batch_loss_backward", "coarse_stage", "fine_stage")(
        ("biases at the wrong entities", "grad_bias[triples.occurrences.entities] = grad_bias_rows",
         "grad_bias[: len(grad_bias_rows)] = grad_bias_rows"),
        ("slope without a sign", "slope, engine=engine)", "-slope, engine=engine)"),
    ),
    *_in("stages.coarse.coarse_gradients", "coarse_stage")(
        ("direct way of the codebook forgotten", "grad_X0[n:] + compose", "compose"),
        ("regulariser forgotten", "triples, l2, onto", "triples, 0 * l2, onto"),
        ("one layer too few", "graph.X_hat, n_layers,", "graph.X_hat, max(n_layers - 1, 0),"),
        ("wrong sign of the regulariser", "triples, l2, onto", "triples, -l2, onto"),
        ("stale assignment: the rows moved by one", "compose_backward(grad_Z, ", "compose_backward(np.roll(grad_Z, 1, axis=0), "),
        ("rows of the batch moved by one", "n_layers, rows=rows", "n_layers, rows=np.roll(rows, 1)"),
        ("decay forgotten", "squared_norm_penalty_backward(decay,", "squared_norm_penalty_backward(decay * 0 + 1,"),
    ),
    *_in("stages.fine.fine_gradients", "fine_stage")(
        ("tanh' of the fine nodes forgotten", "grad_tanh_F * (1 - forward.tanh_F**2)", "grad_tanh_F"),
        ("fine nodes overwrite the bridge", "grad_F = grad_F + grad_tanh_F", "grad_F = grad_tanh_F"),
        ("soft threshold forgotten", "soft_threshold_backward(grad_F, E_fine, threshold, engine=engine)", "grad_F"),
        ("bias without a sign", '"bias": grad_bias,', '"bias": -grad_bias,'),
    ),
    *_in("stages.fine._start_backward", "fine_stage")(
        ("decay forgotten", "squared_norm_penalty_backward(decay,", "squared_norm_penalty_backward(decay * 0 + 1,"),
        ("regulariser forgotten", "triples, l2, onto", "triples, 0 * l2, onto"),
        ("composition's part to the wrong codebook", 'if graph.composition == "bridged"', 'if graph.composition == "coarse"'),
        ("composition's part forgotten", "        grad_E_coarse = grad_E_coarse + grad_composed\n", "        pass\n"),
        ("coarse rows from the wrong place", "grad_X0[n : n + c], grad_X0[n + c :]", "grad_X0[:c], grad_X0[n + c :]"),
    ),
    *_in("stages.structure_gradients.coarse_structure_gradients", "coarse_stage")(
        ("way through the graph forgotten", "_sum(S_coarse, through_graph, through_composition)",
         "_sum(S_coarse, through_composition)"),
        ("regulariser forgotten", "grad_Z = grad_Z + squared", "grad_Z = grad_Z + 0 * squared"),
    ),
    *_in("stages.structure_gradients.fine_structure_gradients", "fine_stage")(
        ("way inside the layers forgotten", "composition_coarse, inside.S_coarse", "composition_coarse"),
        ("gate inside the layers forgotten", "float(gate + inside.gate)", "gate"),
        ("bridge at the start forgotten", "graph_fine, bridge_fine, inside.S_fine", "graph_fine, inside.S_fine"),
        ("tanh' of the fine nodes forgotten", "grad_tanh_F * (1 - forward.tanh_F**2)", "grad_tanh_F"),
    ),
    # ---- joint training
    *_in("stages.joint.joint_gradients", "joint_stage")(
        ("tanh' forgotten", "tanh_backward(grad_Z, forward.Z, engine=engine)", "grad_Z"),
        ("tanh' forgotten for the weights", "sparse_product_backward_weights(grad_Y", "sparse_product_backward_weights(grad_Z"),
        ("regulariser forgotten", "triples, l2, onto", "triples, 0 * l2, onto"),
        ("decay forgotten", "squared_norm_penalty_backward(decay,", "squared_norm_penalty_backward(decay * 0 + 1,"),
        ("data loss forgotten", "onto=grad_Z", "onto=0 * grad_Z"),
        ("one layer too few", "graph.A, n_layers,", "graph.A, max(n_layers - 1, 0),"),
        ("rows of the batch moved by one", "n_layers, rows=rows", "n_layers, rows=np.roll(rows, 1)"),
        ("codebooks laid the other way round", "grad_codebook[:c], grad_codebook[c:]", "grad_codebook[-c:], grad_codebook[:-c]"),
        ("share through the bridge lost", "through_bridge + grad_F if len(grad_F)", "grad_F if len(grad_F)"),
        ("share through the direct links lost", "through_bridge + grad_F if len(grad_F)", "through_bridge if len(grad_F)"),
        ("bridge of the coarse rows forgotten", 'gradients["E_coarse"], through_bridge = bridge_backward',
         'gradients["E_coarse"] = grad_E_hat\n        _, through_bridge = bridge_backward'),
        ("soft threshold forgotten", "soft_threshold_backward(grad_F, E_fine, threshold, engine=engine)", "grad_F"),
        ("direct links' gradient exchanged with the coarse one's", "grad_links[to_coarse], \"S_direct\": grad_links[~to_coarse]",
         "grad_links[~to_coarse], \"S_direct\": grad_links[to_coarse]"),
        ("weights from squashed codebook rows", "forward.codebook, engine", "np.tanh(forward.codebook), engine"),
        ("bias without a sign", '"bias": grad_bias,', '"bias": -grad_bias,'),
    ),
    # ---- optimiser
    *_in("operations.adam.adam_step", "optimiser")(
        ("bias correction of the mean forgotten", "learning_rate / (1 - BETA1**step)", "learning_rate"),
        ("epsilon inside the root's correction", "(np.sqrt(square[name]) / float(root_correction) + EPSILON)",
         "((np.sqrt(square[name]) + EPSILON) / float(root_correction))"),
        ("step counted from 0", "moments.step + 1\n", "moments.step + 2\n"),
        ("square of the wrong thing", "(1 - BETA2) * g * g", "(1 - BETA2) * abs(g)"),
    ),
    *_in("operations.adam.clip_by_value", "optimiser")(
        ("one side only", "np.clip(gradient, -limit, limit)", "np.minimum(gradient, limit)"),
    ),
    # ---- the baselines
    *_in("operations.table_composition.compose_products_backward", "products", "table_model")(
        ("rows exchanged", "table * R[None, :, :], axis=1", "table * Q[:, None, :], axis=1"),
        ("a row keeps its first entity only", "np.sum(table * Q[:, None, :], axis=0)", "(table * Q[:, None, :])[0]"),
        ("wrong sign", "np.sum(table * Q[:, None, :], axis=0)", "-np.sum(table * Q[:, None, :], axis=0)"),
        ("blocks and places exchanged", "table.reshape(len(Q), len(R), -1)",
         "table.reshape(len(R), len(Q), -1).transpose(1, 0, 2)"),
    ),
    *_in("operations.table_composition.compose_products_backward", "products")(
        ("last entity lost", "table[: len(grad_Z)] = grad_Z", "table[: len(grad_Z) - 1] = grad_Z[:-1]"),
    ),
    *_in("baselines.table_model.table_gradients", "table_model")(
        ("regulariser forgotten", "triples, l2, onto", "triples, 0 * l2, onto"),
        ("regulariser of the propagated embeddings", "decay, forward.Z", "decay, propagate(forward.Z, A, n_layers)"),
        ("one layer too few", "grad_H, A, n_layers", "grad_H, A, max(n_layers - 1, 0)"),
        ("item biases taken from the users", "[triples.n_entities - len(parameters[\"item_bias\"]) :]",
         "[: len(parameters[\"item_bias\"])]"),
    ),
)  # fmt: skip


# ---- putting one in --------------------------------------------------------------------------------------------------
@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """The package with the mistake in it; as it was, afterwards."""
    original, source = mutant.function(), mutant.source()
    if source.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: the text to replace stands {source.count(mutant.old)} times in the source")
    module = sys.modules[f"c2f_np.{mutant.place.rsplit('.', 1)[0]}"]
    text = source.replace(mutant.old, mutant.new)
    # No threads, no file cache: a mutant is compiled once and thrown away.
    text = text.replace("@njit(parallel=True, cache=True)", "@njit").replace("@njit(cache=True", "@njit(cache=False")
    made: dict[str, object] = {}
    exec(compile(text, f"<mutant {mutant.name}>", "exec"), module.__dict__, made)  # noqa: S102
    replacement = made[mutant.place.rsplit(".", 1)[1]]
    places = [(m, key) for m in _package_modules() for key, value in list(vars(m).items()) if value is original]
    try:
        for m, key in places:
            setattr(m, key, replacement)
        _forget_kernels()
        yield
    finally:
        for m, key in places:
            setattr(m, key, original)
        _forget_kernels()


def _package_modules():
    import c2f_np

    for folder in ("operations", "kernels", "stages"):
        package = importlib.import_module(f"c2f_np.{folder}")
        for found in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{found.name}")
    return [m for name, m in list(sys.modules.items()) if name.startswith(c2f_np.__name__ + ".") and m is not None]


def _forget_kernels() -> None:
    """Kernels made for one width are remembered by their maker."""
    from ..kernels import bpr, composition, sparse_product

    for made in (sparse_product._kernel, bpr._differences, bpr._gather, composition._gather):
        made.cache_clear()


# ---- killing them ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Outcome:
    """What became of a mutant under the cases of one operation.

    ``killed_by`` holds the checks that failed in the first case that noticed, ``case`` its name; both empty if it survived.
    """

    mutant: Mutant
    operation: str
    killed_by: tuple[str, ...] = ()
    case: str = ""

    @property
    def killed(self) -> bool:
        return bool(self.killed_by)


def kill(mutant: Mutant, engine: str | None = None, seed: int = 0, op: str | None = None) -> list[Outcome]:
    """Put the mistake in and run the cases of every operation that must notice (or of `op` alone), until one does."""
    # The engine that the text belongs to comes first, so that a killing case is found early.
    compiled = mutant.place.startswith("kernels.") or "compiled" in mutant.mistake or "groups" in mutant.mistake
    engines = (engine,) if engine else ("numba", "numpy") if compiled else ("numpy", "numba")
    outcomes = []
    with one_kernel_thread(), applied(mutant):
        for operation in mutant.expects if op is None else (op,):
            outcomes.append(_first_kill(mutant, operation, engines, seed))
    return outcomes


def _first_kill(mutant: Mutant, operation: str, engines, seed: int) -> Outcome:
    for engine in engines:
        try:
            for case in cases(operation, engine, seed):
                report: Report = case.run(seed)
                if not report.passed:
                    return Outcome(mutant, operation, tuple(report.killed_by), case.name)
        except Exception as error:  # a mistake may stop the building of a case: that is noticed too
            return Outcome(mutant, operation, (type(error).__name__,), f"{operation} [{engine}]")
    return Outcome(mutant, operation)


def run_mutants(op: str | None = None, engine: str | None = None, seed: int = 0, json: bool = False) -> int:
    """Kill all mutants (or those that one operation must notice), print who killed whom, return the exit code."""
    if op is not None and op not in CHECKED:
        raise SettingsError(f"there is no operation {op!r}; choose one of {', '.join(CHECKED)}")
    started, outcomes = time.perf_counter(), []
    chosen = [mutant for mutant in MUTANTS if op is None or op in mutant.expects]
    if not json:
        print(f"{len(chosen)} mutants; each line: the mistake, the operation whose cases ran, the checks that killed it")
    for mutant in chosen:
        for outcome in kill(mutant, engine, seed, op):
            outcomes.append(outcome)
            if not json:
                by = ", ".join(outcome.killed_by) if outcome.killed else "SURVIVED"
                print(f"{mutant.name}\n    {outcome.operation}: {by}", flush=True)
    survivors = [outcome for outcome in outcomes if not outcome.killed]
    seconds = time.perf_counter() - started
    if json:
        data = {
            "passed": not survivors,
            "seconds": seconds,
            "mutants": [
                {"place": o.mutant.place, "mistake": o.mutant.mistake, "operation": o.operation, "case": o.case,
                 "killed_by": list(o.killed_by)} for o in outcomes
            ],
        }  # fmt: skip
        print(json_format.dumps(data))
    else:
        print(f"\n{len(chosen)} mutants, {len(survivors)} survived; {seconds:.0f} s")
    return 1 if survivors or not outcomes else 0
