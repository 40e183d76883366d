"""Checks of what a person gives."""

from collections.abc import Iterable
from math import isfinite
from pathlib import Path

import torch

_SEEDS = 2**63  # those that torch and NumPy both take


def check_positive(config: object, options: Iterable[str]) -> None:
    """Raise a ValueError that names the option, unless all are positive, finite or not given.

    Args:
        config: Has them as attributes.
        options: Their names.
    """
    for option in options:
        value = getattr(config, option)
        if value is not None and not (value > 0 and isfinite(value)):
            found = "positive" if isinstance(value, int) else "positive and finite"
            raise ValueError(f"{option} must be {found}, got {value}")


def check_seed(seed: int) -> None:
    """Raise a ValueError unless a seed is one that every generator takes; 0 is.

    Args:
        seed: The seed.
    """
    if not 0 <= seed < _SEEDS:
        raise ValueError(f"seed must be at least 0 and less than 2**63, got {seed}")


def check_folder(out: Path) -> None:
    """Raise a ValueError if a folder of runs could not be made, as there is a file.

    Args:
        out: The folder.
    """
    for part in (out, *out.parents):
        if part.exists() and not part.is_dir():
            raise ValueError(f"--out must be a folder, got {str(out)!r}, where {part} is a file")


def check_device(device: str) -> None:
    """Raise a ValueError that says why, unless a tensor can be made on a device.

    Args:
        device: Its name, as torch has it.
    """
    try:
        torch.empty(0, device=device)
    # Which it is depends on the kind of device.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"device {device!r} cannot be used: {reason}") from error
