"""DWA: more weight for tasks whose losses decreased least over the last epochs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from scipy.special import softmax  # type: ignore[import-untyped]

from gradbalance.numerics.checks import check_count, check_number
from gradbalance.solvers.hooks import EndEpoch
from gradbalance.solvers.options import check_losses
from gradbalance.solvers.solver import Problem, Solution, Solver, State
from gradbalance.solvers.state import checked_state

_LARGEST_RATIO = 1e100  # larger ones might overflow; the softmax is one-hot long before


@dataclass
class _Task:
    """The state of a task: its means of the last two epochs, and its sum in the present one."""

    last: float | None = None
    before_last: float | None = None
    total: float = 0.0
    count: int = 0

    def ratio(self) -> float:
        """L̄(t−1)/L̄(t−2); 1 if one of them is unknown, or the latter is zero."""
        if self.last is None or not self.before_last:
            return 1.0
        return min(self.last / self.before_last, _LARGEST_RATIO)


@final
class DWA(Solver, EndEpoch):
    r"""Dynamic weight average: tasks whose losses decreased least get the largest weights.

    .. math:: w = T \operatorname{softmax}(r / \tau), \qquad r_i = \bar L_i(t-1) / \bar L_i(t-2)

    with L̄_i(t) the mean loss of task i over epoch t, and T the number of tasks that are present;
    w = 1 in the first two epochs. Call `balancer.end_epoch()` after each epoch. A task that is
    absent for a whole epoch keeps its means. No task's loss is guaranteed to decrease.

    Args:
        temperature: τ > 0; a larger value makes the weights more even.
        max_epoch_steps: after this many steps without `end_epoch`, an error is raised, as the call
            was probably forgotten. Choose it larger than your longest epoch. Until then a forgotten
            call cannot be noticed, and the weights do not change.

    Raises:
        ValueError: an option is out of range, a loss is negative, or `end_epoch` was not called.

    Example:
        >>> import gradbalance as gb
        >>> solver = gb.DWA()
        >>> for losses in ([4.0, 1.0], [1.0, 1.0]):
        ...     problem = gb.Problem.of(losses=losses)
        ...     solver.update(problem, solver.solve(problem))
        ...     solver.end_epoch()
        >>> solver.solve(problem).weights.round(3)
        array([0.815, 1.185])

    References:
        Liu et al. 2019, End-to-end multi-task learning with attention, arXiv 1803.10704.
    """

    needs = "losses"
    weighs = "losses"

    def __init__(self, *, temperature: float = 2.0, max_epoch_steps: int = 100_000) -> None:
        check_number("temperature", temperature, "(0, inf)")
        check_count("max_epoch_steps", max_epoch_steps, least=1)
        self.temperature = temperature
        self.max_epoch_steps = max_epoch_steps
        self._num_epoch_steps = 0
        self._tasks: dict[str, _Task] = {}

    def solve(self, problem: Problem) -> Solution:
        """Compute the weights of this epoch."""
        if self._num_epoch_steps >= self.max_epoch_steps:
            raise ValueError(
                f"DWA weighs by the means of epochs: call balancer.end_epoch() after each; found "
                f"{self._num_epoch_steps} steps without. Longer ones need DWA(max_epoch_steps=...)"
            )
        check_losses(problem, "DWA compares losses by their ratio", positive=False)
        known = self._tasks
        ratios = np.array([known[n].ratio() if n in known else 1.0 for n in problem.names])
        return Solution(len(ratios) * softmax(ratios / self.temperature))

    def update(self, problem: Problem, solution: Solution) -> None:
        """Add the losses to the means of this epoch."""
        for name, loss in zip(problem.names, problem.losses.tolist(), strict=True):
            task = self._tasks.setdefault(name, _Task())
            task.total += loss
            task.count += 1
        self._num_epoch_steps += 1

    def end_epoch(self) -> None:
        """Finish the means of the epoch."""
        if self._num_epoch_steps == 0:
            raise ValueError("end_epoch() closes an epoch; found no step since the last call")
        for task in self._tasks.values():
            if task.count:
                task.last, task.before_last = task.total / task.count, task.last
                task.total, task.count = 0.0, 0
        self._num_epoch_steps = 0

    def state_dict(self) -> State:
        """The two means and the present sum of every task, by name."""
        return {
            "num_epoch_steps": self._num_epoch_steps,
            "tasks": {name: asdict(task) for name, task in self._tasks.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue in the middle of the saved epoch."""
        mean = ("[0, inf)", None)
        task = {"last": mean, "before_last": mean, "total": "[0, inf)", "count": int}
        state = checked_state(self, state, {"num_epoch_steps": int, "tasks": {str: task}})
        self._tasks = {name: _Task(**fields) for name, fields in state["tasks"].items()}
        self._num_epoch_steps = state["num_epoch_steps"]
