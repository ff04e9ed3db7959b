"""The tables of stored results and the rows of studies are read as they stand."""

from pathlib import Path

from c2f_np.course import experiments

ROOT = Path(__file__).parents[2]


def test_stored_results():
    path = ROOT / "docs/results/presets.md"
    found = experiments.stored_results(path)
    assert {key[0] for key in found} == {"MovieLens 100K", "Planted"}
    assert {key[1] for key in found} == {"authors", "paper", "staged"}
    assert len(found) == 2 * 3 * 5
    text = path.read_text(encoding="utf-8")
    for (_, _, row), numbers in found.items():
        assert f"| {row} | {numbers['ndcg@5']:.4f} |" in text
        assert numbers["lowest"] <= numbers["ndcg@20"] <= numbers["highest"]
        assert numbers["bytes"] > 3000


def test_rows_of_a_study(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(
        "data,status,outcome,test_ndcg@20,bytes,note\n"
        "planted,done,a,0.25,100,\n"
        'planted,done,"b, 2 rows",0.5,200,\n'
        "planted,done,a,0.75,100,\n"
        "planted,done,a / control,,,does not apply\n"
        "planted,failed,c,,,DataError: x\n",
        encoding="utf-8",
    )
    found = experiments.study_rows(path)
    assert list(found) == ["a", "b, 2 rows"]
    assert found["a"]["test_ndcg@20"].tolist() == [0.25, 0.75] and found["b, 2 rows"]["bytes"].tolist() == [200]
    assert "note" not in found["a"] and "data" not in found["a"]
