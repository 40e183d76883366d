"""`Balancer`: what stands where `sum(losses).backward()` stood."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.distributed import ProcessGroup

from gradbalance.gradients import (
    Heads,
    LossesOnly,
    Representation,
    SharedParameters,
    Source,
)
from gradbalance.gradients.accumulation import Accumulated
from gradbalance.gradients.loss_scale import overflowed, scale_losses
from gradbalance.gradients.ranks import Ranks
from gradbalance.host import overflowed_in_gramians, to_host
from gradbalance.losses import Losses, LossValues, check_tasks, named_losses, named_values
from gradbalance.report import Report, join_groups
from gradbalance.solvers import Solver
from gradbalance.step import NonFinite, Scale, Step, ZeroGradients
from gradbalance.weighing import Weighing

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
        distributed: the process group whose ranks train the model together; True is the default
            group, if there is one, and False is this process alone. The weights are those of the
            means over the ranks, of losses and of gradients, and the same on all of them; `.grad`
            gets the rank's own share, for DDP, or whatever else averages gradients, to average.
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
        distributed: bool | ProcessGroup = True,
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
        heads_of_step: Heads = heads or ("raw" if solver.weighs == "gradients" else "weighted")
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
        if heads_of_step == "weighted" and source.groups != ("",):
            raise ValueError(
                "a task has one weight a group, so its head has none; found groups "
                f'{list(source.groups)} and heads="weighted". Use heads="raw"'
            )
        self.solver = solver
        self.source = source
        self.heads: Heads = heads_of_step
        self.scale = scale
        self.zero_gradients = zero_gradients
        self.nonfinite = nonfinite
        self.every = every
        self.distributed = distributed
        self._agreed_tasks: tuple[str, ...] | None = None
        self.tasks: tuple[str, ...] | None = None if tasks is None else check_tasks(tasks)
        self._weighing = Weighing(
            solver,
            source.groups,
            scale=scale,
            zero_gradients=zero_gradients,
            nonfinite=nonfinite,
            every=every,
        )
        self._accumulated = Accumulated()

    def backward(
        self,
        losses: Losses,
        *,
        representation: Tensor | Sequence[Tensor] | None = None,
        retain_graph: bool = False,
        scaler: GradScaler | None = None,
    ) -> Report:
        """Balance the losses and accumulate the result into `.grad`, as `Tensor.backward` would.

        Args:
            losses: by name, in order, or as one [T] tensor; each has one element. A task that is
                not in the mapping, or None, is absent this step.
            representation: the shared representation, for a `Representation()` source.
            retain_graph: keep the graph for another backward.
            scaler: the loss scale of mixed precision. The losses are passed as they are; `.grad`
                is written scaled, for `scaler.step(optimizer)` and `scaler.update()`, as after
                `scaler.scale(loss).backward()`. The report is of unscaled gradients. Where they
                overflow, `.grad` is left for the scaler to find, the status is "skipped" and no
                state changes.

        Returns:
            What was seen and done.

        Raises:
            ValueError: the losses or gradients cannot be used; the message names the task and says
                what would be right. Nothing was written then, and no state was changed.
        """
        named, tasks = named_losses(losses, self.tasks)
        source = self._source_of_step(representation)
        ranks = self._ranks_of_step(named, tasks)
        total = self._accumulated.total(named)
        present = total if ranks is None else ranks.mean_losses(total, tasks)
        scaled, factor = scale_losses(named, scaler)
        reuses = not self._accumulated.losses and self._weighing.can_reuse(present)
        differentiate = source.reuse if reuses else source.measure
        gradients = differentiate(scaled, heads=self.heads, retain_graph=retain_graph)
        if self._accumulated.losses:
            accumulated, self._accumulated = self._accumulated, Accumulated()
            accumulated.add(named, gradients)
            gradients = accumulated.gradients
        values, grams = to_host(present, gradients, ranks, factor)
        overflow = scaler is not None and overflowed_in_gramians(values, grams)
        if overflow:
            steps = self._weighing.skip(values, list(gradients), tasks)
        elif reuses:
            steps = self._weighing.reuse(values, list(gradients), tasks)
        else:
            steps = self._weighing.solve(values, grams, tasks)
        for group, step in steps.items():
            if step.weights:  # what overflowed is written as well, for the scaler to find
                written = dict.fromkeys(present, 1.0) if overflow else step.weights
                gradients[group].backward(written, zeros=ranks is not None)
        self.tasks = tasks
        if scaler is not None and not overflow:
            overflow = overflowed(scaled)
            overflow = overflow if ranks is None else ranks.any(overflow, present)
            if overflow:
                steps = self._weighing.skip(values, list(gradients), tasks)
        if not overflow:
            self._weighing.remember(steps)
        return _report_of(steps)

    def accumulate(self, losses: Losses, *, scaler: GradScaler | None = None) -> None:
        """Add a micro-batch to the step that the next `backward` solves; frees its graph.

        Rows are summed, and with them losses and the heads' gradients, as `.grad` is by several
        backwards: scale the losses as you would there. One Gramian of the sums is solved, so that
        the step is that of the whole batch. Nothing is written until then; such a step is always
        solved, whatever `every` says. A step that is refused drops what was accumulated.

        Args:
            losses: as for `backward`.
            scaler: as for `backward`.

        Raises:
            ValueError: the losses cannot be used, or the source keeps no rows.

        Example:
            >>> import torch, gradbalance as gb
            >>> model, x = torch.nn.Linear(2, 2), torch.ones(8, 2)
            >>> balancer = gb.Balancer(gb.MGDA())
            >>> def losses(x):
            ...     y = model(x)
            ...     return {"a": y[:, 0].square().mean() / 2, "b": (y - 1).abs().mean() / 2}
            >>> balancer.accumulate(losses(x[:4]))
            >>> report = balancer.backward(losses(x[4:]))
        """
        named, tasks = named_losses(losses, self.tasks)
        if not self.source.accumulates:
            raise ValueError(
                "accumulate() needs rows that are both measured and written, those of "
                "SharedParameters() without measure= or sketch=; found "
                f"{type(self.source).__name__}. Call backward(losses) for each micro-batch instead"
            )
        scaled, _ = scale_losses(named, scaler)
        gradients = self.source.measure(scaled, heads=self.heads, retain_graph=False)
        self._accumulated.add(named, gradients)
        self.tasks = tasks

    def measure(
        self, losses: Losses, *, representation: Tensor | Sequence[Tensor] | None = None
    ) -> Report:
        """The report of a step solved now; touches no `.grad`, no state and no graph."""
        named, tasks = named_losses(losses, self.tasks)
        source = self._source_of_step(representation)
        ranks = self._ranks_of_step(named, tasks)
        present = named if ranks is None else ranks.mean_losses(named, tasks)
        gradients = source.measure(named, heads=self.heads, retain_graph=True)
        return _report_of(self._weighing.solve(*to_host(present, gradients, ranks), tasks))

    def after_step(self, losses: LossValues) -> None:
        """Tell the solver the losses of the same batch after the optimizer's step.

        Needed by `FAMO`. Does nothing for solvers that do not need it, and nothing where the last
        `backward` wrote nothing or reused weights, so that a loop may always call it.

        Args:
            losses: as for `backward`, or floats; no graph is needed.

        Raises:
            ValueError: the losses cannot be used; no state was changed then.
        """
        if not self._weighing.wants_losses_after_step():
            return
        named = named_values(losses, self.tasks)
        assert self.tasks is not None
        ranks = self._ranks_of_step(named, self.tasks)
        values, _ = to_host(named if ranks is None else ranks.mean_losses(named, self.tasks), {})
        for name, value in values.items():
            if self.nonfinite == "raise" and not np.isfinite(value):
                raise ValueError(
                    f"the loss of task {name!r} after the step is not finite; found {value}. "
                    'Balancer(..., nonfinite="skip") would leave such a task out'
                )
        self._weighing.after_step(values)

    def end_epoch(self) -> None:
        """Tell the solver that an epoch has ended.

        Needed by `DWA`; does nothing for solvers that do not need it.

        Raises:
            ValueError: no step was taken since the last call.
        """
        self._weighing.end_epoch()

    def _ranks_of_step(self, losses: Mapping[str, Tensor], tasks: tuple[str, ...]) -> Ranks | None:
        ranks = Ranks.of(self.distributed)
        if ranks is not None and tasks != self._agreed_tasks:
            ranks.check_same(tasks, next(iter(losses.values())))
            self._agreed_tasks = tasks
        return ranks

    def _source_of_step(self, representation: Tensor | Sequence[Tensor] | None) -> Source:
        if representation is not None:
            if not isinstance(self.source, Representation):
                raise ValueError(
                    "representation= is for a Representation() source; found "
                    f"{type(self.source).__name__}"
                )
            self.source.provide(representation)
        return self.source

    def get_extra_state(self) -> dict[str, Any]:
        """The names of the tasks, the solver's state and the last weights, as plain values."""
        return {
            "version": _STATE_VERSION,
            "tasks": None if self.tasks is None else list(self.tasks),
            "solver": type(self.solver).__name__,
            "weighing": self._weighing.state_dict(),
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
        self._weighing.load_state_dict(state["weighing"])
        self.tasks = saved or self.tasks


def _report_of(steps: Mapping[str, Step]) -> Report:
    reports = {group: step.report for group, step in steps.items()}
    return reports[""] if "" in reports else join_groups(reports)
