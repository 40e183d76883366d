"""The cheapest source: no gradients are compared, one ordinary backward of the weighted sum."""

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
    r"""One ordinary backward of Σ w_i L_i; the solver sees the losses and no Gramian.

    .. math:: \texttt{.grad} \mathrel{+}= \nabla \sum_i w_i L_i

    The default for solvers that need losses only. Costs what `sum(losses).backward()` costs.
    Weights act on the whole losses, so `heads="raw"` is refused. Micro-batches that are accumulated
    cost one backward a task, since their weights are known only in the end.
    Like any backward, it notices a graph that was freed only where it comes to it: part of `.grad`
    may be written by then.

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
        """Over the losses; over the leaves with micro-batches, and where the graph is kept."""
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
