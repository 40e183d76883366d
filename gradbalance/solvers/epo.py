"""EPO: towards the point of the Pareto front where the weighted losses are equal."""

from typing import cast, final

import numpy as np
from scipy.optimize import linprog  # type: ignore[import-untyped]

from gradbalance.numerics import Status
from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.options import PerTask, check_losses, check_preferences, preferences_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver

_NOISE = 1e-12  # of what evens the losses, beside the preferences: less is rounding


@final
class EPO(StatelessSolver):
    r"""Exact Pareto optimal search: the losses' ratio is chosen, L_i ∝ 1/p_i.

    .. math::
        \hat L = \frac{p \circ L}{\sum_j p_j L_j}, \quad
        \mu = \sum_i \hat L_i \log(T \hat L_i), \quad
        a = p \circ (\log(T \hat L) - \mu), \qquad
        w = \arg\max_{w \in \Delta} \; a^\top G w \;\text{ or }\; 1^\top G w

    with L [T] the losses, G [T, T] the Gramian, the simplex Δ and the preferences p [T]. Linear
    scalarisation finds no point of a front that is concave, whatever its weights; this method goes
    to where p_i L_i is the same for all tasks. While the losses are far from that (μ above `tol`),
    the step evens them out: the first objective, under which p_i L_i may rise where it is small,
    but the largest may not, nor a loss more than evening out asks for. Near it all losses fall: the
    second objective, with (Gw)_i ≥ 0, and evenness is not given up where that leaves any choice.

    Args:
        preferences: p, one positive number a task, by name or in order; ones by default. A task
            with twice the preference ends at half the loss.
        tol: how uneven, as the divergence μ of L̂ from even shares, counts as even; > 0.

    Raises:
        ValueError: an option is out of range, preferences do not fit, or a loss is not positive.

    Example:
        >>> import gradbalance as gb
        >>> problem = gb.Problem.of([[4.0, -1.0], [-1.0, 1.0]], losses=[1.0, 3.0])
        >>> gb.EPO().solve(problem).weights  # the larger loss alone
        array([0., 1.])
        >>> gb.EPO(preferences=[3.0, 1.0]).solve(problem).weights  # even as it is: both fall
        array([0.5, 0.5])

    References:
        Mahapatra & Rajan 2020, Multi-task learning with user preferences: gradient descent with
        controlled ascent in Pareto optimization, ICML 2020; arXiv 2108.00597 is its long version.

    Deviation: p is brought to the mean 1, for with a the bounds on a rise would grow with it. Each
    row of the constraints is brought to one size, as the linear program's tolerance is absolute.
    Where there is no solution, which the official code answers with p/Σp, the bounds are those of
    a step along which no loss rises, and there always is one. The official code multiplies by T,
    and by a further factor for the toys.
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
        """Weights in the simplex, from one linear program."""
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
        if found is None:  # by rounding, where gradients all but balance
            return Solution(preferences / preferences.sum(), Status.ILL_POSED)
        return Solution(found)


def anchor_of(losses: Array, preferences: Array) -> tuple[float, Array]:
    """How uneven the weighted losses are, μ, and the combination of gradients that evens them, a.

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
    """The w in the simplex with the largest product, over rows @ w ≥ least; None if there is none.

    Each row is brought to size 1: the solver's tolerance is absolute.
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
