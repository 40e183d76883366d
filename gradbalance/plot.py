"""A figure with panels of lines over steps, readable with any number of lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from gradbalance.numerics.array import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 50  # the most points of a line; each is the mean over an equal share of the steps
_LINES = 8  # the most lines drawn one by one; of more, the distribution and the extremes are drawn
_DECADES = 1.5  # positive values that span more than this are drawn on a log axis


@dataclass(frozen=True)
class Panel:
    """One panel, with lines `values` [steps, lines]; NaN where there is nothing to draw."""

    title: str
    values: Array
    labels: Sequence[str]
    log: bool = False  # whether a log axis is allowed


def draw(steps: Array, panels: Sequence[Panel]) -> Figure:
    """Draw all panels in one figure.

    Args:
        steps: [steps] the step numbers, on the x axis.
        panels: at least one panel.

    Raises:
        ImportError: matplotlib is missing.
    """
    num_columns = 2 if len(panels) <= 4 else 3
    num_rows = -(-len(panels) // num_columns)
    figure = new_figure(num_rows, num_columns)
    legend: list[str] = []
    for index, panel in enumerate(panels, 1):
        axes = figure.add_subplot(num_rows, num_columns, index)
        axes.set(title=panel.title, xlabel="step")
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        _fill(axes, panel, smooth(steps), smooth(panel.values))
        before, legend = legend, axes.get_legend_handles_labels()[1]
        if len(panel.labels) > 1 and legend and legend != before:  # neighbours may share one
            axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def new_figure(num_rows: int, num_columns: int) -> Figure:
    """Create an empty figure for this many rows and columns of panels.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install gradbalance[plots]") from error
    return Figure(figsize=(5.5 * num_columns, 3.5 * num_rows), layout="constrained")


def saved(figure: Figure, path: str | PathLike[str] | None) -> Figure:
    """Save the figure if there is a path, whose suffix determines the format, and return it."""
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def spans_decades(values: Array) -> bool:
    """Whether values (at least one finite) are all positive and span enough for a log axis."""
    low, high = np.nanmin(values), np.nanmax(values)
    return bool(low > 0 and high > low * 10**_DECADES)


def use_log_axis(axes: Axes) -> None:
    """Use a log axis, with labels between the powers of ten if these are few."""
    from matplotlib.ticker import LogFormatterSciNotation

    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(2.5, 0.5)))


def _fill(axes: Axes, panel: Panel, steps: Array, points: Array) -> None:
    measured = np.flatnonzero(np.isfinite(points).any(axis=0))
    if not measured.size:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        return
    if panel.log and spans_decades(points):
        use_log_axis(axes)
    lines = [(index, f"C{index}", "-") for index in measured]
    if len(lines) > _LINES:
        _spread(axes, steps, points[:, measured])
        ranked = measured[np.argsort(np.nanmean(points[:, measured], axis=0))]
        extremes = [(-1, "C3", "-"), (-2, "C3", ":"), (1, "C0", ":"), (0, "C0", "-")]
        lines = [(ranked[place], color, style) for place, color, style in extremes]
    for index, color, style in lines:
        _line(axes, steps, points[:, index], panel.labels[index], color, style)


def _spread(axes: Axes, steps: Array, points: Array) -> None:
    known = np.isfinite(points).any(axis=1)
    steps, points = steps[known], points[known]
    low, quarter, median, three_quarters, high = np.nanpercentile(points, range(0, 101, 25), axis=1)
    axes.fill_between(steps, low, high, color="0.87", label=f"all {points.shape[1]}")
    axes.fill_between(steps, quarter, three_quarters, color="0.74", label="middle half")
    _line(axes, steps, median, "median", "black", "-")


def _line(axes: Axes, steps: Array, line: Array, label: str, color: str, style: str) -> None:
    known = np.isfinite(line)  # the line bridges gaps, where it has no dots
    axes.plot(steps[known], line[known], f".{style}", color=color, label=label, markersize=4)


def smooth(values: Array) -> Array:
    """Means over equal shares of the first axis; NaN for a share without finite values."""
    shares = np.array_split(np.arange(len(values)), min(_POINTS, len(values)))
    starts = [share[0] for share in shares]
    finite = np.isfinite(values)
    sums = np.add.reduceat(np.where(finite, values, 0.0), starts)
    with np.errstate(invalid="ignore"):
        means: Array = sums / np.add.reduceat(finite, starts, dtype=np.float64)
    return means
