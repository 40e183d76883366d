"""Checkpoints that are written atomically: a file has the old or the new one, never a part."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

# The errors that come from reading a damaged file, or from using its unexpected content.
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
    """Write a checkpoint to a temporary file in the same folder, then rename that file.

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
        ValueError: The file is empty, damaged, or not a checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        assert isinstance(state, dict)
    except DAMAGED as error:
        # torch's own message is left out: it advises to load the file with any code in it.
        raise ValueError(
            f"{str(path)!r} cannot be read ({type(error).__name__}): it is empty, damaged or no "
            "checkpoint; put back a copy, or delete it to begin anew"
        ) from error
    return state
