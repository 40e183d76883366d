"""Scaled: any gradient method on scaled losses, as IMTL-G on those that IMTL-L weighs."""

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
    r"""A gradient method on scaled losses, whose scales are the weights of another method.

    .. math:: u = \mathrm{solver}(D L, \; D G D), \qquad w = D u, \qquad D = \operatorname{diag}(s)

    with L [T] the losses, G [T, T] the Gramian of their gradients and the scales s [T] ≥ 0 those of
    `by` for the same step. The published pairs and those that people ask for are of this kind:
    IMTL is `Scaled(IMTLG(), by=IMTLL())`, uncertainty weights with conflict-free directions
    `Scaled(UPGrad(), by=UW())`, and `Scaled(solver, by=InverseNorm())` gives any method gradients
    of one length.

    What the method promises about a step holds: ⟨s_i g_i, d⟩ ≥ 0 is ⟨g_i, d⟩ ≥ 0, and so does its
    certificate. A task with the scale 0 gets no weight. Each head keeps its raw gradient, without
    the scale, as under any method on gradients.

    Args:
        solver: a method that needs the Gramian.
        by: a method whose weights are never negative; on losses, or on gradients.

    Raises:
        ValueError: either is not a solver, `solver` looks at losses only, or a scale is negative.

    Example:
        >>> import gradbalance as gb
        >>> problem = gb.Problem.of([[100.0, -5.0], [-5.0, 1.0]])
        >>> gb.UPGrad().solve(problem).weights
        array([0.525, 3.   ])
        >>> gb.Scaled(gb.UPGrad(), by=gb.InverseNorm()).solve(problem).weights.round(4)
        array([0.1364, 1.3636])

    References:
        Liu et al. 2021, Towards impartial multi-task learning, ICLR 2021, for the pair IMTL-L and
        IMTL-G.

    Deviation: in IMTL the heads descend the scaled losses; with an optimizer that divides by the
    gradients' size, as Adam does, that makes no difference.
    """

    def __init__(self, solver: Solver, *, by: Solver) -> None:
        super().__init__(solver)
        check_solver_instance("by", by)
        check_needs_gramian("solver", solver, such_as="UPGrad()")
        self.by = by

    @property
    def needs(self) -> Needs:
        """The Gramian, for one of the two at least."""
        return "gramian"

    @property
    def takes_zero_losses(self) -> bool:
        """Whether both take losses of exactly 0."""
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
        """The method's weights, times the scales, with its certificate."""
        scales = self._scales(problem)
        found = self.solver.solve(scaled(problem, scales))
        weights = np.zeros(scales.size)
        if scales.any():
            weights[scales > 0] = found.weights * scales[scales > 0]
        return replace(found, weights=weights)

    def update(self, problem: Problem, solution: Solution) -> None:
        """Advance both."""
        super().update(problem, solution)
        self.by.update(problem, self.by.solve(problem))

    def state_dict(self) -> State:
        """The names and states of both."""
        return {**super().state_dict(), "by": state_of(self.by)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore both, or neither."""
        state = checked_state(self, state, {**HELD, "by": HELD})
        before = self.by.state_dict()
        load_state(self, self.by, state.pop("by"))
        try:
            super().load_state_dict(state)
        except ValueError:
            self.by.load_state_dict(before)
            raise


def scaled(problem: Problem, scales: Array) -> Problem:
    """The problem of losses that are multiplied by numbers; without those of scale 0.

    Where all scales are 0 it is the problem as it was, for there is none without a task.
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
