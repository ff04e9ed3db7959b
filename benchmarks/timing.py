"""Timing competitors side by side: interleaved rounds, medians and quartiles.

Noise of the machine (another process, a lower clock) then hits all competitors alike, which it would not if each were
measured to the end before the next begins.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import wraps
from importlib import import_module

import numpy as np

# A sample shorter than this consists of several calls: a clock and a cold branch predictor must not matter.
SHORTEST_SAMPLE = 0.02
MOST_CALLS = 200
# Threads of the competitor before, which spin for a moment after their last parallel loop, have gone to sleep by then.
PAUSE = 0.003


@dataclass
class Competitor:
    """One way to do what is measured.

    Attributes
    ----------
    name : str
    call : callable
        Does it once. What it returns is dropped.
    context : callable
        Gives a context manager that holds during its samples, and is not timed; for numbers of threads.
    scale : float
        Times are multiplied by it, where only a part of the work is done.
    note : str
        What the reader has to know; says so if `scale` is not 1.
    """

    name: str
    call: Callable[[], object]
    context: Callable[[], AbstractContextManager] = nullcontext
    scale: float = 1.0
    note: str = ""
    samples: list[float] = field(default_factory=list)
    calls_per_sample: int = 1
    error: str = ""


def interleave(competitors: list[Competitor], *, rounds: int, seconds: float) -> dict[str, dict]:
    """Measure competitors in rounds; each round begins with another one.

    Parameters
    ----------
    competitors : list of Competitor
    rounds : int
        Most rounds.
    seconds : float
        Rounds end once this is used up, but there are at least three (two if `rounds` is 2).

    Returns
    -------
    dict of str to dict
        :func:`summary` of each by its name, in seconds a call; ``{"error": ...}`` for one that failed.
    """
    for competitor in competitors:
        _warm_up(competitor)
    began = time.perf_counter()
    for number in range(rounds):
        if number >= min(3, rounds) and time.perf_counter() - began > seconds:
            break
        gc.collect()
        first = number % len(competitors)
        for competitor in competitors[first:] + competitors[:first]:
            if not competitor.error:
                _take_sample(competitor)
    return {competitor.name: _described(competitor) for competitor in competitors}


def _warm_up(competitor: Competitor) -> None:
    """Compile, fill caches, and find out how many calls make a sample."""
    try:
        with competitor.context():
            competitor.call()
            started = time.perf_counter()
            competitor.call()
            duration = time.perf_counter() - started
    except (RuntimeError, MemoryError, NotImplementedError) as error:
        # Another library's refusal (a layout without a backward pass, no memory) is a result, not the end of the run.
        if competitor.name.startswith("ours"):
            raise
        competitor.error = type(error).__name__
        print(f"  {competitor.name} failed: {error}", file=sys.stderr)
        return
    competitor.calls_per_sample = max(1, min(MOST_CALLS, math.ceil(SHORTEST_SAMPLE / max(duration, 1e-9))))


def _take_sample(competitor: Competitor) -> None:
    time.sleep(PAUSE)
    gc.disable()
    try:
        with competitor.context():
            # One call before the clock starts: threads wake up, and buffers are there, as in the middle of a training.
            competitor.call()
            started = time.perf_counter()
            for _ in range(competitor.calls_per_sample):
                competitor.call()
            duration = time.perf_counter() - started
    finally:
        gc.enable()
    competitor.samples.append(duration / competitor.calls_per_sample * competitor.scale)


def _described(competitor: Competitor) -> dict:
    found = {"error": competitor.error} if competitor.error else summary(competitor.samples)
    if not competitor.error:
        found["calls_per_sample"] = competitor.calls_per_sample
    if competitor.note:
        found["note"] = competitor.note
    if competitor.scale != 1:
        found["scaled_by"] = competitor.scale
    return found


def summary(samples: list[float]) -> dict:
    """Median, quartiles, range and number of samples."""
    quartiles = np.quantile(samples, [0.25, 0.5, 0.75])
    return {
        "median": float(quartiles[1]),
        "q25": float(quartiles[0]),
        "q75": float(quartiles[2]),
        "min": float(min(samples)),
        "max": float(max(samples)),
        "samples": len(samples),
    }


def ratios_to(name: str, summaries: dict[str, dict]) -> dict[str, float]:
    """Median of every other competitor divided by that of `name`: above 1, `name` is faster."""
    base = summaries.get(name, {}).get("median")
    if not base:
        return {}
    return {other: found["median"] / base for other, found in summaries.items() if other != name and "median" in found}


@contextmanager
def watched(parts: Mapping[str, Sequence[str]]) -> Iterator[dict[str, float]]:
    """Seconds spent in functions of the package, by part: each without the others that it calls.

    `parts` has names as ``"model.step.adam_step"``. A function is timed under whatever name any imported module of the package
    knows it by.
    """
    seconds, inside, replaced = dict.fromkeys(parts, 0.0), [], []

    def timed(part: str, function):
        @wraps(function)
        def call(*given, **named):
            inside.append(0.0)
            began = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                whole = time.perf_counter() - began
                seconds[part] += whole - inside.pop()
                if inside:
                    inside[-1] += whole

        return call

    for part, names in parts.items():
        for name in names:
            module, _, attribute = name.rpartition(".")
            function = getattr(import_module(f"c2f_np.{module}"), attribute)
            for each in [each for key, each in sys.modules.items() if key.startswith("c2f_np")]:
                for known in [known for known, value in vars(each).items() if value is function]:
                    replaced.append((each, known, function))
                    setattr(each, known, timed(part, function))
    try:
        yield seconds
    finally:
        for each, known, function in replaced:
            setattr(each, known, function)
