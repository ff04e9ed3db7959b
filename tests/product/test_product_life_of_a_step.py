"""docs/life_of_a_step.md: its calls are those of a real step, in their order, and its numbers of files are counted."""

import dataclasses
import functools
import re
import sys
from pathlib import Path

import pytest

from c2f_np import load_dataset
from c2f_np.settings import Settings
from c2f_np.training import loop
from c2f_np.training.phases import phases_of
from c2f_np.training.problem import pose

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = f"{ROOT / 'c2f_np'}/"
PAGE = (ROOT / "docs/life_of_a_step.md").read_text(encoding="utf-8")
ENGINES = ("numpy", "numba")


def required(engine):
    if engine == "numba" and pytest.importorskip("numba").config.DISABLE_JIT:
        pytest.skip("what is compiled is not entered; here nothing is compiled")


@functools.cache
def calls(engine):
    """The calls of one batch of the default preset, as (depth, name, file); what is compiled is one call."""
    settings = Settings.preset("default", engine=engine, table_epochs=0)  # the step is the same, from whichever start
    problem = pose(load_dataset("planted"), settings)
    phases = phases_of(settings, problem.engine)
    progress = dataclasses.replace(loop.begin(phases, problem), phase="joint")
    joint = dataclasses.replace(phases[-1], batch=10**6)
    loop._train_on_triples(joint, progress, problem, None)  # compiles
    found, depth = [], 0

    def note(frame, event, arg):
        nonlocal depth
        code = frame.f_code
        if event in ("call", "return") and code.co_filename.startswith(PACKAGE):
            if event == "call":
                found.append((depth, code.co_name, code.co_filename.removeprefix(PACKAGE)))
            depth += 1 if event == "call" else -1

    sys.setprofile(note)
    try:
        loop._train_on_triples(joint, progress, problem, None)
    finally:
        sys.setprofile(None)
    return found


def listed(engine):
    """The page's calls as (depth, name, file); below what is compiled, none."""
    lines = re.search(r"calls: begin -->\n```text\n(.*?)```", PAGE, flags=re.DOTALL)[1].splitlines()
    found, compiled_at = [], None
    for line in lines:
        depth, (name, file, *kernels) = (len(line) - len(line.lstrip())) // 2, line.split()
        if engine == "numba":
            if compiled_at is not None and depth > compiled_at:
                continue
            compiled_at, file = (depth, kernels[0]) if kernels else (None, file)
        found.append((depth, name, file))
    return found


def step(trace):
    """What `train_step` and its callees do, of a trace or of the page."""
    first = next(i for i, (_, name, _) in enumerate(trace) if name == "train_step")
    return trace[first : next((i for i in range(first + 1, len(trace)) if trace[i][0] <= trace[first][0]), len(trace))]


def first_difference(page, trace):
    """The first call of the page that does not occur after those above it, and below the one that it is indented under."""
    at, callers = -1, []
    for depth, name, file in page:
        callers = callers[:depth]
        outside = trace[callers[-1]][0] if callers else -1
        for i in range(at + 1, len(trace)):
            if trace[i][0] <= outside:
                return name, file
            if trace[i][1:] == (name, file):
                at = i
                callers.append(i)
                break
        else:
            return name, file
    return None


@pytest.mark.parametrize("engine", ENGINES)
def test_the_calls_of_the_page_are_made_in_their_order(engine):
    required(engine)
    assert first_difference(listed(engine), calls(engine)) is None


@pytest.mark.parametrize("engine", ENGINES)
def test_the_page_names_every_file_and_counts_them(engine):
    required(engine)
    for name, trace in (("epoch", calls(engine)), ("step", step(calls(engine)))):
        files = {file for _, _, file in trace}
        assert int(re.search(rf"<!-- {name} {engine} -->(\d+)", PAGE)[1]) == len(files), sorted(files)
        assert not {file for file in files if file not in PAGE}


def test_a_wrong_page_is_noticed():
    trace, page = calls("numpy"), listed("numpy")
    assert len(page) > 40 and len(step(page)) > 30
    for i in range(len(page)):
        depth, name, file = page[i]
        assert first_difference([*page[:i], (depth, f"{name}_", file), *page[i + 1 :]], trace) == (f"{name}_", file)
        assert first_difference([*page[:i], (depth, name, f"un{file}"), *page[i + 1 :]], trace) == (name, f"un{file}")
    places = {name: i for i, (_, name, _) in enumerate(page)}
    swapped = list(page)
    i, j = places["batch_loss_backward"], places["squared_norm_penalty_backward"]
    swapped[i], swapped[j] = swapped[j], swapped[i]
    assert first_difference(swapped, trace) is not None
    indented = [(depth + (name == "batch_loss"), name, file) for depth, name, file in page]
    assert first_difference(indented, trace) is not None
