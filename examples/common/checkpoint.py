"""Checkpoints that are either the old one or the new one, never half of one."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

# What reading a file raises, and using what it holds, that is not what it should be.
DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    AssertionError,
)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint to a temporary file beside it and move that into its place.

    Args:
        path: The checkpoint's file.
        state: Tensors and plain values; loading accepts nothing else.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state written by ``save_checkpoint``, its tensors on the CPU.

    Args:
        path: The checkpoint's file. No code in it is run.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    assert isinstance(state, dict)
    return state
