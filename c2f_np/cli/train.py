"""Commands that train: ``demo`` (shipped data), ``train DATA --out DIR``, ``refit DIR`` and ``control DIR``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..folders import folder_named
from ..schema import add_options, given_options, parameters_of
from ..settings import Settings
from ..shown import for_terminal
from .bars import epochs_in_words
from .options import add_command, add_load_options, add_quiet, add_settings, load_options, protocol_of

_TRAIN = """  python -m c2f_np train ml-100k --preset authors --out runs/authors --seed 1
  python -m c2f_np train ratings.csv --user-column user --item-column film --rating-threshold 4 --out runs/films
  python -m c2f_np train ratings.csv --out runs/films --resume
"""

_DEMO = """  python -m c2f_np demo
  python -m c2f_np demo --out /tmp/demo --seed 3
"""

_REFIT = """  python -m c2f_np refit runs/clicks
  python -m c2f_np refit runs/clicks --on clicks-until-december.csv
  python -m c2f_np recommend runs/clicks --user alice -k 10

Validation chose how long to train, and test showed how good the model is. A model for use should learn from these interactions
too: the settings are the same, every phase makes the epochs that validation chose, and nothing is left to be judged by. With --on
it learns from other interactions, all that there are by now, old and new, with users and items that have come since.
"""

_CONTROL = """  python -m c2f_np control runs/ml-100k

The fine stage has its own learning rate, batch size and epochs. The control gives the same to the coarse stage: from the run's
best coarse state it continues to train E_c, for as long and as fast. What the fine stage gains over the control is what its
codebook brings.
"""

def add_to(commands, preset: str) -> None:
    text = "train the paper's two stages, their control and the default preset on the shipped planted data"
    parser = add_command(commands, "demo", demo_command, text, _DEMO)
    parser.add_argument("--out", default="runs/demo", metavar="DIR", help="run folder, which is overwritten [runs/demo]")
    add_options(parser, Settings, only=("seed", "threads"))
    add_quiet(parser)

    parser = add_command(commands, "train", train_command, "train a model and write a run folder", _TRAIN)
    parser.add_argument("data", metavar="DATA", help="a data set's name, or the path of a file or folder")
    parser.add_argument("--out", required=True, metavar="DIR", help="run folder to write")
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument("--resume", action="store_true", help="continue after the folder's last finished epoch")
    earlier.add_argument("--overwrite", action="store_true", help="start again in a folder that holds a run")
    add_quiet(parser)
    add_settings(parser, preset)
    add_load_options(parser, preset)

    text = "train a finished run's model again on everything that its data hold, to recommend"
    parser = add_command(commands, "refit", refit_command, text, _REFIT)
    parser.add_argument("folder", metavar="DIR", help="folder of a finished run; refit.npz is written there")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", metavar="DATA", help="where the data are now, if they were moved")
    source.add_argument("--on", metavar="DATA", help="learn from these instead: all interactions, old and new")
    add_quiet(parser)

    text = "continue the coarse stage with the fine stage's learning rate, batch size and epochs"
    parser = add_command(commands, "control", control_command, text, _CONTROL)
    parser.add_argument("folder", metavar="DIR", help="folder of a finished run; control.json is written there")
    add_quiet(parser)


def refit_command(options) -> int:
    from ..run import REFIT, read_request, run_refit
    from .bars import PhaseBars

    request = read_request(options.folder)
    if options.on is not None:  # read as the run's data were, but not split
        whole = {"split": "none", "protocol": "clean", "validation_fraction": 0.0}
        which = {"on": dataclasses.replace(request, source=options.on, load_options=request.load_options | whole).load_data()}
    else:
        source = request.source if options.data is None else options.data
        which = {"data": dataclasses.replace(request, source=source).load_data()}
    try:
        with PhaseBars(request.settings, options.quiet) as bars:
            model = run_refit(options.folder, **which, watch=bars, before_start=bars.prepare)
    except KeyboardInterrupt:
        print("\nstopped; the run is as it was, and the same command begins the refit again", flush=True)
        return 130
    if options.quiet:
        return 0
    shown = for_terminal(options.folder)
    if model is None:
        print(f"nothing was held out: the model in {shown} has learnt from everything already")
        return 0
    print(f"trained on all {model.R.nnz:,} interactions: {epochs_in_words(model.about['refit'])}")
    print(f"written to {shown}: {REFIT}, which recommend, info and export now use")
    return 0


def train_command(options) -> int:
    from ..data.named import NAMED
    from ..run import RUN, Request, read_request

    earlier = read_request(options.out) if options.resume and (folder_named(options.out) / RUN).exists() else None
    given, load = given_options(options, parameters_of(Settings)), load_options(options)
    if earlier is None:
        preset = options.preset or "default"
        settings = Settings.preset(preset, **given)
        load.setdefault("protocol", protocol_of(preset, load.get("split")))
    else:
        # A resumed run keeps its settings, except for those that are given now; the checkpoint finds out which may not change.
        preset = options.preset or earlier.preset
        base = earlier.settings if preset == earlier.preset else Settings.preset(preset)
        settings = dataclasses.replace(base, **given)
        load = earlier.load_options | load
    # An absolute path, so that the run folder can be used from elsewhere; a data set's name, which comes first, as it is.
    source = str(Path(options.data).resolve()) if options.data not in NAMED and Path(options.data).exists() else options.data
    return _carry_out(Request(source, load, preset, settings), options)


def demo_command(options) -> int:
    from ..demo import FIGURE, demo
    from .bars import PhaseBars

    watch = None if options.quiet else PhaseBars
    if not options.quiet:
        print("The paper's two stages, our default preset (a set of settings), and a control of each, on planted data:")
        print("1,000 users and 800 items, drawn from known groups.", end=" ")
        print("(The first run on a machine also compiles.)", flush=True)
    report = demo(options.out, seed=options.seed or 0, threads=options.threads or 0, watch=watch)
    if not options.quiet:
        drawn = f", and {FIGURE}" if (Path(options.out) / FIGURE).exists() else ""
        written = f"the runs of our default and, in paper and alone, of the two stages and of one codebook{drawn}"
        print(f"\n{report}\n\nwritten to {for_terminal(options.out)}: {written}")
    return 0


def _carry_out(request, options) -> int:
    """Train as requested, and print the results."""
    from ..run import FIGURE, HISTORY, METRICS, MODEL, comparison_table, goes_on_in, run
    from .bars import PhaseBars

    folder = folder_named(options.out)
    goes_on = goes_on_in(folder, options.resume, options.overwrite)
    data, out = request.load_data(), for_terminal(options.out)
    if not options.quiet:
        print(data.describe(), flush=True)
        if request.settings.engine == "numba":
            print("(the first epochs on a machine include compilation; later runs reuse it)", flush=True)
        if options.resume and not goes_on:
            print(f"there is no finished epoch in {out} to resume after: training begins at the start", flush=True)
    try:
        with PhaseBars(request.settings, options.quiet) as bars:
            how = {"resume": options.resume, "overwrite": options.overwrite, "watch": bars, "before_start": bars.prepare}
            metrics = run(request, folder, data=data, **how)
    except KeyboardInterrupt:
        kept = goes_on or bars.n_epochs
        print(f"\nstopped{'; continue with --resume' if kept else ' before the first epoch ended'}", flush=True)
        return 130
    if not options.quiet:
        part = next((part for part in ("test", "validation") if metrics[part] is not None), None)
        if part:
            print("\n" + comparison_table(metrics, part))
        print(f"\ntrained {sum(metrics['epochs'].values())} epochs in {metrics['seconds']['training']:.1f} s")
        written = ", ".join(name for name in (MODEL, METRICS, HISTORY, FIGURE) if (folder / name).exists())
        print(f"written to {out}: {written}")
    return 0


def control_command(options) -> int:
    from ..run import comparison_table, read_request, run_control
    from .bars import PhaseBars

    with PhaseBars(read_request(options.folder).settings, options.quiet) as bars:
        metrics = run_control(options.folder, watch=bars)
    if not options.quiet:
        part = "test" if metrics["test"] is not None else "validation"
        if metrics[part] is not None:
            print(comparison_table(metrics, part, ("coarse", "control", "fine")))
    return 0
