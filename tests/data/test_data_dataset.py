"""The data set: what it accepts, what it masks, how it is recognised."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse import csr_array

from c2f_np.data import Dataset
from c2f_np.errors import DataError

#           items 0  1  2  3
TRAIN = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
VALIDATION = np.array([[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
TEST = np.array([[0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])


def small(**changes):
    return Dataset.from_matrices(**{**dict(train=TRAIN, validation=VALIDATION, test=TEST), **changes})


def test_parts_are_binary_int8_csr_with_sorted_indices():
    data = small(train=TRAIN * 2.5)
    for (_, matrix), expected in zip(data.parts(), (TRAIN, VALIDATION, TEST), strict=True):
        assert isinstance(matrix, csr_array) and matrix.dtype == np.int8 and matrix.has_sorted_indices
        assert matrix.toarray().tolist() == expected.tolist()
    assert (data.n_users, data.n_items) == (3, 4)
    assert data.report["values_made_one"] == 3


def test_report_counts_who_is_missing():
    report = small().report
    assert report["users_without_training"] == 1 and report["items_without_training"] == 2
    assert report["users_without_test"] == 1 and report["users_without_validation"] == 2


def test_masks_of_both_protocols():
    authors, clean = small(protocol="authors"), small(protocol="clean")
    for data in (authors, clean):
        assert data.masked_when_ranking("validation").toarray().tolist() == TRAIN.tolist()
    assert authors.masked_when_ranking("test").toarray().tolist() == TRAIN.tolist()
    assert clean.masked_when_ranking("test").toarray().tolist() == (TRAIN + VALIDATION).tolist()
    with pytest.raises(DataError, match="not 'train'"):
        clean.masked_when_ranking("train")
    with pytest.raises(DataError, match="no test part"):
        small(test=None).masked_when_ranking("test")


def test_by_what_a_ranking_is_judged():
    data, none = small(), np.zeros_like(TEST)
    assert data.held_out("test").toarray().tolist() == TEST.tolist() and data.judged_by() == "test"
    for absent in (None, none):
        data = small(test=absent)
        assert data.held_out("test") is None and data.judged_by() == "validation"
        assert data.held_out("validation").toarray().tolist() == VALIDATION.tolist()
        assert small(test=absent, validation=none).judged_by() == ""
    with pytest.raises(DataError, match="judged by validation or test, not 'train'"):
        data.held_out("train")


@pytest.mark.parametrize("form", ["coo", "csc", "lil", "dok", "bsr"])
def test_any_sparse_format_will_do(form):
    assert small(train=sparse.csr_matrix(TRAIN).asformat(form)).fingerprint() == small().fingerprint()


def test_explicit_zeros_and_duplicates_are_counted():
    values, users, items = [1, 1, 0, 1], [0, 0, 0, 1], [1, 1, 2, 0]
    data = Dataset.from_matrices(sparse.coo_array((values, (users, items)), shape=(2, 3)))
    assert data.train.toarray().tolist() == [[0, 1, 0], [1, 0, 0]]
    assert data.report["duplicates_merged"] == 1 and data.report["explicit_zeros"] == 1


def test_a_pair_in_two_parts_stays_in_training_before_test_before_validation():
    data = Dataset.from_matrices([[1, 0, 0, 0]], validation=[[1, 1, 1, 0]], test=[[1, 1, 0, 1]])
    assert data.train.toarray().tolist() == [[1, 0, 0, 0]]
    assert data.test.toarray().tolist() == [[0, 1, 0, 1]]
    assert data.validation.toarray().tolist() == [[0, 0, 1, 0]]
    assert data.report["test_pairs_also_in_training"] == 1
    assert data.report["validation_pairs_also_in_training"] == 1
    assert data.report["validation_pairs_also_in_test"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(train=np.array([[np.nan, 1]])), "user 0, item 0 is not a finite number.*nan"),
        (dict(train=sparse.csr_array([[1.0, np.inf]])), "user 0, item 1 is not a finite number"),
        (dict(train=sparse.csr_array([[0, -3]])), "train: the value of user 0, item 1 is negative.*-3"),
        (dict(train=np.ones(3)), "1 dimensions"),
        (dict(train=np.ones((2, 2, 2))), "3 dimensions"),
        (dict(train=np.array([["a", "b"]])), "not <U1"),
        (dict(train=np.array([[1j, 0]])), "Complex data not supported.*complex128"),
        (dict(train=np.array([[None, 1]])), "not a finite number"),
        (dict(train=np.array([["a", 1]], object)), "not object"),
        (dict(train=np.ones((0, 3))), "at least one user"),
        (dict(train=np.zeros((3, 4))), "no training interactions"),
        (dict(train=None), "0 dimensions"),
        (dict(test=np.ones((3, 5))), r"test has shape \(3, 5\), but train has \(3, 4\)"),
        (dict(user_ids=["a", "b"]), "3 users need as many ids, not 2"),
        (dict(item_ids=["a", "b", "a", "c"]), "item ids must be unique.*2 times.*'a'"),
        (dict(protocol="other"), "protocol must be one of authors, clean"),
    ],
)
def test_what_from_matrices_refuses(changes, message):
    with pytest.raises(DataError, match=message):
        small(**changes)


def direct(matrix, **changes):
    shape = matrix.shape
    ids = dict(user_ids=np.arange(shape[0]).astype(str), item_ids=np.arange(shape[1]).astype(str))
    return Dataset(**{**dict(name="x", train=matrix, validation=None, test=None), **ids, **changes})


def test_the_constructor_refuses_what_is_not_in_its_form():
    ones = csr_array(TRAIN.astype(np.int8))
    assert direct(ones).n_users == 3
    with pytest.raises(DataError, match="csr_array of int8"):
        direct(TRAIN)
    with pytest.raises(DataError, match="csr_array of int8"):
        direct(ones.astype(np.float64))
    with pytest.raises(DataError, match="ones only.*2"):
        direct(ones * np.int8(2))
    with pytest.raises(DataError, match="3 pairs are in both train and test"):
        direct(ones, test=ones)
    with pytest.raises(DataError, match=r"test has shape \(3, 3\)"):
        direct(ones, test=csr_array((3, 3), dtype=np.int8))
    with pytest.raises(DataError, match="array of strings"):
        direct(ones, user_ids=np.arange(3))
    unsorted = csr_array((np.ones(2, np.int8), [1, 0], [0, 2]), shape=(1, 2))
    with pytest.raises(DataError, match="sorted"):
        direct(unsorted)
    broken = csr_array(TRAIN.astype(np.int8))
    broken.indices[0] = 7
    with pytest.raises(DataError, match="column index outside 0..3"):
        direct(broken)


def test_fingerprint_is_the_same_everywhere_and_sees_every_difference():
    known = "ab3faf29f4446928"
    assert small().fingerprint().startswith(known), "the fingerprint of stored models would no longer match"
    assert small(name="other", protocol="authors").fingerprint() == small().fingerprint()
    others = [
        small(test=None),
        small(test=np.zeros((3, 4))),
        small(validation=TEST, test=VALIDATION),
        small(user_ids=["a", "b", "c"]),
        small(item_ids=["1", "11", "2", "3"]),
        small(item_ids=["11", "1", "2", "3"]),
    ]
    prints = {data.fingerprint() for data in [small(), *others]}
    assert len(prints) == len(others) + 1


def test_external_ids_are_found_and_unknown_ones_named():
    data = small(user_ids=["anna", "ben", "cleo"])
    assert data.user_index(["cleo", "anna"]).tolist() == [2, 0]
    assert data.user_index("ben").tolist() == [1]
    assert data.item_index([3, "0"]).tolist() == [3, 0]
    with pytest.raises(DataError, match="2 of 3 user ids are unknown.*'dora', 'emil'"):
        data.user_index(["dora", "anna", "emil"])
    with pytest.raises(DataError, match="20 of 20 item ids.*, ..."):
        data.item_index(range(100, 120))


def test_describe_names_the_protocol_and_the_split():
    text = small(name="tiny", split="by hand", protocol="authors").describe()
    for words in ("tiny", "3 users, 4 items", "split: by hand", "protocol: authors", "users without training: 1"):
        assert words in text


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_part_that_training_holds_is_refused(part):
    # As in from_frames(everything, test=held_out): the ranking would be judged by nothing.
    train = np.array([[1, 1, 0], [0, 1, 1]])
    with pytest.raises(DataError, match=f"every pair of {part} is in train too"):
        Dataset.from_matrices(train, **{part: np.array([[1, 0, 0], [0, 0, 1]])})
    assert getattr(Dataset.from_matrices(train, **{part: np.array([[1, 0, 1], [0, 0, 1]])}), part).nnz == 1
