"""Runs with a share of another run's bytes: of every method that takes a budget, and of the model, whose rows follow from it."""

import csv
import dataclasses
from types import SimpleNamespace

import pytest

from c2f_np import load_dataset
from c2f_np.errors import SettingsError
from c2f_np.model_file import StoredModel, most_bytes, size_in_bytes
from c2f_np.plotting import frontier
from c2f_np.serving import Served
from c2f_np.serving.exporting import reduce_model
from c2f_np.settings import Settings
from c2f_np.studies import Options, jobs_of, read_study, run_study
from c2f_np.studies.methods import with_rows_for_bytes
from c2f_np.training import train

N_USERS, N_ITEMS = 18, 14
N = N_USERS + N_ITEMS
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
            assert most_bytes(settings, phase, N_USERS, N_ITEMS) - 8 <= size <= most_bytes(settings, phase, N_USERS, N_ITEMS)
        else:
            assert size == most_bytes(settings, phase, N_USERS, N_ITEMS)


def exported_size(state, settings, data):
    """Bytes of the model that `export` writes with int8 throughout."""
    stored = StoredModel(state, settings, data.train, data.user_ids, data.item_ids, {})
    return Served(reduce_model(stored, codebook="int8", weights="int8")).size_in_bytes()["model"]


@pytest.mark.parametrize("name", JOINT)
def test_so_is_the_size_of_its_export_with_a_byte_a_number(data, name):
    settings = Settings.preset("default", **(SMALL | {"partition_epochs": 0} | JOINT[name]))
    best = train(data, settings).finished["joint"]
    size, most = exported_size(best.state, settings, data), most_bytes(settings, "joint", N_USERS, N_ITEMS, "int8")
    # Of a fine codebook some numbers may be rounded to nothing.
    assert most - 4 <= size <= most if settings.fine_density < 1 else size == most


def test_the_size_of_a_staged_model_is_known_but_for_zeros(data):
    own = {name: value for name, value in SMALL.items() if name != "table_epochs"}
    settings = Settings.preset("staged", **own, n_components=4, t_fine=2)
    for phase, best in train(data, settings).finished.items():
        size = size_in_bytes(best.state, settings.threshold)
        most = most_bytes(settings, phase, N_USERS, N_ITEMS)
        if best.state.is_fine:  # zeros are only known when they are there: 10 rows of 32 bytes at most
            assert most - size["model"] == 10 * 32 - size["codebooks"] > 0
        else:
            assert size["model"] == most
            assert exported_size(best.state, settings, data) == most_bytes(settings, phase, N_USERS, N_ITEMS, "int8")


def test_an_index_takes_another_byte_from_257_rows_on():
    settings = Settings.preset("default", n_coarse=256, n_fine=256, dim=8)
    more = dataclasses.replace(settings, n_coarse=257)
    for stored_as, row in (("dtype", 8 * 4), ("int8", 8 + 4 + 4)):
        one, other = (most_bytes(each, "joint", 600, 400, stored_as) for each in (settings, more))
        assert other - one == row + 1000


@pytest.mark.parametrize("stored_as", ["dtype", "int8"])
@pytest.mark.parametrize("name", JOINT)
def test_the_largest_number_of_rows_that_fits(data, name, stored_as):
    settings = Settings.preset("default", **(SMALL | JOINT[name]))
    sizes = []
    for budget in (1_200, 1_350, 1_500) if stored_as == "dtype" else (500, 600, 700):
        found = with_rows_for_bytes(settings, "joint", budget, data, stored_as)
        more = dataclasses.replace(found, n_coarse=found.n_coarse + 1, n_fine=round(settings.n_fine / 6 * (found.n_coarse + 1)))
        weighs, next_one = (most_bytes(each, "joint", N_USERS, N_ITEMS, stored_as) for each in (found, more))
        assert weighs <= budget < next_one or found.n_coarse == N
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


IN_BYTES = """
[[run]]
name = "{method}"
method = "{method}"
{more}
stored_as = "int8"
bytes_of = "full"
bytes_share = 0.3
"""


def test_every_method_keeps_its_share_with_a_byte_a_number(tmp_path, monkeypatch):
    """The model as it is exported, also where an analysis changed it; the others as they save themselves."""
    drawn = list[str]()

    def draw(points, **named):
        drawn.extend(name for name, *_ in points)
        return SimpleNamespace(write=lambda path: None)

    monkeypatch.setattr(frontier, "size_quality", draw)
    path = tmp_path / "bytes.toml"
    few = 'settings = { max_epochs = 1, engine = "numpy", dim = 4 }'
    settings = "settings = { table_epochs = 0, partition_epochs = 0 }"
    ours = IN_BYTES.format(method="c2f", more=f'{settings}\nafter = ["zero-fine", "int8"]')
    whole = [IN_BYTES.format(method=method, more="") for method in ("item-knn", "ease")]
    shares = SHARES[: SHARES.index('[[run]]\nname = "half of c2f"')] + SHARES[SHARES.index('[[run]]\nname = "full"') :]
    shares = shares.replace('figure = "none"', 'figure = "frontier"')
    path.write_text(shares + "".join([ours, *whole, *(IN_BYTES.format(method=method, more=few) for method in TRAINED)]))
    study = read_study(path)
    done = run_study(study, tmp_path / "out", Options(jobs=1))
    assert (done.n_failed, done.n_missing) == (0, 0)
    rows = {row["outcome"]: row for row in csv.DictReader((tmp_path / "out" / "rows.csv").open(encoding="utf-8"))}
    sizes, most = {name: int(row["bytes"]) for name, row in rows.items()}, int(0.3 * 4 * N * 24)
    assert sizes.pop("full") == 4 * N * 24 and max(sizes.values()) <= most
    # 47 rows of 8 numbers, each with a scale, and a scale for its column of the links; two links of two bytes; a bias of two.
    assert rows["c2f"]["note"] == "28 coarse and 19 fine rows" and sizes["c2f"] == 47 * 16 + 4 * N + 2 * 14 > most - 16
    assert sizes["c2f / int8"] == sizes["c2f"] and rows["c2f / int8"]["test_ndcg@20"] == rows["c2f"]["test_ndcg@20"]
    assert 0 < sizes["c2f / zero-fine"] < sizes["c2f"]
    # The figure is about what one may choose, not about what was damaged.
    assert {"c2f", "c2f / int8", *TRAINED} <= set(drawn) and "c2f / zero-fine" not in drawn


def test_what_has_no_numbers_to_store_is_refused(tmp_path):
    path = tmp_path / "popularity.toml"
    path.write_text(SHARES + IN_BYTES.format(method="popularity", more="").replace('bytes_of = "full"\nbytes_share = 0.3\n', ""))
    with pytest.raises(SettingsError, match="stored_as = 'int8', but popularity has no parameter 'stored_as'"):
        read_study(path)
    path.write_text(SHARES + IN_BYTES.format(method="ease", more="").replace("int8", "int4"))
    with pytest.raises(SettingsError, match="run 'ease': stored_as must be one of dtype, int8, not 'int4'"):
        read_study(path)


def test_no_more_rows_are_tried_than_there_may_be():
    settings = Settings.preset("default", n_coarse=10, n_fine=3200, dim=8)
    large = SimpleNamespace(n_users=40_000, n_items=30_000)
    found = with_rows_for_bytes(settings, "joint", 2_000_000, large)
    assert most_bytes(found, "joint", 40_000, 30_000) <= 2_000_000 and found.n_fine == 320 * found.n_coarse
