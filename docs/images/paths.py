"""Draw the picture of every solver's page: its runs over three bowls.

python docs/images/paths.py          (two minutes on one core)
python docs/images/paths.py MGDA     (some of them)

Writes paths/NAME.png beside this file. Landscape, starts and optimizer are those of the gallery.
"""

import io
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib import style
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]  # for what is not installed

from solvers import SOLVERS, drawn, make  # noqa: E402

from benchmarks.descent import descend  # noqa: E402
from benchmarks.landscapes import LANDSCAPES  # noqa: E402

Array = NDArray[np.float64]

LANDSCAPE = LANDSCAPES["triangle"]
NUM_STEPS, LR, EVERY = 4000, 1e-3, 10
COLORS = {"steep": "tab:red", "medium": "tab:blue", "flat": "tab:green"}
BOUND = 1.9  # of both variables


def run(calls: list[str]) -> dict[str, Array]:
    """The points [steps, starts, 2] of each solver, given as code."""
    starts = LANDSCAPE.starts
    path = descend(
        LANDSCAPE,
        [make(call) for call in calls for _ in starts],
        starts * len(calls),
        partial(torch.optim.Adam, lr=LR),
        num_steps=NUM_STEPS,
        every=EVERY,
    )
    return dict(zip(calls, np.split(path, len(calls), axis=1), strict=True))


@style.context("gradbalance.pictures")
def draw(path: Array, beside: Array | None) -> Figure:
    """The runs over contours of the losses, with a legend."""
    optimal = LANDSCAPE.pareto_path()
    grid = np.stack(np.meshgrid(*[np.linspace(-BOUND, BOUND, 200)] * 2), axis=-1)
    losses = LANDSCAPE.evaluate(grid.reshape(-1, 2))[0].reshape(*grid.shape[:2], -1)
    figure = Figure(figsize=(4.2, 4.75))
    axis = figure.subplots()
    for task, color in enumerate(COLORS.values()):
        levels = np.quantile(losses[..., task], (0.01, 0.08, 0.25, 0.55))
        axis.contour(*np.moveaxis(grid, -1, 0), losses[..., task], levels, colors=color,
                     alpha=0.5, linewidths=0.9)  # fmt: skip
    axis.fill(*optimal.T, color="0.88")
    axis.plot(*optimal.T, color="0.6", linewidth=4, solid_capstyle="round", zorder=1.5)
    if beside is not None:
        axis.plot(*beside.transpose(2, 0, 1), color="0.5", linewidth=1, linestyle=(0, (4, 2)))
        axis.plot(*beside[-1].T, "D", color="0.8", markeredgecolor="0.5", markersize=5)
    axis.plot(*path.transpose(2, 0, 1), color="black", linewidth=1.4)
    axis.plot(*path[0].T, "o", color="black", markersize=5)
    axis.plot(*path[-1].T, "D", color="gold", markeredgecolor="black", markersize=7)
    axis.set(aspect="equal", xlim=(-BOUND, BOUND), ylim=(-BOUND, BOUND))
    axis.set(xlabel="$x_1$", ylabel="$x_2$", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    entries: list[Line2D | Patch] = [
        Line2D([], [], color=color, alpha=0.5, label=f"{name} loss")
        for name, color in COLORS.items()
    ]
    entries += [
        Line2D([], [], color="black", marker="o", markersize=5, label="start, path"),
        Line2D(
            [], [], color="gold", marker="D", linestyle="", markeredgecolor="black", label="end"
        ),
        Patch(facecolor="0.88", edgecolor="0.6", linewidth=2, label="Pareto set"),
    ]
    figure.legend(handles=entries, loc="outside lower center", ncols=3, frameon=False)
    return figure


def palette() -> Image.Image:
    """The few colours of a picture: each that is drawn, on white and on the grey of the set."""
    shades = np.linspace(0, 1, 3)[1:, None]
    lines = [np.array(to_rgb(color)) * 0.5 + 0.5 for color in COLORS.values()]
    inks = [*lines, *map(np.array, [(0, 0, 0), to_rgb("gold"), to_rgb("0.6"), to_rgb("0.5")])]
    grounds = [np.ones((1, 3)), np.full((1, 3), 0.88)]
    colors = np.vstack([*grounds, *(g * (1 - shades) + i * shades for i in inks for g in grounds)])
    image = Image.new("P", (1, 1))
    image.putpalette(np.rint(255 * colors).astype(int).ravel().tolist())
    return image


@style.context("gradbalance.pictures")
def save(figure: Figure, file: Path) -> None:
    """Write a picture in few colours, for a fraction of the bytes."""
    content = io.BytesIO()
    figure.savefig(content)
    picture = Image.open(content).convert("RGB")
    picture.quantize(palette=palette(), dither=Image.Dither.NONE).save(file, optimize=True)


def main(names: list[str]) -> None:
    """Run and draw."""
    shown = {name: drawn(name) for name in names or SOLVERS}
    calls = [call for one in shown.values() for call in (one.solver, one.beside) if call]
    paths = run(list(dict.fromkeys(calls)))
    (HERE / "paths").mkdir(exist_ok=True)
    for name, one in shown.items():
        save(draw(paths[one.solver], paths.get(one.beside)), HERE / "paths" / f"{name}.png")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
