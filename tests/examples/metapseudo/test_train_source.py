"""The command that trains a source."""

import shutil
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from examples.metapseudo import train_source as command


def test_unreadable_images_are_named(
    tmp_path: Path, folder_of_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "train_source", lambda *arguments, **options: None)
    images = tmp_path / "images"
    shutil.copytree(folder_of_images, images)
    (images / "train" / "ant" / "bad.png").write_bytes(b"bad")
    app = Typer()
    app.command()(command.main)
    answer = CliRunner().invoke(app, ["--data", str(images)])
    assert answer.exit_code == 0, answer.output
    assert "1 unreadable images were left out:" in answer.output
    assert "train/ant/bad.png" in answer.output
