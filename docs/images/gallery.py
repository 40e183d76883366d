"""Draw the gallery: every method from several starts over two landscapes.

python docs/images/gallery.py    (minutes on one core)

Writes gallery_*.png and gallery.json beside this file, and the tables of docs/gallery.md.
"""

import json
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib import style
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

HERE = Path(__file__).parent
PAGE = HERE.parent / "gallery.md"
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]  # of what is not installed

import marks  # noqa: E402

import gradbalance as gb  # noqa: E402
from benchmarks.descent import descend  # noqa: E402
from benchmarks.landscapes import LANDSCAPES, Landscape  # noqa: E402

Array = NDArray[np.float64]

METHODS: dict[str, Callable[[], gb.Solver]] = {
    "Uniform": gb.Uniform,
    "MGDA": gb.MGDA,
    "MGDA, l2": partial(gb.MGDA, normalization="l2"),
    "MGDA, averaged G": lambda: gb.AveragedGramian(gb.MGDA()),
    "SDMGrad": gb.SDMGrad,
    "MoDo, l2": lambda: gb.Scaled(gb.MoDo(), by=gb.InverseNorm()),
    "UPGrad": gb.UPGrad,
    "UPGrad, l2": lambda: gb.Scaled(gb.UPGrad(), by=gb.InverseNorm()),
    "DualProj": gb.DualProj,
    "PCGrad": gb.PCGrad,
    "GradVac": gb.GradVac,
    "CAGrad": gb.CAGrad,
    "NashMTL": gb.NashMTL,
    "FairGrad, α = 2": partial(gb.FairGrad, alpha=2.0),
    "AlignedMTL": gb.AlignedMTL,
    "IMTLG": gb.IMTLG,
    "IMTLG, IMTLL": lambda: gb.Scaled(gb.IMTLG(), by=gb.IMTLL()),
    "ConFIG": gb.ConFIG,
    "DBMTL": gb.DBMTL,
    "GradNorm": gb.GradNorm,
    "PCD": gb.PCD,
    "MainTask": gb.MainTask,
    "GradCosine": gb.GradCosine,
    "EPO": gb.EPO,
    "UW": gb.UW,
    "IMTLL": gb.IMTLL,
    "GLS": gb.GLS,
    "SI": gb.SI,
    "STCH": gb.STCH,
    "DWA": gb.DWA,
    "RLW": gb.RLW,
    "FAMO": gb.FAMO,
    "FAMO, no decay": partial(gb.FAMO, weight_decay=0.0),
}
# by name of the picture: the landscape, and Adam's steps, lr, and the steps between points
RUNS = {
    "toy": ("toy, first loss × 0.1", 35_000, 1e-3, 50),
    "triangle": ("triangle", 4_000, 1e-3, 10),
}
COLORS = ("tab:red", "tab:blue", "tab:green")
COLUMNS = 6


def run(name: str) -> tuple[dict[str, Array], float]:
    """The points [steps, starts, 2] of every method, and the seconds it took."""
    key, num_steps, lr, every = RUNS[name]
    landscape = LANDSCAPES[key]
    solvers = [make() for make in METHODS.values() for _ in landscape.starts]
    begin = time.perf_counter()
    path = descend(
        landscape,
        solvers,
        landscape.starts * len(METHODS),
        partial(torch.optim.Adam, lr=lr),
        num_steps=num_steps,
        every=every,
    )
    seconds = time.perf_counter() - begin
    return dict(zip(METHODS, np.split(path, len(METHODS), axis=1), strict=True)), seconds


def figures_of(landscape: Landscape, path: Array) -> dict[str, list]:
    """What is told of one method: where its runs ended, and whether they had come to rest."""
    tail = path[-(len(path) // 20) :]
    losses, _ = landscape.evaluate(path[-1])
    return {
        "end": path[-1].round(3).tolist(),
        "losses": losses.round(3).tolist(),
        "distance": landscape.distance(path[-1]).round(3).tolist(),
        "moved": np.ptp(tail, axis=0).max(axis=1).round(3).tolist(),
    }


def table(result: dict) -> str:
    """A row for each method: losses and distance to the Pareto set from every start."""
    heads = ["method", *(f"from ({x:g}, {y:g})" for x, y in result["starts"])]
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    for label, found in result["methods"].items():
        ends = zip(found["losses"], found["distance"], found["moved"], strict=True)
        cells = [
            f"{', '.join(f'{loss:.2f}' for loss in losses)}; {distance:.2f}"
            + (" ↝" if moved > 0.05 else "")
            for losses, distance, moved in ends
        ]
        lines.append(" | ".join([f"`{label}`", *cells]))
    return "\n".join(f"| {line} |" for line in lines)


def fill(page: str, results: dict) -> str:
    """The page with the tables of these results between their marks."""
    for name in RUNS:
        page = marks.fill(page, name, table(results[name]))
    return page


@style.context("gradbalance.pictures")
def panels(num: int, width: float, height: float) -> tuple[Figure, list]:
    """Equal axes for `num` methods, and the rest of the grid switched off."""
    rows = -(-num // COLUMNS)
    figure = Figure(figsize=(width * COLUMNS, height * rows + 0.4))
    axes = list(figure.subplots(rows, COLUMNS, sharex=True, sharey=True).flat)
    for empty in axes[num:]:
        empty.axis("off")
    return figure, axes[:num]


@style.context("gradbalance.pictures")
def save(figure: Figure, name: str) -> None:
    """Write a picture in few colours, for a third of the bytes."""
    figure.savefig(HERE / name)
    Image.open(HERE / name).convert("RGB").quantize(128).save(HERE / name, optimize=True)


def draw_parameters(name: str, paths: dict[str, Array]) -> None:
    """Where the runs went, over contours of the losses."""
    landscape = LANDSCAPES[RUNS[name][0]]
    starts, optimal = np.array(landscape.starts), landscape.pareto_path()
    bound = 1.15 * max(np.abs(starts).max(), np.abs(optimal).max())
    grid = np.stack(np.meshgrid(*[np.linspace(-bound, bound, 300)] * 2), axis=-1)
    losses = landscape.evaluate(grid.reshape(-1, 2))[0].reshape(*grid.shape[:2], -1)
    figure, axes = panels(len(paths), 2.1, 2.25)
    for axis, (label, path) in zip(axes, paths.items(), strict=True):
        for task, color in enumerate(COLORS[: losses.shape[-1]]):
            levels = np.quantile(losses[..., task], (0.01, 0.05, 0.15, 0.3, 0.5, 0.75))
            axis.contour(
                *grid.T, losses[..., task].T, levels, colors=color, alpha=0.4, linewidths=0.6
            )
        if losses.shape[-1] > 2:
            axis.fill(*optimal.T, color="0.88")
        axis.plot(*optimal.T, color="0.6", linewidth=4, solid_capstyle="round", zorder=1.5)
        axis.plot(*path.transpose(2, 0, 1), color="black", linewidth=1)
        axis.plot(*path[0].T, "o", color="black", markersize=3.5)
        axis.plot(*path[-1].T, "D", color="gold", markeredgecolor="black", markersize=5)
        axis.set(title=label, aspect="equal", xlim=(-bound, bound), ylim=(-bound, bound))
    save(figure, f"gallery_{name}.png")


def draw_losses(name: str, paths: dict[str, Array]) -> None:
    """The two losses of the points that were visited, with the Pareto front."""
    landscape = LANDSCAPES[RUNS[name][0]]
    front, _ = landscape.evaluate(landscape.pareto_path())
    figure, axes = panels(len(paths), 2.1, 1.9)
    for axis, (label, path) in zip(axes, paths.items(), strict=True):
        losses = landscape.evaluate(path.reshape(-1, 2))[0].reshape(path.shape)
        axis.plot(*front.T, color="0.6", linewidth=4, solid_capstyle="round")
        axis.plot(*losses.transpose(2, 0, 1), color="black", linewidth=0.8)
        axis.plot(*losses[0].T, "o", color="black", markersize=3.5)
        axis.plot(*losses[-1].T, "D", color="gold", markeredgecolor="black", markersize=5)
        axis.set_title(label)
    figure.supxlabel("first loss")
    figure.supylabel("second loss")
    save(figure, f"gallery_{name}_losses.png")


def main() -> None:
    """Run, write the figures, draw."""
    results: dict = {
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        }
    }
    for name, (key, num_steps, lr, _) in RUNS.items():
        paths, seconds = run(name)
        results[name] = {
            "landscape": key,
            "steps": num_steps,
            "lr": lr,
            "seconds": round(seconds),
            "starts": LANDSCAPES[key].starts,
            "methods": {label: figures_of(LANDSCAPES[key], p) for label, p in paths.items()},
        }
        draw_parameters(name, paths)
        if len(LANDSCAPES[key].floor) == 2:
            draw_losses(name, paths)
    (HERE / "gallery.json").write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(fill(PAGE.read_text(), results))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
