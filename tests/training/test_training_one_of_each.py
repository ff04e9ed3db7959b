"""One optimiser step and one epoch loop, for the stages, joint training, the control and the trained baselines alike."""

import ast
import collections
import functools
from pathlib import Path

import pytest

import c2f_np

PACKAGE = Path(c2f_np.__file__).parent
#: What holds the training to references of its own steps through parts of it by hand; the course's readers write functions of
#: the same names.
CHECKS = ("verification", "checks", "parity", "parity.py", "course")


@functools.cache
def mentions():
    """Every name that the package mentions, with the functions that do; none may be imported under another name."""
    found = collections.defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        where = path.relative_to(PACKAGE)
        if where.parts[0] in CHECKS:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {child: node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for child in ast.walk(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.alias) and node.asname is not None:
                found[node.name.split(".")[-1]].append(f"{where.as_posix()}: imported as {node.asname}")
            for name in {getattr(node, "id", None), getattr(node, "attr", None)} - {None}:
                found[name].append(f"{where.as_posix()}: {inside.get(node, '')}")
    return found


@pytest.mark.parametrize(
    ("name", "user"),
    [
        ("adam_step", "model/step.py: train_step"),
        ("batch_loss", "model/step.py: train_step"),
        ("train_step", "training/loop.py: _train_on_triples"),
        ("drawn_batches", "training/loop.py: _train_on_triples"),
        ("sample_triples", "model/sampling.py: drawn_batches"),
        ("train_epoch", "training/loop.py: run_epoch"),
        ("run_epoch", "training/loop.py: run_phases"),
        ("fresh_moments", "training/loop.py: _enter"),
    ],
)
def test_each_is_called_from_one_place(name, user):
    assert mentions()[name] == [user]


def test_everything_is_trained_by_that_loop():
    ways = ("train", "train_control", "train_or_refit", "train_refit", "train_refit")
    assert sorted(mentions()["run_phases"]) == [f"training/__init__.py: {way}" for way in ways]
    fits = ["baselines/tables.py: _learn", "recommender.py: _learn"]
    assert sorted(mentions()["train_or_refit"]) == fits
