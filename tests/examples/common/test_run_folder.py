"""The metrics of a run are lines of JSON."""

import json
import math
from pathlib import Path

import pytest

from examples.common.run_folder import RunFolder


@pytest.mark.parametrize("unknown", [math.nan, math.inf, -math.inf])
def test_what_json_lacks_is_left_out(unknown: float, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log({"kind": "step", "step": 3, "loss": 0.5, "weight": unknown})
    (line,) = folder.metrics_file.read_text().splitlines()
    assert json.loads(line) == {"kind": "step", "step": 3, "loss": 0.5}
