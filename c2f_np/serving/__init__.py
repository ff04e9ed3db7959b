"""Serving: a trained model exported for inference only, loaded and used with NumPy and the standard library alone.

>>> from c2f_np.serving import load_exported
>>> served = load_exported("small.npz")                # doctest: +SKIP
>>> served.recommend("alice", k=5)                     # doctest: +SKIP

`exporting` in this folder makes such files and measures them; it needs the whole package and is not imported here.
"""

from .served import Served, load_exported

__all__ = ["Served", "load_exported"]
