"""Eighteen women and fourteen social events in Natchez, Mississippi: small enough to draw on paper.

Source: A. Davis, B. B. Gardner and M. R. Gardner, *Deep South: A Social Anthropological Study of Caste and Class*,
University of Chicago Press, 1941, chapter VII, figure 3: who was reported in the newspapers as having been where. The
women fall into two overlapping circles, with events E6 to E9 in between, which is what a coarse codebook should find.
"""

from __future__ import annotations

import numpy as np

from .pairs import keys_of_codes, matrix_of_keys
from .splits import Split

N_EVENTS = 14

# One column an event, E1 to E14; x: she was there.
ATTENDANCE = """
Evelyn Jefferson   x x x x x x . x x . . . . .
Laura Mandeville   x x x . x x x x . . . . . .
Theresa Anderson   . x x x x x x x x . . . . .
Brenda Rogers      x . x x x x x x . . . . . .
Charlotte McDowd   . . x x x . x . . . . . . .
Frances Anderson   . . x . x x . x . . . . . .
Eleanor Nye        . . . . x x x x . . . . . .
Pearl Oglethorpe   . . . . . x . x x . . . . .
Ruth DeSand        . . . . x . x x x . . . . .
Verne Sanderson    . . . . . . x x x . . x . .
Myra Liddel        . . . . . . . x x x . x . .
Katherina Rogers   . . . . . . . x x x . x x x
Sylvia Avondale    . . . . . . x x x x . x x x
Nora Fayette       . . . . . x x . x x x x x x
Helen Lloyd        . . . . . . x x . x x x . .
Dorothy Murchison  . . . . . . . x x . . . . .
Olivia Carleton    . . . . . . . . x . x . . .
Flora Price        . . . . . . . . x . x . . .
"""


def southern_women_split() -> Split:
    """Return the attendances with a small fixed split.

    Of her n events, a woman holds out one for every three, rounded down, but at least one: those that come first when
    her events, in the table's order, are rotated by her own row number. There is no chance in it, so that every
    reader gets the same numbers.

    Returns
    -------
    Split
        18 x 14, 89 attendances, without validation. User ids are the women's names, item ids "E1" to "E14", both in the
        table's order.
    """
    women, attended = _parse_table()
    held_out = np.zeros_like(attended)
    for row, events in enumerate(map(np.flatnonzero, attended)):
        n_out = max(1, len(events) // 3)
        held_out[row, np.roll(events, -row)[:n_out]] = True
    train, test = (
        matrix_of_keys(keys_of_codes(*np.nonzero(chosen), N_EVENTS), attended.shape)
        for chosen in (attended & ~held_out, held_out)
    )
    events = np.array([f"E{number}" for number in range(1, N_EVENTS + 1)])
    how = "test: a fixed third of each woman's events, at least one"
    return Split(train, None, test, np.array(women), events, how, "southern-women")


def southern_women_files() -> dict[str, str]:
    """Return the shipped files: name to content."""
    women, attended = _parse_table()
    split = southern_women_split()
    lines = ["user,item,held_out"]
    for row, column in np.argwhere(attended).tolist():
        lines.append(f"{women[row]},{split.item_ids[column]},{int(split.test[row, column])}")
    return {"attendance.csv": "\n".join(lines) + "\n", "table.txt": ATTENDANCE.lstrip("\n")}


def _parse_table() -> tuple[list[str], np.ndarray]:
    """Return the women's names and the bool matrix, shape (18, 14), of who was where."""
    women, rows = [], []
    for line in ATTENDANCE.strip().splitlines():
        *name, marks = line.split(maxsplit=2)
        women.append(" ".join(name))
        rows.append([mark == "x" for mark in marks.split()])
    return women, np.array(rows)
