"""Runs of a solver over a landscape, all starts at once: what `Balancer` does, on numbers."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch.optim import Optimizer

from benchmarks.landscapes import Array, Landscape, Points
from gradbalance import AfterStep, EndEpoch, Problem, Solver, listeners


def descend(
    landscape: Landscape,
    solvers: Sequence[Solver],
    starts: Points,
    optimizer: Callable[[Iterable[torch.Tensor]], Optimizer],
    *,
    num_steps: int,
    every: int = 1,
    epoch: int = 100,
) -> Array:
    """The points [num_steps/every + 1, B, 2] that B runs visit, each with a solver of its own.

    Solvers see the losses above the landscape's floor, which changes no gradient.

    Args:
        landscape: the losses.
        solvers: B of them, with fresh states.
        starts: B points.
        optimizer: from the parameters; it must treat every element for itself, as SGD and Adam do.
        num_steps: of the optimizer.
        every: how many steps lie between the points that are returned.
        epoch: how many steps lie between calls of `end_epoch`, for the solvers that want it.
    """
    x = torch.tensor(starts, dtype=torch.float64)
    visited = [x.numpy().copy()]
    stepper = optimizer([x])
    floor = np.array(landscape.floor)
    tasks = tuple(str(i) for i in range(floor.size))
    losses, rows = landscape.evaluate(x.numpy())
    for step in range(1, num_steps + 1):
        grams = rows @ rows.transpose(0, 2, 1)
        direction = np.empty_like(visited[0])
        for i, solver in enumerate(solvers):
            problem = Problem(tasks, losses[i] - floor, grams[i], tasks)
            solution = solver.solve(problem)
            direction[i] = solution.weights @ rows[i]
            solver.update(problem, solution)
        x.grad = torch.from_numpy(direction)
        stepper.step()
        losses, rows = landscape.evaluate(x.numpy())
        for i, solver in enumerate(solvers):
            for told in listeners(solver, AfterStep):
                told.after_step(dict(zip(tasks, (losses[i] - floor).tolist(), strict=True)))
            if step % epoch == 0:
                for ended in listeners(solver, EndEpoch):
                    ended.end_epoch()
        if step % every == 0:
            visited.append(x.numpy().copy())
    return np.array(visited)
