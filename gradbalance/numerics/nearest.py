"""The vector closest to a combination of rows with lower bounds on some of its inner products."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradbalance.numerics.array import Array
from gradbalance.numerics.complementarity import complementary
from gradbalance.numerics.gramian import rounding_of, unit_rows
from gradbalance.numerics.status import Status

_MISSED = 1e-6  # of the largest bound; if a product misses its bound by more, it is infeasible
_LOWEST = -1e150  # a bound that no product comes near
_NUM_REFINEMENTS = 3


class NearestVector(NamedTuple):
    """Weights of the closest vector that satisfies the bounds, and their certificate.

    Attributes:
        weights: The weights v [T]; v = p except for rows with a bound.
        status: Whether the certificate holds, and whether √(vᵀGv) is zero up to rounding;
            `ILL_POSED` if no vector satisfies the bounds, up to rounding, and positive bounds were
            replaced by zero.
        num_steps: The number of linear systems that were solved; 0 if v = p.
        certificate: The largest b_i − (Gv)_i, or |b_i − (Gv)_i| where v_i > p_i, divided by
            2·T·ε·√G_ii·S, with S = Σ_j (|p_j| + |v_j|) √G_jj + max_j b_j/√G_jj and ε the float64
            unit roundoff. Certified if at most 1. If G is less precise than float64, the damping
            that makes it positive definite replaces ε.

    Example:
        >>> from gradbalance.numerics import as_gramian, nearest_vector
        >>> nearest_vector(as_gramian([[1.0, -1.0], [-1.0, 1.0]]), [1, 1], [0, 1], [1, 1]).status
        <Status.ILL_POSED: 'ill-posed'>
    """

    weights: Array
    status: Status
    num_steps: int
    certificate: float


def nearest_vector(
    gram: Array, center: ArrayLike, rows: ArrayLike, least: ArrayLike
) -> NearestVector:
    """Find the vector closest to a combination of rows, with lower bounds on some inner products.

        min_d ‖d − Jᵀp‖²   over ⟨g_i, d⟩ ≥ b_i for i in M:   d = Jᵀv,  v ≥ p on M, v = p elsewhere

    If b ≤ 0 there always is such a d. If b > 0 there may be none, with opposed rows; then b is
    replaced by min(b, 0), and the status is `ILL_POSED`.

    Args:
        gram: The Gramian G [T, T] of the rows of J [T, P], as returned by `as_gramian`; it is not
            checked again.
        center: The weights p [T].
        rows: The indices M of the rows with a bound.
        least: The bounds b, one for each index in M, in the units of G; at most 0 for a zero row.

    Returns:
        The weights, with status and certificate.

    Example:
        >>> from gradbalance.numerics import as_gramian, nearest_vector
        >>> nearest_vector(as_gramian([[1.0, -2.0], [-2.0, 9.0]]), [1.0, 1.0], [0], [0.5]).weights
        array([2.5, 1. ])
    """
    weights = np.array(center, dtype=np.float64)
    chosen: NDArray[np.intp] = np.asarray(rows, dtype=np.intp)
    bounds = np.asarray(least, dtype=np.float64)
    scale, norms, divisors, cosines = unit_rows(gram)
    base = weights * norms
    damping = rounding_of(cosines)
    with np.errstate(over="ignore"):
        wanted = np.maximum(bounds * scale / divisors[chosen], _LOWEST)
    slopes = cosines.dot(base)[chosen]
    size = float(np.abs(base).sum())
    block = cosines[np.ix_(chosen, chosen)]
    block.flat[:: chosen.size + 1] += damping

    def solved(wanted: Array) -> tuple[Array, int]:
        """The point that satisfies these bounds, and the number of linear systems solved."""
        sizes = np.array([size + float(wanted.max(initial=0.0))])
        found, num_steps = complementary(block, (slopes - wanted)[None], sizes, damping)
        point, free = base.copy(), found[0] > 0.0
        point[chosen] += found[0]
        for _ in range(_NUM_REFINEMENTS):  # to correct the effect of damping
            missed = (wanted - cosines.dot(point)[chosen])[free]
            step = np.linalg.solve(block[np.ix_(free, free)], missed)
            finer = point.copy()
            finer[chosen[free]] += step
            if (finer[chosen] < base[chosen]).any():
                break
            point = finer
        return point, num_steps

    if not chosen.size:
        square, spread = float(base.dot(cosines.dot(base))), size
        status = Status.of(0.0, stationary=square <= 2.0 * damping * spread**2)
        return NearestVector(weights, status, 0, 0.0)
    point, num_steps = solved(wanted)
    asked = float(wanted.max())
    missed = float((wanted - cosines.dot(point)[chosen]).max())
    feasible = missed <= _MISSED * max(asked, 0.0) + 2.0 * damping * size or asked <= 0.0
    if not feasible:
        wanted = np.minimum(wanted, 0.0)
        point, more = solved(wanted)
        num_steps += more
    excess = (point - base)[chosen]
    spread = float(np.abs(point).sum())
    rounding = 2.0 * damping * (size + max(float(wanted.max()), 0.0) + spread)
    lacking = wanted - cosines.dot(point)[chosen]
    worst = np.maximum(lacking, -lacking * (excess > 0.0)).max()
    certificate = float(worst / rounding) if rounding > 0.0 else 0.0
    square = float(point.dot(cosines.dot(point)))
    status = Status.of(certificate, stationary=square <= rounding * spread)
    weights[chosen] += excess / divisors[chosen]
    return NearestVector(weights, status if feasible else Status.ILL_POSED, num_steps, certificate)
