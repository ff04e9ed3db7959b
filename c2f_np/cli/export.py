"""``export DIR --out FILE``."""

from __future__ import annotations

from pathlib import Path

from .options import add_command

_EXAMPLES = """  python -m c2f_np export runs/demo --out small.npz
  python -m c2f_np export runs/demo --out small.npz --codebook int8 --weights float16 --without-ids
  python -m c2f_np export runs/demo --table --out exports    (all types, what they weigh and what they cost)

Python reads such a file with NumPy alone:
  from c2f_np.serving import load_exported
  load_exported("small.npz").recommend("7", k=10)
"""

_TYPES = ("float32", "float16", "int8")


def add_to(commands) -> None:
    parser = add_command(commands, "export", run, "write a trained model for inference with NumPy alone", _EXAMPLES)
    parser.add_argument("folder", metavar="DIR", help="run folder, or a model file")
    parser.add_argument("--out", required=True, metavar="PATH", help="file to write; with --table, the folder")
    parser.add_argument("--codebook", choices=_TYPES, help="numbers of the codebooks [float32]")
    parser.add_argument("--weights", choices=_TYPES, help="numbers of the assignments [float32]")
    parser.add_argument(
        "--without-interactions", action="store_true", help="leave out the training interactions; who serves must have them"
    )
    parser.add_argument("--without-ids", action="store_true", help="users and items become numbers, counted from 0")
    parser.add_argument("--table", action="store_true", help="export in all types, evaluate each, print a table")
    parser.add_argument("--data", metavar="DATA", help="with --table: where the data are now, if they were moved")


def run(options) -> int:
    from ..errors import SettingsError
    from ..model_file import load_model
    from ..run import MODEL

    folder = Path(options.folder)
    if options.table:
        single = ("codebook", "weights", "without_interactions", "without_ids")
        given = [name for name in single if getattr(options, name)]
        if given:
            raise SettingsError(f"--{given[0].replace('_', '-')} is for a single file; --table writes all types")
        if not folder.is_dir():
            raise SettingsError(f"{folder} is not a run folder: --table needs one, to know the data")
    elif options.data:
        raise SettingsError("--data is for --table; a single export needs no data")
    source = folder / MODEL if folder.is_dir() else folder
    if Path(options.out).exists() and source.exists() and Path(options.out).samefile(source):
        raise SettingsError(f"{options.out} is the model itself: write the exported one beside it")
    model = load_model(source)
    return _table(model, options) if options.table else _file(model, options)


def _table(model, options) -> int:
    import dataclasses

    from ..run import read_request
    from ..serving.exporting import TABLE, write_table

    request = read_request(options.folder)
    if options.data:
        request = dataclasses.replace(request, source=options.data)
    print(write_table(model, request.load_data(), options.out))
    print(f"written to {options.out}: {TABLE} and the exported models")
    return 0


def _file(model, options) -> int:
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
    sizes = load_exported(options.out).size_in_bytes()
    print(f"{options.out}: {Path(options.out).stat().st_size:,} bytes; in memory")
    for name in ("codebooks", "assignment weights", "assignment indices", "item biases", "model", "interactions", "ids"):
        print(f"  {name:<20}{sizes[name]:>12,}")
    return 0
