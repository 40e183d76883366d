"""The command, as a person runs it: its files, and its answers to mistakes."""

import json
import re
import shutil
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from examples.common import processes
from examples.common.only_one import only_one
from examples.metapseudo import train
from examples.metapseudo.run.cli import app

TINY = [
    "--num-steps",
    "2",
    "--map-steps",
    "2",
    "--batch-size",
    "8",
    "--num-samples",
    "8",
    "--jobs",
    "1",
]


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def in_this_process(jobs: int, mp_context: object) -> Executor:
    return ThreadPoolExecutor(jobs)


def said(result: Any) -> str:
    """What a command printed, without the frames and line breaks of its messages."""
    return re.sub(r"[\s│]+", " ", result.output)


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_variants_are_compared_in_files_and_pictures(
    tmp_path: Path, source_file: Path, folder_of_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "runs"
    files = ["--data", str(folder_of_images), "--generator", str(source_file)]
    arguments = ["labels", "consistency-gap", *TINY, *files, "--out", str(out)]
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert {file.name for file in out.iterdir()} == {
        *("comparison.json", "comparison.md", "accuracy.png", "walk.png"),
        *("labels-4-0", "consistency-gap-4-0"),
    }
    files = {"config.json", "metrics.jsonl", "checkpoint.pt", "results.json", "history.png"}
    assert {file.name for file in (out / "labels-4-0").iterdir()} == files
    assert {file.name for file in (out / "consistency-gap-4-0").iterdir()} == {*files, "walk.png"}
    walk = (out / "walk.png").read_bytes()
    assert walk == (out / "consistency-gap-4-0" / "walk.png").read_bytes()
    for picture in out.rglob("*.png"):
        with Image.open(picture) as image:
            assert min(image.size) > 150, picture

    comparison = json.loads((out / "comparison.json").read_text())
    assert "python -m examples.metapseudo" in comparison["command"]
    runs = comparison["results"]
    assert [run["config"]["variant"] for run in runs] == ["labels", "consistency-gap"]
    for run in runs:
        assert [evaluation["step"] for evaluation in run["evaluations"]] == [0, 1, 2]
        assert run["config"]["num_steps"] == 2
    markdown = (out / "comparison.md").read_text()
    for run in runs:
        accuracy = f"{100 * run['evaluations'][-1]['accuracy']:.1f}"
        assert f"| {run['config']['variant']} | {accuracy} |" in markdown
        assert accuracy in result.output

    # Runs that are done are not done again, and give the same.
    written = (out / "comparison.md").read_bytes()
    monkeypatch.setattr(processes, "ProcessPoolExecutor", in_this_process)
    monkeypatch.setattr(train.Training, "step", None)  # who calls it fails
    result = invoke(*arguments, "--resume")
    assert result.exit_code == 0, result.output
    assert (out / "comparison.md").read_bytes() == written
    assert json.loads((out / "comparison.json").read_text()) == comparison


def test_ones_own_images_with_several_numbers_of_labels_and_seeds(
    tmp_path: Path, source_file: Path, folder_of_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "ProcessPoolExecutor", in_this_process)
    monkeypatch.setattr(train, "_NUM_FOR_GAP", 16)
    labels = ["--labels-per-class", "1", "--labels-per-class", "2", "--seeds", "2"]
    files = ["--data", str(folder_of_images), "--generator", str(source_file)]
    folders = ["--out", str(tmp_path / "runs"), "--report", str(tmp_path / "the" / "report")]
    result = invoke("freematch-random", *labels, *TINY, *files, *folders)
    assert result.exit_code == 0, result.output
    folders_of_runs = {file.name for file in (tmp_path / "runs").iterdir()}
    assert folders_of_runs == {
        *(f"freematch-random-{labels}-{seed}" for labels in (1, 2) for seed in (0, 1)),
    }
    report = tmp_path / "the" / "report"
    assert {file.name for file in report.iterdir()} == {
        *("comparison.json", "comparison.md", "accuracy.png"),
    }
    assert "4 of 4 runs done" in result.output
    runs = json.loads((report / "comparison.json").read_text())["results"]
    names = [(run["config"]["labels_per_class"], run["config"]["seed"]) for run in runs]
    assert names == [(1, 0), (1, 1), (2, 0), (2, 1)]
    header, _, row = (report / "comparison.md").read_text().splitlines()[-3:]
    assert [cell.strip() for cell in header.split("|")[1:-1]] == [
        "variant",
        *("accuracy (%), 1 labels", "target-like (%), 1 labels", "gap, 1 labels"),
        *("accuracy (%), 2 labels", "target-like (%), 2 labels", "gap, 2 labels"),
    ]
    assert row.count("±") == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["best"], "variant must be one of"),
        (["both", "both"], "each variant and number of labels can be given once"),
        (["both", "--labels-per-class", "4", "--labels-per-class", "4"], "can be given once"),
        (["both", "--solver", "Sum"], "no solver 'Sum'"),
        (["both", "--meta-solver", "Sum"], "no solver 'Sum'"),
        (["both", "--gap", "median"], "gap must be one of"),
        (["both", "--map", "linear"], "map must be one of"),
        (["both", "--order", "last"], "order must be one of"),
        (
            ["consistency-perfect", "--generator", "autoencoder"],
            "perfect samples need the renderer",
        ),
        (["both", "--meta-gradient", "first"], "meta_gradient must be one of"),
        (["both", "--lr", "-1"], "lr must be positive and finite, got -1"),
        (["both", "--validation-share", "1"], "validation_share must be in [0, 1), got 1"),
    ],
)
def test_a_mistake_is_answered_in_words(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = invoke(*arguments, *TINY, "--out", str(tmp_path))
    assert result.exit_code == 2
    assert message in re.sub(r"[\s│]+", " ", result.output)
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--generator", "nowhere.pt"], "there is no generator in 'nowhere.pt'"),
        (["--data", "nowhere.zip"], "nowhere.zip"),
        (["--labels-per-class", "6"], "less than 6"),
    ],
)
def test_a_mistake_that_a_run_finds_is_answered_in_words(
    tmp_path: Path,
    source_file: Path,
    folder_of_images: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(processes, "ProcessPoolExecutor", in_this_process)
    files = ["--data", str(folder_of_images), "--generator", str(source_file)]
    result = invoke("freematch-random", *TINY, *files, *arguments, "--out", str(tmp_path))
    assert result.exit_code == 2
    assert message in re.sub(r"[\s│]+", " ", result.output)
    assert "Traceback" not in result.output


@pytest.fixture
def quick(few_images: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few images, and no other processes."""
    monkeypatch.setattr(processes, "ProcessPoolExecutor", in_this_process)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["labels", "--lr", "0.5"], "'labels-4-0' had lr 0.02, got 0.5"),
        (["freematch-random"], "has 'labels-4-0', which is not among those asked for"),
    ],
)
def test_a_folder_of_other_runs_is_left_as_it_is(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    options = [*TINY, "--out", str(tmp_path)]
    assert invoke("labels", *options).exit_code == 0
    before = contents(tmp_path)
    result = invoke(*arguments, *options)
    assert result.exit_code == 2, result.output
    assert message in said(result)
    assert "--out" in said(result)
    assert "--resume" in said(result)
    assert contents(tmp_path) == before

    assert invoke("labels", *options).exit_code == 0, "the same once more is the same"
    more = invoke("freematch-random", *options, "--resume")
    assert more.exit_code == 0, "asked for"
    assert contents(tmp_path)["labels-4-0/results.json"] == before["labels-4-0/results.json"]


@pytest.mark.usefixtures("quick")
def test_a_run_that_cannot_go_on_is_found_before_any_begins(tmp_path: Path) -> None:
    options = [*TINY, "--out", str(tmp_path), "--resume"]
    assert invoke("labels", *options).exit_code == 0
    before = contents(tmp_path)
    result = invoke("freematch-random", "labels", *options, "--lr", "0.5")
    assert result.exit_code == 2, result.output
    assert "its lr was 0.02, got 0.5" in said(result)
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("quick")
def test_two_commands_at_once_do_not_share_a_folder(tmp_path: Path) -> None:
    with only_one(tmp_path):
        result = invoke("labels", *TINY, "--out", str(tmp_path))
        assert result.exit_code == 2
        assert "another command is at work in" in said(result)
        assert not contents(tmp_path)
    assert invoke("labels", *TINY, "--out", str(tmp_path)).exit_code == 0


@pytest.mark.usefixtures("quick")
def test_where_no_runs_can_go_is_answered_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    result = invoke("labels", *TINY, "--out", str(tmp_path / "file"))
    assert result.exit_code == 2
    assert "--out must be a folder" in said(result)


def test_unreadable_images_are_named(
    tmp_path: Path, folder_of_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "ProcessPoolExecutor", in_this_process)
    images = tmp_path / "images"
    shutil.copytree(folder_of_images, images)
    (images / "train" / "cat" / "bad.png").write_bytes(b"bad")
    options = ["--data", str(images), "--out", str(tmp_path / "runs")]
    result = invoke("labels", *TINY, *options)
    assert result.exit_code == 0, result.output
    assert result.output.count("1 unreadable images were left out:") == 1
    assert "train/cat/bad.png" in result.output


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["labels", "--lr", "1e30"], "'labels-4-0' diverged by step 1: a class probability is not"),
        (
            ["paper", "--lr", "1e30"],
            "'paper-4-0' diverged at step 1: the loss of task 'validation'",
        ),
        (["consistency-gap", "--meta-lr", "1e30"], "'map-4-0' diverged by step 1: the gap is not"),
        (["consistency-gap", "--lr", "1e30"], "'labels-4-0' diverged on labels alone at step 2"),
    ],
)
def test_a_run_that_diverges_is_named_and_has_no_results(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = invoke(*arguments, *TINY, "--out", str(tmp_path))
    assert result.exit_code == 2, result.output
    assert message in said(result)
    assert "lower --lr (" in said(result)
    assert f"{arguments[1]} (1e+30)" in said(result)
    assert "Traceback" not in result.output
    assert {Path(file).name for file in contents(tmp_path)} <= {"config.json", "metrics.jsonl"}
