"""Compiled loops. Nothing here decides anything: the operations above say what is computed, these say it fast.

Rules: a parallel loop gathers, so that each thread owns the rows it writes and the result has the same bits at any thread
count; no fastmath; results equal the NumPy text in `c2f_np/operations` up to rounding, which the tests check.
"""
