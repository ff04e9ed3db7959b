"""Serving: a trained model exported for inference only, loaded and used with NumPy and the standard library alone.

>>> from c2f_np.serving import load_exported
>>> served = load_exported("small.npz")                # doctest: +SKIP
>>> served.recommend("alice", k=5)                     # doctest: +SKIP

`export` and `table` in this folder make such files and measure them; these two need the whole package and are not imported
here.
"""

from .served import Served, load_exported

__all__ = ["Served", "load_exported"]
