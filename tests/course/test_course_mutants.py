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
    places = {place for place, _, _ in mutants.EQUIVALENTS}
    known = {(change.place, change.text) for place in places for change in mutants.changes_of(place)}
    assert {(place, text) for place, text, _ in mutants.EQUIVALENTS} <= known
    assert {name for _, _, name in mutants.EQUIVALENTS} <= {"", *mutants.TASKS}
    assert all(len(reason) > 15 for reason in mutants.EQUIVALENTS.values())
