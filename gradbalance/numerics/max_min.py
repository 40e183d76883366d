"""The vector in a ball around a combination of rows whose least product with a row is largest."""

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

_MAX_EXCHANGES = 8  # more than are needed where it works
_MAX_SCALES = 60  # a dozen were seen


class MaxMinVector(NamedTuple):
    """Weights of the vector whose least product with a row is largest, with what certifies them.

    Attributes:
        weights: The weights p + w/μ [T] of the rows.
        status: Whether the certificate holds; `STATIONARY` where the rows balance to zero, as far
            as rounding lets one tell, so that no vector has a positive product with all rows.
        num_steps: The number of supports and values of μ that were tried.
        certificate: The worst of (t − ⟨g_i, d⟩)/(tol·|t| + 2T·ε·D·max(√G_ii, S)) over the rows
            and |‖Jᵀw‖² − (cμ‖g₀‖)²|/(tol·(cμ‖g₀‖)² + 2T·ε·S²), with t = Σ_j w_j⟨g_j, d⟩,
            D = Σ_j (p_j + w_j/μ)√G_jj, S = Σ_j w_j√G_jj and ε the float64 unit. Where d lies
            inside the ball, |t|/(2T·ε·D·S) stands for the latter. At most 1 where certified.
            Where G has less than float64's accuracy, as much as makes it positive definite takes
            the place of T·ε, and is added to it.

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
    """Find the vector that is best for the row that it is worst for.

        max_d min_i ⟨g_i, d⟩   over ‖d − g₀‖ ≤ c‖g₀‖,   with g₀ = Jᵀp, G = J Jᵀ

    By duality d = g₀ + Jᵀw/μ, where w ≥ 0, Σw = 1 is the minimiser of bᵀw + c‖g₀‖√(wᵀGw), b = Gp,
    and μ = ‖Jᵀw‖/(c‖g₀‖). For a given μ, w is that of the point of least norm among the rows
    g_i + μg₀; where such a w is found, so that ‖Jᵀw‖ fits μ, it is the solution.

    Where zero lies in the convex hull of the rows and in the ball there are d without a negative
    product, all of those are solutions. The one nearest to g₀ is taken, which is the limit of
    smaller balls. Zero rows are left out: where they count, the largest least product is zero, and
    the d for the others attains it.

    What is not certified lies in the ball, too.

    Args:
        gram: The Gramian G [T, T] of the rows of J [T, P], as `as_gramian` returns it:
            that it is one is not checked again.
        center: The weights p [T] of the ball's centre, not negative.
        radius: The radius c of the ball, relative to ‖g₀‖.
        tol: The relative gap of the certificate, see `MaxMinVector`.

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
    gram = np.ldexp(gram, -int(np.frexp(largest)[1]))  # changes no bit of the weights
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
    """Guess the solution: exchange all rows that are on the wrong side at once.

    Fast where it works, but it may cycle: then the last scale is returned with what it is worth.
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
    """Find μ by bracketing: ‖Jᵀw(μ)‖ exceeds c‖g₀‖μ below the solution and nowhere above it.

    w(μ) is the min-norm point of the rows g_i + μg₀. The next μ is the solution on its support,
    which is exact once the support is right, or else the geometric middle. Where the solution
    rests inside the ball, any small μ will do.
    """
    norms = ball.norms
    # Below, the rounding of ‖Jᵀw‖² would hide the ball from even the shortest row.
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
            low = scale  # of the scales at which it rests, about the largest, for w/μ's sake
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
    """The weights of the min-norm point of the rows g_i + μg₀."""
    gram = ball.gram + scale * (ball.products[:, None] + ball.products) + scale**2 * ball.square
    # Rounding must not leave a row that is (nearly) zero with a negative square.
    rounding = UNIT * (ball.norms + scale * math.sqrt(ball.square)) ** 2
    gram.flat[:: rounding.size + 1] = np.maximum(gram.diagonal(), 0.0) + rounding
    max_steps = 20 * rounding.size + 50
    return active_set(gram, np.sqrt(gram.diagonal()), 0.01 * ball.tol, max_steps)[0]
