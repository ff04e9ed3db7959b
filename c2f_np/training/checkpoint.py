"""Checkpoints: a training run between two epochs, on disk.

Written after every epoch, aside and then renamed: whatever kills the process, the last finished epoch survives, and
going on from it gives the same bits as never having stopped.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

from ..archive import Array, open_archive, write_archive
from ..data import Dataset
from ..engine import engine_named
from ..errors import ModelFileError, in_short
from ..model.step import AdamMoments
from ..model_file import pack_state, settings_of_file, state_layout, state_sizes, unpack_state
from ..schema import COUNT, NUMBER, NUMBER_OR_NAN, TEXT
from ..settings import Settings
from .phases import Best, Progress, phases_of

KIND, VERSION, OLDEST = "checkpoint", 2, 1
_EPOCH = {
    "stage": TEXT, "phase": TEXT, "epoch": COUNT, "bpr": NUMBER, "regulariser": NUMBER, "loss": NUMBER,
    "validation_ndcg@5": NUMBER_OR_NAN, "nonzero_fine": NUMBER_OR_NAN, "seconds": NUMBER,
}  # fmt: skip
_FORM = {
    "settings": {}, "fingerprint": TEXT, "phase": TEXT, "stage_epoch": COUNT, "phase_epoch": COUNT, "bad_evaluations": COUNT,
    "adam_step": COUNT, "bests": {"*": {"score": NUMBER_OR_NAN, "epoch": COUNT}}, "history": [_EPOCH], "started_from?": TEXT,
}  # fmt: skip


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


def load_checkpoint(path, settings: Settings, data: Dataset) -> Progress:
    """Read a checkpoint of the same run.

    Engine-independent settings must be equal; the number of threads may differ, and the most epochs too unless they
    shape the learning rate. ModelFileError names the field of whatever does not fit these settings and data.
    """
    n = data.n_users + data.n_items
    with open_archive(path, KIND, VERSION, _FORM, oldest=OLDEST) as (header, members):
        _require_same_run(header, settings, data.fingerprint(), path)
        phases = {phase.name: phase for phase in phases_of(settings, engine_named(settings.engine))}
        _require_counters(header, list(phases), path)
        # Once training is done, what stands there is the last phase's.
        current = phases.get(header["phase"]) or list(phases.values())[-1]
        bests = [name for name in (*phases, "best") if name in header["bests"]]
        phase_of = {"state": current.name} | {f"best.{name}": current.name if name == "best" else name for name in bests}
        layout: dict[str, Array] = {}
        for name, phase in phase_of.items():
            layout |= state_layout(name, settings, phase)
        # Moments are of the shape of what they belong to; of an assignment that is its weights.
        moved = {name: layout.get(f"state.{name}.data") or layout.get(f"state.{name}") for name in current.stage.trained}
        moved = {name: array for name, array in moved.items() if array is not None}
        for name, array in moved.items():
            mean = dataclasses.replace(array, optional=False)
            layout |= {f"adam.mean.{name}": mean, f"adam.square.{name}": dataclasses.replace(mean, low=0)}
        arrays = members.read_all(layout, state_sizes(settings, N=n))
    states = {name: unpack_state(name, arrays, settings, phase, n, path) for name, phase in phase_of.items()}
    about = header["bests"]
    bests = {name: Best(float(about[name]["score"]), about[name]["epoch"], states[f"best.{name}"]) for name in bests}
    mean, square = ({name: arrays[f"adam.{moment}.{name}"] for name in moved} for moment in ("mean", "square"))
    return Progress(
        header["phase"], header["stage_epoch"], header["phase_epoch"], states["state"],
        AdamMoments(mean, square, header["adam_step"]), bests.pop("best", None), header["bad_evaluations"], bests,
        tuple(header["history"]), header.get("started_from", ""),
    )  # fmt: skip


def _require_same_run(header: dict, settings: Settings, fingerprint: str, path) -> None:
    """The same data, and the same settings but for those that may change."""
    if header["fingerprint"] != fingerprint:
        raise ModelFileError(f"{path}: this run was trained on other data (or another split of it); refit --on takes new ones")
    # A setting that is younger than the run was at its default.
    run = settings_of_file(Settings().to_dict() | header["settings"], path).to_dict()
    for name, value in settings.to_dict().items():
        # With a schedule the number of epochs shapes the learning rate, or the threshold, from the first epoch on.
        is_shaping = settings.lr_schedule != "constant" or settings.fine_density < 1
        free = name == "threads" or (name == "max_epochs" and not is_shaping)
        if not free and run[name] != value:
            raise ModelFileError(f"{path}: this run has {name} = {run[name]}, not {value}")


def _require_counters(header: dict, phases: list[str], path) -> None:
    """The phase, the finished phases, and the counters of epochs must be what the history says."""
    def refuse(field: str, wanted) -> None:
        raise ModelFileError(f"{path}: header: {field} is {in_short(header[field])}, not {wanted}")

    place = len(phases) if header["phase"] == "done" else phases.index(header["phase"]) if header["phase"] in phases else None
    if place is None:
        raise ModelFileError(f"{path}: header: unknown phase {in_short(header['phase'])}")
    finished = set(header["bests"]) - {"best"}
    if finished != set(phases[:place]):
        raise ModelFileError(f"{path}: header: bests are of {sorted(finished)}; before {header['phase']} come {phases[:place]}")
    made = Counter(row["phase"] for row in header["history"])
    if not set(made) <= set(phases[: place + 1]) or not all(made[name] for name in phases[:place]):
        raise ModelFileError(f"{path}: header: history has epochs of {sorted(made)}, which are not those of the phases so far")
    here = phases[min(place, len(phases) - 1)]
    if header["phase_epoch"] != (0 if place == len(phases) else made[here]):
        refuse("phase_epoch", made[here])
    stage = here.removesuffix("_phase1")
    if header["stage_epoch"] != sum(number for name, number in made.items() if name.removesuffix("_phase1") == stage):
        refuse("stage_epoch", "the number of epochs of its stage in the history")
