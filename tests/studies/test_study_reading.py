"""Study files: what a good one becomes, and that a bad one is refused with file, key and value."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from c2f_np.errors import SettingsError
from c2f_np.studies import Run, jobs_of, read_study, ready_studies, with_choices
from c2f_np.studies.jobs import fingerprint, key_of
from c2f_np.studies.study import SPECIAL_KINDS
from c2f_np.studies.study_file import OPTIONS
from c2f_np.studies.surgery import AFTER

GOOD = """
title = "A title"
question = "A question?"
data = ["southern-women"]
seeds = [3, 1]
reference = "plain"

[common]
n_coarse = 6
n_fine = 4
dim = 8

[[run]]
name = "plain"
method = "c2f"
"""


PROTOCOL = 'title = "t"\nquestion = "q"\nkind = "protocol"\n'


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def study_of(tmp_path, text):
    return read_study(written(tmp_path, text))


def test_a_grid_becomes_runs_and_settings_are_put_together(tmp_path):
    study = study_of(
        tmp_path,
        """
title = "t"
question = "q"
[[data]]
source = "planted"
settings = { dim = 16, gate = 0.3 }
[[data]]
source = "southern-women"
name = "women"
protocol = "authors"
options = { split = "given" }
[common]
dim = 8
n_coarse = 7
gate = 0.1
[[run]]
name = "{preset}, {gate}, {n_fine}"
method = "c2f"
grid = { preset = ["authors", "paper"], gate = [0.0, 0.5] }
cases = [{ n_fine = 5 }, { n_fine = 6, t_fine = 3 }]
[[run]]
name = "other"
method = "c2f"
only_data = ["women"]
seeds = [8]
""",
    )
    jobs = {(job.source.name, job.run.name): job for job in jobs_of(study)}
    assert len(study.runs) == 9 and len(jobs) == 8 + 9
    assert ("planted", "other") not in jobs and jobs["women", "other"].seed == 8
    settings = jobs["planted", "paper, 0.5, 6"].settings
    assert [settings[name] for name in ("dim", "n_coarse", "gate", "n_fine", "t_fine", "seed")] == [16, 7, 0.5, 6, 3, 0]
    assert settings["composition"] == "bridged"
    assert jobs["women", "other"].settings["gate"] == 0.1 and jobs["women", "other"].source.protocol == "authors"


OWN_DATA = """
title = "A title"
question = "A question?"
[[data]]
source = "planted"
settings = { dim = 32 }
[common]
dim = 64
[[run]]
name = "plain"
method = "c2f"
[[run]]
name = "t_fine {t_fine}"
method = "c2f"
only_data = ["planted"]
grid = { t_fine = [2] }
"""


def test_other_data_take_common_settings_or_those_of_one_of_the_studys_own(tmp_path):
    study = study_of(tmp_path, OWN_DATA)
    other = with_choices(study, data=["a=some/where", "b"], seeds=[5])
    assert [s.name for s in other.sources] == ["a", "b"] and other.sources[0].source == "some/where"
    jobs = jobs_of(other)
    assert {job.settings["dim"] for job in jobs} == {64} and {job.seed for job in jobs} == {5}
    assert {job.run.name for job in jobs} == {"plain"}
    like = with_choices(study, data=["a=some/where"], settings_of="planted", protocol="authors")
    assert {job.settings["dim"] for job in jobs_of(like)} == {32} and like.sources[0].protocol == "authors"
    assert {job.run.name for job in jobs_of(like)} == {"plain", "t_fine 2"}
    assert with_choices(study, data=["planted"]).sources == study.sources
    for wrong in ({"settings_of": "nowhere"}, {"data": ["a", "x/a"]}, {"seeds": [1, 1]}, {"seeds": [-1]}):
        with pytest.raises(SettingsError):
            with_choices(study, **wrong)


def test_ready_studies_can_be_read_and_their_jobs_listed():
    names = ready_studies()
    assert {"presets", "ablations", "control", "fine-codebook", "rivals"} <= set(names)
    for name in names:
        study = read_study(name)
        assert "?" in study.question
        keys = [job.key for job in jobs_of(study)]
        assert len(set(keys)) == len(keys) and (keys or study.kind != "runs")


def test_baselines(tmp_path):
    text = GOOD + """
[[run]]
name = "ease"
method = "ease"
settings = { regularisation = 50 }
[[run]]
name = "coarse"
method = "coarse"
bytes_of = "plain"
"""
    jobs = {(job.run.name, job.seed): job for job in jobs_of(study_of(tmp_path, text))}
    assert jobs["ease", 3].settings == {"regularisation": 50} and ("ease", 1) not in jobs  # nothing random: once
    assert jobs["coarse", 1].needs == jobs["plain", 1].key
    assert jobs["coarse", 1].settings == {"n_coarse": 6, "dim": 8, "seed": 1}  # it shares settings with c2f


BAD = [
    ("colour = 3", "unknown key 'colour'", "3"),
    ('metric = "precision@3"', "metric must be one of", "precision@3"),
    ("seeds = [0, 0]", "seeds", "[0, 0]"),
    ("seeds = [-1]", "seeds", "-1"),
    ("seeds = [1.5]", "seeds", "1.5"),
    ('protocol = "strict"', "protocol must be one of", "strict"),
    ('reference = "nobody"', "reference must name a run", "nobody"),
    ('data = ["planted", "x/planted"]', "two data sets", "planted"),
    ("data = []", "data must name", "[]"),
    ('figure = "pie"', "figure must be one of", "pie"),
    ('kind = "special"', "kind must be one of", "special"),
    ("title = 3", "title must be text", "3"),
    ("rerun = 1", "rerun must be true or false", "1"),
    ("options = { k = 5 }", "options: unknown key 'k'", "5"),
    ('kind = "protocol"', "must not have a [[run]], such as 'plain'", "protocol"),
]


X, EASE, HASHED = (f'name = "x"\nmethod = "{method}"\n' for method in ("c2f", "ease", "hashed"))
BAD_RUNS = [
    ('name = "plain"\nmethod = "c2f"', "occurs twice", "plain"),
    ('name = "a / b"\nmethod = "c2f"', "must not contain", "a / b"),
    ('name = "x"\nmethod = "svd"', "method must be one of", "svd"),
    (X + 'preset = "mine"', "preset must be one of", "mine"),
    (X + 'settings = { width = 4 }', "unknown key 'width'", "4"),
    (X + 'settings = { gate = 4.0 }', "gate must be at most 1.0", "4.0"),
    (X + 'settings = { seed = 4 }', "seed = 4 cannot be set", "4"),
    (X + 'after = ["magic"]', "each member of after must be one of", "magic"),
    (X + 'bytes_of = "x"', "bytes_of leads back", "x"),
    (HASHED + 'bytes_of = "plain"\nbytes_share = 1.5', "bytes_share must be at most 1.0", "1.5"),
    (HASHED + 'bytes_of = "plain"\ngrid = { bytes_share = [0] }', "bytes_share must be more than 0", "0"),
    (HASHED + "bytes_share = 0.5", "but no bytes_of says of which run", "0.5"),
    (EASE + 'bytes_of = "nobody"', "bytes_of must name a run", "nobody"),
    (HASHED + 'bytes_of = "x"', "bytes_of leads back", "x"),
    (HASHED + 'bytes_of = "y"\n[[run]]\nname = "y"\nmethod = "hashed"\nbytes_of = "x"', "leads back", "x"),
    ('name = "x"\nmethod = "popularity"\nbytes_of = "plain"', "popularity has no parameter 'bytes'", "plain"),
    (X + 'reference = "nobody"', "reference must name a run", "nobody"),
    (X + 'reference = "plain / middle"', "'plain' measures", "middle"),
    (EASE + 'reference = "x / coarse"', "'x' measures nothing", "coarse"),
    ('name = "x"\nmethod = 7', "method must be text", "7"),
    (X + 'settings = [1]', "settings must be a table", "[1]"),
    (X + 'after = "control"', "after must be a list", "control"),
    (X + 'settings = { dim = "wide" }', "dim", "wide"),
    (EASE + 'preset = "paper"', "unknown key 'preset'", "paper"),
    ('name = "x {gate}"\nmethod = "c2f"', "uses 'gate'", "gate"),
    (X + 'grid = { gate = [0.1, 0.2] }', "occurs twice", "x"),
    (X + 'grid = { gate = 0.1 }', "grid: gate must be a list", "0.1"),
    (X + 'only_data = ["mars"]', "only_data must name data sets", "mars"),
    ('method = "c2f"', "name is missing", "run 2"),
]


BAD_OPTIONS = [
    ("k = 0", "k must be at least 1", "0"),
    ('k = "ten"', "k must be a whole number", "ten"),
    ("other_ks = [5, 0.5]", "each member of other_ks must be a whole number", "0.5"),
    ('preset = "mine"', "preset must be of authors", "mine"),
    ('preset = "default"', "preset must be of authors", "default"),
    ('presets = ["authors"]', "unknown key 'presets'", "authors"),
]


def with_line(line):
    """The good study with another value of one key."""
    key = line.split(" ")[0]
    return line + "\n" + "\n".join(each for each in GOOD.splitlines() if not each.startswith(key + " "))


@pytest.mark.parametrize(
    "text, what, value",
    [(with_line(line), *words) for line, *words in BAD]
    + [(f"{GOOD}\n[[run]]\n{run}", *words) for run, *words in BAD_RUNS]
    + [(f"{PROTOCOL}[options]\n{line}\n", f": options: {what}", value) for line, what, value in BAD_OPTIONS],
)
def test_a_bad_file_is_refused_with_its_name_the_key_and_the_value(tmp_path, text, what, value):
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as error:
        read_study(path)
    assert str(path) in str(error.value) and what in str(error.value) and value in str(error.value)


LONG = "x" * 100_000


@pytest.mark.parametrize(
    "line",
    [f'name = "{{{LONG}}}"', f'name = "{LONG}"\nafter = ["{LONG}"]', f'preset = "{LONG}"', f'bytes_of = "{LONG}"', f"{LONG} = 1"],
    ids=["template", "name", "preset", "bytes_of", "key"],
)
def test_a_long_word_is_cut_short_in_the_message(tmp_path, line):
    name = "" if line.startswith("name") else 'name = "x"\n'
    grid = "grid = { gate = [0.1, 0.2] }\n" if "{" in line else ""
    with pytest.raises(SettingsError) as error:
        jobs_of(study_of(tmp_path, f'{GOOD}\n[[run]]\n{name}method = "c2f"\n{line}\n{grid}'))
    assert len(str(error.value)) < 1000


def test_the_study_of_the_documentation(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    example = page.partition("```toml\n")[2].partition("```")[0]
    assert len(jobs_of(study_of(tmp_path, example))) == 1 + 3 * 3 + 3 * 3 and "1 + 3 x 3 + 3 x 3" in page
    # Every key that a study, its data and its runs may have, and every analysis, is on the page.
    names = (*SPECIAL_KINDS, *AFTER, *(key for keys in OPTIONS.values() for key in keys), *(f.name for f in fields(Run)))
    for name in names:
        assert f"`{name}`" in page, name
    assert all(f"| `{name}` |" in page for name in ready_studies())


def test_a_reference_may_be_a_phase_or_an_analysis(tmp_path):
    text = GOOD.replace('reference = "plain"', 'reference = "two / coarse"')
    run = '[[run]]\nname = "{}"\nmethod = "c2f"\npreset = "authors"\nafter = ["control"]\n'
    study = study_of(tmp_path, text + run.format("two") + 'reference = "two / control"\n')
    assert (study.reference, study.runs[1].reference) == ("two / coarse", "two / control")


def test_good_options_of_a_special_kind(tmp_path):
    assert study_of(tmp_path, PROTOCOL).options == {"preset": "staged"}
    lines = 'preset = "authors"\nk = 10\nother_ks = [5]\nn_negatives = 50\nn_draws = 2\n'
    study = study_of(tmp_path, f"{PROTOCOL}[options]\n{lines}")
    assert study.options == {"preset": "authors", "k": 10, "other_ks": (5,), "n_negatives": 50, "n_draws": 2}


def test_a_parameter_that_a_baseline_does_not_have(tmp_path):
    study = study_of(tmp_path, GOOD + '[[run]]\nname = "x"\nmethod = "ease"\nsettings = { regularization = 4 }')
    with pytest.raises(SettingsError, match="run 'x'.*regularization"):
        jobs_of(study)


def test_not_toml_and_not_there(tmp_path):
    with pytest.raises(SettingsError, match="not TOML"):
        study_of(tmp_path, "title = ")
    with pytest.raises(SettingsError, match="no study 'nowhere'.*presets"):
        read_study("nowhere")


def test_file_names_are_readable_and_never_the_same():
    assert key_of("planted", "authors", 2) == "planted_authors_seed2"
    keys = {key_of("planted", name, 0) for name in ("gate 0.1", "gate-0.1", "gate 0,1", "gate/0.1", "..", "")}
    assert len(keys) == 6 and not any(set(key) & set("/ ,") for key in keys)


def test_the_fingerprint_knows_what_results_depend_on(tmp_path):
    job = jobs_of(study_of(tmp_path, GOOD))[0]
    first = fingerprint(job, "data")
    assert fingerprint(replace(job, settings=job.settings | {"threads": 5}), "data") == first
    assert fingerprint(job, "other") != first
    assert fingerprint(replace(job, settings=job.settings | {"gate": 0.7}), "data") != first
    assert fingerprint(jobs_of(with_choices(study_of(tmp_path, GOOD), protocol="authors"))[0], "data") != first
    assert fingerprint(jobs_of(study_of(tmp_path, GOOD + 'after = ["no-fine"]'))[0], "data") != first


def test_kinds_are_told_where_to_find_their_function():
    assert all(target.count(":") == 1 and target.startswith("c2f_np.") for target in SPECIAL_KINDS.values())


@pytest.mark.parametrize("line", ['reference = "x"', 'metric = "ndcg@5"', "trials = 3", 'figure = "means"', "[presets]"])
def test_keys_of_runs_are_refused_where_there_are_none(tmp_path, line):
    with pytest.raises(SettingsError, match=line.split()[0].strip("[]")):
        study_of(tmp_path, f"{PROTOCOL}{line}\n")


def test_presets_of_data_are_refused_where_there_are_no_runs(tmp_path):
    own = '[[data]]\nsource = "planted"\n[data.presets]\nstaged = { max_epochs = 1 }\n'
    text = PROTOCOL.replace('data = ["planted"]', "") + own
    with pytest.raises(SettingsError, match="data 'planted': presets are of studies of runs"):
        study_of(tmp_path, text)
