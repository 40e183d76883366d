"""The figure of the method: from one image to one backward pass through the trunk."""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from examples.common import transforms
from examples.common.data.image_set import ImageSet
from examples.mpssl import pretext

_STEP = 1.35  # distance from one image to the next


@style.context("gradbalance.pictures")
def draw_method(tasks: Sequence[str], image_set: ImageSet, path: Path) -> None:
    """Draw how an image becomes an input, and how the tasks' gradients are combined into one.

    Args:
        tasks: Names of the pretext tasks.
        image_set: The images to choose one from.
        path: File of the picture.
    """
    chosen = pretext.select_tasks(tasks)
    figure = Figure(figsize=(11.5, 3.9))
    axes = figure.subplots()
    axes.set(xlim=(-0.6, 15.6), ylim=(-2.4, 2.3), aspect="equal")
    axes.axis("off")

    images = transforms.to_float(image_set.images)
    image = images[images.flatten(1).std(dim=1).argmax()][None]
    level = {task.name: (task.identity + 1) % task.num_classes for task in chosen}
    _image(axes, image, 0.0, "image")
    for place, task in enumerate(chosen, 1):
        image = pretext.mix(image, [task], {task.name: torch.tensor([level[task.name]])})
        _arrow(axes, (place * _STEP - 0.83, 0), (place * _STEP - 0.52, 0))
        _image(axes, image, place * _STEP, f"{task.name}\n{task.labels[level[task.name]]}")
    end = len(chosen) * _STEP
    axes.text(end / 2, 1.25, "one input bears every task's level, drawn at random", ha="center")

    _arrow(axes, (end + 0.52, 0), (end + 0.75, 0))
    _box(axes, (end + 0.8, -0.5), 0.95, 1.0, "trunk\n$f_θ$")
    centre = end + 0.8 + 0.95
    axes.text(centre + 0.1, 0.62, "$z$", ha="center")
    heights = [1.5 - 3.0 * place / max(1, len(chosen) - 1) for place in range(len(chosen))]
    for height, task in zip(heights, chosen, strict=True):
        _arrow(axes, (centre + 0.1, 0), (centre + 0.72, height))
        _box(axes, (centre + 0.75, height - 0.28), 1.75, 0.56, f"head: {task.name}", size=8)
        _arrow(axes, (centre + 2.53, height), (centre + 2.85, height))
        axes.text(centre + 2.93, height, f"$ℓ$ {task.name}", va="center", fontsize=8)
        _arrow(axes, (centre + 4.3, height), (centre + 4.72, height * 0.25), color="C3")
    axes.text(centre + 4.5, 1.95, "gradients $g_t = ∂ℓ_t/∂z$", ha="center", color="C3", fontsize=9)
    _box(axes, (centre + 4.75, -0.5), 1.2, 1.0, "Gramian\n$g_s·g_t$")
    _arrow(axes, (centre + 5.98, 0), (centre + 6.2, 0))
    _box(axes, (centre + 6.25, -0.5), 1.25, 1.0, "solver\nweights $w$")
    below = -2.25
    axes.plot(
        [centre + 6.9, centre + 6.9, end + 1.27], [-0.55, below, below], color="C3", linewidth=1.5
    )
    _arrow(axes, (end + 1.27, below), (end + 1.27, -0.52), color="C3")
    axes.text(
        centre + 3.0,
        below + 0.12,
        "one backward of $Σ_t\\, w_t\\, g_t$ through the trunk",
        ha="center",
        color="C3",
        fontsize=9,
    )
    figure.savefig(path)


def _image(axes: Axes, image: torch.Tensor, centre: float, label: str) -> None:
    pixels = image[0].permute(1, 2, 0).numpy()
    axes.imshow(pixels, extent=(centre - 0.5, centre + 0.5, -0.5, 0.5), zorder=2)
    axes.text(centre, -0.62, label, ha="center", va="top", fontsize=8)


def _box(
    axes: Axes, corner: tuple[float, float], width: float, height: float, text: str, size: int = 9
) -> None:
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, fill=False))
    middle = (corner[0] + width / 2, corner[1] + height / 2)
    axes.text(*middle, text, ha="center", va="center", fontsize=size)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str = "k"
) -> None:
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "->", "color": color, "shrinkA": 0, "shrinkB": 0}
    )
