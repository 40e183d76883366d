"""When a combination of rows is so short that rounding hides whether it is zero."""

import math

import numpy as np

from gradbalance.numerics.array import Array
from gradbalance.numerics.certificate import UNIT


def resolution(num_tasks: int, *, rounding: float = 0.0, unit: float = UNIT) -> float:
    r"""How long Jᵀw must be, relative to Σ|w_i|‖g_i‖, to be told from zero.

        max(δ, √(T·ε))

    The rows g_i of J [T, P] are known to δ‖g_i‖ each. Their Gramian, summed with the unit roundoff
    ε, knows ‖Jᵀw‖² to T·ε·(Σ|w_i|‖g_i‖)². What is shorter than either is noise.

    Args:
        num_tasks: T.
        rounding: δ; 0 where the rows are known better than their Gramian.
        unit: ε.

    Example:
        >>> from gradbalance.numerics import resolution
        >>> f"{resolution(4):.1e}, {resolution(4, rounding=5e-7):.1e}"
        '3.0e-08, 5.0e-07'
    """
    return max(rounding, math.sqrt(num_tasks * unit))


def cancels(gram: Array, weights: Array, finest: float) -> bool:
    """Whether ‖Jᵀw‖ ≤ finest·Σ|w_i|‖g_i‖, so that the direction cannot be told from zero.

    Args:
        gram: The Gramian G = J Jᵀ [T, T].
        weights: The weights w [T].
        finest: See `resolution`.

    Example:
        >>> import numpy as np
        >>> from gradbalance.numerics import as_gramian, cancels
        >>> cancels(as_gramian([[1.0, -1.0], [-1.0, 1.0]]), np.ones(2), 1e-7)
        True
    """
    largest = float(np.abs(weights).max())
    if largest == 0.0:
        return True
    scaled = weights / largest  # whose squares cannot overflow
    square = float(scaled.dot(gram.dot(scaled)))
    length = float(np.abs(scaled).dot(np.sqrt(gram.diagonal())))
    return math.sqrt(max(square, 0.0)) <= finest * length
