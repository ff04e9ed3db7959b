"""All verdicts in one call, and each by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .argument import Argument
from .check_settings import CheckSettings
from .contract import ITEMS, Contract
from .diagnosis import rough_in_words
from .directions import floored, stream
from .evidence import central_differences, complex_steps
from .kinks import ActiveSet, Kinks
from .operation import Leaf, Operation
from .report import FAILED, PASSED, Report, Verdict
from .trouble import Trouble, UsageError
from .values import describe, is_differentiable, leaves

#: A forward, a backward, or what names branches: the arguments are the user's.
Function = Callable[..., Any]
#: The checks that ``check_gradients`` runs, in this order. Items of the contract can be named too:
#: ``'contract.layout'``.
CHECKS = ("contract", "central_difference", "complex_step", "taylor_rate", "adjoint")


def check_gradients(
    forward: Function,
    backward: Function,
    arguments: Any,
    *,
    wrt: str | Sequence[str] | None = None,
    linear_in: str | Sequence[str] = (),
    zero_gradient: str | Sequence[str] = (),
    active_set: Function | None = None,
    outputs: int | str | Sequence[int | str] | None = None,
    dtypes: Sequence[str] | None = None,
    checks: Sequence[str] = CHECKS,
    settings: CheckSettings | None = None,
    name: str | None = None,
    seed: int = 0,
) -> Report:
    """Check a hand-written backward against its forward, by every means there is.

    Parameters
    ----------
    forward : callable
        ``forward(**arguments)``: an array, a float, a sparse matrix, or a tuple of these.
    backward : callable
        ``backward(cotangent, **arguments)``: the gradients of ``sum(cotangent * output)``. It is given those of the
        arguments that it names, and what the forward returned if it names ``output``. For a tuple of outputs the
        cotangent is a tuple too, or one leading parameter each. It returns a dict (``{'grad_x': ...}`` or ``{'x':
        ...}``), a tuple in the order of ``wrt``, or one array.
    arguments : dict, tuple or array
        The point. A tuple is passed by position. Floats (arrays, scalars, lists of floats, sparse matrices) are
        differentiated, also inside dictionaries, lists and tuples: there leaf by leaf, as ``params.w`` or ``params[0]``,
        and the gradients come back in the same structure. The rest (integers, complex numbers, objects) passes through;
        it is named in the report, and a gradient that comes back for it is a failure. The checker works on copies, in
        float64.
    wrt : str or sequence of str, optional
        The arguments, or leaves, to check; all that hold floats when left out.
    linear_in : str or sequence of str
        Arguments in which the forward is linear or affine: the adjoint identity is checked.
    zero_gradient : str or sequence of str
        Arguments whose gradient is zero at this point, and rightly so; otherwise a zero gradient is a failure.
    active_set : callable, optional
        ``active_set(**arguments)``: an array, or a tuple of arrays, of booleans or integers that says which branch each
        element takes.
    outputs : int, str or sequence of these, optional
        The outputs to differentiate, when forward returns several.
    dtypes : sequence of str, optional
        ``('float64', 'float32')`` demands that both are kept, and that float32 gives the values of float64.
        ``('float32',)`` is for functions that always compute in float32: they are held to what float32 can do. When left
        out, float32 is checked where the forward keeps it.
    checks : sequence of str
        Which of :data:`CHECKS` to run.
    settings : CheckSettings, optional
        Tolerances and sizes.
    name : str, optional
        Name of the operation in the report.
    seed : int
        Seed of cotangents, directions and samples.

    Returns
    -------
    Report
        ``report.passed``, ``str(report)``, ``report.raise_if_failed()``, ``report.to_json()``.

    Raises
    ------
    UsageError
        When the question makes no sense (an argument that does not exist). What is wrong with forward or backward is in
        the report.

    Examples
    --------
    >>> import numpy as np
    >>> def square(x):
    ...     return x * x
    >>> def square_backward(grad_output, x):
    ...     return 2 * x * grad_output
    >>> check_gradients(square, square_backward, {"x": np.array([1.0, 2.0, 3.0])}).passed
    True
    """
    settings = settings or CheckSettings()
    checks = (checks,) if isinstance(checks, str) else tuple(checks)
    items = {f"contract.{item}": item for item in ITEMS}
    for check in checks:
        if check not in CHECKS and check not in items:
            raise UsageError(f"there is no check {check!r}; there are {', '.join(CHECKS)}, and items such as 'contract.layout'")
    report = Report(name or getattr(forward, "__name__", "operation"), seed=seed)
    with np.errstate(all="ignore"):
        try:
            operation = Operation(forward, backward, arguments, wrt=wrt, outputs=outputs)
            linear_in = _known("linear_in", linear_in, operation)
            zero_gradient = _known("zero_gradient", zero_gradient, operation)
            if not any(operation.entries(key).size for key in operation.wrt):
                what = f"{' and '.join(operation.wrt)} without entries" if operation.wrt else "wrt is empty"
                raise Trouble(f"{what}: there is nothing to differentiate, so nothing was checked", "unchecked")
            operation.eps = _precision(operation, dtypes)
            operation.measure_grain(stream(seed, "grain"))
            settings = settings.at_precision(operation.eps)
            active = None if active_set is None else ActiveSet(operation, active_set)
            contract = Contract(operation, settings, seed, dtypes)
            report.verdicts += contract.first_call()
        except Trouble as trouble:
            report.verdicts.append(_trouble(trouble))
            return report

        wanted = [item for check, item in items.items() if check in checks or "contract" in checks]
        report.verdicts += [contract.verdict(item) for item in wanted if item != "value_kept"]
        report.notes += contract.notes + _sizes(operation) + [text for text in [rough_in_words(operation)] if text]
        for key in operation.wrt:
            try:
                argument = Argument(report, Leaf(operation, key), active, settings, key in zero_gradient, seed)
                argument.run(checks, linear=key in linear_in)
            except Trouble as trouble:
                report.verdicts.append(_trouble(trouble))
        if "value_kept" in wanted:
            report.verdicts.append(contract.verdict("value_kept"))
    report.notes += _not_checked(operation)
    return report


def _known(option: str, names, operation: Operation) -> tuple[str, ...]:
    """The leaves that an option names."""
    names = (names,) if isinstance(names, str) else tuple(names or ())
    for name in names:
        if not operation.below(name):
            raise UsageError(f"{option} names {name!r}, but the arguments are {', '.join(operation.leaves)}")
    return tuple(leaf for name in names for leaf in operation.below(name))


def _precision(operation: Operation, dtypes) -> float:
    """The rounding that is promised: float32's for functions that always compute in it and do not promise more."""
    if dtypes is not None:
        single = "float64" not in dtypes
    else:
        floats = [leaf for value in operation.given.values() for leaf in leaves(value).values() if is_differentiable(leaf)]
        given = {getattr(leaf, "dtype", np.dtype(float)) for leaf in floats}
        found = {getattr(operation.templates[k], "dtype", np.dtype(float)) for k in operation.outputs}
        single = found == {np.dtype(np.float32)} and given <= {np.dtype(np.float32), np.dtype(np.float16)}
    return float(np.finfo(np.float32 if single else np.float64).eps)


def _sizes(operation: Operation) -> list[str]:
    """A note where values come close to overflow."""
    top = max((float(np.max(np.abs(v), initial=0.0)) for v in operation.here), default=0.0)
    return [f"the forward's values reach {top:.1e}, close to overflow at 1.8e+308"] if top > 1e150 else []


def _not_checked(operation: Operation) -> list[str]:
    """A note on the arguments and outputs that are not differentiated."""
    parts = [f"{key} ({describe(v)})" for key, v in operation.leaves.items() if key not in operation.floats]
    parts += [f"{key} (not named in wrt)" for key in operation.floats if key not in operation.wrt]
    parts += [f"output {k} ({describe(v)})" for k, v in operation.templates.items() if k not in operation.outputs]
    return [f"not differentiated: {', '.join(parts)}"] if parts else []


def _trouble(trouble: Trouble) -> Verdict:
    check = "kinks" if trouble.item == "active set" else f"contract.{trouble.item.replace(' ', '_')}"
    return Verdict(check, trouble.argument, FAILED, reason=str(trouble))


def assert_gradients(forward: Function, backward: Function, arguments: Any, **options: Any) -> Report:
    """:func:`check_gradients` that raises :class:`GradientError`, with the readable report, when anything fails."""
    return check_gradients(forward, backward, arguments, **options).raise_if_failed()


def check_central_difference(forward: Function, backward: Function, arguments: Any, **options: Any) -> Report:
    """The gradient against central differences only; options as in :func:`check_gradients`."""
    return check_gradients(forward, backward, arguments, **{"checks": ("central_difference",), **options})


def check_complex_step(forward: Function, backward: Function, arguments: Any, **options: Any) -> Report:
    """The gradient against the complex step only; options as in :func:`check_gradients`."""
    return check_gradients(forward, backward, arguments, **{"checks": ("complex_step",), **options})


def check_taylor_rate(forward: Function, backward: Function, arguments: Any, **options: Any) -> Report:
    """The rate of the Taylor remainder only; options as in :func:`check_gradients`."""
    return check_gradients(forward, backward, arguments, **{"checks": ("taylor_rate",), **options})


def check_adjoint(
    forward: Function, backward: Function, arguments: Any, *, linear_in: str | Sequence[str], **options: Any
) -> Report:
    """The adjoint identity only; options as in :func:`check_gradients`."""
    options = {"checks": ("adjoint",), "wrt": linear_in, **options}
    return check_gradients(forward, backward, arguments, linear_in=linear_in, **options)


def check_contract(forward: Function, backward: Function, arguments: Any, **options: Any) -> Report:
    """Everything but the numbers; options as in :func:`check_gradients`."""
    return check_gradients(forward, backward, arguments, **{"checks": ("contract",), **options})


def check_convention(
    backward: Function, *, at: Any, expected: Any, cotangent: Any = None, name: str | None = None, seed: int = 0
) -> Report:
    """Assert, to the last bit, what a backward gives exactly at a kink, where no derivative exists and a convention
    decides.

    Parameters
    ----------
    backward : callable
        ``backward(cotangent, **at)``.
    at : dict
        All arguments, at the kink.
    expected : array or dict of arrays
        Without ``cotangent``, the slope of each element: a random cotangent must be multiplied by exactly that. With
        it, the gradient. A dictionary names several gradients; an array alone stands for the first argument that holds
        floats.
    cotangent : array or tuple, optional

    Returns
    -------
    Report
    """
    report = Report(name or getattr(backward, "__name__", "backward"), seed=seed)
    if not isinstance(expected, dict):
        floats = [key for key, value in at.items() if np.asarray(value).dtype.kind == "f"]
        expected = {key: expected for key in floats[:1]}
    if not expected:
        raise UsageError("no argument in `at` holds floats")
    expected = {key: np.asarray(value, dtype=float) for key, value in expected.items()}
    if cotangent is None:
        cotangent = floored(stream(seed, "convention"), next(iter(expected.values())).shape)
        expected = {key: value * cotangent for key, value in expected.items()}

    def forward_of_nothing(**arguments):
        return 0.0

    operation = Operation(forward_of_nothing, backward, at, wrt=tuple(expected))
    try:
        found = operation.collect(operation.raw_backward(cotangent, operation.changed({})))
    except Trouble as trouble:
        report.verdicts.append(_trouble(trouble))
        return report
    for key, value in expected.items():
        wanted = np.ravel(value)
        off = np.flatnonzero(found[key] != wanted)
        reason = "kept to the last bit"
        if off.size:
            i = int(off[0])
            reason = (
                f"at {Leaf(operation, key).name(i)} the backward gives {found[key][i]:.17g}, the convention is {wanted[i]:.17g} "
                f"({off.size} of {wanted.size} entries differ)"
            )
        report.verdicts.append(Verdict("convention", key, FAILED if off.size else PASSED, reason=reason))
    return report


def numerical_gradient(
    forward: Function, arguments: Any, *, wrt: str, cotangent: Any = None, method: str = "central", seed: int = 0
) -> np.ndarray:
    """The gradient of ``sum(cotangent * output)`` from the forward alone, entry by entry.

    Parameters
    ----------
    wrt : str
        One argument.
    cotangent : array or list of arrays, optional
        One for each output; 1 for a scalar output, random ones otherwise.
    method : {'central', 'complex'}

    Returns
    -------
    ndarray
        In the shape of the argument; for a sparse one a vector of its stored entries.
    """
    operation = Operation(forward, None, arguments, wrt=wrt)
    if len(operation.wrt) > 1:
        raise UsageError(f"numerical_gradient takes one argument at a time; wrt={wrt!r} has {', '.join(operation.wrt)}")
    leaf = Leaf(operation, operation.wrt[0])
    if cotangent is None:
        scalar = len(operation.outputs) == 1 and operation.values()[0].size == 1
        cotangents = [np.ones(1)] if scalar else operation.cotangents(stream(seed, "numerical", leaf.key))
    else:
        parts = cotangent if isinstance(cotangent, tuple | list) else [cotangent]
        cotangents = [np.ravel(np.asarray(part, dtype=float)) for part in parts]
    measure = {"central": central_differences, "complex": complex_steps}[method]
    everything = replace(CheckSettings(), entry_limit=leaf.size)
    evidence = measure(leaf, cotangents, Kinks(leaf), everything, stream(seed, method, leaf.key))
    gradient = np.full(leaf.size, np.nan)
    gradient[evidence.positions] = evidence.entries.value.sum(axis=1)
    return gradient.reshape(leaf.shape)
