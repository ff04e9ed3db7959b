"""The exercises of notebook 10, whose answers are tests: wrong code is there for a reason; a test that decides nothing fails."""

import pytest

from c2f_np.course.blind_spots import EXERCISES


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
    def unwritten(forward, backward):
        raise NotImplementedError

    def nothing(forward, backward):
        task.solution(forward, backward)

    assert "not written yet" in task.mark(unwritten).message
    assert "None" in task.mark(nothing).message
    assert "accepts" in task.mark(lambda forward, backward: True).message
    assert "rejects right code" in task.mark(lambda forward, backward: False).message
    assert "rejects right code" in task.mark(lambda *both: not task.solution(*both)).message
    assert "True or False" in task.mark(lambda forward, backward: 1.0).message
    assert "ends in KeyError" in task.mark(lambda forward, backward: {}["missing"]).message
    assert not task.mark(3)
