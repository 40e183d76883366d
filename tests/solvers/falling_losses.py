"""Losses that fall unevenly, and the weights that a solver gives along them."""

import numpy as np

import gradbalance as gb


def run(solver, rows, names=("a", "b", "c")):
    """The weights at every step on these rows of losses."""
    weights = []
    for row in rows:
        problem = gb.Problem.of(losses=row, names=names[: len(row)])
        solution = solver.solve(problem)
        solver.update(problem, solution)
        weights.append(solution.weights)
    return np.array(weights)


def losses(num_steps=30, seed=0):
    rng = np.random.default_rng(seed)
    return np.exp(-0.1 * np.arange(num_steps))[:, None] * rng.uniform(0.2, 4.0, (num_steps, 3))
