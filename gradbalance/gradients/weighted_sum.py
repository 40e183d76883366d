"""Gradients that are not measured: one ordinary backward of the weighted sum."""

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor

from gradbalance.gradients.autograd import weighted_backward
from gradbalance.gradients.ranks import Ranks
from gradbalance.gradients.source import TaskGradients


@final
class WeightedSum(TaskGradients):
    """One backward of Σ w_i L_i; a second, of Σ L_i, down to the leaves that stay raw.

    Args:
        losses: by task.
        weighted: the leaves that get weighted gradients; None for all but the raw ones.
        raw: the leaves that get raw gradients; `weighted` is given then.
        retain_graph: whether the graph must outlive the step.
    """

    def __init__(
        self,
        losses: Mapping[str, Tensor],
        *,
        weighted: Sequence[Tensor] | None = None,
        raw: Sequence[Tensor] = (),
        retain_graph: bool,
    ) -> None:
        self._losses = losses
        self._weighted = None if weighted is None else list(weighted)
        self._raw = list(raw)
        self._retain_graph = retain_graph

    num_columns = 0

    def gram(self, tasks: Sequence[str], ranks: Ranks | None = None) -> None:
        """Nothing is measured: None."""

    def backward(self, weights: Mapping[str, float], *, zeros: bool = False) -> None:
        """Accumulate Σ w_i g_i, and Σ g_i into the raw leaves."""
        retain_graph = self._retain_graph or bool(self._raw)
        weighted_backward(self._losses, weights, retain_graph=retain_graph, inputs=self._weighted)
        if self._raw:
            ones = dict.fromkeys(weights, 1.0)
            weighted_backward(self._losses, ones, retain_graph=self._retain_graph, inputs=self._raw)
