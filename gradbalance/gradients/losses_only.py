"""The cheapest source: one ordinary backward of the weighted sum, without comparing gradients."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

from torch import Tensor

from gradbalance.gradients.graph import Graph
from gradbalance.gradients.graph_gradients import GraphGradients, Keeping, Shared
from gradbalance.gradients.hidden import check_differentiable
from gradbalance.gradients.micro_batches import Reached
from gradbalance.gradients.source import Request, StatelessSource, TaskGradients


@final
class LossesOnly(StatelessSource):
    r"""Run one ordinary backward of Σ w_i L_i; the solver sees the losses, but no Gramian.

    .. math:: \texttt{.grad} \mathrel{+}= \nabla \sum_i w_i L_i

    with L [T] the losses and w [T] the weights. The default for solvers that need only the losses;
    it costs as much as `sum(losses).backward()`. The weights apply to whole losses, so
    `heads="raw"` raises an error. With `Balancer.accumulate`, a micro-batch costs one backward per
    task, because its weights are known only at the end. As in any backward, a part of the graph
    that was already freed is noticed only when it is reached, and part of `.grad` may be written by
    then.

    Example:
        >>> import torch, gradbalance as gb
        >>> x = torch.ones(2, requires_grad=True)
        >>> report = gb.Balancer(gb.Uniform(), gb.LossesOnly()).backward([x.sum(), (2 * x).sum()])
        >>> x.grad
        tensor([3., 3.])
    """

    measures_gramian: ClassVar[bool] = False
    accumulates: ClassVar[bool] = True
    takes_representation: ClassVar[bool] = False
    groups = ()

    def open(self, losses: Mapping[str, Tensor], request: Request) -> GraphGradients:
        """Open a step; its ends are the losses, or leaves with micro-batches or a kept graph."""
        keeping = Keeping(rows_are_written=False)
        if request.earlier is None and not request.retain_graph:
            return GraphGradients(losses, None, (), _nothing_shared, request, keeping)
        graph = Graph(losses)
        check_differentiable(graph)
        before = {} if request.earlier is None else request.earlier.reached_by
        leaves = list({**before, **graph.reached_by})
        return GraphGradients(losses, graph, leaves, _nothing_shared, request, keeping)

    def commit(self, gradients: TaskGradients | None, *, freed: bool) -> None:
        """Nothing to remember."""


def _nothing_shared(reached: Reached, tasks: Sequence[str]) -> Shared:
    return Shared([()], [()], reached)
