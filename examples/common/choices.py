"""Options that have a few possible values, and presets of several options."""

from collections.abc import Collection, Mapping
from typing import Any


def check_one_of(option: str, found: object, choices: Collection[object]) -> None:
    """Raise a ValueError that names the choices, unless the option's value is one of them.

    Args:
        option: The option's name.
        found: The option's value.
        choices: The allowed values.
    """
    if found not in choices:
        raise ValueError(f"{option} must be one of {list(choices)}, got {found!r}")


def preset_options(
    kind: str,
    name: str,
    presets: Mapping[str, Mapping[str, Any]],
    changes: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the options of a preset, with some of them changed.

    Args:
        kind: The word for a preset in the error message.
        name: The preset's name.
        presets: The options of each preset, by name.
        changes: Options that replace the preset's; None keeps the preset's value.

    Raises:
        ValueError: There is no such preset.
    """
    check_one_of(kind, name, presets)
    return {**presets[name], **{key: v for key, v in changes.items() if v is not None}}
