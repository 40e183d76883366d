"""An exact active-set method for the minimum-norm point of a convex hull."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv  # type: ignore[import-untyped]

from gradbalance.numerics.array import Array
from gradbalance.numerics.certificate import UNIT, Certificate, certify

# With T times this as damping, the diagonal of a Gramian dominates its other entries.
_ENOUGH = 100.0


def active_set(
    gram: Array, norms: Array, tol: float, max_steps: int
) -> tuple[Array, Certificate, int]:
    """Solve min wᵀGw over the simplex by a sequence of problems on the affine hull of a support.

    Wolfe's method on the Gramian: the row with the largest gain joins the support, the point moves
    towards the minimiser over the affine hull of the support, and a row whose weight reaches zero
    on the way leaves the support. The norm decreases at every step, so no support occurs twice, and
    the method ends after finitely many steps: about as many as the support has rows. It starts from
    the support that exchanging many rows at once finds, which is usually the right one.

    Args:
        gram: The Gramian G [T, T], its largest entry of order 1 and its diagonal positive.
        norms: The norms √G_ii [T].
        tol: The relative gap of the certificate.
        max_steps: The largest number of affine problems to solve.

    Returns:
        The last weights [T], their certificate and the number of steps.

    References:
        Wolfe, Finding the nearest point in a polytope, Mathematical Programming 11, 1976. Here
        the corral may be affinely dependent: the affine problem is damped instead of rejected.
    """
    system = damped(gram)
    weights, certificate, num_steps = _exchange(gram, system, norms, tol, max_steps)
    member = weights > 0.0
    while certificate.worst > 1.0 and num_steps < max_steps:
        lacking = ~member & (certificate.ratios > 1.0)
        if lacking.any():  # else the worst gap is that of a member, caused by rounding
            member[np.where(lacking, certificate.gaps / norms, -np.inf).argmax()] = True
        while num_steps < max_steps:
            num_steps += 1
            support = member.nonzero()[0]
            inner, products = weights[support], gram.dot(weights)[support]
            direction, longest = _newton_direction(_block(system, support), products)
            limits = np.where(direction < 0.0, -inner / np.minimum(direction, -1e-300), np.inf)
            leaving = int(limits.argmin())
            length = min(longest, float(limits[leaving]))
            inner = np.maximum(inner + length * direction, 0.0)
            if length < longest:
                inner[leaving] = 0.0
                member[support[leaving]] = False
            weights = np.zeros(norms.size)
            weights[support] = inner / inner.sum()
            if length == longest:
                break
        certificate = certify(gram, norms, weights, tol)
    return weights, certificate, num_steps


def _exchange(
    gram: Array, system: Array, norms: Array, tol: float, max_steps: int
) -> tuple[Array, Certificate, int]:
    """A faster variant, as long as the norm decreases: all rows with a gain join at once.

    All rows with a negative weight leave at once, too. It starts with the rows that are useful in
    addition to the shortest one, those with ⟨g_i, g_shortest⟩ < ‖g_shortest‖².
    """
    num_tasks, shortest = norms.size, norms.argmin()
    member = gram[shortest] < gram[shortest, shortest]
    member[shortest] = True
    ones = np.ones(num_tasks)
    best: tuple[Array, Certificate] | None = None
    num_steps = 0
    while num_steps < max_steps:
        num_steps += 1
        support = member.nonzero()[0]
        right_side = ones[: support.size]
        inner = damped_solve(_block(system, support), right_side)[0]
        if inner[inner.argmin()] < 0.0:
            member[support] = inner >= 0.0
            continue
        weights = np.zeros(num_tasks)
        weights[support] = inner / inner.dot(right_side)
        certificate = certify(gram, norms, weights, tol)
        if certificate.worst <= 1.0:
            return weights, certificate, num_steps
        if best is not None and certificate.val >= best[1].val:
            break
        best = weights, certificate
        member |= certificate.ratios > 1.0
    if best is None:
        weights = np.zeros(num_tasks)
        weights[shortest] = 1.0
        best = weights, certify(gram, norms, weights, tol)
    return *best, num_steps


def _newton_direction(system: Array, products: Array) -> tuple[Array, float]:
    """The step δ from w (given Gw) to the minimiser over Σw = 1, and the best multiple of it."""
    right_sides = np.ones((2, products.size))
    right_sides[0] = products
    (newton, constant), is_convex = damped_solve(system, right_sides)
    direction = constant * (newton.sum() / constant.sum()) - newton
    slope = float(direction.dot(products))
    if is_convex or slope >= 0.0:
        return direction, 1.0
    curvature = float(direction @ system @ direction)  # that of G, since Σδ = 0
    return direction, max(1.0, -slope / curvature) if curvature > 0.0 else np.inf


def _block(system: Array, support: NDArray[np.intp]) -> Array:
    return system.take(support, 0).take(support, 1)


def damped(gram: Array) -> Array:
    """Make G positive definite without moving any minimiser.

    A constant added to all entries of G makes no difference between weights of equal sum, and makes
    the matrix regular if the rows are linearly, but not affinely, dependent. If they are affinely
    dependent too, there may be no minimiser; damping at the level of rounding then gives a long
    step downhill.
    """
    diagonal = gram.diagonal()
    system: Array = gram + diagonal[diagonal.argmin()]
    system.flat[:: diagonal.size + 1] += diagonal.size * UNIT * diagonal
    return system


def damped_solve(system: Array, right_sides: Array) -> tuple[Array, bool]:
    """Solve for right-hand sides [K, T] with `damped(G)`, or with a block of it.

    If G is not positive definite, because of rounding or because it is less precise than float64,
    more damping is used, and False is returned.

    Raises:
        LinAlgError: no damping helps, because the diagonal is not positive.
    """
    matrix, damping = system, len(system) * UNIT
    while True:
        _, solutions, info = dposv(matrix.T, right_sides.T)
        if info == 0:
            return np.asarray(solutions.T), matrix is system
        if damping > _ENOUGH * len(system):
            raise np.linalg.LinAlgError(f"not a Gramian with a positive diagonal: {system}")
        damping *= 100.0
        matrix = system.copy()
        matrix.flat[:: len(system) + 1] += damping * system.diagonal()
