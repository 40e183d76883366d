"""Saves results as JSON with four digits and one row per line, so that they are easy to compare."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result."""
    path.write_text(_text(rounded(result), 0) + "\n")


def rounded(value: Any) -> Any:
    """The value with all numbers rounded to four digits; noise makes further digits useless."""
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _text(value: Any, level: int) -> str:
    """JSON with one line per entry in the upper two levels."""
    if level == 2 or not value or not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    indent = " " * (level + 1)
    if isinstance(value, dict):
        entries = [f"{indent}{json.dumps(str(k))}: {_text(v, level + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(entries) + "\n" + " " * level + "}"
    entries = [indent + _text(item, 2) for item in value]
    return "[\n" + ",\n".join(entries) + "\n" + " " * level + "]"
