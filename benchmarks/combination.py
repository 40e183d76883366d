"""The extra cost of combining rows in float64, used where they nearly cancel, and not in float32.

T float32 rows of the MLP's 1.8 million numbers are combined into a direction, in float32 and in
float64 in turn; and the T backwards that give such rows. One thread. Medians, with the quartiles in
brackets; ratios are of the same turn. A step takes the float64 sum only where the direction is
shorter than an eighth of its parts.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.environment import environment, heading
from benchmarks.results import write_json
from benchmarks.step_models import FAMILIES
from benchmarks.timing import Spread, as_text
from gradbalance.gradients.rows import Rows


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measured(num_tasks: int, turns: int) -> dict[str, Any]:
    """The times for one number of tasks."""
    case = FAMILIES["mlp"](num_tasks)
    shared = list(case.trunk.parameters())
    tasks = [str(task) for task in range(num_tasks)]
    gradients: dict[str, dict[torch.Tensor, torch.Tensor]] = {
        task: {p: torch.randn_like(p) for p in shared} for task in tasks
    }
    weights = dict.fromkeys(tasks, 0.7)

    def combine(*, wide: bool) -> None:
        rows = Rows()
        for task in tasks:
            rows.add(task, dict(gradients[task]))
        rows.combine(shared, weights, wide=wide)

    def differentiate(losses: list[torch.Tensor]) -> None:
        for index, loss in enumerate(losses):
            torch.autograd.grad(loss, shared, retain_graph=index + 1 < num_tasks)

    narrow: list[float] = []
    wide: list[float] = []
    floor: list[float] = []
    for turn in range(turns + 1):
        losses = case.losses()[1]
        times = [
            seconds(lambda losses=losses: differentiate(losses)),  # type: ignore[misc]
            seconds(lambda: combine(wide=False)),
            seconds(lambda: combine(wide=True)),
        ]
        if turn > 0:
            for found, one in zip((floor, narrow, wide), times, strict=True):
                found.append(one)
    added = [(w - n) / f for n, w, f in zip(narrow, wide, floor, strict=True)]
    return {
        "float32_ms": vars(Spread.of([1e3 * t for t in narrow])),
        "float64_ms": vars(Spread.of([1e3 * t for t in wide])),
        "ratio": vars(Spread.of([w / n for n, w in zip(narrow, wide, strict=True)])),
        "added_to_floor": vars(Spread.of(added)),
    }


def as_markdown(result: dict[str, Any]) -> str:
    lines = heading("Rows combined in float32 and float64", __doc__, result["environment"])
    lines += [
        "",
        "| tasks | float32, ms | float64, ms | float64 / float32 | added, of T backwards |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for num_tasks, found in result["found"].items():
        forms = {"float32_ms": ".1f", "float64_ms": ".1f", "ratio": ".2f", "added_to_floor": ".1%"}
        cells = [as_text(found[key], form) for key, form in forms.items()]
        lines.append(f"| {num_tasks} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--turns", type=int, default=25)
    parser.add_argument("--tasks", type=int, nargs="*", default=[2, 4, 8, 16])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {str(tasks): measured(tasks, options.turns) for tasks in options.tasks}
    result = {"environment": environment(), "found": found}
    write_json(options.out / "combination.json", result)
    (options.out / "combination.md").write_text(as_markdown(result))


if __name__ == "__main__":
    main()
