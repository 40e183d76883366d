"""How the vector of largest least product in a ball is found: supports, and the scale μ."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradbalance.numerics.active_set import active_set, damped_solve
from gradbalance.numerics.array import Array
from gradbalance.numerics.certificate import UNIT

_MAX_EXCHANGES = 8  # more than are needed where it works
_MAX_SCALES = 60  # a dozen were seen


class Point(NamedTuple):
    """Weights on the simplex and the scale μ, with what they are worth."""

    weights: Array
    scale: float
    worst: float  # certified up to 1, see `MaxMinVector`
    stationary: bool


class Ball(NamedTuple):
    """The ball ‖d − Jᵀp‖ ≤ radius, of rows none of which is zero."""

    gram: Array
    norms: Array
    center: Array  # p
    products: Array  # b = Gp
    square: float  # ‖Jᵀp‖²
    radius: float  # c‖Jᵀp‖, zero where ‖Jᵀp‖ is zero to rounding
    tol: float

    @classmethod
    def around(cls, center: Array, gram: Array, radius: float, tol: float) -> "Ball":
        """The ball around Jᵀp whose radius is a multiple of ‖Jᵀp‖."""
        norms = np.sqrt(gram.diagonal())
        products = gram @ center
        square = float(center @ products)
        if square <= norms.size * UNIT * float(center @ norms) ** 2:
            square = 0.0
        return cls(gram, norms, center, products, square, radius * math.sqrt(square), tol)

    def certify(self, weights: Array, scale: float) -> Point:
        """Compare w and μ with the optimality conditions."""
        rounding = 2 * self.norms.size * UNIT
        total = self.center + weights / scale
        products = self.gram @ total
        least = float(weights @ products)
        mean = float(weights @ self.norms)
        allowed = self.tol * abs(least) + rounding * float(total @ self.norms) * np.maximum(
            self.norms, mean
        )
        gap = float(((least - products) / allowed).max())
        found, wanted = float(weights @ self.gram @ weights), (scale * self.radius) ** 2
        slack = self.tol * wanted + rounding * mean**2
        misfit = abs(found - wanted) / slack
        rests = found <= 0.5 * rounding * mean**2
        if found <= wanted + slack:  # inside the ball: there the least product must be zero
            rest = abs(least) / (rounding * float(total @ self.norms) * mean)
            rests, misfit = rests or rest <= 1.0, min(misfit, rest)
        return Point(weights, scale, max(gap, misfit), rests)

    def on_support(self, support: NDArray[np.intp]) -> tuple[Array, float]:
        """The solution on the affine hull of a support: weights [t] of sum 1 and μ.

        There w = w₀ + μw₁ and ‖Jᵀw‖² = ‖Jᵀw₀‖² + μ²‖Jᵀw₁‖². Where that is nowhere c‖g₀‖μ, the
        direction w₁ of growing μ is returned, with μ = ∞.
        """
        gram = self.gram
        if support.size < self.norms.size:
            gram = gram[support[:, None], support]
        right_sides = np.stack([np.ones(support.size), self.products[support]])
        (constant, linear), _ = damped_solve(gram, right_sides, self.norms.size)
        start = constant / constant.sum()
        slope = start * linear.sum() - linear
        excess = self.radius**2 - float(slope @ gram @ slope)
        if excess <= 0.0:
            return slope, math.inf
        scale = math.sqrt(max(float(start @ gram @ start), 0.0) / excess)
        return start + scale * slope, scale


def exchange(ball: Ball) -> tuple[Point, int]:
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
            rounding = norms.size * UNIT * (float(np.abs(weights) @ norms) + scale * ball.radius)
            lacking = (least - slopes > ball.tol * abs(least) + rounding * norms) & (weights == 0.0)
            if inner.min() >= 0.0 and not lacking.any():
                return ball.certify(weights / weights.sum(), scale), num_steps
            support = np.flatnonzero((weights > 0.0) | lacking)
        else:
            support = np.flatnonzero(weights > 0.0)
    return Point(weights, last, math.inf, False), num_steps


def bracket(ball: Ball, scale: float) -> tuple[Point, int]:
    """Find μ by bracketing: ‖Jᵀw(μ)‖ exceeds c‖g₀‖μ below the solution and nowhere above it.

    w(μ) is the min-norm point of the rows g_i + μg₀. The next μ is the solution on its support,
    which is exact once the support is right, or else the geometric middle. Where the solution
    rests inside the ball, any small μ will do.
    """
    norms = ball.norms
    # Below, the rounding of ‖Jᵀw‖² would hide the ball from even the shortest row.
    low = 0.5 * math.sqrt(norms.size * UNIT) * float(norms.min()) / ball.radius
    high = 2.0 * float(norms.max()) / ball.radius
    best = Point(norms, scale, math.inf, False)
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
