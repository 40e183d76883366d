"""Several ranks take the step of one process with the whole batch, under DDP and by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import gradbalance as gb
from tests.distributed.processes import run

TASKS = ("task0", "task1", "task2")
SOURCES: dict[str, Callable[["Model"], gb.Source]] = {
    "losses": lambda model: gb.LossesOnly(),
    "found": lambda model: gb.SharedParameters(),
    "named": lambda model: gb.SharedParameters(model.trunk),
    "together": lambda model: gb.SharedParameters(model.trunk, chunk_size=2),
    "measured": lambda model: gb.SharedParameters(model.trunk, measure=model.trunk[-1]),
    "sketched": lambda model: gb.SharedParameters(model.trunk, sketch=31),
    "groups": lambda model: gb.SharedParameters({"a": model.trunk[0], "b": model.trunk[2]}),
    "representation": lambda model: gb.Representation(model.trunk),
}
SOLVERS: dict[str, Callable[[], gb.Solver]] = {
    "MGDA": gb.MGDA,
    "PCGrad": gb.PCGrad,
    "GradNorm": gb.GradNorm,
    "loss+": lambda: gb.MGDA(normalization="loss+"),
    "RLW": gb.RLW,
    "FAMO": gb.FAMO,
}


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5)).double()
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in TASKS).double()

    def forward(self, x: Tensor) -> list[Tensor]:
        z = self.trunk(x)
        return [head(z) for head in self.heads]


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    return x, torch.randn(len(TASKS), 8, 1, generator=generator, dtype=torch.float64)


def losses_of(model: nn.Module, rows: slice) -> dict[str, Tensor]:
    x, y = batch()
    outputs = model(x[rows])
    pairs = zip(TASKS, outputs, y[:, rows], strict=True)
    return {name: (output - target).square().mean() for name, output, target in pairs}


def share() -> slice:
    length = 8 // dist.get_world_size()
    return slice(dist.get_rank() * length, (dist.get_rank() + 1) * length)


def average(model: nn.Module) -> None:
    """What a plain loop does without DDP."""
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()


def values_of(report: gb.Report) -> list[Any]:
    parts = report.groups.values() if report.groups else [report]
    grams = [] if report.gram is None else [report.gram]
    return [report.losses, *grams, *(part.weights for part in parts)]


def train(source: str, solver: str, ddp: bool, num_steps: int = 3) -> list[Any]:
    """The reports' values and the model's parameters after some steps, on any number of ranks."""
    model = Model()
    whole = not dist.is_initialized()
    heads = "raw" if source == "groups" else None
    balancer = gb.Balancer(SOLVERS[solver](), SOURCES[source](model), heads=heads)
    trained: nn.Module = DistributedDataParallel(model) if ddp else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rows = slice(0, 8) if whole else share()
    found: list[Any] = []
    for _ in range(num_steps):
        optimizer.zero_grad()
        found += values_of(balancer.backward(losses_of(trained, rows)))
        if not whole and not ddp:
            average(model)
        optimizer.step()
        with torch.no_grad():
            balancer.after_step(losses_of(model, rows))
    return [*found, *(p.detach().numpy() for p in model.parameters())]


def train_all(cases: list[tuple[str, str, bool]]) -> list[list[Any]]:
    return [train(*case) for case in cases]


CASES = [
    (source, solver, ddp)
    for source in SOURCES
    for solver in SOLVERS
    for ddp in (True, False)
    if source != "losses" or SOLVERS[solver]().needs == "losses"
]


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.long)])
def test_the_ranks_take_the_step_of_one_process(size: int) -> None:
    results = run(size, train_all, CASES)
    for index, (source, solver, ddp) in enumerate(CASES):
        expected = train(source, solver, ddp=False)
        for rank, found in enumerate(results):
            for value, right in zip(found[index], expected, strict=True):
                np.testing.assert_allclose(
                    value, right, rtol=1e-9, atol=1e-12, err_msg=f"{source} {solver} {ddp} {rank}"
                )
            for value, first in zip(found[index], results[0][index], strict=True):
                assert np.array_equal(value, first), f"rank {rank} is not rank 0"
