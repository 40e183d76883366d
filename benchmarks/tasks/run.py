"""One run: trains a suite's model with one solver, one learning rate and one seed."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

import gradbalance as gb
from benchmarks.results import rounded
from benchmarks.tasks.suite import Suite
from benchmarks.tasks.suites import suite_of
from examples.common.solvers import build_solver

NUM_EPOCHS = 10  # parts of a run that count as epochs, for solvers such as DWA
NUM_PLAIN = 20  # plain steps that are timed for comparison with the run's steps
SCALES = ("none", "sum", "norm")

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that determines a result, and so identifies it.

    Attributes:
        suite: name of the suite.
        solver: the solver as text, see `examples.common.solvers`.
        tasks: the tasks that are trained: all tasks of the suite, or a single one.
        rate: learning rate at the start; it falls to zero with a cosine schedule.
        seed: seed of weights and batches.
        num_steps: number of training steps.
        scale: scale of the Balancer: "none", "sum" or "norm".
    """

    suite: str
    solver: str
    tasks: tuple[str, ...]
    rate: float
    seed: int
    num_steps: int
    scale: str


def perform(run: Run, data: Path | None = None) -> Record:
    """Train and measure; an exception is saved in the record, so that the other runs continue.

    Args:
        run: the run to do.
        data: the images, see `suite_of`.
    """
    try:
        outcome = rounded(_perform(run, suite_of(run.suite, data)))
    except Exception as error:  # a solver from another package may raise any exception
        outcome = {"error": f"{type(error).__name__}: {error}"}
    return {**asdict(run), **outcome}


def balancer_of(solver: gb.Solver, scale: str, tasks: tuple[str, ...]) -> gb.Balancer:
    """A Balancer with the source that the solver needs: all shared parameters, or losses only."""
    needed = gb.SharedParameters() if scale == "norm" else None  # the norm needs a Gramian
    chosen = None if scale == "none" else scale
    return gb.Balancer(solver, needed, scale=chosen, tasks=tasks)  # type: ignore[arg-type]


def _perform(run: Run, suite: Suite) -> Record:
    torch.manual_seed(run.seed)
    model = suite.build(run.tasks)
    balancer = balancer_of(build_solver(run.solver), run.scale, run.tasks)
    optimizer = torch.optim.Adam(model.parameters(), lr=run.rate)
    schedule = CosineAnnealingLR(optimizer, run.num_steps)
    batches = suite.batches(run.seed)
    epoch_ends = {round(run.num_steps * e / NUM_EPOCHS) for e in range(1, NUM_EPOCHS + 1)}
    start = time.process_time()
    for step in range(1, run.num_steps + 1):
        batch = next(batches)
        optimizer.zero_grad()
        balancer(_present(suite.losses(model, batch))).backward()
        optimizer.step()
        schedule.step()
        if balancer.wants_after_step:
            with torch.no_grad():
                balancer.after_step(_present(suite.losses(model, batch)))
        if step in epoch_ends:
            balancer.end_epoch()
    seconds = (time.process_time() - start) / run.num_steps
    return {
        "validation": _finite(suite.measure(model, "validation")),
        "test": _finite(suite.measure(model, "test")),
        "ms": 1e3 * seconds,
        "over_plain": seconds / _plain_seconds(suite, model, optimizer, schedule, batches),
    }


def _present(losses: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    return {task: loss for task, loss in losses.items() if loss is not None}


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise ValueError(f"the run diverged: {name} is {value}")
    return dict(metrics)


def _plain_seconds(
    suite: Suite,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: CosineAnnealingLR,
    batches: Iterator[Any],
) -> float:
    """CPU seconds of a plain step, with `sum(losses).backward()`, measured in the same process."""
    start = time.process_time()
    for _ in range(NUM_PLAIN):
        losses = _present(suite.losses(model, next(batches)))
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return (time.process_time() - start) / NUM_PLAIN
