"""The picture of a study: the errors of all runs, by method."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from examples.common.solvers import build_solver
from examples.pinn.problems import PROBLEMS
from examples.pinn.study.methods import ANNEALING
from examples.pinn.study.tables import errors, names

_KINDS = {
    "plain sum": "black",
    "weights by hand": "0.6",
    "on gradients": "C0",
    "on losses": "C1",
}


@style.context("gradbalance.pictures")
def draw_comparison(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the errors of all runs, with one row per method and the best method at the top.

    Args:
        results: The results of runs of one problem.
        path: File of the picture.
    """
    runs = [dict(result) for result in results]
    by_name = {name: np.array(list(errors(runs, name).values())) for name in names(runs)}
    configs = {run["config"]["name"]: run["config"] for run in runs}
    ordered = sorted(by_name, key=lambda name: float(np.exp(np.log(by_name[name]).mean())))
    figure = Figure(figsize=(8, 1.8 + 0.24 * len(ordered)))
    axes = figure.add_subplot()
    for row, name in enumerate(ordered):
        colour = _KINDS[_kind(configs[name])]
        found = by_name[name]
        axes.plot(found, np.full(len(found), row), "o", color=colour, markersize=4, alpha=0.6)
        axes.plot(np.exp(np.log(found).mean()), row, "|", color=colour, markersize=13, mew=2)
    axes.set_yticks(range(len(ordered)), ordered)
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.set(xscale="log", xlabel="relative L2 error: a dot a seed, a bar their geometric mean")
    axes.set_title(PROBLEMS[runs[0]["config"]["problem"]]().title)
    axes.grid(which="both", axis="x")
    axes.grid(alpha=0.15, axis="y")
    handles = [Line2D([], [], marker="o", linestyle="", color=c) for c in _KINDS.values()]
    figure.legend(handles, list(_KINDS), loc="outside lower center", ncols=len(_KINDS))
    figure.savefig(path)


def _kind(config: Mapping[str, Any]) -> str:
    if config["solver"] == ANNEALING:
        return "on gradients"
    if config["solver"] == "Uniform":
        return "plain sum" if config["factor"] == 1 else "weights by hand"
    return "on losses" if build_solver(config["solver"]).needs == "losses" else "on gradients"
