"""Parity: the published code's numbers, an independent dense model at other sizes, files that differ or are broken."""

import json
from pathlib import Path

import numpy as np
import pytest
from dense_reference import reference

from c2f_np.errors import DataError, SettingsError
from c2f_np.parity import TOLERANCE, compare_with_reference, main_parity, scaled_error

HERE = Path(__file__).parent
CASES = [HERE / f"case_{letter}.npz" for letter in "abc"]
ENGINES = ("numpy", "numba")


def contents(path=CASES[0]):
    with np.load(path) as stored:
        return dict(stored)


@pytest.fixture
def changed(tmp_path):
    """Write case_a with some keys replaced (None: left out)."""

    def write(base=None, **changes):
        data = {**(contents() if base is None else base), **changes}
        path = tmp_path / "changed.npz"
        np.savez(path, **{key: value for key, value in data.items() if value is not None})
        return path

    return write


def meta_with(**changes):
    meta = json.loads(str(contents()["meta"]))
    meta.update(changes)
    return json.dumps({key: value for key, value in meta.items() if value is not None})


# --- the published code's numbers


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_quantity_of_the_published_code(path, engine):
    report = compare_with_reference(path, engine=engine)
    inputs = {"interactions", "meta", "metric_relevant", "S_coarse", "S_fine", "E_coarse", "E_fine", "bias_user_item",
              "bias_global", "batch_user", "batch_pos", "batch_neg"}  # fmt: skip
    assert set(report.errors) == set(contents(path)) - inputs
    assert {name: error for name, error in report.errors.items() if not error <= TOLERANCE} == {}
    assert report.passed and report.worst < 1e-13 and not report.absent
    assert "agrees" in str(report) and report.worst_quantity in str(report)


def test_table_has_both_engines_and_every_quantity(capsys):
    assert main_parity(CASES) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.splitlines()[0].split()[-2:] == ["numpy", "numba"]
    for name in compare_with_reference(CASES[0]).errors:
        assert f"\n{name} " in shown.out
    assert shown.out.count("agrees") == 6
    assert main_parity(CASES[:1], "numpy") == 0
    assert "numba" not in capsys.readouterr().out


# --- other sizes, an independent model

SETTINGS = {
    "plain": {},
    "no layers": dict(n_layers=0),
    "six layers": dict(n_layers=6),
    "t = C": dict(t_coarse=4, t_fine=3),
    "isolated users and items": dict(density=0.15),
    "negative weights": dict(negative=True),
    "one fine row": dict(n_fine=1, t_fine=1),
    "one coarse row": dict(n_coarse=1, t_coarse=1),
    "width 1": dict(dim=1),
    "width 7": dict(dim=7, n_coarse=6),
    "long lists, other ks": dict(length=6, ks=(2, 6, 9)),
    "short lists": dict(length=2, ks=(1,)),
    "gate 0": dict(gate=0.0),
    "gate 1": dict(gate=1.0),
    "no threshold": dict(threshold=0.0),
    "all below the threshold": dict(threshold=9.0),
    "all below the threshold, no layers": dict(threshold=9.0, n_layers=0),
    "clipped": dict(clip=1e-3, lr=0.5),
    "one triple": dict(batch=1),
    "tanh saturated": dict(E_coarse=np.random.default_rng(5).normal(size=(4, 2)) * 12),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_independent_dense_model(settings, changed):
    path = changed(base=reference(np.random.default_rng(0), **settings))
    for engine in ENGINES:
        report = compare_with_reference(path, engine=engine)
        assert report.passed, str(report)


def test_noise_in_gradients_that_are_exactly_zero_is_no_difference(changed):
    data = contents()
    rng = np.random.default_rng(1)
    for stage in ("coarse", "fine"):
        for name, rows in (("bias_user_item", slice(0, 12)), ("bias_global", slice(0, 1))):
            grad, after = data[f"{stage}_grad_{name}"], data[f"{stage}_after3_{name}"]
            noise = rng.normal(size=grad[rows].shape) * 1e-17
            grad[rows] += noise
            after[rows] -= 3 * 0.01 * noise / 1e-8  # what Adam makes of it
    path = changed(base=data)
    assert compare_with_reference(path).passed
    # ... but not any difference, and not without noise in the gradients
    data["coarse_after3_bias_global"] = data["coarse_after3_bias_global"] + 1e-8
    assert not compare_with_reference(changed(base=data)).passed
    without = contents()
    without["coarse_after3_bias_global"] = without["coarse_after3_bias_global"] + 1e-11
    assert compare_with_reference(changed(base=without)).errors["coarse_after3_bias_global"] > TOLERANCE


def test_places_without_unmasked_items_may_hold_any_masked_ones(changed):
    data = contents()
    assert data["metric_topk"].shape == (12, 10)
    R, order = data["interactions"], []
    for user, scores in enumerate(data["coarse_scores"]):
        free = [i for i in np.argsort(-scores) if not R[user, i]]
        order.append(free + list(np.flatnonzero(R[user]))[::-1])
    assert compare_with_reference(changed(metric_topk=np.array(order))).passed
    padded = np.array(order)
    for user in range(12):
        padded[user, 15 - R[user].sum() :] = -1
    assert compare_with_reference(changed(metric_topk=padded)).passed
    order[3][0], order[3][-1] = order[3][-1], order[3][0]  # a masked item on top
    assert compare_with_reference(changed(metric_topk=np.array(order))).errors["metric_topk"] == np.inf


def test_ties_within_rounding_may_be_ranked_and_chosen_either_way(changed):
    """Two items without interactions, equal in everything; all fine rows equal, so that softmax is uniform."""
    rng = np.random.default_rng(3)
    R = (rng.random((4, 6)) < 0.5).astype(float)
    R[:, 2:4] = 0
    S = np.full((10, 4), 0.25)
    data = reference(rng, interactions=R, S_coarse=S, t_coarse=4, bias_user_item=np.zeros(10), length=6, threshold=9.0,
                     n_layers=0, ks=(6,))  # fmt: skip
    topk = data["metric_topk"]
    swapped = np.where(topk == 2, 3, np.where(topk == 3, 2, topk))
    assert (topk != swapped).any()
    assert compare_with_reference(changed(base=data | {"metric_topk": swapped})).errors["metric_topk"] == 0
    other = np.zeros((4, 3))
    other[:, 1:] = 1 / 3
    assert compare_with_reference(changed(base=data | {"fine_updated_S_fine": other})).errors["fine_updated_S_fine"] < 1e-15
    other[0] = [0.4, 0.4, 0]
    assert compare_with_reference(changed(base=data | {"fine_updated_S_fine": other})).errors["fine_updated_S_fine"] > 0.1


def test_an_assignment_at_the_wrong_column_is_a_difference(changed):
    S = contents(CASES[2])["coarse_updated_S_coarse"]  # one entry a row
    S[4] = np.roll(S[4], 1)
    report = compare_with_reference(changed(base=contents(CASES[2]), coarse_updated_S_coarse=S))
    assert report.errors["coarse_updated_S_coarse"] > 1e-3


def test_a_swap_in_the_ranking_is_a_difference(changed):
    topk = contents()["metric_topk"]
    topk[5, [0, 1]] = topk[5, [1, 0]]
    assert compare_with_reference(changed(metric_topk=topk)).errors["metric_topk"] > 1e-6
    topk[5, 1] = topk[5, 0]  # an item twice
    assert compare_with_reference(changed(metric_topk=topk)).errors["metric_topk"] == np.inf


# --- files that differ


@pytest.mark.parametrize("key", [key for key, value in contents().items() if value.dtype.kind == "f"])
def test_one_number_off_by_a_billionth_is_seen(key, changed):
    array = contents()[key]
    place = np.argmax(np.abs(array))
    array.flat[place] += 1e-9
    assert not compare_with_reference(changed(**{key: array})).passed
    array.flat[place] = np.nan
    report = compare_with_reference(changed(**{key: array}))
    assert not report.passed and np.isnan(report.worst)


def test_exit_code_of_a_difference(changed, capsys):
    losses = contents()["fine_losses_3_adam_steps"]
    losses[1] += 1e-9
    assert main_parity([CASES[1], changed(fine_losses_3_adam_steps=losses)]) == 1
    shown = capsys.readouterr().out
    assert "fine_losses_3_adam_steps" in shown and "<-- beyond 1e-12" in shown and shown.count("DIFFERS") == 2


# --- files that are not one


@pytest.mark.parametrize("key", [key for key in contents() if not key.startswith("metric_")] + ["metric_relevant"])
def test_a_missing_key_is_named(key, changed):
    path = changed(**{key: None})
    with pytest.raises(DataError, match=f"{path.name}: {key} is missing"):
        compare_with_reference(path)


@pytest.mark.parametrize("key", [key for key in contents() if key != "meta"])
def test_a_wrong_shape_is_named(key, changed):
    array = np.stack([contents()[key]] * 2)
    with pytest.raises(DataError, match=f"{'batch_user|batch_pos|batch_neg' if 'batch' in key else key}"):
        compare_with_reference(changed(**{key: array}))


def test_the_evaluation_may_be_left_out(changed):
    nothing = {key: None for key in contents() if key.startswith("metric_")}
    report = compare_with_reference(changed(**nothing))
    assert report.passed and len(report.absent) == 3
    report = compare_with_reference(changed(metric_topk=None, metric_ndcg_5=None))
    assert report.passed and report.absent == ("metric_topk",) and "metric_ndcg_3" in report.errors
    report = compare_with_reference(changed(**nothing | {"metric_topk": contents()["metric_topk"]}))
    assert report.passed and "metric_topk" in report.errors


def test_settings_with_a_published_default_may_be_left_out(changed):
    text = meta_with(lr=None, clip=None, decay=None, l2_penalty_factor=None, loss=None, dim=None, n_users=None)
    assert compare_with_reference(changed(meta=text)).passed


@pytest.mark.parametrize(
    "changes",
    [
        dict(gate=None),
        dict(gate="0.2"),
        dict(gate=float("nan")),
        dict(gate=True),
        dict(gate=10**400),
        dict(n_layers=-1),
        dict(n_layers=1.5),
        dict(n_layers=10**9),
        dict(threshold=-1),
        dict(t_coarse=0),
        dict(t_coarse=6),
        dict(t_fine=5),
        dict(clip=0),
        dict(dim=9),
    ],
    ids=str,
)
def test_impossible_settings(changes, changed):
    with pytest.raises(DataError, match=f"'meta'.*{next(iter(changes))}"):
        compare_with_reference(changed(meta=meta_with(**changes)))


@pytest.mark.parametrize("key", ["n_users", "dim"])
def test_a_long_value_is_cut_short(key, changed):
    with pytest.raises(DataError, match=key) as error:
        compare_with_reference(changed(meta=meta_with(**{key: "y" * 5000})))
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("meta", ["{", "[1]", np.array(3), np.array(["{}", "{}"])], ids=str)
def test_meta_that_is_not_an_object(meta, changed):
    with pytest.raises(DataError, match="'meta'"):
        compare_with_reference(changed(meta=meta))


def test_wrong_contents(changed):
    with pytest.raises(DataError, match="batch_user.*outside 0..11"):
        compare_with_reference(changed(batch_user=np.full(32, 12)))
    with pytest.raises(DataError, match="batch_pos.*integers"):
        compare_with_reference(changed(batch_pos=np.zeros(32)))
    with pytest.raises(DataError, match="E_coarse.*real numbers"):
        compare_with_reference(changed(E_coarse=contents()["E_coarse"].astype(complex)))
    with pytest.raises(DataError, match="E_coarse.*real numbers"):
        compare_with_reference(changed(E_coarse=contents()["E_coarse"].astype(str)))
    with pytest.raises(DataError, match="E_coarse is no plain array"):
        compare_with_reference(changed(E_coarse=np.array([{"a": 1}], dtype=object)))


def test_files_that_cannot_be_read(tmp_path, capsys):
    text, short, single, damaged = (tmp_path / name for name in ("text.npz", "short.npz", "single.npz", "damaged.npz"))
    text.write_text("user,item\n1,2\n")
    whole = CASES[0].read_bytes()
    short.write_bytes(whole[: len(whole) // 2])
    with single.open("wb") as file:
        np.save(file, np.arange(3))
    middle = len(whole) // 2
    damaged.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    empty = tmp_path / "empty.npz"
    empty.write_bytes(b"")
    for path in (text, short, single, damaged, empty, tmp_path, tmp_path / "nowhere.npz"):
        with pytest.raises(DataError, match=str(path)):
            compare_with_reference(path)
        assert main_parity([path, CASES[0]], "numpy") == 2
        shown = capsys.readouterr()
        assert shown.err.count("\n") == 1 and str(path) in shown.err
        assert "agrees" in shown.out  # the good file is compared all the same
    assert main_parity([]) == 2


def test_unknown_engine():
    with pytest.raises(SettingsError):
        compare_with_reference(CASES[0], engine="torch")
    with pytest.raises(SettingsError):
        main_parity(CASES, "torch")


# --- measuring


def test_relative_error():
    assert scaled_error([1.0, 2.0], [1.0, 4.0]) == 0.5
    assert scaled_error([1e-3], [0.0]) == 1e-3
    assert scaled_error([1e-3], [0.0], natural=10.0) == pytest.approx(1e-2)
    assert scaled_error([1e-3], [0.0], noise=1e-3) == pytest.approx(TOLERANCE)
    assert np.isnan(scaled_error([np.nan], [np.nan]))
    assert np.isnan(scaled_error([np.inf], [np.inf]))


def test_inputs_are_stored_in_any_layout(changed):
    layouts = {key: np.asfortranarray(value) for key, value in contents().items() if value.ndim == 2}
    layouts["E_coarse"] = contents()["E_coarse"].astype(">f8")
    layouts["interactions"] = contents()["interactions"].astype(bool)
    for engine in ENGINES:
        assert compare_with_reference(changed(**layouts), engine=engine).passed
