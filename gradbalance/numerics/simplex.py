"""Projection onto the simplex."""

import numpy as np

from gradbalance.numerics.array import Array


def nearest_in_simplex(point: Array) -> Array:
    """Project a point onto the simplex {w: w ≥ 0, Σw = 1}.

        w_i = max(x_i − θ, 0),   with θ such that Σw = 1

    Args:
        point: The point x [T].

    Returns:
        The closest point w [T] of the simplex.

    Example:
        >>> import numpy as np
        >>> from gradbalance.numerics import nearest_in_simplex
        >>> nearest_in_simplex(np.array([0.9, 0.5, -3.0]))
        array([0.7, 0.3, 0. ])

    References:
        Held, Wolfe and Crowder, Validation of subgradient optimization, 1974.
    """
    point = point - point.max()  # does not change the result, and keeps the 1 from rounding away
    falling = np.sort(point)[::-1]
    thresholds = (np.cumsum(falling) - 1) / np.arange(1, point.size + 1)
    nearest: Array = np.maximum(point - thresholds[np.flatnonzero(falling > thresholds)[-1]], 0.0)
    nearest /= nearest.sum()
    return nearest
