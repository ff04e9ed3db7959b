"""Write the numbers of README.md and the tables of docs/fine_codebook.md and docs/baselines.md from the committed results.

    python -m benchmarks.pages

The numbers come from docs/results/*/rows.csv, which `python -m c2f_np study` wrote; nothing is computed but means over seeds.
"""

from __future__ import annotations

import csv
import json
import sys

from c2f_np.evaluation import DEFAULT_METRICS
from c2f_np.files import write_text_atomically

from . import ROOT
from .gowalla import AUTHORS, mean_of, read_runs
from .summary import replace_block

RESULTS = ROOT / "docs/results"
DATA = ("ml-100k", "planted")
TITLES = {"ml-100k": "MovieLens 100K", "foursquare": "Foursquare", "planted": "planted", "gowalla": "Gowalla"}


def means(study: str, data: str) -> dict[str, dict]:
    """NDCG@20 and bytes (means over seeds) and number of seeds of each outcome of a study; empty if it is not there."""
    path = RESULTS / f"{study}-{data}" / "rows.csv"
    if not path.exists():
        return {}
    found: dict[str, list[dict]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["test_ndcg@20"]:
                found.setdefault(row["outcome"], []).append(row)
    return {
        outcome: {
            "ndcg": sum(float(row["test_ndcg@20"]) for row in rows) / len(rows),
            "bytes": round(sum(int(row["bytes"]) for row in rows) / len(rows)),
            **{name: sum(float(row.get(name) or 0) for row in rows) / len(rows) for name in ("epochs", "seconds")},
            "seeds": len(rows),
        }
        for outcome, rows in found.items()
    }


def beside(study: str, names: list[str], reference=None, data_sets=DATA) -> str:
    """A table of outcomes, data sets side by side: NDCG@20, the difference to a reference in percent, bytes.

    Parameters
    ----------
    study : str
    names : list of str
        Outcomes; those that no data set has are left out.
    reference : callable, optional
        From the name of an outcome to that of its reference.
    data_sets : sequence of str

    Returns
    -------
    str
        Empty if nothing is there.
    """
    found = {data: means(study, data) for data in data_sets}
    shown = [data for data in data_sets if found[data]]
    if not shown:
        return ""
    lines = ["| | " + " | ".join(f"{TITLES[data]}: NDCG@20 | | bytes" for data in shown) + " |"]
    lines.append("|---|" + "---:|---:|---:|" * len(shown))
    for name in names:
        if not any(name in found[data] for data in shown):
            continue
        cells = [_cells(found[data], name, reference(name) if reference else None) for data in shown]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    seeds = sorted({each["seeds"] for data in shown for name, each in found[data].items() if name in names})
    return "\n".join([*lines, "", f"Means over seeds ({' or '.join(map(str, seeds))})."])


def _cells(found: dict[str, dict], name: str, reference: str | None) -> str:
    if name not in found:
        return " | | "
    change = ""
    if reference in found and reference != name:
        change = f"{100 * (found[name]['ndcg'] / found[reference]['ndcg'] - 1):+.1f} %"
    return f"{found[name]['ndcg']:.4f} | {change} | {found[name]['bytes']:,}"


#: Models of the study `rivals` that are tried at each budget, by the words that the page has for them.
CODEBOOKS = {
    "one link": "one codebook, one link each", "all coarse": "one codebook, several links", "direct links": "two, direct links",
    "sparse": "two, fine one sparse", "bridged": "coarse rows made of fine rows", "sparse and bridged": "the same, sparse",
}  # fmt: skip
OTHERS = {
    "narrow-lightgcn": "narrow LightGCN", "bpr-mf": "BPR-MF", "product-quantisation": "LightGCN, product quantised",
    "quotient-remainder": "quotient-remainder", "hashed": "hashed", "ease": "EASE, cut", "item-knn": "item-kNN, cut",
}  # fmt: skip
WHOLE = {"lightgcn": "LightGCN, 128 columns", "ease": "EASE", "item-knn": "item-kNN", "popularity": "popularity"}
BUDGETS = {"0.03": "3 %", "0.1": "10 %"}


def at_budgets() -> str:
    """The models of study `rivals` at both budgets, data sets side by side, and what training takes."""
    found = {data: shown for data in TITLES if (shown := means("rivals", data))}
    columns = [(data, share) for data in found for share in BUDGETS]
    head = [f"{TITLES[data]}, {BUDGETS[share]}" for data, share in columns]
    lines = ["| NDCG@20 | " + " | ".join([*head, "seconds"]) + " |", "|---|" + "---:|" * (len(head) + 1)]
    for name, words in (CODEBOOKS | OTHERS).items():
        cells = [f"{found[data][f'{name}, {share}']['ndcg']:.4f}" for data, share in columns]
        lines.append(f"| {words} | " + " | ".join([*cells, f"{found['ml-100k'][f'{name}, 0.1']['seconds']:.0f}"]) + " |")
        part = f"{name}, {columns[0][1]} / zero-fine"
        if part in found["ml-100k"]:
            changes = [found[data][f"{name}, {share} / zero-fine"]["ndcg"] / found[data][f"{name}, {share}"]["ndcg"] - 1
                       for data, share in columns]  # fmt: skip
            shown = [f"{100 * each:+.1f} %" for each in changes]
            lines.append("| ... its fine rows set to zero | " + " | ".join([*shown, ""]) + " |")
    for name, words in WHOLE.items():
        cells = [f"{found[data][name]['ndcg']:.4f}" if share == "0.1" else "" for data, share in columns]
        lines.append(f"| {words}, whole | " + " | ".join([*cells, f"{found['ml-100k'][name]['seconds']:.0f}"]) + " |")
    whole = [f"{found[data]['lightgcn']['bytes']:,} ({TITLES[data]})" for data in found]
    seeds = {found[data]["lightgcn"]["seeds"] for data in found}
    return "\n".join([
        *lines, "", f"Means over {' or '.join(map(str, sorted(seeds)))} seeds. 3 % and 10 % of the bytes of LightGCN, "
        f"{', '.join(whole)}; all but the whole models are stored with a byte for each number. Seconds to train at 10 % on "
        "MovieLens 100K, one core each.",
    ])  # fmt: skip


def blocks() -> dict[str, dict[str, str]]:
    """The text of each block, by page and name."""
    parts = ["", " / zero-fine", " / random-fine", " / shuffled-fine-rows", " / no-fine-edges", " / no-fine", " / control"]
    staged = [f"{preset}{part}" for preset in ("authors", "paper") for part in parts] + ["more coarse rows"]
    joint = [f"default{part}" for part in parts[:4]]
    rivals = ["default, 140 rows, all coarse", "default, 56 rows, all coarse", "default, bridge in place of direct links",
              "default, bridge in place of direct links / zero-fine", "narrow-lightgcn"]  # fmt: skip
    measured = dict.fromkeys(name for data in DATA for name in means("joint-training", data))
    changed = [name for name in measured if " / " not in name]
    large = list(means("large-data", "gowalla"))
    presets = ["popularity", "item-knn", "ease", "authors", "paper", "staged", "default", "default, 3 direct links"]
    return {
        "docs/fine_codebook.md": {
            "found": beside("fine-codebook", staged, lambda name: "paper" if name.startswith("paper") else "authors"),
            "joint": beside("fine-codebook", joint + rivals, lambda name: "default"),
            "worth": beside("joint-training", changed, lambda name: "default"),
            "rivals": at_budgets(),
            "large": beside("large-data", large, lambda name: "default", ("gowalla",)),
        },
        "docs/baselines.md": {"studies": beside("presets", presets, lambda name: "authors")},
        "README.md": {"presets": presets_table(), "numbers": numbers()},
    }


#: What a preset trains, and for whom it is.
PRESETS = {
    "default": ("a full table, coded by two codebooks, which are then trained jointly",
                "recommending: the best preset for its bytes"),
    "paper": ("the two stages as in the paper's text", "comparing with the paper"),
    "authors": ("the two stages as in the released code", "reproducing the authors' results"),
    "staged": ("the two stages with our [repairs](docs/model.md#paper-code-staged-and-default-every-difference)",
               "studying the stages"),
}


def presets_table() -> str:
    """Each preset with its quality and what training costs, of study `presets`."""
    found = means("presets", "ml-100k")
    lines = ["| preset | what it trains | for whom | NDCG@20 | training |", "|---|---|---|---:|---|"]
    for name, (what, whom) in PRESETS.items():
        ndcg, epochs, seconds = (found[name][column] for column in ("ndcg", "epochs", "seconds"))
        lines.append(f"| `{name}` | {what} | {whom} | {ndcg:.3f} | {epochs:.0f} epochs, {seconds:.0f} s |")
    seeds = found["default"]["seeds"]
    lines += ["", f"NDCG@20 and training: MovieLens 100K, means over {seeds} seeds, on two cores, while other jobs ran."]
    return "\n".join(lines)


def numbers() -> str:
    """The three numbers of the README: quality at equal bytes, the authors' result, speed."""
    found = means("presets", "ml-100k")
    ours, theirs, large = found["default"], found["authors"], means("large-data", "gowalla")["default"]
    runs, _ = read_runs()
    reached, logged = mean_of(runs, "fine", "ndcg@20"), AUTHORS["fine"][DEFAULT_METRICS.index("ndcg@20")]
    records = json.loads((ROOT / "benchmarks/results.json").read_text(encoding="utf-8"))["results"]
    steps = [each for each in records if "ratio_to_ours" in each and each["size"] == "gowalla" and "coarse step" in each["case"]]
    gain, minutes = ours["ndcg"] / theirs["ndcg"] - 1, sum(run["seconds"]["training"] for run in runs) / len(runs) / 60
    ratios = [step["ratio_to_ours"]["torch_csr_transpose"] for step in steps]
    return f"""\
- MovieLens 100K, NDCG@20: {ours["ndcg"]:.3f} with {ours["bytes"]:,} bytes (`default`), {theirs["ndcg"]:.3f} with
  {theirs["bytes"]:,} (`authors`): {gain:+.0%} ([baselines](docs/baselines.md#beside-the-presets)).
- Gowalla, NDCG@20 of the two stages: {reached:.3f} in {minutes:.0f} minutes on two cores, {len(runs)} seeds; the
  authors' log has {logged:.3f} ([Gowalla](docs/results/gowalla.md)). The default: {large["ndcg"]:.3f} in
  {large["seconds"] / 60:.0f} minutes ([large data](docs/fine_codebook.md#on-large-data)).
- A coarse training step at the size of Gowalla takes PyTorch {min(ratios):.1f} to {max(ratios):.1f} times as long, even
  with a stored transpose and a hand-written backward pass, on the same two cores ([performance](docs/performance.md))."""


def main() -> int:
    for page, texts in blocks().items():
        text = (ROOT / page).read_text(encoding="utf-8")
        for name, block in texts.items():
            text = replace_block(text, name, block)
        write_text_atomically(ROOT / page, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
