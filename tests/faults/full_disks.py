"""Disks that are full after a random number of bytes."""

import errno
import io
import os
import shutil
from collections import Counter
from pathlib import Path

import c2f_np.files

from .small_runs import PLAIN, PRESETS, arguments, carry_out, difference, result, rng_of, trouble_in

_EPOCHS = 3


def fill(count: int, seed: int, place: Path) -> list[str]:
    """Run `count` times on a disk with too little room; what went wrong."""
    rng, said, failed, full_at = rng_of(seed), place / "said", [], Counter()
    wholes, sizes = {}, {}
    for preset in PRESETS:
        out, written = place / f"whole-{preset}", place / f"written-{preset}"
        code = carry_out(arguments(preset, out, *PLAIN, epochs=_EPOCHS), said, lambda file=written: _limit(1 << 40, file))
        if code:
            raise RuntimeError(f"exit code {code}, {said.read_text()}")
        wholes[preset], sizes[preset] = result(out), int(written.stat().st_size)
    for number in range(count):
        preset, out = PRESETS[number % len(PRESETS)], place / "run"
        shutil.rmtree(out, ignore_errors=True)
        room, name = int(rng.integers(sizes[preset])), f"number {number}, preset {preset}"
        code = carry_out(arguments(preset, out, *PLAIN, epochs=_EPOCHS), said, lambda n=room: _limit(n))
        text, left = said.read_text(), sorted(out.glob(".*.part")) if out.exists() else []
        trouble = trouble_in(out)
        figure = code == 0 and text.startswith("warning: ") and "curves.png" in text
        if not figure and not (code == 2 and text.startswith("error: ") and "No space left" in text and str(out) in text):
            failed.append(f"{name}, {room} bytes: exit code {code}, {text}")
        if text.count("\n") != 1 or left or trouble:
            failed.append(f"{name}, {room} bytes: {trouble or left or text}")
        full_at[Path(text.split(":")[1].strip()).name] += 1
        code = carry_out(arguments(preset, out, *PLAIN, "--resume", epochs=_EPOCHS), said)
        differs = difference(out, wholes[preset]) if code == 0 else said.read_text()
        failed += [f"{name}, {room} bytes: then {differs}"] if differs else []
    print(f"{count} full disks; there was no room for")
    for file, times in sorted(full_at.items()):
        print(f"  {file:<32}{times:>6}")
    return failed


def _limit(room: int, written: Path | None = None) -> None:
    """Let this process write so many bytes into files; `written` becomes as large as what it has written."""

    class Limited(io.FileIO):
        def write(self, content) -> int:
            nonlocal room
            size = min(len(memoryview(content).cast("B")), room)
            if not size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            room -= size
            if written is not None:
                with open(written, "ab") as file:
                    file.truncate(file.tell() + size)
            return super().write(memoryview(content).cast("B")[:size])

    c2f_np.files.open = lambda path, mode: io.BufferedRandom(Limited(path, mode.replace("b", "")))
