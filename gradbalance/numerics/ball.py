"""A ball around a combination of rows, and its optimal point for the row with the least product."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradbalance.numerics.active_set import damped, damped_solve
from gradbalance.numerics.array import Array
from gradbalance.numerics.certificate import UNIT
from gradbalance.numerics.gramian import rounding_of


class BallPoint(NamedTuple):
    """Weights on the simplex and the scale μ, with their certificate."""

    weights: Array
    scale: float
    worst: float  # certified up to 1, see `max_min.MaxMinVector`
    stationary: bool


class Ball(NamedTuple):
    """The ball ‖d − Jᵀp‖ ≤ radius, for nonzero rows."""

    gram: Array
    norms: Array
    center: Array  # p
    products: Array  # b = Gp
    square: float  # ‖Jᵀp‖²
    radius: float  # c‖Jᵀp‖; zero if ‖Jᵀp‖ is zero up to rounding
    tol: float
    rounding: float  # of products, relative to the norms: T·ε or more

    @classmethod
    def around(cls, center: Array, gram: Array, radius: float, tol: float) -> "Ball":
        """The ball around Jᵀp whose radius is a multiple of ‖Jᵀp‖.

        A Gramian of low precision is damped; otherwise rows with large weights would seem to
        cancel, and their weights would be unbounded. The radius is that of the undamped Gramian.
        """
        norms = np.sqrt(gram.diagonal())
        rounding = rounding_of(gram / norms / norms[:, None])
        square = float(center @ gram @ center)
        if square <= rounding * float(center @ norms) ** 2:
            square = 0.0
        length = radius * math.sqrt(square)
        if rounding > norms.size * UNIT:
            gram = gram + np.diag(rounding * gram.diagonal())
        products = gram @ center
        square = float(center @ products)
        return cls(gram, norms, center, products, square, length, tol, rounding)

    def certify(self, weights: Array, scale: float) -> BallPoint:
        """Compare w and μ with the optimality conditions."""
        rounding = 2 * self.rounding
        total = self.center + weights / scale
        products = self.gram @ total
        least = float(weights @ products)
        mean = float(weights @ self.norms)
        allowed = self.tol * abs(least) + rounding * float(total @ self.norms) * np.maximum(
            self.norms, mean
        )
        gap = float(((least - products) / allowed).max())
        found, wanted = float(weights @ self.gram @ weights), (scale * self.radius) ** 2
        slack = self.tol * wanted + 2 * self.norms.size * UNIT * mean**2
        misfit = abs(found - wanted) / slack
        rests = found <= 0.5 * rounding * mean**2
        if found <= wanted + slack:  # inside the ball, the smallest product must be zero
            rest = abs(least) / (rounding * float(total @ self.norms) * mean)
            rests, misfit = rests or rest <= 1.0, min(misfit, rest)
        return BallPoint(weights, scale, max(gap, misfit), rests)

    def reached(self, point: BallPoint) -> BallPoint:
        """The point with μ increased, if needed, so that ‖Jᵀw/μ‖ does not exceed the radius."""
        square = max(float(point.weights @ self.gram @ point.weights), 0.0)
        return point._replace(scale=max(point.scale, math.sqrt(square) / self.radius))

    def on_support(self, support: NDArray[np.intp]) -> tuple[Array, float]:
        """The solution on the affine hull of a support: weights [t] of sum 1 and μ.

        There w = w₀ + μw₁ and ‖Jᵀw‖² = ‖Jᵀw₀‖² + μ²‖Jᵀw₁‖². If ‖Jᵀw‖ equals c‖g₀‖μ for no μ, the
        direction w₁ for growing μ is returned, with μ = ∞.
        """
        gram = self.gram
        if support.size < self.norms.size:
            gram = gram[support[:, None], support]
        right_sides = np.ones((2, support.size))
        right_sides[1] = self.products[support]
        (constant, linear), _ = damped_solve(damped(gram), right_sides)
        start = constant / constant.sum()
        slope = start * linear.sum() - linear
        excess = self.radius**2 - float(slope @ gram @ slope)
        if excess <= 0.0:
            return slope, math.inf
        scale = math.sqrt(max(float(start @ gram @ start), 0.0) / excess)
        return start + scale * slope, scale
