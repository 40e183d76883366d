"""What the README says is so: its commands, the order and the levels, the committed results."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from examples.mpssl import cli
from examples.mpssl.data.image_set import ImageSet
from examples.mpssl.presets import RunConfig
from examples.mpssl.pretext import TASKS
from examples.mpssl.tables import as_markdown

FOLDER = Path(cli.__file__).parent
README = (FOLDER / "README.md").read_text()
COMMANDS = re.findall(r"^python -m examples\.mpssl(?: .*)?$", README, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(
    command: str, monkeypatch: pytest.MonkeyPatch, test_set: ImageSet
) -> None:
    started: list[list[RunConfig]] = []
    monkeypatch.setattr(cli, "load_data", lambda data, **options: (test_set, test_set))
    monkeypatch.setattr(cli, "compare", lambda configs, *rest, **options: started.append(configs))
    arguments: list[Any] = shlex.split(command)[3:]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert len(started) == (0 if "--help" in arguments else 1)


def test_the_table_gives_the_order_and_the_levels() -> None:
    rows = re.findall(r"^\| [1-7] \| (\w+) \| ([^|]+) \|", README, re.MULTILINE)
    assert [name for name, _ in rows] == list(TASKS)
    for name, levels in rows:
        numbers = re.findall(r"[\d.]+|none", levels)
        labels = re.findall(r"[\d.]+|none", " ".join(TASKS[name].labels))
        assert numbers == labels, name


@pytest.mark.parametrize("name", ["builtin", "cifar10_10k"])
def test_the_committed_tables_are_those_of_the_committed_results(name: str) -> None:
    saved = json.loads((FOLDER / "results" / f"{name}.json").read_text())
    table = (FOLDER / "results" / f"{name}.md").read_text()
    assert table == as_markdown(saved["results"], saved["command"])
    assert saved["command"].startswith("python -m examples.mpssl")
