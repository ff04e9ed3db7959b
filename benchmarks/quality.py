"""Time to quality: NDCG@20 on test against seconds from the shell's prompt to the finished model.

    python -m benchmarks.quality planted
    python -m benchmarks.quality PATH --protocol authors --name ml-100k --repeats 3 -- --n-coarse 100

What follows ``--`` goes to `train`, as it is.

Every point is a process of its own: the interpreter starts, modules are imported, the data are read, a model is trained and
written. Ours are `python -m c2f_np train` (with early stopping, evaluation and figures) and baselines of the package; beside
them implicit's ALS and BPR and a LightGCN written with torch, where these are installed (extra `benchmarks`). The settings of
ALS and BPR are chosen on the validation part, from the points of `_SEARCH`; their time is that of the chosen point alone. All are
ranked by the same code, outside the clock.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np

from c2f_np.data import load_dataset
from c2f_np.files import write_csv, write_text_atomically
from c2f_np.machine import processor
from c2f_np.training.problem import evaluate_entities

from . import ROOT

#: Ours, by what is given to `train`. The short ones show what the first epochs are worth.
OURS = {
    "default": [],
    "default, 4 + 4 epochs": ["--table-epochs", "4", "--max-epochs", "4"],
    "default, 3 direct links": ["--t-direct", "3"],
    "authors": ["--preset", "authors"],
    "staged": ["--preset", "staged"],
}
#: Points of the search of ALS and BPR.
_SEARCH = {
    "als": {"factors": [32, 64], "regularization": [0.01, 1.0, 10.0], "alpha": [1.0, 5.0, 20.0], "iterations": [10]},
    "bpr": {"factors": [64], "regularization": [0.003, 0.01, 0.03], "learning_rate": [0.03, 0.1], "iterations": [100, 300]},
}
_LIGHTGCN_EPOCHS = (5, 10, 20, 40)
#: Baselines of the package, with their parameters. The narrow table is a strong rival: start and rate are those of the default's.
_BASELINES: dict[str, dict] = {
    "ease": {},
    "item-knn": {},
    "narrow-lightgcn": {"dim": 24, "stored_as": "int8", "item_bias": True, "lr": 0.03, "l2": 12, "n_layers": 2, "max_epochs": 40},
}


# ---- what runs in a process of its own ---------------------------------------------------------------------------------
def child(task: dict) -> None:
    """Train one model and write it; each line printed is a point: the name of its file and the seconds so far."""
    data = load_dataset(task["data"], protocol=task["protocol"])
    out, paused = Path(task["out"]), 0.0

    def written(name: str, write) -> None:
        nonlocal paused
        write(out / f"{name}.npz")
        now = time.time()
        print(json.dumps({"file": f"{name}.npz", "seconds": now - task["started"] - paused}), flush=True)
        paused += time.time() - now

    if task["method"] in _BASELINES:
        from c2f_np.baselines import make_baseline

        model = make_baseline(task["method"], **_BASELINES[task["method"]]).fit(data)
        written("model", model.save)
    elif task["method"] in ("als", "bpr"):
        users, items = _implicit(task["method"], data.train.astype(np.float32).tocsr(), task["settings"])
        written("model", lambda path: np.savez(path, users=users, items=items))
    else:
        _lightgcn(data.train.tocsr(), written, task["threads"])


def _implicit(method: str, R, settings: dict):
    import scipy.sparse as sparse
    from implicit.cpu.als import AlternatingLeastSquares
    from implicit.cpu.bpr import BayesianPersonalizedRanking
    from threadpoolctl import threadpool_limits

    kind = {"als": AlternatingLeastSquares, "bpr": BayesianPersonalizedRanking}[method]
    model = kind(**settings, random_state=0)
    with threadpool_limits(1, user_api="blas"):  # as implicit asks for
        model.fit(sparse.csr_matrix(R), show_progress=False)
    return model.user_factors, model.item_factors


def _lightgcn(R, written, threads: int, *, dim=64, n_layers=3, rate=5e-3, l2=5e-4, batch=8192, negatives=5) -> None:
    """LightGCN with autograd: as many triples as in our training, drawn at once for an epoch."""
    from .plan import import_torch
    from .torch_model import adjacency

    torch = import_torch(threads)
    torch.manual_seed(0)
    A, (n_users, n_items), rng = adjacency(R).tocsr().astype(np.float32), R.shape, np.random.default_rng(0)
    graph = torch.sparse_csr_tensor(torch.from_numpy(A.indptr), torch.from_numpy(A.indices), torch.from_numpy(A.data), A.shape)
    table = torch.nn.Parameter(0.1 * torch.randn(sum(R.shape), dim))
    optimiser = torch.optim.Adam([table], lr=rate)

    def propagated():
        X = total = table
        for _ in range(n_layers):
            X = graph @ X
            total = total + X
        return total / (n_layers + 1)

    pairs, users = R.indices.astype(np.int64), np.repeat(np.arange(n_users), np.diff(R.indptr))
    for epoch in range(1, _LIGHTGCN_EPOCHS[-1] + 1):
        order = rng.permutation(np.repeat(np.arange(R.nnz), negatives))
        u, i, j = users[order], pairs[order] + n_users, rng.integers(0, n_items, len(order)) + n_users
        for start in range(0, len(order), batch):
            rows = [torch.from_numpy(each[start : start + batch]) for each in (u, i, j)]
            H, (Z_u, Z_i, Z_j) = propagated(), (table[each] for each in rows)
            H_u, H_i, H_j = (H[each] for each in rows)
            loss = torch.nn.functional.softplus((H_u * (H_j - H_i)).sum(1)).mean()
            loss = loss + l2 * (Z_u.square().sum() + Z_i.square().sum() + Z_j.square().sum()) / len(rows[0])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if epoch in _LIGHTGCN_EPOCHS:
            H = propagated().detach().numpy()
            written(f"{epoch} epochs", lambda path, H=H: np.savez(path, users=H[:n_users], items=H[n_users:]))


# ---- the points --------------------------------------------------------------------------------------------------------
def measured(method: str, data, options, folder: Path, settings: dict | None = None) -> list[dict]:
    """The points of one process: seconds, NDCG@20 on validation and test, bytes of the model's file."""
    task = {"method": method, "data": options.data, "protocol": options.protocol, "out": str(folder), "settings": settings}
    task |= {"threads": options.threads, "started": time.time()}
    done = subprocess.run([sys.executable, "-m", "benchmarks.quality", "--child", json.dumps(task)],
                          cwd=ROOT, capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{method} failed:\n{done.stderr[-2000:]}")
    points = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for point in points:
        name = point.pop("file")
        point["method"] = method + ("" if name == "model.npz" else f", {name.removesuffix('.npz')}")
        point["bytes"] = _bytes(folder / name, method)
        point |= {part: _quality(folder / name, method, data, part) for part in ("validation", "test")}
    return points


def _bytes(path: Path, method: str) -> int:
    """Of a model of the package, whose file holds the interactions, too, those of the model; else those of the file."""
    if method in _BASELINES:
        from c2f_np.baselines import load_baseline

        return load_baseline(path).size_in_bytes()["model"]
    return path.stat().st_size


def _quality(path: Path, method: str, data, part: str) -> float:
    if method in _BASELINES:
        from c2f_np.baselines import load_baseline

        return load_baseline(path).evaluate(data, part=part).metrics["ndcg@20"]
    with np.load(path) as stored:
        H = np.concatenate([stored[name].astype(np.float32) for name in ("users", "items")])
    return evaluate_entities(H, None, data, part, (20,)).metrics["ndcg@20"]


def ours(name: str, options, folder: Path) -> dict:
    """The point of a preset: the whole command, with all that it writes."""
    command = [sys.executable, "-m", "c2f_np", "train", options.data, "--protocol", options.protocol, "--quiet"]
    started = time.perf_counter()
    subprocess.run([*command, "--overwrite", "--out", str(folder / "run"), *OURS[name], *options.settings], cwd=ROOT, check=True)
    seconds = time.perf_counter() - started
    metrics = json.loads((folder / "run" / "metrics.json").read_text(encoding="utf-8"))
    last = [*metrics["test"]][-1]
    return {
        "method": name, "seconds": seconds, "bytes": metrics["size_in_bytes"][last]["model"],
        "validation": metrics["validation"][last]["ndcg@20"], "test": metrics["test"][last]["ndcg@20"],
    }  # fmt: skip


def all_points(options) -> tuple[list[dict], list[str]]:
    """Every method, `repeats` times in turn, and what the search of ALS and BPR chose, which comes before them."""
    data = load_dataset(options.data, protocol=options.protocol)
    points, words = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen = {}
        if find_spec("implicit"):
            for method, lists in _SEARCH.items():
                tried = [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]
                found = [measured(method, data, options, folder, each)[0]["validation"] for each in tried]
                chosen[method] = tried[int(np.argmax(found))]
                values = ", ".join(f"{key} = {value}" for key, value in chosen[method].items())
                words.append(f"{method}: {values}; the best of {len(tried)} on validation")
                print(words[-1], flush=True)
        others = [*_BASELINES, *chosen, *(["lightgcn in torch"] if find_spec("torch") else [])]
        others = [each for each in others if each not in options.without]
        for repeat in range(options.repeats):
            found = [ours(each, options, folder) for each in OURS if each not in options.without]
            for method in others:
                found += measured(method, data, options, folder, chosen.get(method))
            points += [each | {"repeat": repeat} for each in found]
            for each in found:
                print(f"{each['method']:28s} {each['seconds']:8.1f} s  {each['test']:.4f}  {each['bytes']:>12,}", flush=True)
    return points, words


# ---- what is written ---------------------------------------------------------------------------------------------------
def table(points: list[dict], title: str, chosen: list[str], command: str) -> str:
    """Medians and the range of the seconds, by method."""
    words = (
        "Seconds from the prompt to the model's file, median and range; test NDCG@20; bytes of the package's models, of others' "
        "files."
    )
    lines = [f"# Time to quality: {title}", "", "```bash", command, "```", "", words, ""]
    lines += ["| | seconds | NDCG@20 | bytes |", "|---|---:|---:|---:|"]
    for method in dict.fromkeys(point["method"] for point in points):
        each = [point for point in points if point["method"] == method]
        seconds, quality = (np.array([point[name] for point in each]) for name in ("seconds", "test"))
        spread = f"{np.median(seconds):.1f} ({seconds.min():.1f} to {seconds.max():.1f})"
        lines.append(f"| {method} | {spread} | {np.median(quality):.4f} | {each[0]['bytes']:,} |")
    return "\n".join([*lines, "", *(f"- {each}" for each in chosen), "", f"{processor()}.", ""])


def figure(points: list[dict], title: str):
    """NDCG@20 against seconds, on a logarithmic axis; a line for what has several lengths of training."""
    from c2f_np.plotting.style import FINE, GREY, INK, new_picture

    picture, axes = new_picture(7.4, 4.2)
    medians: dict = {}
    for point in points:
        medians.setdefault(point["method"], []).append((point["seconds"], point["test"]))
    medians = {name: tuple(np.median(each, axis=0)) for name, each in medians.items()}
    for beginning, colour in (("lightgcn in torch", GREY), ("default", FINE)):
        curve = sorted(at for name, at in medians.items() if name.startswith(beginning) and "links" not in name)
        if curve:
            axes.plot(*zip(*curve, strict=True), color=colour, linewidth=1.2)
    heights = [height for _, height in medians.values()]
    gap, labels = (max(heights) - min(heights)) / 30, list[tuple[float, float]]()
    for name, (seconds, height) in sorted(medians.items(), key=lambda each: -each[1][1]):
        mine = name in OURS
        axes.plot(seconds, height, "o", color=FINE if mine else GREY, markersize=5)
        words = name if name.endswith(f" {_LIGHTGCN_EPOCHS[0]} epochs") else name.removeprefix("lightgcn in torch, ")
        words = words.removeprefix("default, ")
        while any(0.6 < seconds / there < 1.6 and abs(height - beside) < gap for there, beside in labels):
            height -= gap / 2
        labels.append((seconds, height))
        axes.annotate(words, (seconds, height), (5, -3), textcoords="offset points", fontsize=7.5, color=INK)
    axes.set_xscale("log")
    axes.set_xlabel("seconds from the prompt to the model's file")
    axes.set_ylabel("test NDCG@20")
    axes.set_title(title, fontsize=10, color=INK)
    return picture


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write rows.csv, report.md and figure.png to a folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", help="a data set: a name or path that c2f_np.load_dataset takes")
    parser.add_argument("--protocol", choices=("clean", "authors"), default="clean")
    parser.add_argument("--name", help="of the data in the report (the last part of its path)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--without", nargs="+", default=[], metavar="METHOD", help="methods to leave out")
    parser.add_argument("--out", type=Path, help="folder (docs/results/time-to-quality-NAME)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    own = sys.argv[1:] if arguments is None else arguments
    at = own.index("--") if "--" in own else len(own)
    options = parser.parse_args(own[:at])
    options.settings = own[at + 1 :]
    if options.child:
        child(json.loads(options.child))
        return 0
    if not options.data:
        parser.error("name a data set")
    if options.repeats < 1:
        parser.error("--repeats must be positive")
    name = options.name or Path(options.data).name
    out = options.out or ROOT / "docs/results" / f"time-to-quality-{name}"
    # Where the data lie is nobody's business; a name says which they are.
    said = ["PATH" if options.name and each == options.data else each for each in own]
    command = " ".join(["python -m benchmarks.quality", *said])
    points, chosen = all_points(options)
    out.mkdir(parents=True, exist_ok=True)
    columns = ("method", "repeat", "seconds", "validation", "test", "bytes")
    write_csv(out / "rows.csv", [{column: point[column] for column in columns} for point in points])
    write_text_atomically(out / "report.md", table(points, name, chosen, command) + "\n![Time to quality](figure.png)\n")
    figure(points, name).write(out / "figure.png")
    print(table(points, name, chosen, command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
