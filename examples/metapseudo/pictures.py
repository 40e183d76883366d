"""Pictures of samples, and of a comparison of runs."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from examples.common import transforms
from examples.metapseudo.data import Labelled
from examples.metapseudo.samples import GeneratedImages
from examples.metapseudo.tables import Results, budgets, of, variants

_NUM_COLUMNS = 10


def draw_samples(samples: GeneratedImages, real: Labelled, path: Path) -> None:
    """Draw real images, samples of random latents, and those of the same latents once mapped.

    Args:
        samples: With a mapping network.
        real: Images of the target.
        path: File of the picture.
    """
    draws = torch.Generator().manual_seed(0)
    latents, classes = samples.latents(2 * _NUM_COLUMNS, draws)
    chosen = torch.linspace(0, len(real) - 1, 2 * _NUM_COLUMNS).long()
    with torch.no_grad():
        before = GeneratedImages(samples.generator).synthesize(latents, classes)
        after = samples.synthesize(latents, classes)
    shown = {
        "target": transforms.to_float(real.images[chosen]),
        "random latents": before,
        "mapped latents": after,
    }
    figure = Figure(figsize=(8.6, 2.6), layout="constrained")
    for axes, (name, images) in zip(figure.subplots(1, 3), shown.items(), strict=True):
        _show_grid(axes, images, columns=5)
        axes.set_title(name, fontsize=9)
    figure.savefig(path, dpi=120)


def draw_accuracy(results: Results, path: Path) -> None:
    """Draw the test accuracy of every variant, its seeds as dots, for each number of labels.

    Args:
        results: Of runs.
        path: File of the picture.
    """
    names, labels = variants(results), budgets(results)
    figure = Figure(figsize=(7.2, 0.2 * len(names) * (len(labels) + 1) + 1.0))
    axes = figure.subplots()
    for index, number in enumerate(labels):
        shift = (index + 1) / (len(labels) + 1) - 0.5
        for place, name in enumerate(names):
            last = [100 * values[-1] for values in of(results, name, number, "accuracy")]
            axes.plot(last, [place + shift] * len(last), ".", color=f"C{index}", alpha=0.6)
            label = f"{number} labels a class" if place == 0 else None
            mean = np.mean(last)
            axes.plot(mean, place + shift, "D", color=f"C{index}", markersize=5, label=label)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="test accuracy (%), mean and seeds")
    axes.grid(axis="x", alpha=0.3)
    for place in range(1, len(names)):
        axes.axhline(place - 0.5, color="0.9", linewidth=1, zorder=0)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)
    figure.savefig(path, dpi=120, bbox_inches="tight")


def draw_gap(results: Results, path: Path) -> None:
    """Draw over the steps how far the samples are from the target, and the test accuracy.

    Args:
        results: Of runs; means over the seeds are shown.
        path: File of the picture.
    """
    labels = budgets(results)
    figure = Figure(figsize=(9, 3.2 * len(labels)), layout="constrained")
    grid = figure.subplots(len(labels), 2, squeeze=False)
    for row, number in zip(grid, labels, strict=True):
        for index, name in enumerate(variants(results)):
            steps = of(results, name, number, "step")[0]
            for axes, key in zip(row, ("gap", "accuracy"), strict=True):
                curves = [values for values in of(results, name, number, key) if values]
                if curves:
                    mean = np.mean(curves, axis=0)
                    axes.plot(steps, mean, label=name, color=f"C{index}", marker=".")
        row[0].set(title=f"relative feature gap, {number} labels a class", xlabel="step")
        row[0].set_yscale("log")
        row[1].set(title=f"test accuracy, {number} labels a class", xlabel="step")
        for axes in row:
            axes.grid(alpha=0.3)
    figure.legend(*grid[0, 1].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=110)


def _show_grid(axes: Axes, images: Tensor, *, columns: int) -> None:
    rows = [torch.cat(list(row), dim=2) for row in torch.split(images, columns)]
    axes.imshow(torch.cat(rows, dim=1).permute(1, 2, 0).numpy())
    axes.set(xticks=[], yticks=[])
