"""SoftAdapt: more weight for the tasks whose losses fall least, from step to step."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from scipy.special import softmax  # type: ignore[import-untyped]

from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_choice, check_number
from gradbalance.solvers.options import check_losses
from gradbalance.solvers.solver import Problem, Solution, Solver, State
from gradbalance.solvers.state import checked_state

_LOWEST = -1e300  # of a logit, so that a loss that is not zero never has none


@final
class SoftAdapt(Solver):
    r"""SoftAdapt: a softmax of how fast the losses change.

    .. math::
        w_i \propto f_i \exp(\beta s_i), \quad \sum_i w_i = 1, \qquad
        s_i = m_i(t) - m_i(t-1), \quad m_i(t) = \gamma\, m_i(t-1) + (1 - \gamma) L_i(t)

    with L [T] the losses, m [T] their moving averages, which start at the first loss of each task,
    and f = 1; `normalized` replaces s by s / Σ|s_j|, and `loss_weighted` sets f = m(t). Both may be
    combined. A task without a past has s = 0. With γ = 0 it is the paper's rule, with differences
    of successive losses. `Balancer(scale="sum")` brings the weights to the sum T of `Uniform`.
    Promises no task a decrease.

    Args:
        beta: β; the larger, the more weight for the worst task. Below 0 the best ones get more. In
            inverse units of the losses, unless `normalized`.
        normalized: take the rates of change relative to each other.
        loss_weighted: multiply by the losses, which must then not be negative.
        decay: γ, in [0, 1): smooths the losses of mini-batches.

    Raises:
        ValueError: an option is out of range, or a loss is negative with `loss_weighted`.

    Example:
        >>> import gradbalance as gb
        >>> solver = gb.SoftAdapt(beta=1.0)
        >>> problem = gb.Problem.of(losses=[3.0, 3.0])
        >>> solver.update(problem, solver.solve(problem))
        >>> solver.solve(gb.Problem.of(losses=[2.0, 3.0])).weights.round(3)
        array([0.269, 0.731])

    References:
        Heydari, Thompson and Mehmood 2019, arXiv 1912.12355.

    Deviation: the official code differentiates a stored window of losses to an order of up to 5;
    here γ does the smoothing. Its latest version normalises by Σ s_j, which is negative while the
    losses fall and so gives the fastest one the largest weight; the first version, and this one,
    by Σ|s_j|.
    """

    needs = "losses"
    weighs = "losses"

    def __init__(
        self,
        *,
        beta: float = 0.1,
        normalized: bool = False,
        loss_weighted: bool = False,
        decay: float = 0.0,
    ) -> None:
        check_number("beta", beta, "(-inf, inf)")
        check_choice("normalized", normalized, (True, False))
        check_choice("loss_weighted", loss_weighted, (True, False))
        check_number("decay", decay, "[0, 1)")
        self.beta = beta
        self.normalized = normalized
        self.loss_weighted = loss_weighted
        self.decay = decay
        self._means: dict[str, float] = {}

    def solve(self, problem: Problem) -> Solution:
        """The weights by this step's change."""
        before, now = self._before_and_now(problem)
        rates = now - before
        if self.normalized:
            rates = rates / (np.abs(rates).sum() or 1.0)
        signed = np.sign(self.beta) * rates
        with np.errstate(over="ignore", divide="ignore"):  # what is hopelessly far behind gets 0
            logits = np.maximum(abs(self.beta) * (signed - signed.max()), _LOWEST)
            if self.loss_weighted:
                check_losses(problem, "SoftAdapt multiplies by the losses", positive=False)
                logits = logits + np.log(now) if now.any() else logits
        return Solution(softmax(logits))

    def update(self, problem: Problem, solution: Solution) -> None:
        """Remember the losses."""
        _, now = self._before_and_now(problem)
        self._means |= dict(zip(problem.names, now.tolist(), strict=True))

    def _before_and_now(self, problem: Problem) -> tuple[Array, Array]:
        losses = problem.losses
        known = zip(problem.names, losses.tolist(), strict=True)
        before = np.array([self._means.get(name, loss) for name, loss in known])
        return before, self.decay * before + (1 - self.decay) * losses

    def state_dict(self) -> State:
        """The moving averages, by name."""
        return {"means": dict(self._means)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the saved averages."""
        self._means = checked_state(self, state, {"means": {str: "(-inf, inf)"}})["means"]
