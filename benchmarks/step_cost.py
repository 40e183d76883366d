"""The cost of a balanced step, in time and memory, compared with a plain step and TorchJD.

One step is the backward part alone, from the losses to `.grad`, after a forward pass outside the
clock. All ways take turns on the same model, so that what the machine does meets them all; times
are ratios to `sum(losses).backward()` of the same turn: medians, with the quartiles in brackets.
"floor" is what any way to exact rows has to do: the T backwards through the trunk, whose results
are thrown away. Memory is the most that torch had allocated at once during forward and backward,
parameters aside, as a ratio to that of the plain step; it is exact, not sampled. Float32, one
thread. The solver is MGDA, and for TorchJD the mean, its cheapest, so that no solver decides.
`mtl_backward` differentiates the tasks one by one (chunk 1) or all at once (chunk T), as ours can.
"""

import argparse
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import gradbalance as gb
from benchmarks import step_report
from benchmarks.environment import environment
from benchmarks.memory import peak_bytes
from benchmarks.results import write_json
from benchmarks.step_models import FAMILIES, Case
from benchmarks.step_ways import Way, balanced, torchjd
from benchmarks.timing import Spread, seconds_of_step

EVERY = 10
SKETCH = 4096


def ways(case: Case) -> dict[str, Way]:
    """All ways to compute a step, by name; the first one is the plain step."""
    shared = list(case.trunk.parameters())
    trunk, last = case.trunk, case.last

    def plain(z: Tensor, losses: list[Tensor]) -> None:
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]

    def floor(z: Tensor, losses: list[Tensor]) -> None:
        for index, loss in enumerate(losses):
            torch.autograd.grad(loss, shared, retain_graph=index + 1 < len(losses))

    together = gb.SharedParameters(trunk, chunk_size=len(case.heads))
    found = {
        "plain": plain,
        "floor": floor,
        "losses only": balanced(gb.Uniform(), gb.LossesOnly()),
        "representation": balanced(gb.MGDA(), gb.Representation()),
        "shared-last": balanced(gb.MGDA(), gb.SharedParameters(trunk, measure=last)),
        f"sketch, d={SKETCH}": balanced(gb.MGDA(), gb.SharedParameters(trunk, sketch=SKETCH)),
        "shared": balanced(gb.MGDA(), gb.SharedParameters(trunk)),
        "shared, chunk T": balanced(gb.MGDA(), together),
        "shared, found": balanced(gb.MGDA(), gb.SharedParameters()),
        f"shared, every={EVERY}": balanced(gb.MGDA(), gb.SharedParameters(trunk), every=EVERY),
    }
    return {**found, **_peer(case)}


def _peer(case: Case) -> dict[str, Way]:
    if find_spec("torchjd") is None:
        return {}
    shared, together = list(case.trunk.parameters()), len(case.heads)
    return {
        "TorchJD, chunk 1": torchjd(shared, "Mean"),
        "TorchJD, chunk T": torchjd(shared, "Mean", chunk=together),
    }


def engine(case: Case) -> dict[str, Way]:
    """TorchJD's Gramian engine; it gets its own model, as its hooks slow down forward passes."""
    if find_spec("torchjd") is None:
        return {}
    from torchjd.aggregation import MeanWeighting
    from torchjd.autogram import Engine

    made = Engine(case.trunk, batch_dim=None)
    weighting = MeanWeighting()

    def step(z: Tensor, losses: list[Tensor]) -> None:
        stacked = torch.stack(losses)
        stacked.backward(weighting(made.compute_gramian(stacked)))  # type: ignore[no-untyped-call]

    return {"TorchJD, Gramian engine": step}


def measure(family: str, num_tasks: int, num_turns: int) -> dict[str, dict[str, Any]]:
    """The times and the peak memory of all ways, by name."""
    torch.manual_seed(0)
    case, other = FAMILIES[family](num_tasks), FAMILIES[family](num_tasks)
    pairs = [(name, case, way) for name, way in ways(case).items()]
    pairs += [(name, other, way) for name, way in engine(other).items()]
    seconds: dict[str, list[float]] = {name: [] for name, _, _ in pairs}
    failed: dict[str, str] = {}
    for turn in range(-1, num_turns):
        for name, its_case, way in pairs:
            num_steps = EVERY if "every" in name else 1
            try:
                took = [seconds_of_step(its_case, way) for _ in range(num_steps)]
            except Exception as error:  # whatever a package raises counts as its failure
                failed[name] = f"{type(error).__name__}: {error}".split("\n")[0][:200]
                continue
            if turn >= 0:
                seconds[name].append(float(np.mean(took)))
    plain = np.array(seconds["plain"])
    floor = np.array(seconds["floor"])
    peaks = {n: _peak(c, way) for n, c, way in pairs if n not in failed}
    return {
        name: {"failed": failed[name]}
        if name in failed
        else {
            "ms": 1e3 * float(np.median(seconds[name])),
            "over_plain": vars(Spread.of(list(np.array(seconds[name]) / plain))),
            "over_floor": vars(Spread.of(list(np.array(seconds[name]) / floor))),
            "peak_bytes": peaks[name],
            "peak_over_plain": peaks[name] / peaks["plain"],
        }
        for name, _, _ in pairs
    }


def _peak(case: Case, way: Way) -> int:
    case.forget()
    return peak_bytes(lambda: way(*case.losses()))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--turns", type=int, default=15, help="steps of each way")
    parser.add_argument("--families", nargs="*", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--tasks", nargs="*", type=int, default=[2, 4, 8, 16])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for family in options.families:
        for num_tasks in options.tasks:
            start = time.perf_counter()
            found[f"{family}/{num_tasks}"] = measure(family, num_tasks, options.turns)
            print(f"{family}, T = {num_tasks}: {time.perf_counter() - start:.0f} s", flush=True)
    result = {"environment": environment(), "turns": options.turns, "found": found}
    write_json(options.out / "step_cost.json", result)
    (options.out / "step_cost.md").write_text(step_report.as_markdown(result, __doc__ or ""))
    step_report.draw(result, options.out / "step_cost.png")


if __name__ == "__main__":
    main()
