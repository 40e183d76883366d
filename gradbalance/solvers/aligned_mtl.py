"""Aligned-MTL: replace the gradients by the closest orthogonal ones of equal length."""

from typing import Literal, final, get_args

import numpy as np

from gradbalance.numerics import Status, spectrum
from gradbalance.numerics.checks import check_choice, check_number
from gradbalance.solvers.options import PerTask, check_preferences, shares_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver

ScaleMode = Literal["min", "median", "rmse"]


@final
class AlignedMTL(StatelessSolver):
    r"""Independent component alignment: the closest system of gradients with condition number 1.

    .. math::
        G = V \Lambda V^\top, \qquad
        w = \sqrt{\lambda}\, V \Lambda^{-1/2} V^\top p, \qquad d = J^\top w

    with G [T, T] the Gramian of the rows of J [T, P], Λ its r positive eigenvalues, λ the smallest,
    median or mean one of them, and p [T] the preferences divided by their sum (1/T each by
    default). √λ V Λ^(−½) Vᵀ J is the system closest to J among all systems of orthogonal rows of
    length √λ; d is the mean of its rows, weighted by p. No task's loss is guaranteed to decrease:
    if the gradients are far from orthogonal, the aligned ones are far from the gradients.

    Args:
        scale_mode: how λ is chosen: the smallest eigenvalue ("min"), the median ("median", the
            lower of two) or the mean ("rmse"). It affects only the length of the direction.
        preferences: one non-negative number per task, by name or in order.
        rank_tol: eigenvalues below rank_tol·λ_max count as zero. Gradients with a relative error
            η cause noise of about η²·λ_max: 1e-12 suits float32, 1e-9 bfloat16. A task whose whole
            gradient is shorter than √rank_tol of the longest is dropped with the noise.

    Raises:
        ValueError: preferences do not fit the tasks, or an option is invalid.

    Example:
        >>> import gradbalance as gb
        >>> gb.AlignedMTL().solve(gb.Problem.of([[4.0, 0.0], [0.0, 1.0]])).weights
        array([0.25, 0.5 ])

    References:
        Senushkin et al. 2023, arXiv 2305.19000.

    Deviation: the official implementations sum the aligned gradients, which is T times the mean
    used here; `Balancer(scale="norm")` removes the factor. Their rank_tol is T times the unit
    roundoff of float32, because they sum the Gramian in float32; here it is summed in float64, and
    only the error of the rows matters. If all gradients are zero, the weights are p and the status
    is stationary.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(
        self,
        *,
        scale_mode: ScaleMode = "min",
        preferences: PerTask | None = None,
        rank_tol: float = 1e-12,
    ) -> None:
        check_choice("scale_mode", scale_mode, get_args(ScaleMode))
        check_preferences(preferences, positive=False)
        check_number("rank_tol", rank_tol, "(0, 1)")
        self.scale_mode: ScaleMode = scale_mode
        self.preferences = preferences
        self.rank_tol = rank_tol

    def solve(self, problem: Problem) -> Solution:
        """Compute the weights in closed form, from one eigendecomposition."""
        wanted = shares_of(self.preferences, problem)
        values, vectors = spectrum(problem.gramian, rank_tol=self.rank_tol)
        if values.size == 0:
            return Solution(wanted, Status.STATIONARY)
        middle = (values.size - 1) // 2
        scale = {"min": values[0], "median": values[middle], "rmse": values.mean()}[self.scale_mode]
        return Solution(vectors @ (np.sqrt(scale / values) * (vectors.T @ wanted)))
