"""The command, as a person runs it: its files, that it goes on, and its answers to mistakes."""

import json
import re
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from examples.common import processes
from examples.common.only_one import only_one
from examples.pinn import cli, compare
from examples.pinn.cli import app
from examples.pinn.config import RunConfig
from examples.pinn.methods import METHODS
from examples.pinn.tables import as_markdown

TINY = ["--adam-steps", "2", "--lbfgs-steps", "1", "--width", "4"]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def executor(jobs: int, mp_context: object) -> Executor:
        return ThreadPoolExecutor(1)  # one by one, as torch's number of threads is global

    monkeypatch.setattr(processes, "ProcessPoolExecutor", executor)


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def test_two_runs_are_printed_and_drawn(tmp_path: Path) -> None:
    result = invoke(*TINY, "--problem", "burgers", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert {file.name for file in tmp_path.iterdir()} == {
        "burgers_solutions.png",
        "burgers_training.png",
    }
    for picture in tmp_path.iterdir():
        with Image.open(picture) as image:
            assert min(image.size) > 400
    assert re.search(r"│ sum +│", result.output)
    assert re.search(r"│ upgrad +│", result.output)


@pytest.mark.parametrize("name", METHODS)
def test_each_method_can_be_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def compare_runs(configs: list[RunConfig], *rest: object, **options: object) -> None:
        asked.extend(config.name for config in configs)

    monkeypatch.setattr(cli, "compare_runs", compare_runs)
    result = invoke("compare", "--solvers", name, "--seeds", "1")
    assert result.exit_code == 0, result.output
    assert asked == [name]


def test_any_solver_stands_beside_the_plain_sum(tmp_path: Path) -> None:
    solver = ["--solver", "CAGrad(c=0.9)", "--scale", "sum"]
    result = invoke(*TINY, *solver, "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "CAGrad(c=0.9)" in result.output


def test_a_comparison_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["compare", *TINY, "--out", str(tmp_path), "--solvers"]
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

    result = invoke("compare", "--adam-steps", "3", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "adam_steps 2, got 3" in re.sub(r"[\s│]+", " ", result.output)


def test_five_seeds_are_paired(tmp_path: Path) -> None:
    result = invoke(
        "compare", *TINY, "--solvers", "sum,upgrad", "--seeds", "5", "--out", str(tmp_path)
    )
    assert result.exit_code == 0, result.output
    runs = [json.loads(line) for line in (tmp_path / "helmholtz.jsonl").read_text().splitlines()]
    by_seed = {(run["config"]["name"], run["config"]["seed"]): run["error"] for run in runs}
    differences = [by_seed["sum", seed] - by_seed["upgrad", seed] for seed in range(5)]
    row = (tmp_path / "helmholtz.md").read_text().splitlines()[-1]
    assert row.startswith(f"| sum | 5 | {sum(differences) / 5:+.3f} [")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--problem", "heat"], "problem must be one of"),
        (["--solvers", "best"], "solvers must be one of"),
        (["--solvers", "sum,sum"], "each method can be given once"),
        (["--solver", "Sum"], "no solver 'Sum'"),
        (["--solver", "MGDA", "--scale", "big"], "scale must be one of"),
        (["--dtype", "float16"], "dtype must be one of"),
        (["--lr", "0"], "lr must be positive"),
        (["--lr", "nan"], "lr must be positive and finite, got nan"),
        (["--seed", "-1"], "seed must be at least 0"),
        (["compare", "--lr", "nan"], "lr must be positive and finite, got nan"),
        (["compare", "--problem", "heat"], "problem must be one of"),
        (["compare", "--seeds", "0"], "seeds"),
    ],
)
def test_a_mistake_is_answered_in_words(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = invoke(*arguments, "--out", str(tmp_path))
    assert result.exit_code == 2
    assert message in re.sub(r"[\s│]+", " ", result.output)
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_where_no_pictures_can_go_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "train_side_by_side", None)  # who calls it fails
    (tmp_path / "file").write_text("text")
    result = invoke(*TINY, "--out", str(tmp_path / "file"))
    assert result.exit_code == 2
    assert "--out must be a folder" in re.sub(r"[\s│]+", " ", result.output)
    assert (tmp_path / "file").read_text() == "text"


def test_two_comparisons_at_once_do_not_share_a_file(tmp_path: Path) -> None:
    arguments = ["compare", *TINY, "--solvers", "sum", "--seeds", "1", "--out", str(tmp_path)]
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


RESULTS = sorted(cli.RESULTS.glob("*.md"))


@pytest.mark.parametrize("table", RESULTS, ids=lambda table: table.stem)
def test_the_committed_tables_are_those_of_the_committed_runs(table: Path) -> None:
    results = compare.read(table.with_suffix(".jsonl"))
    text = table.read_text()
    command = text.splitlines()[1]
    assert command.startswith("python -m examples.pinn compare")
    assert text == as_markdown(results, command)
