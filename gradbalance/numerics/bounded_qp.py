"""The minimum of a quadratic form above lower bounds, for many bounds with the same Gramian."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gradbalance.numerics.array import Array
from gradbalance.numerics.complementarity import complementary
from gradbalance.numerics.gramian import rounding_of, unit_rows
from gradbalance.numerics.status import Status


class BoundedMinima(NamedTuple):
    """The minimisers v of vᵀGv above lower bounds, and their certificate.

    Attributes:
        points: The points v [K, T], v ≥ u in every entry.
        status: Whether the certificate holds, and whether √(vᵀGv) is zero up to rounding for all v.
        num_steps: The number of linear systems that were solved; 0 if v = u everywhere.
        certificate: The largest −(Gv)_i, or |(Gv)_i| where v_i > u_i, divided by 2·T·ε·√G_ii·S,
            with S = Σ_j |v_j| √G_jj and ε the float64 unit roundoff. Certified if at most 1. If G
            is less precise than float64, the damping that makes it positive definite replaces ε.

    Example:
        >>> from gradbalance.numerics import as_gramian, bounded_minima
        >>> minima = bounded_minima(as_gramian([[2.0, -1.0], [-1.0, 1.0]]), [1.0, 0.0])
        >>> minima.status
        <Status.CONVERGED: 'converged'>
        >>> minima.certificate <= 1.0
        True
    """

    points: Array
    status: Status
    num_steps: int
    certificate: float


def bounded_minima(gram: Array, lower: ArrayLike) -> BoundedMinima:
    """Minimise a quadratic form above lower bounds, exactly, for K vectors of bounds.

        min_v vᵀGv   over v ≥ u,   with G = J Jᵀ

    Jᵀv is the projection of Jᵀu onto the cone {d: Jd ≥ 0}, and is unique; v is unique if G is
    regular. A zero row is no constraint; its v_i is u_i.

    Args:
        gram: The Gramian G [T, T] of the rows of J [T, P], as returned by `as_gramian`; it is not
            checked again.
        lower: The bounds u [K, T], or [T] for one problem.

    Returns:
        The points, with status and certificate.

    Raises:
        ValueError: If the bounds do not fit the Gramian or are not finite.

    Example:
        >>> from gradbalance.numerics import as_gramian, bounded_minima
        >>> bounded_minima(as_gramian([[1.0, -1.0], [-1.0, 4.0]]), [[1.0, 0.0], [0.0, 1.0]]).points
        array([[1.  , 0.25],
               [1.  , 1.  ]])
    """
    bounds = np.atleast_2d(np.asarray(lower, dtype=np.float64))
    if bounds.ndim != 2 or bounds.shape[1] != len(gram) or not np.isfinite(bounds).all():
        raise ValueError(
            f"lower must hold a finite bound for each of the {len(gram)} rows of gram, in one or "
            f"more rows; got shape {bounds.shape}"
        )
    _, norms, divisors, cosines = unit_rows(gram)
    bases = bounds * norms
    damping = rounding_of(cosines)
    damped = cosines.copy()
    damped.flat[:: len(cosines) + 1] += damping
    ones = np.ones(len(gram))
    base_sizes = np.abs(bases).dot(ones)
    excess, num_steps = complementary(damped, bases.dot(cosines), base_sizes, damping)
    points = bases + excess
    slopes = points.dot(cosines)
    sizes = np.abs(points).dot(ones)
    rounding = 2.0 * damping * sizes
    missed = np.maximum(-slopes, slopes * (excess > 0.0))
    ratios = missed / np.where(rounding > 0.0, rounding, 1.0)[:, None]
    certificate = max(0.0, ratios.item(ratios.argmax()))
    at_rest = ((points * slopes).dot(ones) <= rounding * sizes).all()
    status = Status.of(certificate, stationary=bool(at_rest))
    return BoundedMinima(bounds + excess / divisors, status, num_steps, certificate)
