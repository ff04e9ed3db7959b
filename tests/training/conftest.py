"""The data that training is tested on."""

import pytest

from c2f_np.data import load_dataset


@pytest.fixture(scope="session")
def data():
    """18 women and 14 events."""
    return load_dataset("southern-women", validation_fraction=0.3)
