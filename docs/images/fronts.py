"""Draw fronts.png: where on a concave front methods end that one can tell where to go.

python docs/images/fronts.py    (about a minute on one core)

Writes fronts.png and fronts.json beside this file, and the table of docs/fronts.md.
"""

import json
import platform
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib import style
from matplotlib.figure import Figure

HERE = Path(__file__).parent
PAGE = HERE.parent / "fronts.md"
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]  # of what is not installed

import marks  # noqa: E402

import gradbalance as gb  # noqa: E402
from benchmarks.descent import descend  # noqa: E402
from benchmarks.landscapes import LANDSCAPES  # noqa: E402

LANDSCAPE = LANDSCAPES["far pair"]
START, NUM_STEPS, LR = (0.3, 1.2), 4000, 0.02
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the first loss in what is asked for

# By title, what a share asks for, as a solver.
METHODS: dict[str, Callable[[float], gb.Solver]] = {
    "Uniform: weights": lambda share: gb.Uniform(preferences=[1 - share, share]),
    "STCH: weights of the maximum": lambda share: gb.STCH(mu=0.05, preferences=[1 - share, share]),
    "EPO: ratio of the losses": lambda share: gb.EPO(preferences=[1 - share, share]),
    "DBGD: first loss below a bound": lambda share: gb.DBGD({"0": share}),
}
# What is asked for is met where the first loss over the sum is the share, or for the bound where
# the first loss is no larger.


def run(make: Callable[[float], gb.Solver]) -> np.ndarray:
    """The losses [steps, shares, 2] that SGD passes."""
    path = descend(
        LANDSCAPE,
        [make(share) for share in SHARES],
        (START,) * len(SHARES),
        partial(torch.optim.SGD, lr=LR),
        num_steps=NUM_STEPS,
        every=20,
    )
    return LANDSCAPE.evaluate(path.reshape(-1, 2))[0].reshape(path.shape)


def table(results: dict) -> str:
    """A row for each share, the losses at the end for each method."""
    heads = ["share of the first loss", *results["methods"]]
    lines = [heads, ["---:"] * len(heads)]
    for i, share in enumerate(SHARES):
        ends = (found[i] for found in results["methods"].values())
        lines.append([f"{share:.1f}", *(f"{first:.2f}, {second:.2f}" for first, second in ends)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fill(page: str, results: dict) -> str:
    """The page with the table of these results between its marks."""
    return marks.fill(page, "fronts", table(results))


@style.context("gradbalance.pictures")
def draw(losses: dict[str, np.ndarray]) -> None:
    """The front, and the way to each end."""
    corners = LANDSCAPE.pareto_path()
    along = np.linspace(0, 1, 200)[:, None] * (corners[1] - corners[0]) + corners[0]
    front = LANDSCAPE.evaluate(along)[0]
    figure = Figure(figsize=(11, 3.1))
    axes = figure.subplots(1, len(losses), sharex=True, sharey=True)
    for axis, (title, path) in zip(axes, losses.items(), strict=True):
        axis.plot(*front.T, color="0.7", linewidth=5, solid_capstyle="round", zorder=1)
        axis.plot(*path.transpose(2, 0, 1), color="tab:blue", linewidth=0.8, alpha=0.6)
        axis.plot(*path[0, 0], "o", color="black", markersize=5)
        axis.plot(*path[-1].T, "D", color="tab:orange", markeredgecolor="black", markersize=6)
        axis.set_title(title)
        axis.set_aspect("equal")
    figure.get_layout_engine().set(h_pad=0.1)
    figure.supxlabel("first loss")
    figure.supylabel("second loss")
    figure.savefig(HERE / "fronts.png")


def main() -> None:
    """Run, write, draw."""
    losses = {title: run(make) for title, make in METHODS.items()}
    results = {
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "landscape": LANDSCAPE.description,
        "start": START,
        "steps": NUM_STEPS,
        "lr": LR,
        "shares": SHARES,
        "methods": {title: path[-1].round(4).tolist() for title, path in losses.items()},
    }
    (HERE / "fronts.json").write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(fill(PAGE.read_text(), results))
    draw(losses)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
