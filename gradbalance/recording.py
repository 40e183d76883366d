"""Convert a report to a line of JSON, and back."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradbalance.numerics import Status
from gradbalance.numerics.array import Array
from gradbalance.report import Report

_STATUSES: dict[str | None, Status | None] = {None: None} | {s.value: s for s in Status}


def as_record(report: Report, step: int) -> dict[str, Any]:
    """The report as plain values for one line; NaN and infinity, which JSON lacks, are left out."""
    floats = {key: value for key, value in report.as_dict().items() if math.isfinite(value)}
    status = report.status and report.status.value
    about = {"step": step, "solver": report.solver, "status": status}
    return about | {"resolution": report.resolution} | floats


def as_reports(records: Sequence[Mapping[str, Any]]) -> list[Report]:
    """The reports of a run from its lines; Gramians are computed from norms and cosines.

    Raises:
        ValueError: they are not lines of a `History`, or are of a run with groups of parameters,
            whose Gramians are not recorded.
    """
    start = "weight/"
    names = tuple(key.removeprefix(start) for key in records[0] if key.startswith(start))
    for record in records:
        lost = [n for n in _tasks_with_losses(record) if n not in names]
        if lost and names:
            raise ValueError(
                f"found losses of {lost} without weights: this run balanced groups of parameters, "
                "and a file does not hold the Gramian of each. Keep the History itself: pickle it"
            )
        if "solver" not in record or record.get("status", "") not in _STATUSES or lost:
            raise ValueError(
                "this is not a file that gb.History(path=...) wrote; its lines have a solver, a "
                f"status, losses and weights. Found {sorted(record)[:8]}"
            )
    return [_as_report(record, names) for record in records]


def _tasks_with_losses(record: Mapping[str, Any]) -> list[str]:
    return [key.removeprefix("loss/") for key in record if key.startswith("loss/")]


def _as_report(record: Mapping[str, Any], names: tuple[str, ...]) -> Report:
    def column(kind: str) -> Array:
        return np.array([record.get(f"{kind}/{name}", np.nan) for name in names])

    losses, norms = column("loss"), column("norm")
    gram = None
    if "num_conflicts" in record:
        cosines = np.diag(np.where(np.isnan(norms), np.nan, 1.0))
        for i, first in enumerate(names):
            for j in range(i + 1, len(names)):
                known = record.get(f"cosine/{first}/{names[j]}", np.nan)
                cosines[i, j] = cosines[j, i] = known
        gram = norms[:, None] * cosines * norms
    lost = [name for name, loss in zip(names, losses, strict=True) if np.isnan(loss)]
    return Report(
        names=names,
        losses=losses,
        weights=column("weight"),
        gram=gram,
        solver=record["solver"],
        status=_STATUSES[record["status"]],
        certificate=record.get("certificate"),
        left_out=dict.fromkeys(lost, "absent"),
        resolution=float(record.get("resolution", 0.0)),
    )
