"""Commands that end just before one of their system calls that change a file, for each of these calls in turn."""

import os
import shutil
import sys
from pathlib import Path

from .small_runs import PLAIN, arguments, carry_out, difference, result, trouble_in

_EPOCHS, _CRASHED = 2, 99
# As `sys.addaudithook` calls them; os.fsync has no event of its own and is counted too.
_CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod")


def crash(every: int, place: Path) -> list[str]:
    """Crash at every `every`-th call of a training, and of one that replaces an earlier run; what went wrong."""
    said, failed = place / "said", []
    for preset in ("default", "staged"):
        whole, earlier = place / f"whole-{preset}", place / f"earlier-{preset}"
        for out, seed in ((whole, "0"), (earlier, "5")):
            code = carry_out(arguments(preset, out, "--seed", seed, *PLAIN, epochs=_EPOCHS), said)
            if code:
                raise RuntimeError(f"exit code {code}, {said.read_text()}")
        expected, before = result(whole), result(earlier)
        for how in ([], ["--overwrite"]):
            number, ended = 0, False
            while not ended:
                number += every
                out = place / "run"
                shutil.rmtree(out, ignore_errors=True)
                if how:
                    shutil.copytree(earlier, out)
                command = arguments(preset, out, "--seed", "0", *PLAIN, epochs=_EPOCHS)
                code = carry_out([*command, *how], said, lambda n=number: _end_at_call(n, str(place)))
                ended = code == 0
                name = f"preset {preset} {' '.join(how)}, call {number}"
                if code not in (0, _CRASHED):
                    failed.append(f"{name}: exit code {code}, {said.read_text()}")
                failed += [f"{name}: {trouble}"] if (trouble := trouble_in(out, replaces=bool(how))) else []
                failed += [f"{name}: {wrong}"] if (wrong := _goes_on(command, out, said, expected, before, bool(how))) else []
            print(f"preset {preset}, {'replacing an earlier run' if how else 'a new run'}: {number // every - 1} crashes")
    return failed


def _goes_on(command: list[str], out: Path, said: Path, expected: dict, before: dict, replaces: bool) -> str:
    """What is wrong with a run that goes on after a crash, or ""."""
    code = carry_out([*command, "--resume"], said)
    if code == 2 and replaces and difference(out, before) == "":
        # The new run had not begun yet, and the earlier one is of another seed.
        code = carry_out([*command, "--overwrite"], said)
    if code:
        return f"exit code {code}, {said.read_text()}"
    differs = difference(out, expected)
    return f"{differs} is not as without a crash" if differs else ""


def _end_at_call(number: int, place: str) -> None:
    """End this process at the n-th call from now on that changes a file below `place`; a file that is being synced is cut."""
    calls, fsync = 0, os.fsync

    def count() -> bool:
        nonlocal calls
        calls += 1
        return calls == number

    def watch(event: str, details: tuple) -> None:
        if event in _CHANGES and str(details[0]).startswith(place) and (event != "open" or _writes(details)) and count():
            os._exit(_CRASHED)

    def synced(file: int) -> None:
        if count():
            os.ftruncate(file, os.fstat(file).st_size // 2)
            os._exit(_CRASHED)
        fsync(file)

    sys.addaudithook(watch)
    os.fsync = synced


def _writes(details: tuple) -> bool:
    return bool(details[2] & (os.O_WRONLY | os.O_RDWR))
