"""The rows of studies are read as they stand."""

from c2f_np.course import experiments


def test_rows_of_a_study(tmp_path):
    (tmp_path / "a-study").mkdir()
    (tmp_path / "a-study" / "rows.csv").write_text(
        "data,status,outcome,test_ndcg@20,bytes,note\n"
        "planted,done,a,0.25,100,\n"
        'planted,done,"b, 2 rows",0.5,200,\n'
        "planted,done,a,0.75,100,\n"
        "planted,done,a / control,,,does not apply\n"
        "planted,failed,c,,,DataError: x\n",
        encoding="utf-8",
    )
    found = experiments.study_rows("a-study", tmp_path)
    assert list(found) == ["a", "b, 2 rows"]
    assert found["a"]["test_ndcg@20"].tolist() == [0.25, 0.75] and found["b, 2 rows"]["bytes"].tolist() == [200]
    assert "note" not in found["a"] and "data" not in found["a"]
