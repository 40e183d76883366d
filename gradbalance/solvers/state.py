"""Check a state as a whole before any of it is restored."""

from collections.abc import Mapping
from typing import Any

from gradbalance.numerics.checks import check_count, check_number

Shape = Mapping[Any, Any]


def checked_state(solver: object, state: object, shape: Shape) -> dict[str, Any]:
    """Return a copy of a state, after checking that every entry is of the right kind.

    Args:
        solver: the solver that will load the state.
        state: the loaded state.
        shape: by key, the kind of each entry: an `Interval` of numbers; a tuple of that and None if
            it may be None; `int` for a count; `object` for anything; or a nested shape. The single
            key `str` stands for any number of keys, such as names of tasks.

    Raises:
        ValueError: the state has another shape; the message names the solver and the entry.
    """
    try:
        copied: dict[str, Any] = _copied("state", state, shape)
    except ValueError as error:
        raise ValueError(f"not a state of {type(solver).__name__}: {error}") from None
    return copied


def _copied(entry: str, found: Any, shape: Any) -> Any:
    if shape is object or (isinstance(shape, tuple) and found is None):
        return found
    if shape is int:
        check_count(entry, found)
        return int(found)
    if not isinstance(shape, Mapping):
        interval = shape[0] if isinstance(shape, tuple) else shape
        check_number(entry, found, interval)
        return float(found)
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise ValueError(f"{entry} must be a dict with strings as keys; found {found!r}")
    kinds = dict.fromkeys(found, shape[str]) if str in shape else shape
    if found.keys() != kinds.keys():
        raise ValueError(f"{entry} must have the keys {list(kinds)}; found {list(found)}")
    return {key: _copied(f"{entry}[{key!r}]", value, kinds[key]) for key, value in found.items()}
