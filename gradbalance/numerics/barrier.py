"""The minimum of a quadratic form with a barrier at zero."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gradbalance.numerics.array import Array
from gradbalance.numerics.checks import check_count, check_number
from gradbalance.numerics.damped_newton import damped_newton
from gradbalance.numerics.min_norm import min_norm_point
from gradbalance.numerics.resolution import resolution
from gradbalance.numerics.status import Status


class BarrierPoint(NamedTuple):
    """Positive weights w with Gw = p ∘ w^(−power), and their certificate.

    Attributes:
        weights: The weights w [T], all positive if `CONVERGED`.
        status: `CONVERGED`, `STATIONARY` if no solution exists, or `STEP_LIMIT`.
        num_steps: The number of Newton steps taken.
        certificate: The largest |(Gw)_i − u_i| / (tol·u_i + T·ε·S·√G_ii) of any row, with
            u_i = p_i·w_i^(−power), S = Σ_j w_j √G_jj and ε the float64 unit roundoff. Certified if
            at most 1. If `STATIONARY`, wᵀGw / (r·S)² instead, with r the resolution.

    Example:
        >>> from gradbalance.numerics import as_gramian, barrier_point
        >>> point = barrier_point(as_gramian([[2.0, 1.0], [1.0, 2.0]]))
        >>> point.status
        <Status.CONVERGED: 'converged'>
        >>> point.certificate <= 1.0
        True
    """

    weights: Array
    status: Status
    num_steps: int
    certificate: float


def barrier_point(
    gram: Array,
    *,
    power: float = 1.0,
    preferences: ArrayLike | None = None,
    tol: float = 1e-10,
    max_steps: int = 1000,
    finest: float = 0.0,
) -> BarrierPoint:
    """Solve Gw = p ∘ w^(−power) for positive weights.

        min_w ½wᵀGw − Σ_i p_i φ(w_i)   over w > 0,   φ'(w) = w^(−power)

    A solution exists, and is unique, if and only if zero is not in the convex hull of the rows of
    J, with G = J Jᵀ. Otherwise, and if rounding makes this uncertain, Jᵀw is zero up to rounding.
    The weights, which would be infinite, are then rescaled to Σ_i w_i √G_ii = T; if there are no
    other weights, those of the minimum-norm point of the normalised rows are used. Zero rows, if
    there are any, share the weight T.

    The variables are x_i = w_i √G_ii, so that the matrix is that of the cosines and the lengths of
    rows do not matter. Damped Newton steps start from the solution for orthogonal rows. They stop
    if rounding makes it uncertain whether a solution exists; the minimum-norm point then decides.

    Args:
        gram: The Gramian G [T, T], as returned by `as_gramian`; it is not checked again.
        power: The exponent, positive.
        preferences: The factors p [T], positive; ones by default.
        tol: The relative residual allowed in addition to rounding; see `BarrierPoint`.
        max_steps: The limit of Newton steps; a dozen are usual, more for powers far from 1.
        finest: The resolution of directions, if it is coarser than that of float64; see
            `resolution`.

    Returns:
        The weights, with status and certificate.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> from gradbalance.numerics import as_gramian, barrier_point
        >>> barrier_point(as_gramian([[4.0, 0.0], [0.0, 1.0]])).weights
        array([0.5, 1. ])

    References:
        Navon et al., 2022, arXiv:2202.01017, for power 1; Ban and Ji, 2024, arXiv:2402.15638.
    """
    check_number("power", power, "(0, inf)")
    check_number("tol", tol, "[0, 1)")
    check_count("max_steps", max_steps)
    factors = np.ones(len(gram)) if preferences is None else np.asarray(preferences, np.float64)
    if factors.shape != (len(gram),) or not (np.isfinite(factors) & (factors > 0.0)).all():
        raise ValueError(
            f"preferences must be {len(gram)} positive finite numbers, got {preferences!r}."
        )
    norms = np.sqrt(gram.diagonal())
    if norms.min() == 0.0:
        zero = norms == 0.0
        weights = np.where(zero, norms.size / np.count_nonzero(zero), 0.0)
        return BarrierPoint(weights, Status.STATIONARY, 0, 0.0)
    cosines = gram / norms / norms[:, None]
    # Orthogonal rows have the solution w_i = (p_i/G_ii)^share. The equation in x keeps its form
    # if units and x are divided by the same factor, chosen so that the largest unit is 1.
    share = 1.0 / (1.0 + power)
    units = factors**share * norms ** (1.0 - 2.0 * share)
    scale = float(units.max())
    units /= scale
    finest = max(finest, resolution(norms.size))
    end = damped_newton(cosines, units, units, power, tol, max_steps, stop_in_doubt=True)
    num_steps = end.num_steps
    if end.in_doubt:
        x, ratio = _at_rest(cosines, min_norm_point(cosines).weights, finest)
        if ratio <= 1.0:
            return BarrierPoint(x / norms, Status.STATIONARY, num_steps, ratio)
        max_steps -= num_steps
        end = damped_newton(cosines, end.x, units, power, tol, max_steps, stop_in_doubt=False)
        num_steps += end.num_steps
    x, ratio = _at_rest(cosines, end.x, finest)
    if ratio <= 1.0:
        return BarrierPoint(x / norms, Status.STATIONARY, num_steps, ratio)
    status = Status.of(end.worst, stationary=False)
    return BarrierPoint(end.x * (scale / norms), status, num_steps, end.worst)


def _at_rest(cosines: Array, x: Array, finest: float) -> tuple[Array, float]:
    """The x rescaled to the sum T, and xᵀGx over what counts as zero: at most 1 if stationary."""
    x = x * (x.size / float(x.sum()))
    return x, max(float(x @ cosines @ x), 0.0) / (finest * x.size) ** 2
