"""The study of one suite: its runs, their learning rates, and the choices on the validation part.

Every method has the same budget: each learning rate of the grid with every seed. The method's rate
is the one with the best mean Δm over the seeds on the validation part; nothing is chosen on the
test part. For single-task models, the rate is chosen for each task. Static weights get more runs,
which are counted: a grid of weights at the middle rate with the first seed, and then all rates for
the best weights.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.tasks.run import Record, Run
from benchmarks.tasks.scores import Values, delta_m
from benchmarks.tasks.store import Store
from benchmarks.tasks.suite import Suite
from examples.common.solvers import build_solver

RATES = (3e-3, 1e-2, 3e-2)
ALONE, STATIC, PLAIN = "single tasks", "static weights", "Uniform"
NUM_DRAWS = 12  # random draws of static weights, if a full grid would be too large


@dataclass(frozen=True)
class Found:
    """The outcome of a method in a suite.

    Attributes:
        method: its name in tables.
        solver: the solver that was chosen.
        rates: the learning rates that were chosen: a single one, or one per task.
        num_tried: number of runs from which they were chosen.
        tests: metrics on the test part by seed; empty if every rate failed.
        errors: the errors of failed runs.
        ms: CPU milliseconds of a step, the median over the seeds.
        over_plain: the same, divided by that of a plain step.
    """

    method: str
    solver: str
    rates: tuple[float, ...]
    num_tried: int
    tests: tuple[Values, ...]
    errors: tuple[str, ...]
    ms: float = float("nan")
    over_plain: float = float("nan")


class Study:
    """The runs of a suite, in two stages: the second needs what the first has found.

    Args:
        name: name of the suite.
        suite: the suite.
        methods: `STATIC`, and solvers as text, with another scale as in "MGDA @ none". The default
            scale is "norm" for solvers that use the Gramian, so that none wins by longer steps, and
            "none" for solvers that use the losses, whose weights define the length.
        seeds: seeds of weights and batches.
        num_steps: number of steps of a run; the suite's own by default.
        rates: the grid of learning rates.
    """

    def __init__(
        self,
        name: str,
        suite: Suite,
        methods: Sequence[str],
        seeds: Sequence[int],
        *,
        num_steps: int | None = None,
        rates: Sequence[float] = RATES,
    ) -> None:
        self.name, self.suite, self.methods = name, suite, tuple(methods)
        self._seeds, self._rates = tuple(seeds), tuple(rates)
        self._num_steps = num_steps or suite.num_steps
        self._grid = static_grid(suite, seeds[0]) if STATIC in self.methods else ()

    def runs(self, stage: int, store: Store) -> list[Run]:
        """The runs of stage 0 or 1; those of stage 1 depend on the results of stage 0."""
        if stage == 1:
            return self._everywhere(self._best_static(store)) if self._grid else []
        alone = [run for task in self._tasks_alone for run in self._everywhere(PLAIN, (task,))]
        solvers = dict.fromkeys((PLAIN, *self._solvers))
        return [*alone, *(r for s in solvers for r in self._everywhere(s)), *self._static_runs]

    def found(self, store: Store) -> list[Found]:
        """The outcome of each method, the reference first; both stages must be done."""
        lines = [self._found_alone(store)] if self._tasks_alone else []
        for method in self.methods:
            solver, extra = method, 0
            if method == STATIC:
                solver = self._best_static(store)
                extra = len({*self._static_runs} - {*self._everywhere(solver)})
            lines.append(self._found_of(store, method, solver, extra))
        return lines

    @property
    def _solvers(self) -> tuple[str, ...]:
        return tuple(method for method in self.methods if method != STATIC)

    @property
    def _tasks_alone(self) -> tuple[str, ...]:
        return self.suite.tasks if self.suite.alone else ()

    @property
    def _static_runs(self) -> list[Run]:
        middle = self._rates[len(self._rates) // 2]
        return [self._from_seeds(solver, middle)[0] for solver in self._grid]

    def _everywhere(self, method: str, tasks: tuple[str, ...] | None = None) -> list[Run]:
        return [run for rate in self._rates for run in self._from_seeds(method, rate, tasks)]

    def _from_seeds(
        self, method: str, rate: float, tasks: tuple[str, ...] | None = None
    ) -> list[Run]:
        solver, _, scale = method.partition(" @ ")
        default = "norm" if build_solver(solver).needs == "gramian" else "none"
        return [
            Run(
                suite=self.name,
                solver=solver,
                tasks=tasks or self.suite.tasks,
                rate=rate,
                seed=seed,
                num_steps=self._num_steps,
                scale=scale or default,
            )
            for seed in self._seeds
        ]

    def _best_static(self, store: Store) -> str:
        reference = self._reference(store)
        good = [run for run in self._static_runs if "error" not in store[run]]
        scores = {run.solver: self._score(store, [run], reference) for run in good}
        return max(scores, key=lambda solver: scores[solver], default=PLAIN)

    def _rate(
        self, store: Store, method: str, tasks: tuple[str, ...] | None = None
    ) -> float | None:
        """The best rate on the validation part; None if some run failed at every rate."""
        at = {rate: self._from_seeds(method, rate, tasks) for rate in self._rates}
        good = {r: runs for r, runs in at.items() if all("error" not in store[x] for x in runs)}
        if not good:
            return None
        alone = tasks is not None or not self._tasks_alone
        # With a single task, every reference gives the same order of the rates.
        first = store[next(iter(good.values()))[0]]["validation"]
        reference = first if alone else self._reference(store)
        scores = {rate: self._score(store, runs, reference) for rate, runs in good.items()}
        return max(scores, key=lambda rate: scores[rate])

    def _score(self, store: Store, runs: Sequence[Run], reference: Values) -> float:
        metrics = {name: m for name, m in self.suite.metrics.items() if name in reference}
        return float(
            np.mean([delta_m(store[run]["validation"], reference, metrics) for run in runs])
        )

    def _reference(self, store: Store) -> Values:
        """The reference on the validation part: the single-task models, or the plain sum."""
        if not self._tasks_alone:
            records = [r for x in self._everywhere(PLAIN) if "error" not in (r := store[x])]
            return dict(records[0]["validation"])
        return _means([[r["validation"] for r in records] for records in self._alone(store)])

    def _alone(self, store: Store) -> list[list[Record]]:
        """For each single-task model, its records by seed, at its chosen rate."""
        return [
            [store[run] for run in self._from_seeds(PLAIN, rate, (task,))]
            for task, rate in zip(self._tasks_alone, self._rates_alone(store), strict=True)
        ]

    def _rates_alone(self, store: Store) -> list[float]:
        rates = [self._rate(store, PLAIN, (task,)) for task in self._tasks_alone]
        for task, rate in zip(self._tasks_alone, rates, strict=True):
            if rate is None:
                raise ValueError(f"{self.name}: {task} alone failed at every learning rate")
        return [rate for rate in rates if rate is not None]

    def _found_alone(self, store: Store) -> Found:
        by_seed = list(zip(*self._alone(store), strict=True))
        return Found(
            ALONE,
            PLAIN,
            tuple(self._rates_alone(store)),
            len(self._everywhere(PLAIN)),
            tuple(_merged([record["test"] for record in records]) for records in by_seed),
            (),
            float(np.median([sum(record["ms"] for record in records) for records in by_seed])),
        )

    def _found_of(self, store: Store, method: str, solver: str, extra: int) -> Found:
        tried = [store[run] for run in self._everywhere(solver)]
        rate = self._rate(store, solver)
        final = [] if rate is None else [store[r] for r in self._from_seeds(solver, rate)]
        return Found(
            method,
            solver,
            () if rate is None else (rate,),
            len(tried) + extra,
            tuple(record["test"] for record in final),
            tuple(dict.fromkeys(r["error"] for r in tried if "error" in r)),
            *(float(np.median([r[k] for r in final] or [np.nan])) for k in ("ms", "over_plain")),
        )


def static_grid(suite: Suite, seed: int) -> tuple[str, ...]:
    """Fixed weights to try, as solvers.

    These are: all weights 1; the weights that make the first losses equal; their square roots; and
    the equalising weights times further factors. The factors are 1, 1/10 or 1/100 for each task
    with up to three tasks, and otherwise `NUM_DRAWS` random draws between 1/10 and 1.
    """
    torch.manual_seed(seed)
    first = suite.losses(suite.build(suite.tasks), next(suite.batches(seed)))
    known = [first[task] for task in suite.tasks]
    equal = np.array([1 / float(loss.detach()) if loss is not None else 1.0 for loss in known])
    number = len(equal)
    factors = [np.array(c) for c in itertools.product((1, 0.1, 0.01), repeat=number) if max(c) == 1]
    if number > 3:
        draws = np.random.default_rng(0).uniform(-1, 0, (NUM_DRAWS, number))
        factors = [np.ones(number), *10**draws]
    weights = [np.sqrt(equal), *(equal * factor for factor in factors)]
    listed = [[float(f"{x:.3g}") for x in w / w.max()] for w in weights]
    return (PLAIN, *(f"Uniform(preferences={numbers})" for numbers in listed))


def _means(by_task: Sequence[Sequence[Values]]) -> dict[str, float]:
    """The mean of each metric over the seeds, from the metrics of single-task models."""
    return {
        name: float(np.mean([values[name] for values in by_seed]))
        for by_seed in by_task
        for name in by_seed[0]
    }


def _merged(many: Sequence[Values]) -> dict[str, float]:
    return {name: value for values in many for name, value in values.items()}
