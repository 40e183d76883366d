"""PCD: the direction closest to a primary task's gradient that also decreases the other losses."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np

from gradbalance.numerics import Status, gramian_of_rows, nearest_vector, relative_length
from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.options import position_of
from gradbalance.solvers.solver import Problem, Solution, Solver, State
from gradbalance.solvers.state import checked_state


@dataclass(frozen=True)
class _Square:
    """A running mean of squared norms, and its number of steps."""

    mean: float = 0.0
    num_steps: int = 0


@final
class PCD(Solver):
    r"""Priority-constrained descent: follow one task; all other losses must decrease a little.

    .. math::
        \tilde d = \arg\min_d \|d - \tilde g_0\|^2 \;\text{ over }\;
        \langle \tilde g_j, d \rangle \ge \tau \|\tilde g_j\|^2, \quad j \ne 0; \qquad
        \tilde g_i = \frac{g_i}{\sqrt{\hat v_i}}, \quad d = \frac{\|g_0\|}{\|\tilde d\|} \tilde d

    with g_i the rows of J [T, P], g_0 the gradient of the primary task, and v̂_i the running mean
    of ‖g_i‖² with Adam's bias correction: v_i ← βv_i + (1 − β)‖g_i‖², divided by 1 − β^t. The
    secondary losses decrease along d whenever there is a direction that decreases all of them. The
    primary loss may rise if τ > 0 and a secondary gradient is opposed to it; training then
    continues to the minimum of the secondary loss. With τ = 0 no loss rises. d is as long as the
    gradient of the primary task.

    Args:
        primary: the name of the primary task; the first task by default.
        tau: τ in [0, 1], the required decrease of each secondary loss, relative to that along its
            own normalised gradient.
        beta: β in [0, 1), the decay of the running means; 0 uses the norms of the present step.

    Raises:
        ValueError: an option is out of range, or there is no such task.

    Example:
        >>> import gradbalance as gb
        >>> gb.PCD(tau=0.5).solve(gb.Problem.of([[1.0, 0.0], [0.0, 1.0]])).weights.round(3)
        array([0.894, 0.447])

    References:
        Varam & AlHajri 2026, arXiv 2606.29521.

    Deviation: no constant is added to the running means. If no direction decreases every secondary
    loss as required (three or more tasks), d only ensures that none of them rises, and the status
    is ill-posed; the authors then follow the primary task alone, whatever this does to the others.
    If the primary task is absent or has a zero gradient, the weights are zero.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(
        self, *, primary: str | None = None, tau: float = 0.02, beta: float = 0.999
    ) -> None:
        check_number("tau", tau, "[0, 1]")
        check_number("beta", beta, "[0, 1)")
        self.primary = primary
        self.tau = tau
        self.beta = beta
        self._squares: dict[str, _Square] = {}

    def solve(self, problem: Problem) -> Solution:
        """Compute the weights, with the certificate of the nearest vector."""
        gram, zeros = problem.gramian, np.zeros(len(problem.names))
        first = position_of("primary", self.primary, problem)
        if first is None or gram[first, first] == 0:
            return Solution(zeros, Status.STATIONARY)
        squares = self._squares_at(problem)
        means = np.array([q.mean / (1 - self.beta**q.num_steps) for q in squares.values()])
        means = np.maximum(means, 1e-200 * means.max())  # so that scales stay within float64
        scales = np.sqrt(means[first] / means)
        normed = gramian_of_rows(gram * scales * scales[:, None])
        center = zeros.copy()
        center[first] = 1.0
        others = np.delete(np.arange(zeros.size), first)
        found = nearest_vector(normed, center, others, self.tau * normed.diagonal()[others])
        square = float(found.weights @ normed @ found.weights)
        if relative_length(normed, found.weights) <= problem.resolution or square <= 0:
            return Solution(zeros, Status.STATIONARY, found.num_steps, found.certificate)
        weights = found.weights * scales * np.sqrt(gram[first, first] / square)
        return Solution(weights, found.status, found.num_steps, found.certificate)

    def update(self, problem: Problem, solution: Solution) -> None:
        """Update the running means."""
        self._squares |= self._squares_at(problem)

    def _squares_at(self, problem: Problem) -> dict[str, _Square]:
        found: Array = problem.gramian.diagonal()
        before = [self._squares.get(name, _Square()) for name in problem.names]
        return {
            name: _Square(self.beta * old.mean + (1 - self.beta) * square, old.num_steps + 1)
            for name, old, square in zip(problem.names, before, found.tolist(), strict=True)
        }

    def state_dict(self) -> State:
        """The running means and their numbers of steps, by name."""
        return {"squares": {name: asdict(square) for name, square in self._squares.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the saved means."""
        shape = {"squares": {str: {"mean": "[0, inf)", "num_steps": int}}}
        squares = checked_state(self, state, shape)["squares"]
        self._squares = {name: _Square(**fields) for name, fields in squares.items()}
