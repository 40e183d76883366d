"""Files with one JSON object per line, as training scripts write them."""

import json
from os import PathLike
from pathlib import Path
from typing import Any


def read_rows(path: str | PathLike[str]) -> list[dict[str, Any]]:
    """Read the objects of a file, in order; empty lines are skipped.

    An incomplete last line, as a crash leaves it, is ignored.

    Raises:
        ValueError: the file has no object, or a line is not one.
        FileNotFoundError: there is no such file.
    """
    lines = Path(path).read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number}, is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(
                f"{path}, line {number}: each line must be a JSON object such as "
                f'{{"step": 0, "loss": 1.5}}; found {row!r}'
            )
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} is empty: it needs one JSON object a line")
    return rows
