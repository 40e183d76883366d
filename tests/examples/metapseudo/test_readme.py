"""What both READMEs say is in the results, their links hold, and the results are as planned."""

import json
import re
from pathlib import Path

import pytest

import examples.metapseudo
from examples.metapseudo.run.tables import budgets
from examples.metapseudo.study import plan
from examples.metapseudo.study.summary import as_markdown, of_latents

FOLDER = Path(examples.metapseudo.__file__).parent
STUDIES = sorted((FOLDER / "results").glob("*.json"))


@pytest.fixture(params=STUDIES, ids=lambda path: path.stem)
def results(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_the_tables_are_those_of_the_results(results: Path) -> None:
    found = json.loads(results.read_text())
    text = results.with_suffix(".md").read_text()
    written = of_latents if results.stem == "latents" else as_markdown
    assert text == written(found["results"], found["command"])
    readme = (FOLDER / "results" / "README.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) > 2
    for line in table:
        assert line in readme
    assert found["command"] in readme


def test_the_results_are_of_the_runs_that_are_planned(results: Path) -> None:
    found = json.loads(results.read_text())["results"]
    seeds = {
        labels: 1
        + max(r["config"]["seed"] for r in found if r["config"]["labels_per_class"] == labels)
        for labels in budgets(found)
    }
    numbers = [seeds[4], seeds.get(16, 0)] if results.stem == "accuracy" else [seeds[4]]
    planned = getattr(plan, results.stem)(*numbers)
    assert [result["config"] for result in found] == [config.as_dict() for config in planned]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of a page may end in."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("folder", [FOLDER, FOLDER / "results"], ids=lambda folder: folder.name)
def test_links_and_pictures_are_there(folder: Path) -> None:
    page = folder / "README.md"
    targets = re.findall(r"\]\(([^)]+)\)", page.read_text())
    found = [target.partition("#") for target in targets if not target.startswith("http")]
    assert len(found) > 5
    for file, _, anchor in found:
        linked = folder / file if file else page
        assert linked.exists(), file
        if anchor:
            assert anchor in anchors(linked), (file, anchor)


def test_every_table_and_picture_is_shown() -> None:
    text = "".join((folder / "README.md").read_text() for folder in (FOLDER, FOLDER / "results"))
    linked = set(re.findall(r"\]\((?:results/)?([^)/]+)\)", text))
    shown = {path.name for path in (FOLDER / "results").iterdir() if path.suffix != ".json"}
    assert shown - linked == set()
