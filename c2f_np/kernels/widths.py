"""Which widths of a dense matrix get a kernel of their own."""

from __future__ import annotations

#: A vector register holds this many float32.
LANE = 16
# From here to there a width gets a kernel of its own, with the width as a constant of the program. Loops over narrower rows would
# be unrolled before they are turned into vector instructions, and then never are: at d = 32 that took twice the time.
_NARROWEST, _WIDEST = 48, 512


def has_own_kernel(width: int) -> bool:
    """Whether rows of this width are summed by a kernel with the width as a constant."""
    return _NARROWEST <= width <= _WIDEST
