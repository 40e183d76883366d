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


def relative_length(gram: Array, weights: Array) -> float:
    r"""How long a combination is beside its terms, from 0, where they cancel, to 1.

        ‖Jᵀw‖ / Σ|w_i|‖g_i‖

    It cannot be told from zero where it is at most the `resolution`; 0 for weights of zero.

    Args:
        gram: The Gramian G = J Jᵀ [T, T].
        weights: The weights w [T].

    Example:
        >>> import numpy as np
        >>> from gradbalance.numerics import as_gramian, relative_length
        >>> relative_length(as_gramian([[1.0, -1.0], [-1.0, 1.0]]), np.ones(2))
        0.0
    """
    largest = float(np.abs(weights).max())
    if largest == 0.0:
        return 0.0
    scaled = weights / largest  # whose squares cannot overflow
    square = float(scaled.dot(gram.dot(scaled)))
    total = float(np.abs(scaled).dot(np.sqrt(gram.diagonal())))
    return math.sqrt(max(square, 0.0)) / total if total > 0.0 else 0.0
