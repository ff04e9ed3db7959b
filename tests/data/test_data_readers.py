"""The readers: what they read, and what they say when they cannot."""

import string

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from c2f_np.data import (
    Dataset,
    read_csv,
    read_lightgcn,
    read_lightgcn_file,
    read_ratings_dat,
    read_recbole,
    read_u_data,
    write_lightgcn,
)
from c2f_np.errors import DataError

ANY_CASE = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(interactions):
    """(user id, item id), and the timestamp if there is one, of every pair."""
    columns = [interactions.user_ids[interactions.user], interactions.item_ids[interactions.item]]
    columns += [] if interactions.timestamp is None else [interactions.timestamp]
    return list(zip(*(column.tolist() for column in columns), strict=True))


NAMED = dict(user_column="who", item_column="what")
WHO_WHAT = "who,what,rating,when,time\na,x,2,3,yesterday\na,y,5,4,today\n"
U_DATA = "196\t242\t3\t881250949\r\n\r\n20\t242\t5\t5\r\n20\t242\t1\t9"
RECBOLE = 'user_id:token\titem_id:token\trating:float\ttimestamp:float\nanna\t"7" in\t4\t12.5\nanna\tx\t1\t2\n'


@pytest.mark.parametrize(
    ("read", "content", "options", "expected"),
    [
        (read_lightgcn_file, "0 3 17\n10 3\n\n2\n", {}, [("0", "3"), ("0", "17"), ("10", "3")]),
        (read_lightgcn_file, "2147483647 2147483647\n", {}, [("2147483647", "2147483647")]),
        *(
            (read_lightgcn_file, content, {}, [("0", "1"), ("0", "2"), ("1", "2")])
            for content in (b"\xef\xbb\xbf0 1 2\r\n1 2\r\n", b"0 1 2 \n\n 1\t2", b"0 1 2\r1 2\r", b"00 01 2\n1 02\n")
        ),
        (read_u_data, U_DATA, {}, [("20", "242", 9.0), ("196", "242", 881250949.0)]),
        (read_u_data, U_DATA, dict(rating_threshold=4), [("20", "242", 5.0)]),
        (read_ratings_dat, "1::1193::5::97\n1::661::3.5::98\n", {}, [("1", "661", 98.0), ("1", "1193", 97.0)]),
        (read_csv, "user^item,y^item\na^1^x\n", dict(separator="^"), [("a", "x")]),
        (read_csv, "user\titem\na\tx\n", dict(separator=r"\t"), [("a", "x")]),
        (
            read_csv,
            '\ufeffuser,item\r\n"Smith, ""J""", büch\r\n\r\n"two\r\nlines",x\r\n',
            {},
            [('Smith, "J"', "büch"), ("two\r\nlines", "x")],
        ),
        (read_csv, WHO_WHAT, NAMED | dict(timestamp_column="when"), [("a", "x", 3.0), ("a", "y", 4.0)]),
        (read_csv, WHO_WHAT, NAMED | dict(timestamp_column=""), [("a", "x"), ("a", "y")]),
        (read_csv, WHO_WHAT, NAMED | dict(timestamp_column="", rating_threshold=3), [("a", "y")]),
        (read_recbole, RECBOLE, {}, [("anna", '"7" in', 12.5), ("anna", "x", 2.0)]),
        (read_recbole, RECBOLE, dict(rating_threshold=2), [("anna", '"7" in', 12.5)]),
    ],
)
def test_what_is_read(tmp_path, read, content, options, expected):
    assert rows(read(write(tmp_path / "x.csv", content), **options)) == expected


LIGHTGCN_REFUSES = [
    ("0 1\n1 x 2\n", 2, "x", "item id is not a whole number"),
    ("u 1\n", 1, "u", "user id is not a whole number"),
    ("0 1\n\n1 -2\n", 3, "-2", "item id is negative"),
    ("-1 2\n", 1, "-1", "user id is negative"),
    ("0 1.5\n", 1, "1.5", "not a whole number"),
    ("0 1_0\n", 1, "1_0", "not a whole number"),
    ("0 ٣\n", 1, "٣", "not a whole number"),
    ("0 2147483648\n", 1, "2147483648", "larger than 2147483647"),
    ("0 1 2 3\n1 " + "9" * 5000 + " 1" * 2000, 2, "9" * 80, "larger than 2147483647"),
    ("0 nan\n", 1, "nan", "not a whole number"),
    (b"0 1\n1 \xff\n", 2, "0xff", "not UTF-8"),
    ("", None, None, "no interactions"),
    ("0\n1\n", None, None, "no interactions"),
]
U_DATA_REFUSES = [
    ("1\t2\t3", "1\t2\t3", "number of fields: 3, needed: 4"),
    ("1\t2\t3\t4\t5", None, "number of fields: 5, needed: 4"),
    ("1::2::3::4", "1::2::3::4", "separated by tab"),
    ("x\t2\t3\t4", "x", "user id is not a whole number"),
    ("1\t-2\t3\t4", "-2", "item id is negative"),
    ("1\t99999999999\t3\t4", "99999999999", "larger than 2147483647"),
    ("1\t2\tgood\t4", "good", "rating is not a number"),
    ("1\t2\tNaN\t4", "NaN", "rating must be finite"),
    ("1\t2\t3\t-inf", "-inf", "timestamp must be finite"),
    ("1\t2\t3\t1e999", "1e999", "timestamp is too large"),
    ("1\t2\t\t4", None, "rating is empty"),
    ("1\t2\t1_0\t4", "1_0", "rating is not a number"),
]
CSV_REFUSES = [
    ("", {}, None, None, "the file is empty"),
    ("\n\n", {}, None, None, "the file is empty"),
    ("user,item\n", {}, None, None, "no interactions"),
    ("who,what\na,x\n", {}, 1, None, "which column holds the user ids.*columns are 'who', 'what'"),
    ("user,what\na,x\n", {}, 1, None, "which column holds the item ids"),
    ("user,item,movie\na,x,y\n", {}, 1, None, "several columns could be the item column"),
    ("user,item\na,x\n", dict(user_column="who"), 1, None, "no column 'who'.*'user', 'item'"),
    ("user,item\na,x\n", dict(rating_column="r"), 1, None, "no column 'r'"),
    ("user,item\na,x\n", dict(item_column="user"), 1, None, "two purposes"),
    ("user,item\na,x\n", dict(rating_threshold=3), None, None, "no rating column"),
    ("user,item\na,x\nb\n", {}, 3, "b", "number of fields: 1, in the header: 2"),
    ("user,item\na,x,y\n", {}, 2, "a,x,y", "number of fields: 3, in the header: 2"),
    ("user,item\n,x\n", {}, 2, None, "user id is empty"),
    ("user,item,rating\na,x,3\nb,x,nan\n", {}, 3, "nan", "rating must be finite"),
    ("user,item,rating\na,x,high\n", {}, 2, "high", "rating is not a number"),
    ("user,item,time\na,x,inf\n", {}, 2, "inf", "timestamp must be finite"),
    (WHO_WHAT, NAMED, 2, "yesterday", 'set timestamp_column to ""'),
    ('user,item\n"a,x\nb,y\n', {}, None, None, "not a well-formed table"),
    (b"user,item\na,x\nb,\xe9t\xe9\n", {}, 3, "0xe9", "not UTF-8"),
]


@pytest.mark.parametrize(
    ("read", "content", "options", "line", "value", "message"),
    [
        *((read_lightgcn_file, content, {}, *rest) for content, *rest in LIGHTGCN_REFUSES),
        *((read_u_data, f"1\t1\t1\t1\n{line}\n", {}, 2, *rest) for line, *rest in U_DATA_REFUSES),
        (read_u_data, "\n\n", {}, None, None, "no interactions"),
        (read_u_data, "1\t1\t3\t1\n", dict(rating_threshold=4), None, None, "reaches the threshold 4; the highest is 3"),
        *((read_csv, *case) for case in CSV_REFUSES),
        (read_recbole, "user_id\titem_id\n1\t2\n", {}, 1, "user_id", "name:type"),
        (read_recbole, "user_id:token\titem_id:token\n1\t2\n1\n", {}, 3, "1", "number of fields: 1, in the header: 2"),
        *((read, None, {}, None, None, "no such file") for read in (read_lightgcn_file, read_u_data, read_csv, read_recbole)),
    ],
)
def test_what_is_refused(tmp_path, read, content, options, line, value, message):
    """The error names the file, and the line and the value if there are any."""
    path = tmp_path / "x.csv"
    if content is not None:
        write(path, content)
    with pytest.raises(DataError, match=message) as caught:
        read(path, **options)
    shown = str(caught.value)
    assert str(path) in shown
    assert line is None or (caught.value.line == line and f"line {line}" in shown)
    assert value is None or repr(value) in shown


def test_lightgcn_folder(tmp_path):
    for name, content in (("train", "0 3 3 4\n1 3\n7\n"), ("valid", "1 3 5\n"), ("test", "0 3 5\n8 9\n")):
        write(tmp_path / f"{name}.txt", content)
    split = read_lightgcn(tmp_path)
    assert split.user_ids.tolist() == ["0", "1", "7", "8"] and split.item_ids.tolist() == ["3", "4", "5", "9"]
    assert split.train.toarray().tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert split.validation.toarray().tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert split.test.toarray().tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert split.report["duplicates_merged"] == 1
    assert split.report["test_pairs_also_in_training"] == 1 and split.report["validation_pairs_also_in_training"] == 1


def test_lightgcn_folders_that_are_none(tmp_path):
    def refuses(read, path, message):
        with pytest.raises(DataError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)

    refuses(read_lightgcn_file, tmp_path, "this is a folder")
    refuses(read_lightgcn, tmp_path / "nowhere", "no such folder")
    write(tmp_path / "train.txt", "0 1\n")
    refuses(read_lightgcn, tmp_path, "no test.txt beside train.txt")
    write(tmp_path / "test.txt", "\n")
    refuses(read_lightgcn, tmp_path, "test.txt: there are no interactions")


@ANY_CASE
@given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=6))
def test_lightgcn_round_trip(tmp_path, values):
    """0: absent, 1: training, 2: validation, 3: test."""
    values = np.array(values)
    values[0, 0] = 1
    parts = {name: values == code for name, code in (("train", 1), ("validation", 2), ("test", 3))}
    if not (parts["test"].any() and parts["validation"].any()):
        return
    data = Dataset.from_matrices(**parts)
    write_lightgcn(data, tmp_path)
    back = read_lightgcn(tmp_path)
    seen = np.flatnonzero(values.any(axis=0))  # items nobody has leave no trace in the files
    assert back.item_ids.tolist() == [str(item) for item in seen]
    assert back.user_ids.tolist() == data.user_ids.tolist()
    for name, expected in parts.items():
        assert (getattr(back, name).toarray() == expected[:, seen]).all()


def test_lightgcn_writes_line_feeds_and_refuses_names(tmp_path):
    write_lightgcn(Dataset.from_matrices([[1, 1], [0, 0]]), tmp_path)
    assert (tmp_path / "train.txt").read_bytes() == b"0 0 1\n1\n"
    assert not (tmp_path / "test.txt").exists()
    with pytest.raises(DataError, match="user id does not fit.*'anna'"):
        write_lightgcn(Dataset.from_matrices([[1]], user_ids=["anna"]), tmp_path)


@pytest.mark.parametrize("user", ["user", "user_id", "userId", "User ID", "uid"])
@pytest.mark.parametrize("item", ["item", "item_id", "movieId", "ISBN"])
def test_csv_common_names(tmp_path, user, item):
    path = write(tmp_path / "x.csv", f"{item},stars,{user},time\nx,5,anna,7\n")
    assert rows(read_csv(path)) == [("anna", "x", 7.0)]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv_guesses_the_separator(tmp_path, separator):
    path = write(tmp_path / "x.csv", f"user{separator}item\nanna{separator}x\n")
    assert rows(read_csv(path)) == [("anna", "x")]
    with pytest.raises(DataError, match="separator must be one character.*'::'"):
        read_csv(path, separator="::")


ids = st.text(string.ascii_letters + string.digits + " ,;\"'\t\n\r|é漢😀", min_size=1, max_size=6)


@ANY_CASE
@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=8))
def test_csv_round_trip_of_any_ids(tmp_path, pairs):
    quoted = ['"' + a.replace('"', '""') + '","' + b.replace('"', '""') + '"' for a, b in pairs]
    path = write(tmp_path / "x.csv", "user,item\n" + "\n".join(quoted) + "\n")
    trimmed = {(a.strip(), b.strip()) for a, b in pairs}
    if any(not name for pair in trimmed for name in pair):
        with pytest.raises(DataError, match="id is empty"):
            read_csv(path)
    else:
        assert sorted(rows(read_csv(path))) == sorted(trimmed)


def test_times_may_be_dates(tmp_path):
    moments = {
        "2024-03-11": 1710115200, "2024-03-11T08:30": 1710145800, "2024-03-11 08:30:00.5": 1710145800.5, "1969-12-31": -86400,
        "2024-03-11T08:30+02:00": 1710138600, "2024-03-11T08:30:00Z": 1710145800, "1710115200": 1710115200, "20240311": 20240311,
    }  # fmt: skip
    path = tmp_path / "dated.csv"
    path.write_text("user,item,time\n" + "".join(f"u,i{k},{text}\n" for k, text in enumerate(moments)), encoding="utf-8")
    read = read_csv(path)
    assert read.timestamp.tolist() == list(moments.values())
    for wrong in ("2024-13-01", "11.03.2024", "2024-3", "2024-03-11T25:00"):
        path.write_text(f"user,item,time\nu,i,{wrong}\n", encoding="utf-8")
        with pytest.raises(DataError, match=r"line 2: the timestamp is not a number or date; give seconds") as caught:
            read_csv(path)
        assert wrong in str(caught.value)
