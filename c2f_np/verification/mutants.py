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
        Module and function or method, ``model.loss.bpr_backward``, ``model.sparse.SparseOperator.adjoint``.
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
        folder, file, name = self.place.split(".", 2)
        module = f"{PACKAGE}.{folder}.{file}"
        definition = definitions(module)[name]
        sort, old, new = _parsed(self.old, self.new)
        found = [place for place in places(definition) if isinstance(place.node, sort) and ast.unparse(place.node) == old]
        if len(found) != 1:
            raise ValueError(f"{self.name}: {self.old} stands {len(found)} times in the function")
        (place,) = found
        if hasattr(place.node, "ctx"):
            new.ctx = place.node.ctx
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
    *_in("model.sparse.SparseOperator.adjoint", "sparse_product")(
        ("transpose forgotten (NumPy)", "self.transpose @ grad_Y", "self.matrix @ grad_Y"),
        ("wrong sign", "self.transpose @ grad_Y", "-(self.transpose @ grad_Y)"),
        ("factor 1.03", "self.transpose @ grad_Y", "grad_Y.dtype.type(1.03) * (self.transpose @ grad_Y)"),
    ),
    *_in("model.sparse.SparseOperator.adjoint", "propagate")(
        ("transpose forgotten, seen from propagation", "self.transpose @ grad_Y", "self.matrix @ grad_Y"),
    ),
    *_in("kernels.propagation.CompiledOperator.adjoint", "sparse_product")(
        ("transpose forgotten (compiled)", "multiply(self.transpose, self.transpose_row_bounds, grad_Y)",
         "multiply(self.matrix, self.row_bounds, grad_Y)"),
        ("half of the row groups", "self.transpose_row_bounds", "self.transpose_row_bounds[:32]"),
    ),
    *_in("model.sparse.SparseOperator.weights_gradient", "sparse_product")(
        ("rows and columns exchanged", "grad_Y[rows] * X[self.matrix.indices]",
         "grad_Y[self.matrix.indices % len(grad_Y)] * X[rows % len(X)]"),
        ("only the first column of the width", "np.sum(grad_Y[rows] * X[self.matrix.indices], axis=1)",
         "np.sum(grad_Y[rows] * X[self.matrix.indices], axis=1) * 0 + grad_Y[rows, 0] * X[self.matrix.indices, 0]"),
        ("factor 1.03", "np.sum(grad_Y[rows] * X[self.matrix.indices], axis=1)",
         "grad_Y.dtype.type(1.03) * np.sum(grad_Y[rows] * X[self.matrix.indices], axis=1)"),
    ),
    *_in("kernels.propagation._weights_gradient", "sparse_product")(
        ("row of the wrong matrix", "(j, f)", "(i % X.shape[0], f)"),
    ),
    *_in("kernels.propagation._product", "sparse_product", "propagate")(
        ("overwrites instead of adding up", "add_scaled(row, data[p], X, j, width)",
         "add_scaled(row, data[p], X, j, width) if p == indptr[i] else None"),
        ("row of the wrong node", "add_scaled(row, data[p], X, j, width)", "add_scaled(row, data[p], X, i % X.shape[0], width)"),
    ),
    *_in("kernels.propagation.mean_of_powers", "propagate", "coarse_stage")(
        ("mean over layers forgotten", "1 / (n_layers + 1)", "1"),
        ("rows at the wrong place", "np.arange(len(given), dtype=np.int32)", "np.arange(len(given), dtype=np.int32)[::-1]"),
        ("share of the mean forgotten after the first layer",
         "_run(matrix, groups, Y, X, share if last else one, out, rows=rows, X_place=X_place, base_place=place)",
         "_run(matrix, groups, Y, X[:None if layer == 0 else 0], share if last else one, out, rows=rows, X_place=X_place, "
          "base_place=place)"),
    ),
    *_in("kernels.propagation.mean_of_powers", "propagate")(
        ("last layer only",
         "_run(matrix, groups, Y, X, share if last else one, out, rows=rows, X_place=X_place, base_place=place)",
         "_run(matrix, groups, Y, X[:0], share if last else one, out, rows=rows, X_place=X_place, base_place=place)"),
    ),
    # ---- propagation
    *_in("model.propagation.propagate_backward", "propagate", "propagate_bridged", "fine_stage")(
        ("mean over layers forgotten", "(grad_H if rows is None else in_rows(grad_H, rows, layer.shape[0])) / (n_layers + 1)",
         "grad_H if rows is None else in_rows(grad_H, rows, layer.shape[0])"),
    ),
    *_in("model.propagation.propagate_backward", "propagate")(
        ("mean over L layers", "n_layers + 1", "max(n_layers, 1)"),
        ("one layer too many", "range(n_layers)", "range(n_layers + 1)"),
    ),
    *_in("kernels.propagation.propagate_backward", "propagate")(
        ("transpose forgotten", "layer.transpose", "layer.matrix"),
    ),
    *_in("model.propagation.propagate_backward_structure", "propagate", "coarse_structure")(
        ("stale layer", "-1", "0"),
        ("mean over layers forgotten", "grad_H / (n_layers + 1)", "grad_H"),
    ),
    # ---- composition
    *_in("model.codebook.compose_backward", "compose", "coarse_stage")(
        ("tanh' forgotten", "tanh_backward(grad_Z, Z)", "grad_Z"),
    ),
    *_in("kernels.propagation.compose_backward", "compose")(
        ("half of the row groups", "S.transpose_row_bounds", "S.transpose_row_bounds[:32]"),
    ),
    *_in("model.codebook.compose_backward_assignment", "compose", "coarse_structure")(
        ("tanh' forgotten", "tanh_backward(grad_Z, Z)", "grad_Z"),
        ("factor 1.03", "tanh_backward(grad_Z, Z)", "tanh_backward(grad_Z, Z) * grad_Z.dtype.type(1.03)"),
    ),
    *_in("model.codebook.tanh_backward", "compose", "coarse_stage", "joint_stage")(
        ("wrong sign", "1 - Z ** 2", "1 + Z ** 2"),
    ),
    *_in("kernels.propagation._scale_by_tanh_slope", "optimiser")(
        ("slope of the first block in every block", "Z[k] * Z[k]", "Z[k % block] * Z[k % block]"),
    ),
    *_in("kernels.propagation._gather_links", "compose", "coarse_stage")(
        ("tanh' forgotten", "add_scaled_by_tanh_slope(row, data[p], grad_Z, indices[p], Z, indices[p], width)",
         "add_scaled(row, data[p], grad_Z, indices[p], width)"),
    ),
    # ---- soft threshold
    *_in("model.codebook.soft_threshold_backward", "soft_threshold", "fine_stage")(
        ("mask forgotten", "np.where(np.abs(E) > tau, grad_F, 0)", "grad_F.copy()"),
        ("mask inverted", "np.abs(E) > tau", "np.abs(E) <= tau"),
        ("mask of one side only", "np.abs(E)", "E"),
    ),
    *_in("model.codebook.soft_threshold_backward", "soft_threshold")(
        ("other convention at the threshold", "np.abs(E) > tau", "np.abs(E) >= tau"),
    ),
    *_in("model.codebook.soft_threshold_backward_tau", "soft_threshold", "fine_structure")(
        ("mask forgotten", "np.abs(E) > tau", "np.abs(E) > 0"),
    ),
    # ---- bridge
    *_in("model.codebook.bridge_backward", "bridge", "fine_stage")(
        ("the halves of the bridge exchanged",
         "((1 - gate) * grad_E_hat, gate * operator(S_fine).adjoint(grad_E_hat))",
         "(gate * grad_E_hat, (1 - gate) * operator(S_fine).adjoint(grad_E_hat))"),
        ("gate forgotten", "gate * operator(S_fine).adjoint(grad_E_hat)", "operator(S_fine).adjoint(grad_E_hat)"),
        ("wrong sign", "1 - gate", "-(1 - gate)"),
    ),
    *_in("model.codebook.bridge_backward_gate", "bridge", "fine_structure")(
        ("coarse half forgotten", "operator(S_fine).forward(F) - E_coarse", "operator(S_fine).forward(F)"),
    ),
    *_in("model.codebook.bridge_backward_assignment", "bridge", "fine_structure")(
        ("the other half's gate", "number(gate) * grad_E_hat", "(1 - gate) * grad_E_hat"),
    ),
    # ---- bridged layers
    *_in("model.propagation.BridgedLayer.adjoint", "bridged_layer", "fine_stage")(
        ("stale coarse rows", "grad_p *= 1 - g", "grad_p = grad_p * (1 - g)"),
        ("the second way to the fine nodes forgotten", "2 * g - 1", "g"),
        ("fine nodes overwritten", "grad_q += self.S_fine.adjoint((2 * g - 1) * grad_p)",
         "grad_q[:] = self.S_fine.adjoint((2 * g - 1) * grad_p)"),
        ("exchange: fine nodes forgotten", "g * self.S_fine.adjoint(grad_difference)",
         "0 * self.S_fine.adjoint(grad_difference)"),
    ),
    *_in("model.propagation.BridgedLayer.adjoint", "bridged_layer")(
        ("transpose forgotten", "self.X_hat.adjoint(grad_Y)", "self.X_hat.forward(grad_Y)"),
        ("cotangent modified", "grad_next.copy()", "grad_next"),
    ),
    *_in("model.propagation.BridgedLayer.structure_gradients", "bridged_layer", "fine_structure")(
        ("exchange: message's part forgotten",
         "grad_X_hat[self._message_entries()] += self.coarse_message.weights_gradient(grad_h, g * difference)", "pass"),
    ),
    *_in("model.propagation.propagate_backward_structure", "propagate_bridged", "fine_structure")(
        ("layers in the wrong order", "reversed(outputs[:n_layers])", "outputs[:n_layers]"),
    ),
    # ---- collapsed
    *_in("model.propagation.propagate_collapsed_backward", "propagate_collapsed", "fine_stage")(
        ("all rows from the start (NumPy)", "in_rows(grad_H, rows, len(W))", "in_rows(grad_H, np.sort(rows)[::-1], len(W))"),
    ),
    *_in("kernels.propagation.propagate_collapsed_backward", "propagate_collapsed")(
        ("last block only", "parts.sum(axis=0)", "parts[-1]"),
        ("the first rows instead of the chosen", "W[rows[first:first + block]]", "W[first:min(first + block, len(rows))]"),
    ),
    *_in("model.propagation.collapse", "fine_stage")(
        ("gate of W1 forgotten", "layer.gate * layer.S_fine.forward(own)", "layer.S_fine.forward(own)"),
    ),
    # ---- graph
    *_in("model.graph.normalise_backward", "graph", "coarse_structure")(
        ("duplicates forgotten", "np.add.at(grad_factor, rows, weighted * factor[X.indices])",
         "grad_factor[rows] += weighted * factor[X.indices]"),
    ),
    *_in("model.graph._both_blocks", "graph", "coarse_structure", "fine_structure")(
        ("one block only", "_entries(grad_X, rows, columns) + _entries(grad_X, columns, rows)",
         "_entries(grad_X, rows, columns)"),
    ),
    # ---- loss
    *_in("model.loss.bpr_backward", "bpr", "coarse_stage")(
        ("positive and negative exchanged for the user", "H[negative] - H[positive]", "H[positive] - H[negative]"),
        ("wrong sign at the positive", "-s", "s"),
        ("duplicate users overwritten", "np.add.at(grad_H, user, s * (H[negative] - H[positive]))",
         "grad_H[user] += s * (H[negative] - H[positive])"),
        ("duplicate negatives overwritten", "np.add.at(grad_bias, negative, slope)", "grad_bias[negative] += slope"),
        ("bias of the positive forgotten", "np.add.at(grad_bias, positive, -slope)", "pass"),
        ("bias of the user", "np.add.at(grad_bias, positive, -slope)", "np.add.at(grad_bias, user, -slope)"),
        ("factor 1.03", "slope[:, None]", "slope.dtype.type(1.03) * slope[:, None]"),
    ),
    *_in("model.loss.bpr_loss", "bpr", "coarse_stage")(
        ("slope of the reversed difference", "(negative - positive).real", "(positive - negative).real"),
    ),
    *_in("model.loss.sigmoid", "bpr", "coarse_stage")(
        ("one branch only", "np.where(x >= 0, 1, small)", "1"),
    ),
    *_in("kernels.step._softplus_and_slopes", "bpr", "coarse_stage")(
        ("branches exchanged", "one if difference >= 0 else small", "small if difference >= 0 else one"),
    ),
    *_in("kernels.step._gather", "bpr", "coarse_stage")(
        ("first occurrence only", "start[k + 1]", "start[k] + 1"),
        ("user's bias", "add_scaled_difference(row, s, H, negative[b], H, positive[b], width)",
         "add_scaled_difference(row, s, H, negative[b], H, positive[b], width)\ntotal += s"),
        ("biases of the group added up", "H.dtype.type(0)", "grad_bias[entities[k - 1]]"),
    ),
    # ---- regulariser
    *_in("model.loss.squared_norm_penalty_backward", "regulariser", "coarse_stage")(
        ("factor 2 forgotten", "2 * l2", "l2"),
        ("duplicates forgotten", "np.add.at(count, entities, 1)", "count[entities] += 1"),
        ("negatives forgotten", "(triples.user, triples.positive, triples.negative)", "(triples.user, triples.positive)"),
    ),
    *_in("kernels.step.squared_norm_penalty_backward", "regulariser", "coarse_stage")(
        ("count forgotten", "where.counts", "where.counts ** 0"),
    ),
    *_in("kernels.step.add_scaled_rows", "regulariser", "coarse_stage")(
        ("row of the position, not of the entity", "Z[entities[k], f]", "Z[k, f]"),
    ),
    # ---- triples
    *_in("kernels.step.sort_slots", "triples", "batches")(
        ("slots of the negatives in the wrong role", "2 * n_triples", "n_triples"),
    ),
    # ---- stages
    *_in("model.loss.batch_loss_backward", "coarse_stage", "fine_stage")(
        ("biases at the wrong entities", "grad_bias[triples.entities]", "grad_bias[:len(grad_bias_rows)]"),
        ("slope without a sign", "engine.bpr_backward(H, triples.local, slope)",
         "engine.bpr_backward(H, triples.local, -slope)"),
    ),
    *_in("model.coarse.coarse_gradients", "coarse_stage")(
        ("regulariser forgotten", "engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, grad_X0[:n])",
         "engine.squared_norm_penalty_backward(decay, forward.Z, triples, 0 * l2, grad_X0[:n])"),
        ("one layer too few", "engine.propagate_backward(grad_H, graph.X_hat, n_layers, rows=triples.entities)",
         "engine.propagate_backward(grad_H, graph.X_hat, max(n_layers - 1, 0), rows=triples.entities)"),
        ("wrong sign of the regulariser",
         "engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, grad_X0[:n])",
         "engine.squared_norm_penalty_backward(decay, forward.Z, triples, -l2, grad_X0[:n])"),
        ("stale assignment: the rows moved by one", "engine.compose_backward(grad_Z, graph.S_coarse, forward.Z)",
         "engine.compose_backward(np.roll(grad_Z, 1, axis=0), graph.S_coarse, forward.Z)"),
        ("rows of the batch moved by one", "engine.propagate_backward(grad_H, graph.X_hat, n_layers, rows=triples.entities)",
         "engine.propagate_backward(grad_H, graph.X_hat, n_layers, rows=np.roll(triples.entities, 1))"),
        ("decay forgotten", "engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, grad_X0[:n])",
         "engine.squared_norm_penalty_backward(decay * 0 + 1, forward.Z, triples, l2, grad_X0[:n])"),
    ),
    *_in("model.fine.fine_gradients", "fine_stage")(
        ("tanh' of the fine nodes forgotten", "grad_tanh_F * (1 - forward.tanh_F ** 2)", "grad_tanh_F"),
        ("decay forgotten", "engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, grad_Z)",
         "engine.squared_norm_penalty_backward(decay * 0 + 1, forward.Z, triples, l2, grad_Z)"),
        ("regulariser forgotten", "engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, grad_Z)",
         "engine.squared_norm_penalty_backward(decay, forward.Z, triples, 0 * l2, grad_Z)"),
        ("composition's part to the wrong codebook", "graph.composition == 'bridged'", "graph.composition == 'coarse'"),
        ("coarse rows from the wrong place", "grad_Z, grad_E_hat, grad_tanh_F = layer.split(grad_X0)",
         "grad_Z, grad_E_hat, grad_tanh_F = layer.split(grad_X0)\ngrad_E_hat = grad_X0[:len(grad_E_hat)]"),
    ),
    *_in("model.coarse.coarse_structure_gradients", "coarse_structure")(
        ("way through the graph forgotten", "through_graph.data + through_composition.data", "through_composition.data"),
        ("regulariser forgotten", "engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, grad_X0[:n])",
         "engine.squared_norm_penalty_backward(decay, forward.Z, triples, 0 * l2, grad_X0[:n])"),
    ),
    *_in("model.fine.fine_structure_gradients", "fine_structure")(
        ("way inside the layers forgotten", "graph_coarse.data + composition_coarse.data + inside['S_coarse']",
         "graph_coarse.data + composition_coarse.data"),
        ("gate inside the layers forgotten", "float(gate + inside['gate'])", "gate"),
        ("bridge at the start forgotten", "graph_fine.data + bridge_fine.data + inside['S_fine']",
         "graph_fine.data + inside['S_fine']"),
    ),
    # ---- joint training
    *_in("model.joint.joint_gradients", "joint_stage")(
        ("tanh' forgotten", "engine.tanh_backward(grad_Z, forward.Z)", "grad_Z"),
        ("regulariser forgotten", "engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, grad_Z)",
         "engine.squared_norm_penalty_backward(decay, forward.Z, triples, 0 * l2, grad_Z)"),
        ("decay forgotten", "engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, grad_Z)",
         "engine.squared_norm_penalty_backward(decay * 0 + 1, forward.Z, triples, l2, grad_Z)"),
        ("data loss forgotten", "engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, grad_Z)",
         "engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, 0 * grad_Z)"),
        ("one layer too few", "engine.propagate_backward(grad_H, graph.A, n_layers, rows=triples.entities)",
         "engine.propagate_backward(grad_H, graph.A, max(n_layers - 1, 0), rows=triples.entities)"),
        ("rows of the batch moved by one", "engine.propagate_backward(grad_H, graph.A, n_layers, rows=triples.entities)",
         "engine.propagate_backward(grad_H, graph.A, n_layers, rows=np.roll(triples.entities, 1))"),
        ("codebooks laid the other way round", "(grad_codebook[:c], grad_codebook[c:])",
         "(grad_codebook[-c:], grad_codebook[:-c])"),
        ("bridge of the coarse rows forgotten",
         "grad_E_coarse if graph.gate < 1 else grad_E_coarse[:0]", "grad_E_hat if graph.gate < 1 else grad_E_coarse[:0]"),
        ("weights of the bridge behind no threshold", "soft_threshold(E_fine, threshold)", "E_fine"),
        ("weights from squashed codebook rows", "forward.codebook", "np.tanh(forward.codebook)"),
    ),
    # ---- optimiser
    *_in("model.step.adam_update", "optimiser")(
        ("epsilon inside the root's correction", "np.sqrt(v) / root_correction + EPSILON",
         "(np.sqrt(v) + EPSILON) / root_correction"),
        ("square of the wrong thing", "(1 - BETA2) * g * g", "(1 - BETA2) * abs(g)"),
    ),
    *_in("model.step.clip_by_value", "optimiser")(
        ("one side only", "np.clip(gradient, -float(limit), float(limit))", "np.minimum(gradient, limit)"),
    ),
    # ---- the baselines
    *_in("baselines.table_stage.compose_products_backward", "table_composition", "table_model")(
        ("rows exchanged", "R[None, :, :]", "Q[:, None, :]"),
        ("a row keeps its first entity only", "np.sum(table * Q[:, None, :], axis=0)", "(table * Q[:, None, :])[0]"),
        ("blocks and places exchanged", "table.reshape(len(Q), len(R), -1)",
         "table.reshape(len(R), len(Q), -1).transpose(1, 0, 2)"),
    ),
    *_in("baselines.table_stage.compose_products_backward", "table_composition")(
        ("last entity lost", "table[:len(grad_Z)] = grad_Z", "table[:len(grad_Z) - 1] = grad_Z[:-1]"),
    ),
    *_in("baselines.table_stage.TableStage.gradients", "table_model")(
        ("regulariser forgotten", "self.engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, grad_Z)",
         "self.engine.squared_norm_penalty_backward(decay, forward.Z, triples, 0 * l2, grad_Z)"),
        ("regulariser of the propagated embeddings", "forward.Z", "self.engine.propagate(forward.Z, graph, self.n_layers)"),
        ("one layer too few", "self.engine.propagate_backward(grad_H, graph, self.n_layers, rows=triples.entities)",
         "self.engine.propagate_backward(grad_H, graph, max(self.n_layers - 1, 0), rows=triples.entities)"),
        ("item biases taken from the users", "grad_bias[triples.n_entities - len(state.arrays['item_bias']):]",
         "grad_bias[:len(state.arrays['item_bias'])]"),
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
