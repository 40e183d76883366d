"""What the README says is so: its commands, the order and the levels, the committed results."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from examples.common.data.image_set import ImageSet
from examples.mpssl.presets import RunConfig
from examples.mpssl.pretext import TASKS
from examples.mpssl.run import cli
from examples.mpssl.run.tables import as_markdown
from examples.mpssl.study import __main__ as study
from examples.mpssl.study import plan, summary
from examples.mpssl.study.pictures import tables_of_both_kinds

FOLDER = Path(cli.__file__).parents[1]
RESULTS = FOLDER / "results"
README = (FOLDER / "README.md").read_text()
FOUND = (RESULTS / "README.md").read_text()
COMMANDS = re.findall(r"^python -m examples\.mpssl(?: .*)?$", README, re.MULTILINE)
STUDY_COMMANDS = re.findall(r"^python -m examples\.mpssl\.study(?: .*)?$", FOUND, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test_set: ImageSet
) -> None:
    started: list[list[RunConfig]] = []
    monkeypatch.chdir(tmp_path)
    for checks in ("check_device", "try_out"):  # of a machine, and slow
        monkeypatch.setattr(cli, checks, lambda *args, **options: None)
    monkeypatch.setattr(cli, "load_images_of", lambda config: (test_set, test_set))
    monkeypatch.setattr(cli, "compare", lambda configs, *rest, **options: started.append(configs))
    for shows in ("summarize", "print_summary", "print_comparison"):
        monkeypatch.setattr(cli, shows, lambda *args, **options: None)
    arguments: list[Any] = shlex.split(command)[3:]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    kinds = 2 if not arguments or "--data" not in arguments else 1
    assert len(started) == (0 if "--help" in arguments else kinds)


@pytest.mark.parametrize("command", STUDY_COMMANDS)
def test_every_command_of_the_study_is_understood(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    for name in ("_study", "draw_results", "draw_runs", "_write_both_kinds"):
        monkeypatch.setattr(study, name, lambda *args: started.append(args))
    result = CliRunner().invoke(study.app, shlex.split(command)[3:])
    assert result.exit_code == 0, result.output
    assert started


def test_the_table_gives_the_order_and_the_levels() -> None:
    rows = re.findall(r"^\| [1-7] \| (\w+) \| ([^|]+) \|", README, re.MULTILINE)
    assert [name for name, _ in rows] == list(TASKS)
    for name, levels in rows:
        numbers = re.findall(r"[\d.]+|none", levels)
        labels = re.findall(r"[\d.]+|none", " ".join(TASKS[name].labels))
        assert numbers == labels, name


def test_the_committed_tables_are_those_of_the_committed_results() -> None:
    saved = json.loads((RESULTS / "builtin.json").read_text())
    table = (RESULTS / "builtin.md").read_text()
    assert table == as_markdown(saved["results"], saved["command"])
    assert saved["command"].startswith("python -m examples.mpssl")


STUDIES = [path.stem for path in sorted(RESULTS.glob("study_*.json"))]


@pytest.mark.parametrize("name", STUDIES)
def test_the_tables_of_a_study_are_those_of_its_runs(name: str) -> None:
    runs = json.loads((RESULTS / f"{name}.json").read_text())
    table = (RESULTS / f"{name}.md").read_text()
    command, kind = table.split("\n")[1], name.removeprefix("study_")
    assert command.startswith(f"python -m examples.mpssl.study {kind.replace('_', '-')}")
    assert "/" not in command, "no folder of anybody's machine"
    assert table == summary.as_markdown(runs, command)


@pytest.mark.parametrize("name", STUDIES)
def test_the_runs_of_a_study_are_those_of_its_plan(name: str) -> None:
    runs = json.loads((RESULTS / f"{name}.json").read_text())
    kind = name.removeprefix("study_")
    seeds = 5 if kind.startswith("fresh") else 1 if kind == "rotnet" else 3
    of_data = kind.startswith(("cifar10", "rotnet"))
    planned = getattr(plan, kind)(seeds, *(["cifar10.zip"] if of_data else []))
    assert {name: run["config"] for name, run in runs.items()} == {
        config.name: config.as_dict() for config in planned
    }


def test_both_kinds_of_image_stand_side_by_side_as_they_were_measured() -> None:
    text = tables_of_both_kinds(RESULTS)
    assert (RESULTS / "both_kinds.md").read_text() == text
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 2
    assert all(table in FOUND for table in tables)
    first = dict(line.strip("| \n").split(" | ", 1) for line in tables[0].splitlines())
    assert first["random init"].startswith("35.5 ± 0.7 | 43.9 ± 1.1 | – |")
    assert first["supervised"].endswith("97.1 ± 1.2 | –")


def test_the_numbers_of_the_text_are_in_the_tables() -> None:
    tables = "".join(path.read_text() for path in RESULTS.glob("*.md") if path.stem != "README")
    numbers = re.findall(r"\d+\.\d+ ± \d+\.\d+", README + FOUND)
    assert len(numbers) > 20
    assert [number for number in numbers if number not in tables] == []


@pytest.mark.parametrize("folder", [FOLDER, RESULTS], ids=lambda folder: folder.name)
def test_links_and_pictures_are_there(folder: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", (folder / "README.md").read_text())
    files = [target for target in targets if not target.startswith("http")]
    assert len(files) > 5
    assert [target for target in files if not (folder / target).exists()] == []


def test_every_study_and_picture_is_shown() -> None:
    linked = set(re.findall(r"\]\((?:results/)?([^)/]+)\)", README + FOUND))
    shown = {path.name for path in RESULTS.iterdir() if path.suffix in (".md", ".png")}
    assert shown - linked == {"both_kinds.md"}, "its tables are in the text"
