"""Training that diverges: which run, at which step, and what helps."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite

NOT_FINITE = "not finite"  # so gradbalance says it of losses and gradients, and so do the examples


def finite(name: str, value: float) -> float:
    """Return a number, if it is one.

    Args:
        name: What it is.
        value: The number.

    Raises:
        ValueError: It is NaN or infinite.
    """
    if not isfinite(value):
        raise ValueError(f"{name} is {NOT_FINITE}; found {value}")
    return value


@contextmanager
def tells_divergence(run: str, when: str, rates: Mapping[str, float]) -> Iterator[None]:
    """Say in an error about a value that is not finite whose it is, and what to lower.

    Args:
        run: Its name.
        when: Such as "at step 3".
        rates: Learning rates, or what else may be too large, by option.

    Raises:
        ValueError: The body raised one about a value that is not finite; others pass as they are.
    """
    try:
        yield
    except ValueError as error:
        if NOT_FINITE not in str(error):
            raise
        found, _, _ = str(error).partition(". ")  # what follows is advice on the balancer
        raise diverged(run, when, found, rates) from error


def diverged(run: str, when: str, found: str, rates: Mapping[str, float]) -> ValueError:
    """Return the error of a run that diverges.

    Args:
        run: Its name.
        when: Such as "at step 3".
        found: What shows it.
        rates: Learning rates, or what else may be too large, by option.
    """
    lower = " or ".join(f"{option} ({rate:g})" for option, rate in rates.items())
    return ValueError(f"{run!r} diverged {when}: {found}; lower {lower}")
