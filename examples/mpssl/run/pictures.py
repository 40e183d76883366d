"""Pictures of a run and of a comparison of runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from examples.common import transforms
from examples.common.data.image_set import ImageSet
from examples.mpssl import pretext
from examples.mpssl.pretext import PretextTask
from examples.mpssl.run.tables import RANDOM, SUMMARIZED

_NUM_COLUMNS = 4


@style.context("gradbalance.pictures")
def draw_inputs(tasks: Sequence[PretextTask], image_set: ImageSet, path: Path) -> None:
    """Draw each task's levels on one image, and below them mixed inputs with their labels.

    Args:
        tasks: The pretext tasks of a run.
        image_set: The images to choose from.
        path: File of the picture.
    """
    num_rows = len(tasks) + 2
    figure = Figure(figsize=(6.4, 1.55 * num_rows + 0.16 * len(tasks)))
    grid = figure.subplots(num_rows, _NUM_COLUMNS, squeeze=False)
    images = transforms.to_float(image_set.images)
    # Solarization is visible only on an image with bright and dark parts.
    original = images[images.flatten(1).std(dim=1).argmax()]
    for row, task in zip(grid, tasks, strict=False):
        levels = original.expand(task.num_classes, -1, -1, -1)
        shown = pretext.mix(levels, [task], {task.name: torch.arange(task.num_classes)})
        row[0].set_ylabel(task.name)
        for axes, image, label in zip(row, shown, task.labels, strict=True):
            axes.set_title(label)
            _show(axes, image)

    generator = torch.Generator().manual_seed(0)
    chosen = images[torch.arange(_NUM_COLUMNS) % len(images)]
    inputs = transforms.crop_and_flip(chosen, generator)
    classes = pretext.draw_classes(tasks, _NUM_COLUMNS, generator)
    mixed = pretext.mix(inputs, tasks, classes)
    for index, (before, after) in enumerate(zip(grid[-2], grid[-1], strict=True)):
        _show(before, inputs[index])
        _show(after, mixed[index])
        labels = [f"{task.name} {task.labels[classes[task.name][index]]}" for task in tasks]
        after.set_xlabel("\n".join(labels))
    grid[-2, 0].set_ylabel("cropped,\nflipped")
    grid[-1, 0].set_ylabel("input")
    figure.savefig(path)


@style.context("gradbalance.pictures")
def draw_comparison(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw the probes' accuracy after every block for each factor, and any pretext accuracies.

    Args:
        results: The results of each run, with ``probes`` and ``pretext``.
        path: File of the picture.
    """
    factors = list(next(iter(results.values()))["probes"])
    trained = {name: result for name, result in results.items() if result["pretext"]}
    num_panels = len(factors) + bool(trained)
    figure = Figure(figsize=(3.2 * num_panels, 3.6))
    panels = figure.subplots(1, num_panels, squeeze=False)[0]
    styles = _styles(list(results))
    for axes, factor in zip(panels, factors, strict=False):
        for name, result in results.items():
            scores = result["probes"][factor]
            blocks = [key for key in scores if key.startswith("block")]
            values = [100 * scores[block] for block in blocks]
            axes.plot(range(1, len(blocks) + 1), values, label=name, marker="o", **styles[name])
        axes.axhline(100 * result["chance"][factor], color="0.7", linewidth=1, zorder=0)
        axes.set(title=f"linear probe: {factor}", xlabel="after block")
        axes.set(xticks=range(1, 5), ylim=(0, 102))
        axes.grid()
    panels[0].set_ylabel("test accuracy (%)")
    if trained:
        accuracies = {name: result["pretext"] for name, result in trained.items()}
        _draw_pretext(panels[-1], accuracies, styles)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figure.savefig(path)


def _draw_pretext(
    axes: Axes,
    accuracies: Mapping[str, Mapping[str, float]],
    styles: Mapping[str, Mapping[str, Any]],
) -> None:
    tasks = list(dict.fromkeys(task for of_run in accuracies.values() for task in of_run))
    width = 0.8 / len(accuracies)
    for position, (name, of_run) in enumerate(accuracies.items()):
        places = [tasks.index(task) + (position + 0.5) * width - 0.4 for task in of_run]
        heights = [100 * value for value in of_run.values()]
        axes.barh(places, heights, width, color=styles[name]["color"])
    axes.set(title="pretext accuracy (%)", xlim=(0, 100))
    axes.set_yticks(range(len(tasks)), tasks)
    axes.invert_yaxis()


@style.context("gradbalance.pictures")
def draw_summary(kinds: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> None:
    """Draw the accuracies of the same runs on several kinds of images, as bars.

    Args:
        kinds: For each kind of image, the results of the runs, with ``probes`` and ``pretext``.
        path: File of the picture.
    """
    any_results = next(iter(kinds.values()))
    probed = next(iter(any_results.values()))["probes"]
    panels = [(factor, probe) for factor, probe in SUMMARIZED if factor in probed]
    names, styles = list(any_results), _styles(list(any_results))
    width = 0.8 / len(names)
    figure = Figure(figsize=(2.9 * (1 + len(panels)), 3.4))
    grid = figure.subplots(1, 1 + len(panels), sharey=True)
    for axes, (factor, probe) in zip(grid, [*panels, ("rotation", "")], strict=True):
        for position, name in enumerate(names):
            runs = [results[name] for results in kinds.values()]
            if probe:
                values = [100 * run["probes"][factor][probe] for run in runs]
            else:
                none = {"rotation": np.nan}  # the accuracy of an untrained head has no meaning
                told = [none if name == RANDOM else run["pretext"] for run in runs]
                values = [100 * accuracies.get("rotation", np.nan) for accuracies in told]
            places = [index + (position + 0.5) * width - 0.4 for index in range(len(kinds))]
            bars = axes.bar(places, values, 0.92 * width, color=styles[name]["color"], label=name)
            axes.bar_label(bars, [f"{v:.0f}" if v == v else "" for v in values], fontsize=8)
        chance = any_results[names[0]]["chance"][factor] if probe else 0.25
        axes.axhline(100 * chance, color="0.3", linewidth=1, linestyle=":", label="chance")
        axes.set_xticks(range(len(kinds)), [f"{kind}\nimages" for kind in kinds])
        title = f"{factor} (probe of {probe.replace('block', 'block ')})"
        axes.set_title(title if probe else "rotations told")
        axes.set(xlim=(-0.5, len(kinds) - 0.5), ylim=(0, 109))
    grid[0].set_ylabel("test accuracy (%)")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figure.savefig(path)


def _styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Line styles: grey and dashed for the untrained trunk, a colour for each of the others."""
    coloured = [name for name in names if name != RANDOM]
    styles = {name: {"color": f"C{index % 10}"} for index, name in enumerate(coloured)}
    return {**styles, RANDOM: {"color": "0.5", "linestyle": "--"}}


def _show(axes: Axes, image: Tensor) -> None:
    axes.imshow(image.permute(1, 2, 0).numpy())
    axes.set(xticks=[], yticks=[])
