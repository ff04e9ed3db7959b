"""Command lines with odd options: every option of every command, as the parsers declare them."""

import argparse

from c2f_np.cli import build_parser

from .material import SMALL
from .spoil import pick

_NUMBERS = (
    "", " ", "-1", "0", "nan", "inf", "-inf", "1e400", "1" + "0" * 400, "9" * 5000, str(2**31),
    str(2**31 - 1), str(2**32), str(2**63),
    str(2**64), str(-(2**63)), "-" + "9" * 400, "1e-400", "1e30", "1e31", "0x10", "1_000", "٣", "1.5", "1e3",
        "--", "+1", "1000000001",
    "01", "1,5", "½", "True", "None", "1;2", "100001", "4097", "101", "1025", "-0.0", "2", "0.5",
)  # fmt: skip
_TEXTS = (
    "", " ", "-", "--", "x", "a" * 300, "a" * 10_000, "😀", "Łódź", "\udcff", "\x1b[31m", "a\nb", "\t",
    "=1+1", "%s%n", "{0}", "[", "*",
    "../x", "a/b/c", "/dev/null", "/dev/zero/x", "/proc/self/mem", "~", "$HOME", ".", "..", "run",
    "run/model.npz", "clicks/some.csv",
    "study/study.toml", "run/run.json", "'", '"', "\\", "::", ",", "None", "nan", "user", "item", "E1",
    "ml-100k", "gowalla", "planted",
    "file:///etc/passwd", "http://", "http://[::1", "http://127.0.0.1:9", "ftp://127.0.0.1:9/x", "http://\u2026/", "a=b", "=",
    "x=clicks/some.csv", "numpy", "joint", "auto", "train", "con", "a\u202eb", "e\u0301", " E1", "1",
)  # fmt: skip
_SETTINGS = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
_QUICK = ["--preset", "staged", "--n-components", "4", "--engine", "numpy", "--quiet"]
#: A command line that works for each command, in a folder with a run, data, a study and a reference file.
_BASES = {
    ("train",): [["southern-women", "--out", "new", *_SETTINGS, *_QUICK],
                 ["clicks/some.csv", "--out", "new", *_SETTINGS, *_QUICK],
                 ["southern-women", "--out", "run", "--resume", "--quiet"]],
    ("control",): [["run", "--quiet"]],
    ("evaluate",): [["run"]],
    ("refit",): [["run", "--quiet"]],
    ("recommend",): [["run", "--user", "Nora Fayette"], ["run/model.npz", "--similar-to", "E1", "-k", "3"],
                     ["run", "--items", "E1,E5", "--only", "E2,E3", "--without", "@study/study.toml"]],
    ("explain",): [["run", "--user", "Nora Fayette", "--item", "E1"], ["run/model.npz", "--items", "E1,E5", "--item", "E2"]],
    ("info",): [["run"], ["run/model.npz"]],
    ("export",): [["run", "--out", "small.npz"], ["run", "--out", "exports", "--table"]],
    ("study",): [["study/study.toml", "--dry-run"], ["presets", "--dry-run"], ["--list"],
                 ["study/study.toml", "--out", "study/out", "--report-only", "--quiet"]],
    ("data", "list"): [[]],
    ("data", "fetch"): [["planted"], ["ml-100k", "--base-url", "http://127.0.0.1:9", "--quiet", "--cache-dir", "cache"]],
    ("data", "info"): [["clicks/some.csv"], ["planted"]],
    ("parity",): [["parity/case.npz", "--engine", "numpy"]],
    ("gradcheck",): [["--op", "soft_threshold", "--engine", "numpy", "--jobs", "1"]],
    ("demo",): [["--out", "new", "--quiet"]],
}  # fmt: skip


def command_lines(rng) -> list[str]:
    """A command line that works, with up to three options added, or words of it replaced, by what is odd."""
    names = pick(rng, list(_BASES))
    base = list(pick(rng, _BASES[names]))
    actions = _actions(names)
    # What stays away works long or would reach out to the network.
    demanding = names == ("demo",)
    n_changes = int(rng.integers(1, 4))
    for _ in range(n_changes):
        before = ["", *base]
        positional = [place for place, word in enumerate(base) if not (word[:1] == "-" or before[place][:2] == "--")]
        if positional and rng.random() < 0.15 and not demanding:
            base[pick(rng, positional)] = pick(rng, _TEXTS)
            continue
        action = pick(rng, actions)
        flag = pick(rng, action.option_strings)
        if flag == "--mutants" or (flag == "--base-url" and "planted" in base):
            continue
        base.append(flag)
        if flag == "--mutate":  # even one takes a minute
            base.append(pick(rng, ("-1", "0", "x", "1.5", "9" * 400, "9" * 5000, "")))
        elif action.nargs != 0:
            base += [_odd(action, rng) for _ in range(1 if action.nargs is None else int(rng.integers(1, 4)))]
    if demanding:
        base += ["--seed", pick(rng, ("-1", "x", "1e400", "9" * 400, str(2**63), "", "1.5"))]
    return [*names, *base]


def _actions(names):
    """The options of a command."""
    parser = build_parser()
    for name in names:
        parser = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices[name]
    return [action for action in parser._actions if action.option_strings and "--help" not in action.option_strings]


def _odd(action, rng) -> str:
    if action.choices and rng.random() < 0.6:
        return str(pick(rng, list(action.choices)))
    return pick(rng, _NUMBERS if action.type in (int, float) or rng.random() < 0.1 else _TEXTS)
