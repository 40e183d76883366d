r"""The loss after a virtual step, differentiable with respect to what the step was made of.

.. math::
    L(\varphi) = \text{outer}(\theta'), \qquad
    \theta' = \theta - \eta\, \nabla_\theta\, \text{inner}(\theta, \varphi)

with φ everything in ``inner`` that requires a gradient: here the map of the latents, through the
synthetic images. θ itself is a constant.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Parameters = dict[str, Tensor]
Loss = Callable[[Parameters], Tensor]


def detached(parameters: Mapping[str, Tensor]) -> Parameters:
    """Return parameters as constants.

    Args:
        parameters: Parameters by name.
    """
    return {name: parameter.detach() for name, parameter in parameters.items()}


def exact(inner: Loss, outer: Loss, parameters: Parameters, lr: float) -> Tensor:
    """Return the outer loss with its whole graph: its gradient takes a double backward.

    Args:
        inner: The training loss at some parameters; its graph leads to φ.
        outer: The validation loss at some parameters.
        parameters: Parameters θ, detached.
        lr: Learning rate η of the virtual step.
    """
    gradients = torch.func.grad(inner)(parameters)
    return outer(_step(parameters, gradients, lr))


def finite_difference(
    inner: Loss, outer: Loss, parameters: Parameters, lr: float, *, length: float = 0.03
) -> Tensor:
    r"""Return the outer loss with the finite-difference approximation of its gradient.

    .. math::
        \nabla_\varphi L \approx -\frac{\eta}{2\epsilon} \nabla_\varphi \big(
        \text{inner}(\theta + \epsilon v, \varphi) - \text{inner}(\theta - \epsilon v, \varphi)
        \big), \qquad v = \nabla \text{outer}(\theta'), \quad \epsilon\,\|v\| = \text{length}

    It needs first derivatives only, and no double backward (Liu et al., DARTS, ICLR 2019, arXiv
    1806.09055, equation 8). Constants of ``inner`` must be the same at both perturbations: targets
    that are computed anew at θ ± εv make the result wrong. If the network has kinks, such as those
    of ReLU and max pooling, the result stays an approximation, however short the length.

    Args:
        inner: The training loss at some parameters; its graph leads to φ.
        outer: The validation loss at some parameters.
        parameters: Parameters θ, detached.
        lr: Learning rate η of the virtual step.
        length: Length of the perturbation.
    """
    gradients = detached(torch.func.grad(inner)(parameters))
    direction, value = torch.func.grad_and_value(outer)(_step(parameters, gradients, lr))
    norm = torch.stack([part.square().sum() for part in direction.values()]).sum().sqrt()
    if norm == 0:  # The outer loss is at a minimum: φ makes no difference.
        unmoved: Tensor = value.detach() + 0 * inner(parameters)
        return unmoved
    epsilon = length / norm
    plus = inner(_step(parameters, direction, -epsilon))
    minus = inner(_step(parameters, direction, epsilon))
    change = -lr * (plus - minus) / (2 * epsilon)
    approximate: Tensor = value.detach() + change - change.detach()
    return approximate


def _step(parameters: Parameters, gradients: Parameters, lr: float | Tensor) -> Parameters:
    return {name: value - lr * gradients[name] for name, value in parameters.items()}


META_GRADIENTS = {"exact": exact, "finite-difference": finite_difference}
