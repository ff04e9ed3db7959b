"""``evaluate DIR``."""

from __future__ import annotations

from pathlib import Path

from .options import add_command
from .train import dumps

_EXAMPLES = """  python -m c2f_np evaluate runs/demo
  python -m c2f_np evaluate runs/demo --part validation --json
  python -m c2f_np evaluate runs/films --protocol authors    (where validation is given: how much masking it moves the figures)
"""


def add_to(commands) -> None:
    parser = add_command(commands, "evaluate", run, "measure a trained model again", _EXAMPLES)
    parser.add_argument("folder", metavar="DIR", help="run folder")
    parser.add_argument("--part", choices=("test", "validation"), default="test", help="held-out part [test]")
    parser.add_argument("--data", metavar="DATA", help="where the data are now, if they were moved")
    parser.add_argument("--protocol", choices=("authors", "clean"), help="mask by this protocol instead of the run's")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options) -> int:
    import dataclasses

    from ..errors import DataError
    from ..recommender import C2FRecommender
    from ..run import MODEL, read_request

    request = read_request(options.folder)
    if options.data:
        request = dataclasses.replace(request, source=options.data)
    if options.protocol:
        request = dataclasses.replace(request, load_options=request.load_options | {"protocol": options.protocol})
    model = C2FRecommender.load(Path(options.folder) / MODEL)
    data = request.load_data()
    trained_on = model.about_.get("data", {}).get("fingerprint")
    if data.fingerprint() != trained_on:
        raise DataError("the data (or their split) are not what the model was trained on", path=request.source)
    result = model.evaluate(data, options.part)
    if options.json:
        print(dumps({"protocol": result.protocol, "part": options.part, "users": result.n_users, **result.metrics}))
        return 0
    print(f"{data.name}, {options.part}, protocol {result.protocol}: {result.n_users:,} users, ", end="")
    print(f"{result.n_users_left_out:,} without {options.part} items left out")
    for name, value in result.metrics.items():
        print(f"  {name:<10} {value:.4f}")
    return 0
