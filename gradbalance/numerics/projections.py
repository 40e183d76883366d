"""The vector in the span of rows with given projections onto the rows."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gradbalance.numerics.array import Array
from gradbalance.numerics.spectrum import spectrum
from gradbalance.numerics.status import Status


class GivenProjections(NamedTuple):
    """Weights of the vector with given projections, or with their least-squares approximation.

    Attributes:
        weights: The weights w [T]; zero for zero rows.
        projections: The actual projections ⟨g_i, Jᵀw⟩/‖g_i‖ [T]; zero for zero rows.
        status: `CONVERGED` if the projections are the given ones; `ILL_POSED` if no vector has
            these, and the least-squares approximation was used; `STATIONARY` if the approximation
            is zero, as with opposed rows.

    Example:
        >>> from gradbalance.numerics import as_gramian, given_projections
        >>> given_projections(as_gramian([[1.0, -1.0], [-1.0, 1.0]]), [1.0, 1.0]).status
        <Status.STATIONARY: 'stationary'>
    """

    weights: Array
    projections: Array
    status: Status


def given_projections(
    gram: Array, targets: ArrayLike, *, rank_tol: float = 1e-12
) -> GivenProjections:
    """Find the shortest vector in the span of the rows with given projections onto the rows.

        ⟨g_i, Jᵀw⟩/‖g_i‖ = p_i,   that is  C y = p,  y = C⁺p,  w_i = y_i/‖g_i‖

    with C the matrix of cosines, which does not depend on the norms of the rows. Duplicated rows
    share their weight; zero rows are left out.

    Args:
        gram: The Gramian G [T, T], as returned by `as_gramian`; it is not checked again.
        targets: The projections p [T], positive.
        rank_tol: Eigenvalues of C below rank_tol times the largest one count as zero. The
            projections count as attained up to a deviation of √rank_tol, which is how far a row
            may move without being noticed.

    Returns:
        The weights, with their projections and status.

    Raises:
        ValueError: If rank_tol is out of its range.

    Example:
        >>> from gradbalance.numerics import as_gramian, given_projections
        >>> given_projections(as_gramian([[4.0, 0.0], [0.0, 1.0]]), [1.0, 1.0]).weights
        array([0.5, 1. ])
    """
    norms = np.sqrt(np.maximum(gram.diagonal(), 0.0))
    rows = np.flatnonzero(norms)
    weights, projections = np.zeros(norms.size), np.zeros(norms.size)
    if rows.size == 0:
        return GivenProjections(weights, projections, Status.STATIONARY)
    norms, wanted = norms[rows], np.asarray(targets, dtype=np.float64)[rows]
    values, vectors = spectrum(gram[np.ix_(rows, rows)] / norms / norms[:, None], rank_tol=rank_tol)
    components = vectors.T @ wanted
    found = vectors @ components
    tolerance = math.sqrt(rank_tol) * float(wanted.max())
    if np.abs(found).max() <= tolerance:
        return GivenProjections(weights, projections, Status.STATIONARY)
    weights[rows] = vectors @ (components / values) / norms
    projections[rows] = found
    met = np.abs(found - wanted).max() <= tolerance
    return GivenProjections(weights, projections, Status.CONVERGED if met else Status.ILL_POSED)
