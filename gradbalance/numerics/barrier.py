"""The point where a quadratic form and a barrier at zero balance."""

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
    """Positive weights w with Gw = p ∘ w^(−power), and what certifies them.

    Attributes:
        weights: The weights w [T], all positive where `CONVERGED`.
        status: `CONVERGED`, `STATIONARY` where no solution exists, or `STEP_LIMIT`.
        num_steps: The number of Newton steps taken.
        certificate: The worst row of |(Gw)_i − u_i| / (tol·u_i + T·ε·S·√G_ii), with u_i =
            p_i·w_i^(−power), S = Σ_j w_j √G_jj and ε the float64 unit. At most 1 where certified.
            Where `STATIONARY`, wᵀGw / (r·S)² instead, with the resolution r.

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

    A solution exists, and is unique, exactly where zero is not in the convex hull of the rows of
    J, G = J Jᵀ. Where it is, or rounding leaves it in doubt, Jᵀw is zero to rounding and the
    weights, which would be infinite, are brought to Σ_i w_i √G_ii = T; those of the min-norm point
    of the rows of length 1 if there are no others. If there are zero rows, they share the weight T.

    The variables are x_i = w_i √G_ii, for which the matrix is that of the cosines and rows of any
    length are alike; from the solution for orthogonal rows, damped Newton steps go downhill. They
    stop where rounding leaves it in doubt whether there is a solution, and the min-norm point says.

    Args:
        gram: The Gramian G [T, T], as `as_gramian` returns it: that it is one is not checked again.
        power: The exponent, positive.
        preferences: The factors p [T], positive; ones by default.
        tol: The relative residual allowed, beside rounding; see `BarrierPoint`.
        max_steps: The Newton steps to take at most; a dozen are usual, more for powers far from 1.
        finest: How exactly directions are known, where float64 knows them better; see `resolution`.

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
    # when units and x share a factor, so that the largest unit may be 1.
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
    """The x scaled to the sum T, and xᵀGx over what counts as zero: at most 1 at rest."""
    x = x * (x.size / float(x.sum()))
    return x, max(float(x @ cosines @ x), 0.0) / (finest * x.size) ** 2
