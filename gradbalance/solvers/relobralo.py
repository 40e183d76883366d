"""ReLoBRaLo: more weight for the tasks that made the least relative progress."""

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

_LARGEST_RATIO = 1e100  # beyond it float64 might overflow; the softmax is one-hot long before


@dataclass
class _Task:
    """What is remembered of a task: its first loss, the one before, and its weight then."""

    first: float
    last: float
    weight: float = 1.0


@final
class ReLoBRaLo(Solver):
    r"""Relative loss balancing with random lookback: weights follow how little each loss fell.

    .. math::
        w(t) = \alpha \big( \rho\, w(t-1) + (1 - \rho)\, b(t, 0) \big) + (1 - \alpha)\, b(t, t-1),
        \qquad b(t, t') = T \operatorname{softmax}_i \frac{L_i(t)}{\tau L_i(t')}

    with L(t) [T] the losses at step t and ρ = 1 or 0, drawn once a step with the mean
    `expected_rho`: mostly the former weights are kept, and at times replaced by a look back at the
    first losses. w(0) = 1. A task that appears later starts with the weight 1 and looks back at its
    own first loss; one that is absent keeps what is known of it. Promises no task a decrease.

    Args:
        alpha: α in [0, 1), how much is kept of the weights.
        temperature: τ > 0; weights are more even the larger it is.
        expected_rho: the share of steps without a look back, in (0, 1].
        seed: of the solver's own draws. They depend on nothing but the seed and the number of steps
            taken, so they are the same on all ranks and after a resume.

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

    Deviation: a loss that was 0 counts as unchanged, where the official code adds 1e-12 to the
    denominators. The paper's equation is followed from the first step on; the authors' notebook
    takes b(1, 0) alone at the second.
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
        """The weights that this step's losses lead to."""
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
        """The weights b(t, t') by the losses of now and then."""
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
        """The seed, the number of steps taken, and every task's two losses and weight, by name."""
        tasks = {name: asdict(task) for name, task in self._tasks.items()}
        return {"seed": self.seed, "num_steps": self._num_steps, "tasks": tasks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the saved losses and weights, with the draws that were to come."""
        task = {"first": "[0, inf)", "last": "[0, inf)", "weight": "[0, inf)"}
        state = checked_state(self, state, {"seed": int, "num_steps": int, "tasks": {str: task}})
        self._tasks = {name: _Task(**fields) for name, fields in state["tasks"].items()}
        self.seed, self._num_steps = state["seed"], state["num_steps"]
