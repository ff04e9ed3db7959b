"""Files of exported models: round trips, and everything that is not one."""

import dataclasses
import io
import json
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from serving_models import hand_made

from c2f_np import C2FRecommender
from c2f_np.archive import write_archive
from c2f_np.baselines import load_baseline
from c2f_np.errors import ModelFileError, SettingsError
from c2f_np.serving import Served, load_exported
from c2f_np.serving.exported_file import KIND, VERSION
from c2f_np.serving.exporting import export_model, reduce_model
from tests.stored import stored

_ALONE = """
import sys
for name in ("scipy", "numba", "sklearn", "matplotlib", "pandas", "tqdm", "pymetis", "joblib"):
    sys.modules[name] = None  # importing it is an ImportError now
from c2f_np.serving import load_exported
served = load_exported(sys.argv[1])
items, _ = served.recommend("u2", 4)
alone, _ = served.recommend("u2", 4, from_table=False)
assert items.tolist() == alone.tolist()
new, _ = served.recommend_from(["film 0", "film 2"], 4, only=["film 1", "film 3"])
assert set(new[0]) == {"film 1", "film 3", ""} and len(served.similar_users("u2", 2)[0][0]) == 2
assert "(score)" in str(served.explain("u2", "film 1"))
print("|".join(items[0]))
foreign = {name.split(".")[0] for name, module in sys.modules.items() if module is not None}
print(",".join(sorted(foreign - sys.stdlib_module_names - {"numpy", "c2f_np"} - {"__main__"})))
"""


@pytest.fixture(scope="module", params=["default", "staged"])
def model(request):
    return hand_made(request.param)


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "small.npz"
    export_model(model, path, codebook="int8", weights="int8")
    return path


def test_numpy_alone_serves_it(path):
    run = subprocess.run([sys.executable, "-c", _ALONE, path], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    items, foreign = run.stdout.splitlines()
    assert items == "|".join(load_exported(path).recommend("u2", 4)[0][0])
    # What site-packages start by themselves (such as hooks of installed packages) is not ours to judge; these would be.
    assert not {"scipy", "numba", "sklearn", "matplotlib", "pandas"} & set(foreign.split(","))


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "int8"])
@pytest.mark.parametrize(
    "changed",
    [
        {"preset": "staged"}, {"preset": "staged", "is_fine": False}, {},
        {"gate": 0.3}, {"gate": 0.3, "t_direct": 0}, {"gate": 1.0}, {"gate": 1.0, "t_direct": 0},
        {"is_fine": False, "t_direct": 0},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_read_is_what_was_written(tmp_path, kind, changed):
    model = hand_made(**changed)
    export_model(model, tmp_path / "small.npz", codebook=kind, weights=kind)
    read, kept = load_exported(tmp_path / "small.npz"), Served(reduce_model(model, codebook=kind, weights=kind))
    assert_array_equal(read.embeddings(), kept.embeddings())
    assert read.embeddings().dtype == ("float64" if kind == "float64" else "float32")
    assert read.size_in_bytes() == kept.size_in_bytes() and read.about == kept.about
    of_codebooks = [array.nbytes for name, array in stored(tmp_path / "small.npz")[1].items() if name.startswith(("E_", "F"))]
    assert sum(of_codebooks) == read.size_in_bytes()["codebooks"]
    for ours, theirs in zip(read.recommend(model.user_ids, 12), kept.recommend(model.user_ids, 12), strict=True):
        assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_an_older_file_has_columns_where_newer_ones_have_bits(tmp_path, kind):
    model = hand_made("staged", threshold=1.5)
    export_model(model, tmp_path / "new.npz", codebook=kind)
    header, arrays = stored(tmp_path / "new.npz")
    places = np.unpackbits(arrays.pop("F.bitmap"), count=4 * 6).reshape(4, 6)
    arrays |= {"F.lengths": places.sum(axis=1, dtype=np.uint8), "F.indices": np.nonzero(places)[1].astype(np.uint8)}
    write_archive(tmp_path / "old.npz", KIND, 2, header, arrays)
    new, old = (load_exported(tmp_path / name) for name in ("new.npz", "old.npz"))
    assert_array_equal(old.embeddings(), new.embeddings())
    assert old.size_in_bytes() == new.size_in_bytes()


def test_zeros_and_duplicates_among_the_interactions_do_not_count(model):
    R, last_row = model.R, np.arange(10) == 9
    values, columns = np.append(np.ones(2 * R.nnz, np.int8), np.int8(0)), np.append(np.repeat(R.indices, 2), 5)
    every_pair_twice_and_a_zero = type(R)((values, columns, 2 * R.indptr + last_row), shape=R.shape)
    other = reduce_model(dataclasses.replace(model, R=every_pair_twice_and_a_zero)).R
    assert every_pair_twice_and_a_zero.nnz == 2 * R.nnz + 1
    assert_array_equal(other.indices, R.indices)
    assert_array_equal(other.lengths(), np.diff(R.indptr))


def test_ids_of_any_script(tmp_path):
    model = hand_made()
    users = np.array(["Żółw", "用户", "a b", "", "10", "2", "😀", "née", "a\nb"])
    export_model(dataclasses.replace(model, user_ids=users), tmp_path / "small.npz")
    assert_array_equal(load_exported(tmp_path / "small.npz").user_ids, users)


def test_smaller_types_make_smaller_files(tmp_path):
    model = hand_made(n_users=200, n_items=300, c=40, m=10, d=32)
    sizes = []
    for kind in ("float32", "float16", "int8"):
        export_model(model, tmp_path / kind, codebook=kind, weights=kind, with_ids=False)
        sizes.append((tmp_path / kind).stat().st_size)
        assert {member.compress_type for member in zipfile.ZipFile(tmp_path / kind).infolist()} == {zipfile.ZIP_DEFLATED}
    assert sizes[0] > sizes[1] > sizes[2]
    for leave_out in ({"with_interactions": False}, {"with_ids": False}):
        export_model(model, tmp_path / "less", codebook="int8", weights="int8", **({"with_ids": False} | leave_out))
        export_model(model, tmp_path / "more", codebook="int8", weights="int8")
        assert (tmp_path / "less").stat().st_size < (tmp_path / "more").stat().st_size


def test_unknown_types_and_numbers_too_large(model, tmp_path):
    for wrong in ({"codebook": "int4"}, {"weights": "float8"}):
        with pytest.raises(SettingsError, match="must be one of float64, float32, float16, int8"):
            reduce_model(model, **wrong)
    state = dataclasses.replace(model.state, E_coarse=model.state.E_coarse * 1e6)
    with pytest.raises(SettingsError, match="coarse codebook.*float16"):
        export_model(dataclasses.replace(model, state=state), tmp_path / "small.npz", codebook="float16")
    assert not list(tmp_path.iterdir())


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"user,item\n", pickle.dumps({"header": 1}), npz(a=np.arange(3)), npz(header=np.array(3)),
        npz(header=np.array([{}], dtype=object)),
        npz(header=np.frombuffer(json.dumps({"kind": KIND, "version": VERSION}).encode(), dtype=np.uint8)),
    ],
)  # fmt: skip
def test_foreign_files(tmp_path, content):
    (tmp_path / "small.npz").write_bytes(content)
    with pytest.raises(ModelFileError, match="small.npz"):
        load_exported(tmp_path / "small.npz")
    with pytest.raises(ModelFileError, match="none.npz: no such file"):
        load_exported(tmp_path / "none.npz")


class Loud:
    """Unpickling this would run code."""

    def __reduce__(self):
        return (pytest.fail, ("code was run",))


def test_nothing_is_unpickled(path, tmp_path):
    rest, arrays = stored(path)
    wrong = np.empty(1, object)
    wrong[0] = Loud()
    write_archive(tmp_path / "small.npz", KIND, VERSION, rest, arrays | {"item_bias": wrong})
    with pytest.raises(ModelFileError, match="small.npz"):
        load_exported(tmp_path / "small.npz")


def test_truncated_or_altered_files(path, tmp_path):
    whole, damaged = path.read_bytes(), tmp_path / "small.npz"
    rng = np.random.default_rng(0)
    for length in rng.integers(0, len(whole), 15):
        damaged.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match="small.npz"):
            load_exported(damaged)
    refused = 0
    for bit in rng.integers(0, 8 * len(whole), 80):
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << (bit % 8)
        damaged.write_bytes(altered)
        try:  # some bits, such as times in the zip directory, carry nothing
            load_exported(damaged).embeddings()
        except ModelFileError:
            refused += 1
    assert refused > 32


def test_another_version_or_parts_that_do_not_fit(path, tmp_path):
    rest, arrays = stored(path)
    wrong = tmp_path / "small.npz"

    def refused(match, new_header=rest, **changed):
        write_archive(wrong, KIND, VERSION, new_header, {k: v for k, v in (arrays | changed).items() if v is not None})
        with pytest.raises(ModelFileError, match=f"small.npz.*{match}"):
            load_exported(wrong)

    for version in (1, 4):
        refused(f"version {version}", rest | {"version": version})
    refused("not a c2f_np exported model, but a model: C2FRecommender.load reads it", rest | {"kind": "model"})
    write_archive(wrong, KIND, VERSION, rest, arrays)
    for load in (C2FRecommender.load, load_baseline):
        with pytest.raises(ModelFileError, match="but an exported model: .*load_exported reads it"):
            load(wrong)
    for name in rest:
        refused("missing", {key: value for key, value in rest.items() if key != name})
    for setting, value in (("gate", "a"), ("gate", float("nan")), ("degree", "none"), ("n_layers", -1), ("training", "x")):
        refused(setting, rest | {"settings": rest["settings"] | {setting: value}})
    refused("layer_bridge", rest | {"settings": {k: v for k, v in rest["settings"].items() if k != "layer_bridge"}})
    sizes = [("users", 8), ("items", 13), ("n_coarse", 6), ("dim", 7), ("n_fine", 3), ("users", 1.5), ("dim", None)]
    for size, value in sizes:
        refused("shape|dim|users|makes|beyond", rest | {"sizes": rest["sizes"] | {size: value}})
    for name in arrays:
        if not name.startswith(("interactions.l", "user_ids", "item_ids")) and name != "E_coarse.lengths":
            refused("missing", **{name: None})
    others = ["S_direct"] if "S_fine" in rest["assignments"] else ["S_fine"]
    for assignments in (["S_coarse"], others, ["S_coarse", *others], ["S_coarse", "bias"], [], None, [["S_coarse"]]):
        refused("assignments|missing", rest | {"assignments": assignments})
    refused("missing", **{"user_ids.lengths": None})
    refused("makes .* entries", **{"user_ids": arrays["user_ids"][1:]})
    refused("decode", **{"user_ids": arrays["user_ids"] | 0x80})
    refused("finite", **{"E_coarse.scale": arrays["E_coarse.scale"] * np.nan})
    refused("finite", item_bias=arrays["item_bias"] * np.inf)
    refused("beyond", **{"interactions.indices": np.full_like(arrays["interactions.indices"], 12)})
    refused("beyond", **{"S_coarse.indices": np.full_like(arrays["S_coarse.indices"], 5)})
    refused("entries|shape", **{"S_coarse.indices": arrays["S_coarse.indices"][1:]})
    refused("holds float32", **{"S_coarse.indices": arrays["S_coarse.indices"].astype(np.float32)})
    refused("shape", **{"interactions.lengths": arrays["interactions.lengths"][1:]})
    last = f"{rest['assignments'][-1]}.values"
    refused("holds <U", **{last: arrays[last].astype(str)})
