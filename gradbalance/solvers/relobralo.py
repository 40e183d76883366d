"""ReLoBRaLo: more weight for tasks with the least relative progress."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from scipy.special import softmax  # type: ignore[import-untyped]

from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_count, check_number
from gradbalance.solvers.options import check_losses
from gradbalance.solvers.solver import Problem, Solution, Solver, State
from gradbalance.solvers.state import checked_state

_LARGEST_RATIO = 1e100  # larger ones might overflow; the softmax is one-hot long before


@dataclass
class _Task:
    """The state of a task: its first loss, its last loss, and its last weight."""

    first: float
    last: float
    weight: float = 1.0


@final
class ReLoBRaLo(Solver):
    r"""Relative loss balancing with random lookback: tasks with little progress get more weight.

    .. math::
        w(t) = \alpha \big( \rho\, w(t-1) + (1 - \rho)\, b(t, 0) \big) + (1 - \alpha)\, b(t, t-1),
        \qquad b(t, t') = T \operatorname{softmax}_i \frac{L_i(t)}{\tau L_i(t')}

    with L(t) [T] the losses at step t, and ρ = 1 or 0, drawn at each step with the mean
    `expected_rho`: usually the previous weights are kept, and sometimes (lookback) replaced by the
    balance relative to the first losses. w(0) = 1. A task that appears later starts with the weight
    1 and uses its own first loss; the state of an absent task does not change. No task's loss is
    guaranteed to decrease.

    Args:
        alpha: α in [0, 1), how much of the previous weights is kept.
        temperature: τ > 0; a larger value makes the weights more even.
        expected_rho: the fraction of steps without lookback, in (0, 1].
        seed: the seed of the draws. They depend only on the seed and the number of steps taken, so
            they are the same on all ranks and after resuming.

    Raises:
        ValueError: an option is out of range, or a loss is negative.

    Example:
        >>> import gradbalance as gb
        >>> solver = gb.ReLoBRaLo(alpha=0.5, temperature=1.0)
        >>> problem = gb.Problem.of(losses=[4.0, 4.0])
        >>> solver.update(problem, solver.solve(problem))
        >>> solver.solve(gb.Problem.of(losses=[1.0, 4.0])).weights.round(3)
        array([0.821, 1.179])

    References:
        Bischof and Kraus 2021, arXiv 2110.09813.

    Deviation: a loss that was 0 counts as unchanged; the official code adds 1e-12 to the
    denominators instead. The paper's equation is used from the first step on; the authors' notebook
    uses only b(1, 0) at the second step.
    """

    needs = "losses"
    weighs = "losses"

    def __init__(
        self,
        *,
        alpha: float = 0.999,
        temperature: float = 0.1,
        expected_rho: float = 0.999,
        seed: int = 0,
    ) -> None:
        check_number("alpha", alpha, "[0, 1)")
        check_number("temperature", temperature, "(0, inf)")
        check_number("expected_rho", expected_rho, "(0, 1]")
        check_count("seed", seed)
        self.alpha = alpha
        self.temperature = temperature
        self.expected_rho = expected_rho
        self.seed = int(seed)
        self._num_steps = 0
        self._tasks: dict[str, _Task] = {}

    def solve(self, problem: Problem) -> Solution:
        """Compute the weights from the losses of this step."""
        check_losses(problem, "ReLoBRaLo compares losses by their ratio", positive=False)
        weights = np.ones(len(problem.names))
        known = np.array([name in self._tasks for name in problem.names])
        if known.any():
            tasks = [self._tasks[name] for name in problem.names if name in self._tasks]
            losses = problem.losses[known]
            draw = np.random.default_rng((self.seed, self._num_steps)).random()
            if draw < self.expected_rho:
                kept = np.array([task.weight for task in tasks])
            else:
                kept = self._balanced(losses, np.array([task.first for task in tasks]))
            fresh = self._balanced(losses, np.array([task.last for task in tasks]))
            weights[known] = self.alpha * kept + (1 - self.alpha) * fresh
        return Solution(weights)

    def _balanced(self, losses: Array, earlier: Array) -> Array:
        """The weights b(t, t') from the present and the earlier losses."""
        ratios = np.ones_like(losses)
        with np.errstate(over="ignore"):
            np.divide(losses, earlier, out=ratios, where=earlier > 0)
            logits = np.minimum(ratios / self.temperature, _LARGEST_RATIO)
        return len(losses) * np.asarray(softmax(logits))

    def update(self, problem: Problem, solution: Solution) -> None:
        """Remember the losses and the weights."""
        solved = zip(problem.names, problem.losses.tolist(), solution.weights.tolist(), strict=True)
        for name, loss, weight in solved:
            task = self._tasks.setdefault(name, _Task(first=loss, last=loss))
            task.last, task.weight = loss, weight
        self._num_steps += 1

    def state_dict(self) -> State:
        """The seed, the number of steps taken, and the losses and weight of each task, by name."""
        tasks = {name: asdict(task) for name, task in self._tasks.items()}
        return {"seed": self.seed, "num_steps": self._num_steps, "tasks": tasks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the saved losses and weights, and the saved sequence of draws."""
        task = {"first": "[0, inf)", "last": "[0, inf)", "weight": "[0, inf)"}
        state = checked_state(self, state, {"seed": int, "num_steps": int, "tasks": {str: task}})
        self._tasks = {name: _Task(**fields) for name, fields in state["tasks"].items()}
        self.seed, self._num_steps = state["seed"], state["num_steps"]
