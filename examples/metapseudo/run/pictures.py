"""Pictures: samples that move into the target, and the accuracies of several runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from examples.common import transforms
from examples.metapseudo.config import RunConfig
from examples.metapseudo.data.load import Target
from examples.metapseudo.generators.generator import Generator
from examples.metapseudo.mapping import build_mapping
from examples.metapseudo.run.tables import Results, budgets, last, variants
from examples.metapseudo.samples import GeneratedImages

_NUM_COLUMNS = 12
_SHOWN_PARTS = (0, 1, 2, 4, 8)  # The rows of samples, as eighths of the steps.


@style.context("gradbalance.pictures")
def draw_walk(
    config: RunConfig,
    generator: Generator,
    target: Target,
    states: Mapping[int, Mapping[str, Any]],
    evaluations: Sequence[Mapping[str, Any]],
    path: Path,
) -> None:
    """Draw the samples of the same latents while their map is trained, above real images.

    Args:
        config: The options of the run.
        generator: The generator of the samples, frozen.
        target: The target, whose labelled images are shown.
        states: States of the map, by step.
        evaluations: Records with step, gap and, where it is known, share of target-like samples.
        path: File of the picture.
    """
    samples = GeneratedImages(generator)
    latents, classes = samples.latents(_NUM_COLUMNS, torch.Generator().manual_seed(3))
    mapping = build_mapping(config.map, generator.latent_size, seed=config.seed)
    steps = sorted(states)
    rows: dict[str, Tensor] = {}
    for step in [steps[part] for part in _SHOWN_PARTS if part < len(steps)]:
        mapping.load_state_dict(states[step])
        with torch.no_grad():
            shown = GeneratedImages(generator, mapping=mapping).synthesize(latents, classes)
        rows[f"step {step}"] = shown
    order = torch.randperm(len(target.labelled), generator=torch.Generator().manual_seed(0))
    chosen = order[torch.arange(_NUM_COLUMNS) % len(order)]
    rows["target"] = transforms.to_float(target.labelled.images[chosen])

    # The layout forgets the width of turned labels: hence the padding.
    layout = ConstrainedLayoutEngine(w_pad=0.15)
    figure = Figure(figsize=(11.5, 0.68 * len(rows) + 0.3), layout=layout)
    strips, curves = figure.subfigures(1, 2, width_ratios=(3.6, 1))
    grid = strips.subplots(len(rows), 1)
    for axes, (name, images) in zip(grid, rows.items(), strict=True):
        axes.imshow(_row(images))
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    keys = [key for key in ("gap", "target_like") if key in evaluations[-1]]
    panels = curves.subplots(len(keys), 1, sharex=True, squeeze=False)[:, 0]
    for axes, key in zip(panels, keys, strict=True):
        found = [evaluation for evaluation in evaluations if key in evaluation]
        factor = 100 if key == "target_like" else 1
        axes.plot([e["step"] for e in found], [factor * e[key] for e in found], ".-")
        axes.set_title(f"{config.gap} gap" if key == "gap" else "target-like (%)", fontsize=9)
        axes.set_ylim(bottom=0 if key == "target_like" else None)
        axes.tick_params(labelsize=8)
        axes.grid()
    panels[-1].set_xlabel("step", fontsize=9)
    figure.savefig(path)


@style.context("gradbalance.pictures")
def draw_accuracy(results: Results, path: Path) -> None:
    """Draw the test accuracy of every variant, its seeds as dots, for each number of labels.

    Args:
        results: Results of runs.
        path: File of the picture.
    """
    names, labels = variants(results), budgets(results)
    size = (2.1 + 2.9 * len(labels), 0.26 * len(names) + 1.1)
    figure = Figure(figsize=size)
    panels = figure.subplots(1, len(labels), sharey=True, squeeze=False)[0]
    for axes, number in zip(panels, labels, strict=True):
        for place, name in enumerate(names):
            values = [100 * value for value in last(results, name, number, "accuracy").values()]
            if values:
                axes.plot(values, [place] * len(values), ".", color="C0", alpha=0.35)
                axes.plot(np.mean(values), place, "D", color="C0", markersize=5)
        axes.set_title(f"{number} label{'s' if number > 1 else ''} a class")
        axes.set_xlabel("test accuracy (%)")
        axes.grid(axis="x")
        for place in range(1, len(names)):
            axes.axhline(place - 0.5, color="0.92", linewidth=1, zorder=0)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    figure.savefig(path)


def _row(images: Tensor) -> Any:
    white = torch.ones(3, images.shape[2], 1)
    parts = [part for image in images for part in (image, white)]
    return torch.cat(parts[:-1], dim=2).permute(1, 2, 0).numpy()
