"""Exercises whose answers are tests (notebooks 10 and 13): wrong code is there for a reason; what decides nothing fails."""

import pytest

from c2f_np.course import all_exercises
from c2f_np.course.blind_spots import TestExercise

EXERCISES = [task for task in all_exercises().values() if type(task) is TestExercise]


@pytest.mark.parametrize("task", EXERCISES, ids=lambda task: task.name)
def test_every_wrong_code_is_there_for_a_reason(task):
    """For each there is a listed test that lets it pass, and the solution rejects it."""
    messages = {mistake.message for mistake in task.mistakes}
    for candidate in task.wrong:
        assert candidate.message in messages | {m.message for m in task.wrong if "wrong sign" in m.message}
        try:
            accepted = task.solution(*candidate.given)
        except ValueError:  # shapes do not fit
            accepted = False
        assert not accepted, candidate.message


@pytest.mark.parametrize("task", EXERCISES, ids=lambda task: task.name)
def test_tests_that_decide_nothing_are_wrong(task):
    def unwritten(*given):
        raise NotImplementedError

    def nothing(*given):
        task.solution(*given)

    assert "not written yet" in task.mark(unwritten).message
    assert "None" in task.mark(nothing).message
    assert "accepts" in task.mark(lambda *given: True).message
    assert "rejects" in task.mark(lambda *given: False).message
    assert "rejects" in task.mark(lambda *given: not task.solution(*given)).message
    assert "True or False" in task.mark(lambda *given: 1.0).message
    assert "ends in KeyError" in task.mark(lambda *given: {}["missing"]).message
    assert not task.mark(3)
