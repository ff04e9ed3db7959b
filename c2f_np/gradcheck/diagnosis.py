"""From two gradients that disagree to the likely cause.

The hand-written gradient g is compared with the numerical one, n, at as many entries as were measured: are they
proportional, transposed, shifted, equal but for some entries, and which? Nothing here decides whether a gradient is
right; that has been decided before.

Shapes: n entries of the argument; S measured positions; ``ours`` and ``numbers`` (S,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from c2f_np.gradcheck.complex_step import STEP, NotApplicable, along_line
from c2f_np.gradcheck.differences import FIRST_STEP, entry_sampler, line_sampler, scale_of, slope
from c2f_np.gradcheck.evidence import Comparison, Evidence, balanced_direction, even_direction
from c2f_np.gradcheck.operation import Operation, stream
from c2f_np.gradcheck.report import Finding
from c2f_np.gradcheck.values import is_sparse, norm

CLOSE = 1e-5


def diagnose(
    operation: Operation,
    key: str,
    cotangents,
    gradients: np.ndarray,
    evidence: Evidence,
    worst: Comparison,
    kinks,
    seed: int,
) -> Finding:
    """The likely cause of a wrong gradient.

    Parameters
    ----------
    gradients : ndarray (K, n)
        The gradients under check, one for each output.
    evidence : Evidence
        Central differences.
    worst : Comparison
        Where the two disagree most.

    Returns
    -------
    Finding
    """
    g, k = gradients[worst.output], worst.output
    positions, numbers, noise, steps = evidence.positions, evidence.value[:, k], evidence.error[:, k], evidence.step
    crosses = kinks.crosses(key)
    if positions.size < g.size:
        rng = stream(seed, "locate", key)
        more = _look_closer(operation, key, cotangents, gradients, k, crosses, rng, positions, worst)
        positions = np.concatenate([positions, more[0]])
        numbers, noise, steps = (np.concatenate([a, b]) for a, b in zip((numbers, noise, steps), more[1:], strict=True))
    if not positions.size:
        return Finding(key, "unknown", "the gradient is wrong, but no single entry could be measured to say where")
    ours = g[positions]
    off = np.abs(ours - numbers)
    at = int(np.argmax(off))
    if worst.small_entry:  # the largest share, not the largest difference
        at = int(np.argmax(np.where(off > 30 * noise, off / np.maximum(np.maximum(np.abs(ours), np.abs(numbers)), 1e-300), -1)))
    along_only = worst.position is None and not worst.small_entry
    size = max(norm(ours), norm(numbers))
    unit = 1.0 if 1e-100 < size < 1e100 or not size else size  # so that squares stay finite
    scaled = (cotangents[j] / unit for j in range(len(cotangents)))
    case = _Case(
        operation,
        key,
        list(scaled),
        k,
        g / unit,
        positions,
        ours / unit,
        numbers / unit,
        noise / unit,
        at,
        worst.small_entry,
        along_only,
    )
    cause, explanation, factor = case.cause()
    if cause != "rounding" and case.rough():
        explanation += f"; besides, {case.rough()}"
    return Finding(
        key,
        cause,
        explanation,
        entry=operation.entry(key, int(positions[at])),
        index=int(positions[at]),
        output=operation.output_names[k],
        ours=float(ours[at]),
        numerical=float(numbers[at]),
        step=float(steps[at]),
        factor=factor,
    )


def _look_closer(operation, key, cotangents, gradients, k, crosses, rng, known, worst):
    """Find a wrong entry of a large argument by halving a direction, then measure it and its surroundings."""
    entries, g = operation.entries(key), gradients[k]
    v = balanced_direction(rng, entries, gradients) if worst.small_entry else even_direction(rng, entries)

    def off(part):
        try:
            return abs(along_line(operation, key, entries, part, STEP, cotangents)[0][k] - part @ g)
        except NotApplicable:
            found = slope(line_sampler(operation, key, part, crosses), cotangents, FIRST_STEP / 4)
            return abs(found.value[k] - part @ g) - 10 * min(found.error[k], 1e300)

    first, last = (0, entries.size) if worst.position is None else (worst.position, worst.position + 1)
    while last - first > 1:
        middle, errors = (first + last) // 2, []
        for a, b in ((first, middle), (middle, last)):
            part = np.zeros_like(v)
            part[a:b] = v[a:b]
            errors.append(off(part))
        first, last = (first, middle) if errors[0] >= errors[1] else (middle, last)
    around = np.arange(max(0, first - 12), min(entries.size, first + 13))
    width = operation.shape(key)[-1]
    across = first + width * np.arange(-6, 7)
    spots = np.unique(
        np.concatenate([around, across[(across >= 0) & (across < entries.size)], rng.integers(0, entries.size, 24)])
    )
    spots = np.setdiff1d(spots, known)
    scale = scale_of(entries)
    slopes = [
        slope(entry_sampler(operation, key, i, crosses), cotangents, FIRST_STEP / 4 * max(abs(entries[i]), scale)) for i in spots
    ]
    good = [j for j, s in enumerate(slopes) if np.isfinite(s.error[k])]
    pick = np.array([(slopes[j].value[k], slopes[j].error[k], slopes[j].step) for j in good]).reshape(-1, 3)
    return spots[good], pick[:, 0], pick[:, 1], pick[:, 2]


def rough_in_words(operation: Operation) -> str:
    """That the forward is rougher than promised, as it is when something in it is cast to float32; or nothing."""
    if operation.grain < max(1e-9, 1e2 * operation.eps):
        return ""
    dtype = "float32" if operation.grain < 3e-6 else "float16"
    return (
        f"the forward is rough, at {operation.grain:.0e} of its values, as {dtype} is: something in it is cast to {dtype}, or "
        f"large numbers cancel"
    )


@dataclass
class _Case:
    """One wrong gradient and the questions asked about it, in order; the first that is answered gives the cause."""

    operation: Operation
    key: str
    cotangents: list
    k: int  # the output
    g: np.ndarray  # (n,)
    positions: np.ndarray  # (S,)
    ours: np.ndarray  # (S,)
    numbers: np.ndarray  # (S,)
    noise: np.ndarray  # (S,)
    at: int  # the worst of the measured entries
    small_entry: bool  # only the rule for single entries objects
    along_only: bool  # the worst disagreement is along a direction

    def __post_init__(self):
        off, larger = np.abs(self.ours - self.numbers), np.maximum(np.abs(self.ours), np.abs(self.numbers))
        self.size = max(norm(self.ours), norm(self.numbers))
        self.wrong = off > CLOSE * larger + 30 * self.noise
        if not self.small_entry:
            self.wrong &= off > 1e-13 * self.size
        self.shape = self.operation.shape(self.key)

    def cause(self) -> tuple[str, str, float | None]:
        for question in (
            self.rounding,
            self.zero,
            self.kink,
            self.cotangent_ignored,
            self.proportional,
            self.transposed,
            self.shifted,
            self.overwritten,
            self.mask,
            self.local_factor,
            self.some_proportional,
            self.by_row,
        ):
            answer = question()
            if answer is not None:
                return answer if len(answer) == 3 else (*answer, None)
        return self.leftover()

    def same(self, candidate) -> bool:
        """Whether a candidate (S,) explains the numbers."""
        return bool(norm(candidate - self.numbers) <= CLOSE * norm(self.numbers) + 30 * norm(self.noise))

    def rough(self) -> str:
        """In words, that the forward is rougher than float64, if it is."""
        return rough_in_words(self.operation)

    def rounding(self):
        if self.small_entry:
            return None
        off = np.abs(self.ours - self.numbers)
        share = norm(off) / self.size
        if self.rough() and (share < 1e-2 or np.all(off <= 30 * self.noise)):
            return "rounding", f"{self.rough()}: no difference of it can confirm more than is measured here (off by {share:.1e})"
        if 3e-9 < share < 3e-7 and np.all(off <= 2e-7 * np.abs(self.numbers) + 1e-8 * self.size):
            return "rounding", (
                f"right to seven digits only (off by {share:.1e}), which is the rounding of float32: is something "
                f"cast to float32 on the way?"
            )
        if self.along_only and norm(off) <= 1e-8 * self.size:
            return "kink", (
                "every measured entry agrees, but directions do not: kinks on the way (give active_set=...), or a "
                "wrong entry elsewhere"
            )
        if np.all(off <= 30 * self.noise) or norm(off) <= 1e-10 * self.size:
            return "rounding", (
                f"the difference ({norm(off) / self.size:.1e} of the gradient) is of the size of rounding; the forward loses "
                "digits here (large values that cancel?), or the backward does"
            )
        return None

    def zero(self):
        if not np.any(self.g):
            if not np.any(self.numbers):
                return None
            return (
                "zero gradient",
                "the backward gives zero, but the forward does depend on it: not written yet, or a path is cut",
            )
        return None

    def kink(self):
        if self.operation.grain > 1e-12:  # stairs are no kinks
            return None
        i = int(self.positions[self.at])
        entries, scale = self.operation.entries(self.key), scale_of(self.operation.entries(self.key))
        jumps = []
        for h in (1e-4 * scale, 1e-6 * scale):
            points = [entries.copy() for _ in range(2)]
            points[0][i] += h
            points[1][i] -= h
            values = [self.operation.try_values(**{self.key: p}) for p in points] + [self.operation.values()]
            if any(v is None for v in values):
                return None
            plus, minus, here = (float(np.dot(self.cotangents[self.k], v[self.k])) for v in values)
            jumps.append((abs(plus - 2 * here + minus) / h, (plus - here) / h, (here - minus) / h))
        (large, _, _), (small, right, left) = jumps
        if small > 0.5 * large and small > 1e-3 * max(abs(right), abs(left)) and small > 1e-6 * self.size:
            return "kink", (
                f"the forward has a kink here: to the right it rises by {right:.6g}, to the left by {left:.6g}. "
                "Move the point, or give active_set=... so that crossing entries are left out"
            )
        gap = abs(float(self.ours[self.at] - self.numbers[self.at]))
        if abs((right + left) / 2 - self.ours[self.at]) <= 1e-3 * gap and gap > 30 * self.noise[self.at]:
            return "kink", (
                "at a tiny step the difference agrees with the backward, at larger ones it does not: a kink nearby (give "
                "active_set=...), or a forward that varies too fast"
            )
        return None

    def cotangent_ignored(self):
        others = self.operation.cotangents(stream(99, "other", self.key))
        if not np.any(self.wrong):
            return None
        try:
            again = self.operation.gradients(self.operation.alone(others, self.k))[self.key]
        except Exception:
            return None
        if np.array_equal(again, self.g):
            return "cotangent ignored", "the backward gives the same gradient for any cotangent: it does not use it"
        return None

    def proportional(self):
        n2 = float(self.numbers @ self.numbers)
        if n2 == 0:
            return None
        factor = float(self.ours @ self.numbers) / n2
        if factor == 0 or norm(self.ours - factor * self.numbers) > max(CLOSE, 1e-3 * min(1, abs(factor - 1))) * norm(self.ours):
            return None
        if abs(factor + 1) < 1e-6:
            return "wrong sign", "the sign is wrong: the gradient is minus the numerical one", -1.0
        if abs(factor - 1) < 1e-9:
            return None
        return (
            "missing factor",
            f"a factor is missing or wrong: the gradient is {factor:.6g} times the numerical one{self.guess(factor)}",
            factor,
        )

    def guess(self, factor: float) -> str:
        """What a factor might be: a length, a simple fraction, the value of a scalar argument."""
        lengths = {}
        for name, value in [
            *self.operation.leaves.items(),
            ("the output", self.operation.templates[self.operation.outputs[self.k]]),
        ]:
            for axis, length in enumerate(np.shape(value)):
                if length > 2:
                    lengths.setdefault(length, f"the length of axis {axis} of {name}")
            if np.size(value) > 2:
                lengths.setdefault(int(np.size(value)), f"the number of entries of {name}")
            if np.ndim(value) == 0 and isinstance(value, float | int) and not isinstance(value, bool):
                for power, text in ((1, ""), (-1, "1 / ")):
                    if value and abs(factor / float(value) ** power - 1) < CLOSE:
                        return f", which is {text}{name}"
        for length, text in lengths.items():
            if abs(factor / length - 1) < CLOSE:
                return f": {text}; is a mean taken in the forward and forgotten here?"
            if abs(factor * length - 1) < CLOSE:
                return f" = 1/{length}, with {length} {text}; is a mean too many in it?"
        if factor < 0:
            return f" (and the sign is wrong){self.guess(-factor)}"
        for text, value in (("2", 2.0), ("1/2", 0.5), ("3", 3.0), ("1/3", 1 / 3), ("4", 4.0), ("1/4", 0.25)):
            if abs(factor / value - 1) < CLOSE:
                return f", that is {text}"
        return ""

    def transposed(self):
        if len(self.shape) == 2 and self.shape[0] == self.shape[1]:
            if self.same(self.g.reshape(self.shape).T.ravel()[self.positions]):
                return "missing transpose", "the gradient is the transpose of the right one"
        c = self.cotangents[self.k]
        if c.size != self.g.size:
            return None
        entries = self.operation.entries(self.key)
        h = 1e-4 * scale_of(entries)
        ends = [self.operation.try_values(**{self.key: entries + sign * h * c}) for sign in (1, -1)]
        if any(e is None for e in ends):
            return None
        forwards = (ends[0][self.k] - ends[1][self.k]) / (2 * h)  # J c where J^T c is wanted
        if norm(forwards - self.g) <= 1e-4 * norm(self.g):
            return (
                "missing transpose",
                "a transpose is missing: the backward applies the derivative itself where its transpose is wanted",
            )
        return None

    def shifted(self):
        array = self.g.reshape(self.shape)
        for axis, length in enumerate(self.shape):
            for by in (1, -1):
                if length > 1 and self.same(np.roll(array, by, axis).ravel()[self.positions]):
                    return (
                        "off by one",
                        f"the gradient is the right one shifted by one along axis {axis}: an index is off by one",
                    )
        return None

    def overwritten(self):
        if is_sparse(self.operation.leaves[self.key]) or not self.shape or not self.wrong.any() or self.wrong.all():
            return None
        for name, value in self.operation.leaves.items():
            if not (isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.size):
                continue
            values, counts = np.unique(value, return_counts=True)
            repeated = values[counts > 1]
            for axis, length in enumerate(self.shape):
                if not repeated.size or values.min() < -length or values.max() >= length:
                    continue
                rows = np.unravel_index(self.positions, self.shape)[axis]
                among = np.isin(rows, repeated % length)
                if not np.any(self.wrong & ~among) and np.any(self.wrong):
                    return "overwritten", (
                        f"wrong exactly where {name} repeats an index: the contributions overwrite one another instead of being "
                        f"added (use np.add.at, not grad[{name}] += ...)"
                    )
        return None

    def mask(self):
        if not self.wrong.any():
            return None
        quiet = np.abs(self.numbers) <= (0 if self.small_entry else 1e-9 * self.size) + 30 * self.noise
        quiet &= np.abs(self.numbers) <= 1e-3 * np.abs(self.ours)
        count = f"{int(self.wrong.sum())} of {self.wrong.size} measured entries"
        if np.all(quiet[self.wrong]) and not np.all(self.wrong):
            return "missing mask", f"a mask is missing: {count} have a gradient where the forward does not move"
        if np.all(self.ours[self.wrong] == 0) and not np.all(self.wrong):
            return "gradient cut", (
                f"{count} are zero where the forward does move: a mask that is too wide, an entry that is skipped, or "
                "contributions that are overwritten"
            )
        return None

    def local_factor(self):
        """Whether the ratio is an elementwise function of the output or of an argument of the same shape."""
        candidates = {}
        arrays = {
            name: np.ravel(value) for name, value in self.operation.leaves.items() if np.shape(value) == self.shape and self.shape
        }
        output = self.operation.values()[self.k]
        if output.size == self.g.size:
            arrays["output"] = output
            arrays["cotangent"] = self.cotangents[self.k]
        if is_sparse(self.operation.leaves[self.key]):
            return None
        with np.errstate(all="ignore"):
            for name, a in arrays.items():
                a = np.asarray(a, float)[self.positions]
                candidates |= {
                    name: a,
                    f"{name}**2": a * a,
                    f"2*{name}": 2 * a,
                    f"(1 - {name})": 1 - a,
                    f"(1 - {name}**2)": 1 - a * a,
                    f"{name}*(1 - {name})": a * (1 - a),
                    f"exp({name})": np.exp(a),
                    f"sign({name})": np.sign(a),
                    f"sigmoid({name})": 1 / (1 + np.exp(-a)),
                    f"(1 - tanh({name})**2)": 1 - np.tanh(a) ** 2,
                    f"cos({name})": np.cos(a),
                }
            for name, factor in candidates.items():
                if self.same(self.ours * factor):
                    return "missing factor", f"the local factor {name} is missing"
                if self.same(self.ours / factor) and np.all(factor):
                    return "missing factor", f"the local factor {name} is there once too often"
        return None

    def some_proportional(self):
        """Whether the wrong entries, some of all, share one factor."""
        if self.wrong.sum() < 2 or self.wrong.all():
            return None
        ours, numbers = self.ours[self.wrong], self.numbers[self.wrong]
        factor = float(ours @ numbers) / max(float(numbers @ numbers), 1e-300)
        if factor == 0 or norm(ours - factor * numbers) > CLOSE * norm(ours):
            return None
        where = f"at {self.names()}: {int(self.wrong.sum())} of {self.wrong.size} measured entries"
        if abs(factor + 1) < CLOSE:
            return "wrong sign", f"the sign is wrong {where}", -1.0
        return "missing factor", f"the gradient is {factor:.6g} times the numerical one {where}", factor

    def names(self) -> str:
        shown = [self.operation.entry(self.key, int(i)) for i in self.positions[self.wrong][:4]]
        return ", ".join(shown) + (", ..." if self.wrong.sum() > 4 else "")

    def by_row(self):
        """Whether only some rows or columns are wrong, or each row has a factor of its own."""
        if len(self.shape) < 1 or not self.wrong.any():
            return None
        where = np.unravel_index(self.positions, self.shape)
        if len(self.shape) > 1:
            for axis, name in ((0, "row"), (1, "column")) if len(self.shape) == 2 else enumerate(["slice"] * len(self.shape)):
                ratios, sound = [], True
                for index in np.unique(where[axis]):
                    mine = where[axis] == index
                    n2 = self.numbers[mine] @ self.numbers[mine]
                    ratio = self.ours[mine] @ self.numbers[mine] / n2 if n2 else 0.0
                    sound &= mine.sum() > 1 and norm(self.ours[mine] - ratio * self.numbers[mine]) <= CLOSE * norm(
                        self.ours[mine]
                    )
                    ratios.append(ratio)
                if sound and len(ratios) > 1 and np.ptp(ratios) > CLOSE:
                    return "missing factor", (
                        f"each {name} is off by a factor of its own (axis {axis}: "
                        f"{', '.join(f'{r:.4g}' for r in ratios[:4])}"
                        f"{', ...' if len(ratios) > 4 else ''}): a weight per {name} is missing or wrong"
                    )
        if self.wrong.sum() <= 0.5 * self.wrong.size:
            return "some entries", (
                f"only {int(self.wrong.sum())} of {self.wrong.size} measured entries are wrong: {self.names()} (a border case, "
                "an index, a branch, or contributions overwritten instead of accumulated?)"
            )
        return None

    def leftover(self):
        cosine = float(self.ours @ self.numbers / max(norm(self.ours) * norm(self.numbers), 1e-300))
        if cosine > 0.3:
            return (
                "missing term",
                (
                    f"roughly the right direction (cosine {cosine:.3f}), but not proportional: a term is missing or "
                    f"wrong (product rule, a "
                    "second path from the argument to the output, contributions overwritten instead of accumulated?)"
                ),
                None,
            )
        return "unknown", f"no simple relation to the numerical gradient (cosine {cosine:.3f})", None
