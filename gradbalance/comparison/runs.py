"""`compare`: read the metrics of runs from the files of any training script."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, get_args

import numpy as np

from gradbalance.comparison.comparison import Better, Comparison, Path, Value
from gradbalance.comparison.curves import Curve
from gradbalance.jsonl import read_rows
from gradbalance.numerics.array import Array


def compare(
    runs: Mapping[str, Path | Iterable[Path]],
    *,
    better: Mapping[str, Better],
    baseline: str | None = None,
    value: Value = "last",
) -> Comparison:
    r"""Compare the runs of several methods by the metrics in their files.

    Each file is one run, with one JSON object per line. An object has metrics and, optionally, a
    "step" (otherwise lines are counted from 0); a metric may be missing or null. If a step occurs
    twice, as after a restart, the later value counts. An incomplete last line, as a crash leaves
    it, is ignored.

    Runs are paired by their position, so list the same seeds in the same order for every method.
    See `Comparison` for the equations.

    Args:
        runs: by method, the paths of its files, one file per run.
        better: the metrics to compare, and whether "higher" or "lower" is better.
        baseline: the method that the others are compared with; None for no comparison.
        value: which value of a run is used, its "last" or its "best". The best value of a noisy
            curve is too optimistic; use it only if it was selected on other data than those that it
            is reported for.

    Returns:
        The metrics of all methods, with differences, plots and a table.

    Raises:
        ValueError: a method has no runs, a file is empty or has other lines, a metric is missing in
            a file or is not a number, or an argument cannot be used.
        FileNotFoundError: there is no such file.

    Example:
        >>> import gradbalance as gb, pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.jsonl"
        >>> _ = path.write_text('{"step": 10, "error": 0.5}\n{"step": 20, "error": 0.25}\n')
        >>> comparison = gb.compare({"sum": path}, better={"error": "lower"})
        >>> comparison.values["sum"]["error"]
        array([0.25])
    """
    if not runs or not better:
        raise ValueError('compare() needs runs={"sum": [...]} and better={"error": "lower"}')
    for metric, found in better.items():
        if found not in get_args(Better):
            raise ValueError(f'better[{metric!r}] must be "higher" or "lower"; found {found!r}')
    if value not in get_args(Value):
        raise ValueError(f'value must be "last" or "best"; found {value!r}')
    if baseline is not None and baseline not in runs:
        raise ValueError(f"baseline must be one of {list(runs)}; found {baseline!r}")
    curves: dict[str, dict[str, list[Curve]]] = {}
    for method, paths in runs.items():
        files = [paths] if isinstance(paths, str | PathLike) else list(paths)
        if not files:
            raise ValueError(f"runs[{method!r}] has no files")
        of_files = [_curves(path, tuple(better)) for path in files]
        curves[method] = {metric: [of_file[metric] for of_file in of_files] for metric in better}
    values = {
        method: {
            metric: np.array([_value(ys, value, better[metric]) for _, ys in of_runs])
            for metric, of_runs in of_method.items()
        }
        for method, of_method in curves.items()
    }
    return Comparison(values, dict(better), baseline, value, curves)


def _curves(path: str | PathLike[str], metrics: Sequence[str]) -> dict[str, Curve]:
    """Read the curves of one run, by metric.

    Args:
        path: a file with one JSON object per line.
        metrics: the metrics to read.

    Raises:
        ValueError: the file is empty or has other lines, or a metric is missing or not a number.
    """
    rows = read_rows(path)
    with_step = sum("step" in row for row in rows)
    if 0 < with_step < len(rows):
        raise ValueError(f'{path}: {with_step} of {len(rows)} lines have a "step"; give it to all')
    found = {}
    for metric in metrics:
        values: dict[float, float] = {}
        for number, row in enumerate(rows):
            if row.get(metric) is not None:
                step = _number(path, number, "step", row["step"]) if with_step else float(number)
                values[step] = _number(path, number, metric, row[metric])
        if not values:
            known = sorted({key for row in rows for key in row} - {"step"})
            raise ValueError(f"{path} has no {metric!r}; found {known}")
        steps = sorted(values)
        found[metric] = np.array(steps), np.array([values[step] for step in steps])
    return found


def _number(path: str | PathLike[str], number: int, key: str, found: Any) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError(f"{path}, object {number + 1}: {key!r} must be a number; found {found!r}")
    return float(found)


def _value(values: Array, value: Value, better: Better) -> float:
    if value == "last" or np.isnan(values).all():
        return float(values[-1])
    return float(np.nanmax(values) if better == "higher" else np.nanmin(values))
