"""What the making of mutants is tried out on: every kind of change is possible here."""

from functools import cache, cached_property

import numpy as np

FACTOR = 3


def weighted(x, y, gate=0.25, *, shift=0.0):
    """Text that nobody computes with: 1 + 1."""
    if gate > 1:
        raise ValueError(f"the gate must be at most {1}")
    total = np.zeros(3, dtype=np.float64)
    total[1] = gate * x[0] - y[-1]
    total += x.T @ np.abs(y) if gate >= 0 and shift == 0 else shift
    low, high = -x[1:], x[:2]
    return FACTOR * total, dict(low=low, high=high), [k for k in range(3) if k > 1]


@cache
def _adder(width: int):
    def add(values):
        total = 0
        for k in range(width):
            total += values[k]
        return total

    return add


def added(values):
    return _adder(len(values))(values)


def counted_down(n):
    steps = 0
    while n > 0:
        n -= 1
        steps += 1
    return steps


def positive(x):
    return max(abs(x), 0)


def never_called(x):
    return x + 1


class Box:
    def __init__(self, content):
        self.content = content

    @property
    def doubled(self):
        return 2 * self.content

    @cached_property
    def tripled(self):
        return 3 * self.content
