"""Parameters on a mesh of ranks (FSDP2, tensor parallelism): one ordinary backward a task."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from gradbalance.gradients.autograd import explained
from gradbalance.gradients.graph import Graph
from gradbalance.gradients.mesh import Mesh, local_gradient, local_part, placed_like
from gradbalance.gradients.parameters import (
    Parameters,
    as_tuple,
    check_not_flat,
    is_sharded,
    parameters_of,
)
from gradbalance.gradients.ranks import Ranks
from gradbalance.gradients.rounding import rounding_of
from gradbalance.gradients.rows import Rows
from gradbalance.gradients.source import Heads, Request, StatelessSource, TaskGradients, Weights
from gradbalance.gradients.torch_private import hooks_after_accumulation, suspended


@final
class ShardedParameters(StatelessSource):
    r"""`SharedParameters` where FSDP2 or tensor parallelism places the model on a mesh of ranks.

    .. math:: G = \sum_r \sum_k \frac{1}{c_k} J^{(r)}_k J^{(r)\top}_k, \qquad
        \texttt{.grad}^{(r)} \mathrel{+}= J^{(r)\top} w

    with J⁽ʳ⁾ₖ [T, ·] what rank r holds of the gradients of parameter k (the means over the ranks of
    FSDP), and cₖ on how many ranks each part of it lies. Covers `fully_shard` over one mesh
    dimension or two (HSDP), `parallelize_module`, and one upon the other. Such parameters cannot be
    differentiated by themselves, so each task gets one ordinary backward, and its row is what that
    leaves in `.grad`. Memory is T shards. Every rank must have every task.

    Args:
        parameters: what the tasks share: a module or parameters of it. Plain tensors among them,
            as tensor parallelism leaves some, must have the same gradients on all ranks.
        model: the whole model.

    Raises:
        ValueError: no parameter of the trunk lies on a mesh, some are plain where FSDP2 averages
            the others, their meshes do not lie in one another, or FSDP1 flattened them.

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
        check_not_flat([*shared, *model.parameters()])
        whole = [tuple(p.shape) for p in shared if not is_sharded(p)]
        if len(whole) == len(shared) or (whole and _averages(model)):
            raise ValueError(
                "ShardedParameters is for parameters that torch.distributed.fsdp.fully_shard or "
                "tensor parallelism placed on a mesh; found plain ones, whose gradients nothing "
                f"averages, of shapes {whole}. Build it after sharding, or use SharedParameters"
            )
        self._shared = shared
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
        shared: Sequence[Tensor],
        others: Sequence[Tensor],
        heads: Heads,
    ) -> None:
        self._losses = losses
        self._heads = heads
        self._mesh = Mesh(shared)
        self._num_shared = len(shared)
        self._rows = Rows()
        self.ends = [*shared, *others]
        self._local = [local_part(parameter) for parameter in self.ends]

    def shapes(self) -> object:
        # Every rank needs all tasks. The shapes are those of the whole parameters.
        return tuple(self._losses), [tuple(p.shape) for p in self.ends[: self._num_shared]]

    def replicas(self) -> Sequence[Tensor]:
        return ()

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
                found = {local: local_gradient(parameter) for local, parameter in pairs}
                row = {local: part for local, part in found.items() if part is not None}
                self._rows.add(task, row)

    def grams(self, tasks: Sequence[str], ranks: Ranks | None) -> list[Tensor | None]:
        if ranks is not None and ranks.failed:
            return []  # the others wait inside a backward
        by_copies: dict[int, list[Tensor]] = {}
        for parameter, local in zip(self.ends, self._local[: self._num_shared], strict=False):
            by_copies.setdefault(self._mesh.copies(parameter), []).append(local)
        grams = [self._rows.gram(parts, tasks) / copies for copies, parts in by_copies.items()]
        return [self._mesh.add_up(sum(grams[1:], grams[0]))]

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
            directions.append(placed_like(parameter, found))
        return directions


def _averages(model: nn.Module) -> bool:
    """Whether FSDP2 averages gradients over ranks that see different batches."""
    kind = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", ())
    return any(isinstance(module, kind) for module in model.modules())


@contextmanager
def _put_aside(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Keep `.grad`, and the hooks that fire once it was added to, out of what happens inside."""
    before = [parameter.grad for parameter in parameters]
    try:
        with suspended(map(hooks_after_accumulation, parameters)):
            yield
    finally:
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient
