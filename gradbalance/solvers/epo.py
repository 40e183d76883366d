"""EPO: approach the point of the Pareto front where the weighted losses are equal."""

from typing import cast, final

import numpy as np
from scipy.optimize import linprog  # type: ignore[import-untyped]

from gradbalance.numerics import Status
from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.options import PerTask, check_losses, check_preferences, preferences_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver

_NOISE = 1e-12  # the balancing direction is rounding if it is smaller, relative to the preferences


@final
class EPO(StatelessSolver):
    r"""Exact Pareto optimal search: you choose the ratio of the final losses, L_i ∝ 1/p_i.

    .. math::
        \hat L = \frac{p \circ L}{\sum_j p_j L_j}, \quad
        \mu = \sum_i \hat L_i \log(T \hat L_i), \quad
        a = p \circ (\log(T \hat L) - \mu), \qquad
        w = \arg\max_{w \in \Delta} \; a^\top G w \;\text{ or }\; 1^\top G w

    with L [T] the losses, G [T, T] the Gramian, Δ the simplex, and p [T] the preferences. A
    weighted sum of losses cannot reach the concave parts of a Pareto front, whatever its weights;
    this method approaches the point of the front where p_i L_i is the same for all tasks. As long
    as these are uneven (μ above `tol`), the step balances them, with the first objective: small
    p_i L_i may rise, but the largest may not, and none more than balancing requires. Once they are
    even, all losses decrease, with the second objective and (Gw)_i ≥ 0, and the losses stay even if
    these constraints leave a choice.

    Args:
        preferences: p, one positive number per task, by name or in order; ones by default. A task
            with twice the preference ends at half the loss.
        tol: the largest divergence μ of L̂ from equal shares that counts as even; > 0.

    Raises:
        ValueError: an option is out of range, preferences do not fit the tasks, or a loss is not
            positive.

    Example:
        >>> import gradbalance as gb
        >>> problem = gb.Problem.of([[4.0, -1.0], [-1.0, 1.0]], losses=[1.0, 3.0])
        >>> gb.EPO().solve(problem).weights  # only the larger loss
        array([0., 1.])
        >>> gb.EPO(preferences=[3.0, 1.0]).solve(problem).weights  # already even: both decrease
        array([0.5, 0.5])

    References:
        Mahapatra & Rajan 2020, Multi-task learning with user preferences: gradient descent with
        controlled ascent in Pareto optimization, ICML 2020; arXiv 2108.00597 is its long version.

    Deviation: p is rescaled to the mean 1, because a, and with it the bounds on a rise, would grow
    with p. Each row of the constraints is rescaled to the same size, because the tolerance of the
    linear program is absolute. If there is no solution, the official code returns p/Σp; here the
    problem is solved again with bounds that let no loss rise, which always has a solution. The
    official code multiplies the weights by T, and for toy problems by a further factor.
    """

    needs = "gramian"
    weighs = "gradients"
    takes_zero_losses = False

    def __init__(self, *, preferences: PerTask | None = None, tol: float = 1e-4) -> None:
        check_preferences(preferences, positive=True)
        check_number("tol", tol, "(0, inf)")
        self.preferences = preferences
        self.tol = tol

    def solve(self, problem: Problem) -> Solution:
        """Compute weights in the simplex, with a linear program."""
        check_losses(problem, "EPO takes logarithms of the losses' shares", positive=True)
        preferences = preferences_of(self.preferences, problem)
        preferences = preferences / preferences.mean()
        uneven, anchor = anchor_of(problem.losses, preferences)
        gram = problem.gramian
        norms = np.sqrt(gram.diagonal())
        if not norms.any():
            return Solution(preferences / preferences.sum(), Status.STATIONARY)
        slopes = gram @ anchor
        rows, least = gram, cast(Array, np.zeros(norms.size))
        if uneven > self.tol:
            objective = slopes
            if (slopes > 0).any():
                least = np.where(slopes > 0, -np.inf, slopes)
                shares = preferences * problem.losses
                least[shares == shares.max()] = 0.0
        else:
            objective = gram.sum(axis=0)
            if np.abs(anchor).max() > _NOISE * preferences.max():
                rows = np.vstack([gram, slopes])
                least = np.append(least, min(float(slopes.max()), 0.0))
        found = _best_in_simplex(objective, rows, least)
        if found is None:
            found = _best_in_simplex(objective, gram, np.zeros(norms.size))
        if found is None:  # because of rounding, if the gradients nearly cancel
            return Solution(preferences / preferences.sum(), Status.ILL_POSED)
        return Solution(found)


def anchor_of(losses: Array, preferences: Array) -> tuple[float, Array]:
    """The unevenness μ of the weighted losses, and the weights a of gradients that reduces it.

    Args:
        losses: L [T], positive.
        preferences: p [T], positive.
    """
    shares = preferences * (losses / losses.max())
    shares = shares / shares.sum()
    logs = np.log(np.maximum(shares.size * shares, np.finfo(float).tiny))
    uneven = float(shares @ logs)
    return uneven, preferences * (logs - uneven)


def _best_in_simplex(objective: Array, rows: Array, least: Array) -> Array | None:
    """The w in the simplex with the largest objective @ w, subject to rows @ w ≥ least, or None.

    Each row is rescaled to size 1, because the tolerance of the solver is absolute.
    """
    sizes = np.abs(rows).max(axis=1)
    kept = (sizes > 0) & np.isfinite(least)
    size = np.abs(objective).max() or 1.0
    result = linprog(
        -objective / size,
        A_ub=-rows[kept] / sizes[kept, None],
        b_ub=-least[kept] / sizes[kept],
        A_eq=np.ones((1, objective.size)),
        b_eq=[1.0],
        method="highs-ds",
    )
    if result.x is None or not result.success:
        return None
    weights: Array = np.maximum(result.x, 0.0)
    weights /= weights.sum()
    return weights
