"""FAMO: equalise the relative decreases of all losses, using the losses alone."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from scipy.special import softmax  # type: ignore[import-untyped]

from gradbalance.numerics.checks import check_number
from gradbalance.solvers.hooks import AfterStep
from gradbalance.solvers.learned import VARIABLES, LearnedVariables
from gradbalance.solvers.options import PerTask, check_per_task, per_task
from gradbalance.solvers.solver import Problem, Solution, Solver, State
from gradbalance.solvers.state import checked_state


@final
class FAMO(Solver, AfterStep):
    r"""Fast adaptive multi-task optimisation: tasks with the least relative progress gain weight.

    .. math::
        w_i \propto \frac{z_i}{L_i - b_i}, \quad \sum_i w_i = 1, \quad
        z = \operatorname{softmax} \xi, \qquad
        \xi \leftarrow \xi - \mathrm{lr} \cdot \mathrm{Adam}\big(
            z \odot (\delta - z^\top \delta) + \gamma \xi \big), \\
        \delta_i = \log(L_i - b_i) - \log(L_i' - b_i)

    with L [T] the losses, b [T] their lower bounds, ξ [T] the logits, initially 0, and L' [T] the
    losses of the same batch after the optimizer's step: after every `optimizer.step()`, call
    `balancer.after_step(losses)` with them; before that, `measure` raises an error. w(t) is applied
    and reported, then ξ is updated. For micro-batches, use `balancer.accumulate`. No task's loss is
    guaranteed to decrease.

    Args:
        lr: the learning rate of ξ, > 0.
        weight_decay: γ ≥ 0, which pulls the weights back to equal ones.
        min_losses: b, values that the losses never reach, by name or in order; zeros by default.

    Raises:
        ValueError: an option is out of range or does not fit the tasks, a loss is not above its
            bound, or `after_step` was not called after the last step.

    Example:
        >>> import gradbalance as gb
        >>> solver = gb.FAMO(lr=0.1)
        >>> problem = gb.Problem.of(losses=[1.0, 1.0])
        >>> solver.update(problem, solver.solve(problem))
        >>> solver.after_step({"0": 0.9, "1": 0.5})
        >>> solver.solve(problem).weights.round(3)
        array([0.55, 0.45])

    References:
        Liu et al. 2023, arXiv 2306.03792.

    Deviation: Adam is used without its ε, and no 1e-8 is added to L − b, so the units of the losses
    do not matter; a loss at its bound is an error. The official code also clips the gradient norm
    to 1; here this is left to the training loop. Its γ is 0.01, 0.001 or 1e-5 in different files.
    """

    needs = "losses"
    weighs = "losses"

    def __init__(
        self,
        *,
        lr: float = 0.025,
        weight_decay: float = 0.001,
        min_losses: PerTask | None = None,
    ) -> None:
        check_number("lr", lr, "(0, inf)")
        check_number("weight_decay", weight_decay, "[0, inf)")
        check_per_task("min_losses", min_losses)
        self.lr = lr
        self.weight_decay = weight_decay
        self.min_losses = min_losses
        self._logits = LearnedVariables()
        # The result of `_above_bounds` for the step whose outcome is not known yet.
        self._pending: dict[str, dict[str, float]] = {}

    @property
    def takes_zero_losses(self) -> bool:
        """Whether bounds were given; a loss at its bound, which need not be 0, is an error."""
        return self.min_losses is not None

    def solve(self, problem: Problem) -> Solution:
        """Return the present weights."""
        if self._pending:
            raise ValueError(
                "FAMO was not told what the last step did: call balancer.after_step(losses) after "
                "optimizer.step(), with the losses of the same batch computed again. The "
                "micro-batches of one step are summed by balancer.accumulate(losses)"
            )
        log_gaps = np.array([before["log_gap"] for before in self._above_bounds(problem).values()])
        # The softmax of log(z / (L − b)) + a constant.
        return Solution(softmax(self._logits.of(problem.names) - log_gaps))

    def update(self, problem: Problem, solution: Solution) -> None:
        """Remember the losses until those after the step are known."""
        self._pending = self._above_bounds(problem)

    def _above_bounds(self, problem: Problem) -> dict[str, dict[str, float]]:
        """By task, its bound b and log(L − b)."""
        bounds = per_task("min_losses", self.min_losses, problem, 0.0).tolist()
        triples = zip(problem.names, problem.losses.tolist(), bounds, strict=True)
        return {n: {"bound": b, "log_gap": _log_gap(n, loss, b)} for n, loss, b in triples}

    def after_step(self, losses: Mapping[str, float]) -> None:
        """Take one Adam step on the logits, from the decrease of each loss."""
        missing = [name for name in self._pending if name not in losses]
        if missing:
            raise ValueError(
                f"after_step needs the loss of every task of the last step; {missing} are missing "
                f"in {sorted(losses)}"
            )
        # The log decrease of a loss at its bound is infinite, so such a loss is ignored.
        told = {name: losses[name] for name in self._pending if np.isfinite(losses[name])}
        names = [name for name, loss in told.items() if loss != self._pending[name]["bound"]]
        before = np.array([self._pending[name]["log_gap"] for name in names])
        after = np.array([_log_gap(n, losses[n], self._pending[n]["bound"]) for n in names])
        if names:
            logits = self._logits.of(names)
            shares = softmax(logits)
            falls = before - after
            gradient = shares * (falls - shares @ falls) + self.weight_decay * logits
            self._logits.descend(names, gradient, lr=self.lr)
        self._pending = {}

    def state_dict(self) -> State:
        """The logits and their moments, and the step whose outcome is not known yet."""
        return {
            "logits": self._logits.state_dict(),
            "pending": {name: dict(before) for name, before in self._pending.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue before or after `after_step`, wherever the state was saved."""
        pending = {str: {"bound": "(-inf, inf)", "log_gap": "(-inf, inf)"}}
        state = checked_state(self, state, {"logits": VARIABLES, "pending": pending})
        self._logits.load_state_dict(state["logits"])
        self._pending = state["pending"]


def _log_gap(name: str, loss: float, bound: float) -> float:
    """The logarithm of L − b, or a ValueError that names the task."""
    if not loss > bound:
        raise ValueError(
            f"FAMO takes the logarithm of each loss above its lower bound; found {loss:g} for task "
            f"{name!r} with the bound {bound:g}. Lower it with FAMO(min_losses=...)"
        )
    return float(np.log(loss - bound))
