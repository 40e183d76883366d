"""Checkpoints that are either the old one or the new one, never half of one."""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint to a temporary file beside it and move that into its place.

    Args:
        path: The checkpoint's file.
        state: Tensors and plain values; loading accepts nothing else.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state written by ``save_checkpoint``, its tensors on the CPU.

    Args:
        path: The checkpoint's file. No code in it is run.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    assert isinstance(state, dict)
    return state
