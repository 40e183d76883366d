"""AveragedGramian: a moving average of the Gramian, for any method on gradients."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np

from gradbalance.numerics import Status, gramian_of_rows
from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.solver import Problem, Solution, Solver, State
from gradbalance.solvers.state import checked_state
from gradbalance.solvers.wrappers.wrapper import HELD, Wrapper, check_needs_gramian


@final
class AveragedGramian(Wrapper):
    r"""Solve with a moving average of the Gramian instead of that of the current batch.

    .. math::
        w(t) = \mathrm{solver}(L(t), \bar G(t)), \qquad
        \bar G(t) = \gamma\, \bar G(t-1) + (1 - \gamma)\, G(t), \qquad \bar G(0) = G(0)

    with L [T] the losses and G [T, T] the Gramian of this step's gradients. Weights computed from a
    small batch follow its noise; averaged inner products are less noisy. But they are biased:
    E‖g_i‖² is ‖E g_i‖² plus the variance of g_i, which averaging does not remove, so the gradients
    of noisy tasks look longer than they are, and cosines smaller. The average also lags behind
    training. `SDMGrad` with independent batches does not have this bias. No task's loss is
    guaranteed to decrease, whatever the wrapped method guarantees.

    For a new pair of tasks, the average starts with their first inner product. If tasks are absent
    at times, pairs are averaged over different steps, and the matrix may not be a Gramian; its
    negative eigenvalues are then set to zero.

    Args:
        solver: the wrapped method.
        decay: γ in [0, 1); 0 gives the wrapped method itself.

    Raises:
        ValueError: `solver` is not a solver, or needs only losses; or `decay` is out of range.

    Example:
        >>> import gradbalance as gb
        >>> solver = gb.AveragedGramian(gb.MGDA(), decay=0.5)
        >>> first, second = gb.Problem.of([[1.0, 0.0], [0.0, 1.0]]), gb.Problem.of([[7, 0], [0, 1]])
        >>> solver.update(first, solver.solve(first))
        >>> solver.solve(second).weights  # the mean Gramian is diag(4, 1)
        array([0.2, 0.8])

    References:
        MoCo (Fernando et al. 2023, ICLR, arXiv 2210.12624) averages the gradients themselves, and
        stores T rows; this method stores T² numbers.
    """

    def __init__(self, solver: Solver, *, decay: float = 0.9) -> None:
        super().__init__(solver)
        check_number("decay", decay, "[0, 1)")
        check_needs_gramian("solver", solver, such_as="MGDA()")
        self.decay = decay
        self._products: dict[str, dict[str, float]] = {}

    def _averaged(self, problem: Problem) -> Array:
        names, now = problem.names, problem.gramian
        rows = [self._products.get(name, {}) for name in names]
        known = [[row.get(name, np.nan) for name in names] for row in rows]
        before = np.where(np.isnan(known), now, known)
        averaged: Array = self.decay * before + (1 - self.decay) * now
        return averaged

    def _seen(self, problem: Problem) -> Problem:
        return replace(problem, gram=gramian_of_rows(_nearest_gramian(self._averaged(problem))))

    def solve(self, problem: Problem) -> Solution:
        """Return the method's weights; its certificate is not valid for this step's gradients."""
        found = self.solver.solve(self._seen(problem))
        status = Status.CONVERGED if found.status is Status.STATIONARY else found.status
        return replace(found, status=status, certificate=None)

    def update(self, problem: Problem, solution: Solution) -> None:
        """Update the wrapped method, and keep the averages."""
        super().update(problem, solution)
        averaged = self._averaged(problem).tolist()
        for name, row in zip(problem.names, averaged, strict=True):
            self._products.setdefault(name, {}).update(zip(problem.names, row, strict=True))

    def state_dict(self) -> State:
        """The averages of each pair by name, and the wrapped method's state."""
        products = {name: dict(row) for name, row in self._products.items()}
        return {"products": products, **super().state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore both."""
        shape = {"products": {str: {str: "(-inf, inf)"}}, **HELD}
        state = checked_state(self, state, shape)
        products = state.pop("products")
        super().load_state_dict(state)
        self._products = products


def _nearest_gramian(matrix: Array) -> Array:
    """The matrix, with the negative eigenvalues of its cosines set to zero if there are any."""
    norms = np.sqrt(np.maximum(matrix.diagonal(), 0.0))
    scales = np.where(norms > 0, norms, 1.0)
    values, vectors = np.linalg.eigh(matrix / scales / scales[:, None])
    if values[0] >= -1e-12:
        return matrix
    nearest: Array = (vectors * np.maximum(values, 0.0)) @ vectors.T * scales * scales[:, None]
    return nearest
