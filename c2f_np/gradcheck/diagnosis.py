"""From two gradients that disagree to the likely cause.

The hand-written gradient g is compared with the numerical one, n, at as many entries as were measured: are they
proportional, transposed, shifted, equal but for some entries, and which? Nothing here decides whether a gradient is
right; that has been decided before.

Shapes: n entries of the argument; S measured positions; ``ours`` and ``numbers`` (S,).
"""

from __future__ import annotations

import numpy as np

from .directions import balanced_direction, even_direction, stream
from .evidence import Comparison, Evidence
from .operation import Leaf, Operation
from .report import Finding
from .slopes import COMPLEX_STEP, FIRST_STEP, NotApplicable, complex_slope, entry_sampler, line_sampler, slope
from .values import is_sparse, norm

CLOSE = 1e-5


def diagnose(leaf: Leaf, cotangents, gradients, evidence: Evidence, worst: Comparison, kinks, seed: int) -> Finding:
    """The likely cause of wrong gradients G (K, n), whose worst disagreement with the evidence, central differences, is given."""
    key, outputs, g, k = leaf.key, leaf.operation.outputs, gradients[worst.output], worst.output
    found = (evidence.positions, evidence.entries.value[:, k], evidence.entries.error[:, k], evidence.entries.step)
    if evidence.positions.size < g.size:
        more = _look_closer(leaf, cotangents, gradients, kinks, evidence.positions, worst, seed)
        found = tuple(np.concatenate(pair) for pair in zip(found, more, strict=True))
    positions, numbers, noise, steps = found
    if not positions.size:
        return Finding(key, "unknown", "the gradient is wrong, but no single entry could be measured to say where")
    ours = g[positions]
    off = np.abs(ours - numbers)
    if worst.small_entry:  # the largest share, not the largest difference
        off = np.where(off > 30 * noise, off / np.maximum(np.maximum(np.abs(ours), np.abs(numbers)), 1e-300), -1)
    at = int(np.argmax(off))
    size = max(norm(ours), norm(numbers))
    unit = 1.0 if 1e-100 < size < 1e100 or not size else size  # so that squares stay finite
    case = _Case(leaf, [c / unit for c in cotangents], worst, g / unit, positions, numbers / unit, noise / unit, at)
    cause, explanation, factor = case.cause()
    if cause != "rounding" and case.rough:
        explanation += f"; besides, {case.rough}"
    index, output = int(positions[at]), outputs[k] if len(outputs) > 1 else None
    values = float(ours[at]), float(numbers[at]), float(steps[at])
    return Finding(key, cause, explanation, leaf.name(index), index, output, *values, factor)


def _look_closer(leaf, cotangents, gradients, kinks, known, worst, seed):
    """Find a wrong entry of a large argument by halving a direction, then measure it and its surroundings."""
    entries, k, crosses, rng = leaf.entries, worst.output, kinks.crosses, stream(seed, "locate", leaf.key)
    g = gradients[k]
    v = balanced_direction(rng, leaf, gradients) if worst.small_entry else even_direction(rng, leaf)

    def off(first, last):
        part = np.zeros_like(v)
        part[first:last] = v[first:last]
        try:
            return abs(complex_slope(leaf, part, COMPLEX_STEP, cotangents).value[k] - part @ g)
        except NotApplicable:
            found = slope(line_sampler(leaf, part, crosses), cotangents, FIRST_STEP / 4)
            return abs(found.value[k] - part @ g) - 10 * min(found.error[k], 1e300)

    first, last = (0, entries.size) if worst.position is None else (worst.position, worst.position + 1)
    while last - first > 1:
        middle = (first + last) // 2
        first, last = (first, middle) if off(first, middle) >= off(middle, last) else (middle, last)
    around = np.arange(max(0, first - 12), min(entries.size, first + 13))
    across = first + leaf.shape[-1] * np.arange(-6, 7)
    across = across[(across >= 0) & (across < entries.size)]
    spots = np.setdiff1d(np.concatenate([around, across, rng.integers(0, entries.size, 24)]), known)
    steps = FIRST_STEP / 4 * np.maximum(np.abs(entries), leaf.scale)
    slopes = [slope(entry_sampler(leaf, i, crosses), cotangents, steps[i]) for i in spots]
    good = [j for j, s in enumerate(slopes) if np.isfinite(s.error[k])]
    pick = np.array([(slopes[j].value[k], slopes[j].error[k], slopes[j].step) for j in good]).reshape(-1, 3)
    return spots[good], *pick.T


def rough_in_words(operation: Operation) -> str:
    """That the forward is rougher than promised, as it is when something in it is cast to float32; or nothing."""
    if operation.grain < max(1e-9, 1e2 * operation.eps):
        return ""
    dtype = "float32" if operation.grain < 3e-6 else "float16"
    return (
        f"the forward is rough, at {operation.grain:.0e} of its values, as {dtype} is: something in it is cast to {dtype}, or "
        "large numbers cancel"
    )


class _Case:
    """One wrong gradient and the questions asked about it, in order; the first that is answered gives the cause.

    An answer is a cause, an explanation and, where there is one, the factor that is wrong.
    """

    def __init__(self, leaf: Leaf, cotangents, worst: Comparison, g, positions, numbers, noise, at: int):
        self.leaf, self.operation, self.cotangents, self.k = leaf, leaf.operation, cotangents, worst.output
        self.g, self.positions, self.ours, self.numbers, self.noise = g, positions, g[positions], numbers, noise
        self.at = at  # the worst of the measured entries
        self.small_entry = worst.small_entry  # only the rule for single entries objects
        self.along_only = worst.position is None and not worst.small_entry  # the worst disagreement is along a direction
        self.shape, self.rough = leaf.shape, rough_in_words(leaf.operation)
        self.size = max(norm(self.ours), norm(numbers))
        self.off = np.abs(self.ours - numbers)
        self.wrong = self.off > CLOSE * np.maximum(np.abs(self.ours), np.abs(numbers)) + 30 * noise
        if not self.small_entry:
            self.wrong &= self.off > 1e-13 * self.size
        self.some = bool(self.wrong.any() and not self.wrong.all())
        self.count = f"{int(self.wrong.sum())} of {self.wrong.size} measured entries"

    def cause(self) -> tuple[str, str, float | None]:
        first = (self.rounding, self.zero, self.kink, self.cotangent_ignored, self.proportional, self.transposed, self.shifted)
        then = (self.overwritten, self.mask, self.local_factor, self.some_proportional, self.by_row, self.some_entries)
        answers = (question() for question in (*first, *then, self.leftover))
        answer = next(answer for answer in answers if answer is not None)
        return answer if len(answer) == 3 else (*answer, None)

    def same(self, candidate) -> bool:
        """Whether a candidate (S,) explains the numbers."""
        return bool(norm(candidate - self.numbers) <= CLOSE * norm(self.numbers) + 30 * norm(self.noise))

    def names(self) -> str:
        shown = [self.leaf.name(i) for i in self.positions[self.wrong][:4]]
        return ", ".join(shown) + (", ..." if self.wrong.sum() > 4 else "")

    def rounding(self):
        if self.small_entry:
            return None
        off, share, within_noise = self.off, norm(self.off) / self.size, np.all(self.off <= 30 * self.noise)
        if self.rough and (share < 1e-2 or within_noise):
            return "rounding", f"{self.rough}: no difference of it can confirm more than is measured here (off by {share:.1e})"
        if 3e-9 < share < 3e-7 and np.all(off <= 2e-7 * np.abs(self.numbers) + 1e-8 * self.size):
            return "rounding", (
                f"right to seven digits only (off by {share:.1e}), which is the rounding of float32: is something cast to "
                "float32 on the way?"
            )
        if self.along_only and norm(off) <= 1e-8 * self.size:
            return "kink", (
                "every measured entry agrees, but directions do not: kinks on the way (give active_set=...), or a wrong entry "
                "elsewhere"
            )
        if within_noise or norm(off) <= 1e-10 * self.size:
            return "rounding", (
                f"the difference ({share:.1e} of the gradient) is of the size of rounding; the forward loses digits here (large "
                "values that cancel?), or the backward does"
            )
        return None

    def zero(self):
        if np.any(self.g) or not np.any(self.numbers):
            return None
        return "zero gradient", "the backward gives zero, but the forward does depend on it: not written yet, or a path is cut"

    def kink(self):
        if self.operation.grain > 1e-12:  # stairs are no kinks
            return None
        here, bends = float(np.dot(self.cotangents[self.k], self.operation.here[self.k])), []
        for h in (1e-4 * self.leaf.scale, 1e-6 * self.leaf.scale):
            ends = self.leaf.either_side(h * (np.arange(self.g.size) == self.positions[self.at]))
            if ends is None:
                return None
            plus, minus = (float(np.dot(self.cotangents[self.k], end[self.k])) for end in ends)
            right, left = (plus - here) / h, (here - minus) / h
            bends.append(abs(plus - 2 * here + minus) / h)
        large, small = bends
        if small > 0.5 * large and small > 1e-3 * max(abs(right), abs(left)) and small > 1e-6 * self.size:
            return "kink", (
                f"the forward has a kink here: to the right it rises by {right:.6g}, to the left by {left:.6g}. Move the point, "
                "or give active_set=... so that crossing entries are left out"
            )
        gap = float(self.off[self.at])
        if abs((right + left) / 2 - self.ours[self.at]) <= 1e-3 * gap and gap > 30 * self.noise[self.at]:
            return "kink", (
                "at a tiny step the difference agrees with the backward, at larger ones it does not: a kink nearby (give "
                "active_set=...), or a forward that varies too fast"
            )
        return None

    def cotangent_ignored(self):
        others = self.operation.cotangents(stream(99, "other", self.leaf.key))
        if not self.wrong.any():
            return None
        try:
            again = self.operation.gradients(self.operation.alone(others, self.k))[self.leaf.key]
        except Exception:
            return None
        if np.array_equal(again, self.g):
            return "cotangent ignored", "the backward gives the same gradient for any cotangent: it does not use it"
        return None

    def proportional(self):
        n2 = float(self.numbers @ self.numbers)
        factor = float(self.ours @ self.numbers) / n2 if n2 else 0.0
        if factor == 0 or norm(self.ours - factor * self.numbers) > max(CLOSE, 1e-3 * min(1, abs(factor - 1))) * norm(self.ours):
            return None
        if abs(factor + 1) < 1e-6:
            return "wrong sign", "the sign is wrong: the gradient is minus the numerical one", -1.0
        if abs(factor - 1) < 1e-9:
            return None
        words = f"a factor is missing or wrong: the gradient is {factor:.6g} times the numerical one{self.guess(factor)}"
        return "missing factor", words, factor

    def guess(self, factor: float) -> str:
        """What a factor might be: a length, a simple fraction, the value of a scalar argument."""
        lengths = {}
        output = self.operation.templates[self.operation.outputs[self.k]]
        for name, value in [*self.operation.leaves.items(), ("the output", output)]:
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
        h = 1e-4 * self.leaf.scale
        ends = self.leaf.either_side(h * c)
        if ends is None:
            return None
        forwards = (ends[0][self.k] - ends[1][self.k]) / (2 * h)  # J c where J^T c is wanted
        if norm(forwards - self.g) <= 1e-4 * norm(self.g):
            words = "a transpose is missing: the backward applies the derivative itself where its transpose is wanted"
            return "missing transpose", words
        return None

    def shifted(self):
        array = self.g.reshape(self.shape)
        for axis, length in enumerate(self.shape):
            if length > 1 and any(self.same(np.roll(array, by, axis).ravel()[self.positions]) for by in (1, -1)):
                words = f"the gradient is the right one shifted by one along axis {axis}: an index is off by one"
                return "off by one", words
        return None

    def overwritten(self):
        if is_sparse(self.leaf.value) or not self.shape or not self.some:
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
                if not np.any(self.wrong & ~np.isin(rows, repeated % length)):
                    return "overwritten", (
                        f"wrong exactly where {name} repeats an index: the contributions overwrite one another instead of being "
                        f"added (use np.add.at, not grad[{name}] += ...)"
                    )
        return None

    def mask(self):
        if not self.some:
            return None
        quiet = np.abs(self.numbers) <= (0 if self.small_entry else 1e-9 * self.size) + 30 * self.noise
        quiet &= np.abs(self.numbers) <= 1e-3 * np.abs(self.ours)
        if np.all(quiet[self.wrong]):
            return "missing mask", f"a mask is missing: {self.count} have a gradient where the forward does not move"
        if np.all(self.ours[self.wrong] == 0):
            return "gradient cut", (
                f"{self.count} are zero where the forward does move: a mask that is too wide, an entry that is skipped, or "
                "contributions that are overwritten"
            )
        return None

    def local_factor(self):
        """Whether the ratio is an elementwise function of the output or of an argument of the same shape."""
        if is_sparse(self.leaf.value):
            return None
        leaves = self.operation.leaves
        arrays = {k: np.ravel(v) for k, v in leaves.items() if isinstance(v, np.ndarray) and v.dtype.kind in "biuf"}
        arrays = {k: a for k, a in arrays.items() if np.shape(leaves[k]) == self.shape and self.shape}
        if self.operation.here[self.k].size == self.g.size:
            arrays |= {"output": self.operation.here[self.k], "cotangent": self.cotangents[self.k]}
        candidates = {}
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
        if self.wrong.sum() < 2 or not self.some:
            return None
        ours, numbers = self.ours[self.wrong], self.numbers[self.wrong]
        factor = float(ours @ numbers) / max(float(numbers @ numbers), 1e-300)
        if factor == 0 or norm(ours - factor * numbers) > CLOSE * norm(ours):
            return None
        where = f"at {self.names()}: {self.count}"
        if abs(factor + 1) < CLOSE:
            return "wrong sign", f"the sign is wrong {where}", -1.0
        return "missing factor", f"the gradient is {factor:.6g} times the numerical one {where}", factor

    def by_row(self):
        """Whether each row, column or slice has a factor of its own."""
        if len(self.shape) < 2 or not self.wrong.any():
            return None
        where = np.unravel_index(self.positions, self.shape)
        for axis, name in enumerate(("row", "column") if len(self.shape) == 2 else ["slice"] * len(self.shape)):
            ratios, sound = [], True
            for index in np.unique(where[axis]):
                ours, numbers = self.ours[where[axis] == index], self.numbers[where[axis] == index]
                n2 = numbers @ numbers
                ratios.append(ours @ numbers / n2 if n2 else 0.0)
                sound &= ours.size > 1 and norm(ours - ratios[-1] * numbers) <= CLOSE * norm(ours)
            if sound and len(ratios) > 1 and np.ptp(ratios) > CLOSE:
                shown = ", ".join(f"{r:.4g}" for r in ratios[:4]) + (", ..." if len(ratios) > 4 else "")
                return "missing factor", (
                    f"each {name} is off by a factor of its own (axis {axis}: {shown}): a weight per {name} is missing or wrong"
                )
        return None

    def some_entries(self):
        if self.shape and self.wrong.any() and self.wrong.sum() <= 0.5 * self.wrong.size:
            return "some entries", (
                f"only {self.count} are wrong: {self.names()} (a border case, an index, a branch, or contributions overwritten "
                "instead of accumulated?)"
            )
        return None

    def leftover(self):
        cosine = float(self.ours @ self.numbers / max(norm(self.ours) * norm(self.numbers), 1e-300))
        if cosine > 0.3:
            return "missing term", (
                f"roughly the right direction (cosine {cosine:.3f}), but not proportional: a term is missing or wrong (product "
                "rule, a second path from the argument to the output, contributions overwritten instead of accumulated?)"
            )
        return "unknown", f"no simple relation to the numerical gradient (cosine {cosine:.3f})"
