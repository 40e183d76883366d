"""Learning-rate annealing by gradient statistics (Wang, Teng, Perdikaris 2020, arXiv 2001.04536).

A condition's weight is the largest entry of the equation's gradient divided by the mean entry of
the condition's own gradient, both as absolute values. A Gramian does not contain single entries, so
this is a separate class and not a gradbalance solver.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

import gradbalance as gb

_EVERY = 10  # steps between two updates of the weights, as in the authors' code
_MEMORY = 0.9  # share of the old weight in the new one, as in the authors' code


class Annealing:
    """Replaces ``gb.Balancer``, with the part of its interface that this example uses.

    Args:
        network: The network whose gradients are measured.
        conditions: Names of the losses that get a weight; the others keep the weight 1.
    """

    def __init__(self, network: nn.Module, conditions: Sequence[str]) -> None:
        self._parameters = list(network.parameters())
        self._weights = dict.fromkeys(conditions, 1.0)
        self._num_steps = 0

    def backward(self, losses: Mapping[str, Tensor]) -> gb.Report:
        """Update the weights at every tenth step, then differentiate the weighted sum.

        Args:
            losses: The losses by name.
        """
        if self._num_steps % _EVERY == 0:
            self._look(losses)
        self._num_steps += 1
        weights = [self._weights.get(name, 1.0) for name in losses]
        weighted = [w * loss for w, loss in zip(weights, losses.values(), strict=True)]
        torch.stack(weighted).sum().backward()  # type: ignore[no-untyped-call]
        return gb.Report(
            names=tuple(losses),
            losses=np.array([loss.item() for loss in losses.values()]),
            weights=np.array(weights),
            gram=None,
            solver="Annealing()",
            status=None,
        )

    def _look(self, losses: Mapping[str, Tensor]) -> None:
        equations = [loss for name, loss in losses.items() if name not in self._weights]
        largest = max(g.abs().max() for g in self._gradients(torch.stack(equations).sum()))
        for name, weight in self._weights.items():
            means = [g.abs().mean() for g in self._gradients(losses[name])]
            wanted = float(largest / torch.stack(means).mean())
            self._weights[name] = _MEMORY * weight + (1 - _MEMORY) * wanted

    def _gradients(self, loss: Tensor) -> list[Tensor]:
        """The gradients with respect to the weight matrices, as in the authors' code."""
        matrices = [parameter for parameter in self._parameters if parameter.ndim == 2]
        return list(torch.autograd.grad(loss, matrices, retain_graph=True))
