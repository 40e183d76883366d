"""DBGD: minimise some losses, and keep others below upper bounds."""

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
    r"""Dynamic barrier gradient descent: minimise some losses, with upper bounds on the others.

    .. math::
        d = \arg\min_d \|d - J^\top p\|^2 \;\text{ over }\; \langle g_i, d \rangle \ge \varphi_i
        \;\text{ for } i \in B, \qquad
        \varphi_i = \min\big(\alpha (L_i - b_i), \; \beta \|g_i\|^2\big)

    with L [T] the losses, g_i the rows of J [T, P], B the tasks with a bound b_i, and p [T] the
    preferences: by default 1 for tasks without a bound, and 0 for tasks with one. "Minimise A and
    keep B below b" is `DBGD({"B": b})`. A loss above its bound must decrease, the faster the
    further it is above; a loss below its bound may rise until it comes near the bound. If you set
    bounds of 0 for losses that cannot be negative, their tasks take priority: these losses are
    minimised, and the others only where this costs nothing.

    Args:
        bounds: the upper bounds b_i by task name; with none, d is the gradient of the losses' sum.
        alpha: α > 0; in a step of length lr along d, the distance of a loss to the bound below it
            shrinks by the fraction α·lr.
        beta: β > 0 limits how fast a loss above its bound must decrease, as a multiple of its
            decrease along its own gradient. This keeps steps finite far above the bound.
        preferences: one non-negative number per task, by name or in order, in place of p.

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

    Deviation: any number of bounds; the paper has one. If no direction satisfies all constraints,
    those that require a decrease are relaxed to "no rise", and the status is ill-posed.
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
        """Compute the preferences plus what the bounds require, with a certificate."""
        gram, losses = problem.gramian, problem.losses
        places = {name: position_of("bounds", name, problem) for name in self.bounds}
        rows = np.array([at for at in places.values() if at is not None], dtype=np.intp)
        bounds = np.array([self.bounds[name] for name, at in places.items() if at is not None])
        center = preferences_of(self.preferences, problem)
        if self.preferences is None:
            center[rows] = 0.0
        with np.errstate(over="ignore"):  # the distance to a bound may overflow to infinity
            falls = self.alpha * (losses[rows] - bounds)
        least = np.minimum(falls, self.beta * gram.diagonal()[rows])
        return Solution(*nearest_vector(gram, center, rows, least))
