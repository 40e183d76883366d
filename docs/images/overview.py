"""Draw overview.png: two tasks, one with gradients twenty times as large, summed and balanced.

python docs/images/overview.py
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gradbalance as gb

OPTIMA = {"large": (-1.0, 0.0), "small": (1.0, 0.0)}
STEEPNESS = {"large": 20.0, "small": 1.0}
STARTS = ((-0.35, 1.5), (0.9, 1.25), (0.4, -1.4))
COLORS = {"large": "tab:red", "small": "tab:blue"}


def descend(balancer: gb.Balancer, start: tuple[float, float]) -> np.ndarray:
    """The points [steps, 2] that SGD visits."""
    x = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=0.005)
    points = [x.detach().numpy().copy()]
    for _ in range(3000):
        losses = {
            task: STEEPNESS[task] * (x - torch.tensor(optimum)).square().sum()
            for task, optimum in OPTIMA.items()
        }
        optimizer.zero_grad()
        balancer.backward(losses)
        optimizer.step()
        points.append(x.detach().numpy().copy())
    return np.array(points)


def draw(axes: Axes, title: str, solver: gb.Solver) -> None:
    """The paths from all starts, over circles of equal loss."""
    x, y = np.meshgrid(np.linspace(-1.7, 1.7, 200), np.linspace(-1.7, 1.8, 200))
    for task, optimum in OPTIMA.items():
        distance = np.hypot(x - optimum[0], y - optimum[1])
        axes.contour(x, y, distance, levels=7, colors=COLORS[task], alpha=0.3, linewidths=0.8)
        axes.plot(*optimum, "*", color=COLORS[task], markersize=17, label=f"optimum, {task} task")
    axes.plot(
        (-1, 1),
        (0, 0),
        color="0.75",
        linewidth=6,
        zorder=0,
        label="Pareto set: one gains only at the other's cost",
    )
    for start in STARTS:
        path = descend(gb.Balancer(solver, gb.SharedParameters()), start)
        axes.plot(*path.T, "k-", linewidth=1.8)
        axes.plot(*path[0], "ko", markersize=5)
        axes.plot(*path[-1], "kD", markersize=7)
    axes.set(title=title, aspect="equal", xticks=[], yticks=[])


if __name__ == "__main__":
    style.use("gradbalance.pictures")
    figure = Figure(figsize=(9.5, 5.2))
    left, right = figure.subplots(1, 2)
    draw(left, "sum(losses).backward()", gb.Uniform())
    draw(right, "gb.Balancer(gb.MGDA()).backward(losses)", gb.MGDA())
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(Path(__file__).with_name("overview.png"))
