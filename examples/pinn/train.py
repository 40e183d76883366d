"""One run: Adam with balanced steps, then L-BFGS with the average of their weights, kept fixed."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

import numpy as np
import torch

import gradbalance as gb
from examples.common.divergence import diverged
from examples.pinn.config import RunConfig
from examples.pinn.network import Network
from examples.pinn.optimizers import Array, LossesNow, adam, lbfgs
from examples.pinn.problems import PROBLEMS

LOOK_EVERY = 100  # steps of Adam between two records
_DIVERGED = 1e6  # a relative error; runs that fail without diverging end at 1 to 30
_NUM_AVERAGED = 200  # last steps of Adam; L-BFGS uses the average of their weights


@dataclass(frozen=True)
class Record:
    """The state of a run after some steps.

    Attributes:
        step: Number of steps of Adam, plus the iterations of L-BFGS.
        losses: The losses by name, at the fixed points of L-BFGS.
        weights: The weights by name: the average over the steps of Adam since the last record (1 at
            first), or the fixed weights of L-BFGS.
        cosine: The smallest cosine between the gradients of two losses, at the same points.
        error: Relative L2 error on a grid.
    """

    step: int
    losses: dict[str, float]
    weights: dict[str, float]
    cosine: float
    error: float


@dataclass
class Run:
    """The outcome of a run.

    Attributes:
        config: The configuration of the run.
        network: The trained network.
        error: Relative L2 error at the end.
        error_adam: Relative L2 error before L-BFGS.
        seconds: CPU time of the training, without the time for the records.
        records: The records during the run.
    """

    config: RunConfig
    network: Network
    error: float = float("nan")
    error_adam: float = float("nan")
    seconds: float = 0.0
    records: list[Record] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the part to save, as JSON-compatible values."""
        last = asdict(self.records[-1])
        return {
            "config": self.config.as_dict(),
            "error": self.error if isfinite(self.error) else None,
            "error_adam": self.error_adam if isfinite(self.error_adam) else None,
            "losses": last["losses"],
            "weights": last["weights"],
            "seconds": round(self.seconds, 1),
        }


def train(config: RunConfig, show: Callable[[Record], None] = lambda record: None) -> Run:
    """Train a network and return the outcome.

    Args:
        config: The configuration of the run.
        show: Called with each record.

    Raises:
        ValueError: The training diverges; the message names the run, the step and what to lower.
    """
    generator = torch.Generator().manual_seed(config.seed)
    problem, dtype = PROBLEMS[config.problem](), config.torch_dtype
    network = Network(
        problem.box,
        problem.num_outputs,
        width=config.width,
        depth=config.depth,
        dtype=dtype,
        generator=generator,
    )

    def losses_at_new_points(num: int) -> LossesNow:
        drawn = problem.draw_points(num, generator)
        points = {name: where.to(dtype) for name, where in drawn.items()}
        return lambda: problem.losses(network, points)

    balancing = config.method.build(problem, network)
    observer = gb.Balancer(gb.Uniform(), gb.SharedParameters(network))
    losses_at_fixed_points = losses_at_new_points(config.num_fixed_points)
    run = Run(config, network)

    def look(step: int, weights: Array) -> None:
        started = time.process_time()
        losses = losses_at_fixed_points()
        record = Record(
            step,
            {name: loss.item() for name, loss in losses.items()},
            dict(zip(losses, weights.tolist(), strict=True)),
            _smallest_cosine(observer.measure(losses)),
            problem.error(network),
        )
        run.records.append(record)
        show(record)
        run.seconds -= time.process_time() - started

    started = time.process_time()
    batches = (losses_at_new_points(config.num_points) for _ in range(config.adam_steps))
    recent: deque[Array] = deque(maxlen=_NUM_AVERAGED)
    look(0, np.ones(len(problem.equations + problem.conditions)))
    for step, weights in adam(config, network, balancing, batches):
        recent.append(weights)
        if step % LOOK_EVERY == 0 or step == config.adam_steps:
            look(step, np.mean(list(recent)[-LOOK_EVERY:], axis=0))
            if not run.records[-1].error < _DIVERGED:  # also true for NaN
                found = f"its relative error is {run.records[-1].error:.3g}"
                raise diverged(config.title, f"by step {step}", found, {"--lr": config.lr})
    run.error_adam = run.records[-1].error
    held = np.mean(recent, axis=0)
    for step in lbfgs(config, network, held, losses_at_fixed_points):
        look(config.adam_steps + step, held)
    run.error = run.records[-1].error
    run.seconds += time.process_time() - started
    return run


def _smallest_cosine(report: gb.Report) -> float:
    assert report.cosines is not None
    return float(report.cosines.min())
