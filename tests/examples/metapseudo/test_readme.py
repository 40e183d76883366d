"""What the example's README says is in its results, and they are of the runs that are planned."""

import json
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
    readme = (FOLDER / "README.md").read_text()
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
