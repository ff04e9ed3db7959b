"""The contract: everything about a backward that is not its numbers.

Each item has a name, which is the name of its verdict after ``contract.``:

``inputs_kept``, ``cotangents_kept``  neither forward nor backward modifies what it is given
``same_bits``       two calls give the same bits
``stale_state``     a call at another point in between changes nothing
``result_kept``     a gradient once returned is not changed by a later call
``dtype``           float64 in, float64 out; float32 in, float32 out
``zero_cotangent``  a zero cotangent gives exactly zero
``linear``          the gradient is linear in the cotangent, also across several outputs
``layout``          Fortran order, strided and reversed inputs give the same result
``value_kept``      the forward's value has the same bits after all checks as before

Broken before any of these: ``returns``, ``raises``, ``signature``, ``shape``, ``finite``, ``sparse_entries``,
``forward``.
"""

from __future__ import annotations

import numpy as np

from c2f_np.gradcheck.operation import Operation, Trouble, stream
from c2f_np.gradcheck.report import FAILED, NOT_APPLICABLE, PASSED, Verdict
from c2f_np.gradcheck.settings import Settings
from c2f_np.gradcheck.values import cast, is_differentiable, is_sparse, private_copy, snapshot, to_vector


class Broken(Exception):
    """An item of the contract that is not kept; the message says how."""

    def __init__(self, message: str, argument: str | None = None):
        self.argument = argument
        super().__init__(message)


class Contract:
    """The contract of one operation at its point.

    Parameters
    ----------
    operation : Operation
    settings : Settings
    seed : int
    dtypes : sequence of str or None
        ``('float64', 'float32')`` demands both. With None, float32 is looked at only where the forward itself keeps it.
    """

    def __init__(self, operation: Operation, settings: Settings, seed: int, dtypes=None):
        self.operation, self.settings, self.dtypes = operation, settings, dtypes
        rng = stream(seed, "contract")
        self.cotangents, self.others = operation.cotangents(rng), operation.cotangents(rng)
        self.rng = rng
        self.notes: list[str] = []
        self.value_before = snapshot(operation.raw_forward(operation.changed({})))

    def first_call(self) -> dict[str, np.ndarray]:
        """The gradients at the point; Trouble when there are none worth looking at."""
        return self.operation.gradients(self.cotangents)

    def run(self, wanted=lambda item: True) -> list[Verdict]:
        """All items but the last, ``value_kept``, which is :meth:`finish`."""
        items = {
            "inputs_kept": self.inputs_kept,
            "cotangents_kept": self.cotangents_kept,
            "same_bits": self.same_bits,
            "stale_state": self.stale_state,
            "result_kept": self.result_kept,
            "dtype": self.dtype,
            "zero_cotangent": self.zero_cotangent,
            "linear": self.linear,
            "layout": self.layout,
        }
        return [self._verdict(name, item) for name, item in items.items() if wanted(name)]

    def finish(self) -> Verdict:
        """The forward's value once more, at the end of everything."""
        return self._verdict("value_kept", self.value_kept)

    def _verdict(self, name: str, item) -> Verdict:
        try:
            reason = item()
        except (Broken, Trouble) as error:
            return Verdict(f"contract.{name}", error.argument, FAILED, reason=str(error))
        status = NOT_APPLICABLE if reason else PASSED
        return Verdict(f"contract.{name}", None, status, reason=reason or "kept")

    # ---- what is handed in stays as it is -----------------------------------------------------------------------
    def inputs_kept(self):
        arguments = self.operation.changed({})
        before = {key: snapshot(value) for key, value in arguments.items()}
        self.operation.raw_forward(arguments)
        self._compare(before, arguments, "forward")
        self.operation.raw_backward(self.operation.pack(self.cotangents), arguments)
        self._compare(before, arguments, "backward")

    def _compare(self, before, arguments, who):
        for key, value in arguments.items():
            if snapshot(value) != before[key]:
                raise Broken(
                    f"{who} modifies its argument {key} in place (an augmented assignment such as {key} *= ..., an "
                    f"assignment to "
                    f"{key}[...], or out={key}?); work on a copy",
                    key,
                )

    def cotangents_kept(self):
        packed = self.operation.pack(self.cotangents)
        before = snapshot(packed)
        self.operation.raw_backward(packed, self.operation.changed({}))
        if snapshot(packed) != before:
            raise Broken(
                "backward modifies the cotangent it is given (grad_output *= ..., grad_output[mask] = 0?); work on "
                "a copy"
            )

    # ---- the same call gives the same result ---------------------------------------------------------------------
    def same_bits(self):
        arguments = self.operation.changed({})
        first = snapshot(self.operation.raw_forward(arguments))
        if snapshot(self.operation.raw_forward(arguments)) != first:
            raise Broken(
                "two calls of forward give different values: random numbers, or state that a call leaves behind?"
            )
        results = [
            private_copy(self.operation.raw_backward(self.operation.pack(self.cotangents), arguments)) for _ in range(3)
        ]
        if snapshot(results[0]) != snapshot(results[1]):
            raise Broken(f"two calls of backward give different gradients{self._growing(results)}")

    def _growing(self, results) -> str:
        one, two, three = (self.operation.collect(result) for result in results)
        if all(np.allclose(two[key] - one[key], three[key] - two[key], rtol=1e-6, atol=0) for key in one):
            return ": each call adds the same to it, so something is added up and never reset"
        return ": random numbers, or state that a call leaves behind?"

    def stale_state(self):
        operation = self.operation
        arguments = operation.changed({})
        operation.raw_forward(arguments)
        fresh = snapshot(operation.raw_backward(operation.pack(self.cotangents), arguments))
        moved = {
            key: operation.entries(key) * (1 + 2.0**-8 * self.rng.uniform(0.5, 1.5, operation.entries(key).size))
            for key in operation.wrt
        }
        for call in (operation.values, lambda **changes: operation.gradients(self.others, **changes)):
            try:
                call(**moved)
            except Trouble:
                continue  # outside of the domain: nothing was learned
            if snapshot(operation.raw_backward(operation.pack(self.cotangents), arguments)) != fresh:
                raise Broken(
                    "the gradient depends on the calls made before: backward uses what an earlier call at another "
                    "point left behind"
                )

    def result_kept(self):
        operation = self.operation
        arguments = operation.changed({})
        result = operation.raw_backward(operation.pack(self.cotangents), arguments)
        before = snapshot(result)
        operation.raw_backward(operation.pack(self.others), arguments)
        if snapshot(result) != before:
            raise Broken(
                "a gradient that was returned is changed by the next call: both share a buffer; return a new array"
            )

    def value_kept(self):
        if snapshot(self.operation.raw_forward(self.operation.changed({}))) != self.value_before:
            raise Broken(
                "the forward's value is not the same after the checks as before them: calls leave something behind"
            )

    # ---- dtypes ---------------------------------------------------------------------------------------------------
    def dtype(self):
        operation = self.operation
        strict = self.dtypes is not None
        if not strict or "float64" in self.dtypes:
            self._gradient_dtypes(np.float64)
        if strict and "float32" not in self.dtypes:
            return
        arguments = {key: cast(value, np.float32) for key, value in operation.changed({}).items()}
        try:
            result = operation.raw_forward(arguments)
        except Trouble as trouble:
            if strict:
                raise
            self.notes.append(f"float32 is not checked: {str(trouble).splitlines()[0]}")
            return
        parts = list(result) if isinstance(result, tuple | list) else [result]
        for k in operation.outputs:
            if hasattr(parts[k], "dtype") and parts[k].dtype != np.float32:
                text = f"float32 in, {parts[k].dtype} out of the forward"
                if strict:
                    raise Broken(text)
                self.notes.append(f"float32 is not checked: {text}")
                return
        self._gradient_dtypes(np.float32)

    def _gradient_dtypes(self, dtype):
        operation = self.operation
        arguments = {key: cast(value, dtype) for key, value in operation.changed({}).items()}
        named = operation.named(operation.raw_backward(operation.pack(self.cotangents, dtype), arguments))
        for key in operation.wrt:
            wanted = getattr(arguments[key], "dtype", None)
            found = getattr(named[key], "dtype", None)
            if wanted is None or (found is None and np.ndim(arguments[key]) == 0):
                continue  # Python floats have no dtype
            if found != wanted:
                raise Broken(
                    f"the gradient of {key} is {found or type(named[key]).__name__}, {key} itself is {wanted}", key
                )

    # ---- linearity in the cotangent ------------------------------------------------------------------------------
    def zero_cotangent(self):
        gradients = self.operation.gradients([np.zeros_like(c) for c in self.cotangents])
        for key, g in gradients.items():
            if np.any(g != 0):
                i = int(np.argmax(np.abs(g)))
                raise Broken(
                    f"a zero cotangent gives the gradient {g[i]:.6g} at {self.operation.entry(key, i)}, not 0: is "
                    f"the cotangent left out "
                    "in a term, or a buffer never reset?",
                    key,
                )

    def linear(self):
        operation, tolerance = self.operation, self.settings.linearity
        one, two = operation.gradients(self.cotangents), operation.gradients(self.others)
        mixed = operation.gradients([1.75 * a + b for a, b in zip(self.cotangents, self.others, strict=True)])
        for key in operation.wrt:
            size = 1.75 * np.linalg.norm(one[key]) + np.linalg.norm(two[key])
            gap = np.linalg.norm(mixed[key] - 1.75 * one[key] - two[key])
            if gap > tolerance * size:
                raise Broken(
                    f"the gradient of {key} is not linear in the cotangent (off by {gap / size:.1e}): a cotangent "
                    f"that is ignored, "
                    "squared, clipped, or compared with something?",
                    key,
                )
        if len(self.cotangents) > 1:
            self._sum_of_outputs(one)

    def _sum_of_outputs(self, joint):
        operation = self.operation
        alone = [operation.gradients(operation.alone(self.cotangents, k)) for k in range(len(self.cotangents))]
        for key in operation.wrt:
            total, size = sum(a[key] for a in alone), sum(np.linalg.norm(a[key]) for a in alone)
            if np.linalg.norm(joint[key] - total) > self.settings.linearity * size:
                only = [
                    k
                    for k, a in zip(operation.outputs, alone, strict=True)
                    if np.allclose(joint[key], a[key], rtol=1e-9, atol=0)
                ]
                more = (
                    f": only output {only[0]} counts, so the others are overwritten instead of accumulated"
                    if only
                    else ""
                )
                raise Broken(
                    f"the gradient of {key} through all outputs is not the sum of those through each{more}", key
                )

    # ---- memory layout -------------------------------------------------------------------------------------------
    def layout(self):
        operation, tolerance = self.operation, self.settings.linearity
        values, gradients = operation.values(), operation.gradients(self.cotangents)
        for name, change in LAYOUTS.items():
            arguments = {key: _laid_out(value, change) for key, value in operation.changed({}).items()}
            packed = operation.pack(self.cotangents)
            packed = (
                tuple(_laid_out(p, change) for p in packed) if isinstance(packed, tuple) else _laid_out(packed, change)
            )
            try:
                result = operation.raw_forward(arguments)
                result = list(result) if isinstance(result, tuple | list) else [result]
                again = [np.ravel(to_vector(result[k])) for k in operation.outputs]
                grads = operation.collect(operation.raw_backward(packed, arguments))
            except Trouble as trouble:
                raise Broken(f"with inputs in {name}, {trouble}") from None
            for a, b in zip(values, again, strict=True):
                if a.shape != b.shape or np.linalg.norm(a - b) > tolerance * np.linalg.norm(a):
                    raise Broken(f"with inputs in {name} the forward gives another value")
            for key, g in gradients.items():
                if np.linalg.norm(g - grads[key]) > tolerance * np.linalg.norm(g):
                    raise Broken(f"with inputs in {name} the gradient of {key} is another one", key)


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


def _laid_out(value, change):
    if (
        isinstance(value, np.ndarray)
        and value.ndim
        and not is_sparse(value)
        and (is_differentiable(value) or value.dtype.kind in "iub")
    ):
        return change(value)
    return value
