"""The running picture of the course: what is named is lit, and a name that is none is told."""

import pytest

from c2f_np.plotting import computation
from c2f_np.plotting.style import GREY, INK


def colours(picture):
    return {text.get_text().split("\n")[0]: text.get_color() for text in picture.axes[0].texts}


def test_what_is_named_is_lit():
    found = colours(computation("Z", "X0"))
    assert found["$Z$"] == found["$X_0$"] == INK and found["$H$"] == GREY
    assert set(colours(computation()).values()) == {INK}


def cotangents(picture):
    """What stands on arrows; the nodes' texts have two lines."""
    return {text.get_text() for text in picture.axes[0].texts if "\n" not in text.get_text()}


def test_cotangents_stand_on_lit_arrows_only():
    assert cotangents(computation("H", "scores", model="joint", backward=True)) == {"$G_H$"}
    assert cotangents(computation("E_f", "F", "scores", model="fine", backward=True)) == {r"$G_F\,[|E_f|>\tau]$"}
    assert len(cotangents(computation(model="joint", backward=True))) == 13
    assert cotangents(computation("H", "scores")) == set()


def test_what_there_is_not_is_refused():
    with pytest.raises(ValueError, match="the coarse model has no 'F'"):
        computation("F")
    with pytest.raises(ValueError, match="coarse, fine, joint, not 'both'"):
        computation(model="both")
