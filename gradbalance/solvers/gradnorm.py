"""GradNorm: weights that bring the tasks to similar gradient norms and training rates."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np

from gradbalance.numerics import adam_step
from gradbalance.numerics.array import Array
from gradbalance.solvers.solver import Problem, Solution, Solver, State

_SMALLEST_WEIGHT = 1e-4  # of the mean weight: a weight at 0 would have no gradient to come back by
_SMALLEST_START = 1e-12  # of the largest first loss: below it a ratio L_i/L_i(0) says nothing


@dataclass
class _Task:
    """What GradNorm remembers of one task."""

    weight: float
    first_loss: float
    moment: float = 0.0
    square: float = 0.0
    num_steps: int = 0


@final
class GradNorm(Solver):
    r"""Gradient normalisation: slow tasks get larger gradients, fast ones smaller.

    .. math::
        N_i = w_i \|g_i\|, \quad r_i = \frac{\tilde L_i}{\mathrm{mean}\,\tilde L}, \quad
        \tilde L_i = \frac{L_i}{L_i(0)}, \quad t_i = \bar N r_i^{\alpha}, \qquad
        w \leftarrow w - \mathrm{lr} \cdot \mathrm{Adam}(\operatorname{sign}(N_i - t_i) \|g_i\|)

    then Σw is brought back to T. g_i [P] is the gradient of task i (in the paper: over the last
    shared layer, `SharedParameters(trunk, measure=trunk[-1])`), N̄ the mean of the N_i; the targets
    t are constants, so the gradient of Σ|N_i − t_i| over w is closed and needs no double backward.
    The weights w(t) are applied and reported, then updated. They weight whole losses, heads
    included, as published. Promises no task a decrease.

    Args:
        alpha: strength of the restoring force, ≥ 0; the paper uses 0.12 to 3, larger for tasks
            that differ more in complexity.
        lr: step of the weights, > 0; their mean is 1.

    Raises:
        ValueError: an option is out of range, or a loss is negative.

    Example:
        >>> import gradbalance as gb
        >>> solver = gb.GradNorm(alpha=0.0, lr=0.1)
        >>> problem = gb.Problem.of([[9.0, 0.0], [0.0, 1.0]], losses=[1.0, 1.0])
        >>> solution = solver.solve(problem)
        >>> solution.weights
        array([1., 1.])
        >>> solver.update(problem, solution)
        >>> solver.solve(problem).weights
        array([0.9, 1.1])

    References:
        Chen et al. 2018, arXiv 1711.02257.

    Deviation: Adam runs without its ε, so scaling all gradients changes nothing. The weights stay
    above 1e-4 of their mean. A task whose first loss is (nearly) zero gets the neutral ratio 1.
    A task that is absent keeps its weight; the others share the rest of Σw = T.
    """

    needs = "gramian"
    weighs = "losses"

    def __init__(self, *, alpha: float = 1.5, lr: float = 0.025) -> None:
        if not 0 <= alpha < np.inf:
            raise ValueError(f"alpha must be a number of at least 0; found {alpha}")
        if not 0 < lr < np.inf:
            raise ValueError(f"lr must be a positive number; found {lr}")
        self.alpha = alpha
        self.lr = lr
        self._tasks: dict[str, _Task] = {}

    def solve(self, problem: Problem) -> Solution:
        """The present weights; 1 for a task that was not seen before."""
        for name, loss in zip(problem.names, problem.losses, strict=True):
            if loss < 0:
                raise ValueError(
                    f"GradNorm compares losses by their ratio to the first one, so they must not "
                    f"be negative; found {loss:g} for task {name!r}"
                )
        known = self._tasks
        return Solution(np.array([known[n].weight if n in known else 1.0 for n in problem.names]))

    def update(self, problem: Problem, solution: Solution) -> None:
        """One Adam step of the weights on Σ|N_i − t_i|."""
        for name, loss in zip(problem.names, problem.losses, strict=True):
            self._tasks.setdefault(name, _Task(weight=1.0, first_loss=float(loss)))
        tasks = [self._tasks[name] for name in problem.names]
        weights = np.array([task.weight for task in tasks])
        first_losses = np.array([task.first_loss for task in tasks])
        norms = np.sqrt(np.diagonal(problem.gramian))
        weighted = weights * norms
        targets = weighted.mean() * _training_rates(problem.losses, first_losses) ** self.alpha
        updated, (moments, squares) = adam_step(
            weights,
            np.sign(weighted - targets) * norms,
            (np.array([t.moment for t in tasks]), np.array([t.square for t in tasks])),
            np.array([t.num_steps for t in tasks]),
            lr=self.lr,
        )
        updated = _with_sum(updated, float(weights.sum()))
        for task, weight, moment, square in zip(tasks, updated, moments, squares, strict=True):
            task.weight, task.moment, task.square = float(weight), float(moment), float(square)
            task.num_steps += 1

    def state_dict(self) -> State:
        """Weight, first loss and moments of every task, by name."""
        return {"tasks": {name: asdict(task) for name, task in self._tasks.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore every task's weight, first loss and moments."""
        try:
            tasks = {name: _Task(**fields) for name, fields in state["tasks"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a state of GradNorm: {error}") from error
        self._tasks = tasks


def _with_sum(weights: Array, total: float) -> Array:
    """Weights brought to a sum, none below the smallest share of it."""
    floor = _SMALLEST_WEIGHT * total / len(weights)
    weights = np.maximum(weights, floor)
    weights = weights * (total / weights.sum())
    if weights.min() < floor:  # the sum came down, and what was at the floor with it
        excess = np.maximum(weights - floor, 0.0)
        weights = floor + excess * ((total - len(weights) * floor) / excess.sum())
    return weights


def _training_rates(losses: Array, first_losses: Array) -> Array:
    """Relative inverse training rates r [t]: L_i/L_i(0) over the mean of them; mean 1."""
    usable = first_losses > _SMALLEST_START * first_losses.max(initial=0.0)
    ratios = np.ones_like(losses)
    ratios[usable] = losses[usable] / first_losses[usable]
    ratios[~usable] = ratios[usable].mean() if usable.any() else 1.0
    mean = ratios.mean()
    return ratios / mean if mean > 0 else np.ones_like(losses)
