"""Measures the error of an answer from the gradients, in the same way for every package.

J [T, P] has the gradients g_i as rows, s_i = ‖g_i‖, d = Jᵀw is the direction, and S = Σ_j |w_j| s_j
is the sum of the lengths of its terms, so rounding may change d by about ε·S. Each measure is 0 for
the exact answer, does not change if all gradients are scaled, and is NaN if the method is not
defined for the gradients.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls  # type: ignore[import-untyped]

Array = NDArray[np.float64]
Measure = Callable[[Array, "Answer"], float]

UNIT = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a solver returned for the gradients J: weights or, if it has none, a direction."""

    direction: Array
    weights: Array | None
    spread: float

    @classmethod
    def of_weights(cls, jac: Array, weights: Array) -> "Answer":
        """From the weights w of the gradients."""
        return cls(weights @ jac, weights, float(np.abs(weights) @ norms_of(jac)))

    @classmethod
    def of_direction(cls, direction: Array) -> "Answer":
        """From a direction d alone; S is not known then, and ‖d‖ is used instead."""
        return cls(direction, None, float(np.linalg.norm(direction)))


def norms_of(jac: Array) -> Array:
    norms: Array = np.linalg.norm(jac, axis=1)
    return norms


def cosines(jac: Array, answer: Answer) -> Array:
    """cos(g_i, d) [T]; 0 if d is zero up to rounding, for instance if the gradients balance."""
    norms, length = norms_of(jac), float(np.linalg.norm(answer.direction))
    if length <= np.sqrt(len(jac) * UNIT) * answer.spread:
        return np.zeros(len(jac))
    found: Array = jac @ answer.direction / np.where(norms > 0, norms, 1.0) / length
    return found


def hull_gap(jac: Array, answer: Answer) -> float:
    """The largest (‖d‖² − ⟨g_i, d⟩)/(s_i S): how much more a task's loss could fall."""
    gaps = answer.direction @ answer.direction - jac @ answer.direction
    return _relative(gaps, norms_of(jac), answer)


def projected_mean(jac: Array, answer: Answer) -> float:
    """‖d − d*‖/S, where d* is the mean gradient, projected onto the dual cone (least squares)."""
    return _distance(_projected(jac, np.full(len(jac), 1 / len(jac))), answer)


def mean_of_projected(jac: Array, answer: Answer) -> float:
    """‖d − d*‖/S, where d* is the mean of the projected gradients (each by least squares)."""
    parts = [_projected(jac, row / len(jac)) for row in np.eye(len(jac))]
    return _distance(np.sum(parts, axis=0), answer)


def unequal_products(power: float) -> Measure:
    """The largest |x_i/x̄ − 1| for x_i = w_i^power ⟨g_i, d⟩, which are all equal at the optimum.

    There is no optimum if the gradients balance.
    """

    def measure(jac: Array, answer: Answer) -> float:
        assert answer.weights is not None
        if _balance(jac):
            return np.nan
        if not (answer.weights > 0).all():
            return 1.0
        products = answer.weights**power * (jac @ answer.direction)
        return float(np.abs(products / products.mean() - 1).max())

    return measure


def unequal_cosines(jac: Array, answer: Answer) -> float:
    """The largest difference of cos(g_i, d) between two tasks; NaN for dependent gradients."""
    return float(np.ptp(cosines(jac, answer))) if _independent(_units(jac)) else np.nan


def aligned_distance(jac: Array, answer: Answer) -> float:
    """‖d − d*‖/‖d*‖, d* = σ_min Σ_k v_k ⟨u_k, 1/T⟩ from J's SVD; NaN for dependent gradients."""
    if not _independent(jac):
        return np.nan
    left, values, right = np.linalg.svd(jac, full_matrices=False)
    exact = values.min() * (left.mean(axis=0) @ right)
    return float(np.linalg.norm(answer.direction - exact) / np.linalg.norm(exact))


def ball_gap(radius: float) -> Measure:
    """How far min_i ⟨g_i, d⟩ is below the best in the ball ‖d − ḡ‖ ≤ c‖ḡ‖, over the largest s_i‖ḡ‖.

    The best value is bounded by the dual problem's value at the simplex weights from which d was
    built. If the gradients balance, the formula of d is 0/0.
    """

    def measure(jac: Array, answer: Answer) -> float:
        assert answer.weights is not None
        if _balance(jac):
            return np.nan
        mean = jac.mean(axis=0)
        size = float(np.linalg.norm(mean) * norms_of(jac).max())
        inner = np.maximum(answer.weights - 1 / len(jac), 0.0)
        if size == 0.0 or inner.sum() == 0.0:
            return 0.0
        hull = inner / inner.sum() @ jac
        best = hull @ mean + radius * np.linalg.norm(mean) * np.linalg.norm(hull)
        return float(best - (jac @ answer.direction).min()) / size

    return measure


def _relative(gaps: Array, norms: Array, answer: Answer) -> float:
    usable = norms > 0
    if not usable.any() or answer.spread == 0.0:
        return 0.0
    return max(0.0, float((gaps[usable] / (norms[usable] * answer.spread)).max()))


def _units(jac: Array) -> Array:
    norms = norms_of(jac)
    units: Array = jac / np.where(norms > 0, norms, 1.0)[:, None]
    return units


def _independent(rows: Array) -> bool:
    """Whether the rows have full rank, clearly enough to be seen in their Gramian."""
    values = np.linalg.svd(rows, compute_uv=False)
    return len(rows) <= rows.shape[1] and bool(values.min() > 1e-5 * values.max())


def _balance(jac: Array) -> bool:
    """Whether 0 is in the convex hull of the gradients (for unit gradients, within 1e-6 of it)."""
    units = np.vstack([_units(jac).T, np.ones(len(jac))])
    return bool(nnls(units, np.eye(len(units))[-1])[1] < 1e-6)


def _distance(exact: Array, answer: Answer) -> float:
    difference = float(np.linalg.norm(answer.direction - exact))
    return difference / answer.spread if answer.spread > 0 else 0.0


def _projected(jac: Array, weights: Array) -> Array:
    """The point of the dual cone {d: Jd ≥ 0} nearest to Jᵀw, by non-negative least squares."""
    units = _units(jac)
    start = weights @ jac
    size = float(np.linalg.norm(start))
    if size == 0.0:
        return start
    added, _ = nnls(units.T, -start / size)
    nearest: Array = start + size * (added @ units)
    return nearest
