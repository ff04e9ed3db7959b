"""Train presets with several seeds and print mean and spread of the test metrics.

    python benchmarks/over_seeds.py DATA --presets authors paper default --seeds 0 1 2 -- --n-coarse 100 --coarse-lr 3e-3

What follows ``--`` goes to ``python -m c2f_np train`` as it is. Runs are kept in folders; one that is complete is not repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

ROWS = ("popularity", "coarse_phase1", "coarse", "fine_phase1", "fine")
METRICS = ("ndcg@5", "ndcg@10", "ndcg@20", "ndcg@50", "recall@5", "recall@10", "recall@20", "recall@50")


def main() -> None:
    own, further = sys.argv[1:], []
    if "--" in own:
        further = own[own.index("--") + 1 :]
        own = own[: own.index("--")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--presets", nargs="+", default=["authors"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", default="runs/over_seeds", type=Path)
    options = parser.parse_args(own)
    for preset in options.presets:
        runs = [train(options, preset, seed, further) for seed in options.seeds]
        print(report(preset, options.seeds, runs), flush=True)


def train(options, preset: str, seed: int, further: list[str]) -> dict:
    """Metrics of one run; trained unless its folder is complete."""
    folder = options.out / f"{Path(options.data).name}-{preset}-{seed}"
    if not (folder / "metrics.json").exists():
        command = [sys.executable, "-m", "c2f_np", "train", options.data, "--preset", preset, "--seed", str(seed)]
        subprocess.run([*command, "--out", str(folder), "--overwrite", "--quiet", *further], check=True)
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def report(preset: str, seeds: list[int], runs: list[dict]) -> str:
    """A Markdown table: means over seeds, and lowest to highest for NDCG@20."""
    lines = [
        f"\n**{preset}**, protocol {runs[0]['protocol']}, seeds {', '.join(map(str, seeds))}; "
        f"training {min(r['seconds']['training'] for r in runs):.0f} to {max(r['seconds']['training'] for r in runs):.0f} s\n",
        "| | " + " | ".join(METRICS) + " | NDCG@20, lowest to highest | bytes |",
        "|---|" + "---|" * (len(METRICS) + 2),
    ]
    for row in ROWS:
        values = np.array([[run["test"][row][name] for name in METRICS] for run in runs])
        spread = values[:, METRICS.index("ndcg@20")]
        size = round(np.mean([run["size_in_bytes"][row]["model"] for run in runs]))
        mean = " | ".join(f"{value:.4f}" for value in values.mean(axis=0))
        lines.append(f"| {row} | {mean} | {spread.min():.4f} to {spread.max():.4f} | {size:,} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
