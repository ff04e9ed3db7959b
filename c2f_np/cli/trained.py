"""Commands for a trained model: ``evaluate``, ``recommend``, ``explain``, ``info`` and ``export``."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from itertools import chain
from math import isnan
from pathlib import Path

from ..data import PROTOCOLS
from ..serving.compact import NUMBER_TYPES
from ..shown import for_terminal
from .bars import epochs_in_words
from .options import add_command, whole_number

_EVALUATE = """  python -m c2f_np evaluate runs/demo
  python -m c2f_np evaluate runs/demo --part validation --json
  python -m c2f_np evaluate runs/films --protocol authors    (if validation items are given: how much masking changes the metrics)
"""

_RECOMMEND = """  python -m c2f_np recommend runs/demo --user 0 -k 10
  python -m c2f_np recommend runs/demo --user 0 --user 7 --with-seen
  python -m c2f_np recommend small.npz --similar-to 12
  python -m c2f_np recommend small.npz --similar-users 7
  python -m c2f_np recommend small.npz --items 12,40,7                (somebody who is not in the data, but has these)
  python -m c2f_np recommend runs/demo --user 0 --only @stock.txt --without 3,5
  python -m c2f_np recommend runs/demo --all-users

Where several ids may be given, they are separated by commas and quoted as in CSV if they hold one; @FILE stands for a text file
with an id on each line. Columns: user, rank, item, score. What the data hold for a user is left out. Of a run folder the model
that "refit" made is taken, if there is one.
"""

_EXPLAIN = """  python -m c2f_np explain runs/demo --user 0 --item 12
  python -m c2f_np explain small.npz --items 12,40,7 --item 3

The score is the sum of what came through each of the user's items, the user's own part, and biases.
"""

_INFO = """  python -m c2f_np info runs/demo
  python -m c2f_np info runs/demo/model.npz --json
"""

_EXPORT = """  python -m c2f_np export runs/demo --out small.npz
  python -m c2f_np export runs/demo --out small.npz --codebook int8 --weights float16 --without-ids
  python -m c2f_np export runs/demo --table --out exports    (all types, with their sizes and metrics)

Python reads such a file with NumPy alone:
  from c2f_np.serving import load_exported
  load_exported("small.npz").recommend("7", k=10)
"""


_ANY_MODEL = "run folder, or file of a model, an exported model or a baseline"


def add_to(commands) -> None:
    parser = add_command(commands, "evaluate", evaluate_command, "evaluate a trained model again", _EVALUATE)
    parser.add_argument("folder", metavar="DIR", help="run folder")
    parser.add_argument("--part", choices=("test", "validation"), default="test", help="held-out part [test]")
    parser.add_argument("--data", metavar="DATA", help="where the data are now, if they were moved")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="mask by this protocol instead of the run's")
    parser.add_argument("--json", action="store_true", help="print JSON")

    text = "print the best items for users, known or new, or what is most similar"
    parser = add_command(commands, "recommend", recommend_command, text, _RECOMMEND)
    parser.add_argument("folder", metavar="DIR", help=_ANY_MODEL)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--user", action="append", metavar="ID", help="a user's id, as in the data; may be repeated")
    wanted.add_argument("--all-users", action="store_true", help="every user of the data")
    wanted.add_argument("--items", action="append", metavar="IDS", help="what a new user has; may be repeated, for several")
    wanted.add_argument("--similar-to", action="append", metavar="ID", help="an item's id; may be repeated")
    wanted.add_argument("--similar-users", action="append", metavar="ID", help="a user's id; may be repeated")
    parser.add_argument("-k", type=whole_number(1), default=10, metavar="N", help="how many [10]")
    parser.add_argument("--with-seen", action="store_true", help="keep items that the user has")
    parser.add_argument("--only", action="append", metavar="IDS", help="items that may be recommended, such as those in stock")
    parser.add_argument("--without", action="append", metavar="IDS", help="items that may not be recommended")

    text = "print what the score of an item for a user is made of"
    parser = add_command(commands, "explain", explain_command, text, _EXPLAIN)
    parser.add_argument("folder", metavar="DIR", help=_ANY_MODEL)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--user", metavar="ID", help="a user's id, as in the data")
    wanted.add_argument("--items", metavar="IDS", help="what a new user has")
    parser.add_argument("--item", required=True, metavar="ID", help="the item whose score is explained")
    parser.add_argument("-k", type=whole_number(1), default=10, metavar="N", help="how many of the user's items to show [10]")

    text = "print what a run folder or model file holds, and its size in bytes"
    parser = add_command(commands, "info", info_command, text, _INFO)
    parser.add_argument("folder", metavar="DIR", help=_ANY_MODEL)
    parser.add_argument("--json", action="store_true", help="print JSON")

    parser = add_command(commands, "export", export_command, "write a trained model for inference with NumPy alone", _EXPORT)
    parser.add_argument("folder", metavar="DIR", help="run folder or model file")
    parser.add_argument("--out", required=True, metavar="PATH", help="file to write; with --table, the folder")
    parser.add_argument("--codebook", choices=NUMBER_TYPES, help="type of the codebooks [float32]")
    parser.add_argument("--weights", choices=NUMBER_TYPES, help="type of the assignment weights [float32]")
    text = "leave out the interactions; whoever serves the model must have them"
    parser.add_argument("--without-interactions", action="store_true", help=text)
    parser.add_argument("--without-ids", action="store_true", help="number users and items from 0 instead of storing their ids")
    parser.add_argument("--table", action="store_true", help="export in all types, evaluate each, print a table")
    parser.add_argument("--data", metavar="DATA", help="with --table: where the data are now, if they were moved")


def _model_file(folder: str) -> Path:
    """The file of a model; of a run folder that of the refitted model, if there is one."""
    from ..run import MODEL, REFIT

    path = Path(folder)
    if not path.is_dir():
        return path
    return path / (REFIT if (path / REFIT).exists() else MODEL)


def _load_any(path: Path):
    """The fitted model, the exported one or the baseline that a file holds."""
    from ..archive import header_of
    from ..baselines import load_baseline
    from ..estimator import BASELINE
    from ..recommender import C2FRecommender
    from ..serving import load_exported
    from ..serving.exported_file import KIND

    kind = str(header_of(path).get("kind"))
    return {KIND: load_exported, BASELINE: load_baseline}.get(kind, C2FRecommender.load)(path)


def _request(options, **load_options):
    """What the run was asked to do, with the data where they are now."""
    from ..run import read_request

    request = read_request(options.folder)
    load_options = request.load_options | load_options
    source = request.source if options.data is None else options.data
    return dataclasses.replace(request, source=source, load_options=load_options)


def evaluate_command(options) -> int:
    from ..errors import DataError
    from ..recommender import C2FRecommender
    from ..run import MODEL

    request = _request(options, **({"protocol": options.protocol} if options.protocol else {}))
    model = C2FRecommender.load(Path(options.folder) / MODEL)
    data = request.load_data()
    if data.fingerprint() != model.about_.get("data", {}).get("fingerprint"):
        raise DataError("the data (or their split) are not what the model was trained on", path=request.source)
    result = model.evaluate(data, options.part)
    if options.json:
        about = {"protocol": result.protocol, "part": options.part, "users": result.n_users}
        print(json.dumps(about | result.metrics, indent=2))
        return 0
    print(f"{for_terminal(data.name)}, {options.part}, protocol {result.protocol}: {result.n_users:,} users, ", end="")
    print(f"{result.n_users_left_out:,} without {options.part} items left out")
    for name, value in result.metrics.items():
        print(f"  {name:<10} {value:.4f}")
    return 0


def recommend_command(options) -> int:
    from ..errors import SettingsError

    path = _model_file(options.folder)
    filters = {name: _ids_in(getattr(options, name)) for name in ("only", "without") if getattr(options, name)}
    if options.similar_users and filters:
        raise SettingsError("--only and --without are for items, and --similar-users lists users")
    model = _load_any(path)
    seen = {"exclude_seen": not options.with_seen} | filters
    wanted, missing = options.user or options.similar_to or options.similar_users, "that the model compares with it"
    if options.similar_users:
        ids, figures = model.similar_users(wanted, options.k)
    elif options.similar_to:
        ids, figures = model.similar_items(wanted, options.k, **filters)
    else:
        missing = "that the user does not already have" + (" and that may be recommended" if filters else "")
        if options.items:
            wanted = ["new user" if len(options.items) == 1 else f"new user {n + 1}" for n in range(len(options.items))]
            ids, figures = model.recommend_from([_ids_in([text]) for text in options.items], options.k, **seen)
        else:
            wanted = model.all_users() if options.all_users else wanted
            ids, figures = model.recommend(wanted, options.k, **seen)
    print(f"# {for_terminal(path)}: {_learnt_from(model.n_interactions, model.n_known)}", file=sys.stderr)
    what = "users" if options.similar_users else "items"
    for each, row, values in zip(wanted, ids, figures, strict=True):
        shown, left = for_terminal(each), [(item, value) for item, value in zip(row, values, strict=True) if not isnan(value)]
        for rank, (item, value) in enumerate(left, start=1):
            print(f"{shown}\t{rank}\t{for_terminal(item)}\t{value:.4f}")
        if len(left) < options.k:
            print(f"# {shown}: {f'only {len(left)}' if left else 'no'} {what} are left {missing}")
    return 0


def explain_command(options) -> int:
    path = _model_file(options.folder)
    model = _load_any(path)
    if options.items is not None:
        why = model.explain_from(_ids_in([options.items]), options.item)
    else:
        why = model.explain(options.user, options.item)
    print(f"# {for_terminal(path)}: the score of {for_terminal(why.item)} is the sum of", file=sys.stderr)
    print("\n".join(why.lines(options.k)))
    return 0


def _ids_in(texts: list[str]) -> list[str]:
    """The ids in lists of them, separated by commas, or in the files that @FILE names."""
    return list(chain.from_iterable(map(_ids_of_one, texts)))


def _ids_of_one(text: str) -> list[str]:
    from ..data.readers import numbered_lines
    from ..errors import SettingsError

    if text.startswith("@"):
        return [line for _, line in numbered_lines(text[1:]) if line.strip()]
    try:
        return next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise SettingsError(f"this is no list of ids: {text!r:.80} ({error})") from None


def _learnt_from(n_learnt: int, n_known: int) -> str:
    """What a model was trained on, in words."""
    if not n_known:
        return "its interactions are not in the file"
    words = f"trained on {n_learnt:,} of {n_known:,} interactions"
    return words if n_learnt == n_known else f'{words}; the command "refit" trains on all of them'


def info_command(options) -> int:
    from ..run import METRICS, comparison_table, read_json

    path, folder = _model_file(options.folder), Path(options.folder)
    facts = _facts(_load_any(path)) | {"file_in_bytes": path.stat().st_size}
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    about = facts["about"]
    data = about.get("data", {})
    kind = f"{facts['kind']}, preset {about.get('preset', '(none)')}, protocol {about.get('protocol')}"
    print(for_terminal(f"{path}: {kind}"))
    print(for_terminal(f"  data      {data.get('name')}, fingerprint {data.get('fingerprint', '')[:16]}"))
    print(for_terminal(f"  split     {data.get('split')}"))
    if "refit" in about:
        print(for_terminal(f"  refitted  {epochs_in_words(about['refit']) or 'in one step'}"))
    print(f"  entities  {facts['users']:,} users, {facts['items']:,} items, ", end="")
    print(f"{facts['training_interactions']:,} training interactions of {facts['known_interactions']:,} that are known")
    print("  bytes that the model itself needs")
    _print_sizes(facts["size_in_bytes"], indent=4)
    if "interactions_in_bytes" in facts:
        print("  further bytes needed to propagate and to leave out known items")
        more = {"interactions": facts["interactions_in_bytes"], "propagated table": facts["propagated_table_in_bytes"]}
        _print_sizes(more, indent=4)
    print(f"  file      {facts['file_in_bytes']:,} bytes")
    print("  settings  " + ", ".join(f"{name} {value}" for name, value in facts["settings"].items()))
    if folder.is_dir() and (folder / METRICS).exists():
        metrics = read_json(folder / METRICS)
        if "refit" in about:
            print("\nwhat the run's own model reached, which has not learnt from validation and test:")
        for part in filter(metrics.get, ("validation", "test")):
            print("\n" + comparison_table(metrics, part))
    return 0


def _facts(model) -> dict:
    """What there is to say of a model of any kind, as plain JSON."""
    from ..recommender import C2FRecommender
    from ..serving import Served

    facts = {"training_interactions": model.n_interactions, "known_interactions": model.n_known}
    facts |= {"size_in_bytes": model.size_in_bytes()}
    if isinstance(model, Served):
        types = {name: model.about[name] for name in ("codebook", "weights") if name in model.about}
        entities = {"users": model.n_users, "items": model.n_items}
        return {"kind": "exported model", "about": model.about.get("model", {}), **entities, **facts, "settings": types}
    n_users, n_items = model.interactions_.shape
    facts = {"about": model.about_, "users": n_users, "items": n_items, **facts}
    if not isinstance(model, C2FRecommender):
        return {"kind": type(model).__name__, **facts, "settings": model.get_params()}
    E = model.state_.E_coarse
    return {
        "kind": "model",
        **facts,
        "interactions_in_bytes": int(model.n_interactions * 4 + (n_users + 1) * 8),
        "propagated_table_in_bytes": int((n_users + n_items) * E.shape[1] * E.itemsize),
        "settings": model.settings_.to_dict(),
    }


def export_command(options) -> int:
    from ..errors import SettingsError
    from ..folders import file_named
    from ..model_file import load_model
    from ..run import MODEL
    from ..serving.exported_file import require_replaceable

    if options.table:
        single = ("codebook", "weights", "without_interactions", "without_ids")
        for name in filter(vars(options).get, single):
            raise SettingsError(f"--{name.replace('_', '-')} is for a single file; --table writes all types")
        if not Path(options.folder).is_dir():
            raise SettingsError(f"{options.folder} is not a run folder: --table needs one, to know the data")
    elif options.data is not None:
        raise SettingsError("--data is for --table; a single export needs no data")
    # What is judged must not have learnt from what it is judged by.
    source = Path(options.folder) / MODEL if options.table else _model_file(options.folder)
    if not options.table:
        require_replaceable(file_named(options.out))
    model = load_model(source)
    return _export_table(model, options) if options.table else _export_file(model, source, options)


def _export_table(model, options) -> int:
    from ..serving.exporting import TABLE, write_table

    print(write_table(model, _request(options).load_data(), options.out))
    print(f"written to {for_terminal(options.out)}: {TABLE} and the exported models")
    return 0


def _export_file(model, source: Path, options) -> int:
    from ..serving import load_exported
    from ..serving.exporting import export_model

    export_model(
        model,
        options.out,
        codebook=options.codebook or "float32",
        weights=options.weights or "float32",
        with_interactions=not options.without_interactions,
        with_ids=not options.without_ids,
    )
    sizes, n_known = load_exported(options.out).size_in_bytes(), (model.R if model.known is None else model.known).nnz
    print(f"{for_terminal(source)}: {_learnt_from(model.R.nnz, n_known)}")
    print(f"{for_terminal(options.out)}: {Path(options.out).stat().st_size:,} bytes; in memory")
    names = ("codebooks", "assignment weights", "assignment indices", "item biases", "model", "interactions")
    names += ("held-out interactions", "ids")
    _print_sizes({name: sizes[name] for name in names}, indent=2)
    return 0


def _print_sizes(sizes: dict[str, int], indent: int) -> None:
    for name, size in sizes.items():
        print(f"{'':<{indent}}{name:<22}{size:>12,}")
