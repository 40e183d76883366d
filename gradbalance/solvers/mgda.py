"""MGDA: the minimum-norm vector in the convex hull of the gradients."""

from dataclasses import replace
from typing import Literal, final, get_args

import numpy as np

from gradbalance.numerics import min_norm_point
from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_choice, check_count, check_number
from gradbalance.solvers.inverse_norm import sizes_of
from gradbalance.solvers.options import PerTask, check_preferences, preferences_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver
from gradbalance.solvers.wrappers.scaled import scaled

Method = Literal["active_set", "frank_wolfe", "away_steps"]
Normalization = Literal["none", "l2", "loss", "loss+"]


@final
class MGDA(StatelessSolver):
    r"""Multiple-gradient descent: a common descent direction, along which no task's loss rises.

    .. math::
        u = \arg\min_{u \in \Delta} \Big\| \sum_i u_i \frac{g_i}{p_i \sigma_i} \Big\|^2,
        \qquad w_i \propto \frac{u_i}{p_i \sigma_i}, \quad \sum_i w_i = 1, \qquad d = J^\top w

    with g_i the rows of J [T, P], Δ the simplex, p [T] the preferences (ones by default), and σ [T]
    the normalisation: 1 ("none"), ‖g_i‖ ("l2"), L_i ("loss") or L_i‖g_i‖ ("loss+"). At the optimum
    ⟨g_i, d⟩ ≥ 0 for every task, and for tasks with u_i > 0 the first-order decreases ⟨g_i, d⟩ are
    proportional to p_i σ_i: a task with twice the preference decreases twice as fast. Without
    normalisation, the tasks with the smallest gradients get the largest weights.

    Args:
        method: the algorithm. "active_set" is exact; "frank_wolfe" is Algorithm 2 of
            arXiv 1810.04650 (with exact line search; slow near the optimum); "away_steps" converges
            linearly (arXiv 1511.05932).
        normalization: what each gradient is divided by before solving.
        preferences: one positive number per task, by name or in order.
        tol: the tolerance of the certificate, relative to ‖d‖²; see `numerics.min_norm_point`.
        max_steps: the limit of iterations; the default depends on `method`. The status reports
            whether it was reached.

    Raises:
        ValueError: an option is invalid, preferences do not fit the tasks, or a loss is not
            positive under "loss" or "loss+".

    Example:
        >>> import gradbalance as gb
        >>> solution = gb.MGDA().solve(gb.Problem.of([[4.0, 0.0], [0.0, 1.0]]))
        >>> solution.weights
        array([0.2, 0.8])
        >>> solution.status.value
        'converged'

    References:
        Désidéri 2012 (Comptes Rendus Mathématique 350); Sener & Koltun 2018, arXiv 1810.04650.

    Deviation: the official code solves for the normalised gradients and applies the solution to the
    raw losses, which conflicts with a task in about half of random draws. Here the weights are
    converted to the raw gradients (w_i = u_i/σ_i), which preserves the guarantee, and rescaled to
    sum to 1, so that the step does not explode as a loss goes to 0.
    """

    needs = "gramian"
    weighs = "gradients"

    @property
    def takes_zero_losses(self) -> bool:
        """Whether a loss of exactly 0 can be handled: not if gradients are divided by the loss."""
        return self.normalization not in ("loss", "loss+")

    def __init__(
        self,
        *,
        method: Method = "active_set",
        normalization: Normalization = "none",
        preferences: PerTask | None = None,
        tol: float = 1e-10,
        max_steps: int | None = None,
    ) -> None:
        check_choice("method", method, get_args(Method))
        check_choice("normalization", normalization, get_args(Normalization))
        check_preferences(preferences, positive=True)
        check_number("tol", tol, "[0, 1)")
        if max_steps is not None:
            check_count("max_steps", max_steps)
        self.method: Method = method
        self.normalization: Normalization = normalization
        self.preferences = preferences
        self.tol = tol
        self.max_steps = max_steps

    def solve(self, problem: Problem) -> Solution:
        """Compute weights in the simplex, with a certificate for each row."""
        if self.normalization == "none" and self.preferences is None:
            return self._shortest(problem.gramian)
        divisors = sizes_of(problem, self.normalization, "MGDA")
        divisors[divisors == 0] = 1.0  # a zero gradient stays one, whatever it is divided by
        divisors *= preferences_of(self.preferences, problem)
        # Only the ratios of the divisors matter. A power of two changes no digits, and the bound
        # keeps squares within float64.
        scales = 1 / np.maximum(np.ldexp(divisors, -int(np.frexp(divisors.max())[1])), 1e-100)
        solution = self._shortest(scaled(problem, scales).gramian)
        weights = solution.weights * scales
        return replace(solution, weights=weights / weights.sum())

    def _shortest(self, gram: Array) -> Solution:
        point = min_norm_point(gram, method=self.method, tol=self.tol, max_steps=self.max_steps)
        return Solution(*point)
