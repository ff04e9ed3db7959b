"""The numbers in docs/checking_gradients.md are the ones that the lessons print."""

from pathlib import Path

import pytest

from c2f_np.gradcheck import lessons

pytestmark = pytest.mark.gradcheck

PAGE = Path(__file__).parents[2] / "docs" / "checking_gradients.md"


LESSONS = [
    pytest.param(lesson, id=lesson.__name__, marks=[pytest.mark.slow] if lesson is lessons.unvisited else [])
    for lesson in lessons.LESSONS
]


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_page_quotes_what_is_measured(lesson):
    assert "\n".join(lesson()) in PAGE.read_text(encoding="utf-8")
