"""A suite's study: which runs, at which rates, and what was chosen on the validation part.

Every method has the same budget: each learning rate of the grid from the first seed. What is best
on the validation part by Δm is run from the other seeds; the test part chooses nothing. The
single-task models choose task by task. Static weights have more, which is counted: a grid of
weights at the middle rate, and the rates for the best of them.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.tasks.run import Record, Run
from benchmarks.tasks.scores import Values, delta_m
from benchmarks.tasks.store import Store
from benchmarks.tasks.suite import Suite
from examples.common.solvers import build_solver

RATES = (3e-3, 1e-2, 3e-2)
ALONE, STATIC, PLAIN = "single tasks", "static weights", "Uniform"
NUM_DRAWS = 12  # of static weights, where a full grid would be too many


@dataclass(frozen=True)
class Found:
    """What became of a method in a suite.

    Attributes:
        method: its name in tables.
        solver: that was run in the end.
        rates: that were chosen: one, or one a task.
        num_tried: runs from the first seed that the choice was made from.
        tests: metrics on the test part by seed; empty where every rate failed.
        errors: of runs that failed.
        ms: CPU milliseconds of a step, the median of the seeds.
        over_plain: the same over that of a plain sum.
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
    """The runs of a suite in three stages, each of which needs what the one before has found.

    Args:
        name: of the suite.
        suite: itself.
        methods: solvers as text, and `STATIC`.
        seeds: the first one tunes.
        num_steps: of a run; the suite's own by default.
        rates: the grid.
        scale: of all solvers; by default "norm" for those that read the Gramian, so that none wins
            by the length of its step, and "none" for those that read losses and define it.
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
        scale: str | None = None,
    ) -> None:
        self.name, self.suite, self.methods = name, suite, tuple(methods)
        self._seeds, self._rates, self._scale = seeds, tuple(rates), scale
        self._num_steps = num_steps or suite.num_steps
        self._grid = static_grid(suite, seeds[0]) if STATIC in self.methods else ()

    def runs(self, stage: int, store: Store) -> list[Run]:
        """The runs of a stage 0, 1 or 2, whose results make the next one possible."""
        if stage == 0:
            first = [run for method in self._solvers for run in self._at_rates(method)]
            alone = [run for task in self._tasks_alone for run in self._at_rates(PLAIN, (task,))]
            return [*alone, *self._at_rates(PLAIN), *first, *self._static_runs]
        static = [self._best_static(store)] if self._grid else []
        if stage == 1:
            return [run for solver in static for run in self._at_rates(solver)]
        chosen = [
            self._chosen(store, self._at_rates(PLAIN, (task,)), (task,))
            for task in self._tasks_alone
        ]
        chosen += [self._chosen(store, self._at_rates(s)) for s in (*self._solvers, *static)]
        return [replace(run, seed=s) for run in chosen if run for s in self._seeds]

    def found(self, store: Store) -> list[Found]:
        """Once all stages are done: what became of each method, the reference first."""
        lines = [self._found_alone(store)] if self._tasks_alone else []
        for method in self.methods:
            solver, num_tried = method, len(self._rates)
            if method == STATIC:
                solver = self._best_static(store)
                num_tried = len({*self._static_runs, *self._at_rates(solver)})
            lines.append(self._found_of(store, method, solver, num_tried))
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
        return [replace(self._at_rates(solver)[0], rate=middle) for solver in self._grid]

    def _at_rates(self, solver: str, tasks: tuple[str, ...] | None = None) -> list[Run]:
        default = "norm" if build_solver(solver).needs == "gramian" else "none"
        fixed = solver.startswith(PLAIN)  # the baselines are what they are at every scale
        return [
            Run(
                suite=self.name,
                solver=solver,
                tasks=tasks or self.suite.tasks,
                rate=rate,
                seed=self._seeds[0],
                num_steps=self._num_steps,
                scale=default if fixed else self._scale or default,
            )
            for rate in self._rates
        ]

    def _best_static(self, store: Store) -> str:
        best = self._chosen(store, self._static_runs)
        return best.solver if best else PLAIN

    def _chosen(self, store: Store, runs: list[Run], names: Sequence[str] = ()) -> Run | None:
        """The best on the validation part, of those that did not fail."""
        metrics = {k: m for k, m in self.suite.metrics.items() if not names or k in names}
        good = [run for run in runs if "error" not in store[run]]
        if not good:
            return None
        if names or not self._tasks_alone:  # any reference orders them alike
            reference = store[good[0]]["validation"]
        else:
            reference = self._validated_alone(store)
        return max(good, key=lambda run: delta_m(store[run]["validation"], reference, metrics))

    def _validated_alone(self, store: Store) -> Values:
        return _merged([store[run]["validation"] for run in self._chosen_alone(store)])

    def _chosen_alone(self, store: Store) -> list[Run]:
        found = []
        for task in self._tasks_alone:
            run = self._chosen(store, self._at_rates(PLAIN, (task,)), (task,))
            if run is None:
                raise ValueError(f"{self.name}: {task} alone failed at every learning rate")
            found.append(run)
        return found

    def _found_alone(self, store: Store) -> Found:
        runs = self._chosen_alone(store)
        by_seed = [[store[replace(run, seed=seed)] for run in runs] for seed in self._seeds]
        ms = [sum(record["ms"] for record in records) for records in by_seed]
        return Found(
            ALONE,
            PLAIN,
            tuple(run.rate for run in runs),
            len(self._rates),
            tuple(_merged([record["test"] for record in records]) for records in by_seed),
            (),
            float(np.median(ms)),
        )

    def _found_of(self, store: Store, method: str, solver: str, num_tried: int) -> Found:
        tried = self._at_rates(solver)
        chosen = self._chosen(store, tried)
        final = [store[replace(chosen, seed=seed)] for seed in self._seeds] if chosen else []
        good = [record for record in final if "error" not in record]
        records: list[Record] = [store[run] for run in tried] + final
        return Found(
            method,
            solver,
            (chosen.rate,) if chosen else (),
            num_tried,
            tuple(record["test"] for record in good),
            tuple(dict.fromkeys(r["error"] for r in records if "error" in r)),
            *(float(np.median([r[key] for r in good] or [np.nan])) for key in ("ms", "over_plain")),
        )


def static_grid(suite: Suite, seed: int) -> tuple[str, ...]:
    """Fixed weights to try, as solvers.

    All of them 1; those that make the first losses equal, and their square roots; and of these that
    make them equal, times 1, 1/10 or 1/100 each with up to three tasks, and else times
    `NUM_DRAWS` draws between 1/10 and 1.
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


def _merged(many: Sequence[Values]) -> dict[str, float]:
    return {name: value for values in many for name, value in values.items()}
