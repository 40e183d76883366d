"""Plots of several methods: learning curves, and two metrics against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gradbalance.numerics.array import Array
from gradbalance.plot import new_figure, smooth, spans_decades, use_log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[Array, Array]  # steps and values, both [points], in the order of the steps


def mean_curve(curves: Sequence[Curve]) -> tuple[Array, Array, Array]:
    """The steps, and the means and standard deviations over the runs, all [points].

    The steps are those within the range of all runs; runs are interpolated where they have no
    value. Empty if there is no such step.
    """
    first = max(steps[0] for steps, _ in curves)
    last = min(steps[-1] for steps, _ in curves)
    grid = np.unique(np.concatenate([steps for steps, _ in curves]))
    grid = grid[(grid >= first) & (grid <= last)]
    values = np.array([np.interp(grid, steps, ys) for steps, ys in curves])
    sd = values.std(axis=0, ddof=1) if len(curves) > 1 else np.zeros(len(grid))
    return grid, values.mean(axis=0), sd


def draw_curves(panels: Mapping[str, Mapping[str, Sequence[Curve]]]) -> Figure:
    """Draw a panel for each metric, with the mean of each method and a band of one sd.

    Args:
        panels: the curves of the runs, by title of the panel and method.

    Raises:
        ImportError: matplotlib is missing.
    """
    num_columns = min(len(panels), 2 if len(panels) <= 4 else 3)
    num_rows = -(-len(panels) // num_columns)
    figure = new_figure(num_rows, num_columns)
    for index, (title, methods) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(num_rows, num_columns, index)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        everything = np.concatenate([ys for curves in methods.values() for _, ys in curves])
        finite = everything[np.isfinite(everything)]
        log = bool(finite.size) and spans_decades(finite)
        if log:
            use_log_axis(axes)
        for number, (method, curves) in enumerate(methods.items()):
            _draw_method(axes, method, curves, number, floor=float(finite.min()) if log else None)
        if index == 1:  # the methods are the same in all panels
            axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _draw_method(
    axes: Axes, method: str, curves: Sequence[Curve], number: int, *, floor: float | None
) -> None:
    color, style = f"C{number % 10}", ("-", "--", ":")[number // 10 % 3]
    steps, mean, sd = mean_curve(curves)
    if not steps.size:
        for place, (own_steps, values) in enumerate(curves):
            label = method if place == 0 else None
            axes.plot(own_steps, values, f".{style}", color=color, label=label, linewidth=0.8)
        return
    steps, mean, sd = smooth(steps), smooth(mean), smooth(sd)
    low = mean - sd if floor is None else np.maximum(mean - sd, floor)
    axes.fill_between(steps, low, mean + sd, color=color, alpha=0.2, linewidth=0)
    axes.plot(steps, mean, f".{style}", color=color, label=method, markersize=4)


def draw_pareto(runs: Mapping[str, Array], front: Sequence[str], labels: tuple[str, str]) -> Figure:
    """Draw runs as faint dots, and methods as means with error bars; those on the front ringed.

    Args:
        runs: by method, [seeds, 2] the two metrics.
        front: the methods that no other method dominates.
        labels: the labels of the axes.

    Raises:
        ImportError: matplotlib is missing.
    """
    figure = new_figure(1, 1)
    axes = figure.add_subplot()
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.grid(alpha=0.3)
    means = {method: values.mean(axis=0) for method, values in runs.items()}
    for number, (method, values) in enumerate(runs.items()):
        if not np.isfinite(means[method]).all():
            continue
        color, marker = f"C{number % 10}", "os^D"[number // 10 % 4]
        axes.scatter(
            values[:, 0], values[:, 1], color=color, alpha=0.3, s=14, marker=marker, linewidths=0
        )
        x_sd, y_sd = values.std(axis=0, ddof=1) if len(values) > 1 else (0.0, 0.0)
        x, y = means[method]
        axes.errorbar(
            x, y, xerr=x_sd, yerr=y_sd, fmt=marker, color=color, label=method, elinewidth=1
        )
    line = np.array(sorted(tuple(means[method]) for method in front))
    if len(line):
        axes.plot(*line.T, "--", color="0.3", linewidth=1, zorder=1)
        axes.plot(*line.T, "o", color="0.2", fillstyle="none", markersize=12, label="Pareto front")
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return figure
