"""``train DATA --out DIR``."""

from __future__ import annotations

import json
from pathlib import Path

from .options import add_command, add_load_options, add_settings, given_settings, load_options

_EXAMPLES = """  python -m c2f_np train ml-100k --preset authors --out runs/authors --seed 1
  python -m c2f_np train ratings.csv --user-column user --item-column film --rating-threshold 4 --out runs/films
  python -m c2f_np train ratings.csv --out runs/films --resume
"""


def add_to(commands) -> None:
    parser = add_command(commands, "train", run, "train a model and write a run folder", _EXAMPLES)
    parser.add_argument("data", metavar="DATA", help="a data set's name, or the path of a file or folder")
    parser.add_argument("--out", required=True, metavar="DIR", help="run folder to write")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's last finished epoch")
    parser.add_argument("--overwrite", action="store_true", help="begin anew in a folder that holds a run")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_settings(parser)
    add_load_options(parser)


def run(options) -> int:
    from ..run import RUN, Request, read_request
    from ..settings import settings_from_preset

    earlier = read_request(options.out) if options.resume and (Path(options.out) / RUN).exists() else None
    given, load = given_settings(options), load_options(options)
    if earlier is None:
        preset = options.preset or "default"
        settings = settings_from_preset(preset, **given)
        load.setdefault("protocol", "authors" if preset == "authors" else "clean")
    else:
        # Going on means: as before, but for what is said now; what may not change is found out by the checkpoint.
        preset = options.preset or earlier.preset
        base = earlier.settings.to_dict() if preset == earlier.preset else settings_from_preset(preset).to_dict()
        settings = settings_from_preset("authors", **(base | given))
        load = earlier.load_options | load
    return carry_out(Request(absolute(options.data), load, preset, settings), options)


def carry_out(request, options) -> int:
    """Run a request and print what came of it."""
    from ..run import CHECKPOINT, FIGURE, MODEL, comparison_table, run
    from .progress import PhaseBars

    data = request.load_data()
    quiet = options.quiet
    bars = None if quiet else PhaseBars(request.settings)
    if not quiet:
        print(data.describe(), flush=True)
        if request.settings.engine == "numba":
            print("(the first epochs on a machine include compilation; later runs reuse it)", flush=True)
    try:
        metrics = run(request, options.out, resume=options.resume, overwrite=options.overwrite, watch=bars, data=data)
    except KeyboardInterrupt:
        if bars:
            bars.close()
        kept = (Path(options.out) / CHECKPOINT).exists()
        print(f"\nstopped{'; go on with --resume' if kept else ' before the first epoch ended'}", flush=True)
        return 130
    if not quiet:
        for part in ("test", "validation"):
            if metrics[part] is not None:
                print("\n" + comparison_table(metrics, part))
                break
        print(f"\ntrained {sum(metrics['epochs'].values())} epochs in {metrics['seconds']['training']:.1f} s")
        print(f"written to {options.out}: {MODEL}, metrics.json, history.csv, {FIGURE}")
    return 0


def absolute(source: str) -> str:
    """A path made absolute, so that the run folder can be used from elsewhere; a data set's name as it is."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def dumps(value) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2)
