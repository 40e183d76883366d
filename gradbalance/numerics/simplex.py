"""The nearest point of the simplex."""

import numpy as np

from gradbalance.numerics.array import Array


def nearest_in_simplex(point: Array) -> Array:
    """Return the point of {w: w ≥ 0, Σw = 1} that is nearest to a point.

        w_i = max(x_i − θ, 0),   with the θ that makes Σw = 1

    Args:
        point: x [T].

    Example:
        >>> import numpy as np
        >>> from gradbalance.numerics import nearest_in_simplex
        >>> nearest_in_simplex(np.array([0.9, 0.5, -3.0]))
        array([0.7, 0.3, 0. ])

    References:
        Held, Wolfe and Crowder, Validation of subgradient optimization, 1974.
    """
    point = point - point.max()  # the answer is the same, and 1 is not lost in rounding
    falling = np.sort(point)[::-1]
    thresholds = (np.cumsum(falling) - 1) / np.arange(1, point.size + 1)
    nearest: Array = np.maximum(point - thresholds[np.flatnonzero(falling > thresholds)[-1]], 0.0)
    nearest /= nearest.sum()
    return nearest
