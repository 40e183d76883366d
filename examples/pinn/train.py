"""One run: Adam with balanced steps, then L-BFGS with their average weights held."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from math import inf, isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import gradbalance as gb
from examples.pinn.config import RunConfig
from examples.pinn.methods import Balancing
from examples.pinn.network import Network
from examples.pinn.problems import PROBLEMS

Array = NDArray[np.float64]
LossesNow = Callable[[], dict[str, Tensor]]

LOOK_EVERY = 100  # steps of Adam between two records
_NUM_AT_ONCE = 50  # iterations of L-BFGS between two records
_STALLED = 1e-3  # a loss that falls by less, relatively, between two records
_NUM_AVERAGED = 200  # steps of Adam, whose weights L-BFGS holds on average
_EPOCH = 100  # steps, for methods that know epochs


@dataclass(frozen=True)
class Record:
    """How a run stands after some steps.

    Attributes:
        step: Steps of Adam, and iterations of L-BFGS counted on from there.
        losses: By name, at the fixed points of L-BFGS.
        weights: By name; the average over the steps of Adam since the last record (1 at first), or
            those that L-BFGS holds.
        cosine: The smallest between the gradients of two losses, at these points.
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
            "error": self.error if isfinite(self.error) else None,
            "error_adam": self.error_adam if isfinite(self.error_adam) else None,
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
    for step, weights in _adam(config, network, balancing, batches):
        recent.append(weights)
        if step % LOOK_EVERY == 0 or step == config.adam_steps:
            look(step, np.mean(list(recent)[-LOOK_EVERY:], axis=0))
    run.error_adam = run.records[-1].error
    held = np.mean(recent, axis=0)
    for step in _lbfgs(config, network, held, losses_at_fixed_points):
        look(config.adam_steps + step, held)
    run.error = run.records[-1].error
    run.seconds += time.process_time() - started
    return run


def _adam(
    config: RunConfig, network: Network, balancing: Balancing, batches: Iterable[LossesNow]
) -> Iterator[tuple[int, Array]]:
    """Take a step on each batch; yield the number of steps taken, and the weights of the last."""
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.adam_steps)
    for step, losses in enumerate(batches, 1):
        optimizer.zero_grad()
        report = balancing.backward(losses())
        optimizer.step()
        schedule.step()
        if isinstance(balancing, gb.Balancer):
            if balancing.wants_after_step:
                balancing.after_step(losses())
            if step % _EPOCH == 0:
                balancing.end_epoch()
        yield step, report.weights


def _lbfgs(config: RunConfig, network: Network, held: Array, losses: LossesNow) -> Iterator[int]:
    """Yield the number of iterations so far, some at a time; the weights are held.

    L-BFGS learns the curvature of one function, so the weights must stay as they are. Those of a
    single step are noise: where the last batch has no conflict, UPGrad's are those of the plain
    sum. Their average is not; `balancer.hold()` would hold the former.

    After a line search that failed, torch's L-BFGS takes the same direction for ever; so it begins
    anew where the loss has stopped to fall.
    """
    balancer = gb.Balancer(gb.Uniform(preferences=held.tolist()))
    optimizer = _new_lbfgs(network)

    def closure() -> Tensor:
        network.zero_grad()
        loss: Tensor = balancer(losses())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    before = inf
    for done in range(0, config.lbfgs_steps, _NUM_AT_ONCE):
        num = min(_NUM_AT_ONCE, config.lbfgs_steps - done)
        optimizer.param_groups[0].update(max_iter=num, max_eval=2 * num)
        loss = float(optimizer.step(closure))  # type: ignore[no-untyped-call]  # before these
        stalled = loss > (1 - _STALLED) * before
        if stalled:
            optimizer = _new_lbfgs(network)
        before = inf if stalled else loss
        yield done + num


def _new_lbfgs(network: Network) -> torch.optim.LBFGS:
    return torch.optim.LBFGS(
        network.parameters(),
        history_size=50,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )


def _smallest_cosine(report: gb.Report) -> float:
    assert report.cosines is not None
    return float(report.cosines.min())
