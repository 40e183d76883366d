"""RLW: new random weights at every step."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from scipy.special import softmax  # type: ignore[import-untyped]

from gradbalance.numerics.checks import check_count
from gradbalance.solvers.solver import Problem, Solution, Solver, State
from gradbalance.solvers.state import checked_state


@final
class RLW(Solver):
    r"""Random loss weighting: new random weights at every step, as a baseline.

    .. math:: w = \operatorname{softmax}(\xi), \qquad \xi \sim \mathcal{N}(0, I)

    with w [T] the weights, of sum 1 as in the paper; `Balancer(scale="sum")` rescales them to the
    sum T, as of `Uniform`. No task's loss is guaranteed to decrease.

    Args:
        seed: the seed of the random weights. They depend only on the seed, the number of steps
            taken and the number of tasks, so they are the same on all ranks and after resuming.

    Raises:
        ValueError: the seed is not a non-negative integer.

    Example:
        >>> import gradbalance as gb
        >>> solver, problem = gb.RLW(), gb.Problem.of(losses=[1.0, 1.0])
        >>> solution = solver.solve(problem)
        >>> solution.weights.round(3)
        array([0.564, 0.436])
        >>> solver.update(problem, solution)
        >>> solver.solve(problem).weights.round(3)
        array([0.747, 0.253])

    References:
        Lin et al. 2022, Reasonable effectiveness of random weighting, arXiv 2111.10603.
    """

    needs = "losses"
    weighs = "losses"

    def __init__(self, *, seed: int = 0) -> None:
        check_count("seed", seed)
        self.seed = int(seed)
        self._num_steps = 0

    def solve(self, problem: Problem) -> Solution:
        """Draw the weights of this step."""
        generator = np.random.default_rng((self.seed, self._num_steps))
        return Solution(softmax(generator.standard_normal(len(problem.names))))

    def update(self, problem: Problem, solution: Solution) -> None:
        """Count the step, so that the next one draws new weights."""
        self._num_steps += 1

    def state_dict(self) -> State:
        """The seed and the number of steps taken."""
        return {"seed": self.seed, "num_steps": self._num_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the saved sequence of weights."""
        state = checked_state(self, state, {"seed": int, "num_steps": int})
        self.seed, self._num_steps = state["seed"], state["num_steps"]
