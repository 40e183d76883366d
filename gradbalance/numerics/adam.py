"""One step of Adam on a small vector, independent of the gradient's scale."""

import numpy as np
from numpy.typing import ArrayLike

from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_number

_LARGEST = 1e150  # of a gradient, so that its square stays within float64


def adam_step(
    x: ArrayLike,
    gradient: ArrayLike,
    moments: tuple[ArrayLike, ArrayLike],
    num_steps: ArrayLike,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
) -> tuple[Array, tuple[Array, Array]]:
    """Take one step of Adam, elementwise and without a stabilising constant.

        m ← β₁m + (1 − β₁)g,   v ← β₂v + (1 − β₂)g²,
        x ← x − lr · (m / (1 − β₁ᵏ)) / √(v / (1 − β₂ᵏ)),   k = num_steps + 1,   0/0 = 0

    Args:
        x: The variables [T].
        gradient: The gradient g [T], clipped to ±1e150.
        moments: The first moments m [T] and the second moments v [T]; initially zeros.
        num_steps: The number of steps before this one; an array [T] if elements have been updated
            different numbers of times.
        lr: The learning rate.
        betas: The decay rates (β₁, β₂) of the moments, each in [0, 1).

    Returns:
        The new variables [T] and the new moments. Nothing is written in place.

    Raises:
        ValueError: If a decay rate is out of its range.

    Example:
        >>> from gradbalance.numerics import adam_step
        >>> x, moments = adam_step([1.0, 1.0], [3e-9, 0.0], ([0.0, 0.0], [0.0, 0.0]), 0, lr=0.1)
        >>> x.round(12)
        array([0.9, 1. ])

    References:
        Kingma and Ba, 2015, arXiv:1412.6980. Unlike there, the constant ε = 1e-8 is left out,
        because it would make the step depend on the scale of the gradient.
    """
    for index, beta in enumerate(betas):
        check_number(f"betas[{index}]", beta, "[0, 1)")
    gradient = np.clip(np.asarray(gradient, dtype=np.float64), -_LARGEST, _LARGEST)
    count = np.asarray(num_steps) + 1
    mean = betas[0] * np.asarray(moments[0]) + (1.0 - betas[0]) * gradient
    square = betas[1] * np.asarray(moments[1]) + (1.0 - betas[1]) * gradient**2
    size = np.sqrt(square / (1.0 - betas[1] ** count))
    step = np.divide(
        mean / (1.0 - betas[0] ** count), size, out=np.zeros_like(size), where=size > 0.0
    )
    return np.asarray(x, dtype=np.float64) - lr * step, (mean, square)
