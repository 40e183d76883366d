"""The cheapest source: no gradients are compared, one ordinary backward of the weighted sum."""

from collections.abc import Mapping
from typing import ClassVar, final

from torch import Tensor

from gradbalance.gradients.autograd import weighted_backward
from gradbalance.gradients.source import Heads, Source, TaskGradients


@final
class LossesOnly(Source):
    r"""One ordinary backward of Σ w_i L_i; the solver sees the losses and no Gramian.

    .. math:: \texttt{.grad} \mathrel{+}= \nabla \sum_i w_i L_i

    The default for solvers that need losses only. Costs what `sum(losses).backward()` costs.
    Weights act on the whole losses, so `heads="raw"` is refused.

    Example:
        >>> import torch, gradbalance as gb
        >>> x = torch.ones(2, requires_grad=True)
        >>> report = gb.Balancer(gb.Uniform(), gb.LossesOnly()).backward([x.sum(), (2 * x).sum()])
        >>> x.grad
        tensor([3., 3.])
    """

    measures_gramian: ClassVar[bool] = False

    def measure(
        self, losses: Mapping[str, Tensor], *, heads: Heads, retain_graph: bool
    ) -> TaskGradients:
        """Nothing to differentiate yet."""
        return _WeightedSum(losses, retain_graph=retain_graph)


class _WeightedSum(TaskGradients):
    def __init__(self, losses: Mapping[str, Tensor], *, retain_graph: bool) -> None:
        self._losses = losses
        self._retain_graph = retain_graph

    def gram(self) -> None:
        return None

    def backward(self, weights: Mapping[str, float]) -> None:
        weighted_backward(self._losses, weights, retain_graph=self._retain_graph)
