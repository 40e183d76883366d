"""The command, as a person runs it: files, tables, progress and messages."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import gradbalance as gb
from examples.common.data import load
from examples.common.data.image_set import ImageSet
from examples.common.data.load import load_data
from examples.common.only_one import only_one
from examples.mpssl.pretext import TASKS
from examples.mpssl.run.cli import app
from examples.mpssl.run.pictures import draw_comparison, draw_inputs
from examples.mpssl.run.progress import RunProgress
from examples.mpssl.run.tables import as_markdown, tables
from examples.mpssl.train import Training

TINY = ["--max-train", "64", "--max-test", "32", "--epochs", "2", "--batch-size", "32"]


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The default command, but for its size: its folder and what it printed."""
    out, threads = tmp_path_factory.mktemp("out") / "runs", torch.get_num_threads()
    result = invoke(*TINY, "--threads", "1", "--out", str(out))
    torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    return out, result.output


def test_the_default_compares_rotation_and_mp_ssl_with_random_init(
    default: tuple[Path, str],
) -> None:
    out, printed = default
    for kind in ("upright", "turned"):
        comparison = json.loads((out / kind / "comparison.json").read_text())
        assert list(comparison["results"]) == ["random init", "rotation", "mp-ssl"]
        for result in comparison["results"].values():
            assert result["config"]["turned"] == (kind == "turned")
            assert list(result["probes"]) == ["shape", "texture", "colour"]
            assert list(result["probes"]["shape"]) == [
                *(f"block{block}" for block in (1, 2, 3, 4)),
                "knn",
            ]
        assert len(comparison["results"]["random init"]["pretext"]) == 4
    for word in ("upright", "turned", "random init", "rotation", "mp-ssl", "chance"):
        assert f"│ {word} " in printed or f" {word} " in printed, word


def test_every_run_leaves_its_files(default: tuple[Path, str]) -> None:
    out, _ = default
    assert {file.name for file in out.iterdir()} == {
        *("summary.md", "summary.png", "upright", "turned")
    }
    for kind in ("upright", "turned"):
        assert {file.name for file in (out / kind).iterdir() if file.is_file()} == {
            "comparison.json",
            "comparison.md",
            "comparison.png",
        }
        for name in ("rotation", "mp-ssl"):
            run = out / kind / name
            assert {file.name for file in run.iterdir()} == {
                "config.json",
                "metrics.jsonl",
                "checkpoint.pt",
                "results.json",
                "inputs.png",
                "history.png",
            }
            assert json.loads((run / "config.json").read_text())["name"] == name
            results = json.loads((run / "results.json").read_text())
            assert results["num_train"] == 64
            for picture in ("inputs.png", "history.png"):
                with Image.open(run / picture) as image:
                    assert min(image.size) > 200


def test_the_summary_holds_the_command_and_the_printed_numbers(
    default: tuple[Path, str],
) -> None:
    out, printed = default
    markdown = (out / "summary.md").read_text()
    assert "python -m examples.mpssl" in markdown.splitlines()[1]
    numbers = re.findall(r"\d+\.\d\b", markdown[markdown.index("|") :])
    assert len(numbers) > 20
    assert [n for n in numbers if n not in printed] == []
    shape = json.loads((out / "turned" / "mp-ssl" / "results.json").read_text())["probes"]["shape"]
    row = markdown[markdown.index("| turned |") :].splitlines()[2]
    assert row.startswith(f"|  | mp-ssl | {100 * shape['block4']:.1f} |")
    with Image.open(out / "summary.png") as image:
        assert min(image.size) > 200


def test_one_kind_of_image_is_shown_in_full(tmp_path: Path) -> None:
    tiny = [*TINY[:4], "--epochs", "1", "--threads", "1", "--out", str(tmp_path)]
    result = invoke("rotation", "--data", "turned", *tiny)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "rotation" / "config.json").read_text())["turned"]
    markdown = (tmp_path / "comparison.md").read_text()
    numbers = re.findall(r"\d+\.\d\b", markdown[markdown.index("|") :])
    assert len(numbers) > 40
    assert [n for n in numbers if n not in result.output] == []


FEW = ["--max-train", "32", "--max-test", "32", "--epochs", "1", "--threads", "1"]


def said(result: Any) -> str:
    """What a command printed, without the frames and line breaks of its messages."""
    return re.sub(r"[\s│]+", " ", result.output)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize(
    ("arguments", "pictures"),
    [
        (["supervised", "--data", "upright"], ["comparison.png"]),
        (["supervised"], ["summary.png", "turned/comparison.png"]),
        (["supervised", "rotation", "--data", "upright"], ["rotation/inputs.png"]),
    ],
)
def test_the_supervised_trunk_is_trained_and_shown(
    tmp_path: Path, arguments: list[str], pictures: list[str]
) -> None:
    result = invoke(*arguments, *FEW, "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "supervised: labels; Uniform" in said(result)
    for picture in [*pictures, next(tmp_path.rglob("supervised")) / "history.png"]:
        with Image.open(tmp_path / picture) as image:
            assert min(image.size) > 200
    found = next(tmp_path.rglob("comparison.json")).read_text()
    assert set(json.loads(found)["results"]["supervised"]["probes"]) == {
        *("shape", "texture", "colour")
    }
    markdown = next(tmp_path.rglob("comparison.md")).read_text()
    assert ("pretext" in markdown) == ("rotation" in arguments), "no table of no tasks"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rotation", "--seed", "1"], "'rotation' had seed 0, got 1"),
        (["rotation", "--epochs", "2"], "'rotation' had epochs 1, got 2"),
        (["ie-rot"], "has 'rotation', which is not among those asked for"),
    ],
)
def test_a_folder_of_other_runs_is_left_as_it_is(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    of_one = [*FEW, "--data", "upright", "--out", str(tmp_path)]
    assert invoke("rotation", *of_one).exit_code == 0
    before = contents(tmp_path)
    result = invoke(arguments[0], *of_one, *arguments[1:])
    assert result.exit_code == 2, result.output
    assert message in said(result)
    assert "--out" in said(result)
    assert "--resume" in said(result)
    assert contents(tmp_path) == before

    result = invoke(*of_one[:-4], "--out", str(tmp_path))  # both kinds of image beside that of one
    assert result.exit_code == 2
    assert "has 'rotation'" in said(result)
    assert contents(tmp_path) == before

    again = invoke("rotation", *of_one)
    assert again.exit_code == 0, "the same once more is the same"
    more = invoke("ie-rot", *of_one, "--resume")
    assert more.exit_code == 0, "asked for"
    assert (tmp_path / "rotation" / "results.json").read_bytes() == before["rotation/results.json"]


def test_a_run_on_other_images_is_another_run(tmp_path: Path) -> None:
    for data in ("one", "other"):
        for index in range(8):
            path = (
                tmp_path / data / ("train", "test")[index % 2] / "ab"[index // 4] / f"{index}.png"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((32, 32), 60).save(path)
    arguments = ["rotation", "--epochs", "1", "--threads", "1", "--out", str(tmp_path / "runs")]
    result = invoke(*arguments, "--data", str(tmp_path / "one"))
    assert result.exit_code == 0, result.output
    before = contents(tmp_path)
    result = invoke(*arguments, "--data", str(tmp_path / "other"))
    assert result.exit_code == 2, result.output
    assert "'rotation' had data" in said(result)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("resume", [[], ["--resume"]])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "nan"], "lr must be positive and finite, got nan"),
        (["--lr", "inf"], "lr must be positive and finite, got inf"),
        (["--seed", "-1"], "seed must be at least 0"),
        (["--seed", "99999999999999999999"], "seed must be at least 0"),
        (["--epochs", "0"], "epochs must be positive"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_all_is_checked_before_anything_is_deleted_or_written(
    tmp_path: Path, arguments: list[str], message: str, resume: list[str]
) -> None:
    options = ["rotation", "mp-ssl", *FEW, "--data", "upright", "--out"]
    assert invoke(*options, str(tmp_path / "runs")).exit_code == 0
    before = contents(tmp_path)
    for out in ("runs", "new"):
        result = invoke(*options, str(tmp_path / out), *arguments, *resume)
        assert result.exit_code == 2, result.output
        assert message in said(result)
        assert "Traceback" not in result.output
    assert contents(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_the_last_run_is_checked_before_the_first_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Training.step

    def failing(self: Training, chosen: torch.Tensor) -> gb.Report:
        if self.config.name == "mp-ssl":
            raise ValueError("mp-ssl does not go")
        return step(self, chosen)

    monkeypatch.setattr(Training, "step", failing)
    result = invoke("rotation", "mp-ssl", *FEW, "--out", str(tmp_path / "runs"))
    assert result.exit_code == 2
    assert "mp-ssl does not go" in said(result)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("damaged", ["checkpoint.pt", "config.json", "metrics.jsonl"])
def test_a_damaged_file_of_a_run_is_named_and_nothing_is_changed(
    tmp_path: Path, damaged: str
) -> None:
    options = ["rotation", "ie-rot", *FEW, "--data", "upright", "--out", str(tmp_path)]
    assert invoke(*options).exit_code == 0
    file = tmp_path / "ie-rot" / damaged
    file.write_bytes(b"")
    before = contents(tmp_path)
    result = invoke(*options, "--resume")
    assert result.exit_code == 2, result.output
    assert f"ie-rot/{damaged}" in said(result).replace(" ", "")
    assert "delete" in said(result)
    assert contents(tmp_path) == before
    (tmp_path / "ie-rot" / "checkpoint.pt").unlink()
    if damaged == "config.json":
        file.unlink()
    again = invoke(*options, "--resume")
    assert again.exit_code == 0, again.output
    assert json.loads((tmp_path / "ie-rot" / "results.json").read_text())["config"]["seed"] == 0


def test_two_commands_at_once_do_not_share_a_folder(tmp_path: Path) -> None:
    with only_one(tmp_path):
        result = invoke("rotation", *FEW, "--data", "upright", "--out", str(tmp_path))
        assert result.exit_code == 2
        assert "another command is at work in" in said(result)
        assert not contents(tmp_path)
    assert invoke("rotation", *FEW, "--data", "upright", "--out", str(tmp_path)).exit_code == 0


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("64", "'rotation' diverged at step 2: the loss of task 'rotation' is not finite"),
        ("32", "'rotation' diverged by its last step: the features of block 1 are not finite"),
    ],
)
def test_a_run_that_diverges_is_named_and_has_no_results(
    tmp_path: Path, images: str, message: str
) -> None:
    arguments = [*FEW[2:], "--max-train", images, "--batch-size", "32", "--data", "upright"]
    result = invoke("rotation", *arguments, "--lr", "1e30", "--out", str(tmp_path))
    assert result.exit_code == 2, result.output
    assert message in said(result)
    assert "lower --lr (1e+30)" in said(result)
    assert "Traceback" not in result.output
    files = {Path(file).name for file in contents(tmp_path)}
    assert files <= {"config.json", "metrics.jsonl", "checkpoint.pt"}


def test_after_a_run_that_diverged_at_once_a_lower_rate_takes_its_folder(tmp_path: Path) -> None:
    arguments = [*FEW[2:], "--max-train", "64", "--batch-size", "32", "--data", "upright"]
    invoke("rotation", *arguments, "--lr", "1e30", "--out", str(tmp_path))
    result = invoke("rotation", *arguments, "--out", str(tmp_path))
    assert result.exit_code == 0, result.output


def test_seed_0_is_a_seed_like_any_other(tmp_path: Path) -> None:
    found = []
    for name, arguments in (("default", []), ("0", ["--seed", "0"]), ("1", ["--seed", "1"])):
        out = tmp_path / name
        result = invoke("rotation", *FEW, "--data", "upright", *arguments, "--out", str(out))
        assert result.exit_code == 0, result.output
        found.append(json.loads((out / "rotation" / "results.json").read_text()))
    assert [one["config"]["seed"] for one in found] == [0, 0, 1]
    assert found[0] == found[1]
    assert found[0]["probes"] != found[2]["probes"]


def test_off_a_terminal_progress_is_a_line_per_epoch(default: tuple[Path, str]) -> None:
    _, printed = default
    lines = [line for line in printed.splitlines() if "epoch" in line]
    assert [line.split("  ")[:2] for line in lines] == [
        ["rotation", "epoch 1/2"],
        ["rotation", "epoch 2/2"],
        ["mp-ssl", "epoch 1/2"],
        ["mp-ssl", "epoch 2/2"],
    ] * 2
    assert re.search(r"sharpness \d\.\d{3} \(×\d\.\d\d\)", lines[2])
    assert "\x1b" not in printed


def test_in_a_terminal_progress_is_a_bar_with_losses_and_weights() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    x = torch.ones(2, requires_grad=True)
    report = gb.Balancer(gb.Uniform()).backward({"near": x[0] ** 2, "far": 3 * x.sum()})
    with RunProgress(console, name="run", epochs=2, steps_per_epoch=3, epochs_done=1) as progress:
        progress.step(report)
    text = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", screen.getvalue())
    for part in ("run", "━", "4/6", "epoch 2/2", "near", "far", "6.000", "weight", "1.00"):
        assert part in text, part


def test_resuming_a_finished_comparison_gives_the_same(default: tuple[Path, str]) -> None:
    out, _ = default
    comparison, run = out / "turned" / "comparison.json", out / "turned" / "mp-ssl"
    before = json.loads(comparison.read_text())["results"]
    metrics = (run / "metrics.jsonl").read_bytes()
    result = invoke(*TINY, "--threads", "1", "--out", str(out), "--resume")
    assert result.exit_code == 0, result.output
    assert json.loads(comparison.read_text())["results"] == before
    assert (run / "metrics.jsonl").read_bytes() == metrics


def test_a_run_of_ones_own_on_ones_own_images(tmp_path: Path) -> None:
    for split, num in (("train", 8), ("test", 4)):
        for index in range(num):
            path = tmp_path / "data" / split / ("ab"[index % 2]) / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((40, 36), 20 + 60 * (index % 2)).save(path)
    (tmp_path / "data" / "train" / "a" / "bad.png").write_bytes(b"bad")
    arguments = ["--data", str(tmp_path / "data"), "--epochs", "1", "--batch-size", "4"]
    arguments += ["--tasks", "posterization, contrast", "--solver", "PCGrad(reduction='mean')"]
    arguments += ["--source", "shared", "--scale", "none", "--name", "own", "--threads", "1"]
    result = invoke("mp-ssl", *arguments, "--out", str(tmp_path / "runs"))
    assert result.exit_code == 0, result.output
    assert "1 unreadable images were left out:" in result.output
    assert "train/a/bad.png" in result.output
    results = json.loads((tmp_path / "runs" / "own" / "results.json").read_text())
    assert results["config"]["solver"] == "PCGrad(reduction='mean')"
    assert list(results["probes"]) == ["class"]
    assert set(results["pretext"]) == {"contrast", "posterization"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cubism"], "preset"),
        (["rotation", "rotation"], "once"),
        (["rotation", "mp-ssl", "--solver", "PCGrad"], "--solver changes one preset"),
        (["mp-ssl", "--solver", "Sum"], "no solver 'Sum'"),
        (["mp-ssl", "--source", "losses"], "Bounded(MGDA) needs the gradients' Gramian"),
        (["--data", "nowhere.zip"], "nowhere.zip"),
        (["--lr", "-1"], "lr must be positive"),
    ],
)
def test_a_mistake_is_answered_in_words(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = invoke(*arguments, *TINY[:-2], "--out", str(tmp_path))
    assert result.exit_code == 2
    assert message in re.sub(r"[\s│]+", " ", result.output)
    assert "Traceback" not in result.output


def test_threads_are_set(tmp_path: Path) -> None:
    tiny = ["--max-train", "8", "--max-test", "8", "--epochs", "1", "--out", str(tmp_path)]
    result = invoke("rotation", *tiny, "--threads", "2")
    assert result.exit_code == 0, result.output
    assert torch.get_num_threads() == 2


def test_built_in_data_depend_on_the_seed_and_the_test_images_are_others() -> None:
    train_set, test_set = load_data(None, max_train=20, max_test=20, seed=1)
    assert not torch.equal(train_set.images, test_set.images)
    assert not torch.equal(train_set.images, load_data(None, max_train=20, seed=2)[0].images)


def test_turned_images_are_the_others_turned() -> None:
    upright = load_data(None, max_train=40, max_test=40, seed=1)
    turned = load_data(None, max_train=40, max_test=40, seed=1, turned=True)
    for before, after in zip(upright, turned, strict=True):
        num_turns = [
            next(k for k in range(4) if torch.equal(torch.rot90(one, k, (1, 2)), other))
            for one, other in zip(before.images, after.images, strict=True)
        ]
        assert set(num_turns) == {0, 1, 2, 3}
        assert after.images.dtype == torch.uint8
        assert {k: v.tolist() for k, v in after.labels.items()} == {
            k: v.tolist() for k, v in before.labels.items()
        }
    few = load_data(None, max_train=10, max_test=10, seed=1, turned=True)
    assert torch.equal(few[0].images, turned[0].images[:10]), "a prefix stays the same"
    assert not torch.equal(few[0].images, few[1].images)


def test_without_a_limit_there_are_enough_built_in_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "BUILT_IN_TRAIN", 30)
    train_set, test_set = load.load_data(None, max_test=7)
    assert (len(train_set), len(test_set)) == (30, 7)


def test_pictures_are_drawn_for_any_tasks(tmp_path: Path, test_set: ImageSet) -> None:
    for number, tasks in enumerate(([TASKS["rotation"]], list(TASKS.values()))):
        draw_inputs(tasks, test_set, tmp_path / f"{number}.png")
    with Image.open(tmp_path / "0.png") as few, Image.open(tmp_path / "1.png") as many:
        assert many.size[1] > 1.5 * few.size[1]


def test_tables_leave_out_what_a_run_was_not_trained_for(tmp_path: Path) -> None:
    probes = {"class": {"block1": 0.5, "block2": 0.25, "knn": 1.0}}
    common = {"probes": probes, "chance": {"class": 0.1}, "num_train": 9, "num_test": 3}
    config = {"tasks": ["a"], "solver": "PCGrad", "source": "shared", "scale": "sum"}
    results = {
        "random init": {**common, "config": config, "pretext": {"a": 0.2, "b": 0.3}},
        "one": {**common, "config": config, "pretext": {"a": 0.9}},
    }
    (_, header, rows), (_, pretext_header, pretext_rows) = tables(results)
    assert header == ["probe of", "trunk", "block 1", "block 2", "knn"]
    assert rows[1] == ["", "one", "50.0", "25.0", "100.0"]
    assert rows[2] == ["", "chance", "10.0", "10.0", "10.0"]
    assert pretext_header == ["trunk", "a", "b"]
    assert pretext_rows[1] == ["one", "90.0", "–"]
    assert "- one: a; PCGrad, source shared, scale sum" in as_markdown(results, "command")
    draw_comparison(results, tmp_path / "comparison.png")


@pytest.mark.long
def test_the_default_run_shows_what_it_is_made_to_show(tmp_path: Path) -> None:
    result = invoke("--data", "upright", "--epochs", "16", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "comparison.json").read_text())["results"]
    random, rotation, mp_ssl = (results[name] for name in ("random init", "rotation", "mp-ssl"))
    shape, texture, colour = (
        [100 * run["probes"][factor]["block4"] for run in (random, rotation, mp_ssl)]
        for factor in ("shape", "texture", "colour")
    )
    assert min(shape[1:]) > shape[0] + 15, "both learn shape"
    assert abs(texture[1] - texture[0]) < 8, "rotation alone learns no texture"
    assert texture[2] > texture[1] + 8, "MP-SSL does"
    assert colour[0] > max(colour[1:]) + 5, "random init is best on colour"
    assert mp_ssl["pretext"]["rotation"] > 0.6, "rotation is not drowned by the easy tasks"
    assert mp_ssl["pretext"]["sharpness"] > 0.9
