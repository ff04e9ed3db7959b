"""``python -m c2f_np export``."""

import numpy as np
import pytest

from c2f_np.cli import main
from c2f_np.model_file import load_model
from c2f_np.recommender import C2FRecommender
from c2f_np.run import read_request
from c2f_np.serving import load_exported
from c2f_np.serving.exporting import measure

_SMALL = (
    "--n-coarse 6 --n-fine 4 --dim 8 --n-components 4 --t-fine 2 --max-epochs 2 --eval-every 1 --engine numpy "
    "--coarse-lr 1e-2 --fine-lr 1e-2 --partition random --quiet"
).split()


@pytest.fixture(scope="module", params=["default", "staged"])
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert main(["train", "southern-women", "--preset", request.param, "--out", str(folder), *_SMALL]) == 0
    return folder


def test_a_run_folder_or_a_model_file(folder, tmp_path, capsys):
    for source, out in ((folder, tmp_path / "a.npz"), (folder / "model.npz", tmp_path / "b.npz")):
        assert main(["export", str(source), "--out", str(out)]) == 0
    assert f"{(tmp_path / 'b.npz').stat().st_size:,} bytes" in capsys.readouterr().out
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    served, full = load_exported(tmp_path / "a.npz"), C2FRecommender.load(folder / "model.npz")
    np.testing.assert_allclose(served.embeddings(), full.embeddings_, atol=1e-5)
    assert served.recommend("Nora Fayette", 3)[0].tolist() == full.recommend("Nora Fayette", 3)[0].tolist()


def test_options(folder, tmp_path):
    out = tmp_path / "small.npz"
    options = ["--codebook", "int8", "--weights", "float16", "--without-ids", "--without-interactions"]
    assert main(["export", str(folder), "--out", str(out), *options]) == 0
    served = load_exported(out)
    assert served.user_ids is None and served.size_in_bytes()["interactions"] == 0
    assert (served.about["codebook"], served.about["weights"]) == ("int8", "float16")


def test_the_table_is_what_the_files_are(folder, tmp_path, capsys):
    out = tmp_path / "exports"
    assert main(["export", str(folder), "--table", "--out", str(out)]) == 0
    text = (out / "table.md").read_text()
    assert text in capsys.readouterr().out
    assert len(list(out.glob("*-*.npz"))) == 9
    full = C2FRecommender.load(folder / "model.npz")
    data = read_request(folder).load_data()
    model = load_model(folder / "model.npz")
    rows = measure(model, data, "test", tmp_path / "again")
    expected = full.evaluate(data).metrics
    assert rows[0].metrics == pytest.approx({name: expected[name] for name in ("ndcg@20", "recall@20")}, abs=1e-6)
    lines = text.splitlines()
    for row in rows:
        size = (out / f"{row.codebook}-{row.weights}.npz").stat().st_size
        line = next(line for line in lines if line.startswith(f"| {row.codebook} | {row.weights} |"))
        assert f"| {size:,} |" in line and f"| {row.metrics['ndcg@20']:.4f} |" in line and row.file == size > row.file_alone
    assert f"| propagated table, float16 | {32 * 8 * 2:,} |" in lines


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{folder}", "--table", "--out", "{out}", "--codebook", "int8"], "--codebook is for a single file"),
        (["{folder}/model.npz", "--table", "--out", "{out}"], "not a run folder"),
        (["{folder}", "--data", "planted", "--out", "{out}"], "--data is for --table"),
        (["{folder}", "--data", "planted", "--table", "--out", "{out}"], "not what the model was trained on"),
        (["{folder}", "--out", "{folder}/model.npz"], "is there and no exported model"),
        (["{out}/none", "--out", "{out}/small.npz"], "no such file"),
        (["{folder}", "--out", "{out}"], "not the name of a file"),
        (["{folder}", "--out", ""], "not the name of a file"),
        (["{folder}", "--table", "--out", ""], "name of the folder to write is empty"),
        (["{folder}", "--table", "--out", "{folder}/run.json"], "is not a folder"),
        (["{folder}", "--out", "{out}/none/small.npz"], "none"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(folder, tmp_path, capsys, arguments, message):
    filled = [argument.format(folder=folder, out=tmp_path) for argument in arguments]
    assert main(["export", *filled]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "more"), [("small.npz", []), ("exports/int8-int8.npz", ["--table"]), ("exports/table.md", ["--table"])]
)
def test_what_somebody_else_wrote_is_not_replaced(folder, tmp_path, capsys, name, more):
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_bytes(b"years of work")
    out = mine.parent if more else mine
    assert main(["export", str(folder), "--out", str(out), *more]) == 2
    assert "replaced" in capsys.readouterr().err
    assert mine.read_bytes() == b"years of work" and len(list(tmp_path.rglob("*"))) == len(mine.relative_to(tmp_path).parts)
    mine.unlink()
    for _ in range(2):  # an earlier export is replaced
        assert main(["export", str(folder), "--out", str(out), *more]) == 0
