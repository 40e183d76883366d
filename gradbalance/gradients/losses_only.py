"""The cheapest source: no gradients are compared, one ordinary backward of the weighted sum."""

from collections.abc import Mapping
from typing import ClassVar, final

from torch import Tensor

from gradbalance.gradients.source import Heads, Source, TaskGradients
from gradbalance.gradients.weighted_sum import WeightedSum


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
    groups = ("",)
    accumulates = False

    def measure(
        self, losses: Mapping[str, Tensor], *, heads: Heads, retain_graph: bool
    ) -> dict[str, TaskGradients]:
        """Nothing to differentiate yet."""
        return {"": WeightedSum(losses, retain_graph=retain_graph)}

    def reuse(
        self, losses: Mapping[str, Tensor], *, heads: Heads, retain_graph: bool
    ) -> dict[str, TaskGradients]:
        """The same: nothing is ever measured."""
        return {"": WeightedSum(losses, retain_graph=retain_graph)}
