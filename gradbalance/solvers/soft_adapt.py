"""SoftAdapt: more weight for tasks whose losses decrease least from step to step."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from scipy.special import softmax  # type: ignore[import-untyped]

from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_choice, check_number
from gradbalance.solvers.options import check_losses
from gradbalance.solvers.solver import Problem, Solution, Solver, State
from gradbalance.solvers.state import checked_state

_LOWEST = -1e300  # the smallest logit, so that only a zero loss has the logit -inf


@final
class SoftAdapt(Solver):
    r"""SoftAdapt: weights are the softmax of the losses' rates of change.

    .. math::
        w_i \propto f_i \exp(\beta s_i), \quad \sum_i w_i = 1, \qquad
        s_i = m_i(t) - m_i(t-1), \quad m_i(t) = \gamma\, m_i(t-1) + (1 - \gamma) L_i(t)

    with L [T] the losses, m [T] their moving averages, which start at the first loss of each task,
    and f = 1. `normalized` replaces s by s / Σ|s_j|, and `loss_weighted` sets f = m(t); both can be
    combined. A new task has s = 0. γ = 0 gives the paper's rule, with differences of successive
    losses. `Balancer(scale="sum")` rescales the weights to the sum T, as of `Uniform`. No task's
    loss is guaranteed to decrease.

    Args:
        beta: β; a larger value gives more weight to the task with the least progress. Negative
            values give more weight to the tasks with the most. In inverse units of the losses,
            unless `normalized`.
        normalized: whether to divide the rates of change by the sum of their absolute values.
        loss_weighted: whether to multiply by the averages m; losses must then not be negative.
        decay: γ in [0, 1), which smooths the losses of mini-batches.

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

    Deviation: the official code computes derivatives of order up to 5 from a window of stored
    losses; here γ does the smoothing. Its latest version normalises by Σ s_j, which is negative
    while the losses decrease, so the fastest task gets the largest weight; its first version and
    this one normalise by Σ|s_j|.
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
        """Compute the weights from the change at this step."""
        before, now = self._before_and_now(problem)
        rates = now - before
        if self.normalized:
            rates = rates / (np.abs(rates).sum() or 1.0)
        signed = np.sign(self.beta) * rates
        with np.errstate(over="ignore", divide="ignore"):  # an overflow means the weight 0
            logits = np.maximum(abs(self.beta) * (signed - signed.max()), _LOWEST)
            if self.loss_weighted:
                check_losses(problem, "SoftAdapt multiplies by the losses", positive=False)
                logits = logits + np.log(now) if now.any() else logits
        return Solution(softmax(logits))

    def update(self, problem: Problem, solution: Solution) -> None:
        """Remember the averaged losses."""
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
