"""Where the time of a whole training goes that is not epochs, from the prompt to the files, part by part.

A training runs in a process of its own, through the command line. The functions of `WATCHED` are timed there, each without the
others that it calls, and with the loading of compiled code at its first call. What is left of the process is the interpreter, and
whatever has no name in the table.
"""

from __future__ import annotations

import tempfile
import time
from importlib import import_module
from pathlib import Path

import numpy as np

from .. import child
from ..records import timing_record
from ..timing import Competitor, interleave, summary, watched

#: Parts by the functions that do them.
WATCHED = {
    "reading": ("data.load.load_dataset",),
    "partition": ("model.starts.partition_entities",),
    "sparse PCA": ("model.sparse_pca.sparse_pca",),
    "singular vectors": ("model.starts.singular_table",),
    "code of the table": ("model.starts.code_table",),
    "epochs": ("training.loop.train_epoch",),
    "evaluation": ("training.problem.evaluate_state",),
    "figure": ("shown.write_figure",),
    "files": ("training.checkpoint.save_checkpoint", "run.save_model", "run._write_history", "run.write_json"),
}
#: Options of `train` beside the preset: few epochs, as only the others count.
TRAININGS = {
    "authors": ["--preset", "authors", "--max-epochs", "5"],
    "default": ["--table-epochs", "5", "--max-epochs", "5", "--eval-every", "5"],
}


def run(plan, workloads):
    """A record of the sparse PCA of every size, and of the trainings of the smallest."""
    for workload in workloads:
        yield _sparse_pca(plan, workload)
    smallest = min(workloads, key=lambda workload: workload.size.n_train)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.csv"
        pairs = np.transpose(sum(getattr(smallest.data, part) for part in ("train", "validation", "test")).nonzero())
        np.savetxt(path, pairs, "%d", ",", header="user,item", comments="")
        rounds = 1 if plan.quick else 5
        for name, options in TRAININGS.items():
            if plan.quick:
                options = [*options, "--n-components", "2", "--dim", "8", "--partition", "random"]
            command = [str(path), "--out", f"{folder}/run", "--overwrite", "--quiet", "--threads", str(plan.threads), *options]
            found = [child.run("training", *command) for _ in range(rounds + (not plan.quick))]
            found = found[not plan.quick :]  # the first compiles
            for one in found:
                one["the rest"] = one["process"] - sum(value for part, value in one.items() if part != "process")
            parts = [*(part for part in found[0] if part != "process"), "process"]
            each = {part: [one[part] for one in found] for part in parts}
            seconds = {part: {"seconds": summary(values)} for part, values in each.items() if any(values)}
            case = f"a whole training, preset {name}, {' '.join(options)}: each part without the others that it calls"
            yield {"kind": "start", "part": "outside", "case": case, "size": smallest.size.name, "seconds": seconds}


def watched_training(*arguments: str) -> dict[str, float]:
    """Train, and return the seconds of every part; those of the process that have no part are left to the caller."""
    started = time.perf_counter()
    for module in {function.rpartition(".")[0] for functions in WATCHED.values() for function in functions}:
        import_module(f"c2f_np.{module}")
    main = import_module("c2f_np.cli").main
    imports = time.perf_counter() - started
    with watched(WATCHED) as seconds:
        if main(["train", *arguments]):
            raise RuntimeError(f"train {' '.join(arguments)} failed")
    return {"imports": imports} | seconds


def _sparse_pca(plan, workload) -> dict:
    """Ours and scikit-learn's of as many rows as the fine codebook has, and the objectives that both end at."""
    from sklearn.decomposition import SparsePCA

    from c2f_np.model.sparse_pca import sparse_factors, sparse_pca

    size = workload.size
    rng = np.random.default_rng(0)
    E_coarse = 2 * rng.standard_normal((size.n_coarse, size.dim))
    rows = E_coarse[rng.integers(0, size.n_coarse, size.n_fine)]
    rows -= rows.mean(axis=0)
    n_components = 2 if plan.quick else 40
    model = SparsePCA(n_components, alpha=1, random_state=0)
    competitors = [
        Competitor("ours", lambda: sparse_pca(rows, n_components), plan.ours),
        Competitor("scikit_learn", lambda: model.fit_transform(rows), plan.plain),
    ]
    times = interleave(competitors, **plan.measuring | {"rounds": min(plan.rounds, 3)})
    V, W = sparse_factors(rows, n_components, alpha=1.0, tol=1e-8, max_sweeps=1000)
    objectives = {"ours": float(np.sum((rows - V @ W) ** 2) / 2 + np.sum(np.abs(W))), "scikit_learn": float(model.error_[-1])}
    reached = f"objective {objectives['ours']:.0f}, scikit-learn's {objectives['scikit_learn']:.0f}"
    case = f"sparse PCA, {size.n_fine} rows of {size.dim} numbers, {n_components} components; {reached}"
    return timing_record("outside", case, size.name, times)
