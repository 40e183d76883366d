"""The certificate of a minimum-norm point, and its tolerance for rounding errors."""

from typing import NamedTuple

import numpy as np

from gradbalance.numerics.array import Array

UNIT = float(np.finfo(np.float64).eps)


class Certificate(NamedTuple):
    """How far weights are from the optimum, for each row; it holds if `worst` is at most 1."""

    gaps: Array  # wᵀGw − (Gw)_i
    ratios: Array  # the gaps divided by the tolerance of each row
    worst: float
    val: float  # wᵀGw
    stationary: bool


def certify(gram: Array, norms: Array, weights: Array, tol: float) -> Certificate:
    """Compare weights on the simplex with the optimality conditions of the minimum-norm problem.

    With val = wᵀGw, s_i = √G_ii, S = Σ_j w_j s_j, T rows and ε the float64 unit roundoff, the
    condition of row i holds if

        val − (Gw)_i ≤ tol·val + T·ε·S·max(s_i, S).

    Since val is at most s_i² at the optimum, a gap relative to the largest row would be meaningless
    for a short one. T·ε·S·s_i is the rounding error of (Gw)_i, and T·ε·S² that of val. The latter
    is larger only for rows shorter than S, that is if long rows nearly cancel, and then cannot be
    avoided: rounding the entries of G to float64 changes val by as much. For the same reason a val
    of at most T·ε·S² cannot be distinguished from zero, and the weights are called stationary.
    (With the rows J themselves, ‖Jᵀw‖ could be distinguished from zero down to ε·S; with their
    Gramian only down to √ε·S.)

    Args:
        gram: The Gramian G [T, T].
        norms: The norms s [T] of the rows.
        weights: The weights w [T], of sum 1. Where some are negative, the conditions are those of
            the affine hull, and S = Σ_j |w_j| s_j.
        tol: The relative gap allowed.

    Returns:
        The gaps, their ratios to the tolerance (with 0/0 = 0), the worst ratio, and whether val is
        zero up to rounding.
    """
    # `dot` and `argmax` take a third of the time of `@` and `max` on such short arrays.
    products = gram.dot(weights)
    val = float(weights.dot(products))
    spread = float(np.abs(weights).dot(norms))
    rounding = norms.size * UNIT * spread
    gaps = val - products
    if spread == 0.0:
        return Certificate(gaps, np.zeros_like(gaps), 0.0, val, True)
    ratios = gaps / (tol * max(val, 0.0) + rounding * np.maximum(norms, spread))
    worst = float(ratios[ratios.argmax()])
    return Certificate(gaps, ratios, worst, val, val <= rounding * spread)
