"""Pictures of runs: their solutions, and the training over time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from examples.pinn.problems import PROBLEMS
from examples.pinn.train import Run

_NUM_TICKS = 101  # points along each axis of the grid on which solutions are drawn


@style.context("gradbalance.pictures")
def draw_solutions(runs: Sequence[Run], path: Path) -> None:
    """Draw the exact solution of a problem, the solution of each run, and its error.

    Args:
        runs: Runs of one problem.
        path: File of the picture.
    """
    problem = PROBLEMS[runs[0].config.problem]()
    points = problem.grid(_NUM_TICKS)
    exact = problem.solution(points)[:, 0]
    figure = Figure(figsize=(3.5 * (len(runs) + 1), 6.4))
    grid = figure.subplots(2, len(runs) + 1)
    figure.suptitle(problem.title)
    limit = float(exact.abs().max())
    style: dict[str, Any] = {
        "extent": (*problem.box[0], *problem.box[1]),
        "origin": "lower",
        "aspect": "auto",
    }
    values = {**style, "cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    off = {**style, "cmap": "magma", "norm": LogNorm(1e-4 * limit, limit)}
    grid[0, 0].imshow(_image(exact), **values)
    grid[0, 0].set_title("exact solution u")
    _draw_errors(runs, grid[1, 0])
    for index, run in enumerate(runs, 1):
        with torch.no_grad():
            found = run.network(points)[:, 0].double()
        above, below = grid[0, index], grid[1, index]
        shown = above.imshow(_image(found), **values)
        above.set_title(_label(run))
        missed = below.imshow(_image((found - exact).abs()), **off)
        below.set_title(f"how far it is off: {_percent(run.error)}")
    figure.colorbar(shown, ax=grid[0], label="u", extend="both")
    figure.colorbar(missed, ax=grid[1], label="|u − exact|", extend="both")
    for axes in (*grid[0], *grid[1, 1:]):
        axes.set(xlabel=problem.axes[0], ylabel=problem.axes[1])
    figure.savefig(path)


def _draw_errors(runs: Sequence[Run], axes: Axes) -> None:
    for index, run in enumerate(runs):
        bar = axes.bar(index, run.error, color=f"C{index}", width=0.6)
        axes.bar_label(bar, [_percent(run.error)])
    axes.set_xticks(range(len(runs)), [_label(run) for run in runs])
    axes.set(title="relative error ‖u − exact‖ / ‖exact‖", yscale="log")
    smallest, largest = min(run.error for run in runs), max(run.error for run in runs)
    axes.set_ylim(min(0.01, smallest / 3), max(2.0, 2 * largest))
    axes.yaxis.set_major_formatter(lambda value, _: _percent(value))
    axes.yaxis.set_minor_formatter(lambda value, _: "")
    axes.grid(axis="y")


@style.context("gradbalance.pictures")
def draw_training(runs: Sequence[Run], path: Path) -> None:
    """Draw losses, weights, smallest cosine and error over the steps, with one column per run.

    Args:
        runs: Runs of one problem.
        path: File of the picture.
    """
    figure = Figure(figsize=(4.6 * len(runs) + 1.6, 9.5))
    grid = figure.subplots(4, len(runs), sharex=True, sharey="row", squeeze=False)
    losses = list(runs[0].records[0].losses)
    for column, run in zip(grid.T, runs, strict=True):
        steps = [record.step for record in run.records]
        for index, name in enumerate(losses):
            style = {"label": name, "linewidth": 3.0 - 0.6 * index}  # so overlapping lines show
            column[0].plot(steps, [record.losses[name] for record in run.records], **style)
            column[1].plot(steps, [record.weights[name] for record in run.records], **style)
        column[2].plot(steps, [record.cosine for record in run.records], color="0.3")
        column[3].plot(steps, [record.error for record in run.records], color="0.3")
        column[0].set_title(_label(run))
        column[3].set_xlabel("steps of Adam, then iterations of L-BFGS")
        for axes in column:
            axes.axvspan(run.config.adam_steps, max(steps), color="0.93", zorder=0)
            axes.grid()
        column[2].axhline(0, color="0.6", linewidth=1)
    for row, label in zip(
        grid, ("loss", "weight", "smallest cosine of\ntwo gradients", "relative error"), strict=True
    ):
        row[0].set_ylabel(label)
        row[0].set_yscale("linear" if "cosine" in label else "log")
    grid[2, 0].set_ylim(-1.05, 1.05)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    band = Line2D([], [], color="0.9", linewidth=8)
    figure.legend(
        [*handles, band],
        [*labels, "L-BFGS, weights held"],
        loc="outside lower center",
        ncols=len(labels) + 1,
    )
    figure.savefig(path)


def _label(run: Run) -> str:
    if run.config.solver == "Uniform":
        by_hand = f", conditions × {run.config.factor:g}" if run.config.factor != 1 else ""
        return f"plain sum{by_hand}"
    return f"balanced by {run.config.solver}"


def _percent(error: float) -> str:
    return f"{100 * error:.0f} %" if error >= 0.1 else f"{100 * error:.2g} %"


def _image(values: Tensor) -> Any:
    """The values as an array for ``imshow``: first axis to the right, second axis upwards."""
    return values.reshape(_NUM_TICKS, _NUM_TICKS).T.numpy()
