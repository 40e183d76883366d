"""The step of the flagship example: where the time goes, and what balancing adds to a plain step.

The four tasks of ``mp-ssl`` on built-in images, its trunk and batch size, float32, one thread. All
kinds of step are taken in turns, on the same images, so that what the machine does meets them all;
"over plain" is the ratio to the plain step of the same turn. Data and transformations (choosing the
images, crop and flip, all tasks' operations, normalisation) are timed in the same turns on their
own. The profile is of other steps, as profiling slows them down: shares of the time on the CPU that
operators spend in themselves.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.environment import environment, heading
from benchmarks.results import write_json
from benchmarks.timing import Spread, as_text
from examples.common.data.procedural import make_images
from examples.mpssl.presets import preset_config
from examples.mpssl.train import Training

# The options of each kind of step; the plain step sums the losses and runs a backward pass.
PLAIN = "plain: sum(losses).backward()"
KINDS: dict[str, dict[str, Any]] = {
    PLAIN: {"solver": "Uniform", "source": "losses"},
    "Uniform, losses": {"solver": "Uniform", "source": "losses"},
    "MGDA, representation": {"solver": "MGDA(normalization='loss')", "source": "representation"},
    "MGDA, shared-last": {"solver": "MGDA(normalization='loss')", "source": "shared-last"},
    "MGDA, shared": {"solver": "MGDA(normalization='loss')", "source": "shared"},
    "GradNorm, representation": {"solver": "GradNorm", "source": "representation"},
}
PROFILED = "MGDA, representation"
NUM_IMAGES = 2560
NUM_SHOWN = 10


def trainings() -> dict[str, Training]:
    images = make_images(NUM_IMAGES, seed=0)
    made = {
        kind: Training(preset_config("mp-ssl", scale="sum", **options), images)
        for kind, options in KINDS.items()
    }
    plain = made[PLAIN]

    def backward(losses: dict[str, torch.Tensor]) -> None:
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]

    plain.balancer.backward = backward  # type: ignore[method-assign,assignment]
    return made


def measure(num_turns: int) -> dict[str, Any]:
    runs = trainings()
    batch_size = runs[PLAIN].batch_size
    chosen = [torch.arange(batch_size) + start for start in range(0, NUM_IMAGES, batch_size)]
    seconds: dict[str, list[float]] = {kind: [] for kind in runs}
    data: list[float] = []
    for turn in range(-3, num_turns):  # the first three are not counted
        images = chosen[turn % len(chosen)]
        took = {kind: _seconds(run.step, images) for kind, run in runs.items()}
        took_data = _seconds(runs[PLAIN].batch, images)
        if turn >= 0:
            data.append(took_data)
            for kind, value in took.items():
                seconds[kind].append(value)
    plain = np.array(seconds[PLAIN])
    return {
        "batch_size": batch_size,
        "turns": num_turns,
        "data_ms": vars(Spread.of([1e3 * value for value in data])),
        "data_share": vars(Spread.of(list(np.array(data) / seconds[PROFILED]))),
        "steps": {
            kind: {
                "ms": vars(Spread.of([1e3 * value for value in values])),
                "over_plain": vars(Spread.of(list(np.array(values) / plain))),
                "images_per_second": round(batch_size / float(np.median(values))),
            }
            for kind, values in seconds.items()
        },
        "profile": shares(runs[PROFILED], chosen[0]),
    }


def shares(run: Training, images: torch.Tensor) -> dict[str, float]:
    """The largest shares of a step's time, by operator."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(10):
            run.step(images)
    events = {event.key: event.self_cpu_time_total for event in found.key_averages()}
    total = sum(events.values())
    largest = sorted(events, key=lambda key: -events[key])[:NUM_SHOWN]
    return {key: events[key] / total for key in largest}


def _seconds(call: Callable[[torch.Tensor], object], images: torch.Tensor) -> float:
    start = time.perf_counter()
    call(images)
    return time.perf_counter() - start


def as_markdown(result: dict[str, Any]) -> str:
    lines = heading("The flagship example's step", __doc__, result["environment"])
    lines += [
        f"- {result['turns']} turns of {result['batch_size']} images; medians (quartiles)",
        "",
        "| step | ms | over plain | images per second |",
        "| --- | ---: | ---: | ---: |",
    ]
    for kind, found in result["steps"].items():
        ratio = as_text(found["over_plain"], ".2f")
        lines.append(
            f"| {kind} | {as_text(found['ms'], '.1f')} | {ratio} | {found['images_per_second']} |"
        )
    lines += [
        "",
        f"Data and transformations: {as_text(result['data_ms'], '.1f')} ms of a step, "
        f"{100 * result['data_share']['median']:.1f} % of that with {PROFILED}.",
        "",
        f"| operator, step with {PROFILED} | share of the time |",
        "| --- | ---: |",
        *(f"| `{key}` | {100 * share:.1f} % |" for key, share in result["profile"].items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--turns", type=int, default=100, help="steps of each kind")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {"environment": environment(), **measure(options.turns)}
    write_json(options.out / "mpssl.json", result)
    (options.out / "mpssl.md").write_text(as_markdown(result))
    print(as_markdown(result))


if __name__ == "__main__":
    main()
