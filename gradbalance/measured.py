"""Look: the losses and Gramians of one step as numbers, the same on all ranks; one frozen value."""

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
    """What one step sees.

    Attributes:
        tasks: all T tasks of the run.
        names: the t tasks that have a loss this step, on any rank.
        losses: [t] means over the ranks.
        grams: [t, t] of each group, of the gradients without the factor; None where a group was
            not measured, or reached by no loss.
        factor: the gradient that the balanced loss received.
        resolution: how exactly directions are known; see `numerics.resolution`.
        needs_check: whether the Gramians come from a source that may give something else.
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
        """[t] the squared norms of the gradients over all groups, or None without a Gramian."""
        squares = [gram.diagonal() for gram in self.grams if gram is not None]
        return sum(squares[1:], squares[0]) if squares else None

    @property
    def overflows(self) -> bool:
        """Whether the factor, a loss scale, made gradients of finite losses infinite."""
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
    """Differentiate, and bring losses and Gramians to the host in one copy; under `no_grad`.

    Args:
        losses: those that count, by task.
        tasks: all T tasks.
        gradients: of this step; None where none are measured.
        num_groups: how many groups of parameters there are.
        ranks: the processes over which losses and gradients are means.
        rounding: of the coarsest gradients of any rank; None for that of `gradients`.
        factor: the gradient that each loss receives.
        retain_graph: whether the graph must outlive the step.

    Raises:
        ValueError: the gradients cannot be measured, here or on another rank.
    """
    names = tuple(losses)
    grams: list[Tensor | None] = [None] * num_groups
    if gradients is not None:
        try:
            gradients.measure(factor, retain_graph=retain_graph)
        except Exception:
            if ranks is not None:  # which wait for this one
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
    """The losses [t] and the Gramians as float64 arrays; from another device, in one copy."""
    like = (grams or losses)[0]
    if like.device.type == "cpu":
        values = np.array([loss.item() for loss in losses])
        return values, [gram.numpy().astype(np.float64, copy=False) for gram in grams]
    parts = [*(loss.detach().reshape(1) for loss in losses), *(gram.reshape(-1) for gram in grams)]
    flat = torch.cat([p.to(like.device, widest_dtype(like.device)) for p in parts]).cpu().numpy()
    values, entries = np.split(flat.astype(np.float64), [len(losses)])
    return values, [*entries.reshape(len(grams), len(losses), len(losses))] if grams else []


def widest_of(tensors: Iterable[Tensor]) -> torch.dtype:
    """The widest of their dtypes, float32 at least: a float16 sum overflows at a loss scale."""
    return functools.reduce(torch.promote_types, {t.dtype for t in tensors}, torch.float32)


def plain_sum(losses: Mapping[str, Tensor], *, finite_only: bool) -> Tensor:
    """The sum of the losses in at least float32, without a graph.

    Args:
        losses: by task.
        finite_only: whether those that are not finite are left out.
    """
    first, dtype = next(iter(losses.values())), widest_of(losses.values())
    device = first.device
    with torch.no_grad():
        scalars = [x.reshape(()) if x.dim() else x for x in losses.values()]
        if any(x.dtype is not dtype or x.device != device for x in scalars):
            scalars = [x.to(device, dtype) for x in scalars]
        values = torch.stack(scalars)
    return torch.where(torch.isfinite(values), values, 0).sum() if finite_only else values.sum()
