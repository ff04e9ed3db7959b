"""Other people's conventions, brought to ``forward(**arguments)`` and ``backward(cotangent, **arguments)``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any


def from_cache(forward: Callable[..., Any], backward: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
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


def from_layer(layer: Any, *, names: Sequence[str] | None = None) -> tuple[Callable[..., Any], Callable[..., Any]]:
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


def from_loss(forward: Callable[..., Any], backward: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A scalar loss whose backward takes no cotangent: ``backward(**arguments)`` is the gradient of the loss itself."""

    def plain_backward(cotangent, *args, **kwargs):
        result = backward(*args, **kwargs)
        if isinstance(result, dict):
            return {key: cotangent * part for key, part in result.items()}
        if hasattr(result, "_fields"):
            return type(result)(*(cotangent * part for part in result))
        if isinstance(result, tuple | list):
            return tuple(None if part is None else cotangent * part for part in result)
        return None if result is None else cotangent * result

    return forward, _with_signature(plain_backward, backward)


def _with_signature(function, like):
    """Show the parameters of ``like`` behind the cotangent, so that the checker knows the names of the arguments."""
    try:
        parameters = list(inspect.signature(like).parameters.values())
    except (TypeError, ValueError):
        return function
    names = {p.name for p in parameters}
    first = next(name for name in ("cotangent", "cotangent_", "cotangent__") if name not in names)
    kind = (
        inspect.Parameter.POSITIONAL_ONLY
        if any(p.kind == p.POSITIONAL_ONLY for p in parameters)
        else inspect.Parameter.POSITIONAL_OR_KEYWORD
    )
    function.__signature__ = inspect.Signature([inspect.Parameter(first, kind), *parameters])
    return function
