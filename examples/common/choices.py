"""Options that have a few possible values, and presets of several options."""

from collections.abc import Collection, Mapping
from typing import Any


def check_one_of(option: str, found: object, choices: Collection[object]) -> None:
    """Raise a ValueError that names the choices, unless an option is one of them.

    Args:
        option: Its name.
        found: Its value.
        choices: What it may be.
    """
    if found not in choices:
        raise ValueError(f"{option} must be one of {list(choices)}, got {found!r}")


def preset_options(
    kind: str,
    name: str,
    presets: Mapping[str, Mapping[str, Any]],
    changes: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the options of a preset, some of them changed.

    Args:
        kind: What a preset is called, in the message.
        name: The preset's.
        presets: For each name its options.
        changes: Other options; those that are None change nothing.

    Raises:
        ValueError: There is no such preset.
    """
    check_one_of(kind, name, presets)
    return {**presets[name], **{key: v for key, v in changes.items() if v is not None}}
