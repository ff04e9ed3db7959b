"""Samples of mutants: some of the catalogue, some made by machine. A minute, hence not among the tests marked `gradcheck`.

`python -m c2f_np gradcheck --mutants` tries the whole catalogue; docs/mutation.md has large samples of the others.
"""

import json

import pytest
from plain_python import one_process

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run():
    """The command, without a process of its own for each operation; that it starts one is seen by tests of the command."""
    with one_process() as run:
        yield run


@pytest.mark.parametrize("op", ["bridge", "soft_threshold", "bpr", "graph", "optimiser", "coarse_structure", "joint_stage"])
def test_every_mistake_of_the_catalogue_that_an_operation_must_notice(op, run):
    code, printed = run(mutants=True, op=op, json=True)
    found = json.loads(printed)["mutants"]
    assert found and code == 0, [f"{m['place']}: {m['mistake']}" for m in found if not m["killed_by"]]
    # By a check, not because something broke on the way.
    assert not any(name[0].isupper() for m in found for name in m["killed_by"])


@pytest.mark.parametrize(
    ("op", "within"),
    [
        ("joint_step", "model.joint"), ("assignment_update", "model.links"), ("optimiser", "model.step"),
        ("coarse_stage", "model.coarse"), ("batches", "model.sampling.drawn_batches"),
    ],
)  # fmt: skip
def test_no_mutant_of_a_sample_survives(op, within, run):
    """Of one module by the cases of one operation, on what these run; docs/mutation.md has samples of everything."""
    code, printed = run(op=op, within=within, mutate=8, seed=5, json=True)
    verdicts = [mutant["verdict"] for mutant in json.loads(printed)["mutants"]]
    assert code == 0 and len(verdicts) == 8 and "survived" not in verdicts
