import numpy as np
import pytest
from model_rules import WIDTHS, check_engines, squared_norm_penalty, squared_norm_penalty_backward
from numpy.testing import assert_array_equal

from c2f_np.model.loss import Triples


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_by_hand(engine):
    Z = np.array([[1.0, 0], [2, 0], [0, 3], [4, 0]])
    # Occurrences: user 0 twice, item 0 (entity 2) three times, item 1 (entity 3) once; user 1 never.
    triples = Triples.from_items([0, 0], [0, 1], [0, 0], 2, 2)
    assert squared_norm_penalty(Z, triples, 5.0, engine=engine) == 5 * (2 * 1 + 3 * 9 + 16) / 2
    assert_array_equal(
        squared_norm_penalty_backward(0.5, Z, triples, 5.0, engine=engine),
        2.5 * np.array([[2, 0], [0, 0], [0, 9], [4, 0]]),
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_engines(width):
    rng = np.random.default_rng(width)
    triples = Triples.from_items(*rng.integers(0, 5, (3, 30)), 5, 8)
    Z = rng.normal(size=(13, width))
    check_engines(squared_norm_penalty, Z, triples, 5)
    check_engines(lambda Z, engine: squared_norm_penalty_backward(1e-4, Z, triples, 5, engine=engine), Z)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_without_decay_there_is_no_gradient(engine):
    triples = Triples.from_items([0], [0], [1], 1, 2)
    assert_array_equal(squared_norm_penalty_backward(0.0, np.ones((3, 4)), triples, 5, engine=engine), np.zeros((3, 4)))
