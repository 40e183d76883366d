"""Runs solvers on a landscape from several starts at once: the steps of a `Balancer`, in NumPy."""

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
    """Return the points [num_steps/every + 1, B, 2] visited by B runs, each with its own solver.

    Solvers get the losses minus the landscape's floor, which does not change the gradients.

    Args:
        landscape: the losses.
        solvers: B solvers with new states.
        starts: B starting points.
        optimizer: makes an optimizer for the parameters; it must be elementwise, as SGD and Adam.
        num_steps: number of optimizer steps.
        every: number of steps between two returned points.
        epoch: number of steps between two calls of `end_epoch`, for the solvers that need it.
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
