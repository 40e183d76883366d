"""The time of a balanced step beyond T backward passes, for models of many sizes and shapes.

A step is the backward part alone, from the losses to `.grad`, after a forward pass outside the
clock: MGDA with rows, `SharedParameters(trunk)`. "Floor" is T backwards by `torch.autograd.grad`,
by the shared parameters and the task's own, whose results are thrown away. Both take turns on the
same model. Medians, with the quartiles in brackets. Float32, one thread, whose CPU time is taken,
so that it matters less what else the machine does.

- parameters, tasks, tensors: a trunk of square layers (a weight and a bias each), batch 32, a
  linear head a task. One of the three varies; the others stay at 4 tasks, about 40,000 parameters
  and 12 tensors. Rows are kept as one matrix where tensors have up to 16,384 entries on average
  (`gradients/matrix.py`), and are summed block by block where they are longer; the points are dense
  around that change.
- rows of a table: an embedding of 16 columns with sparse gradients, of which a batch touches 64 × 8
  places, before the trunk and shared by 4 tasks.
- width of the heads: 4 tasks, each with a head of its own from 64 to so many outputs, batch 32.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import style
from matplotlib.figure import Figure
from torch import Tensor, nn

import gradbalance as gb
from benchmarks.environment import environment, heading
from benchmarks.results import write_json
from benchmarks.timing import Spread, StepModel, as_text, seconds_of_step

CHANGE = 12 * 16_384  # with 12 tensors, rows are one matrix up to so many shared parameters
SWEEPS = {
    "parameters": "shared parameters P",
    "tasks": "tasks T",
    "tensors": "shared tensors",
    "rows of a table": "rows",
    "width of the heads": "outputs",
}


class Model(StepModel):
    """An optional embedding table, a trunk, and one linear head per task."""

    def __init__(
        self,
        *,
        num_tasks: int = 4,
        num_parameters: int = 40_000,
        num_tensors: int = 12,
        outputs: int = 1,
        table_rows: int = 0,
    ) -> None:
        num_layers = num_tensors // 2
        width = max(2, round((num_parameters / num_layers) ** 0.5))
        if table_rows:
            width = 16
        layers = [nn.Linear(width, width) for _ in range(num_layers)]
        for layer in layers:  # near the identity, so that many of them still pass gradients on
            nn.init.eye_(layer.weight)
            layer.weight.data.add_(0.1 / width * torch.randn(width, width))
        parts: list[nn.Module] = [part for layer in layers for part in (layer, nn.ReLU())]
        self.inputs = torch.rand(32, width)
        if table_rows:
            table = nn.EmbeddingBag(table_rows, 16, mode="sum", sparse=True)
            parts.insert(0, table)
            self.inputs = torch.randint(table_rows, (64, 8))
        self.trunk = nn.Sequential(*parts)
        self.heads = nn.ModuleList([nn.Linear(width, outputs) for _ in range(num_tasks)])
        self.targets = torch.randn(num_tasks)

    def losses(self) -> tuple[Tensor, list[Tensor]]:
        z: Tensor = self.trunk(self.inputs)
        pairs = zip(self.heads, self.targets, strict=True)
        return z, [(head(z) - target).square().mean() for head, target in pairs]


def points() -> Iterator[tuple[str, int, Callable[[], Model]]]:
    """For each point, the name of its sweep, its value and a function that makes the model."""
    near = [int(CHANGE * part) for part in (0.5, 0.8, 0.95, 1.05, 1.25, 2)]
    far = [1_000, 3_000, 10_000, 1_000_000, 3_000_000, 10_000_000]
    for number in sorted(far + near):
        yield "parameters", number, lambda n=number: Model(num_parameters=n)  # type: ignore[misc]
    for number in (2, 3, 4, 6, 8, 10, 12, 14, 16, 32, 64):
        yield "tasks", number, lambda n=number: Model(num_tasks=n)  # type: ignore[misc]
    for number in (6, 12, 24, 60, 120, 240, 600):
        yield "tensors", number, lambda n=number: Model(num_tensors=n)  # type: ignore[misc]
    for number in (10_000, 100_000, 1_000_000):
        yield "rows of a table", number, lambda n=number: Model(table_rows=n)  # type: ignore[misc]
    for number in (20, 200, 2_000, 20_000):
        yield (
            "width of the heads",
            number,
            lambda n=number: Model(num_parameters=8_192, num_tensors=4, outputs=n),  # type: ignore[misc]
        )


def measure(model: Model, budget: float, least: int) -> dict[str, Any]:
    """Time the floor and the step in turns: about `budget` seconds, at least `least` turns."""
    shared = list(model.trunk.parameters())
    balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(model.trunk))

    def floor(z: Tensor, losses: list[Tensor]) -> None:
        for loss, head in zip(losses, model.heads, strict=True):
            torch.autograd.grad(
                loss, [*shared, *head.parameters()], retain_graph=loss is not losses[-1]
            )

    def step(z: Tensor, losses: list[Tensor]) -> None:
        balancer.backward(losses)

    times: list[tuple[float, ...]] = []
    warm_up, start = 3, time.perf_counter()
    while len(times) < least + warm_up or time.perf_counter() - start < budget:
        both = (seconds_of_step(model, way, time.thread_time) for way in (step, floor))
        times.append(tuple(both))
    steps, floors = np.array(times[warm_up:]).T
    return {
        "P": sum(map(Tensor.numel, shared)),
        "tensors": len(shared),
        "turns": len(floors),
        "floor_us": 1e6 * float(np.median(floors)),
        "us_over_floor": vars(Spread.of(list(1e6 * (steps - floors)))),
        "over_floor": vars(Spread.of(list(steps / floors))),
    }


def as_markdown(result: dict[str, Any]) -> str:
    lines = heading("What a step takes beyond its backwards", __doc__, result["environment"])
    lines += ["", "![Over parameters, tasks and tensors](overhead.png)"]
    for sweep, what in SWEEPS.items():
        header = [what, "P", "floor, µs", "µs over the floor", "over the floor", "turns"]
        lines += ["", f"## {sweep}", "", f"| {' | '.join(header)} |", f"|{' ---: |' * 6}"]
        for key, found in result["found"].items():
            if key.startswith(f"{sweep}/"):
                cells = [
                    f"{int(key.split('/')[1]):,}",
                    f"{found['P']:,}",
                    f"{found['floor_us']:,.0f}",
                    as_text(found["us_over_floor"], ",.0f"),
                    as_text(found["over_floor"], ".2f"),
                    str(found["turns"]),
                ]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@style.context("gradbalance.pictures")
def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the microseconds over the floor, and the ratio to it, for the first three sweeps."""
    figure = Figure(figsize=(11, 6.4))
    figure.suptitle(
        "A balanced step (MGDA, rows) over the floor of T backwards (MLPs, batch 32, one thread)"
    )
    grid = figure.subplots(2, 3, sharex="col", sharey="row")
    fixed = {
        "parameters": "4 tasks, 12 tensors",
        "tasks": "40,000 parameters, 12 tensors",
        "tensors": "40,000 parameters, 4 tasks",
    }
    for column, (sweep, rest) in zip(grid.T, fixed.items(), strict=True):
        found = [(k, v) for k, v in result["found"].items() if k.startswith(f"{sweep}/")]
        xs = [v["P"] if sweep == "parameters" else int(k.split("/")[1]) for k, v in found]
        for axes, quantity in zip(column, ("us_over_floor", "over_floor"), strict=True):
            spreads = [v[quantity] for _, v in found]
            axes.plot(xs, [s["median"] for s in spreads], marker=".", label="median")
            low, high = ([s[end] for s in spreads] for end in ("low", "high"))
            axes.fill_between(xs, low, high, alpha=0.25, label="quartiles")
            if sweep == "parameters":
                label = "rows: one matrix up to here, then blocks"
                axes.axvline(CHANGE, color="grey", linestyle=":", label=label)
            axes.set(xscale="log")
            axes.grid(which="major")
        column[0].set_title(f"{sweep}\n({rest})")
        column[1].set_xlabel(SWEEPS[sweep])
        if sweep != "parameters":
            chosen = [2, 4, 8, 16, 32, 64] if sweep == "tasks" else xs
            column[1].set_xticks(chosen, [str(x) for x in chosen])
            column[1].minorticks_off()
    grid[0, 0].set(yscale="log", ylabel="µs over the floor")
    grid[1, 0].set(yscale="log", ylabel="time of the step / floor")
    grid[1, 0].set_yticks([1, 1.5, 2, 3, 4], ["1", "1.5", "2", "3", "4"])
    grid[1, 0].set_ylim(0.95, 4.5)
    grid[1, 0].minorticks_off()
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=4, help="for each point, about")
    parser.add_argument("--turns", type=int, default=9, help="at least, whatever they take")
    parser.add_argument("--only", nargs="*", choices=list(SWEEPS), default=list(SWEEPS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for sweep, number, make in points():
        if sweep in options.only:
            torch.manual_seed(0)
            found[f"{sweep}/{number}"] = line = measure(make(), options.seconds, options.turns)
            print(
                f"{sweep}, {number}: {line['us_over_floor']['median']:.0f} µs, "
                f"{line['over_floor']['median']:.2f}, {line['turns']} turns",
                flush=True,
            )
    result = {"environment": environment(), "found": found}
    write_json(options.out / "overhead.json", result)
    (options.out / "overhead.md").write_text(as_markdown(result))
    draw(result, options.out / "overhead.png")


if __name__ == "__main__":
    main()
