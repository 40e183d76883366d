"""Rows of parameters that FSDP2 shards: one ordinary backward a task, each rank its own shards."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from gradbalance.gradients.autograd import accumulate, weighted_backward
from gradbalance.gradients.heads import HeadGradients
from gradbalance.gradients.ranks import Ranks
from gradbalance.gradients.rows import Rows
from gradbalance.gradients.source import Heads, TaskGradients

if TYPE_CHECKING:  # importing it takes as long as torch itself
    from torch.distributed.tensor import DTensor


class ShardedRows(TaskGradients):
    """One row a task over one group of sharded parameters, already the mean over the ranks.

    Sharded parameters cannot be differentiated by themselves: their gradients come from FSDP's own
    hooks, which reduce and scatter them at the end of a backward. `.grad` is put aside meanwhile.

    Args:
        losses: by task, the same tasks on every rank.
        shared: the parameters that the tasks share.
        others: all other parameters of the model.
        heads: see `Source.measure`.
        retain_graph: see `Source.measure`.
    """

    num_columns = 0  # shards differ in size from rank to rank

    def __init__(
        self,
        losses: Mapping[str, Tensor],
        shared: Sequence[DTensor],
        others: Sequence[Tensor],
        *,
        heads: Heads,
        retain_graph: bool,
    ) -> None:
        self._shared = shared
        self._ranks = Ranks(shared[0].device_mesh.get_group())
        self._ranks.check_same(tuple(losses), next(iter(losses.values())))
        self._rows = Rows([parameter.to_local() for parameter in shared], losses)
        self._heads = HeadGradients(heads)
        parameters = [*shared, *others]
        before = [parameter.grad for parameter in parameters]
        last = list(losses)[-1]
        try:
            for task in losses:
                for parameter in parameters:
                    parameter.grad = None
                retain = retain_graph or task != last
                weighted_backward(losses, {task: 1.0}, retain_graph=retain)
                self._rows.fill(task, [_local(parameter.grad) for parameter in shared])
                self._heads.keep(task, others, [parameter.grad for parameter in others])
        finally:
            for parameter, gradient in zip(parameters, before, strict=True):
                parameter.grad = gradient

    def gram(self, tasks: Sequence[str], ranks: Ranks | None = None) -> Tensor:
        """The Gramian over the group: the sum of those of the shards."""
        return self._ranks.add_up(self._rows.gram(tasks))

    def backward(self, weights: Mapping[str, float], *, zeros: bool = False) -> None:
        """Accumulate the rows' combination, and the heads'."""
        directions = self._rows.combine(weights)
        gradients = [
            type(parameter).from_local(
                direction,
                parameter.device_mesh,
                parameter.placements,
                run_check=False,
                shape=parameter.shape,
                stride=parameter.stride(),
            )
            for parameter, direction in zip(self._shared, directions, strict=True)
        ]
        accumulate(list(self._shared), gradients)
        self._heads.accumulate(weights)


def sharded_among(parameters: Sequence[Tensor]) -> list[DTensor]:
    """Those of the parameters that are sharded."""
    module: Any = sys.modules.get("torch.distributed.tensor")
    # Where it was never imported there are none.
    return [] if module is None else [p for p in parameters if isinstance(p, module.DTensor)]


def other_parameters(model: nn.Module, shared: Sequence[Tensor]) -> list[Tensor]:
    """The parameters of a model that are not among the shared ones."""
    known = {id(parameter) for parameter in shared}
    return [parameter for parameter in model.parameters() if id(parameter) not in known]


def _local(gradient: Any) -> Tensor | None:
    local: Tensor | None = None if gradient is None else gradient.to_local()
    return local
