"""Checks of the options that a user gives."""

from collections.abc import Iterable
from math import isfinite
from pathlib import Path

import torch

_SEEDS = 2**63  # torch and NumPy both accept seeds below this


def check_positive(config: object, options: Iterable[str]) -> None:
    """Raise a ValueError that names an option which is not positive and finite; None passes.

    Args:
        config: The object that has the options as attributes.
        options: The names of the options.
    """
    for option in options:
        value = getattr(config, option)
        if value is not None and not (value > 0 and isfinite(value)):
            found = "positive" if isinstance(value, int) else "positive and finite"
            raise ValueError(f"{option} must be {found}, got {value}")


def check_seed(seed: int) -> None:
    """Raise a ValueError unless every random generator accepts the seed; 0 is accepted.

    Args:
        seed: The seed.
    """
    if not 0 <= seed < _SEEDS:
        raise ValueError(f"seed must be at least 0 and less than 2**63, got {seed}")


def check_folder(out: Path) -> None:
    """Raise a ValueError if a folder of runs cannot be created because a file is in its place.

    Args:
        out: The folder.
    """
    for part in (out, *out.parents):
        if part.exists() and not part.is_dir():
            raise ValueError(f"--out must be a folder, got {str(out)!r}, where {part} is a file")


def check_device(device: str) -> None:
    """Raise a ValueError that says why, if no tensor can be created on a device.

    Args:
        device: The device's name in torch.
    """
    try:
        torch.empty(0, device=device)
    # The type of the error depends on the kind of device.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"device {device!r} cannot be used: {reason}") from error
