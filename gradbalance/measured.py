"""Measure: the losses and Gramians of one step as numbers, the same on all ranks."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from gradbalance.gradients import TaskGradients
from gradbalance.gradients.ranks import Ranks, RanksError, widest_dtype
from gradbalance.gradients.rounding import unit_of
from gradbalance.numerics import resolution
from gradbalance.numerics.array import Array


@dataclass(frozen=True, eq=False)
class Measured:
    """The measurements of one step.

    Attributes:
        tasks: all T tasks of the run.
        names: the t tasks that have a loss in this step, on any rank.
        losses: [t] the losses, averaged over the ranks.
        grams: the Gramian [t, t] of each group, of gradients without the factor; None for a group
            that was not measured, or that no loss reaches.
        factor: the gradient that the balanced loss received.
        resolution: how precisely directions are known; see `numerics.resolution`.
        needs_check: whether the source may return matrices that are not Gramians.
    """

    tasks: tuple[str, ...]
    names: tuple[str, ...]
    losses: Array
    grams: tuple[Array | None, ...]
    factor: float
    resolution: float = 0.0
    needs_check: bool = False

    @cached_property
    def square_norms(self) -> Array | None:
        """[t] the squared gradient norms, summed over all groups; None without a Gramian."""
        squares = [gram.diagonal() for gram in self.grams if gram is not None]
        return sum(squares[1:], squares[0]) if squares else None

    @property
    def overflows(self) -> bool:
        """Whether the factor (a loss scale) made gradients of finite losses overflow."""
        if not math.isfinite(self.factor):
            return True
        if abs(self.factor) <= 1 or self.square_norms is None:
            return False
        return not bool(np.isfinite(self.square_norms[np.isfinite(self.losses)]).all())


def look(
    losses: Mapping[str, Tensor],
    tasks: tuple[str, ...],
    gradients: TaskGradients | None,
    num_groups: int,
    *,
    ranks: Ranks | None = None,
    rounding: float | None = None,
    factor: float = 1.0,
    retain_graph: bool = False,
) -> Measured:
    """Differentiate, and copy losses and Gramians to the host at once; runs under `no_grad`.

    Args:
        losses: the losses of the tasks that take part, by task.
        tasks: all T tasks.
        gradients: the gradients of this step; None if none are measured.
        num_groups: the number of groups of parameters.
        ranks: the processes over which losses and gradients are averaged.
        rounding: the relative rounding error of the least precise gradients on any rank; None for
            that of `gradients`.
        factor: the gradient that each loss receives.
        retain_graph: whether the graph is kept after the step.

    Raises:
        ValueError: the gradients cannot be measured, here or on another rank.
    """
    names = tuple(losses)
    grams: list[Tensor | None] = [None] * num_groups
    if gradients is not None:
        try:
            gradients.measure(factor, retain_graph=retain_graph)
        except Exception:
            if ranks is not None:  # the other ranks wait for this one
                ranks.failed = True
                with suppress(RanksError):
                    gradients.grams(names, ranks)
            raise
        grams = gradients.grams(names, ranks)
    known = [gram for gram in grams if gram is not None]
    values, matrices = _on_host(list(losses.values()), known)
    if gradients is not None:
        gradients.check(names, matrices)
    if factor != 1.0:
        with np.errstate(invalid="ignore", over="ignore"):
            matrices = [matrix / factor**2 for matrix in matrices]
    remaining = iter(matrices)
    by_group = tuple(None if gram is None else next(remaining) for gram in grams)
    needs_check = gradients is not None and not gradients.sums_rows
    finest = 0.0
    if gradients is not None and known:
        unit = unit_of(widest_dtype(known[0].device))
        coarsest = gradients.rounding if rounding is None else rounding
        finest = resolution(len(names), rounding=coarsest, unit=unit)
    return Measured(tasks, names, values, by_group, factor, finest, needs_check)


def _on_host(losses: Sequence[Tensor], grams: Sequence[Tensor]) -> tuple[Array, list[Array]]:
    """The losses [t] and the Gramians as float64 arrays, copied from another device at once."""
    like = (grams or losses)[0]
    if like.device.type == "cpu":
        values = np.array([loss.item() for loss in losses])
        return values, [gram.numpy().astype(np.float64, copy=False) for gram in grams]
    parts = [*(loss.detach().reshape(1) for loss in losses), *(gram.reshape(-1) for gram in grams)]
    flat = torch.cat([p.to(like.device, widest_dtype(like.device)) for p in parts]).cpu().numpy()
    values, entries = np.split(flat.astype(np.float64), [len(losses)])
    return values, [*entries.reshape(len(grams), len(losses), len(losses))] if grams else []


def widest_of(tensors: Iterable[Tensor]) -> torch.dtype:
    """The widest dtype of the tensors, at least float32: float16 sums overflow at a loss scale."""
    return functools.reduce(torch.promote_types, {t.dtype for t in tensors}, torch.float32)


def plain_sum(losses: Mapping[str, Tensor], *, finite_only: bool) -> Tensor:
    """The sum of the losses in at least float32, without a graph.

    Args:
        losses: by task.
        finite_only: whether losses that are not finite are left out.
    """
    first, dtype = next(iter(losses.values())), widest_of(losses.values())
    device = first.device
    with torch.no_grad():
        scalars = [x.reshape(()) if x.dim() else x for x in losses.values()]
        if any(x.dtype is not dtype or x.device != device for x in scalars):
            scalars = [x.to(device, dtype) for x in scalars]
        values = torch.stack(scalars)
    return torch.where(torch.isfinite(values), values, 0).sum() if finite_only else values.sum()
