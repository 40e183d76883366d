"""The vector in a ball that maximises the smallest inner product with a row."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradbalance.numerics.active_set import active_set
from gradbalance.numerics.array import Array
from gradbalance.numerics.ball import Ball, BallPoint
from gradbalance.numerics.certificate import UNIT
from gradbalance.numerics.checks import check_number
from gradbalance.numerics.status import Status

_MAX_EXCHANGES = 8  # more than are needed if exchanging works at all
_MAX_SCALES = 60  # about a dozen were needed in practice


class MaxMinVector(NamedTuple):
    """Weights of the vector that maximises the smallest product with a row, and their certificate.

    Attributes:
        weights: The weights p + w/μ [T] of the rows.
        status: Whether the certificate holds; `STATIONARY` if the rows can be combined to zero, up
            to rounding, so that no vector has a positive product with all rows.
        num_steps: The number of supports and values of μ that were tried.
        certificate: The largest (t − ⟨g_i, d⟩)/(tol·|t| + 2T·ε·D·max(√G_ii, S)) of any row, or
            |‖Jᵀw‖² − (cμ‖g₀‖)²|/(tol·(cμ‖g₀‖)² + 2T·ε·S²) if that is larger, with
            t = Σ_j w_j⟨g_j, d⟩, D = Σ_j (p_j + w_j/μ)√G_jj, S = Σ_j w_j√G_jj and ε the float64 unit
            roundoff. If d lies inside the ball, |t|/(2T·ε·D·S) replaces the latter. Certified if at
            most 1. If G is less precise than float64, the damping that makes it positive definite
            replaces T·ε, and is added to G.

    Example:
        >>> from gradbalance.numerics import as_gramian, max_min_vector
        >>> gram = as_gramian([[4.0, 0.0], [0.0, 1.0]])
        >>> max_min_vector(gram, [0.5, 0.5], radius=0.5).certificate <= 1.0
        True
    """

    weights: Array
    status: Status
    num_steps: int
    certificate: float


def max_min_vector(
    gram: Array, center: ArrayLike, *, radius: float, tol: float = 1e-10
) -> MaxMinVector:
    """Find the vector in a ball that maximises the smallest inner product with a row.

        max_d min_i ⟨g_i, d⟩   over ‖d − g₀‖ ≤ c‖g₀‖,   with g₀ = Jᵀp, G = J Jᵀ

    By duality d = g₀ + Jᵀw/μ, where w ≥ 0, Σw = 1 is the minimiser of bᵀw + c‖g₀‖√(wᵀGw), b = Gp,
    and μ = ‖Jᵀw‖/(c‖g₀‖). For a given μ, w are the weights of the minimum-norm point of the rows
    g_i + μg₀; if ‖Jᵀw‖ then fits μ, w is the solution.

    If zero lies in the convex hull of the rows, and the ball contains vectors d without a negative
    product, all of these are solutions. The one closest to g₀ is returned, which is the limit for
    smaller balls. Zero rows are left out: if they were included, the largest possible minimum would
    be zero, and the d for the other rows attains it.

    The vector lies in the ball even if it is not certified.

    Args:
        gram: The Gramian G [T, T] of the rows of J [T, P], as returned by `as_gramian`; it is not
            checked again.
        center: The weights p [T] of the centre of the ball, not negative.
        radius: The radius c of the ball, relative to ‖g₀‖.
        tol: The relative gap of the certificate, see `MaxMinVector`.

    Returns:
        The weights, with status and certificate.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> from gradbalance.numerics import as_gramian, max_min_vector
        >>> max_min_vector(as_gramian([[1.0, 0.0], [0.0, 1.0]]), [0.5, 0.5], radius=1.0).weights
        array([1., 1.])
    """
    check_number("radius", radius, "[0, inf)")
    check_number("tol", tol, "[0, 1)")
    weights = np.array(center, dtype=np.float64)
    diagonal = gram.diagonal()
    largest = float(diagonal.max())
    if largest == 0.0:
        return MaxMinVector(weights, Status.STATIONARY, 0, 0.0)
    gram = np.ldexp(gram, -int(np.frexp(largest)[1]))  # changes no digit of the weights
    rows = slice(None) if diagonal.min() > 0.0 else np.flatnonzero(diagonal)
    ball = Ball.around(weights[rows], gram[rows][:, rows], radius, tol)
    if ball.radius == 0.0:
        status = Status.CONVERGED if radius == 0.0 else Status.STATIONARY
        return MaxMinVector(weights, status, 0, 0.0)
    point, num_steps = _exchange(ball)
    if point.worst > 1.0 or point.stationary:
        point, more = _bracket(ball, point.scale)
        num_steps += more
    if point.worst > 1.0:
        point = ball.reached(point)
    weights[rows] += point.weights / point.scale
    status = Status.of(point.worst, stationary=point.stationary)
    return MaxMinVector(weights, status, num_steps, point.worst)


def _exchange(ball: Ball) -> tuple[BallPoint, int]:
    """Guess the solution: exchange all rows that violate a condition at once.

    This is fast if it works, but it may cycle; then the last scale is returned, uncertified.
    """
    norms = ball.norms
    support: NDArray[np.intp] = np.arange(norms.size)
    last, num_steps = 1.0, 0
    while num_steps < _MAX_EXCHANGES and support.size > 0:
        num_steps += 1
        inner, scale = ball.on_support(support)
        weights = np.zeros_like(norms)
        weights[support] = inner
        if 0.0 < scale < math.inf:
            last = scale
            slopes = ball.gram @ weights + scale * ball.products
            least = float(weights @ slopes)
            rounding = ball.rounding * (float(np.abs(weights) @ norms) + scale * ball.radius)
            lacking = (least - slopes > ball.tol * abs(least) + rounding * norms) & (weights == 0.0)
            if inner.min() >= 0.0 and not lacking.any():
                return ball.certify(weights / weights.sum(), scale), num_steps
            support = np.flatnonzero((weights > 0.0) | lacking)
        else:
            support = np.flatnonzero(weights > 0.0)
    return BallPoint(weights, last, math.inf, False), num_steps


def _bracket(ball: Ball, scale: float) -> tuple[BallPoint, int]:
    """Find μ by bracketing: ‖Jᵀw(μ)‖ exceeds c‖g₀‖μ below the solution, and nowhere above it.

    w(μ) is the minimum-norm point of the rows g_i + μg₀. The next μ is the solution on the support
    of w(μ), which is exact once the support is right, or else the geometric mean of the bracket. If
    the solution lies inside the ball, any small μ is a solution.
    """
    norms = ball.norms
    # For a smaller μ, rounding errors of ‖Jᵀw‖² would hide the ball even for the shortest row.
    low = 0.5 * math.sqrt(ball.rounding) * float(norms.min()) / ball.radius
    high = 2.0 * float(norms.max()) / ball.radius
    best = BallPoint(norms, scale, math.inf, False)
    num_steps = 0
    while num_steps < _MAX_SCALES:
        num_steps += 1
        weights = _nearest(ball, scale)
        point = ball.certify(weights, scale)
        above = float(weights @ ball.gram @ weights) <= (ball.radius * scale) ** 2
        guess = math.inf
        if point.worst <= 1.0:
            best = point
            low = scale  # if stationary, look for about the largest such scale, to keep w/μ small
        elif best.worst > 1.0:
            best = min(best, point, key=lambda one: one.worst)
            low, high = (low, scale) if above else (scale, high)
            _, guess = ball.on_support(np.flatnonzero(weights))
        else:
            high = scale
        if best.worst <= 1.0 and (not best.stationary or high <= 4.0 * low):
            break
        scale = guess if low < guess < high else math.sqrt(low * high)
    return best, num_steps


def _nearest(ball: Ball, scale: float) -> Array:
    """The weights of the minimum-norm point of the rows g_i + μg₀."""
    gram = ball.gram + scale * (ball.products[:, None] + ball.products) + scale**2 * ball.square
    # Rounding must not make the squared norm of a (nearly) zero row negative.
    rounding = UNIT * (ball.norms + scale * math.sqrt(ball.square)) ** 2
    gram.flat[:: rounding.size + 1] = np.maximum(gram.diagonal(), 0.0) + rounding
    max_steps = 20 * rounding.size + 50
    return active_set(gram, np.sqrt(gram.diagonal()), 0.01 * ball.tol, max_steps)[0]
