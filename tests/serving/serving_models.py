"""Small models made by hand, for the tests of this folder."""

import numpy as np
import scipy.sparse as sparse

from c2f_np.model.step import ModelState
from c2f_np.model_file import StoredModel
from c2f_np.settings import Settings

N_USERS, N_ITEMS, C, M, D = 9, 12, 5, 4, 6


def hand_made(
    preset="default", *, seed=0, is_fine=True, n_users=N_USERS, n_items=N_ITEMS, c=C, m=M, d=D, density=0.4, **changed
) -> StoredModel:
    """A model nobody trained: some weights negative, a user and an item without interactions, an entity whose weights on coarse
    rows are 0.
    """
    rng = np.random.default_rng(seed)
    wanted = {"n_coarse": c, "n_fine": m, "dim": d, "t_coarse": 2, "t_fine": 2, "threshold": 0.7}
    if preset == "default":
        # Two links to either codebook, and no table: that would rule out two stages.
        wanted |= {"t_direct": 2, "table_epochs": 0, "table_start": "normal"}
    settings = Settings.preset(preset, **(wanted | changed))
    R = rng.random((n_users, n_items)) < density
    R[3], R[:, 5] = False, False
    S_coarse, S_fine = few_in_a_row(rng, n_users + n_items, c, 2), few_in_a_row(rng, c, m, 2)
    S_coarse.data.reshape(-1, 2)[4] = 0
    S_coarse.data.reshape(-1, 2)[7] *= -0.4
    joint = settings.training == "joint"
    assignments = {"S_coarse": S_coarse}
    if is_fine and (not joint or settings.gate > 0):
        assignments["S_fine"] = S_fine
    if is_fine and settings.t_direct:
        assignments["S_direct"] = few_in_a_row(rng, n_users + n_items, m, settings.t_direct)
        assignments["S_direct"].data[::5] *= -1
    shapes = {"E_coarse": (c, d), "bias": (n_users + n_items,), "bias_global": (1,)}
    shapes |= {"E_fine": (m, d)} if is_fine else {}
    shapes |= {"E_coarse": (0, d)} if joint and is_fine and settings.gate == 1 else {}  # fine rows alone
    numbers = {name: rng.normal(size=shape).astype(settings.dtype) for name, shape in shapes.items()}
    state = ModelState(**numbers, **{name: S.astype(settings.dtype) for name, S in assignments.items()})
    users, items = np.array([f"u{i}" for i in range(n_users)]), np.array([f"film {i}" for i in range(n_items)])
    return StoredModel(state, settings, sparse.csr_array(R.astype(np.int8)), users, items, {"data": {"name": "by hand"}})


def few_in_a_row(rng, n_rows: int, n_columns: int, each: int) -> sparse.csr_array:
    """A matrix with so many positive weights in every row."""
    columns = np.array([np.sort(rng.choice(n_columns, each, replace=False)) for _ in range(n_rows)])
    starts = np.arange(0, n_rows * each + 1, each)
    return sparse.csr_array((rng.random(n_rows * each) + 0.2, columns.ravel(), starts), shape=(n_rows, n_columns))
