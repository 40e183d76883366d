"""The command, as a person runs it: its files, that it goes on, and its answers to mistakes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from examples.common.only_one import only_one
from examples.pinn.config import RunConfig
from examples.pinn.study import __main__ as command
from examples.pinn.study import compare
from examples.pinn.study.__main__ import app
from examples.pinn.study.methods import METHODS
from examples.pinn.study.tables import as_markdown

TINY = ["--adam-steps", "2", "--lbfgs-steps", "1", "--width", "4"]


pytestmark = pytest.mark.usefixtures("in_this_process")


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize("name", METHODS)
def test_each_method_can_be_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def compare_runs(configs: list[RunConfig], *rest: object, **options: object) -> None:
        asked.extend(config.name for config in configs)

    monkeypatch.setattr(command, "compare", compare_runs)
    result = invoke("--solvers", name, "--seeds", "1")
    assert result.exit_code == 0, result.output
    assert asked == [name]


def test_a_comparison_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*TINY, "--out", str(tmp_path), "--solvers"]
    result = invoke(*arguments, "sum,upgrad", "--seeds", "2")
    assert result.exit_code == 0, result.output
    file = tmp_path / "helmholtz.jsonl"
    assert {path.name for path in tmp_path.iterdir()} == {
        "helmholtz.jsonl",
        "helmholtz.md",
        "helmholtz.png",
    }
    runs = [json.loads(line) for line in file.read_text().splitlines()]
    found = [(run["config"]["name"], run["config"]["seed"]) for run in runs]
    assert sorted(found) == [("sum", 0), ("sum", 1), ("upgrad", 0), ("upgrad", 1)]

    written = file.read_text()
    result = invoke(*arguments, "sum,upgrad,x100", "--seeds", "1")
    assert result.exit_code == 0, result.output
    assert "2 of 3 runs are in" in result.output
    assert file.read_text().startswith(written)
    assert len(file.read_text().splitlines()) == 5

    monkeypatch.setattr(compare, "run", None)  # who calls it fails
    written = file.read_text()
    result = invoke(*arguments, "sum,x100", "--seeds", "1")
    assert result.exit_code == 0, result.output
    assert file.read_text() == written
    table = (tmp_path / "helmholtz.md").read_text()
    assert "| x100 | Uniform × 100 | none | 1 |" in table
    errors = [run["error"] for run in runs if run["config"]["name"] == "upgrad"]
    assert f"| {sum(errors) / 2:.3g} ± " in table

    result = invoke("--adam-steps", "3", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "adam_steps 2, got 3" in re.sub(r"[\s│]+", " ", result.output)


def test_five_seeds_are_paired(tmp_path: Path) -> None:
    result = invoke(*TINY, "--solvers", "sum,upgrad", "--seeds", "5", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    runs = [json.loads(line) for line in (tmp_path / "helmholtz.jsonl").read_text().splitlines()]
    by_seed = {(run["config"]["name"], run["config"]["seed"]): run["error"] for run in runs}
    differences = [by_seed["sum", seed] - by_seed["upgrad", seed] for seed in range(5)]
    row = (tmp_path / "helmholtz.md").read_text().splitlines()[-1]
    assert row.startswith(f"| sum | 5 | {sum(differences) / 5:+.3f} [")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "nan"], "lr must be positive and finite, got nan"),
        (["--problem", "heat"], "problem must be one of"),
        (["--solvers", "best"], "solvers must be one of"),
        (["--solver", "Sum"], "no solver 'Sum'"),
        (["--seeds", "0"], "seeds"),
    ],
)
def test_a_mistake_is_answered_in_words(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = invoke(*arguments, "--out", str(tmp_path))
    assert result.exit_code == 2
    assert message in re.sub(r"[\s│]+", " ", result.output)
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_two_comparisons_at_once_do_not_share_a_file(tmp_path: Path) -> None:
    arguments = [*TINY, "--solvers", "sum", "--seeds", "1", "--out", str(tmp_path)]
    file = tmp_path / "helmholtz.jsonl"
    file.touch()
    with only_one(file):
        result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert "another command is at work in" in re.sub(r"[\s│]+", " ", result.output)
    assert file.read_text() == ""
    assert invoke(*arguments).exit_code == 0
    (run,) = compare.read(file)
    assert run["config"]["seed"] == 0


def test_a_run_that_diverges_is_named_and_not_among_the_results(tmp_path: Path) -> None:
    arguments = [*TINY, "--solvers", "annealing", "--seeds", "1", "--out", str(tmp_path)]
    result = invoke(*arguments, "--lr", "1e30")
    assert result.exit_code == 2, result.output
    shown = re.sub(r"[\s│]+", " ", result.output)
    assert "'annealing, seed 0' diverged by step 2: its relative error" in shown
    assert "lower --lr (1e+30)" in shown
    assert compare.read(tmp_path / "helmholtz.jsonl") == []
    assert invoke(*arguments).exit_code == 0


RESULTS = sorted(command.RESULTS.glob("*.jsonl"))


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_the_committed_tables_are_those_of_the_committed_runs(file: Path) -> None:
    results = compare.read(file)
    text = file.with_suffix(".md").read_text()
    typed = text.splitlines()[1]
    assert re.match(r"python -m examples\.pinn\.study( |$)", typed)
    assert text == as_markdown(results, typed)
