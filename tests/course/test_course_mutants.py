"""Graders are tested as code is: wrong answers, made by machine from right ones, are rejected; no diagnosis is untrue.

Some of them here; `python tests/course/mutants.py` tries them all.
"""

import mutants
import pytest


def test_some_wrong_answers_are_rejected_by_the_whole_check():
    assert mutants.complaints(mutants.drawn(40, seed=1), whole=True) == []


@pytest.mark.slow
def test_more_wrong_answers_are_rejected_and_none_hears_what_is_not_so():
    assert mutants.complaints(mutants.drawn(500), whole=False) == []


def test_what_is_listed_still_names_a_change():
    known = {(each.change.place, each.change.text, name) for task in mutants.TASKS for each in mutants.mutants(task)
             for name in ("", task)}  # fmt: skip
    assert set(mutants.EQUIVALENTS) <= known
    assert all(len(reason) > 20 for reason in mutants.EQUIVALENTS.values())
