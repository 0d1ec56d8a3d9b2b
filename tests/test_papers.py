"""README and the papers that it links name what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.runner import start, wait

CHECKOUT = Path(__file__).parents[1]
PAPERS = ["README.md", "examples/README.md", "tests/README.md", ".github/CONTRIBUTING.md", ".github/CHANGELOG.md"]
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


def test_the_readme_names_every_option_of_an_export_and_no_other() -> None:
    help_text = wait(start("export", "--help")).stdout
    options = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", help_text, re.MULTILINE)) - {"--help"}
    section = (CHECKOUT / "README.md").read_text().partition("| option | |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(?:-\w`, `)?(--[a-z-]+)[^`]*`", section)) == options


def test_the_recipe_of_a_push_names_every_option_and_no_other() -> None:
    help_text = wait(start("push", "--help")).stdout
    options = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", help_text, re.MULTILINE)) - {"--help"}
    recipe = (CHECKOUT / "examples/README.md").read_text().partition("## Push a site to an S3 store")[2]
    table = recipe.partition("| option | |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(?:-\w`, `)?(--[a-z-]+)[^`]*`", table)) == options


@pytest.mark.parametrize("paper", PAPERS)
def test_every_link_of_a_paper_leads_to_a_file_and_a_heading(paper: str) -> None:
    for path, anchor in LINK.findall((CHECKOUT / paper).read_text()):
        target = (CHECKOUT / paper).parent / path if path else CHECKOUT / paper
        assert target.exists(), f"{paper}: {path}"
        assert not anchor or anchor in _headings(target), f"{paper}: {path}#{anchor}"


def _headings(paper: Path) -> set[str]:
    """The anchors that a forge makes of headings."""
    headings = re.findall(r"^#+ (.+)$", paper.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
