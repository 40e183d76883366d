"""The training loop of the README, and the same loop with other solvers.

The README's own code, run with 20 seeds, for its 10 steps and for 300; in "sum" its one line is as
it was before. After it each task's loss on 4,096 fresh samples: mean ± standard deviation over the
seeds, and in brackets the mean difference from the sum on the same seeds with its 95 % confidence
interval (Student's). The two losses are of two rows of one layer, so their gradients are orthogonal
and never conflict; that of the second, a mean of absolute values, does not fade as it nears 0.
"""

import argparse
import contextlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.environment import environment, heading
from benchmarks.results import write_json
from gradbalance.numerics.intervals import half_width

README = Path(__file__).parents[1] / "README.md"
LENGTHS = (10, 300)
NUM_SEEDS = 20
SUM = "sum"
METHODS = {
    "UPGrad, scale='norm' (README)": "gb.Balancer(gb.UPGrad(), scale='norm')",
    "AlignedMTL, scale='norm'": "gb.Balancer(gb.AlignedMTL(), scale='norm')",
    "NashMTL, scale='norm'": "gb.Balancer(gb.NashMTL(), scale='norm')",
    "MGDA, scale='norm'": "gb.Balancer(gb.MGDA(), scale='norm')",
    "MGDA": "gb.Balancer(gb.MGDA())",
}


def code(method: str, num_steps: int) -> str:
    """The README's first Python block, with another balancer or another number of steps."""
    found = re.search(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    text = _replaced(found[1], r"torch\.randn\(10, ", f"torch.randn({num_steps}, ")
    if method == SUM:
        text = _replaced(text, r"loss = balancer\(losses\)", "loss = sum(losses.values())")
        return _replaced(text, r"^print.*\n", "")
    return _replaced(text, r"gb\.Balancer\(.*\)$", METHODS[method])


def _replaced(text: str, pattern: str, by: str) -> str:
    text, count = re.subn(pattern, by, text, flags=re.MULTILINE)
    assert count == 1, f"the README's code has {count} times {pattern}"
    return text


def final_losses(method: str, num_steps: int, seed: int) -> dict[str, float]:
    """Each task's loss on fresh samples after the loop."""
    torch.manual_seed(seed)
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code(method, num_steps), names)
    x = torch.randn(4096, 4, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        y = names["model"](x)
        return {
            "depth": float((y[:, 0] - x.sum(1)).square().mean()),
            "seg": float(y[:, 1].abs().mean()),
        }


def measure(num_seeds: int) -> dict[str, dict[str, list[dict[str, float]]]]:
    return {
        str(length): {
            method: [final_losses(method, length, seed) for seed in range(num_seeds)]
            for method in (SUM, *METHODS)
        }
        for length in LENGTHS
    }


def as_markdown(result: dict[str, Any]) -> str:
    lines = heading("The README's loop over seeds", __doc__, result["environment"])
    for length, runs in result["found"].items():
        lines += ["", f"## {length} steps", "", "| method | depth | seg |", "| --- | ---: | ---: |"]
        for method, found in runs.items():
            cells = []
            for task in ("depth", "seg"):
                values = np.array([run[task] for run in found])
                cell = f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"
                if method != SUM:
                    others = np.array([run[task] for run in runs[SUM]])
                    difference, half = (values - others).mean(), half_width(values - others)
                    cell += f" ({difference:+.3f} ± {half:.3f})"
                cells.append(cell)
            lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS, help="number of seeds")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {"environment": environment(), "found": measure(options.seeds)}
    write_json(options.out / "readme_loop.json", result)
    (options.out / "readme_loop.md").write_text(as_markdown(result))
    print(as_markdown(result))


if __name__ == "__main__":
    main()
