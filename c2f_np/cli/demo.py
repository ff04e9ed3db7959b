"""``demo``: train on the shipped planted data, in about a minute."""

from __future__ import annotations

from .options import add_command

_EXAMPLES = """  python -m c2f_np demo
  python -m c2f_np demo --out /tmp/demo --seed 3
"""

# Small enough for a minute on two cores, large enough for both codebooks to have something to do.
_SETTINGS = {
    "n_coarse": 40,
    "n_fine": 16,
    "dim": 32,
}


def add_to(commands) -> None:
    parser = add_command(commands, "demo", run, "train on the shipped planted data", _EXAMPLES)
    parser.add_argument("--out", default="runs/demo", metavar="DIR", help="run folder, begun anew [runs/demo]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the model [0]")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="threads; 0 means all cores [0]")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(options) -> int:
    from ..run import Request
    from ..settings import settings_from_preset
    from .train import carry_out

    settings = settings_from_preset("default", seed=options.seed, threads=options.threads, **_SETTINGS)
    options.resume, options.overwrite = False, True
    return carry_out(Request("planted", {"protocol": "clean"}, "default", settings), options)
