"""Gradients of tensors in the autograd graph: what is measured, how it is kept and written."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from gradbalance.gradients.autograd import (
    check_outer_backward,
    differentiate_each,
    weighted_gradients,
)
from gradbalance.gradients.graph import Graph
from gradbalance.gradients.micro_batches import Reached, joined
from gradbalance.gradients.parameters import fingerprint
from gradbalance.gradients.ranks import Ranks
from gradbalance.gradients.rounding import held, rounding_in, rounding_of
from gradbalance.gradients.rows import Rows
from gradbalance.gradients.sketch import Sketch, sketched_gram
from gradbalance.gradients.source import Request, TaskGradients, Weights
from gradbalance.numerics.array import Array

# Within this factor of 1, a weight can be multiplied by and divided by again.
_REVERSIBLE = 2.0**20


@dataclass(frozen=True)
class Shared:
    """The tensors that the tasks share in one step.

    Attributes:
        groups: the shared tensors, by group; a group that no loss reaches is empty.
        measured: for each group, the tensors on which its Gramian is computed.
        unshared: the other leaves, and the tasks that reach each; for a head usually one task.
        found: see `TaskGradients`.
        new: the shared tensors that were found for the first time at this step.
    """

    groups: Sequence[Sequence[Tensor]]
    measured: Sequence[Sequence[Tensor]]
    unshared: Reached
    found: tuple[Sequence[Tensor], bool] | None = None
    new: Sequence[Tensor] = ()

    @property
    def all_measured(self) -> list[Tensor]:
        """The measured tensors of all groups."""
        return [tensor for part in self.measured for tensor in part]


@dataclass(frozen=True)
class Keeping:
    """How gradients are kept and written.

    Attributes:
        rows_are_written: whether directions are weighted sums of the measured rows, instead of the
            result of one more backward of the weighted sum.
        sketch: the sketch that is kept instead of a measured row, if any.
        chunk_size: how many tasks are differentiated together.
        samples_are_columns: whether the rows of different ranks have different columns, because
            their representations have different samples, instead of being averaged.
    """

    rows_are_written: bool = True
    sketch: Sketch | None = None
    chunk_size: int = 1
    samples_are_columns: bool = False


@final
class GraphGradients(TaskGradients):
    """Gradients of the tensors that the tasks share, and of the others.

    If heads are weighted and the measured rows are not written, the losses are the ends of the
    balanced loss, and the outer backward computes the rest. Otherwise its ends are the leaves, or a
    representation.

    Args:
        losses: by task.
        graph: the autograd graph of the losses; None if nothing is ever measured.
        tensors: the ends, unless the losses are.
        share: returns what the tasks share, from the tasks that reach each leaf in any micro-batch,
            and the tasks that are present.
        request: how to take the step.
        keeping: how gradients are kept and written.
    """

    sums_rows: ClassVar[bool] = True

    def __init__(
        self,
        losses: Mapping[str, Tensor],
        graph: Graph | None,
        tensors: Sequence[Tensor],
        share: Callable[[Reached, Sequence[str]], Shared],
        request: Request,
        keeping: Keeping,
    ) -> None:
        self.graph = graph
        self._losses = losses
        self._request = request
        self._keeping = keeping
        self._share = share
        self._earlier = request.earlier
        self._writes_rows = keeping.rows_are_written or self._earlier is not None
        self._over_losses = (
            request.heads == "weighted"
            and self._earlier is None
            and not request.retain_graph
            and (request.reuse or not keeping.rows_are_written)
        )
        if self._over_losses:
            self._writes_rows = False
        self.ends = list(tensors)
        self._ends_of: dict[str, Tensor] = {}
        if self._over_losses:
            # A loss that is not finite is left out: even a gradient of zero would become NaN.
            self._ends_of = {
                task: loss
                for task, loss in losses.items()
                if not request.finite_only or bool(torch.isfinite(loss))
            } or {"": torch.zeros((), requires_grad=True)}
            # The leaves that it reaches become ends, so that DDP does not wait for them here.
            outside = {task: loss for task, loss in losses.items() if task not in self._ends_of}
            self.ends = [*self._ends_of.values(), *(Graph(outside).reached_by if outside else ())]
        self._rows = Rows()
        self._sketches: dict[str, Tensor] = {}
        self._shared: Shared | None = None
        self._measured = False

    @property
    def shared(self) -> Shared:
        """What the tasks share, determined from all micro-batches when the step is solved."""
        if self._shared is None:
            reached: Reached = {} if self.graph is None else self.graph.reached_by
            present = list(self._losses)
            if self._earlier is not None:
                reached = joined(self._earlier.reached_by, reached)
                present = list(self._earlier.total(self._losses))
            self._shared = self._share(reached, present)
            self.found = self._shared.found
        return self._shared

    @cached_property
    def rounding(self) -> float:  # type: ignore[override]
        """The rounding of the least precise dtype between losses and leaves, in any micro-batch."""
        earlier = 0.0 if self._earlier is None else self._earlier.rounding
        if self.graph is None:
            return earlier
        return max(earlier, rounding_of(self._losses, self.graph, self.shared.all_measured))

    def shapes(self) -> object:
        """The shapes of measured tensors by group, and fingerprints of those found at this step."""
        if self._keeping.samples_are_columns:
            return None
        groups = [[(tuple(t.shape), t.dtype) for t in part] for part in self.shared.measured]
        return groups, list(map(fingerprint, self.shared.new))

    def replicas(self) -> Sequence[Tensor]:
        """The measured parameters; for a representation, the leaves that several tasks reach."""
        measured = self.shared.all_measured
        if measured and not self._keeping.samples_are_columns:
            return measured
        reached = Graph(self._losses).reached_by
        several = [leaf for leaf, tasks in reached.items() if len(tasks) > 1]
        return several if len(self._losses) > 1 else list(reached)

    def measure(self, factor: float, *, retain_graph: bool) -> None:
        """Run one backward per task, to measured tensors and, if they are ends, its own leaves."""
        shared, writes_rows = self.shared, self._writes_rows
        measured = shared.all_measured
        if not measured and not writes_rows:
            return
        self._measured = True
        weighed = [tensor for part in shared.groups for tensor in part] if writes_rows else measured
        inputs = {task: list(weighed) for task in self._losses}
        if not self._over_losses:
            for leaf, tasks in shared.unshared.items():
                for task in tasks:
                    if task in inputs:
                        inputs[task].append(leaf)
        if self.graph is not None and any(inputs.values()):
            frees = writes_rows and not retain_graph
            if frees:
                check_outer_backward(self.graph)
            losses, together = self._losses, self._keeping.chunk_size > 1
            if together and self._request.finite_only:  # a NaN would spread to the whole chunk
                losses = {t: x for t, x in losses.items() if bool(torch.isfinite(x))}
            each = differentiate_each(
                losses,
                self.graph,
                inputs,
                factor=factor,
                retain_graph=not frees,
                chunk_size=self._keeping.chunk_size,
            )
            sketch = None if self._earlier else self._keeping.sketch
            for task, gradients in each:
                if sketch is not None:
                    row = [gradients.pop(tensor, None) for tensor in measured]
                    self._sketches[task] = sketch.apply(row, measured)
                self._rows.add(task, gradients)
        if self._earlier is not None:
            self._rows.add_all(self._earlier.rows, factor)

    def grams(self, tasks: Sequence[str], ranks: Ranks | None) -> list[Tensor | None]:
        """The Gramian of each group."""
        return [
            self._gram(measured, tasks, ranks) if measured else None
            for measured in self.shared.measured
        ]

    def _gram(
        self, measured: Sequence[Tensor], tasks: Sequence[str], ranks: Ranks | None
    ) -> Tensor:
        sketch = self._keeping.sketch
        if sketch is not None:
            if self._earlier is not None:  # sketch the sum, since sketches are linear
                for task in tasks:
                    row = self._rows.row(task, measured)
                    self._sketches[task] = sketch.apply(row, measured)
            zero = sketch.apply([None] * len(measured), measured)
            return sketched_gram([self._sketches.get(task, zero) for task in tasks], ranks)
        if ranks is not None and self._keeping.samples_are_columns:
            # The samples of each rank contribute 1/N of the mean loss.
            return ranks.add_up(self._rows.gram(measured, tasks)) / ranks.size**2
        return self._rows.gram(measured, tasks, ranks)

    def carried(self, weights: Weights, factor: float) -> Weights:
        """Round the weights to the losses' dtypes, unless the measured rows are written."""
        if self._measured and self._writes_rows:
            return weights
        return [
            None
            if of_group is None
            else {
                task: held(weight, factor, self._losses[task], task)
                if task in self._losses
                else weight
                for task, weight in of_group.items()
            }
            for of_group in weights
        ]

    def check(self, tasks: Sequence[str], grams: Iterable[Array]) -> None:
        """Warn if tasks have no samples in common; their gradients then always look orthogonal."""
        if not self._keeping.samples_are_columns:
            return
        for gram in grams:
            rows = np.diagonal(gram) > 0
            apart = np.argwhere((gram == 0) & rows & rows[:, None])
            if len(apart):
                one, other = (tasks[index] for index in apart[0])
                warnings.warn(
                    f"the gradients of {one!r} and {other!r} meet in no entry of the "
                    "representation, as those of tasks with samples of their own: they look "
                    "orthogonal, whatever the tasks do to the trunk. To compare them there, use "
                    "SharedParameters(model.trunk), or at less cost SharedParameters(model.trunk, "
                    "measure=model.trunk[-1])",
                    stacklevel=2,
                )

    def directions(
        self, weights: Weights, factor: float, *, retain_graph: bool, wide: bool
    ) -> list[Tensor | None]:
        """Weights for the losses, weighted sums of rows, or one more backward per group."""
        of_heads = {task: w for of_group in weights for task, w in (of_group or {}).items()}
        if self._over_losses:
            upstream = [
                torch.full_like(loss, factor * of_heads[task]) if task in of_heads else None
                for task, loss in self._ends_of.items()
            ]
            return upstream + [None] * (len(self.ends) - len(upstream))
        if self._request.heads == "raw":
            of_heads = dict.fromkeys(of_heads, 1.0)
        unshared = self.shared.unshared
        of_tasks = [leaf for leaf, of in unshared.items() if not of_heads.keys().isdisjoint(of)]
        if not self._measured:
            found = self._in_one_backward(weights, of_tasks, factor, retain_graph)
            if found is not None:
                return [found.get(end) for end in self.ends]
        parts: list[tuple[Sequence[Tensor], Mapping[str, float], bool]]
        parts = [(of_tasks, of_heads, self._measured)]
        for tensors, of_group in zip(self.shared.groups, weights, strict=True):
            if of_group is not None:
                parts.append((tensors, of_group, self._measured and self._writes_rows))
        written: dict[Tensor, Tensor] = {}
        num_backwards = sum(not kept for *_, kept in parts)
        for tensors, of_part, kept in parts:
            if kept:
                written |= self._rows.combine(tensors, of_part, wide=wide, reached_by=unshared)
            else:
                num_backwards -= 1
                scaled = {task: factor * weight for task, weight in of_part.items()}
                retain = retain_graph or num_backwards > 0
                written |= weighted_gradients(self._losses, scaled, tensors, retain_graph=retain)
        return [written.get(end) for end in self.ends]

    def _in_one_backward(
        self, weights: Weights, of_tasks: Sequence[Tensor], factor: float, retain_graph: bool
    ) -> Mapping[Tensor, Tensor] | None:
        """The directions if nothing was measured; the raw gradient of a head is g = (w g) / w.

        None with groups, for a raw head of several tasks, or if the division would round the
        gradient more than a backward does.
        """
        if len(weights) != 1:
            return None
        known = weights[0] or {}
        divisors = {}
        if self._request.heads == "raw":
            for leaf in of_tasks:
                owners = [known[task] for task in self.shared.unshared[leaf] if task in known]
                if len(owners) != 1 or not 1 / _REVERSIBLE <= abs(owners[0]) <= _REVERSIBLE:
                    return None
                divisors[leaf] = owners[0]
            if divisors and self.rounding > rounding_in(torch.float32):
                return None
        scaled = {task: factor * weight for task, weight in known.items()}
        inputs = [*self.shared.groups[0], *of_tasks]
        found = weighted_gradients(self._losses, scaled, inputs, retain_graph=retain_graph)
        return {t: g / divisors[t] if t in divisors else g for t, g in found.items()}
