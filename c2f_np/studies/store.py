"""The folder of a study's results: a file for each job, so that nothing is ever half there, and tables made from them.

    study.toml           the study file
    rows/<job>.json      what a job measured, or how it failed
    rows/<job>.npz       the metrics of every user, float32
    rows.csv             all of it but users and tracebacks, a line for each outcome; written anew from the rows
    report.md, *.png
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..archive import read_archive
from ..errors import ModelFileError
from ..files import write_atomically, write_text_atomically
from .outcome import Outcome

STUDY, ROWS, TABLE, REPORT = "study.toml", "rows", "rows.csv", "report.md"
_KIND, _VERSION = "study row", 1


@dataclass(frozen=True)
class Store:
    """Reads and writes the rows of a folder.

    Attributes
    ----------
    folder : Path
    """

    folder: Path

    def prepare(self) -> None:
        """Make the folder; take away what a killed process left half written."""
        rows = self.folder / ROWS
        rows.mkdir(parents=True, exist_ok=True)
        for place in (self.folder, rows):
            for leftover in place.glob(".*.part"):
                leftover.unlink(missing_ok=True)

    def write(self, key: str, row: dict, outcomes: list[Outcome]) -> None:
        """Keep a job's row; the file of its users first, so that a row that is there is whole.

        Raises
        ------
        OSError
        """
        arrays = {}
        for position, outcome in enumerate(outcomes):
            if outcome.users is not None:
                arrays[f"{position}.users"] = outcome.users
                arrays |= {f"{position}.{name}": values for name, values in outcome.per_user.items()}
        header = {"kind": _KIND, "version": _VERSION, "fingerprint": row["fingerprint"]}
        members = {"header": np.frombuffer(json.dumps(header).encode("utf-8"), dtype=np.uint8)} | arrays
        write_atomically(self._path(key, "npz"), lambda file: np.savez_compressed(file, **members))
        row = row | {"outcomes": [outcome.to_dict() for outcome in outcomes]}
        write_text_atomically(self._path(key, "json"), json.dumps(row, indent=1) + "\n")

    def read(self, key: str) -> dict | None:
        """A job's row, or None if there is none that can be used: then the job is to be done."""
        try:
            row = json.loads(self._path(key, "json").read_text(encoding="utf-8"))
            whole = isinstance(row, dict) and {"status", "fingerprint", "outcomes", "error"} <= set(row)
        except (OSError, ValueError):
            return None
        return row if whole and self._has_users_of(key, row) else None

    def _has_users_of(self, key: str, row: dict) -> bool:
        try:
            self.users_of(key, row)
        except (ModelFileError, ValueError):
            return False
        return True

    def users_of(self, key: str, row: dict) -> list[tuple[np.ndarray, dict[str, np.ndarray]] | None]:
        """For each outcome of a row its users and their metrics.

        Raises
        ------
        ModelFileError
            If the file is missing, damaged or belongs to another row.
        """
        path = self._path(key, "npz")
        header, arrays = read_archive(path, _KIND, _VERSION)
        if header.get("fingerprint") != row["fingerprint"]:
            raise ModelFileError(f"{path}: does not belong to the row beside it; delete both and run the study again")
        result = []
        for position in range(len(row["outcomes"])):
            mine = {name.partition(".")[2]: values for name, values in arrays.items() if name.startswith(f"{position}.")}
            result.append((mine.pop("users"), mine) if mine else None)
        return result

    def _path(self, key: str, suffix: str) -> Path:
        return self.folder / ROWS / f"{key}.{suffix}"


def write_table(path: Path, rows: list[dict]) -> None:
    """``rows.csv``: a line for each outcome, and for each failed job."""
    lines = [line for row in rows for line in _lines(row)]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text_atomically(path, text.getvalue())


def versions_in_words(row: dict) -> str:
    """What a row was made with: "numpy 2.1.0; scipy 1.14.1" and so on."""
    return "; ".join(f"{name} {version}" for name, version in row["versions"].items())


def _lines(row: dict) -> list[dict]:
    job = {name: row[name] for name in ("data", "protocol", "run", "method", "seed", "status")}
    peak = {"peak_memory": "" if row["peak_memory"] is None else row["peak_memory"]}
    if row["status"] == "failed":
        return [job | {"outcome": row["run"]} | peak | {"note": f"{row['error']['type']}: {row['error']['message']}"}]
    lines, made_with = [], {"versions": versions_in_words(row), "processor": row.get("processor", "")}
    for outcome in row["outcomes"]:
        line = job | {"outcome": outcome["label"]}
        for part, metrics in outcome["metrics"].items():
            line |= {f"{part}_{name}": value for name, value in metrics.items()}
        line |= {"bytes": outcome["size"].get("model"), "floats": outcome["size"].get("floats")}
        line |= {name: outcome[name] for name in ("seconds", "epochs", "best_epoch", "note")} | peak | made_with
        lines.append({name: "" if value is None else value for name, value in line.items()})
    return lines
