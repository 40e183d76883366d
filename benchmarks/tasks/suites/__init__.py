"""The suites by name. To add a suite, add a module here and a line to `_SUITES`."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from benchmarks.tasks.suite import Suite
from benchmarks.tasks.suites import cifar, digits, targets
from benchmarks.tasks.suites.pinn import Pinn

_SUITES: dict[str, Callable[[Path | None], Suite]] = {
    "digits": lambda _: digits.suite(raw=True),
    "digits-standardised": lambda _: digits.suite(raw=False),
    "targets": lambda _: targets.suite(raw=True),
    "targets-standardised": lambda _: targets.suite(raw=False),
    "targets-missing": lambda _: targets.suite(raw=False, missing=True),
    "cifar": cifar.suite,
    "pinn-klein-gordon": lambda _: Pinn("klein-gordon"),
}
NAMES = tuple(_SUITES)


class NotAtHand(Exception):  # noqa: N818 - nothing is wrong: the suite is skipped
    """A suite's data or package is not available; the message says what to do."""


@cache
def suite_of(name: str, data: Path | None) -> Suite:
    """Return a suite with its data.

    Args:
        name: one of `NAMES`.
        data: the images of the cifar suite, a folder or zip; None if you do not have them.

    Raises:
        NotAtHand: the suite's data or package is not available.
    """
    try:
        return _SUITES[name](data)
    except (ImportError, FileNotFoundError) as error:
        raise NotAtHand(str(error)) from error
