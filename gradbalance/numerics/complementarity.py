"""Linear complementarity problems with a positive definite matrix, for many offsets at once."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv  # type: ignore[import-untyped]

from gradbalance.numerics.array import Array

_MAX_EXCHANGES = 10  # more than are needed if exchanging works at all
_FEW = 16  # up to this many entries, a full system costs less than selecting its free part


def complementary(matrix: Array, offsets: Array, sizes: Array, unit: float) -> tuple[Array, int]:
    """Solve K problems for x, with x ≥ 0, y = Mx + q ≥ 0 and x_i y_i = 0.

    These are the optimality conditions of min ½xᵀMx + qᵀx over x ≥ 0. An entry is free if it is not
    held at 0. The free entries are guessed for all K problems at once; then all entries that
    violate a condition are exchanged until there are none. This may cycle. If it does not end soon,
    a descent method that changes one entry at a time finishes it; its objective decreases, so no
    set of free entries occurs twice.

    Args:
        matrix: M [T, T], symmetric and positive definite, its diagonal of order 1.
        offsets: q [K, T].
        sizes: [K] the size of the terms that q is a sum of, if it is one.
        unit: the rounding error allowed below 0 in y, relative to sizes + Σ|x|.

    Returns:
        The solutions x [K, T], and the number of linear systems that were solved.

    References:
        Júdice and Pires, A block principal pivoting algorithm for large-scale strictly monotone
        linear complementarity problems, 1994; Lawson and Hanson, Solving least squares problems,
        1974, chapter 23.
    """
    points = np.zeros(offsets.shape)
    if offsets.item(offsets.argmin()) >= 0.0:
        return points, 0
    free = _likely_free(matrix, offsets)
    open_: NDArray[np.intp] = np.arange(len(offsets))
    ones = np.ones(len(matrix))  # a `dot` with it takes a third of the time of `sum(axis=1)`
    num_steps = 0
    for _ in range(_MAX_EXCHANGES):
        shifts, is_free = offsets[open_], free[open_]
        points[open_] = inner = _minimisers(matrix, shifts, is_free)
        num_steps += open_.size
        allowed = unit * (sizes[open_] + np.abs(inner).dot(ones))
        slopes = inner.dot(matrix) + shifts
        wrong = np.where(is_free, inner < 0.0, slopes < -allowed[:, None])
        free[open_] = is_free ^ wrong
        open_ = open_[wrong.any(axis=1)]
        if not open_.size:
            return points, num_steps
    for k in open_:
        start = np.maximum(points[k], 0.0)
        points[k], steps = _descend(matrix, offsets[k], start, float(sizes[k]), unit)
        num_steps += steps
    return points, num_steps


def _likely_free(matrix: Array, offsets: Array) -> NDArray[np.bool_]:
    """Guess the free entries with a few steps of accelerated projected gradient descent.

    With few entries or few problems, exchanging is cheaper than a good guess.
    """
    num_steps = min(offsets.shape) // 4
    if num_steps < 2:
        return np.asarray(offsets < 0.0)
    square = matrix @ matrix
    curvature = float(np.linalg.norm(square @ square)) ** 0.25  # at least the largest eigenvalue
    step = matrix / -curvature
    step.flat[:: len(matrix) + 1] += 1.0
    shift = offsets / -curvature
    ahead = point = np.zeros_like(offsets)
    for k in range(num_steps):
        last, point = point, np.maximum(ahead @ step + shift, 0.0)
        ahead = point + (k / (k + 3)) * (point - last)
    return np.asarray(point > 0.0)


def _minimisers(matrix: Array, offsets: Array, free: NDArray[np.bool_]) -> Array:
    """The same as `_minimiser`, for many problems at once.

    With few entries, the overhead of calls dominates, so all problems are solved in one call, with
    equations x_i = 0 for the held entries.
    """
    if len(matrix) > _FEW or len(offsets) < 3:
        return np.array([_minimiser(matrix, *one) for one in zip(offsets, free, strict=True)])
    systems = np.where(free[:, :, None] & free[:, None, :], matrix, np.eye(len(matrix)))
    return np.linalg.solve(systems, np.where(free, -offsets, 0.0)[:, :, None])[:, :, 0]


def _minimiser(matrix: Array, offset: Array, free: NDArray[np.bool_]) -> Array:
    """The x that minimises ½xᵀMx + qᵀx, with all entries at 0 except the free ones."""
    point = np.zeros(offset.size)
    chosen = free.nonzero()[0]
    if chosen.size:
        block = matrix.take(chosen, 0).take(chosen, 1)
        point[chosen] = -dposv(block.T, offset[chosen], overwrite_a=1)[1]
    return point


def _descend(
    matrix: Array, offset: Array, point: Array, size: float, unit: float
) -> tuple[Array, int]:
    """Descend from a point x ≥ 0 to the minimiser over the free entries, freeing one at a time.

    An entry that reaches 0 on the way is held there, and the descent continues. The step is
    computed, not the end point: the rounding error of the latter could exceed the step, so that an
    entry that was just freed would seem to end below 0, be held again, and so on.
    """
    free = point > 0.0
    slopes = matrix.dot(point) + offset
    num_steps = 0
    while num_steps < 20 * offset.size + 50:  # 2·T were enough; a certificate would tell
        num_steps += 1
        way = _minimiser(matrix, slopes, free)
        target = point + way
        if target.min() < 0.0:
            lengths = np.full(point.size, np.inf)
            np.divide(point, -way, out=lengths, where=target < 0.0)
            leaving = int(lengths.argmin())
            point = np.maximum(point + lengths[leaving] * way, 0.0)
            point[leaving] = 0.0
            free[leaving] = False
            slopes = matrix.dot(point) + offset
            continue
        point = target
        slopes = matrix.dot(point) + offset
        allowed = unit * (size + point.sum())
        if np.abs(slopes * free).max() > allowed:
            continue  # rounding errors remain from a distant start
        held = np.where(free, 0.0, slopes)
        entering = int(held.argmin())
        if held[entering] >= -allowed:
            break
        free[entering] = True
    return point, num_steps
