"""A differential equation with several losses: its residual inside, and its conditions.

The problem, network and points are those of `examples.pinn`, but training uses Adam alone. So the
problem must be one on which weights make a difference with Adam alone. Helmholtz's equation needs
L-BFGS after Adam, and the example has its table. There is one metric, the relative error of the
solution. No loss can be learned without the others, so methods are compared with the plain sum. The
learning rate is chosen by the error on a different grid from the one that is reported.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.tasks.suite import Metric, Split, Suite
from examples.pinn.config import RunConfig
from examples.pinn.network import Network
from examples.pinn.problems import PROBLEMS

GRID = {"validation": 64, "test": 101}  # points along each axis


class Pinn(Suite):
    """The suite of one problem, given by its name in `examples.pinn`."""

    num_steps = 1500
    alone = False

    def __init__(self, problem: str) -> None:
        self._problem = PROBLEMS[problem]()
        self.tasks = (*self._problem.equations, *self._problem.conditions)
        self.metrics = {"error": Metric("%", higher_is_better=False)}

    def build(self, tasks: Sequence[str]) -> nn.Module:
        return Network(
            self._problem.box,
            self._problem.num_outputs,
            width=RunConfig.width,
            depth=RunConfig.depth,
            dtype=torch.float32,
            generator=torch.default_generator,
        )

    def batches(self, seed: int) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            points = self._problem.draw_points(RunConfig.num_points, generator)
            yield {name: where.float() for name, where in points.items()}

    def losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor | None]:
        assert isinstance(model, Network)
        return {**self._problem.losses(model, batch)}

    def measure(self, model: nn.Module, split: Split) -> dict[str, float]:
        assert isinstance(model, Network)
        return {"error": 100 * self._problem.error(model, GRID[split])}
