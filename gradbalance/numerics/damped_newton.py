"""Damped Newton steps, with closed-form lengths, for a quadratic form with a barrier at zero."""

import math
from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dposv  # type: ignore[import-untyped]

from gradbalance.numerics.array import Array
from gradbalance.numerics.certificate import UNIT

_DOUBT = 1e-8  # the rounding error, relative to a row's target, from which it is significant
_LEAST = 1e-250  # of a variable, so that its powers and quotients stay within float64


class Descent(NamedTuple):
    """Where the steps ended; the problem is solved if `worst` is at most 1."""

    x: Array
    worst: float
    num_steps: int
    in_doubt: bool  # whether rounding makes it uncertain that a solution exists


def damped_newton(
    gram: Array,
    x: Array,
    units: Array,
    power: float,
    tol: float,
    max_steps: int,
    *,
    stop_in_doubt: bool,
) -> Descent:
    """Solve Gx = u(x) with the targets u_i(x) = r_i (x_i/r_i)^(−power) for x > 0.

        min_x ½xᵀGx − Σ_i ∫ u_i dx_i

    The steps decrease the objective without a line search: if the relative changes of a step are
    z_i ≥ −ζ, the curvature along it is at most (1 − tζ)^(−1−power) times that at its start, so the
    length t = (1 − (1 + power·ζ)^(−1/power))/ζ neither leaves x > 0 nor passes the minimum. t tends
    to 1 at the solution, where Newton's method converges quadratically. For power 1 it is
    1/(1 + ζ).

    Args:
        gram: The matrix G [T, T], with ones on the diagonal.
        x: The starting point [T], positive.
        units: The factors r [T], which are the solution if G is the identity matrix.
        power: The exponent.
        tol: The condition of row i holds if |(Gx)_i − u_i| ≤ tol·u_i + T·ε·Σx.
        max_steps: The limit of steps.
        stop_in_doubt: Whether to stop once the rounding error T·ε·Σx exceeds 1e-8 of a target, as
            it does if no solution exists and x goes to infinity. If xᵀGx ≤ 0, which proves that
            there is no solution, the steps stop in any case.

    Returns:
        The last x, the largest ratio of a row's residual to its tolerance, and the number of steps.

    References:
        Nesterov and Nemirovskii, Interior-Point Polynomial Algorithms in Convex Programming, 1994,
        for power 1, with the Newton decrement in place of ζ.
    """
    num_steps = 0
    ones = np.ones_like(x)
    while True:
        products = gram @ x
        targets = units * (x / units) ** -power
        spread = float(x @ ones)
        rounding = x.size * UNIT * spread
        value = float(x @ products)
        # Rescale by the best common factor, unless it is mostly noise or makes no difference.
        multiple = 1.0
        if value > 1e3 * rounding * spread:
            multiple = (float(x @ targets) / value) ** (1.0 / (1.0 + power))
        if abs(multiple - 1.0) > 1e-2:
            x, products = multiple * x, multiple * products
            targets, rounding = multiple**-power * targets, multiple * rounding
        in_doubt = value <= 0.0 or rounding > _DOUBT * _smallest(targets)
        residuals = products - targets
        if _smallest(x) <= _LEAST:
            residuals[(x <= _LEAST) & (residuals > 0.0)] = 0.0  # these x would underflow
        ratios = np.abs(residuals) / (tol * targets + rounding)
        worst = float(ratios[ratios.argmax()])
        if value <= 0.0 or (stop_in_doubt and in_doubt) or worst <= 1.0 or num_steps == max_steps:
            return Descent(x, worst, num_steps, in_doubt)
        num_steps += 1
        if in_doubt:  # correcting rounding errors in one row would disturb the others
            residuals[np.abs(residuals) <= 0.5 * rounding] = 0.0
        direction = _newton_direction(gram, power * targets / x, residuals)
        x = _moved(x, direction, power)


def _smallest(values: Array) -> float:
    return float(values[values.argmin()])  # a few times faster than min()


def _newton_direction(gram: Array, curvatures: Array, residuals: Array) -> Array:
    """Solve (G + diag(curvatures)) δ = −residuals.

    If a curvature is lost in rounding, damping at the level of rounding keeps the step downhill.
    More damping is needed if G is not positive definite, because it is less precise than float64.
    """
    damping = residuals.size * UNIT
    while True:
        matrix = gram.copy()
        matrix.flat[:: residuals.size + 1] += curvatures + damping
        _, direction, info = dposv(matrix.T, -residuals, overwrite_a=1, overwrite_b=1)
        if info == 0:
            return np.asarray(direction)
        damping *= 100.0


def _moved(x: Array, direction: Array, power: float) -> Array:
    """Go as far along the direction as the objective is sure to decrease."""
    changes = direction / x
    shrinkage = -_smallest(changes)
    if shrinkage <= 0.0:
        return np.asarray(x + direction)
    log_least = -math.log1p(power * shrinkage) / power
    length = -math.expm1(log_least) / shrinkage
    # 1 + length·changes is at least this; if it is tiny, cancellation would lose it.
    factors = np.maximum(1.0 + length * changes, math.exp(log_least))
    return np.asarray(np.maximum(x * factors, _LEAST))
