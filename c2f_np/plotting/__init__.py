"""Figures: functions that take numbers and return a picture, in one style. One subject a file; `style` is common to all."""

from .curves import learning_curves

__all__ = ["learning_curves"]
