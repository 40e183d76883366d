"""PCGrad: remove from each gradient its components along gradients that it conflicts with."""

from collections.abc import Mapping
from typing import Any, Literal, final, get_args

import numpy as np
from numpy.typing import NDArray

from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_choice, check_count
from gradbalance.solvers.solver import Problem, Solution, Solver, State
from gradbalance.solvers.state import checked_state

Reduction = Literal["sum", "mean"]


@final
class PCGrad(Solver):
    r"""Projecting conflicting gradients (gradient surgery), computed from the Gramian alone.

    .. math::
        g_i' \leftarrow g_i' - \frac{\min(0, \langle g_i', g_j \rangle)}{\|g_j\|^2} g_j
        \quad \text{for } j \ne i \text{ in a random order}, \qquad d = \sum_i g_i'

    with g_i the rows of J [T, P]; g_i' starts as g_i, and g_j is always the original gradient. Row
    i of a matrix C [T, T] holds the coefficients of g_i' = Σ_j C_ij g_j, so the weights are the
    column sums of C, and gradients are not needed; all tasks are projected at the same time. For
    two tasks ⟨g_i, d⟩ ≥ 0; for more tasks nothing is guaranteed.

    Args:
        reduction: use the "sum" of the projected gradients as in the paper, or their "mean" (1/T of
            the sum).
        seed: the seed of the random orders, which are new at every step. They depend only on the
            seed and the number of steps taken, so they are the same on all ranks and after
            resuming.

    Raises:
        ValueError: an option is invalid.

    Example:
        >>> import gradbalance as gb
        >>> gb.PCGrad().solve(gb.Problem.of([[1.0, -1.0], [-1.0, 4.0]])).weights
        array([2.  , 1.25])

    References:
        Yu et al. 2020, arXiv 2001.06782.

    Deviation: the official code shuffles one list and discards the shuffles; here each task draws
    its own order at every step, as the paper says.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(self, *, reduction: Reduction = "sum", seed: int = 0) -> None:
        check_choice("reduction", reduction, get_args(Reduction))
        check_count("seed", seed)
        self.reduction: Reduction = reduction
        self.seed = int(seed)
        self._num_steps = 0

    def solve(self, problem: Problem) -> Solution:
        """Compute column sums of the projected coefficients, for this step's random orders."""
        gram = problem.gramian
        orders = random_orders(len(gram), np.random.default_rng((self.seed, self._num_steps)))
        weights = project_conflicts(gram, orders).sum(axis=0)
        return Solution(weights / len(gram) if self.reduction == "mean" else weights)

    def update(self, problem: Problem, solution: Solution) -> None:
        """Count the step, so that the next one draws new orders."""
        self._num_steps += 1

    def state_dict(self) -> State:
        """The seed and the number of steps taken."""
        return {"seed": self.seed, "num_steps": self._num_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the saved sequence of orders."""
        state = checked_state(self, state, {"seed": int, "num_steps": int})
        self.seed, self._num_steps = state["seed"], state["num_steps"]


def random_orders(num_tasks: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """[T, T-1] for each task, the other tasks in a random order of its own."""
    others = np.tile(np.arange(num_tasks), (num_tasks, 1))
    others = others[~np.eye(num_tasks, dtype=bool)].reshape(num_tasks, num_tasks - 1)
    return generator.permuted(others, axis=1)


def project_conflicts(gram: Array, orders: NDArray[np.intp]) -> Array:
    """The coefficients C [T, T] of the projected gradients, g_i' = Σ_j C_ij g_j.

    Args:
        gram: [T, T] the Gramian.
        orders: [T, T-1] for each task, the other tasks in the order of its projections.
    """
    num_tasks = len(gram)
    rows = np.arange(num_tasks)
    squares = np.diagonal(gram)
    coefficients = np.eye(num_tasks)
    for others in orders.T:
        inner = np.einsum("ij,ij->i", coefficients, gram[others])
        conflict = inner < 0
        # A negative inner product with a zero gradient is rounding; it cannot be projected onto.
        conflict &= squares[others] > 0
        i, j = rows[conflict], others[conflict]
        coefficients[i, j] -= inner[conflict] / squares[j]
    return coefficients
