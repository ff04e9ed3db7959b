"""Runs with a share of another run's bytes: of every method that takes a budget, and of the model, whose rows follow from it."""

import csv
import dataclasses

import pytest

from c2f_np import load_dataset
from c2f_np.errors import SettingsError
from c2f_np.model_file import most_bytes, size_in_bytes
from c2f_np.settings import Settings
from c2f_np.studies import Options, jobs_of, read_study, run_study
from c2f_np.studies.methods import with_rows_for_bytes
from c2f_np.training import train

N = 32
SMALL = {"n_coarse": 6, "n_fine": 4, "dim": 8, "max_epochs": 2, "partition": "random", "engine": "numpy", "table_epochs": 1}
JOINT = {
    "direct links": {},
    "all coarse": {"t_coarse": 2, "t_direct": 0},
    "sparse": {"fine_density": 0.3, "n_fine": 5},
    "dense, with a threshold of its own": {"fine_density": 0.99},
    "both bridges": {"gate": 0.2, "t_fine": 2},
    "bridged": {"gate": 1.0, "t_fine": 2},
    "bridged alone": {"gate": 1.0, "t_fine": 2, "t_coarse": 2, "t_direct": 0},
    "in float64": {"dtype": "float64"},
}


@pytest.fixture(scope="module")
def data():
    return load_dataset("southern-women")


@pytest.mark.parametrize("name", JOINT)
def test_the_size_of_a_joint_model_is_known_before_it_is_trained(data, name):
    settings = Settings.preset("default", **(SMALL | {"partition_epochs": 0} | JOINT[name]))
    finished = train(data, settings).finished
    for phase, best in finished.items():
        size = size_in_bytes(best.state, settings.threshold)["model"]
        if phase == "joint" and settings.fine_density < 1:
            # The threshold leaves no more than the share, and hardly less.
            assert most_bytes(settings, phase, N) - 8 <= size <= most_bytes(settings, phase, N)
        else:
            assert size == most_bytes(settings, phase, N)


def test_the_size_of_a_staged_model_is_known_but_for_zeros(data):
    own = {name: value for name, value in SMALL.items() if name != "table_epochs"}
    settings = Settings.preset("staged", **own, n_components=4, t_fine=2)
    for phase, best in train(data, settings).finished.items():
        size = size_in_bytes(best.state, settings.threshold)
        most = most_bytes(settings, phase, N)
        if best.state.is_fine:  # zeros are only known when they are there: 10 rows of 32 bytes at most
            assert most - size["model"] == 10 * 32 - size["codebooks"] > 0
        else:
            assert size["model"] == most


def test_an_index_takes_another_byte_from_257_rows_on():
    settings = Settings.preset("default", n_coarse=256, n_fine=256, dim=8)
    more = dataclasses.replace(settings, n_coarse=257)
    assert most_bytes(more, "joint", 1000) - most_bytes(settings, "joint", 1000) == 8 * 4 + 1000


@pytest.mark.parametrize("name", JOINT)
def test_the_largest_number_of_rows_that_fits(data, name):
    settings = Settings.preset("default", **(SMALL | JOINT[name]))
    sizes = []
    for budget in (1_200, 1_350, 1_500):
        found = with_rows_for_bytes(settings, "joint", budget, data)
        more = dataclasses.replace(found, n_coarse=found.n_coarse + 1, n_fine=round(settings.n_fine / 6 * (found.n_coarse + 1)))
        assert most_bytes(found, "joint", N) <= budget < most_bytes(more, "joint", N) or found.n_coarse == N
        assert found.n_fine == pytest.approx(found.n_coarse * settings.n_fine / 6, abs=1)
        assert dataclasses.replace(found, n_coarse=6, n_fine=settings.n_fine) == settings
        sizes.append(found.n_coarse)
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_rows_have_a_least_number_and_a_most(data):
    settings = Settings.preset("default", **(SMALL | {"t_direct": 3}))
    # A row of each codebook would do for the proportion; three links need three fine rows. 32 entities: four links and a bias.
    least = (1 + 3) * 8 * 4 + N * (4 * 5 + 4) + 4
    assert with_rows_for_bytes(settings, "joint", least, data).n_fine == 3
    with pytest.raises(SettingsError, match=f"bytes = {least - 1} are too few for 1 coarse rows, which take {least}"):
        with_rows_for_bytes(settings, "joint", least - 1, data)
    assert with_rows_for_bytes(settings, "joint", 10**6, data).n_coarse == N  # no more than there are entities


SHARES = """
title = "Shares"
question = "Are they kept?"
data = ["southern-women"]
phases = "last"
figure = "none"

[common]
n_coarse = 6
n_fine = 4
dim = 8
max_epochs = 2
partition = "random"
engine = "numpy"

[[run]]
name = "half of c2f"
method = "c2f"
settings = { table_epochs = 0, partition_epochs = 0 }
cases = [{ bytes_share = 0.5 }]
bytes_of = "full"

[[run]]
name = "full"
method = "lightgcn"
settings = { dim = 24, max_epochs = 1, engine = "numpy" }
"""
BASELINE = """
[[run]]
name = "{method}, {{bytes_share}}"
method = "{method}"
{more}
grid = {{ bytes_share = [0.2, 0.5] }}
bytes_of = "full"
"""
TRAINED = ("bpr-mf", "narrow-lightgcn", "hashed", "quotient-remainder", "product-quantisation")


def test_every_method_keeps_its_share(tmp_path):
    path = tmp_path / "shares.toml"
    few = 'settings = { max_epochs = 1, engine = "numpy", dim = 4 }'
    coarse = BASELINE.format(method="coarse", more="").replace("0.2", "0.4")
    whole = [BASELINE.format(method=method, more="") for method in ("item-knn", "ease")] + [coarse]
    path.write_text(SHARES + "".join([*whole, *(BASELINE.format(method=method, more=few) for method in TRAINED)]))
    study = read_study(path)
    assert {job.needs for job in jobs_of(study)} == {"", "southern-women_full_seed0"}
    done = run_study(study, tmp_path / "out", Options(jobs=1))
    assert (done.n_failed, done.n_missing) == (0, 0)
    full, size = 4 * N * 24, {}
    for row in csv.DictReader((tmp_path / "out" / "rows.csv").open(encoding="utf-8")):
        size[row["outcome"]] = int(row["bytes"])
        if row["outcome"] == "half of c2f":
            # 32 entities with two links and a bias; of both codebooks together 32 bytes a row.
            assert row["note"] == "20 coarse and 13 fine rows" and int(row["bytes"]) == 33 * 32 + N * 14 + 4
    assert size.pop("full") == full and len(size) == 1 + 2 * 8
    # On so few items and users these have no more weights, rows or centroids, at half the bytes of the table.
    whole = {"ease, 0.5": 784, "item-knn, 0.5": 495, "quotient-remainder, 0.5": 33 * 16, "product-quantisation, 0.5": 32 * 20}
    for outcome, found in size.items():
        share = float(outcome.split(", ")[1]) if ", " in outcome else 0.5
        assert found == whole[outcome] if outcome in whole else 0.7 * share * full < found <= share * full, outcome
