"""A projection as papers write it, among the parameters, by a general solver."""

import cvxpy as cp
import numpy as np


def nearest_direction(target, rows, least):
    """The d nearest to a target [P] with ⟨g_i, d⟩ ≥ b_i for rows g [M, P] and bounds b [M]."""
    norms = np.linalg.norm(rows, axis=1)
    scale = np.linalg.norm(target) + np.abs(least / norms).max()
    direction = cp.Variable(target.size)
    problem = cp.Problem(
        cp.Minimize(cp.sum_squares(direction - target / scale)),
        [(rows / norms[:, None]) @ direction >= least / norms / scale],
    )
    problem.solve(cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    return direction.value * scale
