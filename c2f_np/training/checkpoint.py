"""Checkpoints: a training run between two epochs, on disk.

Written after every epoch, aside and then renamed: whatever kills the process, the last finished epoch survives, and
going on from it gives the same bits as never having stopped.
"""

from __future__ import annotations

from ..archive import read_archive, take, write_archive
from ..engine import engine_named
from ..errors import ModelFileError
from ..model.step import AdamMoments
from ..model_file import pack_state, unpack_state
from ..settings import Settings
from .phases import Best, Progress, phases_of

KIND, VERSION = "checkpoint", 1


def save_checkpoint(path, progress: Progress, settings: Settings, fingerprint: str) -> None:
    """Write a checkpoint; with the fingerprint of the data, so that a run cannot be continued on other data."""
    bests = progress.finished | ({"best": progress.best} if progress.best else {})
    header = {
        "settings": settings.to_dict(),
        "fingerprint": fingerprint,
        "phase": progress.phase,
        "stage_epoch": progress.stage_epoch,
        "phase_epoch": progress.phase_epoch,
        "bad_evaluations": progress.bad_evaluations,
        "adam_step": progress.moments.step,
        "bests": {name: {"score": best.score, "epoch": best.epoch} for name, best in bests.items()},
        "history": list(progress.history),
        "started_from": progress.started_from,
    }
    arrays = pack_state("state", progress.state)
    for name, best in bests.items():
        arrays |= pack_state(f"best.{name}", best.state)
    for name in progress.moments.mean:
        arrays |= {f"adam.mean.{name}": progress.moments.mean[name], f"adam.square.{name}": progress.moments.square[name]}
    write_archive(path, KIND, VERSION, header, arrays)


def load_checkpoint(path, settings: Settings, fingerprint: str) -> Progress:
    """Read a checkpoint of the same run.

    Engine-independent settings must be equal; the number of threads may differ, and the most epochs too unless they
    shape the learning rate.
    """
    header, arrays = read_archive(path, KIND, VERSION)
    try:
        if header["fingerprint"] != fingerprint:
            raise ModelFileError(f"{path}: this run was trained on other data (or another split of it)")
        run = Settings().to_dict() | header["settings"]  # a setting that is younger than the run was at its default
        for name, value in settings.to_dict().items():
            # With a schedule the number of epochs shapes the learning rate from the first epoch on.
            free = name == "threads" or (name == "max_epochs" and settings.lr_schedule == "constant")
            if not free and run.get(name) != value:
                raise ModelFileError(f"{path}: this run has {name} = {run.get(name)}, not {value}")
        bests = {
            name: Best(about["score"], about["epoch"], unpack_state(f"best.{name}", arrays, path))
            for name, about in header["bests"].items()
        }
        state = unpack_state("state", arrays, path)
        phases = {phase.name: phase for phase in phases_of(settings, engine_named(settings.engine))}
        if header["phase"] not in (*phases, "done"):
            raise ModelFileError(f"{path}: unknown phase {header['phase']!r}")
        phase = phases.get(header["phase"]) or list(phases.values())[-1]
        trained = state.parameters(phase.stage.trained)
        moments = AdamMoments(
            {name: take(arrays, f"adam.mean.{name}", path) for name in trained},
            {name: take(arrays, f"adam.square.{name}", path) for name in trained},
            header["adam_step"],
        )
        return Progress(
            header["phase"], header["stage_epoch"], header["phase_epoch"], state, moments, bests.pop("best", None),
            header["bad_evaluations"], bests, tuple(header["history"]), str(header.get("started_from", "")),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path}: damaged, {error} is missing or of a wrong kind") from error
