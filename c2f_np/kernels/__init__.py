"""Compiled loops. Nothing here decides anything: the operations above say what is computed, these say it fast.

Rules: a parallel loop gathers, so that each thread owns the rows it writes and the result has the same bits at any thread
count; no fastmath; results equal the NumPy text in `c2f_np/operations` up to rounding, which the tests check.
"""


import os

# Between parallel loops GNU OpenMP lets idle threads spin. On a machine that is also doing something else they then take the core
# from the thread that has work: an epoch of 0.1 s was seen to take 3 s. Waiting passively lets it go.
# This must be set before the first parallel loop runs. An OMP_WAIT_POLICY that is already set is left alone.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
