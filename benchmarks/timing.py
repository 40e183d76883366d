"""Times two solvers alternately, so that other load on the machine affects both."""

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

Call = Callable[[], object]


class StepModel(ABC):
    """A model for timing steps: a trunk that the tasks share, and their heads."""

    trunk: nn.Module
    heads: nn.ModuleList

    def forget(self) -> None:
        """Set all gradients to None."""
        for parameter in (*self.trunk.parameters(), *self.heads.parameters()):
            parameter.grad = None

    @abstractmethod
    def losses(self) -> tuple[Any, list[Any]]:
        """Run a forward pass; return the representation and the tasks' losses."""


def seconds_of_step(
    model: StepModel,
    way: Callable[[Any, list[Any]], object],
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The time of the backward part of one step, after a forward pass that is not timed."""
    model.forget()
    z, losses = model.losses()
    start = clock()
    way(z, losses)
    return clock() - start


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """The median and the quartiles of some values."""
        low, median, high = np.percentile(values, [25, 50, 75])
        return cls(float(median), float(low), float(high))


def as_text(spread: Mapping[str, float], form: str) -> str:
    """A median with its quartiles in brackets; `spread` has the fields of a `Spread`."""
    return f"{spread['median']:{form}} ({spread['low']:{form}} to {spread['high']:{form}})"


@dataclass(frozen=True)
class Comparison:
    """The microseconds of both, and the ratio theirs / ours, over the pairs that succeeded."""

    ours: Spread
    theirs: Spread | None
    ratio: Spread | None
    num_pairs: int
    num_failed: int


def compare(ours: list[Call], theirs: list[Call], budget: float, *, least: int = 3) -> Comparison:
    """Time ours, theirs, ours, theirs, … over the same draws in turn.

    Before every timed call there is an untimed one on the previous draw. It brings the solver's
    code into the caches again, and lets a solver with a state start from another draw's answer.

    Args:
        ours: one call per draw.
        theirs: one call per draw; a call that raises is counted, but not timed.
        budget: approximate seconds for the whole comparison, which set the number of pairs.
        least: minimum number of pairs, however long they take.
    """
    calls = [*zip(ours, theirs, strict=True)]
    cost = _pair(calls, 0)[2]
    if cost < budget:  # the very first calls take longer, so measure the cost again
        cost = _pair(calls, 1)[2]
    num_pairs = max(least, int(budget / cost))
    times: list[float] = []
    pairs: list[tuple[float, float]] = []
    for index in range(num_pairs):
        mine, other, _ = _pair(calls, index)
        assert mine is not None
        times.append(mine)
        if other is not None:
            pairs.append((mine, other))
    return Comparison(
        Spread.of([1e6 * mine for mine in times]),
        Spread.of([1e6 * other for _, other in pairs]) if pairs else None,
        Spread.of([other / mine for mine, other in pairs]) if pairs else None,
        num_pairs,
        num_pairs - len(pairs),
    )


def _pair(calls: list[tuple[Call, Call]], index: int) -> tuple[float | None, float | None, float]:
    """The seconds of ours, of theirs (None for a failed call), and of the whole pair."""
    start = time.perf_counter()
    befores, nows = calls[(index - 1) % len(calls)], calls[index % len(calls)]
    mine, other = (_seconds(*both) for both in zip(befores, nows, strict=True))
    return mine, other, time.perf_counter() - start


def _seconds(before: Call, now: Call) -> float | None:
    with contextlib.suppress(Exception):
        before()
    start = time.perf_counter()
    try:
        now()
    except Exception:  # whatever a package raises counts as its failure
        return None
    return time.perf_counter() - start
