"""Small runs in processes that can be killed, and what remains of them."""

import csv
import json
import os
import sys
import traceback
import zipfile
from pathlib import Path

import numpy as np

import c2f_np.plotting.results  # noqa: F401  once here, and not in every process that is forked
from c2f_np.cli import main
from c2f_np.run import CHECKPOINT, HISTORY, METRICS, MODEL, RUN
from tests.stored import stored

PRESETS = ("default", "staged", "authors", "paper")
_SIZES = ["--n-coarse", "6", "--n-fine", "4", "--dim", "8", "--t-fine", "2", "--partition", "random", "--patience", "999"]
_STAGED = ["--n-components", "4"]
#: It starts sooner, and writes the same files.
PLAIN = ("--engine", "numpy")


def arguments(preset: str, out: Path, *more: str, epochs: int = 10) -> list[str]:
    """The command line of a training that takes about a second."""
    length = ["--max-epochs", str(epochs)]
    own = ["--table-epochs", str(epochs), "--partition-epochs", str(epochs)] if preset == "default" else _STAGED
    return ["train", "southern-women", "--out", str(out), "--preset", preset, *_SIZES, *own, *length, "--quiet", *more]


def start(command: list[str], said: Path, prepare=None) -> int:
    """Carry out a command in a process of its own; its id. `prepare` is called there first, and `said` gets what it prints.

    The process is forked, for which this one must not have run compiled loops.
    """
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        if prepare is not None:
            prepare()
        code = main(command)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(code)


def end_of(process: int) -> int:
    """The exit code of a process, negative for a signal, once it has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def carry_out(command: list[str], said: Path, prepare=None) -> int:
    return end_of(start(command, said, prepare))


def result(folder: Path) -> dict:
    """Everything that a finished run wrote, without clocks, memory and the number of threads."""
    found = {}
    for name in (MODEL, CHECKPOINT):
        header, arrays = stored(folder / name)
        header["settings"].pop("threads")
        header["history"] = [_without_clock(row) for row in header.get("history", [])]
        found[name] = header, {key: (array.dtype.str, array.shape, array.tobytes()) for key, array in arrays.items()}
    metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    metrics["settings"].pop("threads")
    found[METRICS] = {key: value for key, value in metrics.items() if key not in ("seconds", "peak_memory_bytes")}
    with open(folder / HISTORY, newline="", encoding="utf-8") as table:
        found[HISTORY] = [_without_clock(row) for row in csv.DictReader(table)]
    return found


def _without_clock(row: dict) -> dict:
    return {key: repr(value) for key, value in row.items() if key != "seconds"}


def trouble_in(folder: Path, *, replaces: bool = False) -> str:
    """What is half written or lost where a run was stopped, or ""; temporary files may be left.

    Of a run that replaces another one, the log may be the earlier one's still.
    """
    try:
        if (folder / RUN).exists():
            json.loads((folder / RUN).read_text(encoding="utf-8"))
        if (folder / METRICS).exists():
            json.loads((folder / METRICS).read_text(encoding="utf-8"))
        if (folder / MODEL).exists():
            stored(folder / MODEL)
        if epochs_logged(folder) > epochs_kept(folder) and not replaces:
            return f"{epochs_logged(folder)} epochs in the log, {epochs_kept(folder)} in the checkpoint"
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        return repr(error)
    return ""


def epochs_kept(folder: Path) -> int:
    """Epochs in the checkpoint."""
    if not (folder / CHECKPOINT).exists():
        return 0
    return len(stored(folder / CHECKPOINT)[0]["history"])


def epochs_logged(folder: Path) -> int:
    """Epochs in the log."""
    return (folder / HISTORY).read_text(encoding="utf-8").count("\n") - 1 if (folder / HISTORY).exists() else 0


def difference(folder: Path, whole: dict) -> str:
    """The first file of a finished run that is not as in `whole`, or ""."""
    missing = [name for name in whole if not (folder / name).exists()]
    if missing:
        return missing[0]
    mine = result(folder)
    return next((name for name in whole if mine[name] != whole[name]), "")


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)
