"""The time of a solver's call over the least that its NumPy calls cost, compared with quadprog.

The floor is one system of T equations, solved and checked by as few calls as that takes: a Cholesky
factorization with its solution (LAPACK's dposv), the sum, the scaled weights, their product with G,
wᵀGw, the gaps and the worst of them. It finds no active set, tries no scale and keeps no promise.
Each solver is timed beside it, draw by draw in one process on one thread, and so is quadprog; hence
all ratios have the same unit. `systems` is how many of them our call solved on the way. Medians,
with the quartiles in brackets.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.linalg.lapack import dposv  # type: ignore[import-untyped]

import gradbalance as gb
from benchmarks.accuracy import Array
from benchmarks.environment import environment, heading
from benchmarks.peers import Draw
from benchmarks.results import write_json
from benchmarks.solvers import NUM_TIMED, ROWS, draws
from benchmarks.timing import Call, as_text, compare

METHODS = ("MGDA", "UPGrad", "DualProj")
FAMILIES = ("iid", "condition_1e6")
SIZES = (2, 4, 8, 16)


def floor(gram: Array, ones: Array) -> float:
    """The worst gap of the point of least norm in the affine hull of all rows."""
    _, solution, _ = dposv(gram.T, ones)
    weights = solution / solution.dot(ones)
    products = gram.dot(weights)
    gaps = weights.dot(products) - products
    return float(gaps[gaps.argmax()])


def measured(method: str, family: str, num_tasks: int, budget: float) -> dict[str, Any]:
    """One method on one family: its call and quadprog's call, each compared with the floor."""
    drawn = draws(family, num_tasks, NUM_TIMED)
    problems = [gb.Problem.of(draw.gram) for draw in drawn]
    solver = ROWS[method].ours()
    floors: list[Call] = [partial(floor, draw.gram, np.ones(num_tasks)) for draw in drawn]
    ours: list[Call] = [partial(solver.solve, problem) for problem in problems]
    found = compare(floors, ours, budget)
    assert found.theirs is not None
    assert found.ratio is not None
    row = {
        "method": method,
        "family": family,
        "tasks": num_tasks,
        "systems": float(np.mean([solver.solve(problem).num_steps for problem in problems])),
        "floor_us": vars(found.ours),
        "ours_us": vars(found.theirs),
        "ours_over_floor": vars(found.ratio),
    }
    (quadprog,) = (peer for peer in ROWS[method].peers if peer.label == "quadprog")
    if quadprog.missing:
        return row
    solve = quadprog.make(num_tasks)

    def theirs(draw: Draw) -> object:
        return solve(draw)

    beside = compare(floors, [partial(theirs, draw) for draw in drawn], budget)
    if beside.theirs is None or beside.ratio is None:
        return row
    return {**row, "quadprog_us": vars(beside.theirs), "quadprog_over_floor": vars(beside.ratio)}


def as_markdown(result: dict[str, Any]) -> str:
    """The result as a page."""
    forms = {
        "floor_us": ".1f",
        "ours_us": ".1f",
        "ours_over_floor": ".1f",
        "quadprog_us": ".1f",
        "quadprog_over_floor": ".1f",
    }
    lines = [
        *heading("A solver's call and the floor of NumPy's", __doc__, result["environment"]),
        "",
        "| method | gradients | tasks | systems | floor, µs | ours, µs | ours / floor "
        "| quadprog, µs | quadprog / floor |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in result["found"]:
        cells = [as_text(row[key], form) if key in row else "–" for key, form in forms.items()]
        first = f"| {row['method']} | {row['family']} | {row['tasks']} | {row['systems']:.1f} | "
        lines.append(f"{first}{' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--budget", type=float, default=1.0, help="seconds a pair")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [
        measured(method, family, num_tasks, options.budget)
        for method in METHODS
        for family in FAMILIES
        for num_tasks in SIZES
    ]
    result = {"environment": environment(), "found": found}
    write_json(options.out / "numpy_floor.json", result)
    (options.out / "numpy_floor.md").write_text(as_markdown(result))


if __name__ == "__main__":
    main()
