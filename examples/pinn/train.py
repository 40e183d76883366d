"""One run: Adam with balanced steps, then L-BFGS with the weights held."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import gradbalance as gb
from examples.pinn.config import RunConfig
from examples.pinn.methods import Balancing
from examples.pinn.network import Network
from examples.pinn.problems import PROBLEMS

LOOK_EVERY = 50  # steps between two records
_EPOCH = 100  # steps, for methods that know epochs


@dataclass(frozen=True)
class Record:
    """How a run stands after some steps.

    Attributes:
        step: Steps of Adam, or evaluations of L-BFGS counted on from there.
        losses: By name.
        weights: Those that act, by name.
        cosine: The smallest cosine between the gradients of two losses; NaN in L-BFGS.
        error: Relative L2 error on a grid.
    """

    step: int
    losses: dict[str, float]
    weights: dict[str, float]
    cosine: float
    error: float


@dataclass
class Run:
    """What came of a run.

    Attributes:
        config: The run.
        network: As trained.
        error: Relative L2 error at the end.
        error_adam: The same before L-BFGS.
        seconds: Time that the processor spent on it, without the looks at how it stands.
        records: On the way.
    """

    config: RunConfig
    network: Network
    error: float = float("nan")
    error_adam: float = float("nan")
    seconds: float = 0.0
    records: list[Record] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return what is kept of it, as JSON has it."""
        last = asdict(self.records[-1])
        return {
            "config": self.config.as_dict(),
            "error": self.error,
            "error_adam": self.error_adam,
            "losses": last["losses"],
            "weights": last["weights"],
            "seconds": round(self.seconds, 1),
        }


def train(config: RunConfig, show: Callable[[Record], None] = lambda record: None) -> Run:
    """Train a network and return what came of it.

    Args:
        config: The run.
        show: Called with each record.
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
    points = problem.draw_points(config.num_points, generator)
    points = {name: drawn.to(dtype) for name, drawn in points.items()}
    balancing = config.method.build(problem, network)
    observer = gb.Balancer(gb.Uniform(), gb.SharedParameters(network))
    run = Run(config, network)

    def losses() -> dict[str, Tensor]:
        return problem.losses(network, points)

    def look(step: int, report: gb.Report, *, in_adam: bool) -> None:
        started = time.process_time()
        now = losses()
        cosine = _smallest_cosine(observer, now) if in_adam else float("nan")
        record = Record(
            step,
            {name: loss.item() for name, loss in now.items()},
            dict(zip(report.names, report.weights.tolist(), strict=True)),
            cosine,
            problem.error(network),
        )
        run.records.append(record)
        show(record)
        run.seconds -= time.process_time() - started

    started = time.process_time()
    for step, report in _adam(config, network, balancing, losses):
        if step % LOOK_EVERY == 0 or step == config.adam_steps:
            look(step, report, in_adam=True)
    run.error_adam = run.records[-1].error
    if config.lbfgs_steps:
        for evaluation in _lbfgs(config, network, balancing, losses):
            look(config.adam_steps + evaluation, report, in_adam=False)
    run.error = run.records[-1].error
    run.seconds += time.process_time() - started
    return run


def _adam(
    config: RunConfig,
    network: Network,
    balancing: Balancing,
    losses: Callable[[], dict[str, Tensor]],
) -> Iterator[tuple[int, gb.Report]]:
    """Yield the number of steps taken, and the report of the last."""
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.adam_steps)
    for step in range(1, config.adam_steps + 1):
        optimizer.zero_grad()
        report = balancing.backward(losses())
        optimizer.step()
        schedule.step()
        if isinstance(balancing, gb.Balancer):
            if balancing.wants_after_step:
                balancing.after_step(losses())
            if step % _EPOCH == 0:
                balancing.end_epoch()
        yield step, report


def _lbfgs(
    config: RunConfig,
    network: Network,
    balancing: Balancing,
    losses: Callable[[], dict[str, Tensor]],
) -> Iterator[int]:
    """Yield the number of evaluations so far, a part of the iterations at a time."""
    optimizer = torch.optim.LBFGS(
        network.parameters(),
        max_iter=LOOK_EVERY,
        max_eval=2 * LOOK_EVERY,
        history_size=50,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    evaluations = 0

    def closure() -> Tensor:
        nonlocal evaluations
        evaluations += 1
        optimizer.zero_grad()
        loss = balancing(losses())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(-(-config.lbfgs_steps // LOOK_EVERY)):
        with balancing.hold():
            optimizer.step(closure)
        yield evaluations


def _smallest_cosine(observer: gb.Balancer, losses: dict[str, Tensor]) -> float:
    cosines = observer.measure(losses).cosines
    assert cosines is not None
    return float(np.nanmin(cosines))
