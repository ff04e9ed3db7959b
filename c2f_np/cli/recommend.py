"""``recommend DIR --user ID``."""

from __future__ import annotations

from pathlib import Path

from .options import add_command

_EXAMPLES = """  python -m c2f_np recommend runs/demo --user 0 -k 10
  python -m c2f_np recommend runs/demo --user 0 --user 7 --with-seen
  python -m c2f_np recommend runs/demo --similar-to 12
"""


def add_to(commands) -> None:
    parser = add_command(commands, "recommend", run, "print the best items for users, or items like an item", _EXAMPLES)
    parser.add_argument("folder", metavar="DIR", help="run folder, or a model file")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--user", action="append", metavar="ID", help="a user's id, as in the data; may be repeated")
    wanted.add_argument("--similar-to", action="append", metavar="ID", help="an item's id; may be repeated")
    parser.add_argument("-k", type=int, default=10, metavar="N", help="how many [10]")
    parser.add_argument("--with-seen", action="store_true", help="do not leave out items the user already has")


def run(options) -> int:
    from ..recommender import C2FRecommender
    from ..run import MODEL

    path = Path(options.folder)
    model = C2FRecommender.load(path / MODEL if path.is_dir() else path)
    if options.user:
        ids, figures = model.recommend(options.user, options.k, exclude_seen=not options.with_seen)
    else:
        ids, figures = model.similar_items(options.similar_to, options.k)
    for wanted, row, values in zip(options.user or options.similar_to, ids, figures, strict=True):
        found = [(item, value) for item, value in zip(row, values, strict=True) if item != ""]
        for rank, (item, value) in enumerate(found, start=1):
            print(f"{wanted}\t{rank}\t{item}\t{value:.4f}")
        if len(found) < options.k:
            print(f"# {wanted}: only {len(found)} items are left that the user does not already have")
    return 0
