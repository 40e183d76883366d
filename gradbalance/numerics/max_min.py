"""The vector in a ball around a combination of rows whose least product with a row is largest."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gradbalance.numerics.array import Array
from gradbalance.numerics.ball import Ball, bracket, exchange
from gradbalance.numerics.status import Status


@dataclass(frozen=True)
class MaxMinVector:
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

    Args:
        gram: The Gramian G [T, T] of the rows of J [T, P], as `as_gramian` returns it:
            that it is one is not checked again.
        center: The weights p [T] of the ball's centre, not negative.
        radius: The radius c of the ball, relative to ‖g₀‖.
        tol: The relative gap of the certificate, see `MaxMinVector`.

    Raises:
        ValueError: If radius is negative or not finite.

    Example:
        >>> from gradbalance.numerics import as_gramian, max_min_vector
        >>> max_min_vector(as_gramian([[1.0, 0.0], [0.0, 1.0]]), [0.5, 0.5], radius=1.0).weights
        array([1., 1.])
    """
    if not 0.0 <= radius < math.inf:
        raise ValueError(f"radius must be a number of at least 0, got {radius}.")
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
    point, num_steps = exchange(ball)
    if point.worst > 1.0 or point.stationary:
        point, more = bracket(ball, point.scale)
        num_steps += more
    weights[rows] += point.weights / point.scale
    status = Status.STATIONARY if point.stationary else Status.CONVERGED
    if point.worst > 1.0:
        status = Status.STEP_LIMIT
    return MaxMinVector(weights, status, num_steps, point.worst)
