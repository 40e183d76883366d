"""What an iteration of the second example costs, variant by variant.

Iterations of the classifier of ``examples.metapseudo`` by what it is trained on, and those in which
the map of the latents takes a step before it, in the alternating order: for the gap alone, for the
validation loss alone, and for both. Four labels a class, the sizes of the default run, one thread.
All take their steps in turns, so that what the machine does meets them all; times are ratios to the
step on labels alone of that turn.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.environment import environment, heading
from benchmarks.results import write_json
from benchmarks.timing import Spread, as_text
from examples.metapseudo.config import RunConfig
from examples.metapseudo.data.load import load_target
from examples.metapseudo.generators.source import load_source
from examples.metapseudo.train import Training
from examples.metapseudo.variants import variant_config

LABELLED = "labelled"
META = "meta"
FINITE = "meta, finite difference"


def configs() -> dict[str, RunConfig]:
    def of_map(variant: str, **options: str) -> RunConfig:
        return variant_config(variant, order="alternating", **options)

    return {
        LABELLED: variant_config("labels"),
        "consistency, samples": variant_config("consistency-random"),
        "FreeMatch, samples": variant_config("freematch-random"),
        "FreeMatch, real": variant_config("freematch-real"),
        "meta, mean gap": of_map("consistency-gap", gap="mean"),
        "meta, MMD gap": of_map("consistency-gap"),
        "meta, validation": of_map("validation"),
        META: of_map("both"),
        FINITE: of_map("both-finite"),
    }


def trainings() -> dict[str, Training]:
    target = load_target(None, labels_per_class=4, seed=0)
    source = load_source("renderer")
    return {name: Training(config, target, source) for name, config in configs().items()}


def measure(num_turns: int) -> dict[str, Any]:
    runs = trainings()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(-2, num_turns):  # the first ones are not counted
        for name, run in runs.items():
            start = time.perf_counter()
            run.step()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    base = np.array(seconds[LABELLED])
    steps = {
        name: {
            "ms": vars(Spread.of([1e3 * value for value in values])),
            "over_labelled": vars(Spread.of(list(np.array(values) / base))),
        }
        for name, values in seconds.items()
    }
    return {"turns": num_turns, "steps": steps}


def as_markdown(result: dict[str, Any]) -> str:
    lines = heading("The second example's iteration", __doc__, result["environment"])
    lines += [
        f"- {result['turns']} turns; medians (quartiles)",
        "",
        "| variant | ms | over labelled |",
        "| --- | ---: | ---: |",
    ]
    for name, found in result["steps"].items():
        cells = [name, as_text(found["ms"], ".0f"), as_text(found["over_labelled"], ".2f")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--turns", type=int, default=40, help="steps of each variant")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {"environment": environment(), **measure(options.turns)}
    write_json(options.out / "metapseudo.json", result)
    (options.out / "metapseudo.md").write_text(as_markdown(result))
    print(as_markdown(result))


if __name__ == "__main__":
    main()
