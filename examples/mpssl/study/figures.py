"""The pictures of the study."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

import gradbalance as gb
from examples.common.data.image_set import ImageSet
from examples.common.trunk import Trunk
from examples.mpssl import evaluate
from examples.mpssl.study.plan import CEILING, UNTRAINED

Bars = Mapping[str, Sequence[Mapping[str, Any]]]
Floats = NDArray[np.float64]


@style.context("gradbalance.pictures")
def draw_over_time(histories: Mapping[str, gb.History], path: Path) -> None:
    """Draw losses, weights and cosines over the steps, with one column per solver.

    Args:
        histories: For each solver, the history of a run on the same tasks.
        path: File of the picture.
    """
    figure = Figure(figsize=(2.3 * len(histories), 6))
    grid = figure.subplots(3, len(histories), sharex=True, sharey="row", squeeze=False)
    for column, (solver, history) in zip(grid.T, histories.items(), strict=True):
        column[0].set_title(solver)
        for index, task in enumerate(history.names):
            column[0].plot(_smooth(history.losses[:, index]), label=task)
            weights = history.weights / history.weights.sum(axis=1, keepdims=True)
            column[1].plot(_smooth(weights[:, index]))
        first, second = np.triu_indices(len(history.names), k=1)
        lowest = history.cosines[:, first, second].min(axis=1)
        column[2].plot(_smooth(lowest), color="0.4")
        column[2].axhline(0, color="0.8", linewidth=1, zorder=0)
        column[2].set_xlabel("step")
    for axes, label in zip(
        grid[:, 0], ("loss", "share of the weights", "lowest cosine"), strict=True
    ):
        axes.set_ylabel(label)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=7)
    figure.savefig(path)


@style.context("gradbalance.pictures")
def draw_bars(rows: Bars, shown: Sequence[tuple[str, str]], path: Path) -> None:
    """Draw probe accuracies as bars, with mean and standard deviation over the seeds.

    Args:
        rows: For each trunk, the results of all seeds.
        shown: The probes to draw, each as (factor, probe); each gets a panel.
        path: File of the picture.
    """
    num_columns = 3 if len(shown) % 3 == 0 else len(shown)
    num_rows = len(shown) // num_columns
    size = (2.9 * num_columns + 1, (0.26 * len(rows) + 0.6) * num_rows)
    figure = Figure(figsize=size)
    grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
    names = list(rows)
    colours = ["0.6" if name in (UNTRAINED, CEILING) else "C0" for name in names]
    for axes, (factor, probe) in zip(grid.flat, shown, strict=True):
        values = [[100 * run["probes"][factor][probe] for run in rows[name]] for name in names]
        means = [float(np.mean(value)) for value in values]
        errors = [float(np.std(value, ddof=1)) if len(value) > 1 else 0.0 for value in values]
        axes.barh(names, means, xerr=errors, color=colours, error_kw={"linewidth": 1})
        chance = 100 * next(iter(rows.values()))[0]["chance"][factor]
        axes.axvline(chance, color="0.3", linewidth=1, linestyle=":")
        axes.set(title=f"{factor}, {probe.replace('block', 'block ').replace('knn', 'kNN')} (%)")
        axes.set_xlim(0, 100)
        axes.grid(axis="x")
    grid[0, 0].invert_yaxis()
    figure.savefig(path)


@style.context("gradbalance.pictures")
def draw_grid(kinds: Mapping[str, Bars], task: str, solvers: Sequence[str], path: Path) -> None:
    """Draw a pretext task's mean accuracy for every set of tasks and solver.

    Args:
        kinds: For each set of tasks and each solver, the results of all seeds.
        task: The pretext task.
        solvers: The solvers, which are the columns.
        path: File of the picture.
    """
    values = np.array(
        [
            [np.mean([100 * run["pretext"][task] for run in rows[name]]) for name in solvers]
            for rows in kinds.values()
        ]
    )
    figure = Figure(figsize=(1.05 * len(solvers) + 3.4, 0.42 * len(kinds) + 1.2))
    axes = figure.subplots()
    image = axes.imshow(values, vmin=25, vmax=100, aspect="auto", cmap="viridis")
    axes.set_xticks(range(len(solvers)), solvers)
    axes.set_yticks(range(len(kinds)), [tasks.replace("+", ", ") for tasks in kinds])
    for (row, column), value in np.ndenumerate(values):
        axes.text(
            column, row, f"{value:.1f}", ha="center", va="center", color="w" if value < 75 else "k"
        )
    figure.colorbar(image, label=f"{task}: accuracy (%), chance 25")
    figure.savefig(path)


@style.context("gradbalance.pictures")
def draw_neighbours(
    trunks: Mapping[str, Trunk],
    train_set: ImageSet,
    test_set: ImageSet,
    queries: Sequence[int],
    path: Path,
    *,
    num_neighbours: int = 5,
) -> None:
    """Draw the nearest training images of a few test images, for each trunk.

    Args:
        trunks: The trunks by name.
        train_set: The images among which the neighbours are searched.
        test_set: The images that contain the queries.
        queries: Indexes of the queries.
        path: File of the picture.
        num_neighbours: Number of neighbours of each query.
    """
    num_columns = 1 + len(trunks) * num_neighbours
    figure = Figure(figsize=(0.62 * num_columns, 0.7 * len(queries) + 0.3))
    widths = [1.3] + [1.0] * (num_columns - 1)
    grid = figure.subplots(len(queries), num_columns, squeeze=False, width_ratios=widths)
    for row, query in zip(grid, queries, strict=True):
        _show(row[0], test_set.images[query])
    grid[0, 0].set_title("query")
    for place, (name, trunk) in enumerate(trunks.items()):
        first = 1 + place * num_neighbours
        grid[0, first].set_title(name, fontsize=9, loc="left")
        found = nearest(trunk, train_set, test_set, queries, num_neighbours)
        for row, indexes in zip(grid, found, strict=True):
            for axes, index in zip(row[first:], indexes, strict=False):
                _show(axes, train_set.images[index])
            row[first].spines["left"].set(visible=True, linewidth=3, color="w")
    figure.savefig(path)


def nearest(
    trunk: Trunk, train_set: ImageSet, test_set: ImageSet, queries: Sequence[int], number: int
) -> NDArray[np.int64]:
    """Return the nearest training images [Q, number] of some test images, as the kNN probe does.

    Args:
        trunk: The trunk.
        train_set: The images among which the neighbours are searched.
        test_set: The images that contain the queries.
        queries: Indexes of the queries [Q].
        number: Number of neighbours of each query.
    """
    wanted = ImageSet(images=test_set.images[list(queries)], labels={}, classes={})
    search = NearestNeighbors(n_neighbors=number, metric="cosine")
    search.fit(evaluate.features(trunk, train_set)[-1])
    found: NDArray[np.int64] = search.kneighbors(
        evaluate.features(trunk, wanted)[-1], return_distance=False
    )
    return found


def _smooth(values: Floats, window: int = 25) -> Floats:
    """A running mean; its window is shorter for the first values."""
    sums = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    smoothed: Floats = (sums[ends] - sums[starts]) / (ends - starts)
    return smoothed


def _show(axes: Axes, image: Tensor) -> None:
    axes.imshow(image.permute(1, 2, 0).to(torch.uint8).numpy())
    axes.set(xticks=[], yticks=[])
