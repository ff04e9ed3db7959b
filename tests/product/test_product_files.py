"""Files of our own formats are checked before anything uses them: what does not fit is refused by file and field."""

import dataclasses
import io
import json
import os
import shutil
import tracemalloc
import zipfile

import numpy as np
import pytest

from c2f_np import C2FRecommender, Settings, SettingsError, load_dataset
from c2f_np.archive import Array, open_members
from c2f_np.cli import main
from c2f_np.data import read_csv, read_interactions
from c2f_np.errors import C2FError, DataError, ModelFileError
from c2f_np.parity import compare_with_reference
from c2f_np.run import read_json, read_request
from c2f_np.schema import LIMITS, Parameter, check_form, parameters_of, parse_json
from c2f_np.serving import load_exported
from c2f_np.settings import PRESETS
from c2f_np.training import train
from c2f_np.training.checkpoint import load_checkpoint, save_checkpoint
from tests.stored import stored, write

SMALL = {"n_coarse": 6, "n_fine": 4, "dim": 8, "t_fine": 2, "n_components": 4, "max_epochs": 2, "eval_every": 1,
         "partition": "random", "engine": "numpy"}  # fmt: skip
#: Between them, every array that there can be.
WAYS = {"staged": {}, "default": {"partition_epochs": 1, "table_epochs": 1, "gate": 0.3, "threshold": 0.5, "t_coarse": 2}}


@pytest.fixture(scope="module")
def data():
    return load_dataset("southern-women")


def settings_of(way):
    return Settings.preset(way, **SMALL | WAYS[way])


@pytest.fixture(scope="module", params=WAYS)
def trained(request, data, tmp_path_factory):
    """Settings, where a training stood after each epoch, and a model file."""
    settings, steps = settings_of(request.param), []
    model = C2FRecommender(settings=settings).fit(data, after_epoch=steps.append)
    path = tmp_path_factory.mktemp(request.param) / "model.npz"
    model.save(path)
    return settings, steps, path


def spoilt_arrays(arrays):
    """Each array of an archive, spoilt in every way that its type allows: (name, how, array)."""
    for name, array in arrays.items():
        yield name, "is missing", None
        yield name, "has the shape", array[None]
        yield name, "has the shape", np.concatenate([array.ravel(), array.ravel()])
        yield name, "holds", array.astype(array.dtype.newbyteorder()) if array.itemsize > 1 else array.astype("float32")
        if array.dtype.kind == "f":
            yield name, "holds float16", array.astype("float16")
            yield name, "holds float64", array.astype("float64")
            yield name, "not finite", np.append(array.ravel()[1:], np.nan).astype(array.dtype).reshape(array.shape)
        elif array.dtype.kind in "iu":
            yield name, "", np.full_like(array, np.array(-1).astype(array.dtype))
            yield name, "", np.full_like(array, np.iinfo(array.dtype).max)


def assert_all_refused(path, kind, header, arrays, read):
    for name, how, array in spoilt_arrays(arrays):
        write(path, kind, 1, header, arrays | {name: array})
        with pytest.raises(ModelFileError) as error:
            read(path)
        said = str(error.value)
        # All others are measured by the interactions, and the held-out ones by each other.
        measures = {"interactions": ("interactions", "user_ids", "state"), "held_out": ("held_out",)}
        named = measures.get(name.split(".")[0], (name,))
        assert str(path) in said and any(each in said for each in named) and (how in said or how == "has the shape"), said


@pytest.mark.slow
def test_every_array_of_a_checkpoint_must_fit_settings_and_data(trained, data, tmp_path):
    settings, steps, _ = trained
    path, step = tmp_path / "checkpoint.npz", steps[-2]  # of the last phase, with results of all others
    save_checkpoint(path, step, settings, data.fingerprint())
    header, arrays = stored(path)
    assert_all_refused(path, "checkpoint", header, arrays, lambda path: load_checkpoint(path, settings, data))
    negative = {name: -1 - values for name, values in arrays.items() if name.startswith("adam.square")}
    write(path, "checkpoint", 1, header, arrays | negative)
    with pytest.raises(ModelFileError, match="adam.square.* less than 0"):
        load_checkpoint(path, settings, data)


def test_every_array_of_a_model_must_fit_its_settings_and_the_others(trained, tmp_path):
    header, arrays = stored(trained[2])
    if header["settings"]["training"] == "stages":
        # Without it the file is a model of the coarse stage; below, nothing of the fine one is read.
        arrays = {name: array for name, array in arrays.items() if "_fine" not in name}
    assert_all_refused(tmp_path / "model.npz", "model", header, arrays, C2FRecommender.load)


def test_links_must_lead_somewhere_in_order(trained, tmp_path):
    header, arrays = stored(trained[2])
    path, name = tmp_path / "model.npz", "interactions"
    R = {part: arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr")}
    swapped = R["indices"].copy()
    swapped[:2] = swapped[1::-1]
    wrong = {
        "indices has a row that is not in order": {"indices": swapped},
        "or holds a column twice": {"indices": np.where(np.arange(len(swapped)) == 1, swapped[1], R["indices"])},
        "indptr does not lead": {"indptr": R["indptr"][::-1].copy()},
        "indptr does not lead through": {"indptr": R["indptr"] + 1},
        "not only ones": {"data": R["data"] * 2},
    }
    for what, parts in wrong.items():
        write(path, "model", 1, header, arrays | {f"{name}.{part}": values for part, values in parts.items()})
        with pytest.raises(ModelFileError, match=f"model.npz: {name}.*{what}"):
            C2FRecommender.load(path)
    t, links = header["settings"]["t_coarse"], arrays["state.S_coarse.indices"]
    starts = np.arange(0, len(links) + 1, t)
    starts[1] = 0
    write(path, "model", 1, header, arrays | {"state.S_coarse.indptr": starts})
    with pytest.raises(ModelFileError, match="state.S_coarse.indptr has a row of 0 links"):
        C2FRecommender.load(path)
    write(path, "model", 1, header, arrays | {"state.S_coarse.indices": np.repeat(links[::t], t)})
    with pytest.raises(ModelFileError, match="state.S_coarse.indices has a row that is not in order"):
        C2FRecommender.load(path)
    for ids in (np.repeat("x", 18), np.array(["\ud800"] * 18), np.array(["a"] * 18).view(np.uint32) + 0x110000):
        ids = ids.view("<U1") if ids.dtype.kind == "u" else ids
        write(path, "model", 1, header, arrays | {"user_ids": ids})
        with pytest.raises(ModelFileError, match="user_ids holds"):
            C2FRecommender.load(path)


@pytest.mark.parametrize(
    "field, value",
    [
        ("phase", "fourth"), ("phase", 5), ("stage_epoch", 10**9), ("phase_epoch", -1), ("phase_epoch", 1e400),
        ("adam_step", "x"), ("bad_evaluations", 2**63), ("bests", []), ("bests", {}), ("history", [{"phase": "coarse"}]),
        ("history", []), ("history", [3]),
        ("settings", 5), ("settings", {"dim": 10**9}), ("settings", {"colour": 1}), ("fingerprint", None),
    ],
)  # fmt: skip
def test_every_field_of_a_checkpoint_must_fit_the_others(data, tmp_path, field, value):
    settings, steps, path = settings_of("staged"), [], tmp_path / "c.npz"
    train(data, settings, after_epoch=steps.append)
    save_checkpoint(path, steps[3], settings, data.fingerprint())
    header, arrays = stored(path)
    write(path, "checkpoint", 1, header | {field: value}, arrays)
    with pytest.raises(ModelFileError, match=f"c.npz.*{field.removesuffix('s')}"):
        load_checkpoint(path, settings, data)


def test_progress_of_other_entities_reaches_no_kernel(data):
    settings, steps = settings_of("default"), []
    train(data, settings, after_epoch=steps.append)
    other = load_dataset("planted")
    with pytest.raises(SettingsError, match="32 entities; the data have 1800"):
        train(other, settings, progress=steps[0])
    mean = steps[0].moments.mean | {"bias": np.zeros(1, np.float32)}
    wrong = dataclasses.replace(steps[0], moments=dataclasses.replace(steps[0].moments, mean=mean))
    with pytest.raises(SettingsError, match="moments of bias of another shape"):
        train(data, settings, progress=wrong)


# ---- run folders -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "women"
    options = [word for name, value in (SMALL | WAYS["default"]).items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert main(["train", "southern-women", "--out", str(out), "--quiet", *options]) == 0
    return out


@pytest.mark.parametrize(
    "file, place, value, field",
    [
        ("run.json", ["data"], 5, "data must be text"), ("run.json", ["load_options"], [], "load_options must be a table"),
        ("run.json", ["load_options", "n_last"], "x", "load_options.n_last"),
        ("run.json", ["preset"], "best", "preset must be one of"),
        ("run.json", ["load_options", "shape"], 1, "unknown option of the data 'shape'"),
        ("run.json", ["settings", "n_layers"], 10**9, "n_layers must be at most 100"),
        ("run.json", ["settings", "seed"], 2**63, "seed must be at most"),
        ("run.json", ["settings"], None, "settings must be a table"),
        ("run.json", ["settings", "gate"], float("nan"), "gate must be finite"),
        ("metrics.json", ["test"], 3, "test must be a table"),
        ("metrics.json", ["test", "table"], {}, r"test.table.ndcg@5 is missing"),
        ("metrics.json", ["data"], {}, "data.name is missing"),
        ("metrics.json", ["test", "joint", "ndcg@5"], 10**400, "test.joint.ndcg@5 must be"),
        ("metrics.json", ["size_in_bytes", "joint"], {}, "size_in_bytes.joint.model is missing"),
        ("metrics.json", ["size_in_bytes"], {}, "size_in_bytes.popularity is missing"),
        ("metrics.json", ["protocol"], ["\ud800"], "surrogates"),
    ],
)  # fmt: skip
def test_every_field_of_a_run_folder(folder, tmp_path, capsys, file, place, value, field):
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    content = json.loads((copy / file).read_text())
    part = content
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    (copy / file).write_text(json.dumps(content))
    with pytest.raises(ModelFileError, match=f"{file}: .*{field}"):
        (read_request(copy) if file == "run.json" else read_json(copy / file))
    commands = (["evaluate"], ["control"]) if file == "run.json" else (["info"],)
    for command in commands:
        assert main([*command, str(copy)]) == 2
        assert file in capsys.readouterr().err


@pytest.mark.parametrize("raw", [b"", b"\xff", b"{", b"[" * 10**5, b"3" * 9000, b'{"a": ' * 60 + b"1" + b"}" * 60, b'"\\udc00"'])
def test_json_that_cannot_be_used(raw):
    with pytest.raises(ModelFileError, match="here: damaged"):
        parse_json(raw, "here")


def test_forms_name_the_place():
    form = {"a": [{"b": Parameter("", int, low=1)}], "c?": {"*": (None, Parameter("", float))}}
    check_form({"a": [{"b": 3}], "c": {"x": None, "y": 0.5}, "more": object}, form)
    wrong = {
        "a is missing": {}, "a must be a list, not 3": {"a": 3}, r"a\[1\] must be a table": {"a": [{"b": 1}, 2]},
        r"a\[0\].b must be at least 1, not 0": {"a": [{"b": 0}]}, "c.y must be finite": {"a": [], "c": {"y": float("nan")}},
        "the whole must be a table": [],
    }  # fmt: skip
    for what, value in wrong.items():
        with pytest.raises(SettingsError, match=what):
            check_form(value, form)


# ---- memory ----------------------------------------------------------------------------------------------------------------
def bomb(path, into, name, array, method=zipfile.ZIP_DEFLATED):
    """A copy of an archive in which a member is 100 million bytes of zeros."""
    with zipfile.ZipFile(path) as file:
        members = {info.filename: file.read(info) for info in file.infolist()}
    content = io.BytesIO()
    np.lib.format.write_array(content, array)
    with zipfile.ZipFile(into, "w", method) as file:
        for member, raw in (members | {f"{name}.npy": content.getvalue()}).items():
            file.writestr(member, raw)
    assert into.stat().st_size < 10**6


def peak_of(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_stays_in_proportion_to_the_file(trained, data, tmp_path):
    _, _, path = trained
    zeros, into = np.zeros(10**8, np.uint8), tmp_path / "bomb.npz"
    bomb(path, into, "x", zeros)  # a member that nobody knows is not read
    assert peak_of(lambda: C2FRecommender.load(into)) < 3 * 10**7

    def refused():
        with pytest.raises(ModelFileError, match="bomb.npz: .*(proportion|shape)"):
            C2FRecommender.load(into)

    for name, dtype in (("header", np.uint8), ("user_ids", "<U1000"), ("interactions.indices", np.int32), ("state.bias", "f4")):
        bomb(path, into, name, zeros.view(dtype))
        assert peak_of(refused) < 3 * 10**7
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        bomb(path, into, "state.bias", np.zeros(3, np.float32), method)
        with pytest.raises(ModelFileError, match="compressed in a way"):
            C2FRecommender.load(into)


def test_a_reference_file_is_looked_at_before_it_is_read(tmp_path):
    case = os.path.join(os.path.dirname(__file__), "..", "parity", "case_a.npz")

    def refused():
        with pytest.raises(DataError, match="interactions .*proportion"):
            compare_with_reference(tmp_path / "bomb.npz")

    bomb(case, tmp_path / "bomb.npz", "interactions", np.zeros((10**5, 1000), np.int8))
    assert peak_of(refused) < 10**6


def test_what_an_exported_model_would_need_is_in_proportion_to_its_file(folder, tmp_path):
    assert main(["export", str(folder), "--out", str(tmp_path / "small.npz")]) == 0
    header, arrays = stored(tmp_path / "small.npz")

    def refused(match, sizes=(), **changed):
        write(tmp_path / "small.npz", "exported model", 2, header | {"sizes": header["sizes"] | dict(sizes)}, arrays | changed)
        with pytest.raises(ModelFileError, match=f"small.npz: .*{match}"):
            load_exported(tmp_path / "small.npz")

    # A sparse codebook without entries, and entities without links, are as good as nothing in the file.
    empty = {"lengths": np.uint8(0), "indices": np.zeros(0, np.uint8), "values": np.zeros(0, np.float32)}
    books = {f"{name}.{part}": array for name in ("E_coarse", "F") for part, array in empty.items()}
    refused("the codebooks takes", {"dim": 2**31 - 1}, E_coarse=None, F=None, **books)
    links = {f"S_coarse.{part}": array for part, array in empty.items()}
    refused("S_coarse.lengths is not one number", **links)
    many = {"users": 2**31 - 1, "dim": 1000}
    left_out = dict.fromkeys(("interactions.lengths", "user_ids", "user_ids.lengths"))
    refused("the table of embeddings takes|shape", many, E_coarse=None, F=None, **books, **links, **left_out)
    header["settings"]["n_layers"] = 10**9
    refused("n_layers must be at most 100")


@pytest.mark.parametrize(
    "shape, descr", [("(10**30,)", "'<f4'"), (f"({10**30},)", "'<f4'"), ("(-1,)", "'<f4'"), (f"({10**9},)", "'<U0'"),
                     ("(3,)", "'|O'"),
                     ("(0, 99999999999)", "'<f4'"), ("(3,)", "'<f2'"), ("(3,)", "[('a', '<f4')]"), ("(3,)", "'>f4'")],
)  # fmt: skip
def test_what_an_array_promises_is_checked_before_it_is_read(tmp_path, shape, descr):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(12)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("x.npy", content)
    with open_members(tmp_path / "x.npz") as members, pytest.raises(ModelFileError, match="x.npz: x "):
        members.read_all({"x": Array("float32", (3,))})


def test_a_member_that_is_there_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("x.npy", b"1")
        with pytest.warns(UserWarning):
            file.writestr("x.npy", b"2")
    with pytest.raises(ModelFileError, match="'x' is there twice"), open_members(tmp_path / "x.npz"):
        pass


# ---- limits ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [name for name, each in parameters_of(Settings).items() if each.kind in (int, float)])
def test_every_number_has_an_upper_limit(name):
    """The same for the constructor and for a stored file."""
    kind = parameters_of(Settings)[name].kind
    for value in (2**63, 10**400, 10**5000) if kind is int else (1e31, float("inf"), float("nan"), 10**400):
        with pytest.raises(SettingsError, match=f"^{name} must be"):
            Settings(**{name: value})
        with pytest.raises(SettingsError, match=f"^{name} must be"):
            Settings.from_dict(Settings().to_dict() | {name: value})


def test_limits_are_those_of_settings_and_above_what_the_presets_use():
    for preset in PRESETS:
        for name, value in Settings.preset(preset).to_dict().items():
            assert value in (True, False) or not isinstance(value, int) or value <= LIMITS.get(name, 2**31 - 1) / 10
    assert Settings(n_layers=100).n_layers == 100
    with pytest.raises(SettingsError, match="n_layers must be at most 100, not 101"):
        Settings(n_layers=101)


@pytest.mark.parametrize(
    "words", [["recommend", "x", "--user", "1", "-k", "0"], ["recommend", "x", "--user", "1", "-k", str(2**63)],
              ["gradcheck", "--jobs", "0"],
              ["gradcheck", "--jobs", "9" * 30], ["gradcheck", "--seed", "-1"], ["study", "presets", "--jobs", "-1"],
              ["study", "presets", "--seeds", str(2**32)], ["study", "presets", "--seeds", "9" * 5000], ["info", "a\udcffb"],
              ["gradcheck", "--mutate", "0"]],
    ids=lambda words: " ".join(words)[:40].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_numbers_beyond_the_limits_of_other_options(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1 and len(said) < 6000


# ---- data ------------------------------------------------------------------------------------------------------------------
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_or_a_device_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "train.txt")
    (tmp_path / "test.txt").write_text("0 1\n")
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path, tmp_path / "pipe.csv", "/dev/zero"):
        with pytest.raises(DataError, match="pipe or a device"):
            read_interactions(path)
    for path in (tmp_path / "train.txt", "/dev/zero"):
        for read in (C2FRecommender.load, load_exported, compare_with_reference):
            with pytest.raises(C2FError, match="not a file"):
                read(path)


def test_one_long_id_among_many_takes_no_memory_out_of_proportion(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("user,item\n" + "x" * 100_000 + ",1\n" + "\n".join(f"{u},{u % 7}" for u in range(5000)), encoding="utf-8")
    with pytest.raises(DataError, match="a user id has 100,000 characters, far more than the others"):
        read_csv(path)
    path.write_text("user,item\n" + "x" * 1000 + ",1\n" + "\n".join(f"{u},{u % 7}" for u in range(5000)), encoding="utf-8")
    assert read_csv(path).n_users == 5001
