"""Mistakes put into the backward passes are noticed, each by the operation's own cases."""

import pytest

from c2f_np.verification import command
from c2f_np.verification.mutants import MUTANTS, applied, kill

pytestmark = pytest.mark.gradcheck

# One of each kind, quick; all of them in test_verify_slow.py.
SOME = ("operations.bpr.bpr_backward", "operations.bridging.bridge_backward", "operations.soft_threshold")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_the_text_to_replace_stands_in_the_source_exactly_once(mutant):
    assert mutant.source().count(mutant.old) == 1
    assert mutant.old != mutant.new


def test_every_backward_pass_has_mutants():
    """Functions of operations and stages whose name says that they are a backward pass."""
    from c2f_np.verification.mutants import _package_modules

    places = {mutant.place for mutant in MUTANTS}
    missing = []
    for module in _package_modules():
        short = module.__name__.removeprefix("c2f_np.")
        if not short.startswith(("operations.", "stages.")):
            continue
        for name, value in vars(module).items():
            backward = "_backward" in name or name.endswith("_gradients")
            if backward and callable(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                missing += [f"{short}.{name}"] if f"{short}.{name}" not in places else []
    # These call two others that are in the catalogue, and nothing else.
    passed_on = {"operations.graph_backward.expand_backward", "operations.graph_backward.expanded_graph_backward"}
    assert set(missing) <= passed_on


def test_a_mutant_is_gone_afterwards():
    from c2f_np.operations import composition
    from c2f_np.stages import coarse

    before = composition.compose_backward
    mutant = next(m for m in MUTANTS if m.place == "operations.composition.compose_backward")
    with applied(mutant):
        assert composition.compose_backward is not before
        assert coarse.compose_backward is composition.compose_backward
    assert composition.compose_backward is before and coarse.compose_backward is before


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.place.startswith(SOME)], ids=lambda m: m.name)
def test_some_mutants_are_killed(mutant):
    (outcome,) = kill(mutant, op=mutant.expects[0])
    assert outcome.killed, f"{outcome.operation} lets it pass: {mutant.name}"


def test_the_command_says_who_killed_whom(capsys):
    assert command.run(op="bridge", mutants=True) == 0
    out = capsys.readouterr().out
    assert "the halves of the bridge exchanged" in out and "central_difference" in out and "0 survived" in out
