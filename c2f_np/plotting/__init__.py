"""Figures: functions that take numbers and return a :class:`~c2f_np.plotting.style.Picture`, all in one style."""

from .computation import computation
from .results import learning_curves

__all__ = ["computation", "learning_curves"]
