"""The demo shows what it says: each stage does something, and the table is that of the README."""

import re
from pathlib import Path

import pytest

from c2f_np.cli import main
from c2f_np.demo import DEFAULT, FINE, PHASE_1, PHASE_2, POPULARITY, ZEROED
from c2f_np.run import comparison_table, read_json

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^(\S.*?) +(\d\.\d{4}) +(\d\.\d{4}) +([\d,]+)  (.+)$", re.MULTILINE)


@pytest.mark.slow
def test_every_stage_does_something(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    printed = capsys.readouterr().out
    rows = {name: (float(ndcg), int(size.replace(",", "")), parts) for name, _, ndcg, size, parts in ROW.findall(printed)}
    assert list(rows) == [POPULARITY, PHASE_1, PHASE_2, FINE, ZEROED, DEFAULT]
    shown = ROW.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert [(name, size, parts) for name, _, _, size, parts in shown] == [(n, f"{s:,}", p) for n, (_, s, p) in rows.items()]
    quality = {name: ndcg for name, (ndcg, _, _) in rows.items()}
    for name, _, ndcg, *_ in shown:
        assert quality[name] == pytest.approx(float(ndcg), abs=0.02)  # other processors and versions, other bits
    assert quality[POPULARITY] < quality[PHASE_1] < quality[PHASE_2] < quality[FINE] < quality[DEFAULT]
    assert quality[ZEROED] < 0.9 * quality[FINE]
    for _, size, parts in rows.values():
        assert sum(int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", parts)) in (0, size)
    # One user: what they had, and ten other items, most of the user's group.
    had, best = (re.findall(r"(\d+)\*? \((\d)\)", re.search(rf"{title} +(.+)", printed)[1]) for title in ("had", "ranked first"))
    group = re.search(r"of planted group (\d)", printed)[1]
    assert len(best) == 10 and not {item for item, _ in had} & {item for item, _ in best}
    assert sum(found == group for _, found in best) >= 8
    assert (tmp_path / "demo" / "demo.png").stat().st_size > 20_000
    # What it leaves are two ordinary run folders.
    for folder, last in (("paper", "fine, phase 2"), (".", "both codebooks, jointly")):
        assert last in comparison_table(read_json(tmp_path / "demo" / folder / "metrics.json"))
