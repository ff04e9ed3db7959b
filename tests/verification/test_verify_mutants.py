"""Mistakes put into the backward passes are noticed, each by the operation's own cases."""

import importlib
import json
import re

import pytest

from c2f_np.errors import SettingsError
from c2f_np.verification import changes, command
from c2f_np.verification.changes import definitions
from c2f_np.verification.mutants import MUTANTS, Mutant, applied, kill
from c2f_np.verification.mutation import mutated_modules

pytestmark = pytest.mark.gradcheck

# One of each kind, quick; all of them in test_verify_slow.py.
SOME = ("model.loss.bpr_backward", "model.codebook.bridge_backward", "model.codebook.soft_threshold", "model.sparse")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_what_is_replaced_stands_in_the_function_exactly_once(mutant):
    change = mutant.change()
    before, _, after = change.text.partition(" => ")
    assert before != after
    with change.edit.made():  # not refused by the compiler: that would be taken for a kill
        assert changes._compiled(change).co_qualname == change.name


def test_every_backward_pass_has_mutants():
    """Functions and methods of the model whose name says that they are a backward pass."""
    places = {mutant.place for mutant in MUTANTS}
    missing = {
        f"{module}.{name}"
        for module in mutated_modules()
        if module.startswith(("model.", "baselines."))
        for name in definitions(f"c2f_np.{module}")
        if re.search(r"(^|\.)(adjoint|gradients|[a-z]\w*(_backward\w*|_gradients?))$", name)
    }
    # These call others that are in the catalogue, and nothing else.
    passed_on = {
        "model.graph.expand_backward", "model.graph.expanded_graph_backward", "model.sparse.SparseOperator.structure_gradients",
        "model.coarse.CoarseStage.gradients", "model.fine.FineStage.gradients", "model.joint.JointStage.gradients",
        "baselines.table_stage.Table.ego_backward", "baselines.table_stage.FullTable.ego_backward",
        "baselines.table_stage.HashedTable.ego_backward", "baselines.table_stage.QuotientRemainderTable.ego_backward",
    }  # fmt: skip
    assert missing - places == passed_on


def test_a_mutant_is_found_wherever_the_function_was_imported_and_gone_afterwards():
    from c2f_np.model import codebook, text

    before, code = codebook.compose_backward, codebook.compose_backward.__code__
    mutant = next(m for m in MUTANTS if m.place == "model.codebook.compose_backward")
    with applied(mutant):
        assert codebook.compose_backward.__code__ is not code
        assert text.compose_backward is codebook.compose_backward is before
    assert before.__code__ is code


def test_a_mutant_of_a_method_is_found_by_the_classes_that_inherit_it():
    from c2f_np.kernels import BridgedLayer
    from c2f_np.model import propagation

    code = propagation.BridgedLayer.adjoint.__code__
    mutant = next(m for m in MUTANTS if m.place == "model.propagation.BridgedLayer.adjoint")
    with applied(mutant):
        assert BridgedLayer.adjoint.__code__ is not code
    assert BridgedLayer.adjoint.__code__ is code


def test_what_is_not_there_or_there_twice_is_refused():
    for old in ("no_such_name + 1", "slope"):
        with pytest.raises(ValueError, match="times in the function"):
            Mutant("model.loss.bpr_backward", "cannot be", old, "0", ()).change()


def test_a_compiled_kernel_cannot_be_changed_in_place():
    mutant = next(m for m in MUTANTS if m.place.startswith("kernels."))
    with pytest.raises(RuntimeError, match="NUMBA_DISABLE_JIT"), applied(mutant):
        pass


@pytest.mark.slow
def test_a_mutant_of_a_kernel_is_killed_where_kernels_are_not_compiled():
    mutant = next(m for m in MUTANTS if m.place == "kernels.propagation._weights_gradient")
    (outcome,) = kill(mutant, "numba", op="sparse_product")
    assert outcome.killed and outcome.mutant == mutant and "numba" in outcome.case


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.place.startswith(SOME)], ids=lambda m: m.name)
def test_some_mutants_are_killed(mutant):
    engine = "numpy" if "numba" not in mutant.mistake else "numba"
    (outcome,) = kill(mutant, engine, op=mutant.expects[0])
    assert outcome.killed, f"{outcome.operation} lets it pass: {mutant.name}"


@pytest.mark.slow
def test_the_command_says_who_killed_whom(capfd):
    assert command.run(op="bridge", mutants=True) == 0
    out = capfd.readouterr().out
    assert "the halves of the bridge exchanged" in out and "central_difference" in out and "0 survived" in out


@pytest.mark.slow
def test_the_command_lists_kernels_too(capfd):
    assert command.run(op="regulariser", mutants=True, json=True) == 0
    data = json.loads(capfd.readouterr().out)
    killed = {m["place"]: m["killed_by"] for m in data["mutants"]}
    assert any(place.startswith("kernels.") for place in killed) and all(killed.values())


def test_an_unknown_operation_is_a_settings_error():
    with pytest.raises(SettingsError):
        importlib.import_module("c2f_np.verification.mutants").run_mutants(op="convolution")
