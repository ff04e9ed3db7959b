"""Mutation: what is changed, how a change is put in, who notices, and that nothing is called killed or equivalent in vain."""

import ast
import dataclasses
import json
from pathlib import Path

import mutation_toy
import numpy as np
import pytest

from c2f_np.errors import SettingsError
from c2f_np.verification import command, mutation
from c2f_np.verification.candidates import candidates
from c2f_np.verification.case import verdict_case
from c2f_np.verification.changes import applied, definitions, users_of
from c2f_np.verification.mutation import EQUIVALENT, SURVIVED, Equivalents, Outcome, all_candidates, judge, record, sample, shares

TOY = "mutation_toy"
X, Y = np.array([1.0, 2.0, 4.0]), np.array([-3.0, 5.0, 0.5])


def change(name, text):
    (found,) = [c for c in candidates(TOY, [name]) if c.text == text]
    return found


def toy_cases():
    def counts(seed):
        yield "counted down", abs(mutation_toy.counted_down(4) - 4), 0

    def sums(seed):
        yield "added", abs(mutation_toy.added([1, 2, 5]) - 8), 0
        yield "doubled", abs(mutation_toy.Box(4).doubled - 8), 0
        yield "positive", abs(mutation_toy.positive(-2) - 2), 0

    def weights(seed):
        total, parts, kept = mutation_toy.weighted(X, Y)
        expected = 3 * (np.array([0, 0.25 * 1 - 0.5, 0]) + 3 + 10 + 2)
        yield "weighted", np.max(np.abs(total - expected)), 0
        yield "parts", np.max(np.abs(parts["low"] + X[1:])) + np.max(np.abs(parts["high"] - X[:2])) + (kept != [2]), 0

    for check in (counts, sums, weights):
        yield verdict_case("toy", check.__name__, "numpy", check)


NET = {("toy", "numpy", 0): toy_cases}


@pytest.fixture(scope="module")
def reached():
    return record(NET, [mutation_toy.__file__], jobs=2)


def verdicts(changes, reached):
    return {outcome.change.text: outcome for outcome in judge(changes, NET, reached, jobs=2)}


# ---- what is changed ---------------------------------------------------------------------------------------------------
KINDS = {
    "operator": "total[1] = gate * x[0] - y[-1] => total[1] = gate / x[0] - y[-1]",
    "operand dropped": "total[1] = gate * x[0] - y[-1] => total[1] = gate * x[0]",
    "sign": "low, high = (-x[1:], x[:2]) => low, high = (x[1:], x[:2])",
    "index": "total[1] = gate * x[0] - y[-1] => total[1] = gate * x[1] - y[-1]",
    "slice": "low, high = (-x[1:], x[:2]) => low, high = (-x[2:], x[:2])",
    "constant": "def weighted(x, y, gate=0.25, *, shift=0.0) => def weighted(x, y, gate=0.125, *, shift=0.0)",
    "comparison": "total += x.T @ np.abs(y) if gate >= 0 and shift == 0 else shift => "
    "total += x.T @ np.abs(y) if gate > 0 and shift == 0 else shift",
    "boolean": "total += x.T @ np.abs(y) if gate >= 0 and shift == 0 else shift => "
    "total += x.T @ np.abs(y) if gate >= 0 or shift == 0 else shift",
    "condition": "total += x.T @ np.abs(y) if gate >= 0 and shift == 0 else shift => total += shift",
    "argument": "return (FACTOR * total, dict(low=low, high=high), [k for k in range(3) if k > 1]) => "
    "return (FACTOR * total, dict(low=high, high=low), [k for k in range(3) if k > 1])",
    "call dropped": "total += x.T @ np.abs(y) if gate >= 0 and shift == 0 else shift => "
    "total += x.T @ y if gate >= 0 and shift == 0 else shift",
    "transpose": "total += x.T @ np.abs(y) if gate >= 0 and shift == 0 else shift => "
    "total += x @ np.abs(y) if gate >= 0 and shift == 0 else shift",
    "accumulation": "total += x.T @ np.abs(y) if gate >= 0 and shift == 0 else shift => "
    "total = x.T @ np.abs(y) if gate >= 0 and shift == 0 else shift",
    "statement": "total[1] = gate * x[0] - y[-1] => pass",
    "name": "low, high = (-x[1:], x[:2]) => low, high = (-y[1:], x[:2])",
    "type": "total = np.zeros(3, dtype=np.float64) => total = np.zeros(3, dtype=np.float32)",
    "order": "low, high = (-x[1:], x[:2]) => high, low = (-x[1:], x[:2])",
    "loop": "return (FACTOR * total, dict(low=low, high=high), [k for k in range(3) if k > 1]) => "
    "return (FACTOR * total, dict(low=low, high=high), [k for k in range(2) if k > 1])",
}  # fmt: skip


def test_changes_that_could_change_nothing_are_not_made():
    texts = [c.text.partition(" => ")[2] for c in candidates(TOY, None)]
    assert "total = np.zeros(3)" not in texts  # float64 is the default
    assert "total = -np.zeros(3, dtype=np.float64)" not in texts
    assert "return max(0, abs(x))" not in texts and "return max(0, 0)" in texts


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_change_is_made(kind):
    assert change("weighted", KINDS[kind]).kind == kind


def test_loops_constants_methods_and_nested_functions_are_changed():
    texts = {c.name: [] for c in candidates(TOY)}
    for c in candidates(TOY):
        texts[c.name].append(c.text)
    assert "for k in range(width): => for k in range(width - 1):" in texts["_adder"]
    assert "total += values[k] => total = values[k]" in texts["_adder"]
    assert texts["FACTOR"] == ["FACTOR = 3 => FACTOR = 4", "FACTOR = 3 => FACTOR = 2"]
    assert "return 2 * self.content => return 2" in texts["Box.doubled"]


def test_what_computes_nothing_is_left_alone():
    for c in candidates(TOY, ["weighted"]):
        before, _, after = c.text.partition(" => ")
        assert "Text that nobody" not in before and "raise" not in before and not before.startswith("if gate > 1")


def test_the_trees_are_as_they_were():
    before = {name: ast.dump(tree) for name, tree in definitions(TOY).items()}
    list(candidates(TOY))
    assert {name: ast.dump(tree) for name, tree in definitions(TOY).items()} == before


@pytest.mark.slow
def test_a_place_of_the_package_is_never_reported_twice_and_there_are_thousands():
    found = all_candidates("model")
    assert len({(c.place, c.text) for c in found}) == len(found) > 1000
    assert {c.folder for c in found} == {"model"}


# ---- putting in ----------------------------------------------------------------------------------------------------------
def test_a_change_is_in_within_the_block_only():
    with applied(change("counted_down", "steps += 1 => steps = 1")):
        assert mutation_toy.counted_down(4) == 1
    assert mutation_toy.counted_down(4) == 4


def test_functions_made_before_are_made_anew():
    assert mutation_toy.added([1, 2, 5]) == 8
    with applied(change("_adder", "total += values[k] => total = values[k]")):
        assert mutation_toy.added([1, 2, 5]) == 5
    assert mutation_toy.added([1, 2, 5]) == 8


@pytest.mark.slow
def test_constants_defaults_and_properties():
    with applied(change("FACTOR", "FACTOR = 3 => FACTOR = 4")):
        assert mutation_toy.FACTOR == 4
    with applied(change("weighted", KINDS["constant"])):
        assert mutation_toy.weighted.__defaults__ == (0.125,)
    with applied(change("Box.doubled", "return 2 * self.content => return 3 * self.content")):
        assert mutation_toy.Box(4).doubled == 12
    with applied(change("Box.tripled", "return 3 * self.content => return 4 * self.content")):
        assert mutation_toy.Box(4).tripled == 16
    assert (mutation_toy.FACTOR, mutation_toy.weighted.__defaults__) == (3, (0.25,))
    assert (mutation_toy.Box(4).doubled, mutation_toy.Box(4).tripled) == (8, 12)


def test_a_constant_is_changed_in_every_module_that_imported_it():
    from c2f_np.kernels import compiled, step

    first = next(candidates("c2f_np.kernels.compiled", ["LANE"]))
    with applied(first):
        assert step.LANE == compiled.LANE == 17
    assert step.LANE == compiled.LANE == 16


def test_constants_that_are_assigned_together_are_changed_one_by_one():
    from c2f_np.model import step

    first = next(candidates("c2f_np.model.step", ["BETA2"]))
    before = step.BETA1, step.BETA2
    with applied(first):
        assert step.BETA1 == before[0] and step.BETA2 != before[1]
    assert (step.BETA1, step.BETA2) == before


def test_a_constant_is_used_by_its_name_and_as_an_attribute_of_its_module():
    import c2f_np.kernels  # noqa: F401

    first = next(candidates("c2f_np.model.step", ["BETA1"]))
    assert {Path(file).parent.name for file in users_of(first)} >= {"model", "kernels"}


# ---- who notices ---------------------------------------------------------------------------------------------------------
def test_changes_are_killed_by_the_case_that_sees_them(reached):
    found = verdicts(
        [change("counted_down", "steps += 1 => steps = 1"), change("_adder", "total += values[k] => total = values[k]"),
         change("FACTOR", "FACTOR = 3 => FACTOR = 4"), change("weighted", KINDS["slice"]), change("weighted", KINDS["constant"])],
        reached,
    )  # fmt: skip
    assert {outcome.case.split()[-1] for outcome in found.values()} == {"counts", "sums", "weights"}
    assert all(outcome.verdict == "killed" and outcome.by for outcome in found.values())


def test_what_changes_nothing_survives_and_what_no_case_reaches_does_too(reached):
    harmless, unreached = "return max(abs(x), 0) => return max(abs(x), 1)", "return x + 1 => return x - 1"
    found = verdicts([change("positive", harmless), change("never_called", unreached)], reached)
    assert found[harmless].verdict == SURVIVED and found[harmless].n_cases == 1
    assert found[unreached].verdict == SURVIVED and found[unreached].n_cases == 0


def test_a_case_that_was_not_watched_to_the_end_may_reach_any_line(reached):
    cut = [dataclasses.replace(one, lines={}, passed=None) for one in reached]
    wrong = change("counted_down", "steps += 1 => steps = 1")
    assert verdicts([wrong], cut)[wrong.text].case == "toy [numpy] counts"


def test_what_does_not_end_is_killed(reached, monkeypatch):
    monkeypatch.setattr(mutation, "LEAST_SECONDS", 0.2)
    endless = "n -= 1 => n += 1"
    found = verdicts([change("counted_down", endless)], reached)
    assert found[endless].by == ("time",)


def test_an_error_kills(reached):
    wrong = "total += values[k] => total += values[k + 1]"
    assert verdicts([change("_adder", wrong)], reached)[wrong].by == ("IndexError",)


def test_a_check_that_fails_by_itself_is_not_counted_as_a_kill():
    def failing():
        yield verdict_case("toy", "fails", "numpy", lambda seed: [("always", 1.0, 0.0)])

    with pytest.raises(SettingsError, match="nothing was changed"):
        record({("toy", "numpy", 0): failing}, [], jobs=1)


def test_nothing_is_changed_in_the_process_that_asks(reached):
    verdicts([change("counted_down", "steps += 1 => steps = 1")], reached)
    assert mutation_toy.counted_down(4) == 4


# ---- the measure ---------------------------------------------------------------------------------------------------------
def test_a_sample_is_even_over_kinds_and_repeats_with_its_seed():
    found = list(candidates(TOY))
    kinds = {c.kind for c in found}
    drawn = sample(found, len(kinds), seed=3)
    assert {c.kind for c in drawn} == kinds
    assert drawn == sample(found, len(kinds), seed=3) != sample(found, len(kinds), seed=4)
    assert len(sample(found, 10**6, seed=0)) == len(found)


def test_equivalents_are_known_by_place_and_change_and_stale_ones_are_named():
    c = change("positive", "return max(abs(x), 0) => return max(abs(x), 1)")
    listed = Equivalents({(c.place, c.text): "abs"})
    assert listed.reason(c) == "abs" and listed.reason(change("Box.doubled", "return 2 * self.content => return 2")) == ""
    assert Equivalents({(c.place, "*"): "any"}).reason(c) == "any"
    old = {("model.loss.bpr_backward", "gone => gone"): "", ("model.loss.gone", "*"): "", ("gone.gone", "*"): ""}
    assert Equivalents(old).stale() == list(old)


@pytest.mark.slow
def test_every_equivalent_that_is_listed_is_still_there_and_has_a_reason():
    listed = Equivalents.shipped()
    assert listed.stale() == []
    assert all(len(reason) > 20 for reason in listed.entries.values())


def test_the_share_leaves_out_what_is_equivalent():
    first, second, third = list(candidates(TOY, ["positive"]))[:3]
    text = shares([Outcome(first, ("adjoint",)), Outcome(second), Outcome(third, reason="the same")])
    assert text.splitlines()[-1].split() == ["all", "3", "1", "1", "1", "50.0%"]
    assert Outcome(third, reason="the same").verdict == EQUIVALENT


# ---- the command ---------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_command_measures_one_operation(capfd):
    code = command.run(op="regulariser", mutate=8, within="kernels.step.add_scaled_rows", seed=1, json=True)
    data = json.loads(capfd.readouterr().out)
    assert code == 0 and data["passed"] and len(data["mutants"]) == 8
    assert all(m["place"] == "kernels.step.add_scaled_rows" and m["verdict"] for m in data["mutants"])


@pytest.mark.slow
def test_an_operation_is_asked_only_about_what_it_runs(capfd):
    # The cases of the penalty never come to the optimiser.
    assert command.run(op="regulariser", mutate=2, within="model.step.clip_by_value") == 1
    found = capfd.readouterr()
    assert "0 mutants, 0 survived" in found.out and "nothing was measured" in found.err


def test_a_survivor_is_printed_with_its_line_and_change(reached):
    (outcome,) = verdicts([change("never_called", "return x + 1 => return x - 1")], reached).values()
    text = mutation._survivor(outcome)
    line = definitions(TOY)["never_called"].body[0].lineno
    assert f"mutation_toy.py:{line}: never_called, operator: not reached by any case" in text
    assert text.endswith("\n  - return x + 1\n  + return x - 1")


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [{"mutate": 0}, {"mutate": 1, "within": "no.such.place"}, {"mutate": 1, "op": "convolution"}])
def test_what_cannot_be_measured_is_said(wrong, capfd):
    assert command.run(**wrong) == 2
    assert "error:" in capfd.readouterr().err
