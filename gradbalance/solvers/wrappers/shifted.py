"""Shifted: use losses that may be negative with methods that need positive ones."""

from dataclasses import replace
from typing import final

import numpy as np

from gradbalance.solvers.hooks import AfterStep, listeners
from gradbalance.solvers.options import PerTask, check_per_task, per_task
from gradbalance.solvers.solver import Problem, Solution, Solver, losses_in_range
from gradbalance.solvers.wrappers.wrapper import Wrapper


@final
class Shifted(Wrapper):
    r"""Subtract a lower bound from each loss, for methods that need positive losses.

    .. math:: w = \mathrm{solver}(L - b, \; G)

    with L [T] the losses, b [T] constants below every value of the losses, and G [T, T] the
    Gramian, which does not depend on b. Methods with logarithms, ratios or products (`UW`, `IMTLL`,
    `GLS`, `SI`, `DWA`, `GradNorm`, `DBMTL`, …) cannot handle a negative loss, such as a
    log-likelihood, a negative similarity or a loss minus an entropy; the objective of uncertainty
    weighting, for example, is then unbounded below. The choice of b matters, because these methods
    respond to relative changes: near its minimum a shifted loss gets a large weight. Choose the
    smallest value that the loss can reach, such as -1 for a negative cosine.

    Args:
        solver: the wrapped method. `FAMO` has its own option `min_losses`.
        min_losses: b, one number for all tasks, or one number per task, by name or in order.

    Raises:
        ValueError: `solver` is not a solver, or needs the losses after the step; the bounds do not
            fit the tasks; or a loss is below its bound.

    Example:
        >>> import gradbalance as gb
        >>> solver = gb.Shifted(gb.SI(), min_losses=[-1.0, 0.0])
        >>> solver.solve(gb.Problem.of(losses=[-0.8, 2.0])).weights.round(3)
        array([5. , 0.5])

    References:
        FAMO's constant b (Liu et al. 2023, arXiv 2306.03792), here for any method.
    """

    def __init__(self, solver: Solver, *, min_losses: float | PerTask) -> None:
        super().__init__(solver)
        given = [min_losses] if isinstance(min_losses, int | float) else min_losses
        check_per_task("min_losses", () if given is None else given, "(-inf, inf)")
        for listener in listeners(solver, AfterStep):
            raise ValueError(
                f"{type(listener).__name__} is told the losses after the step as they are, so they "
                f"cannot be shifted around it: use {type(listener).__name__}(min_losses=...)"
            )
        self.min_losses = min_losses

    def _seen(self, problem: Problem) -> Problem:
        given = self.min_losses
        if isinstance(given, int | float):
            given = [given] * len(problem.tasks)
        bounds = per_task("min_losses", given, problem, 0.0)
        shifted = problem.losses - bounds
        if shifted.min() < 0:
            i = int(np.argmin(shifted))
            raise ValueError(
                f"the loss of task {problem.names[i]!r} is {problem.losses[i]:g}, below its least "
                f"possible value of {bounds[i]:g} in min_losses: give a lower one"
            )
        return replace(problem, losses=losses_in_range(shifted))

    def solve(self, problem: Problem) -> Solution:
        """Solve with the shifted losses."""
        return self.solver.solve(self._seen(problem))
