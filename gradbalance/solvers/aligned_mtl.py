"""Aligned-MTL: gradients made orthogonal and equally long, as near to themselves as can be."""

from typing import Literal, final, get_args

import numpy as np

from gradbalance.numerics import Status, spectrum
from gradbalance.numerics.checks import check_choice, check_number
from gradbalance.solvers.options import PerTask, check_preferences, shares_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver

ScaleMode = Literal["min", "median", "rmse"]


@final
class AlignedMTL(StatelessSolver):
    r"""Independent component alignment: a system of gradients of condition number 1.

    .. math::
        G = V \Lambda V^\top, \qquad
        w = \sqrt{\lambda}\, V \Lambda^{-1/2} V^\top p, \qquad d = J^\top w

    with the Gramian G [T, T] of the rows of J [T, P], its r positive eigenvalues Λ, of which λ is
    the smallest, the median or the mean, and the preferences p [T] brought to Σp = 1 (1/T each by
    default). Among orthogonal systems of rows of one length √λ, √λ V Λ^(−½) Vᵀ J is the one nearest
    to J; d is its mean weighted by p. Promises no task a decrease: where the gradients are far from
    orthogonal, so are the aligned ones from them.

    Args:
        scale_mode: λ: the smallest eigenvalue ("min"), their median ("median", the lower of two) or
            their mean ("rmse"). The length of the direction is all that depends on it.
        preferences: one non-negative number a task, by name or in order.
        rank_tol: eigenvalues below rank_tol·λ_max count as zero. Gradients with a relative error
            η put noise at about η²·λ_max: 1e-12 suits float32, 1e-9 bfloat16. A task whose whole
            gradient is shorter than √rank_tol of the longest is dropped with the noise.

    Raises:
        ValueError: preferences do not fit, or an option is unknown or out of range.

    Example:
        >>> import gradbalance as gb
        >>> gb.AlignedMTL().solve(gb.Problem.of([[4.0, 0.0], [0.0, 1.0]])).weights
        array([0.25, 0.5 ])

    References:
        Senushkin et al. 2023, arXiv 2305.19000.

    Deviation: the official codes sum the aligned gradients, which is T times their mean here;
    `Balancer(scale="norm")` takes the factor out. They take the unit of float32 times T for
    rank_tol, because their Gramian is summed in float32; here it is summed in float64, and only
    the rows' error counts.
    Where all gradients are zero the weights are p and the status is stationary.
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
        """The weights in closed form, from one eigendecomposition."""
        wanted = shares_of(self.preferences, problem)
        values, vectors = spectrum(problem.gramian, rank_tol=self.rank_tol)
        if values.size == 0:
            return Solution(wanted, Status.STATIONARY)
        middle = (values.size - 1) // 2
        scale = {"min": values[0], "median": values[middle], "rmse": values.mean()}[self.scale_mode]
        return Solution(vectors @ (np.sqrt(scale / values) * (vectors.T @ wanted)))
