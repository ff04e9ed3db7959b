"""What a user may set is declared once: constructors, estimators, files and the command line accept and refuse the same."""

import argparse
import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from c2f_np import Settings, SettingsError
from c2f_np.baselines import BASELINES, make_baseline
from c2f_np.cli import build_parser
from c2f_np.data import load_dataset
from c2f_np.errors import require_one_of
from c2f_np.schema import add_options, checked_values, described, given_options, parameters_of, refuse_unknown
from c2f_np.studies.study_file import TomlTable


@dataclasses.dataclass
class Declared:
    count: int = described(3, "a count", low=1, high=9)
    share: float = described(0.5, "a share", above=0.0)
    sure: bool = described(False, "whether")
    kind: str = described("a", "which", choices=("a", "b"))
    most: int | None = described(None, "a limit, or none", low=1)
    note: str | None = described(None, "any text")
    other: object = None


ACCEPTED = [
    ("count", np.int16(4), 4), ("count", 4.0, 4), ("share", 1, 1.0), ("share", np.float32(0.25), 0.25),
    ("share", Fraction(1, 4), 0.25), ("sure", np.True_, True), ("kind", np.str_("b"), "b"), ("most", None, None),
    ("most", np.int64(2), 2), ("note", "x", "x"),
]  # fmt: skip
REFUSED = [
    ("count", 0, "at least 1"), ("count", 10, "at most 9"), ("count", 2.5, "a whole number"), ("count", "2", "a whole number"),
    ("count", True, "a whole number"), ("count", None, "a whole number"), ("count", np.inf, "a whole number"),
    ("count", np.array([2]), "a whole number"), ("share", 0.0, "more than 0.0"), ("share", np.nan, "finite"),
    ("share", "x", "a number"), ("share", 1e70, "at most 1e+30"),
    ("count", 2**63, "at most 9"), ("share", False, "a number"), ("sure", 1, "true or false"),
    ("sure", None, "true or false"), ("kind", "c", "one of a, b"), ("kind", 3, "one of a, b"), ("most", 0, "at least 1"),
    ("most", "x", "a whole number"), ("note", 3, "text"),
]  # fmt: skip


@pytest.mark.parametrize("name, value, wanted", ACCEPTED)
def test_a_value_becomes_its_declared_type(name, value, wanted):
    found = checked_values(Declared(**{name: value}))[name]
    assert found == wanted and type(found) is type(wanted)


@pytest.mark.parametrize("name, value, wanted", REFUSED)
def test_a_wrong_value_is_named(name, value, wanted):
    with pytest.raises(SettingsError) as error:
        checked_values(Declared(**{name: value}))
    assert str(error.value) == f"{name} must be {wanted}, not {value!r}"


def test_only_described_fields_are_parameters():
    assert list(parameters_of(Declared)) == ["count", "share", "sure", "kind", "most", "note"]
    assert set(parameters_of(Settings)) == {field.name for field in dataclasses.fields(Settings)}


def test_options_of_the_command_line():
    parser = argparse.ArgumentParser()
    add_options(parser, Declared)
    options = parser.parse_args("--count 4 --no-sure --kind b --note x".split())
    assert given_options(options, parameters_of(Declared)) == {"count": 4, "sure": False, "kind": "b", "note": "x"}
    assert "a count [3]" in parser.format_help() and "{a,b}" in parser.format_help()
    options = build_parser().parse_args("train planted --out x --gate 0.5 --renormalise-fine --engine numpy".split())
    given = given_options(options, parameters_of(Settings))
    assert given == {"gate": 0.5, "renormalise_fine": True, "engine": "numpy"}


def test_constructor_preset_stored_settings_study_and_estimator_say_the_same():
    said = "max_epochs must be a whole number, not 2.5"
    women = load_dataset("southern-women")
    for refused in (
        lambda: Settings(max_epochs=2.5),
        lambda: Settings.preset("staged", max_epochs=2.5),
        lambda: Settings.from_dict(Settings().to_dict() | {"max_epochs": 2.5}),
        lambda: make_baseline("lightgcn", max_epochs=2.5).fit(women),
        lambda: make_baseline("coarse", max_epochs=2.5).fit(women),
        lambda: TomlTable({"max_epochs": 2.5}, "file").take("max_epochs", int),
    ):
        with pytest.raises(SettingsError, match=said):
            refused()


@pytest.mark.parametrize("name", BASELINES)
def test_defaults_of_baselines_are_among_the_allowed_values(name):
    model = make_baseline(name)
    assert checked_values(model) == {key: getattr(model, key) for key in parameters_of(type(model))}


def test_unknown_names_get_advice():
    with pytest.raises(SettingsError, match=r"unknown setting 'n_coarze'; did you mean n_coarse"):
        Settings.preset("authors", n_coarze=3)
    with pytest.raises(SettingsError, match=r"^unknown thing 'x'; choose one of alpha, beta$"):
        refuse_unknown(["alpha", "x"], ["alpha", "beta"], "thing")
    with pytest.raises(SettingsError, match="preset must be one of authors, paper, staged, default, not 'best'"):
        Settings.preset("best")


def test_settings_survive_a_file():
    settings = Settings.preset("paper", dim=np.int64(8), gate=np.float32(0.25))
    assert Settings.from_dict(settings.to_dict()) == settings
    assert Settings.preset("paper", dim=None) == Settings.preset("paper")


def test_a_wrong_choice_is_named_and_cut_short():
    with pytest.raises(SettingsError, match=r"^degree must be one of signed, absolute, not 'yyy.* \.\.\. \(5002 characters\)$"):
        require_one_of(("signed", "absolute"), "y" * 5000, "degree")
