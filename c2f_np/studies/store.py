"""What a job measured, and the folder of a study's results: a file for each job, so that nothing is ever half there.

    study.toml           the study file
    rows/<job>.json      what a job measured, or how it failed
    rows/<job>.npz       the metrics of every user, float32
    rows.csv             everything but users and tracebacks, a line for each measurement; made anew from the rows
    report.md, *.png

A folder with a study file and a folder of rows belongs to a study, which may replace files of these names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..archive import Array, open_archive
from ..errors import ModelFileError, SettingsError
from ..evaluation import DEFAULT_METRICS
from ..files import write_atomically, write_json, write_text_atomically
from ..folders import delete_unfinished, refuse_strangers
from ..schema import ANY_TEXT, COUNT, COUNT_OR_NONE, NUMBER, TEXT, Parameter, check_form, parse_json

STUDY, ROWS, TABLE, REPORT = "study.toml", "rows", "rows.csv", "report.md"
#: Patterns of what a study writes into its folder.
WRITTEN = (STUDY, ROWS, TABLE, REPORT, "figure*.png", "protocol-*.json", "protocol-*.png", "planted-structure*")
_KIND, _VERSION = "study row", 1
_KINDS = Parameter("", str, choices=("popularity", "coarse", "fine", "other"))
_OUTCOME = {
    "label": TEXT, "part": TEXT, "kind": _KINDS, "metrics": {"*": dict.fromkeys(DEFAULT_METRICS, NUMBER)},
    "size": {"*": COUNT_OR_NONE}, "seconds": NUMBER, "epochs": COUNT_OR_NONE, "best_epoch": COUNT_OR_NONE, "note": TEXT,
}  # fmt: skip
_ROW = {
    **dict.fromkeys(("job", "data", "protocol", "run", "method", "fingerprint"), TEXT),
    "seed": COUNT, "status": Parameter("", str, choices=("done", "failed")), "outcomes": [_OUTCOME], "versions": {"*": TEXT},
    "error": (None, dict.fromkeys(("type", "message", "traceback"), TEXT)), "peak_memory": COUNT_OR_NONE, "processor?": ANY_TEXT,
    "seconds?": NUMBER, "searched?": ANY_TEXT,
}  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """What is measured of a trained model, the same for every method: one line of a report, for one seed."""

    label: str  # the run's name for its result, else with the phase or analysis behind it
    part: str  # the phase or analysis; "" for the result
    kind: str  # "popularity", "coarse", "fine" or "other": how figures show it
    metrics: dict[str, dict[str, float]]  # of validation and test, where the data have them
    size: dict[str, int | None]  # bytes part by part; "model" is their sum, "floats" the number of floats, if known
    seconds: float  # of training until the model stood, or of the analysis
    epochs: int | None = None
    best_epoch: int | None = None
    note: str = ""  # such as "does not apply"; then there are no metrics
    per_user: dict[str, np.ndarray] = field(default_factory=dict)  # metrics of each user, of the report's part of the data
    users: np.ndarray | None = None

    def to_dict(self) -> dict:
        """Everything but the arrays, as plain JSON."""
        return {name: value for name, value in vars(self).items() if name not in ("per_user", "users")}


@dataclass(frozen=True)
class Store:
    """Reads and writes the rows of a folder."""

    folder: Path

    def refuse_strangers(self, text: str) -> None:
        """Raise SettingsError if the folder holds files of a study's names, and no study; `text` is that of the study file."""
        study = self.folder / STUDY
        if not (study.is_file() and (self.folder / ROWS).is_dir()):
            present = [path.name for pattern in WRITTEN for path in self.folder.glob(pattern)]
            if study.is_file() and study.read_bytes() == text.encode("utf-8"):  # which would be written there anyway
                present.remove(STUDY)
            refuse_strangers(self.folder, present, f"no study (which has {STUDY} and {ROWS}/)")

    def prepare(self, text: str) -> None:
        """Make the folder with the study file, and delete what a killed process left half written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(self.folder / STUDY, text)
        rows = self.folder / ROWS
        rows.mkdir(exist_ok=True)
        delete_unfinished(self.folder, WRITTEN)
        delete_unfinished(rows, ("*.json", "*.npz"))

    def write(self, key: str, row: dict, measured: list[Measurement]) -> None:
        """Keep a job's row; the file of its users first, so that a row that is there is whole."""
        header = {"kind": _KIND, "version": _VERSION, "fingerprint": row["fingerprint"]}
        members = {"header": np.frombuffer(json.dumps(header).encode("utf-8"), dtype=np.uint8)}
        for position, each in enumerate(measured):
            if each.users is not None:
                arrays = {"users": each.users} | each.per_user
                members |= {f"{position}.{name}": values for name, values in arrays.items()}
        write_atomically(self._path(key, "npz"), lambda file: np.savez_compressed(file, **members))
        self._write_row(key, row | {"outcomes": [each.to_dict() for each in measured]})

    def copy(self, row: dict, key: str, run: str) -> None:
        """Keep a row, and its users, also as that of another job with the same fingerprint; `run` is its run."""
        users = self._path(row["job"], "npz").read_bytes()
        write_atomically(self._path(key, "npz"), lambda file: file.write(users))
        outcomes = [each | {"label": run + each["label"].removeprefix(row["run"])} for each in row["outcomes"]]
        self._write_row(key, row | {"job": key, "run": run, "outcomes": outcomes})

    def _write_row(self, key: str, row: dict) -> None:
        write_json(self._path(key, "json"), row)

    def read(self, key: str) -> dict | None:
        """A job's row, or None if there is none that can be used: then the job has to be done."""
        path = self._path(key, "json")
        try:
            row = parse_json(path.read_bytes(), path) if path.is_file() else None
            check_form(row, _ROW, str(path))
            if row["status"] == "failed" and row["error"] is None:
                return None
            self.users_of(key, row)
        except (OSError, ModelFileError, SettingsError):
            return None
        return row

    def users_of(self, key: str, row: dict) -> list[tuple[np.ndarray, dict[str, np.ndarray]] | None]:
        """For each measurement of a row its users and their metrics; ModelFileError if the file is damaged or another row's."""
        path, result = self._path(key, "npz"), list[tuple[np.ndarray, dict[str, np.ndarray]] | None]()
        with open_archive(path, _KIND, _VERSION, {"fingerprint": TEXT}) as (header, members):
            if header["fingerprint"] != row["fingerprint"]:
                raise ModelFileError(f"{path}: does not belong to the row beside it; delete both and run the study again")
            for position in range(len(row["outcomes"])):
                if f"{position}.users" not in members:
                    result.append(None)
                    continue
                layout = {f"{position}.users": Array("int64", ("n",), low=0)}
                layout |= {f"{position}.{name}": Array("float32", ("n",), optional=True) for name in DEFAULT_METRICS}
                arrays = members.read_all(layout)
                if not len(arrays[f"{position}.users"]):
                    raise members.error(f"{position}.users", "is empty")
                mine = {name.partition(".")[2]: values for name, values in arrays.items()}
                result.append((mine.pop("users"), mine))
        return result

    def _path(self, key: str, suffix: str) -> Path:
        return self.folder / ROWS / f"{key}.{suffix}"


def versions_in_words(row: dict) -> str:
    """What a row was made with: "numpy 2.1.0; scipy 1.14.1" and so on."""
    return "; ".join(f"{name} {version}" for name, version in row["versions"].items())


def table_lines(row: dict) -> list[dict]:
    """The lines of ``rows.csv`` for a job: one for each measurement, or one if it failed."""
    job = {name: row[name] for name in ("data", "protocol", "run", "method", "seed", "status")}
    job |= {"searched": row["searched"]} if row.get("searched") else {}
    peak = {"peak_memory": row["peak_memory"]}
    if row["status"] == "failed":
        return [job | {"outcome": row["run"]} | peak | {"note": f"{row['error']['type']}: {row['error']['message']}"}]
    lines, made_with = [], {"versions": versions_in_words(row), "processor": row.get("processor", "")}
    for outcome in row["outcomes"]:
        line = job | {"outcome": outcome["label"]}
        for part, metrics in outcome["metrics"].items():
            line |= {f"{part}_{name}": value for name, value in metrics.items()}
        line |= {"bytes": outcome["size"].get("model"), "floats": outcome["size"].get("floats")}
        lines.append(line | {name: outcome[name] for name in ("seconds", "epochs", "best_epoch", "note")} | peak | made_with)
    return lines
