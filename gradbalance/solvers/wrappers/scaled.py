"""Scaled: apply a gradient method to scaled losses, such as IMTL-G to those scaled by IMTL-L."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np

from gradbalance.numerics import gramian_of_rows
from gradbalance.numerics.array import Array
from gradbalance.solvers.solver import Needs, Problem, Solution, Solver, State
from gradbalance.solvers.state import checked_state
from gradbalance.solvers.wrappers.wrapper import (
    HELD,
    Wrapper,
    check_needs_gramian,
    check_solver_instance,
    load_state,
    state_of,
)


@final
class Scaled(Wrapper):
    r"""Apply a gradient method to scaled losses; the scales are the weights of another method.

    .. math:: u = \mathrm{solver}(D L, \; D G D), \qquad w = D u, \qquad D = \operatorname{diag}(s)

    with L [T] the losses, G [T, T] the Gramian of their gradients, and s [T] ≥ 0 the scales, which
    are the weights of the method `by` at the same step. Common combinations have this form: IMTL is
    `Scaled(IMTLG(), by=IMTLL())`; uncertainty weighting with conflict-free directions is
    `Scaled(UPGrad(), by=UW())`; and with `Scaled(solver, by=InverseNorm())` any method sees
    gradients of equal length.

    The guarantees and the certificate of `solver` still hold, since ⟨s_i g_i, d⟩ ≥ 0 is equivalent
    to ⟨g_i, d⟩ ≥ 0. A task with scale 0 gets the weight 0. Each head keeps its raw gradient without
    the scale, as with any method on gradients.

    Args:
        solver: a method that needs the Gramian.
        by: a method on losses or gradients whose weights are never negative.

    Raises:
        ValueError: either is not a solver, `solver` needs only losses, or a scale is negative.

    Example:
        >>> import gradbalance as gb
        >>> problem = gb.Problem.of([[100.0, -5.0], [-5.0, 1.0]])
        >>> gb.UPGrad().solve(problem).weights
        array([0.525, 3.   ])
        >>> gb.Scaled(gb.UPGrad(), by=gb.InverseNorm()).solve(problem).weights.round(4)
        array([0.1364, 1.3636])

    References:
        Liu et al. 2021, Towards impartial multi-task learning, ICLR 2021, for the combination of
        IMTL-L and IMTL-G.

    Deviation: in IMTL the heads are trained on the scaled losses. With an optimizer that divides by
    the size of gradients, such as Adam, this makes no difference.
    """

    def __init__(self, solver: Solver, *, by: Solver) -> None:
        super().__init__(solver)
        check_solver_instance("by", by)
        check_needs_gramian("solver", solver, such_as="UPGrad()")
        self.by = by

    @property
    def needs(self) -> Needs:
        """The Gramian, which at least `solver` needs."""
        return "gramian"

    @property
    def takes_zero_losses(self) -> bool:
        """Whether both methods can handle losses of exactly 0."""
        return self.solver.takes_zero_losses and self.by.takes_zero_losses

    def _scales(self, problem: Problem) -> Array:
        scales = self.by.solve(problem).weights
        if scales.min() < 0:
            raise ValueError(
                f"{self.by.name} gives scales, which must not be negative; found {scales.tolist()} "
                f"for the tasks {list(problem.names)}"
            )
        return scales

    def _seen(self, problem: Problem) -> Problem:
        return scaled(problem, self._scales(problem))

    def solve(self, problem: Problem) -> Solution:
        """Return the weights of `solver` times the scales, with its certificate."""
        scales = self._scales(problem)
        found = self.solver.solve(scaled(problem, scales))
        weights = np.zeros(scales.size)
        if scales.any():
            weights[scales > 0] = found.weights * scales[scales > 0]
        return replace(found, weights=weights)

    def update(self, problem: Problem, solution: Solution) -> None:
        """Update both methods."""
        super().update(problem, solution)
        self.by.update(problem, self.by.solve(problem))

    def state_dict(self) -> State:
        """The names and states of both methods."""
        return {**super().state_dict(), "by": state_of(self.by)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the states of both methods, or of neither."""
        state = checked_state(self, state, {**HELD, "by": HELD})
        before = self.by.state_dict()
        load_state(self, self.by, state.pop("by"))
        try:
            super().load_state_dict(state)
        except ValueError:
            self.by.load_state_dict(before)
            raise


def scaled(problem: Problem, scales: Array) -> Problem:
    """The problem with losses multiplied by scales, without tasks of scale 0.

    If all scales are 0, the problem is returned unchanged, because it needs at least one task.
    """
    if not scales.any():
        return problem
    gram = gramian_of_rows(problem.gramian * scales * scales[:, None])
    if scales.min() > 0:
        return replace(problem, losses=problem.losses * scales, gram=gram)
    kept = np.flatnonzero(scales)
    return replace(
        problem,
        names=tuple(problem.names[i] for i in kept),
        losses=problem.losses[kept] * scales[kept],
        gram=gram[np.ix_(kept, kept)],
    )
