"""What the example's README says is in its results, and they are of the runs that they name."""

import json
from pathlib import Path

import pytest

import examples.metapseudo
from examples.metapseudo.tables import as_markdown
from examples.metapseudo.variants import VARIANTS, variant_config

FOLDER = Path(examples.metapseudo.__file__).parent
COMPARISONS = sorted(path.name for path in (FOLDER / "results").iterdir())

CHOSEN = ("labels_per_class", "seed", "data", "generator", "validation_share")


@pytest.fixture(params=COMPARISONS)
def results(request: pytest.FixtureRequest) -> Path:
    return FOLDER / "results" / str(request.param)


def test_the_tables_are_those_of_the_results(results: Path) -> None:
    found = json.loads((results / "comparison.json").read_text())
    text = (results / "comparison.md").read_text()
    assert text == as_markdown(found["results"], found["command"])
    readme = (FOLDER / "README.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) > 2
    for line in table:
        assert line in readme
    assert found["command"] in readme


def test_the_results_are_of_the_variants_as_they_are(results: Path) -> None:
    found = json.loads((results / "comparison.json").read_text())["results"]
    assert len({result["config"]["seed"] for result in found}) >= 3
    for result in found:
        config = result["config"]
        options = {key: config[key] for key in CHOSEN}
        assert config["variant"] in VARIANTS
        assert config == variant_config(config["variant"], **options).as_dict()


def test_the_pictures_are_there(results: Path) -> None:
    for name in ("accuracy", "gap", "samples"):
        assert (results / f"{name}.png").stat().st_size > 5_000
