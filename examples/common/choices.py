"""Options that have a few possible values."""

from collections.abc import Collection


def check_one_of(option: str, found: object, choices: Collection[object]) -> None:
    """Raise a ValueError that names the choices, unless an option is one of them.

    Args:
        option: Its name.
        found: Its value.
        choices: What it may be.
    """
    if found not in choices:
        raise ValueError(f"{option} must be one of {list(choices)}, got {found!r}")
