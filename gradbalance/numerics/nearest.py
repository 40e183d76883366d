"""The vector nearest to a combination of rows whose products with some of the rows are given."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradbalance.numerics.array import Array
from gradbalance.numerics.complementarity import complementary
from gradbalance.numerics.gramian import rounding_of, unit_rows
from gradbalance.numerics.status import Status

_MISSED = 1e-6  # of the largest product that was asked for: more, and no vector has them all
_LOWEST = -1e150  # of a bound, which nothing near it reaches
_NUM_REFINEMENTS = 3


class NearestVector(NamedTuple):
    """Weights of the nearest vector with such products, with what certifies them.

    Attributes:
        weights: The weights v [T], v = p but for the rows whose products are bounded.
        status: Whether the certificate holds, and whether √(vᵀGv) is zero to rounding; `ILL_POSED`
            where no vector has these products, as far as rounding lets one tell, and those above
            zero were taken as zero.
        num_steps: The number of systems of equations that were solved; 0 where v = p.
        certificate: The worst of b_i − (Gv)_i, or |b_i − (Gv)_i| where v_i > p_i, over
            2·T·ε·√G_ii·S, with S = Σ_j (|p_j| + |v_j|) √G_jj + max_j b_j/√G_jj and ε the float64
            unit. At most 1 where certified. Where G has less than float64's accuracy, as much as
            makes it positive definite takes ε's place.

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
    """Move a combination of rows as little as gives some rows the products that they want.

        min_d ‖d − Jᵀp‖²   over ⟨g_i, d⟩ ≥ b_i for i in M:   d = Jᵀv,  v ≥ p on M, v = p elsewhere

    Where b ≤ 0 there always is such a d. Where b > 0 there may be none, with opposed rows; then b
    is replaced by min(b, 0), and the status says so.

    Args:
        gram: The Gramian G [T, T] of the rows of J [T, P], as `as_gramian` returns it:
            that it is one is not checked again.
        center: The weights p [T].
        rows: M, as indices.
        least: The products b, one for each of M, in the units of G; at most 0 for a zero row.

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
        """The point above these products, and how many systems that took."""
        sizes = np.array([size + float(wanted.max(initial=0.0))])
        found, num_steps = complementary(block, (slopes - wanted)[None], sizes, damping)
        point, free = base.copy(), found[0] > 0.0
        point[chosen] += found[0]
        for _ in range(_NUM_REFINEMENTS):  # of what the damping has moved
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
