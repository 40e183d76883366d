"""What certifies a point of least norm, and how much of it rounding allows."""

from typing import NamedTuple

import numpy as np

from gradbalance.numerics.array import Array

UNIT = float(np.finfo(np.float64).eps)


class Certificate(NamedTuple):
    """How far weights are from the optimum, row by row; holds where `worst` is at most 1."""

    gaps: Array  # wᵀGw − (Gw)_i
    ratios: Array  # the same over what is allowed to row i
    worst: float
    val: float  # wᵀGw
    stationary: bool


def certify(gram: Array, norms: Array, weights: Array, tol: float) -> Certificate:
    """Compare weights on the simplex with the optimality conditions of the min-norm problem.

    With val = wᵀGw, s_i = √G_ii, S = Σ_j w_j s_j, T rows and ε the float64 unit, row i holds if

        val − (Gw)_i ≤ tol·val + T·ε·S·max(s_i, S).

    Since val is at most s_i² at the optimum, a gap relative to the largest row would say nothing
    about a short one; T·ε·S·s_i is what rounding does to (Gw)_i, and T·ε·S² what it does to val.
    The latter exceeds the former only for rows shorter than S, that is where long rows nearly
    cancel, and there nothing smaller can be had: rounding the entries of G to float64 moves val
    by as much. For the same reason a val of at most T·ε·S² cannot be told from zero, and the
    weights are called stationary. (From the rows J themselves ‖Jᵀw‖ could be told from zero down
    to ε·S; from their Gramian only down to √ε·S.)

    Args:
        gram: The Gramian G [T, T].
        norms: The norms s [T] of the rows.
        weights: The weights w [T], of sum 1. Where some are negative, the conditions are those of
            the affine hull, and S = Σ_j |w_j| s_j.
        tol: The relative gap allowed.

    Returns:
        The gaps, their ratios to what is allowed (0/0 being 0), the worst, and whether val is zero
        to rounding.
    """
    # `dot` and `argmax` take a third of the time of `@` and `max` on arrays as short as these.
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
