"""GradVac: turn gradients towards each other until their cosines reach their usual values."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_count, check_number
from gradbalance.solvers.pcgrad import random_orders
from gradbalance.solvers.solver import Problem, Solution, Solver, State
from gradbalance.solvers.state import checked_state

_UNIT = float(np.finfo(np.float64).eps)
_LARGEST_TARGET = 1 - 1e-6  # above this, rounding affects the length and not only the angle
_LARGEST_SQUARE = 1e12  # the largest square of a turned gradient's length over the original one


@final
class GradVac(Solver):
    r"""Gradient vaccine: like PCGrad, with the usual cosine of two tasks as the target, not 0.

    .. math::
        g_i' \leftarrow g_i' + \frac{\|g_i'\| \big(\hat\varphi_{ij} \sqrt{1 - \varphi^2}
        - \varphi \sqrt{1 - \hat\varphi_{ij}^2}\big)}{\|g_j\| \sqrt{1 - \hat\varphi_{ij}^2}} g_j
        \quad \text{where } \varphi = \cos(g_i', g_j) < \hat\varphi_{ij}

    for j ≠ i in a random order, with g_i the rows of J [T, P]; g_i' starts as g_i, and g_j is
    always the original gradient. Afterwards cos(g_i', g_j) = φ̂_ij. Then d = Σ_i g_i'. The target
    cosines φ̂ [T, T] start at 0 and are moving averages of the observed φ, corrected or not:
    φ̂ ← (1 − β)φ̂ + βφ. All tasks are turned at the same time, using the Gramian alone. No task's
    loss is guaranteed to decrease.

    Args:
        beta: β in (0, 1], the rate of the moving average.
        seed: the seed of the random orders, which depend only on it and the number of steps taken.

    Raises:
        ValueError: an option is out of range.

    Example:
        >>> import gradbalance as gb
        >>> solver, problem = gb.GradVac(beta=0.5), gb.Problem.of([[1.0, 0.6], [0.6, 1.0]])
        >>> for _ in range(3):
        ...     solution = solver.solve(problem)
        ...     solver.update(problem, solution)
        >>> solution.weights  # the cosine is above its target
        array([1., 1.])
        >>> round(solver.state_dict()["cosines"]["0"]["1"], 3)
        0.525

    References:
        Wang et al. 2021, arXiv 2010.05874.

    Deviation: target cosines are limited to 1 − 1e-6, and a correction that would make a gradient
    1e6 times longer is left out, because a target near 1 could otherwise stretch it without bound.
    A gradient that is zero, or was cancelled by an opposed one, has no cosine: neither it nor its
    targets change. There is one target per pair of tasks, not one for each layer of the model.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(self, *, beta: float = 0.01, seed: int = 0) -> None:
        check_number("beta", beta, "(0, 1]")
        check_count("seed", seed)
        self.beta = beta
        self.seed = int(seed)
        self._num_steps = 0
        self._goals: dict[str, dict[str, float]] = {}
        self._met: tuple[Problem, Array] | None = None  # from solve to update; not saved

    def solve(self, problem: Problem) -> Solution:
        """Compute column sums of the corrected coefficients, for this step's random orders."""
        gram = problem.gramian
        norms = np.sqrt(np.diagonal(gram))
        present = norms > 0
        scales = np.where(present, norms, 1.0)
        cosines = np.where(np.outer(present, present), gram / scales / scales[:, None], 0.0)
        orders = random_orders(len(gram), np.random.default_rng((self.seed, self._num_steps)))
        coefficients, met = turn_to_goals(cosines, self._goals_of(problem.names), orders)
        self._met = problem, met
        return Solution(norms @ coefficients / scales)

    def update(self, problem: Problem, solution: Solution) -> None:
        """Update the target cosines, and count the step, so that the next one draws new orders."""
        if self._met is None or self._met[0] is not problem:
            self.solve(problem)
        assert self._met is not None
        met, goals = self._met[1], self._goals_of(problem.names)
        followed = np.where(np.isnan(met), goals, (1 - self.beta) * goals + self.beta * met)
        for name, row in zip(problem.names, followed.tolist(), strict=True):
            self._goals.setdefault(name, {}).update(zip(problem.names, row, strict=True))
        self._num_steps += 1
        self._met = None

    def _goals_of(self, names: tuple[str, ...]) -> Array:
        """The targets φ̂ [t, t] of the tasks that take part; 0 for new pairs."""
        rows = (self._goals.get(name, {}) for name in names)
        return np.array([[row.get(name, 0.0) for name in names] for row in rows])

    def state_dict(self) -> State:
        """The target cosine of each pair by name, the seed and the number of steps taken."""
        goals = {name: dict(row) for name, row in self._goals.items()}
        return {"cosines": goals, "seed": self.seed, "num_steps": self._num_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the saved targets and the saved sequence of orders."""
        shape = {"cosines": {str: {str: "[-1, 1]"}}, "seed": int, "num_steps": int}
        state = checked_state(self, state, shape)
        self.seed, self._num_steps = state["seed"], state["num_steps"]
        self._goals, self._met = state["cosines"], None


def turn_to_goals(cosines: Array, goals: Array, orders: NDArray[np.intp]) -> tuple[Array, Array]:
    """Turn unit vectors e_i towards each other.

    Args:
        cosines: [T, T] ⟨e_i, e_j⟩; zero rows for vectors that are zero.
        goals: [T, T] the target cosines φ̂.
        orders: [T, T-1] for each vector, the others in the order in which it is turned to them.

    Returns:
        C [T, T] with the turned vectors e_i' = Σ_j C_ij e_j, and the observed cosines, or NaN.
    """
    num_tasks = len(cosines)
    rows, present = np.arange(num_tasks), np.diagonal(cosines) > 0
    goals = np.clip(goals[rows[:, None], orders], -_LARGEST_TARGET, _LARGEST_TARGET)
    goal_sines = np.sqrt(1 - goals**2)
    coefficients = np.eye(num_tasks)
    met = np.full((num_tasks, num_tasks), np.nan)
    squares = present.astype(np.float64)  # ‖e_i'‖²
    sizes = np.ones(num_tasks)  # Σ_j |C_ij|, to which rounding errors are relative
    for others, goal, goal_sine in zip(orders.T, goals.T, goal_sines.T, strict=True):
        lengths = np.sqrt(squares)
        meets = (squares > 0) & present[others]
        found = np.einsum("ij,ij->i", coefficients, cosines.take(others, 0))
        found = np.clip(found / np.where(meets, lengths, 1.0), -1.0, 1.0)
        met[rows, others] = np.where(meets, found, np.nan)
        # The part orthogonal to e_j stays; the part along e_j is chosen for the cosine φ̂.
        tangents = np.sqrt(1 - found**2) / goal_sine
        turned = squares * tangents**2
        turns = meets & (found < goal) & (turned <= _LARGEST_SQUARE)
        added = np.where(turns, lengths * (goal * tangents - found), 0.0)
        coefficients[rows, others] = added
        sizes += added
        squares = np.where(turns, turned, squares)
        squares[squares <= num_tasks * _UNIT * sizes**2] = 0.0  # cancelled, to rounding
    return coefficients, met
