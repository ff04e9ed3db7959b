"""The one door for ids: what becomes which text, what is refused and how, and that every way in leads through it."""

import datetime
import decimal
import fractions

import numpy as np
import pytest

from c2f_np.baselines import Popularity
from c2f_np.data import Dataset, Interactions, read_csv, read_frame
from c2f_np.errors import DataError
from c2f_np.ids import Numbering, as_id

MATRIX = np.array([[1, 0, 1], [0, 1, 1]])
NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ann", "ann"), ("  ann\t", "ann"), ("\u00a0ann", "ann"), (np.str_("ann"), "ann"), (b"alice", "alice"),
        (np.bytes_(b"alice"), "alice"), (bytearray("zoë ".encode()), "zoë"), ("a b", "a b"), ("two\nlines", "two\nlines"),
        (1, "1"), (np.int8(1), "1"), (1.0, "1"), (np.float32(1), "1"), (np.float16(7), "7"), (np.longdouble(2), "2"),
        ("1", "1"), ("1.0", "1"), ("-3.00", "-3"), ("0.0", "0"), (-0.0, "0"), (decimal.Decimal("1.0"), "1"),
        (fractions.Fraction(4, 2), "2"), (2**63 + 5, "9223372036854775813"), (np.uint64(2**63 + 5), "9223372036854775813"),
        ("007", "007"), ("007.0", "007.0"), ("1.50", "1.50"), ("+1", "+1"), ("1e3", "1e3"), ("-0", "-0"), ("1.", "1."),
        ("None", "None"), ("nan", "nan"), ("é", "é"), ("e\u0301", "e\u0301"), ("\ufeff1", "\ufeff1"), (2**53, str(2**53)),
        (float(2**53), str(2**53)), ("Ann", "Ann"),
    ],
)  # fmt: skip
def test_one_form(value, text):
    assert as_id(value, "user") == text and as_id(text, "user") == text


class NaTType:
    """As that of pandas, which is not equal to itself."""

    def __str__(self):
        return "NaT"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "is missing"), (NAN, "is missing"), (np.float32("nan"), "is missing"), (np.datetime64("NaT"), "is missing"),
        (NaTType(), "is missing"), (decimal.Decimal("nan"), "is missing"), (decimal.Decimal("sNaN"), "is missing"),
        ("", "is empty"), ("  \n", "is empty"), (b"", "is empty"),
        (1.5, "not a whole number"), (decimal.Decimal("1.5"), "not a whole number"), (float("inf"), "not a whole number"),
        (1j, "not a whole number"), (float(2**53 + 2), "may have been rounded to float"),
        (np.float32(2**24 + 2), "may have been rounded to float32"),
        (True, "not bool"), (np.True_, "not bool"), (datetime.date(2020, 1, 1), "not date"),
        (np.datetime64("2020-01-01"), "not datetime64"), (np.timedelta64(1), "not timedelta64"), (("a", 1), "not tuple"),
        ([1], "not list"), (object, "not type"), (b"\xff\xfe", "not UTF-8"), ("a\0", "NUL"), ("a\x1b[2J", "control"),
        ("a\x85b", "control"), ("\ud800", "surrogate"),
    ],
)  # fmt: skip
def test_what_is_no_id(value, why):
    with pytest.raises(DataError, match=rf"^row 3 \(counted from 0\): the item id .*{why}"):
        as_id(value, "item", row=3)


def test_a_number_of_thousands_of_digits():
    with pytest.raises(DataError, match=r"not a whole number that can be written \(found 'a huge int'\)"):
        as_id(10**5000, "item")


def test_numbers_go_by_the_form_and_the_spellings_are_counted():
    numbering = Numbering("user")
    spellings = [1, "1", 1.0, "1.0", " 1", b"1 ", np.int64(1), "ann", "ann ", "ann "]
    assert [numbering.number(value) for value in spellings] == [0] * 7 + [1] * 3
    assert list(numbering.ids) == ["1", "ann"]
    assert numbering.report == {"ids_with_white_space_trimmed": 3, "ids_with_a_decimal_point": 1}
    # Equal to 1, and a key of dictionaries like it; but no id.
    with pytest.raises(DataError, match="not bool"):
        numbering.number(True)


def ways_in(ids):
    """The ids as users of every way in, with an item each."""
    rows = list(range(len(ids)))
    matrix = np.eye(len(ids), dtype=int)
    yield lambda: Interactions.from_rows(ids, rows).user_ids
    yield lambda: Dataset.from_matrices(matrix, user_ids=ids).user_ids
    yield lambda: read_frame({"user": ids, "item": rows}).user_ids
    yield lambda: Popularity().fit({"user": ids, "item": rows}).user_ids_


@pytest.mark.parametrize("ids", [["1", " 2 ", 3.0, b"4"], np.arange(1.0, 5.0), np.array([b"1", b"2", b"3", b"4"]), range(1, 5)])
def test_every_way_in_gives_the_same_text(ids):
    for way in ways_in(ids):
        assert way().tolist() == ["1", "2", "3", "4"]


@pytest.mark.parametrize("wrong", [None, NAN, "", "a\0", True, 2.5])
def test_every_way_in_refuses_the_same_and_names_the_row(wrong):
    for way in ways_in(["a", "b", wrong]):
        with pytest.raises(DataError, match=r"row 2 \(counted from 0\): the user id"):
            way()


@pytest.mark.parametrize("ids", ["ab", b"ab", 3, np.array("ab"), None.__class__, np.zeros((2, 2), int), np.zeros(2, "M8[s]")])
def test_what_is_no_sequence_of_ids(ids):
    with pytest.raises(DataError, match="user ids must be"):
        Interactions.from_rows(ids, ["x", "y"])


def test_masked_entries_are_missing():
    with pytest.raises(DataError, match="row 1 .*missing"):
        Interactions.from_rows(np.ma.array([1, 2], mask=[False, True]), [1, 2])


def test_a_file_names_the_line_and_counts_what_it_changed(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("user,item\nann ,1\nann,1.0\n\"  bob\",2\n,3\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"x.csv, line 5: the user id is empty"):
        read_csv(path)
    path.write_text("user,item\nann ,1\nann,1.0\n\"\tbob\",2\n", encoding="utf-8")
    read = read_csv(path)
    assert read.user_ids.tolist() == ["ann", "bob"] and read.item_ids.tolist() == ["1", "2"]
    counts = [read.report[name] for name in ("ids_with_white_space_trimmed", "ids_with_a_decimal_point", "duplicates_merged")]
    assert counts == [2, 1, 1]


def test_ids_that_are_asked_for_go_through_the_same_door():
    data = Dataset.from_matrices(MATRIX, user_ids=["1", "ann"], item_ids=["x", "y", "z"])
    model = Popularity().fit(data)
    for same in (1, 1.0, "1", b"1", " 1 ", np.float64(1), [1], ["1.0"], np.array([1.0]), np.array(["1"], dtype=object)):
        assert model.recommend(same, k=1)[0].tolist() == [["y"]]
        assert data.user_index(same).tolist() == [0]
    assert model.recommend([], k=1)[0].shape == (0, 1) and data.user_index([]).tolist() == []
    for wrong in (None, NAN, True, "", 1.5, "a\0", [None]):
        for ask in (lambda ids: model.recommend(ids, k=1), data.user_index):
            with pytest.raises(DataError, match="the user id"):
                ask(wrong)


def test_what_is_built_by_hand_must_have_its_ids_in_form():
    for wrong in (" ann", "1.0", ""):
        ids = np.array(["a", wrong])
        with pytest.raises(DataError, match=r"row 1 \(counted from 0\)"):
            Interactions(np.array([0]), np.array([0]), None, ids, np.array(["x"]))
        with pytest.raises(DataError, match=r"row 1 \(counted from 0\)"):
            Dataset("x", Dataset.from_matrices(MATRIX).train, None, None, ids, np.array(["x", "y", "z"]))
