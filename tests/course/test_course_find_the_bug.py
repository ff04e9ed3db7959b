"""Notebook 13: every wrong step trains, is wrong in the part that it is named by, and the right ones are right."""

import numpy as np
import pytest
import scipy.sparse as sparse

from c2f_np.course import find_the_bug
from c2f_np.course.find_the_bug import PARTS, Batch, RightInLoops, Step, example, ten_steps, wrong_lines

TASKS = {task.name: task for task in find_the_bug.EXERCISES}
STEPS = [candidate.given[0] for candidate in TASKS["diagnose"].wrong]


def test_ten_are_shown_and_thirty_marked():
    assert len(ten_steps()) == 10 and len({type(step) for step in STEPS}) == 30
    assert {step.part for step in ten_steps()} == {step.part for step in STEPS} == set(PARTS) - {"nothing"}
    assert "step" in repr(STEPS[0]) and type(STEPS[0]).__name__ not in repr(STEPS[0])


@pytest.mark.parametrize("step", [Step(), RightInLoops(), *STEPS], ids=lambda step: type(step).__name__)
def test_every_step_trains(step):
    case, theta, _ = example(1)
    rng, memory, losses = np.random.default_rng(0), None, []
    for _ in range(40):
        batch = step.sample(case.R, rng)
        losses.append(step.loss(theta, case, batch))
        theta, memory = step.update(theta, step.gradients(theta, case, batch), memory, 0.02)
    assert np.mean(losses[-5:]) < 0.9 * losses[0]


def test_two_right_steps_agree():
    case, theta, batch = example(2)
    batch = Batch(batch.user[[0, 0, 1]], batch.positive[[0, 1, 1]], batch.negative[[1, 1, 1]])
    ours, theirs = (step.gradients(theta, case, batch) for step in (Step(), RightInLoops()))
    assert all(np.allclose(ours[name], theirs[name], rtol=1e-12) for name in theta)


def test_a_sparse_graph_is_the_dense_one():
    case, _, _ = example(0)
    given = (sparse.csr_array(part) for part in (case.A, case.S_c))
    assert np.allclose(find_the_bug.expanded_graph(*given).toarray(), find_the_bug.expanded_graph(case.A, case.S_c))


def test_the_wrong_lines_are_shown_beside_the_right_ones():
    for step in STEPS:
        shown = wrong_lines(step)
        assert shown.startswith(f"# {step.part}: wrong\n") and "\n# right\ndef " in shown and shown.count("def ") == 2


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_fault_is_seen_by_its_check_alone(step):
    own = {"propagation": "propagation_passes", "graph": "has_no_memory", "sampling": "sampling_passes", "Adam": "update_passes"}
    expected = own.get(step.part, "gradients_pass")
    rejected = [name for name, task in TASKS.items() if name != "diagnose" and not task.solution(step.fresh())]
    assert rejected == [expected]


def test_what_is_no_name_of_a_part_is_told_so():
    task = TASKS["diagnose"]
    assert "one of 'Adam'" in task.mark(lambda step: "adam").message
    assert "ends in KeyError" in task.mark(lambda step: {}[0]).message
    assert "passes everything" in task.mark(lambda step: "nothing").message
