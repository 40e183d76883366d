"""Any method's weights, kept within a ratio of each other."""

from typing import final

import numpy as np

from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.solver import Solver
from gradbalance.solvers.wrappers.wrapper import Reweighted


@final
class Bounded(Reweighted):
    r"""Any method's weights, none of them more than `ratio` times another.

    .. math:: w_i = s \, \max\big(\hat w_i, \; \tfrac{1}{\rho} \max_j \hat w_j\big), \qquad
              \sum_i w_i = \sum_i \max(\hat w_i, 0)

    with ŵ [T] the weights of the wrapped method, ρ the ratio and s the factor that keeps the sum
    of the positive weights. Weights that follow losses or gradients chase the task that cannot be
    learned: its loss stays, its gradient vanishes, and methods that divide by the norm answer with
    a large weight. With a bound no task has more than ρ / (ρ + T − 1) of the weight, nor less than
    1 / (1 + (T − 1) ρ).

    Weights within the ratio of the largest keep their proportions; all that are smaller get one
    same weight. So does one of zero or below: no task is left out. Where no weight is positive
    they stay as they are. Where the bound is met the wrapped method's promise does not hold: a
    loss may rise along the direction.

    For losses in one unit: where units differ, weights must be far apart, and a bound undoes that.

    Args:
        solver: the method.
        ratio: ρ in [1, inf): 1 makes all weights equal; a large one acts only where weights are
            far apart.

    Raises:
        ValueError: `solver` is not a solver, or `ratio` is out of range.

    Example:
        >>> import gradbalance as gb
        >>> problem = gb.Problem.of([[1.0, 0.0], [0.0, 99.0]])
        >>> gb.MGDA().solve(problem).weights
        array([0.99, 0.01])
        >>> gb.Bounded(gb.MGDA(), ratio=4).solve(problem).weights
        array([0.8, 0.2])

    References:
        No paper is known to us that proposes it; `examples/mpssl` measures what it does, on images
        in which one task can be learned and on such in which it cannot.
    """

    def __init__(self, solver: Solver, *, ratio: float = 5.0) -> None:
        super().__init__(solver)
        check_number("ratio", ratio, "[1, inf)")
        self.ratio = ratio

    def changed(self, names: tuple[str, ...], weights: Array) -> Array:
        """The weights, the small ones raised, at the same sum."""
        largest = weights.max()
        if largest <= 0 or weights.min() * self.ratio >= largest:
            return weights
        raised: Array = np.maximum(weights, largest / self.ratio)
        raised *= np.maximum(weights, 0).sum() / raised.sum()
        return raised
