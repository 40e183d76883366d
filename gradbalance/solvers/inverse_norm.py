"""InverseNorm: weights that give all gradients the same length."""

from collections.abc import Mapping
from typing import Any, Literal, final, get_args

import numpy as np

from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_choice, check_number
from gradbalance.solvers.options import check_losses
from gradbalance.solvers.solver import Problem, Solution, Solver, State
from gradbalance.solvers.state import checked_state

Normalization = Literal["l2", "loss", "loss+"]

_SMALLEST = 1e-100  # size relative to the largest, so that squares of weights stay within float64
_LARGEST = 1e300  # size


@final
class InverseNorm(Solver):
    r"""Scale all gradients to the same length, or all losses to the same value.

    .. math::
        w_i = \frac{T / \sigma_i}{\sum_j 1 / \sigma_j}, \qquad
        \sigma_i(t) = \gamma\, \sigma_i(t-1) + (1 - \gamma)\, \hat\sigma_i(t)

    with σ̂_i = ‖g_i‖ ("l2"), L_i ("loss") or L_i‖g_i‖ ("loss+"), g_i the rows of J [T, P] and L [T]
    the losses. Used alone, the direction is the sum of normalised gradients. Used as the scales of
    another method, `Scaled(solver, by=InverseNorm())`, it removes the influence of norms on that
    method. The weights sum to T, so the step does not explode as a loss goes to 0. A zero gradient
    counts as if it were as long as the longest. No task's loss is guaranteed to decrease.

    Args:
        normalization: what each gradient is divided by.
        decay: γ in [0, 1): 0 uses only the present step; a larger value uses a moving average, so
            that a task whose gradient is small for one batch does not get a large weight.

    Raises:
        ValueError: an option is invalid, or a loss is not positive under "loss" or "loss+".

    Example:
        >>> import gradbalance as gb
        >>> gb.InverseNorm().solve(gb.Problem.of([[4.0, 0.0], [0.0, 1.0]])).weights.round(3)
        array([0.667, 1.333])

    References:
        Chen et al. 2018, arXiv 1711.02257, use the norms; the code of Sener and Koltun 2018,
        arXiv 1810.04650, has the three kinds as normalisations for MGDA.
    """

    needs = "gramian"
    weighs = "gradients"

    @property
    def takes_zero_losses(self) -> bool:
        """Whether a loss of exactly 0 can be handled: not if gradients are divided by the loss."""
        return self.normalization == "l2"

    def __init__(self, normalization: Normalization = "l2", *, decay: float = 0.0) -> None:
        check_choice("normalization", normalization, get_args(Normalization))
        check_number("decay", decay, "[0, 1)")
        self.normalization: Normalization = normalization
        self.decay = decay
        self._sizes: dict[str, float] = {}

    def solve(self, problem: Problem) -> Solution:
        """Compute the inverse sizes, rescaled to the sum T."""
        sizes = self._sizes_at(problem)
        longest = sizes.max()
        if longest == 0:
            return Solution(np.ones(sizes.size))
        inverse = longest / np.maximum(np.where(sizes > 0, sizes, longest), _SMALLEST * longest)
        return Solution(inverse * (sizes.size / inverse.sum()))

    def update(self, problem: Problem, solution: Solution) -> None:
        """Update the moving averages."""
        if self.decay:
            sizes = self._sizes_at(problem).tolist()
            self._sizes |= dict(zip(problem.names, sizes, strict=True))

    def _sizes_at(self, problem: Problem) -> Array:
        sizes = sizes_of(problem, self.normalization, "InverseNorm")
        known = zip(problem.names, sizes.tolist(), strict=True)
        before = np.array([self._sizes.get(name, size) for name, size in known])
        return self.decay * before + (1 - self.decay) * sizes

    def state_dict(self) -> State:
        """The moving averages by name; empty without a decay."""
        return {"sizes": dict(self._sizes)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the saved averages."""
        self._sizes = checked_state(self, state, {"sizes": {str: "[0, inf)"}})["sizes"]


def sizes_of(problem: Problem, normalization: str, method: str) -> Array:
    """The sizes [t] that gradients are divided by: σ̂ of `InverseNorm`, or ones for "none".

    Raises:
        ValueError: a loss that is used is not positive; the message names the method.
    """
    sizes: Array = np.ones(len(problem.names))
    if normalization in ("loss", "loss+"):
        reason = f"{method}(normalization={normalization!r}) divides by the losses"
        check_losses(problem, reason, positive=True)
        sizes = sizes * problem.losses
    if normalization in ("l2", "loss+"):
        with np.errstate(over="ignore"):
            sizes = np.minimum(sizes * np.sqrt(np.diagonal(problem.gramian)), _LARGEST)
    return sizes
