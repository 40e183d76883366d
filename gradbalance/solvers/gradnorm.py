"""GradNorm: weights that bring the tasks to similar gradient norms and training rates."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.learned import VARIABLES, LearnedVariables
from gradbalance.solvers.options import check_losses
from gradbalance.solvers.solver import Problem, Solution, Solver, State
from gradbalance.solvers.state import checked_state

_SMALLEST_WEIGHT = 1e-4  # of the mean weight: a weight at 0 would have no gradient to come back by
_SMALLEST_START = 1e-12  # of the largest first loss: below it a ratio L_i/L_i(0) says nothing
_LARGEST_RATIO = 1e50  # of a loss to the first one, so that powers stay within float64


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
        check_number("alpha", alpha, "[0, inf)")
        check_number("lr", lr, "(0, inf)")
        self.alpha = alpha
        self.lr = lr
        self._weights = LearnedVariables(start=1.0)
        self._first_losses: dict[str, float] = {}

    def solve(self, problem: Problem) -> Solution:
        """The present weights; 1 for a task that was not seen before."""
        reason = "GradNorm compares losses by their ratio to the first ones"
        check_losses(problem, reason, positive=False)
        return Solution(self._weights.of(problem.names))

    def update(self, problem: Problem, solution: Solution) -> None:
        """One Adam step of the weights on Σ|N_i − t_i|."""
        names = problem.names
        present = dict(zip(names, problem.losses.tolist(), strict=True))
        self._first_losses = present | self._first_losses
        first_losses = np.array([self._first_losses[name] for name in names])
        weights = self._weights.of(names)
        norms = np.sqrt(np.diagonal(problem.gramian))
        weighted = weights * norms
        targets = weighted.mean() * _training_rates(problem.losses, first_losses) ** self.alpha
        self._weights.descend(names, np.sign(weighted - targets) * norms, lr=self.lr)
        self._weights.assign(names, _with_sum(self._weights.of(names), float(weights.sum())))

    def state_dict(self) -> State:
        """The weights with their moments and the first losses, by name."""
        return {"weights": self._weights.state_dict(), "first_losses": dict(self._first_losses)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the weights with their moments and the first losses."""
        first = {str: "[0, inf)"}
        state = checked_state(self, state, {"weights": VARIABLES, "first_losses": first})
        self._weights.load_state_dict(state["weights"])
        self._first_losses = state["first_losses"]


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
    with np.errstate(over="ignore"):
        ratios[usable] = np.minimum(losses[usable] / first_losses[usable], _LARGEST_RATIO)
    ratios[~usable] = ratios[usable].mean() if usable.any() else 1.0
    mean = ratios.mean()
    return ratios / mean if mean > 0 else np.ones_like(losses)
