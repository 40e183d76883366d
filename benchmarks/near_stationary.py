"""Real steps of a `Balancer` on gradients that are designed to be near a stationary point."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

import gradbalance as gb
from benchmarks.accuracy import Array


def opposed(rng: np.random.Generator, shape: tuple[int, int], distance: float) -> Array:
    """Two rows that point in opposite directions, except for a part of size `distance`."""
    jac = rng.standard_normal(shape)
    jac[1] = -rng.uniform(0.05, 3.0) * jac[0] + distance * jac[1]
    return jac


def balanced(rng: np.random.Generator, shape: tuple[int, int], distance: float) -> Array:
    """Rows of which a convex combination has the length `distance`, relative to the rows."""
    jac = rng.standard_normal(shape)
    weights = rng.uniform(0.1, 1.1, shape[0])
    rest = rng.standard_normal(shape[1])
    rest *= distance * np.linalg.norm(jac, axis=1).mean() / np.linalg.norm(rest)
    moved: Array = jac - weights / weights.sum() @ jac + rest
    return moved


def dependent(rng: np.random.Generator, shape: tuple[int, int], distance: float) -> Array:
    """Combinations of half as many rows, except for a part of size `distance`."""
    num_tasks, num_columns = shape
    basis = rng.standard_normal((max(1, num_tasks // 2), num_columns))
    basis += 0.5 * rng.standard_normal(num_columns)
    mixed: Array = rng.uniform(0, 1, (num_tasks, len(basis))) @ basis
    return mixed + distance * rng.standard_normal(shape)


FAMILIES = {"opposed": opposed, "balanced": balanced, "dependent": dependent}
WAYS = ("rows", "unequal", "micro-batches", "representation", "measure", "network")
Scale = Literal["sum", "norm"] | None
SCALES: tuple[Scale, ...] = (None, "norm", "sum")


@dataclass(frozen=True)
class Precision:
    """The dtype of the parameters, and the dtype of autocast, or None if it is off."""

    dtype: torch.dtype
    cast: torch.dtype | None = None

    @property
    def autocast(self) -> AbstractContextManager[object]:
        return nullcontext() if self.cast is None else torch.autocast("cpu", self.cast)


PRECISIONS = {
    "float64": Precision(torch.float64),
    "float32": Precision(torch.float32),
    "bfloat16": Precision(torch.bfloat16),
    "autocast to bfloat16": Precision(torch.float32, torch.bfloat16),
}


@dataclass(frozen=True, eq=False)
class Outcome:
    """The outcome of one step.

    Attributes:
        report: the balancer's report.
        cosine: the smallest cosine between a task's measured gradient and the direction in `.grad`.
        mean_cosine: the same for the mean gradient.
        difference: the largest difference between `report.descent` and the descent along the
            direction in `.grad`, relative to the lengths of the gradient and of the direction.
    """

    report: gb.Report
    cosine: float
    mean_cosine: float
    difference: float


@dataclass(frozen=True)
class Draw:
    """One step, determined by its seed; every method gets the same gradients.

    Attributes:
        seed: seed of everything that is random.
        num_tasks: number of tasks T; by default random, from 2 to 16.
        way: how the gradients are obtained, one of `WAYS`; random by default.
        scale: scale of the balancer; random by default.
    """

    seed: int
    num_tasks: int | None = None
    way: str | None = None
    scale: Scale | Literal["random"] = "random"

    def step(self, solver: gb.Solver, precision: Precision) -> Outcome:
        """Take the step."""
        rng = np.random.default_rng(self.seed)
        num_tasks = self.num_tasks or int(rng.integers(2, 17))
        num_columns = int(10.0 ** rng.uniform(np.log10(2), 3))
        way = self.way or str(rng.choice(WAYS))
        drawn = SCALES[rng.integers(len(SCALES))]
        scale = drawn if self.scale == "random" else self.scale
        distance = 10.0 ** rng.uniform(-9, -1)
        family = FAMILIES[str(rng.choice(list(FAMILIES)))]
        if way == "network":
            return _of_network(rng, num_tasks, distance, family, solver, precision, scale)
        jac = family(rng, (num_tasks, num_columns), distance)
        if rng.random() < 0.5:
            jac *= 10.0 ** rng.uniform(-3, 3, (num_tasks, 1))
        return _of_rows(rng, jac, way, solver, precision, scale)


def _of_rows(
    rng: np.random.Generator,
    jac: Array,
    way: str,
    solver: gb.Solver,
    precision: Precision,
    scale: Scale,
) -> Outcome:
    """Take a step on linear losses with these gradients."""
    rows = torch.from_numpy(jac).to(precision.dtype)
    cut = int(rng.integers(1, jac.shape[1]))
    shared = [nn.Parameter(torch.zeros(n)) for n in (cut, jac.shape[1] - cut)]
    shared = [nn.Parameter(p.detach().to(precision.dtype)) for p in shared]
    measured, source = shared, gb.SharedParameters()
    if way == "measure":  # the measured parameters have the family's gradients, the others do not
        shared.append(nn.Parameter(torch.zeros(7, dtype=precision.dtype)))
        rows = torch.cat([rows, torch.from_numpy(rng.standard_normal((len(rows), 7))).to(rows)], 1)
        measured = shared[:2]
        source = gb.SharedParameters(shared, measure=measured)
    z = torch.cat(list(shared))
    if way == "representation":
        balancer = gb.Balancer(solver, gb.Representation(), scale=scale)
        losses = _linear(rows, z, precision)
        known = _gradients(losses, [z])
        direction: list[Tensor] = []
        z.register_hook(direction.append)  # type: ignore[no-untyped-call]
        report = balancer.backward(losses, representation=z)
        return _outcome(report, known, direction[0])
    balancer = gb.Balancer(solver, source, scale=scale)
    if way == "micro-batches":
        first = (rows * torch.from_numpy(rng.uniform(-1, 1, rows.shape)).to(rows)).to(rows)
        earlier, losses = _linear(first, z, precision), _linear(rows - first, z, precision)
        known = _gradients(earlier, shared) + _gradients(losses, shared)
        balancer.accumulate(earlier)
        losses = _linear(rows - first, torch.cat(list(shared)), precision)
    elif way == "unequal":  # one task uses one more parameter, so the rows form no matrix
        more = nn.Parameter(torch.zeros(1, dtype=precision.dtype))
        losses = _linear(rows, z, precision)
        known = _gradients(losses, measured)
        losses[0] = losses[0] + 0 * more.sum()
        balancer = gb.Balancer(solver, gb.SharedParameters([*shared, more]), scale=scale)
    else:
        losses = _linear(rows, z, precision)
        known = _gradients(losses, measured)
    report = balancer.backward(losses)
    return _outcome(report, known, torch.cat([_grad(p) for p in measured]))


def _of_network(
    rng: np.random.Generator,
    num_tasks: int,
    distance: float,
    family: Callable[[np.random.Generator, tuple[int, int], float], Array],
    solver: gb.Solver,
    precision: Precision,
    scale: Scale,
) -> Outcome:
    """Take a step on a small network whose errors, and so its gradients, are from the family."""
    torch.manual_seed(int(rng.integers(2**31)))
    layers = nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 3)
    net = nn.Sequential(*layers).to(precision.dtype)
    x = torch.from_numpy(rng.standard_normal((16, 8))).to(precision.dtype)
    with torch.no_grad(), precision.autocast:
        out = net(x).double()
    errors = family(rng, (num_tasks, out.numel()), distance)
    targets = [out - torch.from_numpy(error).reshape(out.shape) for error in errors]
    with precision.autocast:
        y = net(x)
        # In double precision, so that only the backward pass through the network rounds.
        losses = [(y.double() - target).square().mean() for target in targets]
    known = _gradients(losses, list(net.parameters()))
    report = gb.Balancer(solver, scale=scale).backward(losses)
    return _outcome(report, known, torch.cat([_grad(p) for p in net.parameters()]))


def _linear(rows: Tensor, z: Tensor, precision: Precision) -> list[Tensor]:
    with precision.autocast:
        return [row @ z + 100 for row in rows]


def _gradients(losses: Sequence[Tensor], tensors: Sequence[Tensor]) -> Tensor:
    """The gradients [T, P] from plain autograd."""
    rows = [torch.autograd.grad(loss, tensors, retain_graph=True) for loss in losses]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])


def _grad(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad.flatten()


def _outcome(report: gb.Report, known: Tensor, direction: Tensor) -> Outcome:
    rows, d = known.double().numpy(), direction.double().numpy()
    length = float(np.linalg.norm(d))
    norms = np.linalg.norm(rows, axis=1)
    descent = report.descent
    assert descent is not None
    if length == 0:
        return Outcome(report, 0.0, 0.0, 0.0)
    found, taking_part = rows @ d, norms > 0
    mean = rows.mean(axis=0)
    return Outcome(
        report,
        float((found[taking_part] / norms[taking_part]).min(initial=np.inf)) / length,
        float(mean @ d) / (float(np.linalg.norm(mean)) * length),
        float((np.abs(found - descent) / np.maximum(norms, 1e-300)).max()) / length,
    )
