"""`Balancer`: a criterion that replaces `sum(losses)` in a training loop."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from gradbalance.agreement import Agreement
from gradbalance.decision import Decision, as_carried, reuse, skip, solve
from gradbalance.eager import eager
from gradbalance.gradients import (
    Heads,
    LossesOnly,
    Request,
    SharedParameters,
    Source,
    TaskGradients,
)
from gradbalance.gradients.autograd import explain
from gradbalance.gradients.graph import Graph
from gradbalance.gradients.micro_batches import MicroBatches
from gradbalance.loss import balanced_loss, write
from gradbalance.losses import Losses, LossValues, check_tasks, named_losses, named_values
from gradbalance.measured import Measured, look, plain_sum, widest_of
from gradbalance.memory import Memory
from gradbalance.numerics import Status
from gradbalance.policy import (
    NonFinite,
    Policy,
    RanksHold,
    Scale,
    ZeroGradients,
    checked_policy,
)
from gradbalance.report import Report
from gradbalance.solvers import Solver
from gradbalance.state import capacity_for, decode, encode


@dataclass(frozen=True)
class _Call:
    """What is fixed when a balanced loss is created, and needed when its backward runs."""

    losses: Mapping[str, Tensor]
    tasks: tuple[str, ...]
    gradients: TaskGradients
    earlier: MicroBatches | None
    retain_graph: bool


class Balancer(nn.Module):
    r"""Combine several losses into one: `loss = balancer(losses)`, then `loss.backward()`.

    .. math:: G = J J^\top, \qquad w = \mathrm{solver}(L, G), \qquad
        \texttt{.grad} \mathrel{+}= u \, J^\top w

    with L [T] the losses of T tasks, J [T, P] their gradients as the source computes them, and u
    the gradient that the balanced loss itself receives: 1, a loss scale, or 1/k if you divide the
    loss by k. The value of the balanced loss is the plain sum of the losses. The gradients are
    measured, the weights computed and `.grad` written during its backward pass, so it works like
    any other loss with whatever runs the backward (a `GradScaler`, a trainer, an optimizer's
    closure, DDP). Under `torch.no_grad()` it is just the sum.

    A Balancer is a module, so its state is saved together with the model's. It has no parameters
    and no buffers, so `.to` and `.half` do not affect it, and it never registers the model as a
    submodule of its own. Options are read-only.

    Args:
        solver: the method that computes the weights.
        source: how the gradients are computed. The default depends on the solver: `LossesOnly()`
            if it needs only the losses, otherwise `SharedParameters()`, which finds the parameters
            that the tasks share in the autograd graphs.
        heads: which gradients the heads get, that is the parameters that the tasks do not share:
            "raw" for the tasks' own gradients, "weighted" for gradients times the weights. The
            default is "raw" for solvers that weight gradients (exact MGDA can give a task the
            weight 0, and its head would stop learning) and "weighted" for those that weight losses.
        scale: None leaves the weights as the method defines them; "sum" rescales them to Σ|w| = T;
            "norm" rescales the direction to the norm of the plain sum's gradient. "sum" and "norm"
            make methods comparable at the same learning rate.
        zero_gradients: what to do with a task whose gradient is exactly zero: leave it out
            ("absent") or pass it to the solver ("strict"; MGDA then returns 0, by definition). The
            default is "absent", because an exact zero comes from a mask, a satisfied hinge loss or
            a zero-initialised head and not from convergence, and must not stop the other tasks.
            The task's head still gets its raw gradient. Solvers that weight losses always include
            such tasks.
        nonfinite: what to do if a loss or gradient is NaN or infinite: "raise" an error, or "skip"
            its task in this step, head included, and note that in the report.
        every: solve only at every k-th step, and reuse the last weights for the k − 1 steps in
            between. These cost one ordinary backward each, have the status "reused", and guarantee
            nothing. Raw heads need a second backward where a weight is 0, where several tasks use
            the same head, or where precision is below float32. A step with a task that has no
            weight to reuse is always solved.
        distributed: the process group of the ranks that train the model together; True is the
            default group, if there is one, and False is this process alone. The weights are
            computed from losses and gradients averaged over the ranks, so they are the same on all
            ranks. `.grad` gets each rank's own contribution, which DDP (or whatever else averages
            gradients) then averages.
        replicas: "same" if the shared parameters must stay equal on all ranks. If they differ,
            nothing averages the gradients, and an error is raised from the second step on. "apart"
            is for ranks that are meant to differ, for example between the averages of local SGD.
        tasks: the names of all tasks; by default those of the first call.

    Raises:
        ValueError: an option is invalid, or the solver needs a Gramian that the source does not
            measure.

    Example:
        >>> import torch, gradbalance as gb
        >>> model = torch.nn.Linear(2, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> balancer = gb.Balancer(gb.UPGrad())
        >>> for _ in range(3):
        ...     y = model(torch.ones(4, 2))
        ...     optimizer.zero_grad()
        ...     loss = balancer({"a": y[:, 0].square().mean(), "b": (y - 1).abs().mean()})
        ...     loss.backward()
        ...     optimizer.step()
        >>> balancer.report.names
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
        replicas: RanksHold = "same",
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
        self._policy = checked_policy(
            solver,
            source,
            heads=heads,
            scale=scale,
            zero_gradients=zero_gradients,
            nonfinite=nonfinite,
            every=every,
            distributed=distributed,
            replicas=replicas,
        )
        self._source = source
        self._memory = Memory(solver, source.groups, every=every)
        self._tasks = None if tasks is None else check_tasks(tasks)
        self._capacity = capacity_for(self._tasks, len(source.groups))
        options = {k: v for k, v in vars(self._policy).items() if k != "distributed"}
        built = f"{solver}, {source}, {options}"
        self._agreement = Agreement(distributed, built, stay_alike=replicas == "same")
        self._micro_batches: MicroBatches | None = None
        self._report: Report | None = None
        self._holds = False

    @eager
    def forward(
        self,
        losses: Losses,
        *,
        representation: Tensor | Sequence[Tensor] | None = None,
        retain_graph: bool = False,
    ) -> Tensor:
        """Return the balanced loss, on which to call `backward()`; same as `balancer(losses)`.

        Args:
            losses: a mapping from task names to losses, a sequence of losses in the order of the
                tasks, or one tensor [T]; each loss has one element. A task that is None, or missing
                from the mapping, is absent in this step.
            representation: the shared representation, for a `Representation()` source.
            retain_graph: keep the autograd graph of the losses for another backward: that of a
                term added to the balanced loss, or of another Balancer. The graph behind a
                representation is kept by `loss.backward(retain_graph=True)`.

        Returns:
            The plain sum of the losses as a scalar tensor, in float32 or the losses' wider dtype.
            With `nonfinite="skip"` only finite losses are summed; inside `hold()` the sum is
            weighted. `report` and the state change when its backward runs.

        Raises:
            ValueError: in this call if names, shapes or graphs cannot be used, and in the backward
                if values cannot. The message names the task and says what would be right. Nothing
                is written then, and no state changes.
        """
        if not torch.is_grad_enabled():
            named, _ = named_losses(losses, self._known_tasks, differentiable=False)
            return plain_sum(named, finite_only=self._policy.nonfinite == "skip")
        with self._agreement.alone():
            named, tasks = named_losses(losses, self._known_tasks)
            if self._holds:
                self._source.commit(None, freed=True)
                return self._weighted_sum(named)
            value = plain_sum(named, finite_only=self._policy.nonfinite == "skip")
            call = self._open(named, tasks, representation, retain_graph=retain_graph)
        return balanced_loss(value, call.gradients.ends, partial(self._take_step, call))

    @eager
    def backward(
        self,
        losses: Losses,
        *,
        representation: Tensor | Sequence[Tensor] | None = None,
        retain_graph: bool = False,
    ) -> Report:
        """Run `balancer(losses).backward()` in one call, and return the report.

        Args:
            losses: as for `forward`.
            representation: as for `forward`.
            retain_graph: keep the autograd graph of the losses for another backward.

        Returns:
            The property `report` after this step.

        Raises:
            ValueError: the losses or gradients cannot be used.
        """
        try:
            if self._holds:
                with torch.enable_grad():
                    loss = self(losses, representation=representation)
                loss.backward(retain_graph=retain_graph)
            else:
                with self._agreement.alone():
                    named, tasks = named_losses(losses, self._known_tasks)
                    call = self._open(named, tasks, representation, retain_graph=retain_graph)
                take_step = partial(self._take_step, call)
                write(call.gradients.ends, take_step, retain_graph=retain_graph)
        except RuntimeError as error:
            explain(error)
        return self.report

    @eager
    def accumulate(self, losses: Losses, *, loss_scale: float = 1.0) -> None:
        """Add a micro-batch to the step of the next balanced loss, and free its graph.

        Losses and gradients (those of the heads too) are summed over the micro-batches, as `.grad`
        is summed over several backwards: divide the losses as you would for ordinary gradient
        accumulation. The weights are computed once, from the Gramian of the summed gradients, so
        the step equals that on the whole batch. Nothing is written to `.grad` before the next
        balanced loss, and its step is always solved, whatever `every` is. If that step raises an
        error, the accumulated micro-batches are dropped. Memory holds one gradient of every
        parameter per task, also for `LossesOnly`.

        Args:
            losses: as for `forward`.
            loss_scale: the factor that gradients are computed with, so that they do not underflow
                in float16: `scaler.get_scale()`. They are stored without it.

        Raises:
            ValueError: the losses cannot be used, or the source keeps no gradients of parameters.

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
        with self._agreement.alone():
            named, tasks = named_losses(losses, self._known_tasks)
            if not self._source.accumulates:
                raise ValueError(
                    "accumulate() needs gradients of parameters, which SharedParameters() and "
                    f"LossesOnly() keep; found {type(self._source).__name__}. Take a balanced step "
                    "for each micro-batch instead, balancer(losses).backward()"
                )
            if not 0 < loss_scale < float("inf"):
                raise ValueError(f"loss_scale must be a positive number; found {loss_scale!r}")
            earlier = self._micro_batches or MicroBatches()
            request = Request(self._policy.heads, earlier=earlier, tasks=tasks)
            gradients = self._source.open(named, request)
            assert gradients.graph is not None
            earlier.add(named, gradients.graph, loss_scale)
            earlier.tasks = tasks
            self._micro_batches = earlier

    @eager
    def measure(
        self, losses: Losses, *, representation: Tensor | Sequence[Tensor] | None = None
    ) -> Report:
        """Compute the report of a step on these losses without taking it.

        The weights are always solved for, whatever `every` is. No state, graph or `.grad` changes.

        Args:
            losses: as for `forward`.
            representation: as for `forward`.

        Returns:
            The report of that step; the property `report` stays as it is.

        Raises:
            ValueError: the losses or gradients cannot be used.
        """
        with self._agreement.alone():
            named, tasks = named_losses(losses, self._known_tasks)
            request = Request(
                self._policy.heads,
                representation=representation,
                retain_graph=True,
                finite_only=self._policy.nonfinite == "skip",
                tasks=tasks,
            )
            gradients = self._opened(named, request)
        present, rounding = self._agreement.on_step(named, tasks, gradients, 1.0, what="measure()")
        with torch.no_grad():
            measured = look(
                present,
                tasks,
                gradients,
                len(self._memory.solvers),
                ranks=self._agreement.ranks,
                rounding=rounding,
                retain_graph=True,
            )
        return solve(measured, self._memory, self._policy).report

    @contextmanager
    def hold(self) -> Iterator[None]:
        r"""Keep the weights fixed inside a `with` block; the balanced loss is then Σ w_i L_i.

        Its value, gradient and graph are those of the weighted sum. Use it for closures that an
        optimizer evaluates several times per step (L-BFGS, SAM), and for second derivatives. The
        weights are those of the last solved step, and apply to whole losses, heads included; a task
        that took no part in that step is left out. Nothing is measured and no state changes, nor
        does `report`.

        Raises:
            ValueError: no step was solved yet, or each group of parameters has its own weights.

        Example:
            >>> import torch, gradbalance as gb
            >>> x = torch.tensor([1.0, 1.0], requires_grad=True)
            >>> optimizer = torch.optim.LBFGS([x], line_search_fn="strong_wolfe")
            >>> balancer = gb.Balancer(gb.UPGrad())
            >>> def losses():
            ...     return [(x**2).sum(), ((x - 3) ** 2).sum()]
            >>> def closure():
            ...     optimizer.zero_grad()
            ...     loss = balancer(losses())
            ...     loss.backward()
            ...     return loss
            >>> report = balancer.backward(losses())  # solves for the weights
            >>> with balancer.hold():
            ...     loss = optimizer.step(closure)
        """
        if self._memory.groups:
            raise ValueError(
                "hold() needs one weight a task, but here each group of parameters has its own: "
                f"{list(self._memory.groups)}"
            )
        if not self._memory.weights[0]:
            raise ValueError("there are no weights to hold: call balancer.backward(losses) first")
        before, self._holds = self._holds, True
        try:
            yield
        finally:
            self._holds = before

    def after_step(self, losses: LossValues) -> None:
        """Pass the solver the losses of the same batch, computed again after the optimizer's step.

        Needed by `FAMO`. Does nothing if `wants_after_step` is False, so a training loop can always
        call it.

        Args:
            losses: as for `forward`, or as floats; no graph is needed.

        Raises:
            ValueError: the losses cannot be used; no state changes then.
        """
        if not self.wants_after_step:
            return
        with self._agreement.alone():
            named = named_values(losses, self._tasks)
        assert self._tasks is not None
        present = self._agreement.on_losses(named, self._tasks)
        with torch.no_grad():
            values = look(present, self._tasks, None, 1)
        for name, value in zip(values.names, values.losses, strict=True):
            if self._policy.nonfinite == "raise" and not np.isfinite(value):
                raise ValueError(
                    f"the loss of task {name!r} after the step is not finite; found {value}. "
                    'Balancer(..., nonfinite="skip") would leave such a task out'
                )
        self._memory.after_step(dict(zip(values.names, values.losses.tolist(), strict=True)))

    def end_epoch(self) -> None:
        """Tell the solver that an epoch has ended.

        Needed by `DWA`; has no effect on solvers that do not use epochs.

        Raises:
            ValueError: no step was taken since the last call.
        """
        self._memory.end_epoch()

    @property
    def report(self) -> Report:
        """The report of the last step: losses, weights, Gramian and status.

        Raises:
            ValueError: no step was taken yet.
        """
        if self._report is None:
            raise ValueError("no step was taken yet: call balancer(losses).backward() first")
        return self._report

    @property
    def wants_after_step(self) -> bool:
        """Whether the solver needs `after_step` for the last step."""
        skipped = self._report is not None and self._report.status is Status.SKIPPED
        return self._memory.wants_after_step and not skipped

    @property
    def solver(self) -> Solver:
        """The solver, that is the method that computes the weights.

        Raises:
            ValueError: each group of parameters has its own solver; see `solvers`.
        """
        if self._memory.groups:
            raise ValueError(
                "each group of parameters has a solver of its own; found the groups "
                f"{list(self._memory.groups)}. Use balancer.solvers[group]"
            )
        return self._memory.solvers[0]

    @property
    def solvers(self) -> dict[str, Solver]:
        """The solver of each group of parameters, by group name; empty without groups."""
        return dict(zip(self._memory.groups, self._memory.solvers, strict=False))

    @property
    def source(self) -> Source:
        """The source that computes the gradients."""
        return self._source

    @property
    def tasks(self) -> tuple[str, ...] | None:
        """The names of all tasks; None before the first step if they were not given."""
        return self._tasks

    @property
    def options(self) -> Policy:
        """The options that the Balancer was built with, defaults filled in.

        These are `heads`, `scale`, `zero_gradients`, `nonfinite`, `every`, `distributed` and
        `replicas`.
        """
        return self._policy

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED:
            raise AttributeError(
                f"{name} is fixed when a Balancer is built; build another one with it"
            )
        super().__setattr__(name, value)

    def extra_repr(self) -> str:
        """The solver, the source and all options that differ from their defaults."""
        parts = [repr(self._memory.solvers[0]), repr(self._source)]
        chosen = {k: v for k, v in vars(self._policy).items() if v != _DEFAULTS.get(k, v)}
        return ", ".join(parts + [f"{name}={value!r}" for name, value in chosen.items()])

    def _opened(self, losses: Mapping[str, Tensor], request: Request) -> TaskGradients:
        if request.representation is not None and not self._source.takes_representation:
            raise ValueError(
                "representation= is for a Representation() source; found "
                f"{type(self._source).__name__}"
            )
        return self._source.open(losses, request)

    def _open(
        self,
        losses: Mapping[str, Tensor],
        tasks: tuple[str, ...],
        representation: Tensor | Sequence[Tensor] | None,
        *,
        retain_graph: bool,
    ) -> _Call:
        # The micro-batches belong to this step, even if it fails.
        earlier = self._micro_batches
        if earlier is not None:  # setting an attribute of a module takes longer than this check
            self._micro_batches = None
        request = Request(
            self._policy.heads,
            reuse=earlier is None and self._memory.can_reuse(losses),
            retain_graph=retain_graph,
            finite_only=self._policy.nonfinite == "skip",
            representation=representation,
            earlier=earlier,
            tasks=tasks,
        )
        gradients = self._opened(losses, request)
        return _Call(losses, tasks, gradients, earlier, retain_graph)

    def _take_step(
        self, call: _Call, factor: float, kept: bool
    ) -> tuple[list[Tensor | None], Callable[[], None]]:
        """Measure and decide: return the gradient of each end, and a callback that commits.

        Args:
            call: what was fixed when the balanced loss was created.
            factor: the gradient that the balanced loss received.
            kept: whether the graph is kept after the backward.
        """
        if self._tasks not in (None, call.tasks):
            raise ValueError(
                f"the tasks were fixed as {list(self._tasks or ())} by another balanced loss after "
                f"this one was made of {list(call.tasks)}. Name all of them: Balancer(tasks=[...])"
            )
        retain_graph = call.retain_graph or kept
        total = call.earlier.total(call.losses) if call.earlier else call.losses
        gradients, memory = call.gradients, self._memory
        # A step of micro-batches is always solved; with `every`, the other ranks must know that.
        solves = self._policy.every > 1 and call.earlier is not None
        what = "a step of micro-batches" if solves else "a step"
        present, rounding = self._agreement.on_step(total, call.tasks, gradients, factor, what=what)
        reuses = call.earlier is None and memory.can_reuse(present)
        measured = look(
            present,
            call.tasks,
            None if reuses or factor == 0 else gradients,
            len(memory.solvers),
            ranks=self._agreement.ranks,
            rounding=rounding,
            factor=factor,
            retain_graph=retain_graph,
        )
        parts = (measured, memory, self._policy)
        if factor == 0 or measured.overflows:
            decision = skip(*parts, written=1.0)  # so that a loss scaler sees the overflow
        else:
            decision = (reuse if reuses else solve)(*parts)
            carried = gradients.carried(decision.weights, factor)
            decision = as_carried(decision, carried, *parts)
        directions = gradients.directions(
            decision.weights, factor, retain_graph=retain_graph, wide=decision.cancels
        )
        return directions, partial(self._commit, call, decision, measured, retain_graph)

    @eager
    def _commit(
        self,
        call: _Call,
        decision: Decision,
        measured: Measured,
        retain_graph: bool,
    ) -> None:
        """Commit the step once everything is written, unless the written gradients overflowed."""
        if abs(measured.factor) > 1 and not decision.skipped:
            overflows = _overflowed(call.losses)
            if self._agreement.on_overflow(overflows, call.losses, call.tasks):
                decision = skip(measured, self._memory, self._policy, written=1.0)
        vars(self)["_report"] = decision.report  # without nn.Module's search for parameters
        if not decision.skipped:
            if self._tasks is None:
                self._tasks = call.tasks
            self._memory.commit(decision.steps)
        self._source.commit(None if decision.skipped else call.gradients, freed=not retain_graph)
        self._agreement.step_ends()

    def _weighted_sum(self, losses: Mapping[str, Tensor]) -> Tensor:
        weights = self._memory.weights[0]
        known = {task: loss for task, loss in losses.items() if task in weights}
        if not known:
            raise ValueError(
                f"no weight is held for the tasks {list(losses)}; the last step was solved for "
                f"{list(weights)}"
            )
        dtype = widest_of(known.values())
        device = next(iter(known.values())).device
        terms = [weights[task] * x.reshape(()).to(device, dtype) for task, x in known.items()]
        return torch.stack(terms).sum()

    @property
    def _known_tasks(self) -> tuple[str, ...] | None:
        waiting = () if self._micro_batches is None else self._micro_batches.tasks
        return self._tasks or self._agreement.tasks or waiting or None

    def get_extra_state(self) -> Tensor:
        """The tasks, the states of solver and source, and the last weights, as one uint8 tensor.

        Training does not change its length: it depends on `tasks=`, and is 64 KiB without.
        """
        state = {
            "tasks": None if self._tasks is None else list(self._tasks),
            "solver": self._memory.solvers[0].name,
            "memory": self._memory.state_dict(),
            "source": self._source.state_dict(),
        }
        return encode(state, self._capacity)

    def set_extra_state(self, state: object) -> None:
        """Restore what `get_extra_state` returned; accumulated micro-batches are dropped.

        The Balancer may have more tasks than the state: the additional ones start afresh.

        Args:
            state: the tensor.

        Raises:
            ValueError: the state is damaged, or belongs to another solver, other tasks or another
                version; nothing changes then.
        """
        found = decode(state)
        if set(found) != {"tasks", "solver", "memory", "source"}:
            raise ValueError(f"not a state of a Balancer; found {sorted(found)}")
        solver = self._memory.solvers[0].name
        if found["solver"] != solver:
            raise ValueError(
                f"the state is of the solver {found['solver']}, but this Balancer has {solver}"
            )
        saved = None if found["tasks"] is None else check_tasks(found["tasks"])
        known = self._tasks or self._agreement.tasks
        unknown = [] if known is None else [task for task in saved or () if task not in known]
        if unknown:
            raise ValueError(
                f"the state is of the tasks {saved}, but this Balancer has {known}: it may have "
                f"more, but not lack {unknown}"
            )
        self._memory.checked(found["memory"])
        self._source.load_state_dict(found["source"])
        self._memory.load_state_dict(found["memory"])
        self._tasks = known or saved
        self._micro_batches = None
        self._agreement.loads(found)


_FIXED = {"solver", "solvers", "source", "tasks", "options", "report", "wants_after_step",
          "heads", "scale", "zero_gradients", "nonfinite", "every", "distributed",
          "replicas"}  # fmt: skip
_DEFAULTS = {"scale": None, "zero_gradients": "absent", "nonfinite": "raise", "every": 1,
             "distributed": True, "replicas": "same"}  # fmt: skip


@torch.no_grad()
def _overflowed(losses: Mapping[str, Tensor]) -> bool:
    """Whether any leaf that the losses depend on has a `.grad` that is not finite."""
    grads = [leaf.grad for leaf in Graph(losses).reached_by if leaf.grad is not None]
    values = [grad.coalesce().values() if grad.is_sparse else grad for grad in grads]
    return not all(bool(torch.isfinite(value).all()) for value in values)
