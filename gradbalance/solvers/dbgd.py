"""DBGD: improve some losses, and keep others below their bounds."""

from collections.abc import Mapping
from typing import final

import numpy as np

from gradbalance.numerics import nearest_vector
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.options import (
    PerTask,
    check_per_task,
    check_preferences,
    position_of,
    preferences_of,
)
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class DBGD(StatelessSolver):
    r"""Dynamic barrier gradient descent: the sum of some losses, with bounds on the others.

    .. math::
        d = \arg\min_d \|d - J^\top p\|^2 \;\text{ over }\; \langle g_i, d \rangle \ge \varphi_i
        \;\text{ for } i \in B, \qquad
        \varphi_i = \min\big(\alpha (L_i - b_i), \; \beta \|g_i\|^2\big)

    with L [T] the losses, g_i the rows of J [T, P], B the tasks with a bound b_i, and p [T] the
    preferences: 1 for the tasks without a bound, 0 for those with one. "Improve A and keep B below
    b" is `DBGD({"B": b})`. Above its bound a loss must fall, the faster the further above; below it
    may rise, until it comes near. Bounds of 0 for losses that cannot be negative put their tasks
    first: they are brought to their least, and the others improved where that costs nothing.

    Args:
        bounds: b_i by name; none is the sum of the losses.
        alpha: α > 0: along d a loss above its bound comes nearer by the share α·lr in a step of
            length lr.
        beta: β > 0, at most how fast a loss above its bound must fall, as a multiple of what its
            own gradient would do. It keeps steps finite far from the bound.
        preferences: one non-negative number a task, by name or in order, in place of p.

    Raises:
        ValueError: an option is out of range, or there is no such task.

    Example:
        >>> import gradbalance as gb
        >>> solver = gb.DBGD({"0": 1.0})
        >>> gram = [[4.0, -1.0], [-1.0, 1.0]]
        >>> solver.solve(gb.Problem.of(gram, losses=[5.0, 1.0])).weights  # above: must fall by 4
        array([1.25, 1.  ])
        >>> solver.solve(gb.Problem.of(gram, losses=[0.0, 1.0])).weights  # below: may rise by 1
        array([0., 1.])

    References:
        Gong, Liu & Liu 2021, Bi-objective trade-off with dynamic barrier gradient descent,
        NeurIPS 2021.

    Deviation: any number of bounds; the paper has one. Where no direction satisfies all, those that
    ask for a fall ask for no rise instead, and the status is ill-posed.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(
        self,
        bounds: Mapping[str, float],
        *,
        alpha: float = 1.0,
        beta: float = 1.0,
        preferences: PerTask | None = None,
    ) -> None:
        if not isinstance(bounds, Mapping):
            raise ValueError(
                f"bounds must be a number for each task that has one, by name; found {bounds!r}"
            )
        check_per_task("bounds", bounds or None, "(-inf, inf)")
        check_number("alpha", alpha, "(0, inf)")
        check_number("beta", beta, "(0, inf)")
        check_preferences(preferences, positive=False)
        self.bounds = dict(bounds)
        self.alpha = alpha
        self.beta = beta
        self.preferences = preferences

    def solve(self, problem: Problem) -> Solution:
        """The preferences, and what the bounds ask for beside them, with a certificate."""
        gram, losses = problem.gramian, problem.losses
        places = {name: position_of("bounds", name, problem) for name in self.bounds}
        rows = np.array([at for at in places.values() if at is not None], dtype=np.intp)
        bounds = np.array([self.bounds[name] for name, at in places.items() if at is not None])
        center = preferences_of(self.preferences, problem)
        if self.preferences is None:
            center[rows] = 0.0
        with np.errstate(over="ignore"):  # a bound that is far off may be infinitely far
            falls = self.alpha * (losses[rows] - bounds)
        least = np.minimum(falls, self.beta * gram.diagonal()[rows])
        return Solution(*nearest_vector(gram, center, rows, least))
