"""Plausible mistakes in the backward passes, put in one at a time: each must be killed by every check that can see it.

:mod:`.mutation` makes small changes by machine and asks whether anything notices. The mistakes here are made by hand: what a
person forgets or exchanges, in words, with the operations that must notice. A :class:`Mutant` replaces an expression or a
statement of a function by another. It is found in the syntax tree, where it must stand exactly once, however it is laid out in
the file.
"""

from __future__ import annotations

import ast
import json as json_format
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tqdm import tqdm

from ..gradcheck import Report
from ..threads import available_cores, one_blas_thread
from . import changes
from .candidates import changed_text, lines_of, places
from .catalogue import cases
from .changes import Change, Edit, definitions
from .command import groups
from .interpreted import PACKAGE, call_interpreted, is_interpreted
from .mutation import in_children
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
        An expression of the function, or a statement, and what replaces it; ``pass`` for nothing.
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

    def change(self) -> Change:
        """The change of the syntax tree.

        Raises
        ------
        ValueError
            If the old text is not there, or more than once.
        """
        module, _, name = f"{PACKAGE}.{self.place}".rpartition(".")
        definition = definitions(module)[name]
        sort, old, new = _parsed(self.old, self.new)
        found = [place for place in places(definition) if isinstance(place.node, sort) and ast.unparse(place.node) == old]
        if len(found) != 1:
            raise ValueError(f"{self.name}: {self.old} stands {len(found)} times in the function")
        (place,) = found
        edit = Edit(place.parent, place.field, place.position, new)
        text = changed_text(place.statement, edit)
        return Change(module, name, self.mistake, lines_of(place.statement), text, definition, edit)


def _parsed(old: str, new: str) -> tuple[type, str, ast.AST | list[ast.stmt]]:
    """Expressions if both are, else statements: of the old one its sort and how it is written, and the new tree."""
    try:
        return ast.expr, ast.unparse(ast.parse(old, mode="eval")), ast.parse(new, mode="eval").body
    except SyntaxError:
        return ast.stmt, ast.unparse(ast.parse(old)), ast.parse(new).body


def _in(place: str, *expects: str):
    """Several mistakes in one function: each a (mistake, old, new)."""

    def listed(*mistakes) -> list[Mutant]:
        return [Mutant(place, mistake, old, new, expects) for mistake, old, new in mistakes]

    return listed


MUTANTS: tuple[Mutant, ...] = (
    # ---- sparse product
    *_in("operations.sparse_product.sparse_product_backward", "sparse_product")(
        ("transpose forgotten (NumPy)", "M.transpose @ grad_Y", "M.matrix @ grad_Y"),
        ("wrong sign", "M.transpose @ grad_Y", "-(M.transpose @ grad_Y)"),
        ("factor 1.03", "M.transpose @ grad_Y", "grad_Y.dtype.type(1.03) * (M.transpose @ grad_Y)"),
        ("transpose forgotten (compiled)", "multiply(M.transpose, M.transpose_row_bounds, grad_Y)",
         "multiply(M.matrix, M.row_bounds, grad_Y)"),
        ("half of the row groups", "M.transpose_row_bounds", "M.transpose_row_bounds[:32]"),
    ),
    *_in("operations.sparse_product.sparse_product_backward", "propagate")(
        ("transpose forgotten, seen from propagation", "M.transpose @ grad_Y", "M.matrix @ grad_Y"),
    ),
    *_in("operations.sparse_product.sparse_product_backward_weights", "sparse_product")(
        ("rows and columns exchanged", "grad_Y[rows] * X[matrix.indices]",
         "grad_Y[matrix.indices % len(grad_Y)] * X[rows % len(X)]"),
        ("only the first column of the width", "np.sum(grad_Y[rows] * X[matrix.indices], axis=1)",
         "np.sum(grad_Y[rows] * X[matrix.indices], axis=1) * 0 + grad_Y[rows, 0] * X[matrix.indices, 0]"),
        ("factor 1.03", "np.sum(grad_Y[rows] * X[matrix.indices], axis=1)",
         "grad_Y.dtype.type(1.03) * np.sum(grad_Y[rows] * X[matrix.indices], axis=1)"),
    ),
    *_in("kernels.sparse_product._weights_gradient", "sparse_product")(
        ("row of the wrong matrix", "(j, f)", "(i % X.shape[0], f)"),
    ),
    *_in("kernels.sparse_product._any_width", "sparse_product", "propagate")(
        ("overwrites instead of adding up", "out[k, f] += weight * X[j, f]", "out[k, f] = weight * X[j, f]"),
    ),
    *_in("kernels.sparse_product._fixed_width", "sparse_product", "propagate")(
        ("row of the wrong node", "(j, f)", "(i % X.shape[0], f)"),
    ),
    *_in("kernels.sparse_product.mean_of_powers", "propagate")(
        ("mean over layers forgotten", "1 / (n_layers + 1)", "1"),
        ("last layer only", "_run(matrix, bounds, Y, X, share, out)", "_run(matrix, bounds, Y, X[:0], share, out)"),
        ("rows: last layer only", "_run(matrix, even_groups_of(np.diff(matrix.indptr)[rows]), Y, X, share, out, rows=rows)",
         "_run(matrix, even_groups_of(np.diff(matrix.indptr)[rows]), Y, X[:0], share, out, rows=rows)"),
    ),
    *_in("kernels.sparse_product.mean_of_powers_from_rows", "propagate", "coarse_stage")(
        ("mean over layers forgotten", "1 / (n_layers + 1)", "1"),
        ("rows at the wrong place", "np.arange(len(rows), dtype=np.int32)", "np.arange(len(rows), dtype=np.int32)[::-1]"),
        ("share of the mean forgotten after the first layer",
         "_run(matrix, bounds, Y, X_rows, scale, out, X_place=place if layer == 0 else _NOTHING, base_place=place)",
         "_run(matrix, bounds, Y, X_rows[:None if layer == 0 else 0], scale, out, "
          "X_place=place if layer == 0 else _NOTHING, base_place=place)"),
    ),
    # ---- propagation
    *_in("operations.propagation.propagate_backward", "propagate")(
        ("mean over layers forgotten", "grad_H / (n_layers + 1)", "grad_H"),
        ("mean over L layers", "n_layers + 1", "max(n_layers, 1)"),
        ("one layer too many", "range(n_layers)", "range(n_layers + 1)"),
        ("transpose forgotten (compiled)", "mean_of_powers(X_hat.transpose, X_hat.transpose_row_bounds, grad_H, n_layers)",
         "mean_of_powers(X_hat.matrix, X_hat.row_bounds, grad_H, n_layers)"),
        ("rows: transpose forgotten (compiled)",
         "mean_of_powers_from_rows(X_hat.transpose, X_hat.transpose_row_bounds, grad_H, n_layers, rows)",
         "mean_of_powers_from_rows(X_hat.matrix, X_hat.row_bounds, grad_H, n_layers, rows)"),
    ),
    *_in("operations.propagation_structure.propagate_backward_weights", "propagate", "coarse_structure")(
        ("stale layer", "-1", "0"),
        ("mean over layers forgotten", "grad_H / (n_layers + 1)", "grad_H"),
    ),
    # ---- composition
    *_in("operations.composition.compose_backward", "compose", "coarse_stage")(
        ("tanh' forgotten", "tanh_backward(grad_Z, Z)", "grad_Z"),
    ),
    *_in("operations.composition.compose_backward", "compose")(
        ("half of the row groups", "S.transpose_row_bounds", "S.transpose_row_bounds[:32]"),
    ),
    *_in("operations.composition.compose_backward_assignment", "compose", "coarse_structure")(
        ("tanh' forgotten", "tanh_backward(grad_Z, Z)", "grad_Z"),
        ("factor 1.03", "tanh_backward(grad_Z, Z)", "tanh_backward(grad_Z, Z) * grad_Z.dtype.type(1.03)"),
    ),
    *_in("operations.composition.tanh_backward", "compose", "coarse_stage", "joint_stage")(
        ("wrong sign", "1 - Z ** 2", "1 + Z ** 2"),
    ),
    *_in("kernels.elementwise._scale_by_tanh_slope", "compose")(
        ("slope of the first block in every block", "Z[k] * Z[k]", "Z[k % block] * Z[k % block]"),
    ),
    *_in("kernels.composition._gather_fixed_width", "compose")(
        ("tanh' forgotten", "grad_Z[i, f] * (one - Z[i, f] * Z[i, f])", "grad_Z[i, f]"),
    ),
    *_in("kernels.composition._gather_any_width", "compose", "coarse_stage")(
        ("tanh' forgotten", "grad_Z[i, f] * (one - Z[i, f] * Z[i, f])", "grad_Z[i, f]"),
    ),
    # ---- soft threshold
    *_in("operations.soft_threshold.soft_threshold_backward", "soft_threshold", "fine_stage")(
        ("mask forgotten", "np.where(np.abs(E) > tau, grad_F, grad_F.dtype.type(0))", "grad_F.copy()"),
        ("mask inverted", "np.abs(E) > tau", "np.abs(E) <= tau"),
        ("mask of one side only", "np.abs(E)", "E"),
    ),
    *_in("operations.soft_threshold.soft_threshold_backward", "soft_threshold")(
        ("other convention at the threshold", "np.abs(E) > tau", "np.abs(E) >= tau"),
    ),
    *_in("operations.soft_threshold.soft_threshold_backward_tau", "soft_threshold", "fine_structure")(
        ("mask forgotten", "np.abs(E) > tau", "np.abs(E) > 0"),
    ),
    *_in("kernels.soft_threshold.mask_shrunk", "soft_threshold", "fine_stage")(
        ("mask of one side only", "abs(E[i, f])", "E[i, f]"),
        ("shrinks the gradient too", "grad_F[i, f]", "grad_F[i, f] - tau"),
    ),
    *_in("kernels.soft_threshold.mask_shrunk", "soft_threshold")(
        ("other convention at the threshold", "abs(E[i, f]) > tau", "abs(E[i, f]) >= tau"),
    ),
    # ---- bridge
    *_in("operations.bridging.bridge_backward", "bridge", "fine_stage")(
        ("the halves of the bridge exchanged",
         "((1 - gate) * grad_E_hat, gate * sparse_product_backward(grad_E_hat, S_fine, engine=engine))",
         "(gate * grad_E_hat, (1 - gate) * sparse_product_backward(grad_E_hat, S_fine, engine=engine))"),
        ("gate forgotten", "gate * sparse_product_backward(grad_E_hat, S_fine, engine=engine)",
         "sparse_product_backward(grad_E_hat, S_fine, engine=engine)"),
        ("wrong sign", "1 - gate", "-(1 - gate)"),
    ),
    *_in("operations.bridging.bridge_backward_gate", "bridge", "fine_structure")(
        ("coarse half forgotten", "sparse_product(S_fine, F) - E_coarse", "sparse_product(S_fine, F)"),
    ),
    *_in("operations.bridging.bridge_backward_assignment", "bridge", "fine_structure")(
        ("the other half's gate", "gate * grad_E_hat", "(1 - gate) * grad_E_hat"),
    ),
    # ---- bridged layers
    *_in("operations.bridged_propagation.bridged_layer_backward", "bridged_layer", "fine_stage")(
        ("stale coarse rows", "grad_p *= 1 - g", "grad_p = grad_p * (1 - g)"),
        ("the second way to the fine nodes forgotten", "2 * g - 1", "g"),
        ("fine nodes overwritten", "grad_q += sparse_product_backward((2 * g - 1) * grad_p, graph.S_fine, engine=engine)",
         "grad_q[:] = sparse_product_backward((2 * g - 1) * grad_p, graph.S_fine, engine=engine)"),
        ("exchange: fine nodes forgotten", "g * sparse_product_backward(grad_difference, graph.S_fine, engine=engine)",
         "0 * sparse_product_backward(grad_difference, graph.S_fine, engine=engine)"),
    ),
    *_in("operations.bridged_propagation.bridged_layer_backward", "bridged_layer")(
        ("transpose forgotten", "sparse_product_backward(grad_Y, graph.X_hat, engine=engine)",
         "sparse_product(graph.X_hat, grad_Y, engine=engine)"),
        ("cotangent modified", "grad_X_next.copy()", "grad_X_next"),
    ),
    *_in("operations.bridged_propagation.propagate_bridged_backward", "propagate_bridged", "fine_stage")(
        ("mean over layers forgotten",
         "(grad_H if rows is None else in_rows(grad_H, rows, graph.X_hat.shape[0])) / (n_layers + 1)",
         "grad_H if rows is None else in_rows(grad_H, rows, graph.X_hat.shape[0])"),
    ),
    *_in("operations.propagation_structure.bridged_layer_backward_structure", "bridged_layer", "fine_structure")(
        ("exchange: message's part forgotten", "grad_X_hat = _add_block(grad_X_hat, message, n)", "pass"),
    ),
    *_in("operations.propagation_structure.propagate_bridged_backward_structure", "propagate_bridged", "fine_structure")(
        ("layers in the wrong order", "reversed(layers[:n_layers])", "layers[:n_layers]"),
    ),
    # ---- collapsed
    *_in("operations.collapsed_propagation.propagate_collapsed_backward", "propagate_collapsed", "fine_stage")(
        ("all rows from the start (NumPy)", "in_rows(grad_H, rows, len(W))", "in_rows(grad_H, np.sort(rows)[::-1], len(W))"),
    ),
    *_in("kernels.row_products.transposed_product_of_rows", "propagate_collapsed")(
        ("last block only", "parts.sum(axis=0)", "parts[-1]"),
        ("the first rows instead of the chosen", "W[rows[first:first + block]]", "W[first:min(first + block, len(rows))]"),
    ),
    *_in("operations.collapsed_propagation.collapse", "fine_stage")(
        ("gate of W1 forgotten", "g * sparse_product(graph.S_fine, identity, engine=engine)",
         "sparse_product(graph.S_fine, identity, engine=engine)"),
    ),
    # ---- graph
    *_in("operations.graph_backward.normalise_backward", "graph", "coarse_structure")(
        ("duplicates forgotten", "np.add.at(grad_factor, rows, weighted * factor[X.indices])",
         "grad_factor[rows] += weighted * factor[X.indices]"),
    ),
    *_in("operations.graph_backward._both_blocks", "graph", "coarse_structure", "fine_structure")(
        ("one block only", "_entries(grad_X, rows, columns) + _entries(grad_X, columns, rows)",
         "_entries(grad_X, rows, columns)"),
    ),
    # ---- loss
    *_in("operations.bpr.bpr_backward", "bpr", "coarse_stage")(
        ("positive and negative exchanged for the user", "H[negative] - H[positive]", "H[positive] - H[negative]"),
        ("wrong sign at the positive", "-s", "s"),
        ("duplicate users overwritten", "np.add.at(grad_H, user, s * (H[negative] - H[positive]))",
         "grad_H[user] += s * (H[negative] - H[positive])"),
        ("duplicate negatives overwritten", "np.add.at(grad_bias, negative, slope)", "grad_bias[negative] += slope"),
        ("bias of the positive forgotten", "np.add.at(grad_bias, positive, -slope)", "pass"),
        ("bias of the user", "np.add.at(grad_bias, positive, -slope)", "np.add.at(grad_bias, user, -slope)"),
        ("factor 1.03", "slope[:, None]", "slope.dtype.type(1.03) * slope[:, None]"),
    ),
    *_in("operations.bpr.bpr_loss", "bpr", "coarse_stage")(
        ("slope of the reversed difference", "(negative - positive).real", "(positive - negative).real"),
    ),
    *_in("operations.bpr.sigmoid", "bpr", "coarse_stage")(
        ("one branch only", "np.where(x >= 0, 1, small)", "1"),
    ),
    *_in("kernels.bpr._softplus_and_slopes", "bpr", "coarse_stage")(
        ("branches exchanged", "one if difference >= 0 else small", "small if difference >= 0 else one"),
    ),
    *_in("kernels.bpr._gather_any_width", "bpr", "coarse_stage")(
        ("first occurrence only", "start[k + 1]", "start[k] + 1"),
        ("user's bias", "i, j = (positive[b], negative[b])", "grad_bias[e] += s\ni, j = (positive[b], negative[b])"),
    ),
    *_in("kernels.bpr._gather_fixed_width", "bpr")(
        ("biases of the group added up", "H.dtype.type(0)", "grad_bias[entities[k - 1]]"),
    ),
    # ---- regulariser
    *_in("operations.regulariser.squared_norm_penalty_backward", "regulariser", "coarse_stage")(
        ("factor 2 forgotten", "2 * l2", "l2"),
        ("duplicates forgotten", "np.add.at(count, entities, 1)", "count[entities] += 1"),
        ("negatives forgotten", "(triples.user, triples.positive, triples.negative)", "(triples.user, triples.positive)"),
        ("count forgotten (compiled)", "where.counts", "where.counts ** 0"),
    ),
    *_in("kernels.bpr.add_scaled_rows", "regulariser", "coarse_stage")(
        ("row of the position, not of the entity", "Z[entities[k], f]", "Z[k, f]"),
    ),
    # ---- triples
    *_in("kernels.triples.sort_slots", "bpr")(
        ("slots of the negatives in the wrong role", "2 * n_triples", "n_triples"),
    ),
    # ---- stages
    *_in("stages.batch_loss.batch_loss_backward", "coarse_stage", "fine_stage")(
        ("biases at the wrong entities", "grad_bias[triples.occurrences.entities]", "grad_bias[:len(grad_bias_rows)]"),
        ("slope without a sign", "bpr_backward(H, triples.local, slope, engine=engine)",
         "bpr_backward(H, triples.local, -slope, engine=engine)"),
    ),
    *_in("stages.coarse.coarse_gradients", "coarse_stage")(
        ("regulariser forgotten", "squared_norm_penalty_backward(decay, forward.Z, triples, l2, onto=grad_X0[:n], engine=engine)",
         "squared_norm_penalty_backward(decay, forward.Z, triples, 0 * l2, onto=grad_X0[:n], engine=engine)"),
        ("one layer too few", "propagate_backward(grad_H, graph.X_hat, n_layers, rows=rows, engine=engine)",
         "propagate_backward(grad_H, graph.X_hat, max(n_layers - 1, 0), rows=rows, engine=engine)"),
        ("wrong sign of the regulariser",
         "squared_norm_penalty_backward(decay, forward.Z, triples, l2, onto=grad_X0[:n], engine=engine)",
         "squared_norm_penalty_backward(decay, forward.Z, triples, -l2, onto=grad_X0[:n], engine=engine)"),
        ("stale assignment: the rows moved by one", "compose_backward(grad_Z, graph.S_coarse, forward.Z, engine=engine)",
         "compose_backward(np.roll(grad_Z, 1, axis=0), graph.S_coarse, forward.Z, engine=engine)"),
        ("rows of the batch moved by one", "propagate_backward(grad_H, graph.X_hat, n_layers, rows=rows, engine=engine)",
         "propagate_backward(grad_H, graph.X_hat, n_layers, rows=np.roll(rows, 1), engine=engine)"),
        ("decay forgotten", "squared_norm_penalty_backward(decay, forward.Z, triples, l2, onto=grad_X0[:n], engine=engine)",
         "squared_norm_penalty_backward(decay * 0 + 1, forward.Z, triples, l2, onto=grad_X0[:n], engine=engine)"),
    ),
    *_in("stages.fine.fine_gradients", "fine_stage")(
        ("tanh' of the fine nodes forgotten", "grad_tanh_F * (1 - forward.tanh_F ** 2)", "grad_tanh_F"),
    ),
    *_in("stages.fine._start_backward", "fine_stage")(
        ("decay forgotten", "squared_norm_penalty_backward(decay, forward.Z, triples, l2, onto=grad_X0[:n], engine=engine)",
         "squared_norm_penalty_backward(decay * 0 + 1, forward.Z, triples, l2, onto=grad_X0[:n], engine=engine)"),
        ("regulariser forgotten", "squared_norm_penalty_backward(decay, forward.Z, triples, l2, onto=grad_X0[:n], engine=engine)",
         "squared_norm_penalty_backward(decay, forward.Z, triples, 0 * l2, onto=grad_X0[:n], engine=engine)"),
        ("composition's part to the wrong codebook", "graph.composition == 'bridged'", "graph.composition == 'coarse'"),
        ("coarse rows from the wrong place", "grad_X0[n:n + c]", "grad_X0[:c]"),
    ),
    *_in("stages.structure_gradients.coarse_structure_gradients", "coarse_structure")(
        ("way through the graph forgotten", "_sum(S_coarse, through_graph, through_composition)",
         "_sum(S_coarse, through_composition)"),
        ("regulariser forgotten", "squared_norm_penalty_backward(decay, forward.Z, triples, l2, engine=engine)",
         "0 * squared_norm_penalty_backward(decay, forward.Z, triples, l2, engine=engine)"),
    ),
    *_in("stages.structure_gradients.fine_structure_gradients", "fine_structure")(
        ("way inside the layers forgotten", "_sum(S_coarse, graph_coarse, composition_coarse, inside.S_coarse)",
         "_sum(S_coarse, graph_coarse, composition_coarse)"),
        ("gate inside the layers forgotten", "float(gate + inside.gate)", "gate"),
        ("bridge at the start forgotten", "_sum(S_fine, graph_fine, bridge_fine, inside.S_fine)",
         "_sum(S_fine, graph_fine, inside.S_fine)"),
    ),
    # ---- joint training
    *_in("stages.joint.joint_gradients", "joint_stage")(
        ("tanh' forgotten", "tanh_backward(grad_Z, forward.Z, engine=engine)", "grad_Z"),
        ("regulariser forgotten", "squared_norm_penalty_backward(decay, forward.Z, triples, l2, onto=grad_Z, engine=engine)",
         "squared_norm_penalty_backward(decay, forward.Z, triples, 0 * l2, onto=grad_Z, engine=engine)"),
        ("decay forgotten", "squared_norm_penalty_backward(decay, forward.Z, triples, l2, onto=grad_Z, engine=engine)",
         "squared_norm_penalty_backward(decay * 0 + 1, forward.Z, triples, l2, onto=grad_Z, engine=engine)"),
        ("data loss forgotten", "squared_norm_penalty_backward(decay, forward.Z, triples, l2, onto=grad_Z, engine=engine)",
         "squared_norm_penalty_backward(decay, forward.Z, triples, l2, onto=0 * grad_Z, engine=engine)"),
        ("one layer too few", "propagate_backward(grad_H, graph.A, n_layers, rows=rows, engine=engine)",
         "propagate_backward(grad_H, graph.A, max(n_layers - 1, 0), rows=rows, engine=engine)"),
        ("rows of the batch moved by one", "propagate_backward(grad_H, graph.A, n_layers, rows=rows, engine=engine)",
         "propagate_backward(grad_H, graph.A, n_layers, rows=np.roll(rows, 1), engine=engine)"),
        ("codebooks laid the other way round", "(grad_codebook[:c], grad_codebook[c:])",
         "(grad_codebook[-c:], grad_codebook[:-c])"),
        ("bridge of the coarse rows forgotten",
         "gradients['E_coarse'], through_bridge = bridge_backward(grad_E_hat, graph.S_fine, graph.gate, engine=engine)",
         "gradients['E_coarse'] = grad_E_hat\n_, through_bridge = bridge_backward(grad_E_hat, graph.S_fine, "
          "graph.gate, engine=engine)"),
        ("weights from squashed codebook rows", "forward.codebook", "np.tanh(forward.codebook)"),
    ),
    # ---- optimiser
    *_in("operations.adam.adam_step", "optimiser")(
        ("epsilon inside the root's correction", "np.sqrt(square[name]) / float(root_correction) + EPSILON",
         "(np.sqrt(square[name]) + EPSILON) / float(root_correction)"),
        ("square of the wrong thing", "(1 - BETA2) * g * g", "(1 - BETA2) * abs(g)"),
    ),
    *_in("operations.adam.clip_by_value", "optimiser")(
        ("one side only", "np.clip(gradient, -limit, limit)", "np.minimum(gradient, limit)"),
    ),
    # ---- the baselines
    *_in("operations.table_composition.compose_products_backward", "products", "table_model")(
        ("rows exchanged", "R[None, :, :]", "Q[:, None, :]"),
        ("a row keeps its first entity only", "np.sum(table * Q[:, None, :], axis=0)", "(table * Q[:, None, :])[0]"),
        ("blocks and places exchanged", "table.reshape(len(Q), len(R), -1)",
         "table.reshape(len(R), len(Q), -1).transpose(1, 0, 2)"),
    ),
    *_in("operations.table_composition.compose_products_backward", "products")(
        ("last entity lost", "table[:len(grad_Z)] = grad_Z", "table[:len(grad_Z) - 1] = grad_Z[:-1]"),
    ),
    *_in("baselines.table_model.table_gradients", "table_model")(
        ("regulariser forgotten", "squared_norm_penalty_backward(decay, forward.Z, triples, l2, onto=grad_Z, engine=engine)",
         "squared_norm_penalty_backward(decay, forward.Z, triples, 0 * l2, onto=grad_Z, engine=engine)"),
        ("regulariser of the propagated embeddings", "forward.Z", "propagate(forward.Z, A, n_layers)"),
        ("one layer too few", "propagate_backward(grad_H, A, n_layers, rows=rows, engine=engine)",
         "propagate_backward(grad_H, A, max(n_layers - 1, 0), rows=rows, engine=engine)"),
        ("item biases taken from the users", "grad_bias[triples.n_entities - len(parameters['item_bias']):]",
         "grad_bias[:len(parameters['item_bias'])]"),
    ),
)  # fmt: skip


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


def applied(mutant: Mutant) -> AbstractContextManager[None]:
    """The package with the mistake in it; as it was, afterwards. For kernels, see :func:`c2f_np.verification.changes.applied`."""
    return changes.applied(mutant.change())


def kill(mutant: Mutant, engine: str | None = None, seed: int = 0, op: str | None = None) -> list[Outcome]:
    """Put the mistake in and run the cases of every operation that must notice (or of `op` alone), until one does.

    A kernel can be changed only where it is not compiled: that happens in another process.
    """
    if mutant.place.startswith("kernels.") and not is_interpreted():
        return call_interpreted(kill, mutant, engine, seed, op)
    # The engine that the text belongs to comes first, so that a killing case is found early.
    compiled = mutant.place.startswith("kernels.") or "compiled" in mutant.mistake or "groups" in mutant.mistake
    engines = (engine,) if engine else ("numba", "numpy") if compiled else ("numpy", "numba")
    with one_blas_thread(), one_kernel_thread(), applied(mutant):
        return [_first_kill(mutant, operation, engines, seed) for operation in (mutant.expects if op is None else (op,))]


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


def kill_all(mutants, engine: str | None = None, seed: int = 0, op: str | None = None, jobs: int | None = None):
    """:func:`kill` every one, each in a process of its own; yields its list of outcomes. This process must not compile."""

    def work(mutant: Mutant) -> list[Outcome]:
        return kill(mutant, engine, seed, op)

    for mutant, outcomes, code in in_children(work, mutants, jobs or available_cores()):
        # The process ended before its time: that is noticed as well.
        yield outcomes or [Outcome(mutant, operation, (f"exit code {code}",)) for operation in mutant.expects]


def run_mutants(
    op: str | None = None, engine: str | None = None, seed: int = 0, json: bool = False, jobs: int | None = None
) -> int:
    """Kill all mutants (or those that one operation must notice), print who killed whom, return the exit code."""
    groups(op, engine, seed)  # names are looked at before anything is run
    started, outcomes = time.perf_counter(), []
    chosen = [mutant for mutant in MUTANTS if op is None or op in mutant.expects]
    if not json:
        print(f"{len(chosen)} mutants; each line: the mistake, the operation whose cases ran, the checks that killed it")
    with tqdm(total=len(chosen), unit="mutant", disable=None, file=sys.stderr, dynamic_ncols=True) as bar:
        for found in kill_all(chosen, engine, seed, op, jobs):
            outcomes += found
            bar.update()
            for outcome in found if not json else ():
                by = ", ".join(outcome.killed_by) if outcome.killed else "SURVIVED"
                bar.write(f"{outcome.mutant.name}\n    {outcome.operation}: {by}", file=sys.stdout)
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
