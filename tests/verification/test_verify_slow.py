"""Mutants: of the catalogue all, of those made by machine a sample. Minutes, hence not among the tests marked `gradcheck`."""

import json

import pytest

from c2f_np.verification import command

pytestmark = pytest.mark.slow


def test_every_mistake_of_the_catalogue_is_killed_by_each_operation_that_must_notice(capfd):
    code = command.run(mutants=True, json=True)
    found = json.loads(capfd.readouterr().out)["mutants"]
    assert code == 0, [f"{m['operation']} lets it pass: {m['place']}: {m['mistake']}" for m in found if not m["killed_by"]]


@pytest.mark.parametrize(
    ("op", "within"),
    [
        ("joint_step", "model.joint"), ("assignment_update", "model.links"), ("optimiser", "model.step"),
        ("coarse_stage", "model.coarse"), ("batches", "model.sampling"),
    ],
)  # fmt: skip
def test_no_mutant_of_a_sample_survives(op, within, capfd):
    """Of one module by the cases of one operation, on what these run; docs/mutation.md has samples of everything."""
    assert command.run(op=op, within=within, mutate=12, seed=5, json=True) == 0
    verdicts = [mutant["verdict"] for mutant in json.loads(capfd.readouterr().out)["mutants"]]
    assert len(verdicts) == 12 and "survived" not in verdicts
