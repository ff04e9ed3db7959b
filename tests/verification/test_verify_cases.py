"""Every case of every operation and stage passes, with the promised figures, for both engines."""

import json

import pytest

from c2f_np.errors import SettingsError
from c2f_np.processes import Workers
from c2f_np.verification import command
from c2f_np.verification.catalogue import CHECKED, cases
from c2f_np.verification.interpreted import environment_of_workers
from c2f_np.verification.operations import OPERATIONS
from c2f_np.verification.sampling import SAMPLING
from c2f_np.verification.threads import one_kernel_thread

pytestmark = pytest.mark.gradcheck

INTERPRETED = ("sparse_product", "compose", "bridge", "propagate", "propagate_bridged", "propagate_collapsed", "graph", "bpr",
               "regulariser", "optimiser", "assignment_update", "triples", "ranking", "buffers", "row_groups",
               "refusals")  # fmt: skip
FLOATS = ("central_difference", "complex_step", "taylor_rate", "adjoint")


def hold(report):
    """The figures, asserted here once more and independently of what the cases demand of themselves."""
    assert report.passed, str(report)
    for v in report.verdicts:
        if v.check in FLOATS and "as declared" not in v.reason:
            assert v.status == "passed", str(report)
        if "as declared" in v.reason:
            continue
        if v.check == "central_difference":
            assert v.figure < 1e-8, str(report)
        if v.check == "complex_step":
            assert v.figure < 1e-13, str(report)
        if v.check == "taylor_rate":
            assert v.figure > 1.9, str(report)
        if v.check == "adjoint":
            assert v.figure < 1e-14, str(report)
        if v.check == "float32":
            assert v.figure <= 1, str(report)


def _checks():
    for op in CHECKED:
        for engine in ("numpy", "numba"):
            # What is made of operations takes longest. Its compiled engine is held to the other one by quick tests too.
            is_slow = op in ("beyond", "many", "joint_step") or (engine == "numba" and op not in OPERATIONS | SAMPLING)
            slow = [pytest.mark.slow] if is_slow else []
            yield pytest.param(op, engine, marks=slow, id=f"{op}-{engine}")


@pytest.mark.parametrize(("op", "engine"), list(_checks()))
def test_every_case_passes(op, engine):
    with one_kernel_thread():
        for case in cases(op, engine, seed=1):
            if not case.interpreted:
                hold(case.run(1))


@pytest.fixture(scope="module")
def plain():
    """A process in which kernels are plain Python."""
    with Workers(1, environment_of_workers(compiled=False)) as workers:
        yield workers


def _interpreted(op):
    return [number for number, case in enumerate(cases(op, "numba", 1)) if case.interpreted]


@pytest.mark.slow
@pytest.mark.parametrize("op", INTERPRETED)
def test_every_interpreted_case_passes(op, plain):
    numbers = _interpreted(op)
    for report in [plain.submit(command._run_task, op, "numba", 1, number) for number in numbers]:
        hold(report.result())
    assert numbers


@pytest.mark.slow
def test_no_operation_has_other_interpreted_cases():
    assert {op for op in CHECKED if _interpreted(op)} == set(INTERPRETED)


def test_every_point_that_was_asked_for_is_there():
    names = [case.name for case in cases("propagate")]
    differences = [name for name in names if ", not symmetric, " in name]
    assert {engine for engine in ("numpy", "numba") if any(f"[{engine}]" in name for name in differences)} == {"numpy", "numba"}
    for n_layers in range(6):
        assert any(f"L = {n_layers}, not symmetric" in name for name in differences)


def test_the_command_prints_one_table_and_says_0(capsys):
    assert command.run(op="bridge", engine="numpy", seed=3) == 0
    out = capsys.readouterr().out
    assert "central diff." in out and "0 failed" in out and "seed 3" in out


def test_the_command_speaks_json(capsys):
    assert command.run(op="bridge", engine="numpy", json=True) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["passed"] and {case["engine"] for case in data["cases"]} == {"numpy"}


def test_the_command_says_1_and_where_when_a_gradient_is_wrong(capsys, monkeypatch):
    from c2f_np.model import codebook

    right = codebook.bridge_backward

    def wrong(*args, **options):
        grad_E_coarse, grad_F = right(*args, **options)
        return grad_E_coarse, 1.03 * grad_F

    monkeypatch.setattr(codebook, "bridge_backward", wrong)
    assert command.run(op="bridge", engine="numpy") == 1
    out = capsys.readouterr().out
    assert "FAILED" in out and "factor" in out and "bridge [numpy]" in out


@pytest.mark.parametrize("wrong", [{"op": "convolution"}, {"engine": "cuda"}, {"seed": -1}])
def test_an_unknown_name_is_a_settings_error(wrong):
    with pytest.raises(SettingsError) as error:
        command.run(**wrong)
    if "op" in wrong:
        assert all(name in str(error.value) for name in CHECKED)
