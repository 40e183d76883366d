"""Errors for a training that diverges: they name the run, the step and what to lower."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite

NOT_FINITE = "not finite"  # the words of gradbalance's errors, and of the examples' own


def finite(name: str, value: float) -> float:
    """Return a number if it is finite.

    Args:
        name: What the number is, for the error message.
        value: The number.

    Raises:
        ValueError: The number is NaN or infinite.
    """
    if not isfinite(value):
        raise ValueError(f"{name} is {NOT_FINITE}; found {value}")
    return value


@contextmanager
def tells_divergence(run: str, when: str, rates: Mapping[str, float]) -> Iterator[None]:
    """Add to an error about a value that is not finite: the run, the step and what to lower.

    Args:
        run: The run's name.
        when: When it happened, such as "at step 3".
        rates: Learning rates, or other values that may be too large, by option.

    Raises:
        ValueError: The body raised a ValueError about a value that is not finite. Other errors are
            not changed.
    """
    try:
        yield
    except ValueError as error:
        if NOT_FINITE not in str(error):
            raise
        found, _, _ = str(error).partition(". ")  # the rest is advice about the balancer
        raise diverged(run, when, found, rates) from error


def diverged(run: str, when: str, found: str, rates: Mapping[str, float]) -> ValueError:
    """Return the error for a run that diverges.

    Args:
        run: The run's name.
        when: When it happened, such as "at step 3".
        found: What shows that the run diverged.
        rates: Learning rates, or other values that may be too large, by option.
    """
    lower = " or ".join(f"{option} ({rate:g})" for option, rate in rates.items())
    return ValueError(f"{run!r} diverged {when}: {found}; lower {lower}")
