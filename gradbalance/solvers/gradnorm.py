"""GradNorm: learn weights that give all tasks similar gradient norms and training rates."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.learned import VARIABLES, LearnedVariables
from gradbalance.solvers.options import check_losses
from gradbalance.solvers.solver import Problem, Solution, Solver, State
from gradbalance.solvers.state import checked_state

_SMALLEST_WEIGHT = 1e-4  # of the mean weight; a weight of 0 would have no gradient to grow again
_SMALLEST_START = 1e-12  # of the largest first loss; for smaller ones L_i/L_i(0) is meaningless
_LARGEST_RATIO = 1e50  # of a loss to its first value, so that powers stay within float64


@final
class GradNorm(Solver):
    r"""Gradient normalisation: tasks that train slowly get larger gradients, fast ones smaller.

    .. math::
        N_i = w_i \|g_i\|, \quad r_i = \frac{\tilde L_i}{\mathrm{mean}\,\tilde L}, \quad
        \tilde L_i = \frac{L_i}{L_i(0)}, \quad t_i = \bar N r_i^{\alpha}, \qquad
        w \leftarrow w - \mathrm{lr} \cdot \mathrm{Adam}(\operatorname{sign}(N_i - t_i) \|g_i\|)

    then w is rescaled to Σw = T. g_i [P] is the gradient of task i (in the paper, with respect to
    the last shared layer: `SharedParameters(trunk, measure=trunk[-1])`), L [T] are the losses, L(0)
    their first values, and N̄ is the mean of the N_i. The targets t_i count as constants, so the
    gradient of Σ|N_i − t_i| with respect to w has a closed form, without a double backward. The
    weights w(t) are applied and reported, then updated. As published, they weight whole losses,
    heads included. No task's loss is guaranteed to decrease.

    Args:
        alpha: the strength of the restoring force, ≥ 0; the paper uses 0.12 to 3, with larger
            values for tasks that differ more in complexity.
        lr: the learning rate of the weights, > 0; their mean is 1.

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

    Deviation: Adam is used without its ε, so scaling all gradients changes nothing. The weights
    stay above 1e-4 of their mean. A task whose first loss is (nearly) zero gets the neutral ratio
    1. An absent task keeps its weight; the others share the rest of Σw = T.
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
        """Return the present weights; 1 for a new task."""
        reason = "GradNorm compares losses by their ratio to the first ones"
        check_losses(problem, reason, positive=False)
        return Solution(self._weights.of(problem.names))

    def update(self, problem: Problem, solution: Solution) -> None:
        """Take one Adam step on the weights, for Σ|N_i − t_i|."""
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
        """The weights with their moments, and the first losses, by name."""
        return {"weights": self._weights.state_dict(), "first_losses": dict(self._first_losses)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the weights with their moments, and the first losses."""
        first = {str: "[0, inf)"}
        state = checked_state(self, state, {"weights": VARIABLES, "first_losses": first})
        self._weights.load_state_dict(state["weights"])
        self._first_losses = state["first_losses"]


def _with_sum(weights: Array, total: float) -> Array:
    """Rescale weights to a sum, none below the smallest allowed share of it."""
    floor = _SMALLEST_WEIGHT * total / len(weights)
    weights = np.maximum(weights, floor)
    weights = weights * (total / weights.sum())
    if weights.min() < floor:  # rescaling moved weights below the floor
        excess = np.maximum(weights - floor, 0.0)
        weights = floor + excess * ((total - len(weights) * floor) / excess.sum())
    return weights


def _training_rates(losses: Array, first_losses: Array) -> Array:
    """The relative inverse training rates r [t]: L_i/L_i(0) divided by their mean."""
    usable = first_losses > _SMALLEST_START * first_losses.max(initial=0.0)
    ratios = np.ones_like(losses)
    with np.errstate(over="ignore"):
        ratios[usable] = np.minimum(losses[usable] / first_losses[usable], _LARGEST_RATIO)
    ratios[~usable] = ratios[usable].mean() if usable.any() else 1.0
    mean = ratios.mean()
    return ratios / mean if mean > 0 else np.ones_like(losses)
