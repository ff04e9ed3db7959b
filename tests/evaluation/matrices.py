"""Matrices of zeros and ones, for the tests of this folder."""

import numpy as np
from scipy import sparse


def rows_of(lists, n_items):
    """A row for each list, with ones at its items."""
    dense = np.zeros((len(lists), n_items), np.int8)
    for row, items in enumerate(lists):
        dense[row, items] = 1
    return sparse.csr_array(dense)
