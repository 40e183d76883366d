"""A checkpoint is the old one or the new one, and loading it runs no code."""

import os
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


class Trap:
    """Leaves a file where it is loaded as code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"trap": Trap(tmp_path / "trapped")}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt.* cannot be read.*UnpicklingError"):
        load_checkpoint(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "trapped").exists()


def test_what_is_no_whole_checkpoint_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"epoch": 1, "weights": torch.arange(100.0)})
    whole = path.read_bytes()
    torch.save(torch.arange(3), tmp_path / "tensor.pt")
    tensor = (tmp_path / "tensor.pt").read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:10], b"not a checkpoint", tensor):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"checkpoint\.pt.* put back a copy, or delete it"):
            load_checkpoint(path)
        assert path.read_bytes() == damaged
