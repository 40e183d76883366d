"""What a method's weights must keep whatever happens: where steps run out, and at any precision."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

import gradbalance as gb
from gradbalance.numerics import Status
from gradbalance.testing import FAMILIES

Keeps = Callable[[gb.Problem, gb.Solution], bool]


def in_simplex(problem: gb.Problem, solution: gb.Solution) -> bool:
    """MGDA's: none negative, of sum 1."""
    weights = solution.weights
    return bool((weights >= 0).all()) and abs(weights.sum() - 1) <= 1e-12


def positive(problem: gb.Problem, solution: gb.Solution) -> bool:
    """Those of the barrier methods: inside the barrier; at rest they may be on it."""
    at_rest = solution.status is Status.STATIONARY
    return bool((solution.weights >= 0).all()) and (at_rest or bool((solution.weights > 0).all()))


def at_least_the_mean(problem: gb.Problem, solution: gb.Solution) -> bool:
    """Those of the projections onto the cone: what is projected, and more."""
    return bool((solution.weights >= 1 / len(problem.names)).all())


def within(radius: float) -> Keeps:
    """CAGrad's: near the mean, ‖d − g₀‖ ≤ c‖g₀‖.

    Lengths are those of the nearest Gramian: where rounding has left negative eigenvalues, any
    weights could be had for nothing.
    """

    def keeps(problem: gb.Problem, solution: gb.Solution) -> bool:
        gram, mean = problem.gramian, np.full(len(problem.names), 1 / len(problem.names))
        norms = np.sqrt(gram.diagonal())
        divisors = np.where(norms > 0, norms, 1)
        values, vectors = np.linalg.eigh(gram / np.outer(divisors, divisors))
        offset = (solution.weights - mean) * norms
        square = float(np.maximum(values, 0) @ (offset @ vectors) ** 2)
        rounding = 6 * len(norms) * np.finfo(float).eps * float(np.abs(offset).sum()) ** 2
        return square <= radius**2 * float(mean @ gram @ mean) * (1 + 1e-9) + rounding

    return keeps


MAKERS: dict[str, tuple[Callable[[], gb.Solver], Keeps]] = {
    "UPGrad": (gb.UPGrad, at_least_the_mean),
    "DualProj": (gb.DualProj, at_least_the_mean),
    "CAGrad-0.5": (gb.CAGrad, within(0.5)),
    "CAGrad-1": (partial(gb.CAGrad, c=1.0), within(1.0)),
    "CAGrad-2": (partial(gb.CAGrad, c=2.0), within(2.0)),
}
for limit in (0, 1, 2, 60):
    for method in ("active_set", "frank_wolfe", "away_steps"):
        make = partial(gb.MGDA, method=method, max_steps=limit)
        MAKERS[f"MGDA-{method}-{limit}"] = (make, in_simplex)
    MAKERS[f"NashMTL-{limit}"] = (partial(gb.NashMTL, max_steps=limit), positive)
    MAKERS[f"FairGrad-2-{limit}"] = (partial(gb.FairGrad, alpha=2.0, max_steps=limit), positive)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_weights_keep_the_methods_constraint(name: str, dtype: torch.dtype) -> None:
    make, keeps = MAKERS[name]
    for family, num_tasks in [(f, t) for f in FAMILIES for t in (2, 3, 8)]:
        jac = FAMILIES[family](np.random.default_rng([1, num_tasks]), num_tasks)
        rows = torch.from_numpy(jac / (np.abs(jac).max() or math.inf)).to(dtype)
        problem = gb.Problem.of(rows @ rows.T)
        solution = make().solve(problem)
        assert np.isfinite(solution.weights).all(), (family, num_tasks, solution)
        assert keeps(problem, solution), (family, num_tasks, solution)
