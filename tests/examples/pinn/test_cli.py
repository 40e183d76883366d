"""The command, as a person runs it: its files, and its answers to mistakes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from examples.common.only_one import only_one
from examples.pinn import cli
from examples.pinn.cli import app

TINY = ["--adam-steps", "2", "--lbfgs-steps", "1", "--width", "4"]

pytestmark = pytest.mark.usefixtures("in_this_process")


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def said(result: Any) -> str:
    """What a command printed, without the frames and line breaks of its messages."""
    return re.sub(r"[\s│]+", " ", result.output)


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_two_runs_are_printed_and_drawn(tmp_path: Path) -> None:
    result = invoke(*TINY, "--problem", "burgers", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    out = tmp_path / "burgers-0"
    pictures = {"solutions.png", "training.png"}
    assert {file.name for file in out.iterdir()} == pictures | {"sum", "upgrad"}
    for picture in pictures:
        with Image.open(out / picture) as image:
            assert min(image.size) > 400
    for name in ("sum", "upgrad"):
        assert re.search(rf"│ {name} +│", result.output)
        files = {"config.json", "metrics.jsonl", "results.json"}
        assert {file.name for file in (out / name).iterdir()} == files
        records = [json.loads(r) for r in (out / name / "metrics.jsonl").read_text().splitlines()]
        assert [record["step"] for record in records] == [0, 2, 3]
        error = json.loads((out / name / "results.json").read_text())["error"]
        assert error == records[-1]["error"]
        assert f"{error:.3g}" in result.output


def test_any_solver_stands_beside_the_plain_sum(tmp_path: Path) -> None:
    solver = ["--solver", "CAGrad(c=0.9)", "--scale", "sum"]
    result = invoke(*TINY, *solver, "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "CAGrad(c=0.9)" in result.output


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
    ],
)
def test_a_mistake_is_answered_in_words(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = invoke(*arguments, "--out", str(tmp_path))
    assert result.exit_code == 2
    assert message in said(result)
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_where_no_pictures_can_go_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "train_side_by_side", None)  # who calls it fails
    (tmp_path / "file").write_text("text")
    result = invoke(*TINY, "--out", str(tmp_path / "file"))
    assert result.exit_code == 2
    assert "--out must be a folder" in said(result)
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--solvers", "sum", "--width", "5"], "'sum' had width 4, got 5; give another --out"),
        (["--solvers", "upgrad"], "has 'sum', which is not among those asked for"),
    ],
)
def test_pictures_of_other_runs_are_left_as_they_are(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    options = [*TINY, "--out", str(tmp_path)]
    assert invoke("--solvers", "sum", *options).exit_code == 0
    before = contents(tmp_path)
    result = invoke(*options, *arguments)
    assert result.exit_code == 2, result.output
    assert message in said(result)
    assert "--resume" not in said(result)
    assert contents(tmp_path) == before

    assert invoke("--solvers", "sum", *options).exit_code == 0, "the same once more is the same"
    for other in (["--problem", "burgers"], ["--seed", "1"]):
        assert invoke(*options, *arguments, *other).exit_code == 0
    after = contents(tmp_path)
    for file, written in before.items():
        assert file.endswith("results.json") or after[file] == written


def test_two_commands_at_once_do_not_share_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "helmholtz-0"
    out.mkdir()
    arguments = [*TINY, "--solvers", "sum", "--out", str(tmp_path)]
    with only_one(out):
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert "another command is at work in" in said(result)
        assert not contents(tmp_path)
    assert invoke(*arguments).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dtype", "float32"], "'sum, seed 0' diverged at step 2: the loss"),
        ([], "'sum, seed 0' diverged by step 2: its relative error"),
    ],
)
def test_a_run_that_diverges_is_named_and_nothing_is_written(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    options = ["--solvers", "sum", "--lr", "1e30", "--out", str(tmp_path)]
    result = invoke(*TINY, *options, *arguments)
    assert result.exit_code == 2, result.output
    assert message in said(result)
    assert "lower --lr (1e+30)" in said(result)
    assert "Traceback" not in result.output
    assert not contents(tmp_path)
