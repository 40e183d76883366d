"""Draws the ranks of the methods."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

from benchmarks.tasks.scores import ranks


@style.context("gradbalance.pictures")
def draw_ranks(
    overall: Mapping[str, Any], suites: Mapping[str, Mapping[str, Any]], path: Path
) -> None:
    """Draw each method's mean rank by Δm, its rank in each suite, and the critical difference.

    Args:
        overall: the result of `tables.compared`.
        suites: the rows of each suite.
        path: file of the picture.
    """
    methods = sorted(overall["mean_rank"], key=lambda name: overall["mean_rank"][name])
    scores = np.array(
        [[rows[m].get("delta_m", [-np.inf])[0] for m in methods] for rows in suites.values()]
    )
    figure = Figure(figsize=(7, 0.24 * len(methods) + 1.6))
    axes = figure.subplots()
    places = np.arange(len(methods))
    for name, of_suite in zip(suites, ranks(scores), strict=True):
        axes.plot(of_suite, places, "o", markersize=4, alpha=0.7, label=name)
    means = [overall["mean_rank"][name] for name in methods]
    axes.plot(means, places, "k|", markersize=11, markeredgewidth=2.5, label="mean")
    apart = overall["critical_difference"]
    if apart is not None:
        ends = (means[0], means[0] + apart)
        axes.plot(ends, (-1, -1), "k-", linewidth=2)
        axes.text(ends[0], -1.2, "critical difference", fontsize=8, va="bottom")
    axes.set_yticks(places, methods)
    axes.set(ylim=(len(methods) - 0.5, -2.4), xlabel="rank by Δm (1 is best)")
    axes.grid(axis="x")
    figure.legend(loc="outside lower center", ncols=4)
    figure.savefig(path)
