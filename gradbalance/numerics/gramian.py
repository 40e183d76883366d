"""Check and normalise Gramians."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg.lapack import dpotrf  # type: ignore[import-untyped]

from gradbalance.numerics.array import Array
from gradbalance.numerics.certificate import UNIT


def as_gramian(gram: ArrayLike, *, half_precision: bool | None = None) -> Array:
    """Check a Gramian and return it as a symmetric float64 array.

        G = J Jᵀ:   G_ij = G_ji,   xᵀGx ≥ 0 for all x

    Rounding errors are allowed generously, because G may have been summed in float32 or in a
    narrower dtype. Relative to √(G_ii G_jj), an asymmetry of up to 1e-3 is averaged out, and
    eigenvalues down to −1e-3 are left unchanged. A row whose diagonal entry has underflowed to zero
    becomes a zero row.

    Args:
        gram: The matrix G [T, T] of inner products, T ≥ 1, of any real dtype.
        half_precision: Whether its entries were stored in two bytes. The tolerance is then sixteen
            times as large, and larger still for T > 16. The default depends on the dtype.

    Returns:
        A new array [T, T].

    Raises:
        ValueError: If G is not a square matrix of finite real numbers, not symmetric, or not
            positive semi-definite. The message says why.

    Example:
        >>> from gradbalance.numerics import as_gramian
        >>> as_gramian([[1, 1], [1, 4]])
        array([[1., 1.],
               [1., 4.]])
        >>> as_gramian([[1, 3], [3, 4]])
        Traceback (most recent call last):
        ...
        ValueError: gram is not a Gramian: |gram[0, 1]| = 3 exceeds √(gram[0, 0]·gram[1, 1]) = 2.
        Pass J @ J.T, with one row of J for each task.
    """
    given = np.asarray(gram)
    if given.ndim != 2 or given.shape[0] != given.shape[1] or given.size == 0:
        raise ValueError(
            f"gram must be a square matrix with a row for each of at least one task, got shape "
            f"{given.shape}. {_REMEDY}"
        )
    if given.dtype.kind not in "fiu":
        raise ValueError(f"gram must hold real numbers, got dtype {given.dtype}.")
    matrix = given.astype(np.float64)
    if not np.isfinite(matrix).all():
        entries = ", ".join(f"[{i}, {j}]" for i, j in np.argwhere(~np.isfinite(matrix))[:5])
        raise ValueError(
            f"gram must be finite, found infinity or NaN at {entries}: look for an overflow or a "
            f"division by zero in the losses of these tasks."
        )
    if half_precision is None:
        half_precision = given.dtype.itemsize <= 2
    # Random rounding of T² entries moves an eigenvalue by about √T units.
    slack = 4e-3 * max(4.0, len(given) ** 0.5) if half_precision else 1e-3
    diagonal = matrix.diagonal()
    largest = float(diagonal.max())
    if (matrix != matrix.T).any():
        matrix = _symmetrised(matrix, slack)
        diagonal = matrix.diagonal()
    # The diagonal entries of rows shorter than ε times the longest row may have underflowed.
    damped = matrix.copy()
    damped.flat[:: diagonal.size + 1] += slack * np.abs(diagonal) + 1e-31 * largest
    if largest == 0.0 and not matrix.any():
        return matrix
    _, info = dpotrf(damped.T, lower=1, clean=0, overwrite_a=1)
    if info != 0:
        raise ValueError(f"gram is not a Gramian: {_defect(matrix, slack)}. {_REMEDY}")
    return _without_lost_rows(matrix)


def gramian_of_rows(products: Array) -> Array:
    """Like `as_gramian`, but without checks, for a product J Jᵀ that was summed in float64.

    Args:
        products: J Jᵀ [T, T], finite.

    Returns:
        A new array [T, T].

    Example:
        >>> import numpy as np
        >>> from gradbalance.numerics import gramian_of_rows
        >>> jac = np.array([[1.0, 1.0], [0.0, 2.0]])
        >>> gramian_of_rows(jac @ jac.T)
        array([[2., 2.],
               [2., 4.]])
    """
    matrix: Array = 0.5 * (products + products.T)
    return _without_lost_rows(matrix)


def _without_lost_rows(matrix: Array) -> Array:
    """Set rows and columns to zero whose diagonal entry has underflowed, in place."""
    squares = matrix.diagonal().tolist()
    limit = 1e-290 * max(squares)
    if min(squares) <= limit:
        lost = matrix.diagonal() <= limit
        matrix[lost] = 0.0
        matrix[:, lost] = 0.0
    return matrix


class UnitRows(NamedTuple):
    """The rows of a Gramian, normalised to length 1.

    Attributes:
        scale: a power of two that scales G to order 1, without changing any digit.
        norms: [T] the norms of the scaled rows; 0 for a zero row.
        divisors: [T] the same norms, with 1 in place of 0.
        cosines: [T, T] the cosines of the rows; 0 for zero rows.
    """

    scale: float
    norms: Array
    divisors: Array
    cosines: Array


def unit_rows(gram: Array) -> UnitRows:
    """Normalise the rows of a Gramian to length 1, without overflow.

    Args:
        gram: G [T, T].

    Example:
        >>> import numpy as np
        >>> from gradbalance.numerics.gramian import unit_rows
        >>> unit_rows(np.diag([4.0, 0.0])).norms
        array([0.70710678, 0.        ])
    """
    diagonal = gram.diagonal()
    exponent = math.frexp(diagonal[diagonal.argmax()])[1]
    scale = math.ldexp(1.0, min(-exponent, 1000))
    norms = np.sqrt(diagonal * scale)
    divisors = norms.copy()
    divisors[norms == 0.0] = 1.0
    return UnitRows(scale, norms, divisors, gram * scale / divisors / divisors[:, None])


def rounding_of(cosines: Array) -> float:
    """The damping for the diagonal of a matrix of cosines that makes up for its rounding errors.

    It is at least T·ε, the change of an eigenvalue by rounding the entries to float64. If that does
    not suffice, G is less precise than float64, and the damping is larger. Half of the damping
    makes the matrix positive definite, so that with all of it no block of the matrix fails later.

    Args:
        cosines: G_ij/√(G_ii G_jj) [T, T]; a zero row may have zeros.

    Example:
        >>> import numpy as np
        >>> f"{rounding_of(np.eye(2)):.1e}"
        '4.4e-16'
    """
    damping = len(cosines) * UNIT
    while True:
        damped = cosines.copy()
        damped.flat[:: len(cosines) + 1] += 0.5 * damping
        if dpotrf(damped.T, lower=1, clean=0, overwrite_a=1)[1] == 0:
            return damping
        damping *= 4.0


_REMEDY = "Pass J @ J.T, with one row of J for each task."


def _symmetrised(matrix: Array, slack: float) -> Array:
    norms = np.sqrt(np.abs(matrix.diagonal()))
    norms = np.maximum(norms, 1e-15 * norms.max())
    excess = np.abs(matrix - matrix.T) - slack * np.outer(norms, norms)
    i, j = sorted(int(k) for k in np.unravel_index(excess.argmax(), excess.shape))
    if excess[i, j] > 0.0:
        raise ValueError(
            f"gram is not symmetric: gram[{i}, {j}] = {matrix[i, j]:.6g}, but "
            f"gram[{j}, {i}] = {matrix[j, i]:.6g}. {_REMEDY}"
        )
    return 0.5 * (matrix + matrix.T)


def _defect(matrix: Array, slack: float) -> str:
    """The simplest reason why a matrix is not positive semi-definite."""
    diagonal = matrix.diagonal()
    lowest = int(diagonal.argmin())
    if diagonal[lowest] < 0.0:
        return f"gram[{lowest}, {lowest}] = {diagonal[lowest]:.6g} is negative"
    bounds = np.sqrt(np.outer(diagonal, diagonal))
    excess = np.abs(matrix) - (1.0 + slack) * bounds
    i, j = sorted(int(k) for k in np.unravel_index(excess.argmax(), excess.shape))
    if excess[i, j] > 0.0:
        return (
            f"|gram[{i}, {j}]| = {abs(matrix[i, j]):.6g} exceeds "
            f"√(gram[{i}, {i}]·gram[{j}, {j}]) = {bounds[i, j]:.6g}"
        )
    norms = np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
    smallest = np.linalg.eigvalsh(matrix / np.outer(norms, norms))[0]
    return f"its matrix of cosines has the negative eigenvalue {smallest:.6g}"
