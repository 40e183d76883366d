"""Parameters that FSDP2 shards: one ordinary backward a task, each rank its own shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, final

import torch
from torch import Tensor, nn

from gradbalance.gradients.autograd import explained
from gradbalance.gradients.graph import Graph
from gradbalance.gradients.parameters import Parameters, as_tuple, is_sharded, parameters_of
from gradbalance.gradients.ranks import Ranks
from gradbalance.gradients.rounding import rounding_of
from gradbalance.gradients.rows import Rows
from gradbalance.gradients.source import Heads, Request, StatelessSource, TaskGradients, Weights

if TYPE_CHECKING:  # importing it takes as long as torch itself
    from torch.distributed.tensor import DTensor


@final
class ShardedParameters(StatelessSource):
    r"""`SharedParameters` where FSDP2 (`fully_shard`) shards the model.

    .. math:: G = \sum_r J^{(r)} J^{(r)\top}, \qquad
        \texttt{.grad}^{(r)} \mathrel{+}= J^{(r)\top} w

    with J⁽ʳ⁾ [T, P/N] the columns of the mean gradients that rank r holds. Sharded parameters
    cannot be differentiated by themselves, so each task gets one ordinary backward, and its row is
    what FSDP leaves in `.grad`. Memory is T shards. Every rank must have every task.

    Args:
        parameters: what the tasks share: a sharded module or parameters of it.
        model: the whole model.

    Raises:
        ValueError: a parameter of the trunk is not sharded.

    Example:
        >>> import gradbalance as gb
        >>> def make_balancer(model):  # after fully_shard(model.trunk) and fully_shard(model)
        ...     return gb.Balancer(gb.MGDA(), gb.ShardedParameters(model.trunk, model))
    """

    measures_gramian: ClassVar[bool] = True
    accumulates: ClassVar[bool] = False
    takes_representation: ClassVar[bool] = False
    groups = ()

    def __init__(self, parameters: Parameters, model: nn.Module) -> None:
        # Taken now: after a forward pass FSDP may have put unsharded ones in their places.
        shared = parameters_of(as_tuple(parameters, "parameters"))
        if not all(map(is_sharded, shared)):
            raise ValueError(
                "ShardedParameters is for parameters that torch.distributed.fsdp.fully_shard "
                "sharded; found others. Build it after sharding, or use SharedParameters"
            )
        self._shared: list[DTensor] = shared  # type: ignore[assignment]
        known = set(shared)
        self._others = [parameter for parameter in model.parameters() if parameter not in known]

    def open(self, losses: Mapping[str, Tensor], request: Request) -> TaskGradients:
        """Over all parameters of the model."""
        shared = [parameter for parameter in self._shared if parameter.requires_grad]
        others = [parameter for parameter in self._others if parameter.requires_grad]
        gradients = _ShardedGradients(losses, shared, others, request.heads)
        gradients.rounding = rounding_of(losses, Graph(losses), shared)
        return gradients

    def commit(self, gradients: TaskGradients | None, *, freed: bool) -> None:
        """Nothing to remember."""


class _ShardedGradients(TaskGradients):
    """One row a task, already the mean over the ranks; `.grad` is put aside meanwhile."""

    sums_rows: ClassVar[bool] = True

    def __init__(
        self,
        losses: Mapping[str, Tensor],
        shared: Sequence[DTensor],
        others: Sequence[Tensor],
        heads: Heads,
    ) -> None:
        self._losses = losses
        self._heads = heads
        self._mesh = Ranks(shared[0].device_mesh.get_group())
        self._num_shared = len(shared)
        self._rows = Rows()
        self.ends = [*shared, *others]
        self._local = [_local(parameter) for parameter in self.ends]

    def sizes(self) -> object:
        return tuple(self._losses)  # every rank needs all; shards differ in size from rank to rank

    def measure(self, factor: float, *, retain_graph: bool) -> None:
        last = list(self._losses)[-1]
        with _put_aside(self.ends), explained():
            for task, loss in self._losses.items():
                for parameter in self.ends:
                    parameter.grad = None
                torch.autograd.backward(
                    loss,
                    torch.full_like(loss, factor),
                    retain_graph=retain_graph or task != last,
                )
                pairs = zip(self._local, self.ends, strict=True)
                row = {local: _local(p.grad) for local, p in pairs if p.grad is not None}
                self._rows.add(task, (), row)

    def grams(self, tasks: Sequence[str], ranks: Ranks | None) -> list[Tensor | None]:
        return [self._mesh.add_up(self._rows.gram(self._local[: self._num_shared], tasks))]

    def directions(
        self, weights: Weights, factor: float, *, retain_graph: bool, wide: bool
    ) -> list[Tensor | None]:
        (of_group,) = weights
        of_group = of_group or {}
        if not self._rows.tasks:  # weights that are reused; heads cannot be weighted by themselves
            self.measure(factor, retain_graph=retain_graph)
        of_heads = dict.fromkeys(of_group, 1.0) if self._heads == "raw" else of_group
        directions = []
        for index, (parameter, local) in enumerate(zip(self.ends, self._local, strict=True)):
            of_this = of_group if index < self._num_shared else of_heads
            found = self._rows.combine([local], of_this, wide=wide).get(local)
            directions.append(_like(parameter, found))
        return directions


@contextmanager
def _put_aside(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Keep `.grad`, and the hooks that fire once it was added to, out of what happens inside."""
    before = [parameter.grad for parameter in parameters]
    hooks = [(h, dict(h)) for p in parameters if (h := p._post_accumulate_grad_hooks)]
    try:
        for suspended, _ in hooks:
            suspended.clear()
        yield
    finally:
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient
        for suspended, saved in hooks:
            suspended.update(saved)


def _local(tensor: Any) -> Tensor:
    """This rank's shard of a tensor, or all of it where it is not sharded."""
    local: Tensor = tensor.to_local() if is_sharded(tensor) else tensor
    return local


def _like(parameter: Any, direction: Tensor | None) -> Tensor | None:
    """A direction sharded as its parameter is."""
    if direction is None or not is_sharded(parameter):
        return direction
    sharded: Tensor = type(parameter).from_local(
        direction,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
    return sharded
