"""The contract: everything about a backward that is not its numbers.

Each item has a name, which is the name of its verdict after ``contract.``:

``inputs_kept``, ``cotangents_kept``  neither forward nor backward modifies what it is given
``same_bits``       two calls give the same bits
``stale_state``     a call at another point in between changes nothing
``result_kept``     a gradient once returned is not changed by a later call
``dtype``           float64 in, float64 out; float32 in, float32 out, with the values that float64 gives
``zero_cotangent``  a zero cotangent gives exactly zero
``linear``          the gradient is linear in the cotangent, large or small, also across several outputs
``layout``          Fortran order, strided and reversed inputs give the same result
``value_kept``      the forward's value has the same bits after all checks as before

Broken before any of these: ``returns``, ``raises``, ``signature``, ``shape``, ``finite``, ``sparse_entries``,
``forward``; and ``unchecked``, where a gradient came back for something that is not differentiated, or nothing is.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from .check_settings import CheckSettings
from .directions import stream
from .operation import EPS, Leaf, Operation
from .report import FAILED, PASSED, Verdict
from .trouble import Trouble
from .values import cast, describe, map_leaves, norm, private_copy, snapshot

KEPT, SAME = ("inputs_kept", "cotangents_kept"), ("same_bits", "stale_state", "result_kept")
ITEMS = (*KEPT, *SAME, "dtype", "zero_cotangent", "linear", "layout", "value_kept")

#: A cotangent this many times as large must give a gradient that many times as large: small, large and of the other sign.
SCALES = (-(2.0**-23), 2.0**23)

EPS32 = float(np.finfo(np.float32).eps)


class Contract:
    """The contract of one operation at its point; each item is a method that raises Trouble where it is not kept.

    With ``dtypes=('float64', 'float32')`` both are demanded. With None, float32 is looked at only where the forward itself
    keeps it.
    """

    def __init__(self, operation: Operation, settings: CheckSettings, seed: int, dtypes=None):
        self.operation, self.settings, self.dtypes = operation, settings, dtypes
        self.rng = stream(seed, "contract")
        self.cotangents, self.others = operation.cotangents(self.rng), operation.cotangents(self.rng)
        self.notes: list[str] = []
        self.value_before = snapshot(operation.raw_forward(operation.changed({})))

    def first_call(self) -> list[Verdict]:
        """Call backward once: Trouble when there are no gradients worth looking at, a failure for each that nothing checks."""
        operation, failures = self.operation, []
        result = self._backward()
        operation.collect(result)
        returned = operation.returned(result)
        for key, gradient in returned.items():
            if gradient is None or key in operation.floats or key not in operation.leaves:
                continue
            reason = (
                f"a gradient of {key} came back ({describe(gradient)}), but {key} is {describe(operation.leaves[key])}: it is "
                f"not differentiated, so nothing checks that gradient. Give {key} as a float array, or return None for it"
            )
            failures.append(Verdict("contract.unchecked", key, FAILED, reason=reason))
        others = [key for key in returned if key not in operation.leaves]
        if others:
            self.notes.append(f"backward also returns {', '.join(map(str, others))}, which no argument is called: not checked")
        return failures

    def verdict(self, item: str) -> Verdict:
        """The verdict on one of :data:`ITEMS`."""
        try:
            getattr(self, item)()
        except Trouble as trouble:
            return Verdict(f"contract.{item}", trouble.argument, FAILED, reason=str(trouble))
        return Verdict(f"contract.{item}", None, PASSED, reason="kept")

    def _backward(self, arguments=None, cotangents=None):
        """What backward returns at the point, or for these very arguments."""
        packed = self.operation.pack(cotangents or self.cotangents)
        return self.operation.raw_backward(packed, self.operation.changed({}) if arguments is None else arguments)

    @cached_property
    def gradients(self) -> dict[str, np.ndarray]:
        """The gradients at the point."""
        return self.operation.gradients(self.cotangents)

    @cached_property
    def noise(self) -> dict[str | None, float]:
        """What changing every last bit of arguments and cotangents does to a gradient (None: to the outputs), measured."""
        operation, start = self.operation, self.gradients
        noise = {None: 0.0} | {k: Leaf(operation, k).resolution(self.cotangents, g) for k, g in start.items()}
        for _ in range(3):
            try:
                changes = {k: self._nearby(operation.entries(k), operation.eps) for k in operation.wrt}
                moved = operation.gradients([self._nearby(c, operation.eps) for c in self.cotangents], **changes)
                values = operation.values(**changes)
            except Trouble:
                continue
            pairs = [(None, a, b) for a, b in zip(operation.here, values, strict=True)] + [(k, start[k], moved[k]) for k in start]
            for k, a, b in pairs:
                noise[k] = max(noise[k], norm(a - b) / max(norm(a), 1e-300))
        return noise

    def _nearby(self, v: np.ndarray, eps: float) -> np.ndarray:
        """A vector in which the last bit of every entry has changed."""
        return v * (1 + eps * self.rng.choice([-1.0, 1.0], v.size))

    def _differs(self, key: str | None, gap: float, size: float) -> bool:
        """Whether a gap is more than the tolerance, and more than rounding, allow."""
        return gap > self.settings.linearity * size and gap > min(30 * self.noise[key], 1e-6) * size

    # ---- what is handed in stays as it is -----------------------------------------------------------------------
    def inputs_kept(self):
        arguments = self.operation.changed({})
        before = {key: snapshot(value) for key, value in arguments.items()}
        for who, call in (("forward", self.operation.raw_forward), ("backward", self._backward)):
            call(arguments)
            for key, value in arguments.items():
                if snapshot(value) != before[key]:
                    raise Trouble(
                        f"{who} modifies its argument {key} in place (an augmented assignment such as {key} *= ..., an "
                        f"assignment to {key}[...], or out={key}?); work on a copy",
                        argument=key,
                    )

    def cotangents_kept(self):
        packed = self.operation.pack(self.cotangents)
        before = snapshot(packed)
        self.operation.raw_backward(packed, self.operation.changed({}))
        if snapshot(packed) != before:
            raise Trouble(
                "backward modifies the cotangent it is given (grad_output *= ..., grad_output[mask] = 0?); work on a copy"
            )

    # ---- the same call gives the same result ---------------------------------------------------------------------
    def same_bits(self):
        arguments, why = self.operation.changed({}), ": random numbers, or state that a call leaves behind?"
        first = snapshot(self.operation.raw_forward(arguments))
        if snapshot(self.operation.raw_forward(arguments)) != first:
            raise Trouble(f"two calls of forward give different values{why}")
        results = [private_copy(self._backward(arguments)) for _ in range(3)]
        if snapshot(results[0]) != snapshot(results[1]):
            one, two, three = (self.operation.collect(result) for result in results)
            if all(np.allclose(two[key] - one[key], three[key] - two[key], rtol=1e-6, atol=0) for key in one):
                why = ": each call adds the same to it, so something is added up and never reset"
            raise Trouble(f"two calls of backward give different gradients{why}")

    def stale_state(self):
        operation = self.operation
        arguments = operation.changed({})
        operation.raw_forward(arguments)
        fresh = snapshot(self._backward(arguments))
        moved = {}
        for key in operation.wrt:
            entries = operation.entries(key)
            moved[key] = entries * (1 + 2.0**-8 * self.rng.uniform(0.5, 1.5, entries.size))
        for call in (operation.values, lambda **changes: operation.gradients(self.others, **changes)):
            try:
                call(**moved)
            except Trouble:
                continue  # outside of the domain: nothing was learned
            if snapshot(self._backward(arguments)) != fresh:
                raise Trouble(
                    "the gradient depends on the calls made before: backward uses what an earlier call at another point left "
                    "behind"
                )

    def result_kept(self):
        arguments = self.operation.changed({})
        result = self._backward(arguments)
        before = snapshot(result)
        self._backward(arguments, self.others)
        if snapshot(result) != before:
            raise Trouble("a gradient that was returned is changed by the next call: both share a buffer; return a new array")

    def value_kept(self):
        if snapshot(self.operation.raw_forward(self.operation.changed({}))) != self.value_before:
            raise Trouble("the forward's value is not the same after the checks as before them: calls leave something behind")

    # ---- dtypes ---------------------------------------------------------------------------------------------------
    def dtype(self):
        operation, strict = self.operation, self.dtypes is not None
        if operation.eps <= EPS:  # float64 is promised
            for k in operation.outputs:
                found = getattr(operation.templates[k], "dtype", np.dtype(np.float64))
                if np.finfo(found).eps > EPS:
                    raise Trouble(
                        f"float64 in, {found} out of the forward: is something cast to {found} inside? (dtypes=('{found}',) "
                        "if that is meant)"
                    )
            self._gradient_dtypes(np.float64)
        if strict and "float32" not in self.dtypes:
            return
        try:
            parts = operation.split(operation.raw_forward(self._in(np.float32)))
        except Trouble as trouble:
            if strict:
                raise
            self.notes.append(f"float32 is not checked: {str(trouble).splitlines()[0]}")
            return
        for k in operation.outputs:
            if hasattr(parts[k], "dtype") and parts[k].dtype != np.float32:
                text = f"float32 in, {parts[k].dtype} out of the forward"
                if strict:
                    raise Trouble(text)
                self.notes.append(f"float32 is not checked: {text}")
                return
        self._gradient_dtypes(np.float32)
        self._float32_values(strict)

    def _in(self, dtype, at: dict | None = None) -> dict:
        """The arguments, or those at another point, in one precision."""
        return {key: cast(value, dtype) for key, value in self.operation.changed(at or {}).items()}

    def _gradient_dtypes(self, dtype):
        operation = self.operation
        named = operation.named(operation.raw_backward(operation.pack(self.cotangents, dtype), self._in(dtype)))
        for key in operation.wrt:
            leaf, found = operation.leaves[key], getattr(named[key], "dtype", None)
            if not hasattr(leaf, "dtype") or (found is None and np.ndim(leaf) == 0):
                continue  # Python floats have no dtype
            if found != dtype:
                found = found or type(named[key]).__name__
                raise Trouble(f"the gradient of {key} is {found}, {key} itself is {np.dtype(dtype)}", argument=key)

    def _float32_values(self, strict: bool):
        """Hold what float32 computes to float64 at the same point. A branch may flip: then other points decide."""
        operation = self.operation
        for attempt in range(3):
            at = {}
            for key in operation.floats:
                v = operation.entries(key)
                shift = self.rng.uniform(-1, 1, v.size) * 2.0**-8 if attempt else 0.0
                at[key] = (v * (1 + shift)).astype(np.float32).astype(np.float64)
            cotangents = [c.astype(np.float32).astype(np.float64) for c in self.cotangents]
            try:
                right = self._all(cotangents, at, np.float64)
                found = self._all(cotangents, at, np.float32)
            except Trouble as trouble:
                if attempt:
                    continue
                if strict:
                    raise Trouble(f"in float32, {trouble}", argument=trouble.argument) from None
                self.notes.append(f"float32 values are not checked: {str(trouble).splitlines()[0]}")
                return
            gaps = _gaps(right, found)
            allowed = self.settings.float32 * EPS32
            if max(gaps.values()) > allowed:
                # What other roundings of the arguments and cotangents change is no fault: terms of a sum may cancel.
                nearby = {key: self._nearby(v, EPS32) for key, v in at.items()}
                others = [self._nearby(c, EPS32) for c in cotangents]
                try:
                    allowed = max(allowed, min(30 * max(_gaps(right, self._all(others, nearby, np.float64)).values()), 0.05))
                except Trouble:
                    pass
            if not strict:  # nobody asked for float32: only what is plainly wrong, although the values are right
                sizes = np.abs(np.concatenate([*right.values(), *at.values()]))
                tame = np.all((sizes == 0) | ((sizes > 1e-15) & (sizes < 1e15)))
                value_gap = max(gap for what, gap in gaps.items() if not isinstance(what, str))
                if value_gap > 1e-4 or not tame:
                    return
                allowed = max(allowed, 1e-2)
            worst = max(gaps, key=gaps.get)
            if gaps[worst] <= allowed:
                return
        argument = worst if isinstance(worst, str) else None
        what = "the forward's value" if argument is None else f"the gradient of {argument}"
        raise Trouble(
            f"in float32 {what} is off by {gaps[worst]:.1e} of its norm, allowed {allowed:.1e}: something is wrong, or loses "
            "digits, in float32 only",
            argument=argument,
        )

    def _all(self, cotangents, at: dict, dtype) -> dict:
        """Outputs, by position in a tuple, and gradients, by name, as computed in one precision."""
        operation = self.operation
        values = operation.vectors(operation.raw_forward(self._in(dtype, at)))
        if not all(np.all(np.isfinite(v)) for v in values):
            raise Trouble("forward returns NaN or infinity")
        gradients = operation.collect(operation.raw_backward(operation.pack(cotangents, dtype), self._in(dtype, at)))
        return {(k,): v for k, v in enumerate(values)} | gradients

    # ---- linearity in the cotangent ------------------------------------------------------------------------------
    def zero_cotangent(self):
        for key, g in self.operation.gradients([np.zeros_like(c) for c in self.cotangents]).items():
            if np.any(g != 0):
                i = int(np.argmax(np.abs(g)))
                where = Leaf(self.operation, key).name(i)
                loss = "; a loss whose backward takes no cotangent is wrapped with from_loss" if self.operation.is_loss() else ""
                raise Trouble(
                    f"a zero cotangent gives the gradient {g[i]:.6g} at {where}, not 0: is the cotangent "
                    f"left out in a term, or a buffer never reset{loss}?",
                    argument=key,
                )

    def linear(self):
        operation, one, two = self.operation, self.gradients, self.operation.gradients(self.others)
        mixed = operation.gradients([1.75 * a + b for a, b in zip(self.cotangents, self.others, strict=True)])
        for key in operation.wrt:
            size, gap = 1.75 * norm(one[key]) + norm(two[key]), norm(mixed[key] - 1.75 * one[key] - two[key])
            if self._differs(key, gap, size):
                raise Trouble(
                    f"the gradient of {key} is not linear in the cotangent (off by {gap / size:.1e}): a cotangent that is "
                    "ignored, squared, clipped, or compared with something?",
                    argument=key,
                )
        for scale in SCALES:
            if not all(1e-290 < norm(one[key]) * abs(scale) < 1e290 or not one[key].any() for key in operation.wrt):
                continue
            try:
                scaled = operation.gradients([scale * c for c in self.cotangents])
            except Trouble as trouble:
                raise Trouble(f"with cotangents {scale:.0e} times as large, {trouble}", argument=trouble.argument) from None
            for key in operation.wrt:
                size, gap = norm(one[key]), norm(scaled[key] / scale - one[key])
                if self._differs(key, gap, size):
                    raise Trouble(
                        f"the gradient of {key} is not linear in the cotangent: one {scale:.0e} times as large does not give "
                        f"{scale:.0e} times the gradient (off by {gap / max(size, 1e-300):.1e}): is the cotangent clipped, "
                        "dropped where it is small, or is its sign lost?",
                        argument=key,
                    )
        self._small_beside_large()
        if len(self.cotangents) > 1:
            self._sum_of_outputs()

    def _small_beside_large(self):
        """Half of the cotangent's entries made tiny: what they give must not be dropped beside the others."""
        operation, one, tiny = self.operation, self.gradients, abs(SCALES[0])
        large = [self.rng.permutation(c.size) % 2 == 0 for c in self.cotangents]
        only, both = (
            operation.gradients([np.where(keep, c, factor * c) for keep, c in zip(large, self.cotangents, strict=True)])
            for factor in (0.0, tiny)
        )
        for key in operation.wrt:
            small = tiny * (one[key] - only[key])
            gap = norm(both[key] - only[key] - small)
            if gap > 0.01 * norm(small) and self._differs(key, gap, norm(one[key])):
                what = f"the gradient of {key} is not linear in the cotangent: small entries are lost beside large"
                raise Trouble(what, argument=key)

    def _sum_of_outputs(self):
        operation, joint = self.operation, self.gradients
        alone = [operation.gradients(operation.alone(self.cotangents, k)) for k in range(len(self.cotangents))]
        for key in operation.wrt:
            total, size = sum(a[key] for a in alone), sum(norm(a[key]) for a in alone)
            if self._differs(key, norm(joint[key] - total), size):
                pairs = zip(operation.outputs, alone, strict=True)
                only = [k for k, a in pairs if np.allclose(joint[key], a[key], rtol=1e-9, atol=0)]
                more = f": only output {only[0]} counts, so the others are overwritten instead of accumulated" if only else ""
                what = f"the gradient of {key} through all outputs is not the sum of those through each{more}"
                raise Trouble(what, argument=key)

    # ---- memory layout -------------------------------------------------------------------------------------------
    def layout(self):
        operation = self.operation
        for name, change in LAYOUTS.items():

            def laid_out(_, leaf, change=change):
                plain = type(leaf) is np.ndarray and leaf.ndim and leaf.dtype.kind in "fiub"
                return change(leaf) if plain else leaf

            arguments = {key: map_leaves(laid_out, value) for key, value in operation.changed({}).items()}
            packed = map_leaves(laid_out, operation.pack(self.cotangents), numbers=True)
            try:
                values = operation.vectors(operation.raw_forward(arguments))
                gradients = operation.collect(operation.raw_backward(packed, arguments))
            except Trouble as trouble:
                raise Trouble(f"with inputs in {name}, {trouble}") from None
            for a, b in zip(operation.here, values, strict=True):
                if a.shape != b.shape or self._differs(None, norm(a - b), norm(a)):
                    raise Trouble(f"with inputs in {name} the forward gives another value")
            for key, g in self.gradients.items():
                if self._differs(key, norm(g - gradients[key]), norm(g)):
                    raise Trouble(f"with inputs in {name} the gradient of {key} is another one", argument=key)


def _gaps(right: dict, found: dict) -> dict:
    """How far each vector is from the right one, relative to the norm of that."""
    return {key: norm(found[key] - v) / norm(v) if np.any(v) else 0.0 for key, v in right.items()}


def _reversed(a):
    flip = tuple(slice(None, None, -1) for _ in range(a.ndim))
    return a[flip].copy()[flip]


def _strided(a):
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "reversed order": _reversed,
    "strided memory (every second element)": _strided,
}
