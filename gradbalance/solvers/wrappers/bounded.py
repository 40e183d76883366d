"""Bounded: limit the ratio between the weights of any method."""

from typing import final

import numpy as np

from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.solver import Solver
from gradbalance.solvers.wrappers.wrapper import Reweighted


@final
class Bounded(Reweighted):
    r"""Limit the weights of any method: none is more than `ratio` times another.

    .. math:: w_i = s \, \max\big(\hat w_i, \; \tfrac{1}{\rho} \max_j \hat w_j\big), \qquad
              \sum_i w_i = \sum_i \max(\hat w_i, 0)

    with ŵ [T] the weights of the wrapped method, ρ the ratio, and s the factor that preserves the
    sum of the positive weights. Without a bound, a task that cannot be learned may get most of the
    weight: its loss stays high, its gradient vanishes, and methods that divide by the norm give it
    a large weight. With the bound, no task has more than ρ / (ρ + T − 1) of the total weight, nor
    less than 1 / (1 + (T − 1) ρ).

    Weights within the ratio of the largest one keep their proportions. All smaller weights, also
    zero and negative ones, are raised to the same value, so no task is left out. If no weight is
    positive, the weights do not change. Where the bound is active, the wrapped method's guarantee
    does not hold: a loss may rise along the direction.

    Use it for losses with the same unit. If units differ, weights must be far apart, and a bound
    would undo that.

    Args:
        solver: the wrapped method.
        ratio: ρ in [1, inf): 1 makes all weights equal; a large value acts only if weights are far
            apart.

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
        We know of no paper that proposes this. `examples/mpssl` measures its effect, on images with
        a task that can be learned, and on images with one that cannot.
    """

    def __init__(self, solver: Solver, *, ratio: float = 5.0) -> None:
        super().__init__(solver)
        check_number("ratio", ratio, "[1, inf)")
        self.ratio = ratio

    def changed(self, names: tuple[str, ...], weights: Array) -> Array:
        """Raise small weights, and keep the sum."""
        largest = weights.max()
        if largest <= 0 or weights.min() * self.ratio >= largest:
            return weights
        raised: Array = np.maximum(weights, largest / self.ratio)
        raised *= np.maximum(weights, 0).sum() / raised.sum()
        return raised
