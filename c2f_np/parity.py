"""Comparison with reference numbers: does this implementation compute what the published code computes?

A reference file is an npz archive with a model's state, one batch, and every quantity that the published code makes of
them in float64: graphs, embeddings, losses, gradients, three Adam steps, the closed-form updates, scores, a ranking,
metrics. :func:`compare_with_reference` recomputes each of them with one engine and reports the largest relative error of each.

How an error is measured
------------------------
The relative error of an array is ``max |ours - reference| / max |reference|``. It is judged by a wider scale only where
that quotient would measure rounding noise:

- **Cancelled sums.** A gradient, a score or an embedding can be (nearly) zero because large summands cancel; the
  gradient of a user's bias is exactly zero, and what is left of it is noise. The scale is then at least 1 % of the
  *natural scale*, the size of the summands: the sum of the batch's slopes for biases, the largest cotangent of an
  entity for codebooks.
- **Adam on noise.** Adam divides a gradient by its own size plus 1e-8, so noise of 1e-17 becomes a movement of
  ``lr * 1e-17 / 1e-8``. For each entry the movement that rounding of its gradient explains is known, and a deviation
  of that size counts as much as the tolerance. For gradients that are exactly zero (biases of users and the global
  one), such a movement is granted only if the reference's own gradients show noise there.
- **Pseudoinverses.** They magnify rounding by the condition of the embeddings. The factor is found by moving the
  embeddings by one unit in the last place; 32 times the effect counts as much as the tolerance.
- **Ties.** Entries (or items) whose values agree up to rounding may be chosen (or ranked) either way; an entry that is
  not of that value is an error of the size of the difference.

NaN, on either side or in the inputs, is a failure: its error is NaN, which is never within the tolerance.

Shapes: interactions (U, I); N = U + I; S_coarse (N, C); S_fine (C, M); E_coarse (C, d); E_fine (M, d).
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sparse

from .archive import Members, open_members
from .engine import AVAILABLE_ENGINES, LEFT_OUT, engine_named, is_compiled
from .errors import C2FError, DataError, ModelFileError, in_short
from .evaluation.metrics import mean_metrics, metrics_per_user
from .evaluation.ranking import rank_items
from .model.coarse import coarse_forward, coarse_gradients, coarse_graph
from .model.fine import fine_forward, fine_gradients, fine_graph
from .model.graph import normalised_adjacency
from .model.links import (
    fine_affinity,
    pseudoinverse,
    softmax_rows,
    update_coarse_assignment,
    update_fine_assignment,
)
from .model.loss import Triples, batch_loss, bpr_backward, squared_norm_penalty_backward
from .model.step import BETA2, EPSILON, adam_step, fresh_moments
from .schema import LIMITS, parse_json
from .shown import for_terminal

TOLERANCE = 1e-12

_EPS = np.finfo(np.float64).eps
# Below this share of its summands a result counts as cancelled.
_CANCELLED = 1e-2
_STAGES = ("coarse", "fine")
_STATE = ("S_coarse", "S_fine", "E_coarse", "E_fine", "bias_user_item", "bias_global")
_TRAINED = ("E_coarse", "E_fine", "bias_user_item", "bias_global")
_LONGEST_LIST = 1000
_METRIC = re.compile(r"metric_(ndcg|recall)_([1-9][0-9]*)")


@dataclass(frozen=True)
class ParityReport:
    """How far one engine is from one reference file: each quantity's largest relative error (NaN where either side has NaN)."""

    path: Path
    engine: str
    errors: dict[str, float]  # by the key in the file
    absent: tuple[str, ...] = ()  # optional quantities that the file does not hold

    @property
    def worst_quantity(self) -> str:
        """The quantity with the largest error."""
        return max(self.errors, key=lambda name: _badness(self.errors[name]))

    @property
    def worst(self) -> float:
        """The largest of all errors; NaN if one is NaN."""
        return self.errors[self.worst_quantity]

    @property
    def passed(self) -> bool:
        """Whether every error is at most 1e-12."""
        return all(error <= TOLERANCE for error in self.errors.values())

    def __str__(self) -> str:
        width = max(map(len, self.errors))
        lines = [f"{self.path} ({self.engine}): {_verdict(self)}"]
        lines += [f"  {name:<{width}}  {_number(error)}{_mark(error)}" for name, error in self.errors.items()]
        if self.absent:
            lines.append(f"  not in the file: {', '.join(self.absent)}")
        return "\n".join(lines)


def compare_with_reference(path, *, engine: str = "numpy") -> ParityReport:
    """Recompute every quantity of a reference file and measure its relative error (see the module's text).

    The npz archive must hold `meta` (JSON with at least t_coarse, t_fine, n_layers, gate and threshold), the inputs and all
    quantities of both stages. Optional are the keys ``metric_*``, and in `meta` the sizes (checked if there) and
    l2_penalty_factor (5), decay (1e-4), lr (0.01), clip (3). DataError names file and key of whatever does not fit.
    """
    is_compiled(engine)
    reference = _Reference(path)
    with np.errstate(all="ignore"):
        errors = _errors(reference, engine)
    return ParityReport(reference.path, engine, errors, reference.absent)


def main_parity(files: Iterable, engine: str = "both") -> int:
    """Compare files with "numpy", "numba" or "both", and print the largest error of each quantity.

    Returns the exit code: 0 if everything agrees within 1e-12, 1 if something does not, 2 if no file is given or one is not a
    reference file (one line on stderr for each; the others are compared all the same).
    """
    engines = AVAILABLE_ENGINES if engine == "both" else (engine,)
    for name in engines:
        engine_named(name)
    if engine == "both" and len(engines) == 1:
        print(LEFT_OUT, file=sys.stderr)
    reports: list[ParityReport] = []
    unusable = False
    for path in files:
        try:
            reports += [compare_with_reference(path, engine=name) for name in engines]
        except DataError as error:
            print(f"parity: {for_terminal(' '.join(str(error).split()))}", file=sys.stderr)
            unusable = True
    if not reports and not unusable:
        print("parity: no file given", file=sys.stderr)
    if reports:
        print(_table(reports, engines))
    if unusable or not reports:
        return 2
    return 0 if all(report.passed for report in reports) else 1


class _Reference:
    """A reference file, checked: every array in place, float64 or int64, of the shape it must have."""

    def __init__(self, path):
        self.path = Path(path)
        try:
            with open_members(path) as stored:
                self._read(stored)
        except ModelFileError as error:
            raise DataError(str(error)) from error

    def _read(self, stored: Members) -> None:
        meta = self._meta(stored)
        interactions = self._array(stored, "interactions", (None, None))
        E_coarse, E_fine = (self._array(stored, key, (None, None)) for key in ("E_coarse", "E_fine"))
        (u, i), (c, d), m = interactions.shape, E_coarse.shape, E_fine.shape[0]
        n, self.n_users = u + i, u
        for key, size in (("n_users", u), ("n_items", i), ("dim", d), ("n_coarse", c), ("n_fine", m)):
            if meta.get(key, size) != size:
                raise self._error("meta", f"{key} is {in_short(meta[key])}, but the arrays say {size}")
        self.t_coarse = self._integer(meta, "t_coarse", 1, c)
        self.t_fine = self._integer(meta, "t_fine", 1, m)
        self.n_layers = self._integer(meta, "n_layers", 0, LIMITS["n_layers"])
        self.gate = self._real(meta, "gate")
        self.threshold = self._real(meta, "threshold", least=0)
        self.l2 = self._real(meta, "l2_penalty_factor", 5)
        self.decay = self._real(meta, "decay", 1e-4)
        self.lr = self._real(meta, "lr", 0.01)
        self.clip = self._real(meta, "clip", 3, least=0)
        if self.clip == 0:
            raise self._error("meta", "clip must be positive")

        state = ((n, c), (c, m), (c, d), (m, d), (n,), (1,))
        shapes: dict[str, tuple] = {"interactions": (u, i), "norm_adj": (n, n)} | dict(zip(_STATE, state, strict=True))
        shapes |= {"coarse_updated_S_coarse": (n, c), "fine_updated_S_fine": (c, m)}
        shapes |= {"fine_soft_thresholded": (m, d), "fine_bridged_coarse": (c, d)}
        for stage in _STAGES:
            shapes |= {
                f"{stage}_expanded_graph": (n + c + m,) * 2,
                f"{stage}_ego": (n, d),
                f"{stage}_h_entities": (n, d),
                f"{stage}_h_coarse_nodes": (c, d),
                f"{stage}_h_fine_nodes": (m, d),
                f"{stage}_losses_3_adam_steps": (3,),
                f"{stage}_scores": (u, i),
            }
            shapes |= {f"{stage}_{part}_loss": () for part in ("bpr", "reg", "total")}
            for name in _TRAINED:
                shapes |= {f"{stage}_grad_{name}": shapes[name], f"{stage}_after3_{name}": shapes[name]}
        self.arrays = {key: self._array(stored, key, shape) for key, shape in shapes.items()}

        batch = []
        for key, size in (("batch_user", u), ("batch_pos", i), ("batch_neg", i)):
            ids = self._array(stored, key, (None,), integer=True)
            if ((ids < 0) | (ids >= size)).any():
                raise self._error(key, f"holds numbers outside 0..{size - 1}")
            if batch and len(ids) != len(batch[0]):
                raise self._error(key, f"has {len(ids)} entries, batch_user {len(batch[0])}")
            batch.append(ids)
        self.triples = Triples.from_items(*batch, u, i)

        # The evaluation may be left out, as a whole or in part; a metric without the relevant items cannot be checked.
        self.metrics = [(key, *match.groups()) for key in stored if (match := _METRIC.fullmatch(key))]
        self.relevant = self.topk = None
        if self.metrics or "metric_relevant" in stored:
            self.relevant = self._array(stored, "metric_relevant", (u, i))
        if "metric_topk" in stored:
            self.topk = self._array(stored, "metric_topk", (u, None), integer=True)
            if self.topk.shape[1] > i:
                raise self._error("metric_topk", f"lists {self.topk.shape[1]} items, there are {i}")
        for key, _, k in self.metrics:
            if int(k[:9]) > _LONGEST_LIST:
                raise self._error(key, f"is of more than {_LONGEST_LIST} items")
            self.arrays[key] = self._array(stored, key, ())
        held = {"metric_relevant": self.relevant is not None, "metric_topk": self.topk is not None}
        held["metric_ndcg_*, metric_recall_*"] = bool(self.metrics)
        self.absent = tuple(key for key, there in held.items() if not there)

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def _error(self, key: str, message: str) -> DataError:
        return DataError(f"key {in_short(key)}: {message}", path=self.path)

    def _array(self, stored: Members, key: str, shape: tuple, *, integer: bool = False) -> np.ndarray:
        """An array of the given shape, None for any positive size, in native C order."""
        dtype, found = stored.promised(key)
        if dtype.kind not in ("iu" if integer else "fiub"):
            raise self._error(key, f"must hold {'integers' if integer else 'real numbers'}, not {dtype}")
        is_number = shape in ((), (1,)) and found in ((), (1,))
        sizes = zip(found, shape, strict=False)
        fits = len(found) == len(shape) and all(have == want if want is not None else have > 0 for have, want in sizes)
        if not (is_number or fits):
            wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
            raise self._error(key, f"has the shape {found}, expected {wanted}")
        array = np.array(stored.read(key), dtype=np.int64 if integer else np.float64, order="C")
        return array.reshape(shape) if is_number else array

    def _meta(self, stored: Members) -> dict:
        dtype, shape = stored.promised("meta")
        if dtype.kind not in "US" or math.prod(shape) != 1:
            raise self._error("meta", "must be one string of JSON")
        try:
            text = stored.read("meta").item()
            meta = parse_json(text if isinstance(text, bytes) else text.encode("utf-8"), "meta")
        except ValueError as error:  # a ModelFileError is one
            raise self._error("meta", "is not valid JSON") from error
        if not isinstance(meta, dict):
            raise self._error("meta", "is not a JSON object")
        return meta

    def _real(self, meta: dict, key: str, default: float | None = None, *, least: float = -math.inf) -> float:
        value = meta.get(key, default)
        if value is None:
            raise self._error("meta", f"{key} is missing")
        try:
            number = math.nan if isinstance(value, bool | str) else float(value)
        except (TypeError, OverflowError):
            number = math.nan
        # A clip of infinity is none; no other setting may be infinite.
        if not number >= least or (math.isinf(number) and key != "clip"):
            allowed = f" of at least {least}" if least > -math.inf else ""
            raise self._error("meta", f"{key} must be a finite number{allowed}, not {in_short(value)}")
        return number

    def _integer(self, meta: dict, key: str, least: int, most: int) -> int:
        value = self._real(meta, key)
        if not value.is_integer() or not least <= value <= most:
            raise self._error("meta", f"{key} must be an integer from {least} to {most}, not {in_short(meta[key])}")
        return int(value)


def _errors(reference: _Reference, engine: str) -> dict[str, float]:
    """The error of every quantity, by its key."""
    errors = {key: math.nan for key in ("interactions", *_STATE) if not np.isfinite(reference[key]).all()}
    adjacency = normalised_adjacency(sparse.csr_array(reference["interactions"]))
    errors["norm_adj"] = scaled_error(adjacency, reference["norm_adj"])
    # The gradients of the users' biases and the global one are 0 in theory: does the reference have noise there?
    exactly_zero = [reference[f"{stage}_grad_bias_global"] for stage in _STAGES]
    exactly_zero += [reference[f"{stage}_grad_bias_user_item"][: reference.n_users] for stage in _STAGES]
    noise = max(_top(gradient) for gradient in exactly_zero)
    for stage in (_Coarse, _Fine):
        errors |= stage(reference, adjacency, engine).errors(noise)
    return errors


class _Stage:
    """What both stages are asked for. Parameters go by their names in the file.

    A stage adds its graph (`padded_graph`: with isolated fine nodes, if it does not have them), `forward`, `gradients` of all
    four parameters (zeros for a codebook that it does not see), and its closed-form `update`, with the dense `weights` behind it.
    """

    name: str
    trained: str  # the codebook that this stage trains

    def __init__(self, reference: _Reference, engine: str, graph):
        self.reference, self.engine, self.graph = reference, engine, graph
        self.weights_of_loss = {"l2": reference.l2, "decay": reference.decay}
        self.parameters = {name: reference[name] for name in _TRAINED}

    def loss(self, forward, parameters):
        biases = parameters["bias_user_item"], parameters["bias_global"]
        return batch_loss(forward, *biases, self.reference.triples, **self.weights_of_loss, engine=self.graph.engine)

    def own_errors(self, forward, own: Callable) -> None:
        """Errors of what only this stage has."""

    def errors(self, noise: float) -> dict[str, float]:
        """Errors of all quantities of the stage; `noise` is the largest of the reference's gradients that are 0 in theory."""
        reference, name = self.reference, self.name
        errors: dict[str, float] = {}

        def own(key, ours, **scale):
            errors[f"{name}_{key}"] = scaled_error(ours, reference[f"{name}_{key}"], **scale)

        forward = self.forward(self.parameters)
        own("expanded_graph", self.padded_graph())
        own("ego", forward.Z, natural=min(1.0, _top(reference["S_coarse"]) * _top(reference["E_coarse"])))
        H_fine = getattr(forward, "H_fine", np.zeros_like(reference["E_fine"]))
        nodes = {"h_entities": forward.H_entities, "h_coarse_nodes": forward.H_coarse, "h_fine_nodes": H_fine}
        largest = max(map(_top, nodes.values()))
        for key, H in nodes.items():
            own(key, H, natural=largest)

        loss, slope = self.loss(forward, self.parameters)
        own("bpr_loss", loss.bpr)
        own("reg_loss", loss.regulariser)
        own("total_loss", loss.total)
        natural = self._gradient_scales(forward, slope)
        for parameter, gradient in self.gradients(forward, slope, self.parameters).items():
            own(f"grad_{parameter}", gradient, natural=natural[parameter])

        losses, after, explained = self._three_steps(noise)
        own("losses_3_adam_steps", losses)
        for parameter, value in after.items():
            own(f"after3_{parameter}", value, noise=explained[parameter])

        self.own_errors(forward, own)
        updated = f"{name}_updated_S_{name}"
        errors[updated] = _update_error(self.update, self.weights, self.nodes(forward), reference[updated])
        u, bias, bias_global = reference.n_users, reference["bias_user_item"], reference["bias_global"]
        H = forward.H_entities
        scores = H[:u] @ H[u:].T + bias[:u, None] + bias[None, u:] + bias_global[0]
        own("scores", scores, natural=_top_norm(H[:u]) * _top_norm(H[u:]) + _top(bias) + _top(bias_global))
        if name == "coarse":
            errors |= _evaluation_errors(scores, reference, self.engine)
        return errors

    def _gradient_scales(self, forward, slope) -> dict[str, float]:
        """The size of the summands of each gradient."""
        triples = self.reference.triples
        grad_H, _, _ = bpr_backward(forward.H_entities, triples, slope)
        nothing = np.zeros_like(forward.Z)
        grad_Z = squared_norm_penalty_backward(self.reference.decay, forward.Z, triples, self.reference.l2, nothing)
        cotangent, slopes = _top(grad_H) + _top(grad_Z), float(np.sum(np.abs(slope)))
        return {"E_coarse": cotangent, "E_fine": cotangent, "bias_user_item": slopes, "bias_global": slopes}

    def _three_steps(self, zero_noise: float):
        """Three clipped Adam steps: loss before each, parameters after the last, movement that rounding explains."""
        reference = self.reference
        parameters = dict(self.parameters)
        trained = (self.trained, "bias_user_item", "bias_global")
        moments = fresh_moments({name: parameters[name] for name in trained})
        noise: dict = {name: np.zeros_like(value) for name, value in parameters.items()}
        losses = []
        for step in range(1, 4):
            forward = self.forward(parameters)
            loss, slope = self.loss(forward, parameters)
            losses.append(loss.total)
            gradients = self.gradients(forward, slope, parameters)
            moving = {name: parameters[name] for name in trained}
            new, moments = adam_step(moving, gradients, moments, learning_rate=reference.lr, clip=reference.clip)
            parameters |= new
            for name, rounding in self._gradient_rounding(gradients, slope, zero_noise).items():
                size = np.sqrt(moments.square[name] / (1 - BETA2**step)) + EPSILON
                noise[name] = noise[name] + abs(reference.lr) * rounding / size
        return np.array(losses), parameters, noise

    def _gradient_rounding(self, gradients, slope, zero_noise: float) -> dict[str, np.ndarray | float]:
        """Rounding errors to expect in each entry of a gradient."""
        triples = self.reference.triples
        slopes = np.zeros(triples.n_entities)
        for entities in (triples.user, triples.positive, triples.negative):
            np.add.at(slopes, entities, np.abs(slope))
        everything = float(np.sum(np.abs(slope)))
        # What is exactly 0 in theory may be noise, or exactly 0 in fact if the reference adds in a lucky order.
        at_zero = 2 * (_EPS * everything + zero_noise) if 0 < zero_noise < 1e4 * _EPS * everything else 0.0
        rounding = 2 * _EPS * slopes
        rounding[: self.reference.n_users] = at_zero
        return {self.trained: 2 * _EPS * _top(gradients[self.trained]), "bias_user_item": rounding, "bias_global": at_zero}


class _Coarse(_Stage):
    name, trained = "coarse", "E_coarse"

    def __init__(self, reference: _Reference, adjacency, engine: str):
        S_coarse = sparse.csr_array(reference["S_coarse"])
        super().__init__(reference, engine, coarse_graph(adjacency, S_coarse, engine=engine_named(engine)))

    def padded_graph(self):
        return np.pad(self.graph.X_hat.matrix.toarray(), (0, len(self.reference["E_fine"])))

    def forward(self, parameters):
        return coarse_forward(parameters["E_coarse"], self.graph, self.reference.n_layers)

    def gradients(self, forward, slope, parameters):
        options = {"n_layers": self.reference.n_layers} | self.weights_of_loss
        gradients = coarse_gradients(forward, slope, self.graph, self.reference.triples, **options)
        return _by_file_names(gradients) | {"E_fine": np.zeros_like(parameters["E_fine"])}

    def nodes(self, forward):
        return forward.H_entities, forward.H_coarse

    def weights(self, H_entities, H_coarse):
        return H_entities @ pseudoinverse(H_coarse)

    def update(self, *H):
        return update_coarse_assignment(*H, self.reference.t_coarse, largest=self.graph.engine.largest_columns)


class _Fine(_Stage):
    name, trained = "fine", "E_fine"

    def __init__(self, reference: _Reference, adjacency, engine: str):
        links = sparse.csr_array(reference["S_coarse"]), sparse.csr_array(reference["S_fine"])
        super().__init__(reference, engine, fine_graph(adjacency, *links, reference.gate, engine=engine_named(engine)))
        self.sizes = {"threshold": reference.threshold, "n_layers": reference.n_layers}

    def padded_graph(self):
        return self.graph.layer.X_hat.matrix

    def forward(self, parameters):
        return fine_forward(parameters["E_fine"], parameters["E_coarse"], self.graph, **self.sizes)

    def gradients(self, forward, slope, parameters):
        options = self.sizes | self.weights_of_loss
        gradients = fine_gradients(forward, slope, parameters["E_fine"], self.graph, self.reference.triples, **options)
        return _by_file_names(gradients)

    def own_errors(self, forward, own):
        reference = self.reference
        own("soft_thresholded", forward.F, natural=_top(reference["E_fine"]))
        mixed = abs(reference.gate) * _top(reference["S_fine"]) * _top(forward.F)
        own("bridged_coarse", forward.E_hat, natural=mixed + abs(1 - reference.gate) * _top(reference["E_coarse"]))

    def nodes(self, forward):
        return forward.H_entities, forward.H_coarse, forward.H_fine

    def weights(self, *H):
        return softmax_rows(fine_affinity(*H))

    def update(self, *H):
        return update_fine_assignment(*H, self.reference.t_fine, largest=self.graph.engine.largest_columns)


def _by_file_names(gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"bias_user_item" if name == "bias" else name: value for name, value in gradients.items()}


def scaled_error(ours, reference, *, natural: float = 0.0, noise=0.0) -> float:
    """Largest deviation over the scale of the reference; NaN if either side has NaN, the plain deviation if the scale is 0.

    The scale is at least 1 % of `natural`, the size of the summands. `noise` is the deviation that rounding explains, for each
    entry; it counts as much as the tolerance.
    """
    ours = np.asarray(ours.toarray() if sparse.issparse(ours) else ours, dtype=np.float64)
    reference = np.asarray(reference, dtype=np.float64)
    if not (np.isfinite(ours).all() and np.isfinite(reference).all()):
        return math.nan
    floor = _CANCELLED * natural if math.isfinite(natural) else 0.0
    scale = np.maximum(max(_top(reference), floor), np.asarray(noise) / TOLERANCE)
    return _top(np.abs(ours - reference) / np.where(scale > 0, scale, 1))


def _update_error(update: Callable, weights: Callable, embeddings: tuple, reference: np.ndarray) -> float:
    """Error of a closed-form update; entries that tie for the last places may be kept either way."""
    try:
        full, ours = weights(*embeddings), update(*embeddings)
        rng = np.random.default_rng(0)
        moved = [weights(*(H * (1 + _EPS * rng.uniform(-1, 1, H.shape)) for H in embeddings)) - full for _ in range(3)]
    except (C2FError, np.linalg.LinAlgError):  # the embeddings are not finite
        return math.nan
    noise = 32 * _top(np.array(moved))
    kept = np.zeros(full.shape, dtype=bool)
    rows = np.repeat(np.arange(full.shape[0]), np.diff(ours.indptr))
    kept[rows, ours.indices] = True
    ours = ours.toarray()
    plain = scaled_error(ours, reference, noise=noise)
    if plain <= TOLERANCE or math.isnan(plain):
        return plain
    # The same again with the last places decided as the reference does, where it had the choice.
    chosen = reference != 0
    deviation = np.where(kept & chosen, np.abs(ours - reference), 0.0)
    for row in range(len(full)):
        only_ours, only_theirs = kept[row] & ~chosen[row], chosen[row] & ~kept[row]
        if only_ours.sum() != only_theirs.sum():  # not a swap
            deviation[row] = np.abs(ours[row] - reference[row])
            continue
        if only_ours.any():
            # What the reference stores must be our weight there, and as large as the ones we kept instead.
            theirs = reference[row][only_theirs]
            deviation[row, only_theirs] = np.abs(theirs - full[row][only_theirs])
            deviation[row, only_ours] = np.abs(np.sort(ours[row][only_ours]) - np.sort(theirs))
    scale = max(_top(reference), noise / TOLERANCE)
    return min(plain, _top(deviation) / (scale if scale > 0 else 1))


def _evaluation_errors(scores: np.ndarray, reference: _Reference, engine: str) -> dict[str, float]:
    """Errors of the ranking and of the metrics of the coarse stage's scores."""
    if reference.topk is None and not reference.metrics:
        return {}
    errors: dict[str, float] = {}
    ks = sorted({int(k) for _, _, k in reference.metrics})
    masked = sparse.csr_array(reference["interactions"])
    length = max([0 if reference.topk is None else reference.topk.shape[1], *ks])
    try:
        ranking = rank_items(scores, masked, length, engine=engine, n_threads=1)
    except C2FError:  # NaN among the scores
        ranking = None
    if reference.topk is not None:
        error, as_theirs = math.nan, None
        if ranking is not None:
            error, as_theirs = _ranking_error(ranking, scores, masked.toarray() != 0, reference.topk)
        errors["metric_topk"] = error
        if error <= TOLERANCE:
            # Where the order is decided by rounding, the metrics are those of the reference's order.
            ranking[:, : as_theirs.shape[1]] = as_theirs
    if not reference.metrics:
        return errors
    means: dict[str, float] = {}
    if ranking is not None and np.isfinite(reference.relevant).all():
        try:
            means, _, _ = mean_metrics(metrics_per_user(ranking, sparse.csr_array(reference.relevant), ks))
        except C2FError:  # nobody has relevant items, so that there is no mean
            pass
    for key, metric, k in reference.metrics:
        errors[key] = scaled_error(means.get(f"{metric}@{k}", math.nan), reference[key], natural=1.0)
    return errors


def _ranking_error(ranking, scores, masked, theirs) -> tuple[float, np.ndarray]:
    """How far the items of another ranking are, in score, from the ones that belong in their places; and that ranking.

    Places that cannot be filled with unmasked items are -1 in `ranking`; in `theirs` they may hold masked items, or -1. The error
    is infinite if a list of `theirs` holds an item twice, a masked one, or a number that is not an item.
    """
    length, n_items = theirs.shape[1], scores.shape[1]
    fillable = ranking[:, :length] >= 0
    rows = np.broadcast_to(np.arange(len(theirs))[:, None], theirs.shape)
    proper = np.where(fillable, theirs, -1)
    ordered = np.sort(np.where(theirs >= 0, theirs, -1 - np.arange(length)), axis=1)
    if (
        ((theirs < -1) | (theirs >= n_items)).any()
        or (proper[fillable] < 0).any()
        or masked[rows[fillable], proper[fillable]].any()
        or (ordered[:, 1:] == ordered[:, :-1]).any()  # also an unmasked item in a place that cannot be filled
    ):
        return math.inf, proper
    here = rows[fillable]
    gap = np.abs(scores[here, proper[fillable]] - scores[here, ranking[:, :length][fillable]])
    return _top(gap) / (_top(scores) or 1), proper


def _top(values) -> float:
    """Largest absolute value; 0 of nothing, NaN if there is one."""
    return float(np.max(np.abs(values), initial=0.0))


def _top_norm(rows: np.ndarray) -> float:
    return _top(np.sqrt(np.sum(rows * rows, axis=1)))


def _badness(error: float) -> float:
    return math.inf if math.isnan(error) else error


def _number(error: float) -> str:
    return f"{error:9.2e}" if math.isfinite(error) else f"{error!s:>9}"


def _mark(error: float) -> str:
    return "" if error <= TOLERANCE else "  <-- beyond 1e-12"


def _verdict(report: ParityReport) -> str:
    if report.passed:
        return f"agrees, largest relative error {report.worst:.1e} ({report.worst_quantity})"
    return f"DIFFERS, relative error {report.worst:.1e} ({report.worst_quantity})"


def _table(reports: list[ParityReport], engines: tuple[str, ...]) -> str:
    """The largest error of each quantity over all files, one column an engine, then one line a file."""
    quantities = list(dict.fromkeys(name for report in reports for name in report.errors))
    width = max(map(len, quantities))
    lines = [f"{'largest relative error of':<{width}}  " + "  ".join(f"{engine:>9}" for engine in engines)]
    for name in quantities:
        of_engines = [[report.errors.get(name, 0.0) for report in reports if report.engine == engine] for engine in engines]
        largest = [max(errors, key=_badness, default=0.0) for errors in of_engines]
        lines.append(f"{name:<{width}}  " + "  ".join(map(_number, largest)) + _mark(max(largest, key=_badness)))
    lines.append("")
    for report in reports:
        absent = f"; not in the file: {', '.join(report.absent)}" if report.absent else ""
        lines.append(f"{for_terminal(report.path)} ({report.engine}): {_verdict(report)}{absent}")
    return "\n".join(lines)
