"""Random functions with their exact gradients: programs of a few steps, drawn from a grammar.

A :class:`Program` is a list of steps on a list of values. Its backward runs the steps and then their derivatives from the
last to the first. The arguments are arrays of random shape and scale in a random structure of dictionaries, lists and tuples.
:func:`draw` makes a program, :func:`spoiled` puts one mistake into its backward.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


def unbroadcast(g, shape):
    """The gradient of what was broadcast to the shape of g."""
    while g.ndim > len(shape):
        g = g.sum(axis=0)
    for axis, length in enumerate(shape):
        if length == 1 and g.shape[axis] != 1:
            g = g.sum(axis=axis, keepdims=True)
    return g


def logsumexp(x):
    top = x.real.max(axis=-1, keepdims=True)
    return np.log(np.exp(x - top).sum(axis=-1)) + top[..., 0]


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def added_at(shape, index, g):
    out = np.zeros(shape, g.dtype)
    np.add.at(out, index, g)
    return out


#: name: forward, slope as a function of x and the result; all of them smooth and tame
ELEMENTWISE = {
    "sin": (np.sin, lambda x, y: np.cos(x)),
    "tanh": (np.tanh, lambda x, y: 1 - y * y),
    "square": (np.square, lambda x, y: 2 * x),
    "root": (lambda x: np.sqrt(1 + x * x), lambda x, y: x / y),
    "log": (lambda x: np.log1p(x * x), lambda x, y: 2 * x / (1 + x * x)),
    "bell": (lambda x: np.exp(-x * x), lambda x, y: -2 * x * y),
    "exp": (lambda x: np.exp(x / (1 + 0.01 * x * x)), lambda x, y: y * (1 - 0.01 * x * x) / (1 + 0.01 * x * x) ** 2),
    "inverse": (lambda x: 1 / (1.5 + np.sin(x)), lambda x, y: -np.cos(x) * y * y),
    "softplus": (lambda x: np.log1p(np.exp(x)), lambda x, y: 1 / (1 + np.exp(-x))),
}

#: name: forward and the gradients (one for each operand) as a function of g, the operands and the result
STEPS = {
    **{name: (f, lambda g, x, y, s=s: (g * s(x, y),)) for name, (f, s) in ELEMENTWISE.items()},
    "relu": (lambda x: np.where(x.real > 0, x, 0), lambda g, x, y: (np.where(x > 0, g, 0),)),
    "clip": (lambda x: np.where(abs(x.real) < 1.2, x, 0), lambda g, x, y: (np.where(abs(x) < 1.2, g, 0),)),
    "abs": (np.abs, lambda g, x, y: (g * np.sign(x),)),
    "softmax": (softmax, lambda g, x, y: (y * (g - (g * y).sum(axis=-1, keepdims=True)),)),
    "logsumexp": (logsumexp, lambda g, x, y: (g[..., None] * softmax(x),)),
    "transpose": (np.transpose, lambda g, x, y: (g.T,)),
    "flat": (np.ravel, lambda g, x, y: (g.reshape(x.shape),)),
    "sum": (lambda x: x.sum(axis=0), lambda g, x, y: (np.broadcast_to(g, x.shape),)),
    "mean": (lambda x: x.mean(axis=-1), lambda g, x, y: (np.repeat(g[..., None], x.shape[-1], axis=-1) / x.shape[-1],)),
    "take": (lambda x: x[[0, -1, 0]], lambda g, x, y: (added_at(x.shape, [0, -1, 0], g),)),
    "slice": (lambda x: x[::2], lambda g, x, y: (added_at(x.shape, slice(None, None, 2), g),)),
    "reverse": (lambda x: np.cumsum(x[::-1], axis=0), lambda g, x, y: (np.cumsum(g[::-1], axis=0),)),
    "add": (np.add, lambda g, a, b, y: (unbroadcast(g, a.shape), unbroadcast(g, b.shape))),
    "multiply": (np.multiply, lambda g, a, b, y: (unbroadcast(g * b, a.shape), unbroadcast(g * a, b.shape))),
    "divide": (
        lambda a, b: a / (1 + b * b),
        lambda g, a, b, y: (unbroadcast(g / (1 + b * b), a.shape), unbroadcast(-2 * b * g * y / (1 + b * b), b.shape)),
    ),
    "product": (np.matmul, lambda g, a, b, y: (g @ b.T, a.T @ g)),
    "stack": (lambda a, b: np.concatenate([a, b]), lambda g, a, b, y: (g[: len(a)], g[len(a) :])),
}  # fmt: skip
BINARY = ("add", "multiply", "divide", "product", "stack")


@dataclass
class Program:
    """``steps`` are (name, operands); ``scales`` what the leaves are divided by first; ``spoil`` (step, operand, function)."""

    structure: dict  # the arguments, with the number of the leaf in place of each array
    scales: list[float]
    steps: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    outputs: tuple[int, ...] = ()
    spoil: tuple | None = None

    def run(self, arguments: dict) -> list[np.ndarray]:
        values: list = [None] * len(self.scales)
        for key, place in self.structure.items():
            _fill(values, place, arguments[key])
        values = [np.asarray(v / s) for v, s in zip(values, self.scales, strict=True)]
        for name, operands in self.steps:
            values.append(STEPS[name][0](*(values[k] for k in operands)))
        return values

    def forward(self, **arguments):
        values = self.run(arguments)
        found = tuple(values[k] for k in self.outputs)
        return found if len(found) > 1 else found[0]

    def backward(self, cotangent, **arguments):
        values = self.run(arguments)
        grads = [np.zeros_like(v) for v in values]
        cotangents = cotangent if isinstance(cotangent, tuple) else (cotangent,)
        for k, c in zip(self.outputs, cotangents, strict=True):
            grads[k] = grads[k] + c
        for row in reversed(range(len(self.steps))):
            (name, operands), out = self.steps[row], len(self.scales) + row
            parts = STEPS[name][1](grads[out], *(values[k] for k in operands), values[out])
            for place, (k, part) in enumerate(zip(operands, parts, strict=True)):
                if self.spoil is not None and self.spoil[:2] == (row, place):
                    part = self.spoil[2](part)
                grads[k] = grads[k] + part
        grads = [g / g.dtype.type(s) for g, s in zip(grads, self.scales, strict=False)]
        return {f"grad_{key}": _build(place, grads) for key, place in self.structure.items()}


def _fill(values, place, argument):
    if isinstance(place, int):
        values[place] = argument
    else:
        for key, inner in place.items() if isinstance(place, dict) else enumerate(place):
            _fill(values, inner, argument[key])


def _build(place, leaves):
    if isinstance(place, int):
        return leaves[place]
    if isinstance(place, dict):
        return {key: _build(inner, leaves) for key, inner in place.items()}
    return type(place)(_build(inner, leaves) for inner in place)


def flat(structure) -> list:
    if isinstance(structure, dict | list | tuple):
        return [leaf for inner in (structure.values() if isinstance(structure, dict) else structure) for leaf in flat(inner)]
    return [structure]


STRUCTURES = (
    {"x": 0},
    {"x": 0, "w": 1},
    {"x": 0, "params": {"w": 1, "b": 2}},
    {"params": [0, 1], "x": 2},
    {"layers": [{"w": 0, "b": 1}, {"w": 2, "b": 3}]},
    {"a": (0, {"b": 1}), "c": 2},
)


def draw(rng: np.random.Generator) -> tuple[Program, dict]:
    """A random program and the arguments at which it is to be checked; it depends on each of them."""
    while True:
        structure = STRUCTURES[rng.integers(len(STRUCTURES))]
        count = len(flat(structure))
        n, m = (int(v) for v in rng.integers(1, 5, 2))
        shapes = [[(n, m), (n, m), (m,), (1, m), (m, n), ()][k] for k in rng.choice(6, count, p=[0.3, 0.2, 0.15, 0.1, 0.15, 0.1])]
        scales = [float(10.0 ** rng.integers(-6, 7)) if rng.random() < 0.3 else 1.0 for _ in range(count)]
        leaves = [s * rng.standard_normal(shape) for s, shape in zip(scales, shapes, strict=True)]
        for leaf in leaves:  # entries of very different size in one argument
            if leaf.ndim and rng.random() < 0.2:
                leaf *= 10.0 ** rng.integers(-4, 3, leaf.shape)
        program, arguments = Program(structure, scales), {key: _build(place, leaves) for key, place in structure.items()}
        with np.errstate(all="ignore"):
            values = program.run(arguments)
            for _ in range(int(rng.integers(2, 8))):
                name = str(rng.choice(list(STEPS)))
                operands = tuple(int(k) for k in rng.integers(0, len(values), 1 + (name in BINARY)))
                inputs = [values[k] for k in operands]
                if any(v.ndim < 1 + (name == "product") for v in inputs) and name not in ELEMENTWISE and name != "multiply":
                    continue
                try:
                    value = np.asarray(STEPS[name][0](*inputs))
                except ValueError:
                    continue
                if value.size and np.all(np.isfinite(value)) and np.max(np.abs(value)) < 1e6:
                    values.append(value)
                    program.steps.append((name, operands))
        if not program.steps:
            continue
        used = {k for _, operands in program.steps for k in operands}
        program.outputs = tuple(k for k in range(len(scales), len(values)) if k not in used)
        gradients = flat(program.backward(cotangents(rng, program, values), **arguments))
        sizes = [np.linalg.norm(g * s) for g, s in zip(gradients, scales, strict=True)]
        if min(sizes) > 1e-3 and max(sizes) < 1e6:
            return program, arguments


def cotangents(rng, program: Program, values):
    """Random cotangents in the form in which the checker hands them over."""
    shapes = [np.shape(values[k]) for k in program.outputs]
    parts = tuple(rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.5, shape) for shape in shapes)
    return parts if len(parts) > 1 else parts[0]


def _zero_last(g):
    return np.where(np.arange(g.size).reshape(g.shape) == g.size - 1, 0.0, g)


MISTAKES = (
    lambda g: 1.001 * g,
    lambda g: -g,
    lambda g: 0 * g,
    lambda g: 2 * g,
    lambda g: np.roll(g, 1),
    lambda g: np.where(g > 0, g, 0),
    lambda g: np.clip(g, -0.3, 0.3),
    lambda g: g * g,
    lambda g: np.abs(g),
    _zero_last,
    lambda g: g + 0.01,
    lambda g: g * (1 + 1e-4 * np.sin(g)),
)


def spoiled(rng: np.random.Generator, program: Program, arguments: dict, least: float = 1e-5) -> Program | None:
    """The same program with a mistake in one step of its backward, if that makes any gradient wrong by ``least`` of its norm."""
    values = program.run(arguments)
    c = cotangents(rng, program, values)
    right = flat(program.backward(c, **arguments))
    for _ in range(20):
        row = int(rng.integers(len(program.steps)))
        place = int(rng.integers(len(program.steps[row][1])))
        wrong = Program(**{**vars(program), "spoil": (row, place, MISTAKES[rng.integers(len(MISTAKES))])})
        found = flat(wrong.backward(c, **arguments))
        if max(np.linalg.norm(a - b) / np.linalg.norm(a) for a, b in zip(right, found, strict=True)) > least:
            return wrong
    return None
