"""Other people's conventions, brought to ``forward(**arguments)`` and ``backward(cotangent, **arguments)``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from .operation import parameters_of

Function = Callable[..., Any]


def from_cache(forward: Function, backward: Function) -> tuple[Function, Function]:
    """A pair in the style of CS231n: ``out, cache = forward(...)`` and ``gradients = backward(dout, cache)``.

    Returns
    -------
    (forward, backward) : pair of callables
        ``check_gradients(*from_cache(affine_forward, affine_backward), {"x": x, "w": w})``. The cache is made anew for
        each backward.
    """

    @functools.wraps(forward)
    def plain_forward(*args, **kwargs):
        return forward(*args, **kwargs)[0]

    def plain_backward(cotangent, *args, **kwargs):
        _, cache = forward(*args, **kwargs)
        return backward(cotangent, cache)

    return plain_forward, _with_signature(plain_backward, forward)


def from_layer(layer: Any, *, names: Sequence[str] | None = None) -> tuple[Function, Function]:
    """An object that keeps what it needs between ``layer.forward(...)`` and ``layer.backward(cotangent)``.

    ``names`` are the attributes in which the layer leaves gradients (``('dx', 'dw')``), when ``backward`` does not
    return them all.
    """

    @functools.wraps(layer.forward)
    def plain_forward(*args, **kwargs):
        return layer.forward(*args, **kwargs)

    def plain_backward(cotangent, *args, **kwargs):
        layer.forward(*args, **kwargs)
        result = layer.backward(cotangent)
        return result if names is None else {name: getattr(layer, name) for name in names}

    return plain_forward, _with_signature(plain_backward, layer.forward)


def from_loss(forward: Function, backward: Function) -> tuple[Function, Function]:
    """A scalar loss whose backward takes no cotangent: ``backward(**arguments)`` is the gradient of the loss itself."""

    def times(cotangent, part):
        if isinstance(part, dict):
            return {key: cotangent * value for key, value in part.items()}
        if isinstance(part, tuple | list):
            scaled = [times(cotangent, value) for value in part]
            return type(part)(*scaled) if hasattr(part, "_fields") else tuple(scaled)
        return None if part is None else cotangent * part

    def plain_backward(cotangent, *args, **kwargs):
        return times(cotangent, backward(*args, **kwargs))

    return forward, _with_signature(plain_backward, backward)


def _with_signature(function, like):
    """Show the parameters of ``like`` behind the cotangent, so that the checker knows the names of the arguments."""
    parameters = parameters_of(like)
    if parameters is None:
        return function
    names = {p.name for p in parameters}
    first = next(name for name in ("cotangent", "cotangent_", "cotangent__") if name not in names)
    positional = any(p.kind == p.POSITIONAL_ONLY for p in parameters)
    kind = inspect.Parameter.POSITIONAL_ONLY if positional else inspect.Parameter.POSITIONAL_OR_KEYWORD
    function.__signature__ = inspect.Signature([inspect.Parameter(first, kind), *parameters])
    return function
