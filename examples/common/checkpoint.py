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

    Raises:
        ValueError: It is empty, damaged, or no checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        assert isinstance(state, dict)
    except DAMAGED as error:
        # Not what torch says of it, which is to load the file with whatever code is in it.
        raise ValueError(
            f"{str(path)!r} cannot be read ({type(error).__name__}): it is empty, damaged or no "
            "checkpoint; put back a copy, or delete it to begin anew"
        ) from error
    return state
