"""Damped Newton steps, of a length in closed form, for a quadratic form with a barrier at zero."""

import math
from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dposv  # type: ignore[import-untyped]

from gradbalance.numerics.array import Array
from gradbalance.numerics.certificate import UNIT

_DOUBT = 1e-8  # the least that rounding may be, relative to a row's target, to be felt
_LEAST = 1e-250  # of a variable, for its powers and quotients to stay within float64


class Descent(NamedTuple):
    """Where the steps ended; solved where `worst` is at most 1."""

    x: Array
    worst: float
    num_steps: int
    in_doubt: bool  # whether rounding leaves it open if there is a solution


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

    The steps go downhill without a line search: with the relative changes z_i ≥ −ζ of a step, the
    curvature along it is at most (1 − tζ)^(−1−power) times that at its start, so that the length
    t = (1 − (1 + power·ζ)^(−1/power))/ζ neither leaves x > 0 nor passes the minimum. It goes to 1
    at the solution, where Newton's method converges quadratically. For power 1 it is 1/(1 + ζ).

    Args:
        gram: The matrix G [T, T] with the diagonal 1.
        x: Where to start [T], positive.
        units: The factors r [T], the solution where G is the unit matrix.
        power: The exponent.
        tol: A row holds if |(Gx)_i − u_i| ≤ tol·u_i + T·ε·Σx.
        max_steps: The steps to take at most.
        stop_in_doubt: Whether to stop once the rounding T·ε·Σx exceeds 1e-8 of a target, as it does
            where no solution exists and x goes to infinity. Once xᵀGx ≤ 0, which proves that
            there is none, they stop anyway.

    Returns:
        The last x, its worst row as a ratio to what is allowed, and the number of steps.

    References:
        Nesterov and Nemirovskii, Interior-Point Polynomial Algorithms in Convex Programming, 1994,
        for power 1, with the Newton decrement in the place of ζ.
    """
    num_steps = 0
    ones = np.ones_like(x)
    while True:
        products = gram @ x
        targets = units * (x / units) ** -power
        spread = float(x @ ones)
        rounding = x.size * UNIT * spread
        value = float(x @ products)
        # The best common factor in closed form, unless it is mostly noise or makes no difference.
        multiple = 1.0
        if value > 1e3 * rounding * spread:
            multiple = (float(x @ targets) / value) ** (1.0 / (1.0 + power))
        if abs(multiple - 1.0) > 1e-2:
            x, products = multiple * x, multiple * products
            targets, rounding = multiple**-power * targets, multiple * rounding
        in_doubt = value <= 0.0 or rounding > _DOUBT * _smallest(targets)
        residuals = products - targets
        if _smallest(x) <= _LEAST:
            residuals[(x <= _LEAST) & (residuals > 0.0)] = 0.0  # they would go on to underflow
        ratios = np.abs(residuals) / (tol * targets + rounding)
        worst = float(ratios[ratios.argmax()])
        if value <= 0.0 or (stop_in_doubt and in_doubt) or worst <= 1.0 or num_steps == max_steps:
            return Descent(x, worst, num_steps, in_doubt)
        num_steps += 1
        if in_doubt:  # to correct rounding in one row would unsettle the others
            residuals[np.abs(residuals) <= 0.5 * rounding] = 0.0
        direction = _newton_direction(gram, power * targets / x, residuals)
        x = _moved(x, direction, power)


def _smallest(values: Array) -> float:
    return float(values[values.argmin()])  # a few times faster than min()


def _newton_direction(gram: Array, curvatures: Array, residuals: Array) -> Array:
    """Solve (G + diag(curvatures)) δ = −residuals.

    Where rounding has left nothing of a curvature, damping at its level keeps the step downhill.
    More is needed where G is not convex, because it came with less than float64's accuracy.
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
    """Go as far along the direction as is sure to be downhill."""
    changes = direction / x
    shrinkage = -_smallest(changes)
    if shrinkage <= 0.0:
        return np.asarray(x + direction)
    log_least = -math.log1p(power * shrinkage) / power
    length = -math.expm1(log_least) / shrinkage
    # 1 + length·changes is at least this; cancellation would lose it where it is tiny.
    factors = np.maximum(1.0 + length * changes, math.exp(log_least))
    return np.asarray(np.maximum(x * factors, _LEAST))
