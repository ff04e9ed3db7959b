"""Runs that are killed at random moments, several times each, and go on with another number of threads."""

import os
import signal
import time
from collections import Counter
from itertools import cycle
from pathlib import Path

from .small_runs import PRESETS, arguments, carry_out, difference, end_of, epochs_kept, result, rng_of, start, trouble_in

_EPOCHS = 40


def kill(count: int, seed: int, place: Path) -> list[str]:
    """Kill `count` times; what went wrong."""
    rng, failed, when = rng_of(seed), [], Counter()
    wholes, n_runs = {}, 0
    for preset in cycle(PRESETS):
        if when.total() >= count:
            break
        if preset not in wholes:
            wholes[preset] = _whole(preset, place)
        (whole, seconds), out, said, threads = wholes[preset], place / f"run{n_runs}", place / "said", 1
        n_runs += 1
        name = f"run {n_runs}, preset {preset}"
        for _ in range(int(rng.integers(1, 5))):
            if when.total() >= count:
                break
            threads = 3 - threads
            process = start(arguments(preset, out, "--resume", "--threads", str(threads), epochs=_EPOCHS), said)
            time.sleep(rng.uniform(0, 1.1 * seconds))
            os.kill(process, signal.SIGKILL)
            code, trouble = end_of(process), trouble_in(out)
            if code != -signal.SIGKILL:
                failed += [f"{name}: exit code {code}, {said.read_text()}"] if code else []
                break  # it was faster
            when[_moment(out)] += 1
            failed += [f"{name}: {trouble}"] if trouble else []
        code = carry_out(arguments(preset, out, "--resume", "--threads", str(3 - threads), epochs=_EPOCHS), said)
        differs = difference(out, whole) if code == 0 else ""
        failed += [f"{name}: exit code {code}, {said.read_text()}"] if code else []
        failed += [f"{name}: {differs} is not as without a kill"] if differs else []
    print(f"{when.total()} kills in {n_runs} runs of {len(wholes)} presets, threads changed at each resume; killed")
    for moment in sorted(when):
        print(f"  {moment:<32}{when[moment]:>6}")
    return failed


def _whole(preset: str, place: Path) -> tuple[dict, float]:
    """What a run writes that nothing happens to, and how long the second such run takes: the first may compile."""
    out, said = place / f"whole-{preset}", place / "said"
    for more in ((), ("--overwrite",)):
        started = time.monotonic()
        code = carry_out(arguments(preset, out, "--threads", "1", *more, epochs=_EPOCHS), said)
        if code:
            raise RuntimeError(f"preset {preset}: exit code {code}, {said.read_text()}")
    return result(out), time.monotonic() - started


def _moment(folder: Path) -> str:
    if not (folder / "run.json").exists():
        return "before the run was noted"
    if not epochs_kept(folder):
        return "before its first epoch ended"
    return "after training" if (folder / "model.npz").exists() else "between epochs or within one"
