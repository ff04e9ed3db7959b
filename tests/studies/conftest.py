"""A study that takes a fraction of a second: popularity, matrix factorisation, the model, and a table of its size."""

from functools import partial

import pytest

from c2f_np.studies import read_study

TINY = """
title = "Tiny"
question = "Does it run?"
data = ["southern-women"]
seeds = [0, 1]
reference = "popularity"
figure = "none"

[common]
n_coarse = 6
n_fine = 4
dim = 8
t_fine = 2
max_epochs = 2
partition = "random"
engine = "numpy"

[[run]]
name = "popularity"
method = "popularity"

[[run]]
name = "bpr-mf"
method = "bpr-mf"
settings = { max_epochs = 2, dim = 4, engine = "numpy" }

[[run]]
name = "model"
method = "c2f"
settings = { table_epochs = 0, partition_epochs = 0 }

[[run]]
name = "narrow"
method = "narrow-lightgcn"
settings = { max_epochs = 2, engine = "numpy" }
bytes_of = "model"
"""


@pytest.fixture(scope="session")
def tiny_in():
    """Writes the study into a folder, changed by a text for another and with something behind it, and reads it."""

    def write(folder, old="", new="", behind=""):
        assert old in TINY
        path = folder / "tiny.toml"
        path.write_text((TINY.replace(old, new) if old else TINY) + behind, encoding="utf-8")
        return read_study(path)

    return write


@pytest.fixture
def tiny(tiny_in, tmp_path):
    """The same, into the folder of the test."""
    return partial(tiny_in, tmp_path)
