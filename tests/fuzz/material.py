"""Well-formed files of every format, made once, and what is done with each: the commands that read it."""

import contextlib
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from c2f_np import load_dataset
from c2f_np.baselines import BASELINES, make_baseline
from c2f_np.cli import main
from c2f_np.data import write_lightgcn
from c2f_np.settings import Settings
from c2f_np.training import train
from c2f_np.training.checkpoint import save_checkpoint

SMALL = {"n_coarse": 6, "n_fine": 4, "dim": 8, "t_fine": 2, "max_epochs": 2, "eval_every": 1, "partition": "random"}
_JOINT = {"table_epochs": 2, "partition_epochs": 1}
#: Of each kind of model a preset and options: both codebooks dense, one of them sparse, no coarse one.
_WAYS = {
    "default": ("default", _JOINT | {"engine": "numba"}),
    "staged": ("staged", {"n_components": 4, "engine": "numpy"}),
    "second level": ("default", _JOINT | {"engine": "numpy", "gate": 1.0, "fine_density": 0.4}),
}
_STUDY = """
title = "A study"
question = "What if?"
data = ["southern-women"]
seeds = [0, 1]
trials = 2
reference = "plain"

[common]
n_coarse = 6
n_fine = 4
dim = 8
max_epochs = 1
table_epochs = 1
partition_epochs = 0

[[run]]
name = "plain"
method = "c2f"

[[run]]
name = "gate {gate} {word}"
method = "c2f"
grid = { gate = [0.1, 0.2] }
each = { word = ["a", "b"] }

[[run]]
name = "popular"
method = "popularity"

[[run]]
name = "neighbours"
method = "item-knn"
bytes_of = "plain"
search = { k = [2, 5], bytes_used = [0.5, 1.0] }
"""


_EVALUATE = """
from c2f_np.baselines import load_baseline
from c2f_np.data import load_dataset
from c2f_np.errors import C2FError
try:
    load_baseline("model.npz").evaluate(load_dataset("southern-women"))
except C2FError as error:
    print(f"error: {error}")
    raise SystemExit(2)
"""


@dataclass(frozen=True)
class Sample:
    """A file in a folder, of which copies are spoilt, and the calls that read it: (function of the worker, arguments)."""

    name: str
    folder: Path
    file: str
    calls: tuple[tuple[str, tuple[str, ...]], ...]


def quietly(*arguments):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert main([str(argument) for argument in arguments]) == 0, arguments


def main_calls(*lines):
    """Calls of the command line; ``~`` stands for a space within a word."""
    return tuple(("main", tuple(word.replace("~", " ") for word in line.split())) for line in lines)


def samples(place: Path) -> list[Sample]:
    """Make everything in a folder."""
    made = []

    def sample(name, folder, file, *calls):
        made.append(Sample(name, folder, file, calls))

    for way, (preset, more) in _WAYS.items():
        options = SMALL | more
        run = place / f"run {way}"
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        quietly("train", "southern-women", "--out", run, "--preset", preset, "--quiet", *words)
        resume = "train southern-women --out . --resume --quiet"
        control = ("control . --quiet",) if way == "staged" else ()
        sample(f"run.json {way}", run, "run.json", *main_calls(resume, "evaluate .", *control))
        sample(f"metrics.json {way}", run, "metrics.json", *main_calls("info .", *control))
        using = ("info .", "info . --json", "recommend . --user Nora~Fayette", "recommend . --similar-to E1 -k 3", "evaluate .",
                 "export . --out small.npz", "export . --out int8.npz --codebook int8 --weights int8")  # fmt: skip
        sample(f"model.npz {way}", run, "model.npz", *main_calls(*using))
        sample(f"finished checkpoint {way}", run, "checkpoint.npz", *main_calls(resume, *control))
        data, settings = load_dataset("southern-women", protocol="clean"), Settings.preset(preset, **options)
        steps = {}
        train(data, settings, after_epoch=lambda step, steps=steps: steps.setdefault(step.phase, step))
        for phase, step in steps.items():
            if phase != "done":
                begun = place / f"begun {way} {phase}"
                begun.mkdir()
                shutil.copy(run / "run.json", begun)
                save_checkpoint(begun / "checkpoint.npz", step, settings, data.fingerprint())
                sample(f"checkpoint {way} {phase}", begun, "checkpoint.npz", *main_calls(resume))
        for kind, more in (("float32", ()), ("int8", ("--without-ids",))):
            exported = place / f"exported {way} {kind}"
            exported.mkdir()
            quietly("export", run, "--out", exported / "small.npz", "--codebook", kind, "--weights", kind, *more)
            sample(f"exported {way} {kind}", exported, "small.npz", ("serve", ("small.npz",)))

        refit = place / f"refit {way}"
        shutil.copytree(run, refit)
        sample(f"run.json {way}, refit", refit, "run.json", *main_calls("refit . --quiet"))
        quietly("refit", refit, "--quiet")
        sample(f"refit.npz {way}", refit, "refit.npz", *main_calls(*using))

    for name in BASELINES:
        few = {"dim": 4, "n_parts": 2, "max_epochs": 1, "n_coarse": 4, "t_coarse": 2, "k": 3, "engine": "numpy"}
        baseline = make_baseline(name)
        baseline.set_params(**{key: value for key, value in few.items() if key in baseline.get_params()}).fit(data)
        folder = place / f"baseline {name}"
        folder.mkdir()
        baseline.save(folder / "model.npz")
        recommend = ["recommend model.npz --user Nora~Fayette -k 1", "recommend model.npz --similar-to E1 -k 2"]
        recommend = recommend[: 1 if name == "popularity" else 2]  # which compares no items
        sample(f"baseline {name}", folder, "model.npz", *main_calls("info model.npz", *recommend), ("run", (_EVALUATE,)))

    study = place / "study"
    study.mkdir()
    (study / "study.toml").write_text(_STUDY, encoding="utf-8")
    quietly("study", study / "study.toml", "--out", study / "out", "--jobs", 1, "--quiet")
    report = main_calls("study study.toml --out out --report-only --quiet")
    rows = sorted(path.name for path in (study / "out" / "rows").iterdir())
    for file in (rows[0], rows[1], rows[-2]):
        sample(f"study row {Path(file).suffix}", study, f"out/rows/{file}", *report)
    sample("study.toml", study, "study.toml", *main_calls("study study.toml --dry-run"))

    parity = place / "parity"
    parity.mkdir()
    shutil.copy(Path(__file__).parents[1] / "parity" / "case_c.npz", parity / "case.npz")
    sample("parity", parity, "case.npz", *main_calls("parity case.npz --engine numpy", "parity case.npz --engine numba"))
    return made + data_samples(place)


def data_samples(place: Path) -> list[Sample]:
    """Data in every format that is read."""
    rng = np.random.default_rng(0)
    rows = [(u, i, 1 + (u + i) % 5, 881250000 + 100 * u + i) for u in range(12) for i in range(9) if rng.random() < 0.6]
    quoted = "\n".join(f'"user {u}",Łódź {i},{r},{t}' for u, i, r, t in rows)
    texts = {
        "some.csv": f"user,item,rating,timestamp\n{quoted}\n",
        "some.tsv": "visitor\titem\n" + "\n".join(f"u{u}\ti{i}" for u, i, *_ in rows) + "\n",
        "some.inter": "user_id:token\titem_id:token\trating:float\n" + "\n".join(f"u{u}\ti{i}\t{r}" for u, i, r, _ in rows),
        "u.data": "\n".join("\t".join(map(str, row)) for row in rows) + "\n",
        "ratings.dat": "\n".join("::".join(map(str, row)) for row in rows) + "\n",
        "some.txt": "\n".join(f"{u} " + " ".join(str(i) for v, i, *_ in rows if v == u) for u in range(12)) + "\n",
    }
    made = []
    options = {
        "some.csv": ("", "--rating-threshold 3", "--split temporal"), "some.tsv": ("--user-column visitor",),
        "u.data": ("", "--split temporal --n-last 2"),
    }  # fmt: skip
    for name, text in texts.items():
        folder = place / f"data {name}"
        folder.mkdir()
        (folder / name).write_text(text, encoding="utf-8")
        calls = main_calls(*(f"data info {name} {more}" for more in options.get(name, ("",))))
        made.append(Sample(f"data {name}", folder, name, calls))
    folder = place / "data lightgcn"
    write_lightgcn(load_dataset("planted"), folder)
    for part in ("train.txt", "test.txt"):
        made.append(Sample(f"data folder {part}", folder, part, main_calls("data info .", "data info . --split random")))
    return made
