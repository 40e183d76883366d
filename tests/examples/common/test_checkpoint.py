"""A checkpoint is the old one or the new one, and loading it runs no code."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from examples.common.checkpoint import load_checkpoint, save_checkpoint


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    state = {"epoch": 3, "nested": {"weights": torch.arange(5.0), "name": "x", "none": None}}
    save_checkpoint(tmp_path / "checkpoint.pt", state)
    loaded = load_checkpoint(tmp_path / "checkpoint.pt")
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["nested"]["weights"], torch.arange(5.0))
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("broken", ["torch.save", "os.replace"])
def test_an_interrupted_write_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"epoch": 1})

    def fail(first: Any, second: Any) -> None:
        if broken == "torch.save":
            second.write(b"half of a checkpoint")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch if broken == "torch.save" else os, broken.split(".")[1], fail)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"epoch": 2})
    monkeypatch.undo()
    assert load_checkpoint(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"path": Path("x"), "call": print}, tmp_path / "checkpoint.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(tmp_path / "checkpoint.pt")
