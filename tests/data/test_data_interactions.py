"""From rows to unique pairs: codes, duplicates, thresholds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2f_np.data import Interactions
from c2f_np.errors import DataError


def pairs(interactions):
    return list(zip(interactions.user_ids[interactions.user], interactions.item_ids[interactions.item], strict=True))


def test_whole_number_ids_are_ordered_by_size():
    interactions = Interactions.from_rows([10, 9, 100], ["2", "1", "30"])
    assert interactions.user_ids.tolist() == ["9", "10", "100"]
    assert interactions.item_ids.tolist() == ["1", "2", "30"]
    assert interactions.user.tolist() == [0, 1, 2]


@pytest.mark.parametrize("ids", [["10", "9", "b"], ["10", "9", "009"], ["10", "9", "+9"]])
def test_other_ids_are_ordered_by_code_point(ids):
    assert Interactions.from_rows(ids, ids).user_ids.tolist() == sorted(ids)


def test_order_of_rows_does_not_matter():
    forward = Interactions.from_rows(["b", "a", "c"], ["x", "y", "x"])
    backward = Interactions.from_rows(["c", "a", "b"], ["x", "y", "x"])
    assert forward.user.tolist() == backward.user.tolist() and forward.item.tolist() == backward.item.tolist()
    assert forward.user_ids.tolist() == backward.user_ids.tolist()


def test_duplicates_keep_the_latest_time():
    interactions = Interactions.from_rows(["a", "a", "a"], ["x", "y", "x"], timestamps=[5, 6, 9])
    assert pairs(interactions) == [("a", "x"), ("a", "y")]
    assert interactions.timestamp.tolist() == [9, 6]
    assert interactions.report["duplicates_merged"] == 1 and interactions.report["rows_read"] == 3


def test_threshold_keeps_ratings_of_at_least_that_much():
    interactions = Interactions.from_rows(["a", "a", "b"], ["x", "y", "z"], ratings=[4, 3.5, 1], rating_threshold=np.int64(4))
    assert pairs(interactions) == [("a", "x")]
    assert interactions.report["rows_below_threshold"] == 2
    assert interactions.report["users_below_threshold"] == 1 and interactions.report["items_below_threshold"] == 2


@pytest.mark.parametrize("threshold", [True, "4", float("nan"), float("inf"), 2**1024, -(10**5000)], ids="abcdef")
def test_a_threshold_that_no_rating_can_have(threshold):
    with pytest.raises(DataError, match="the rating threshold must be a finite number"):
        Interactions.from_rows(["a"], ["x"], ratings=[4], rating_threshold=threshold)


@pytest.mark.parametrize("threshold", [2**70, -(2**70), np.int64(2)])
def test_a_threshold_of_any_size(threshold):
    if threshold > 4:
        with pytest.raises(DataError, match="no rating reaches the threshold 1180591620717411303424; the highest is 4"):
            Interactions.from_rows(["a"], ["x"], ratings=[4], rating_threshold=threshold)
    else:
        assert len(Interactions.from_rows(["a"], ["x"], ratings=[4], rating_threshold=threshold).user) == 1


def test_a_pair_stays_if_any_of_its_ratings_reaches_the_threshold():
    interactions = Interactions.from_rows(["a", "a"], ["x", "x"], ratings=[5, 1], timestamps=[1, 2], rating_threshold=4)
    assert interactions.timestamp.tolist() == [1] and interactions.report["duplicates_merged"] == 0


def test_matrix_holds_the_pairs():
    assert Interactions.from_rows(list("aab"), list("xyy")).matrix().toarray().tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(users=[], items=[]), "no interactions"),
        (dict(users=["a"], items=["x", "y"]), "users and items differ in number: 1 and 2"),
        (dict(users=["a"], items=[""]), "item id is empty"),
        (dict(users="a", items=["x"]), "sequence of ids, not one.*'a'"),
        (dict(users=["a\0"], items=["x"]), "NUL"),
        (dict(users=["a"], items=["x"], timestamps=[np.nan]), "timestamps must be finite.*nan"),
        (dict(users=["a"], items=["x"], ratings=[np.inf]), "ratings must be finite.*inf"),
        (dict(users=["a"], items=["x"], ratings=[1, 2]), "one rating is needed per row: rows 1"),
        (dict(users=["a"], items=["x"], rating_threshold=3), "no rating column"),
        (dict(users=["a"], items=["x"], ratings=[2], rating_threshold=3), "no rating reaches.*highest is 2"),
        (dict(users=["a"], items=["x"], ratings=[2], rating_threshold=float("nan")), "threshold must be a finite"),
    ],
)
def test_what_is_refused(arguments, message):
    users, items = arguments.pop("users"), arguments.pop("items")
    with pytest.raises(DataError, match=message):
        Interactions.from_rows(users, items, **arguments)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(user=np.zeros(2, int)), r"the same length, not \(2,\) and \(1,\)"),
        (dict(timestamp=np.zeros(2)), "one timestamp is needed per pair: pairs 1"),
        (dict(item=np.array([1])), "item codes must lie between 0 and 0"),
    ],
)
def test_what_the_constructor_refuses(changed, message):
    right = dict(user=np.array([0]), item=np.array([0]), timestamp=None, user_ids=np.array(["a"]), item_ids=np.array(["x"]))
    with pytest.raises(DataError, match=message):
        Interactions(**(right | changed))


NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp"), exclude_characters="."), min_size=1)


@given(st.lists(st.tuples(NAMES, st.integers()), min_size=1))
def test_every_pair_comes_back_once(rows):
    interactions = Interactions.from_rows([user for user, _ in rows], [item for _, item in rows])
    assert sorted(pairs(interactions)) == sorted({(user, str(item)) for user, item in rows})
