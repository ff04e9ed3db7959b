"""Where joint training can start from: a table, trained for a while, then coded by both codebooks.

    table    every entity has a row of its own:  Z = tanh(Y),  H = mean(Z, A Z, ..., A^L Z)
    joint    Y ~ S_c E_hat + S_d F (`c2f_np.stages.residual_code`), and training goes on with what the code consists of

A table is a codebook of N rows with S_c = I, so that its phase is joint training too, in which only the codebook moves.
The phase needs the memory of a table and of its moments; the model does not hold it.

Shapes
------
Y : (N, d)     others: see `c2f_np.stages.joint`
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse as sparse

from ..stages.partition import partition_entities
from ..stages.residual_code import residual_code
from ..stages.start import start_biases, start_fine_assignment
from ..stages.state import ModelState
from .batches import generator
from .problem import Problem

# Small, so that nearly all of a row is learned; not 0, where all rows would learn the same.
_START_SCALE = 0.1


def start_table(problem: Problem) -> ModelState:
    """A row of its own for every entity, normal with a small deviation, as a codebook of N rows.

    Returns
    -------
    ModelState
        In float64; ``E_coarse`` is the table.
    """
    settings, n = problem.settings, problem.n_users + problem.n_items
    rng = generator(settings.seed, "start table")
    table = _START_SCALE * rng.standard_normal((n, settings.dim))
    itself = sparse.csr_array((np.ones(n), np.arange(n), np.arange(n + 1)), shape=(n, n))
    return ModelState(table, itself, *start_biases(n, settings.bias_start, rng))


def code_table(table: ModelState, problem: Problem) -> ModelState:
    """Both codebooks and all links from a trained table; the biases stay.

    E_f is moved away from zero by tau, so that soft thresholding returns the F of the code. With a bridge, S_f starts from a
    partition of the entities by their strongest direct links (without these, as in the fine stage), and E_c is such that
    (1 - g) E_c + g S_f F is the E_hat of the code. A fine codebook that only the bridge uses starts normal.

    Parameters
    ----------
    table : ModelState
        The best state of the phase.
    problem : Problem

    Returns
    -------
    ModelState
        In float64.
    """
    settings, gate = problem.settings, problem.settings.gate
    sizes = settings.n_coarse, settings.n_fine, settings.t_coarse, settings.t_direct
    # The identity, unless C = N: then the table looks like any coarse codebook, and its weights are trained too.
    Y = table.S_coarse @ table.E_coarse
    code = residual_code(Y, *sizes, seed=settings.seed)
    E_coarse, F, S_fine = code.E_hat, code.F, None
    if not settings.has_fine_codebook:
        return dataclasses.replace(table, E_coarse=E_coarse, S_coarse=code.S_coarse)
    if F is None:
        rng = generator(settings.seed, "code table")
        F = np.sqrt(np.mean(E_coarse**2)) * rng.standard_normal((settings.n_fine, settings.dim))
        parts = partition_entities(problem.R, settings.n_fine, method=settings.partition, seed=settings.seed + 1)
    else:
        parts = _strongest(code.S_direct, F)
    if gate > 0:
        S_fine = start_fine_assignment(
            code.S_coarse, parts, settings.n_fine, settings.t_fine, renormalise=settings.renormalise_fine
        )
        E_coarse = (E_coarse - gate * (S_fine @ F)) / (1 - gate)
    E_fine = F + settings.threshold * np.sign(F)
    return dataclasses.replace(
        table, E_coarse=E_coarse, S_coarse=code.S_coarse, E_fine=E_fine, S_fine=S_fine, S_direct=code.S_direct
    )


def _strongest(S: sparse.csr_array, E: np.ndarray) -> np.ndarray:
    """The column of each row's strongest link; every row has the same number of them."""
    n = S.shape[0]
    strength = np.abs(S.data) * np.linalg.norm(E, axis=1)[S.indices]
    return S.indices.reshape(n, -1)[np.arange(n), np.argmax(strength.reshape(n, -1), axis=1)]
