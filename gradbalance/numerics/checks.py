"""Checks of arguments; the errors say what was found and what is valid."""

import functools
from collections.abc import Collection
from typing import Literal

import numpy as np

Interval = Literal[
    "(-inf, inf)",
    "[-1, 1]",
    "[0, 1]",
    "[0, inf)",
    "(0, inf)",
    "[1, inf)",
    "[0, 1)",
    "(0, 1)",
    "(0, 1]",
]


def check_number(argument: str, found: object, interval: Interval) -> None:
    """Raise a ValueError unless an argument is a number in an interval."""
    if not is_number(found, interval):
        raise ValueError(f"{argument} must be a number in {interval}; found {found!r}")


def check_count(argument: str, found: object, *, least: int = 0) -> None:
    """Raise a ValueError unless an argument is a whole number of at least `least`."""
    if isinstance(found, bool) or not isinstance(found, int | np.integer) or found < least:
        raise ValueError(f"{argument} must be an integer of at least {least}; found {found!r}")


def check_choice(argument: str, found: object, choices: Collection[object]) -> None:
    """Raise a ValueError unless an argument is one of the choices."""
    if found not in choices:
        raise ValueError(f"{argument} must be one of {list(choices)}; found {found!r}")


def is_number(found: object, interval: Interval) -> bool:
    """Whether something is a real number (not a bool) in an interval."""
    if isinstance(found, bool) or not isinstance(found, int | float | np.integer | np.floating):
        return False
    low, high = _ends(interval)
    is_above = found >= low if interval[0] == "[" else found > low
    is_below = found <= high if interval[-1] == "]" else found < high
    return bool(is_above and is_below)


@functools.cache
def _ends(interval: Interval) -> tuple[float, float]:
    low, high = interval[1:-1].split(",")
    return float(low), float(high)
