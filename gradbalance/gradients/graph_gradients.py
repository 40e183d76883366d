"""The gradients of tensors in the graph: what is measured × how it is kept × how it is written."""

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

# Weights up to so far from 1 can be multiplied by and divided by again.
_REVERSIBLE = 2.0**20


@dataclass(frozen=True)
class Shared:
    """What the tasks share in one step.

    Attributes:
        groups: the shared tensors, by group; a group that no loss reaches is empty.
        measured: of each group those that its Gramian is taken over.
        unshared: the other leaves, and which tasks reach each: a head one, as a rule.
        found: see `TaskGradients`.
        new: those that were found at this step for the first time.
    """

    groups: Sequence[Sequence[Tensor]]
    measured: Sequence[Sequence[Tensor]]
    unshared: Reached
    found: tuple[Sequence[Tensor], bool] | None = None
    new: Sequence[Tensor] = ()

    @property
    def all_measured(self) -> list[Tensor]:
        """Those of all groups."""
        return [tensor for part in self.measured for tensor in part]


@dataclass(frozen=True)
class Keeping:
    """How gradients are kept and written.

    Attributes:
        rows_are_written: whether directions are combined from the rows that were measured, instead
            of coming from one more backward, of the weighted sum.
        sketch: what is kept of a measured row instead of itself.
        chunk_size: how many tasks are differentiated together.
        samples_are_columns: whether the ranks' rows lie beside each other, as those of a
            representation of different samples do, instead of adding up.
    """

    rows_are_written: bool = True
    sketch: Sketch | None = None
    chunk_size: int = 1
    samples_are_columns: bool = False


@final
class GraphGradients(TaskGradients):
    """Gradients of what the tasks share, and of what they do not.

    Where heads are weighted and the rows are not what is written, the balanced loss stands over the
    losses, so that the outer backward does the rest; otherwise over leaves, or a representation.

    Args:
        losses: by task.
        graph: behind them; None where nothing is ever measured.
        tensors: the ends, where the losses are not.
        share: what the tasks share, from who reaches what in all micro-batches, and who is there.
        request: how the step is to be taken.
        keeping: how gradients are kept.
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
            # A loss that is not finite stays outside: even a gradient of zero would become NaN.
            self._ends_of = {
                task: loss
                for task, loss in losses.items()
                if not request.finite_only or bool(torch.isfinite(loss))
            } or {"": torch.zeros((), requires_grad=True)}
            # What it reaches are ends instead, so that DDP does not wait for them on this rank.
            outside = {task: loss for task, loss in losses.items() if task not in self._ends_of}
            self.ends = [*self._ends_of.values(), *(Graph(outside).reached_by if outside else ())]
        self._rows = Rows()
        self._sketches: dict[str, Tensor] = {}
        self._shared: Shared | None = None
        self._measured = False

    @property
    def shared(self) -> Shared:
        """What the tasks share; decided when the step is solved, from all its micro-batches."""
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
        """Of the coarsest dtype on the way, in any micro-batch."""
        earlier = 0.0 if self._earlier is None else self._earlier.rounding
        if self.graph is None:
            return earlier
        return max(earlier, rounding_of(self._losses, self.graph, self.shared.all_measured))

    def shapes(self) -> object:
        """Of each group's measured parameters, and what tells those found now from their like."""
        if self._keeping.samples_are_columns:
            return None
        groups = [[(tuple(t.shape), t.dtype) for t in part] for part in self.shared.measured]
        return groups, list(map(fingerprint, self.shared.new))

    def replicas(self) -> Sequence[Tensor]:
        """What is measured; where that is no parameter, what several tasks reach."""
        measured = self.shared.all_measured
        if measured and not self._keeping.samples_are_columns:
            return measured
        reached = Graph(self._losses).reached_by
        several = [leaf for leaf, tasks in reached.items() if len(tasks) > 1]
        return several if len(self._losses) > 1 else list(reached)

    def measure(self, factor: float, *, retain_graph: bool) -> None:
        """One backward a task, as far as what is measured, and its own leaves where they stay."""
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
            if together and self._request.finite_only:  # their NaN would spread over a chunk
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
            if self._earlier is not None:  # linear: the sketch of the sum
                for task in tasks:
                    row = self._rows.row(task, measured)
                    self._sketches[task] = sketch.apply(row, measured)
            zero = sketch.apply([None] * len(measured), measured)
            return sketched_gram([self._sketches.get(task, zero) for task in tasks], ranks)
        if ranks is not None and self._keeping.samples_are_columns:
            # Each rank's samples are 1/N of the mean loss.
            return ranks.add_up(self._rows.gram(measured, tasks)) / ranks.size**2
        return self._rows.gram(measured, tasks, ranks)

    def carried(self, weights: Weights, factor: float) -> Weights:
        """Those that are not written by rows go through the losses."""
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
        """Samples of tasks that share none look orthogonal, whatever the tasks do to the trunk."""
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
        """Weights for the losses, or rows that are combined, or one more backward a group."""
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
        """The directions where nothing was measured; a raw head of one task has g = (w g) / w.

        None where a raw one is not that, or would be rounded more than the backward rounds it.
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
