"""The length below which a combination of rows cannot be distinguished from zero."""

import math

import numpy as np

from gradbalance.numerics.array import Array
from gradbalance.numerics.certificate import UNIT


def resolution(num_tasks: int, *, rounding: float = 0.0, unit: float = UNIT) -> float:
    r"""Return the length of Jᵀw, relative to Σ|w_i|‖g_i‖, up to which it may be rounding noise.

        max(δ, √(T·ε))

    Each row g_i of J [T, P] is known up to an error of δ‖g_i‖. From their Gramian, summed with the
    unit roundoff ε, ‖Jᵀw‖² is known up to an error of T·ε·(Σ|w_i|‖g_i‖)². A vector that is not
    longer than either error cannot be distinguished from zero.

    Args:
        num_tasks: The number of tasks T.
        rounding: The relative error δ of the rows; 0 if they are more precise than their Gramian.
        unit: The unit roundoff ε of the dtype in which the Gramian was summed.

    Returns:
        The relative length.

    Example:
        >>> from gradbalance.numerics import resolution
        >>> f"{resolution(4):.1e}, {resolution(4, rounding=5e-7):.1e}"
        '3.0e-08, 5.0e-07'
    """
    return max(rounding, math.sqrt(num_tasks * unit))


def relative_length(gram: Array, weights: Array) -> float:
    r"""Return the length of a combination of rows relative to that of its terms, from 0 to 1.

        ‖Jᵀw‖ / Σ|w_i|‖g_i‖

    It is 0 if the terms cancel, and for weights of zero. The combination cannot be distinguished
    from zero if this is at most the `resolution`.

    Args:
        gram: The Gramian G = J Jᵀ [T, T].
        weights: The weights w [T].

    Returns:
        The relative length.

    Example:
        >>> import numpy as np
        >>> from gradbalance.numerics import as_gramian, relative_length
        >>> relative_length(as_gramian([[1.0, -1.0], [-1.0, 1.0]]), np.ones(2))
        0.0
    """
    largest = float(np.abs(weights).max())
    if largest == 0.0:
        return 0.0
    scaled = weights / largest  # so that squares cannot overflow
    square = float(scaled.dot(gram.dot(scaled)))
    total = float(np.abs(scaled).dot(np.sqrt(gram.diagonal())))
    return math.sqrt(max(square, 0.0)) / total if total > 0.0 else 0.0
