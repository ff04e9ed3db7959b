"""What others need to cite the package, report a bug and judge a new version."""

import re
from pathlib import Path

import pytest

from c2f_np import __version__

ROOT = Path(__file__).resolve().parents[2]


def test_the_citation_is_of_this_version_and_complete():
    yaml = pytest.importorskip("yaml")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(cited["version"]) == __version__ and cited["cff-version"] == "1.2.0" and cited["type"] == "software"
    assert {"message", "title", "authors", "license"} <= set(cited)  # what the format requires, and the licence
    paper = cited["preferred-citation"]
    assert {"type", "title", "authors", "journal", "year"} <= set(paper) and isinstance(paper["year"], int)
    assert all({"family-names", "given-names"} <= set(author) for author in paper["authors"])
    known = {"cff-version", "message", "title", "type", "license", "authors", "version", "preferred-citation"}
    assert set(cited) <= known and set(paper) <= {"type", "title", "authors", "journal", "year", "url"}


@pytest.mark.parametrize("name", ["bug", "question", "wrong_gradient"])
def test_templates_for_issues_have_what_a_forge_reads(name):
    text = (ROOT / f".github/ISSUE_TEMPLATE/{name}.md").read_text(encoding="utf-8")
    head = text.split("---\n")[1]
    assert re.findall(r"^(\w+):", head, flags=re.MULTILINE) == ["name", "about", "labels"]
    assert text.count("```") % 2 == 0


def test_the_changelog_has_this_version():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings[0] == "Unreleased" and __version__ in headings
