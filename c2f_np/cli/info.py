"""``info DIR``."""

from __future__ import annotations

from pathlib import Path

from .options import add_command
from .train import dumps

_EXAMPLES = """  python -m c2f_np info runs/demo
  python -m c2f_np info runs/demo/model.npz --json
"""


def add_to(commands) -> None:
    parser = add_command(commands, "info", run, "what a run folder or model file holds, and what it weighs", _EXAMPLES)
    parser.add_argument("folder", metavar="DIR", help="run folder, or a model file")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options) -> int:
    from ..model_file import load_model, size_in_bytes
    from ..run import METRICS, MODEL, comparison_table, read_json

    folder = Path(options.folder)
    path = folder / MODEL if folder.is_dir() else folder
    model = load_model(path)
    sizes = size_in_bytes(model.state)
    n_users, n_items = model.R.shape
    facts = {
        "about": model.about,
        "users": n_users,
        "items": n_items,
        "training_interactions": int(model.R.nnz),
        "size_in_bytes": sizes,
        "interactions_in_bytes": int(model.R.nnz * 4 + (n_users + 1) * 8),
        "propagated_table_in_bytes": int((n_users + n_items) * model.state.E_coarse.shape[1] * model.state.E_coarse.itemsize),
        "file_in_bytes": path.stat().st_size,
        "settings": model.settings.to_dict(),
    }
    if options.json:
        print(dumps(facts))
        return 0
    data = model.about.get("data", {})
    print(f"{path}: preset {model.about.get('preset')}, protocol {model.about.get('protocol')}")
    print(f"  data      {data.get('name')}, fingerprint {data.get('fingerprint', '')[:16]}")
    print(f"  split     {data.get('split')}")
    print(f"  entities  {n_users:,} users, {n_items:,} items, {model.R.nnz:,} training interactions")
    print("  bytes that the model itself needs")
    for name, size in sizes.items():
        print(f"    {name:<20}{size:>12,}")
    print("  bytes needed besides to propagate and to leave out what was seen")
    print(f"    {'interactions':<20}{facts['interactions_in_bytes']:>12,}")
    print(f"    {'propagated table':<20}{facts['propagated_table_in_bytes']:>12,}")
    print(f"  file      {facts['file_in_bytes']:,} bytes, with ids and interactions")
    print("  settings  " + ", ".join(f"{name} {value}" for name, value in facts["settings"].items()))
    if folder.is_dir() and (folder / METRICS).exists():
        metrics = read_json(folder / METRICS)
        for part in ("validation", "test"):
            if metrics.get(part):
                print("\n" + comparison_table(metrics, part))
    return 0
