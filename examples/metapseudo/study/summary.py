"""The tables of a study: mean ± standard deviation, and differences paired by seed."""

from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np

from examples.common.intervals import interval
from examples.common.markdown import table_lines
from examples.metapseudo.gaps import GapName
from examples.metapseudo.mapping import MapName
from examples.metapseudo.run.tables import (
    MEASURES,
    Results,
    budgets,
    last,
    of_seeds,
    spread,
    table,
    title,
    variants,
)
from examples.metapseudo.study.plan import BLURRED

# Pairs of variants: first for what optimised latents are worth, then for what changes them.
PAIRS = (
    *((f"{name}-gap", f"{name}-random") for name in ("consistency", "freematch")),
    *((f"{name}-gap", "labels") for name in ("consistency", "freematch")),
    *((f"{name}-gap", f"{name}-real") for name in ("consistency", "freematch")),
    ("p-ssl", "freematch-random"),
    ("validation", "consistency-random"),
    *((name, "consistency-gap") for name in ("validation", "both", "both-finite")),
    ("both-balanced", "both"),
    ("paper", "consistency-random"),
    ("paper", "consistency-gap"),
    *((f"{name}-random{BLURRED}", f"{name}-random") for name in ("consistency", "freematch")),
    *((f"{name}-gap{BLURRED}", f"{name}-gap") for name in ("consistency", "freematch")),
    *((f"{name}-gap{BLURRED}", "labels") for name in ("consistency", "freematch")),
)
PAIRED = (
    "Differences of accuracy paired by seed, in percentage points: the mean, its 95 % confidence "
    "interval (Student's), and in how many seeds the first is better:"
)


def as_markdown(results: Results, command: str) -> str:
    """Return the tables of a study: one for each measure, and one of the differences.

    Args:
        results: Results of runs.
        command: The command that made them.
    """
    lines = ["```", command, "```", "", f"{title(results)}:"]
    for measure in MEASURES:
        header, rows = table(results, [measure])
        if rows:
            lines += ["", *table_lines(header, rows)]
    rows = list(_differences(results))
    if rows:
        header = ["difference", *(f"{labels} labels" for labels in budgets(results))]
        lines += ["", PAIRED, "", *table_lines(header, rows)]
    return "\n".join(lines) + "\n"


def of_latents(results: Results, command: str) -> str:
    """Return the table of gaps and maps, with the share of target-like samples.

    Args:
        results: Results of runs of which only the map was found.
        command: The command that made them.
    """
    names = get_args(MapName)
    shares = {
        variant: [
            [record["target_like"] for record in result["latents"]]
            for result in results
            if result["config"]["variant"] == variant
        ]
        for variant in variants(results)
    }
    start = dict(enumerate(share[0] for share in next(iter(shares.values()))))
    rows = [["none (random latents)", *[spread(start, "target_like")] * len(names)]]
    for gap in get_args(GapName):
        ends = [
            dict(enumerate(share[-1] for share in shares.get(f"{gap}-{name}", [])))
            for name in names
        ]
        rows.append([gap, *(spread(values, "target_like") for values in ends)])
    steps = results[0]["config"]["map_steps"]
    text = f"Target-like samples (%) after {steps} steps of the map, {of_seeds(len(start))}"
    lines = ["```", command, "```", "", f"{text}:", ""]
    lines += table_lines(["gap", *(f"{name} map" for name in names)], rows)
    return "\n".join(lines) + "\n"


def _differences(results: Results) -> Iterable[list[str]]:
    for one, other in PAIRS:
        cells = [_difference(results, one, other, labels) for labels in budgets(results)]
        if any(cell != "–" for cell in cells):
            yield [f"{one} − {other}", *cells]


def _difference(results: Results, one: str, other: str, labels: int) -> str:
    first, second = (last(results, name, labels, "accuracy") for name in (one, other))
    both: Sequence[int] = sorted(first.keys() & second.keys())
    if len(both) < 2:
        return "–"
    values = 100 * np.array([first[seed] - second[seed] for seed in both])
    mean, low, high = interval(values)
    better = f"{int((values > 0).sum())} of {len(both)}"
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f}), {better}"
