"""`Balancer`: what stands where `sum(losses).backward()` stood."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from gradbalance.gradients import (
    Heads,
    LossesOnly,
    Representation,
    SharedParameters,
    Source,
    TaskGradients,
)
from gradbalance.losses import Losses, LossValues, check_tasks, named_losses, named_values
from gradbalance.report import Array, Report
from gradbalance.solvers import AfterStep, EndEpoch, Solver
from gradbalance.step import NonFinite, Scale, Step, ZeroGradients, reuse_step, solve_step

_STATE_VERSION = 1


class Balancer(nn.Module):
    r"""Balances several losses: `report = balancer.backward(losses)`.

    .. math:: G = J J^\top, \qquad w = \mathrm{solver}(L, G), \qquad
        \texttt{.grad} \mathrel{+}= J^\top w

    with J [T, P] the gradients of the T losses, as the source obtains them. It is a module, so its
    state is saved with the model's; it has no parameters and no buffers, so `.to` and `.half` do
    nothing to it. It keeps no reference that would register the model a second time.

    Args:
        solver: the method that chooses the weights.
        source: where the gradients come from. By default what the solver needs: `LossesOnly()`,
            or `SharedParameters()`, which finds from the graphs what the tasks share.
        heads: what the tasks do not share gets its "raw" gradients or "weighted" ones. By default
            raw for solvers that weigh gradients (an exact MGDA gives zero weights, and a weighted
            head would starve), weighted for those that weigh losses.
        scale: None leaves the weights as the method defines them; "sum" rescales them to Σw = T,
            "norm" rescales the direction to the norm of the plain sum. Either makes methods
            comparable at one learning rate.
        zero_gradients: a task whose gradient is exactly zero is solved around ("absent"), or
            taken as it is ("strict": MGDA then returns 0, by definition). The default is "absent"
            because an exact zero comes from a mask, a satisfied hinge or a zero-initialised head
            and not from convergence: it must not freeze the others. The task's head still gets
            its raw gradient. Solvers that weigh losses take zeros as they are.
        nonfinite: a loss or gradient that is NaN or infinite raises ("raise"), or its task is
            left out of this step, head included, and the report says so ("skip").
        every: solve at every k-th step only, and reuse the last weights for the k − 1 steps
            between: one ordinary backward each (and one through the heads where they stay raw),
            status "reused". Nothing is promised then. A step with a task that has no weight to
            reuse is solved.
        tasks: the names of all tasks; by default those of the first call.

    Raises:
        ValueError: an option is unknown, or the solver needs more than the source measures.

    Example:
        >>> import torch, gradbalance as gb
        >>> model = torch.nn.Linear(2, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> balancer = gb.Balancer(gb.MGDA())
        >>> for _ in range(3):
        ...     y = model(torch.ones(4, 2))
        ...     optimizer.zero_grad()
        ...     losses = {"a": y[:, 0].square().mean(), "b": (y - 1).abs().mean()}
        ...     report = balancer.backward(losses)
        ...     optimizer.step()
        >>> report.names
        ('a', 'b')
    """

    def __init__(
        self,
        solver: Solver,
        source: Source | None = None,
        *,
        heads: Heads | None = None,
        scale: Scale | None = None,
        zero_gradients: ZeroGradients = "absent",
        nonfinite: NonFinite = "raise",
        every: int = 1,
        tasks: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(solver, Solver):
            raise ValueError(f"solver must be a Solver such as MGDA(); found {solver!r}")
        if source is None:
            source = LossesOnly() if solver.needs == "losses" else SharedParameters()
        if not isinstance(source, Source):
            raise ValueError(
                f"source must be a Source such as SharedParameters(model.trunk); found {source!r}"
            )
        if solver.needs == "gramian" and not source.measures_gramian:
            raise ValueError(
                f"{type(solver).__name__} needs the gradients' Gramian, which "
                f"{type(source).__name__} does not measure; use SharedParameters() or "
                "Representation(model.trunk)"
            )
        if scale == "norm" and not source.measures_gramian:
            raise ValueError(
                f'scale="norm" needs the gradients\' Gramian, which {type(source).__name__} does '
                'not measure; use scale="sum" or SharedParameters()'
            )
        default_heads: Heads = "raw" if solver.weighs == "gradients" else "weighted"
        for argument, found, choices in (
            ("heads", heads, (None, *get_args(Heads))),
            ("scale", scale, (None, *get_args(Scale))),
            ("zero_gradients", zero_gradients, get_args(ZeroGradients)),
            ("nonfinite", nonfinite, get_args(NonFinite)),
        ):
            if found not in choices:
                raise ValueError(f"{argument} must be one of {list(choices)}; found {found!r}")
        if heads == "raw" and not source.measures_gramian:
            raise ValueError(
                f'heads="raw" needs to know what the tasks share, and {type(source).__name__} does '
                'one backward of the weighted sum; use SharedParameters() or heads="weighted"'
            )
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"every must be a whole number of steps, at least 1; found {every!r}")
        self.solver = solver
        self.source = source
        self.heads: Heads = heads or default_heads
        self.scale = scale
        self.zero_gradients = zero_gradients
        self.nonfinite = nonfinite
        self.every = every
        self.tasks: tuple[str, ...] | None = None if tasks is None else check_tasks(tasks)
        self._last_weights: dict[str, float] = {}
        self._num_reused = 0

    def backward(
        self,
        losses: Losses,
        *,
        representation: Tensor | Sequence[Tensor] | None = None,
        retain_graph: bool = False,
    ) -> Report:
        """Balance the losses and accumulate the result into `.grad`, as `Tensor.backward` would.

        Args:
            losses: by name, in order, or as one [T] tensor; each has one element. A task that is
                not in the mapping, or None, is absent this step.
            representation: the shared representation, for a `Representation()` source.
            retain_graph: keep the graph for another backward.

        Returns:
            What was seen and done.

        Raises:
            ValueError: the losses or gradients cannot be used; the message names the task and says
                what would be right. Nothing was written then, and no state was changed.
        """
        named, tasks = named_losses(losses, self.tasks)
        source = self._source_of_step(representation)
        if self._num_reused + 1 < self.every and self._last_weights.keys() >= named.keys():
            gradients = source.reuse(named, heads=self.heads, retain_graph=retain_graph)
            step = self._reuse(named, tasks)
        else:
            gradients = source.measure(named, heads=self.heads, retain_graph=retain_graph)
            step = self._solve(named, tasks, gradients)
        if step.weights:
            gradients.backward(step.weights)
            self._num_reused += 1
        if step.problem is not None and step.solution is not None:
            self.solver.update(step.problem, step.solution)
            self._last_weights = {task: step.weights[task] for task in step.problem.names}
            self._num_reused = 0
        self.tasks = tasks
        return step.report

    def measure(
        self, losses: Losses, *, representation: Tensor | Sequence[Tensor] | None = None
    ) -> Report:
        """The report of a step solved now; touches no `.grad`, no state and no graph."""
        named, tasks = named_losses(losses, self.tasks)
        source = self._source_of_step(representation)
        gradients = source.measure(named, heads=self.heads, retain_graph=True)
        return self._solve(named, tasks, gradients).report

    def after_step(self, losses: LossValues) -> None:
        """Tell the solver the losses of the same batch after the optimizer's step.

        Needed by `FAMO`. Does nothing for solvers that do not need it, and nothing where the last
        `backward` wrote nothing, so that a loop may always call it.

        Args:
            losses: as for `backward`, or floats; no graph is needed.

        Raises:
            ValueError: the losses cannot be used; no state was changed then.
        """
        if not isinstance(self.solver, AfterStep):
            return
        named = named_values(losses, self.tasks)
        values = _to_host(list(named.values()), None)[0].tolist()
        for name, value in zip(named, values, strict=True):
            if self.nonfinite == "raise" and not np.isfinite(value):
                raise ValueError(
                    f"the loss of task {name!r} after the step is not finite; found {value}. "
                    'Balancer(..., nonfinite="skip") would leave such a task out'
                )
        self.solver.after_step(dict(zip(named, values, strict=True)))

    def end_epoch(self) -> None:
        """Tell the solver that an epoch has ended.

        Needed by `DWA`; does nothing for solvers that do not need it.

        Raises:
            ValueError: no step was taken since the last call.
        """
        if isinstance(self.solver, EndEpoch):
            self.solver.end_epoch()

    def _source_of_step(self, representation: Tensor | Sequence[Tensor] | None) -> Source:
        if representation is not None:
            if not isinstance(self.source, Representation):
                raise ValueError(
                    "representation= is for a Representation() source; found "
                    f"{type(self.source).__name__}"
                )
            self.source.provide(representation)
        return self.source

    def _solve(
        self, losses: dict[str, Tensor], tasks: tuple[str, ...], gradients: TaskGradients
    ) -> Step:
        values, gram = _to_host(list(losses.values()), gradients.gram())
        return solve_step(
            self.solver,
            list(losses),
            values,
            gram,
            tasks=tasks,
            scale=self.scale,
            zero_gradients=self.zero_gradients,
            nonfinite=self.nonfinite,
        )

    def _reuse(self, losses: dict[str, Tensor], tasks: tuple[str, ...]) -> Step:
        values, _ = _to_host(list(losses.values()), None)
        return reuse_step(
            self.solver,
            list(losses),
            values,
            self._last_weights,
            tasks=tasks,
            nonfinite=self.nonfinite,
        )

    def get_extra_state(self) -> dict[str, Any]:
        """The names of the tasks, the solver's state and the last weights, as plain values."""
        return {
            "version": _STATE_VERSION,
            "tasks": None if self.tasks is None else list(self.tasks),
            "solver": type(self.solver).__name__,
            "state": self.solver.state_dict(),
            "last_weights": dict(self._last_weights),
            "num_reused": self._num_reused,
        }

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `get_extra_state` returned.

        Raises:
            ValueError: the state is of another solver, other tasks or a later version.
        """
        if state.get("version") != _STATE_VERSION:
            raise ValueError(
                f"not a state of this version of Balancer: found version {state.get('version')!r}, "
                f"this one reads {_STATE_VERSION}"
            )
        if state["solver"] != type(self.solver).__name__:
            raise ValueError(
                f"the state is of the solver {state['solver']}, but this Balancer has "
                f"{type(self.solver).__name__}"
            )
        saved = None if state["tasks"] is None else tuple(state["tasks"])
        if None not in (saved, self.tasks) and saved != self.tasks:
            raise ValueError(
                f"the state is of the tasks {saved}, but this Balancer has {self.tasks}"
            )
        self.solver.load_state_dict(state["state"])
        self.tasks = saved or self.tasks
        self._last_weights = dict(state["last_weights"])
        self._num_reused = int(state["num_reused"])


@torch.no_grad()
def _to_host(losses: list[Tensor], gram: Tensor | None) -> tuple[Array, Array | None]:
    """Losses [t] and Gramian [t, t] in one copy from the device."""
    like = losses[0] if gram is None else gram
    dtype = torch.float32 if like.device.type == "mps" else torch.float64
    parts = [loss.detach().reshape(1).to(like.device, dtype) for loss in losses]
    if gram is not None:
        parts.append(gram.reshape(-1).to(dtype))
    flat = torch.cat(parts).cpu().numpy().astype(np.float64)
    values, entries = flat[: len(losses)], flat[len(losses) :]
    return values, None if gram is None else entries.reshape(gram.shape)
