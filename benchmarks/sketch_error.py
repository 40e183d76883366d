"""The error of sketched rows compared with exact ones, as a function of the sketch length d.

Eight heads on each family of models of the other benchmark of steps, at random init and after
100 steps of plain Adam on one batch. For 20 seeds of the sketch:
the largest error of a cosine between two tasks; the distance of the direction that MGDA (of l2
normalised gradients) finds from the exact one, relative to its length; and the smallest cosine of a
task with that direction, exact and sketched, which is negative where the promise that no loss rises
is broken. Medians over the seeds, with the worst in brackets. Time: one row of the MLP's 1.8
million numbers into a sketch of length d, one thread.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gradbalance as gb
from benchmarks.accuracy import Array
from benchmarks.environment import environment, heading
from benchmarks.results import write_json
from benchmarks.step_models import FAMILIES, Case
from gradbalance.gradients.sketch import Sketch

NUM_TASKS = 8
SIZES = (1024, 4096, 16384, 65536)
NUM_SEEDS = 20


def rows_of(case: Case) -> tuple[Array, list[list[torch.Tensor]]]:
    """The exact rows, as a float64 array [T, P] and as lists of tensors."""
    _, losses = case.losses()
    shared = list(case.trunk.parameters())
    rows = [list(torch.autograd.grad(loss, shared, retain_graph=True)) for loss in losses]
    flat = [torch.cat([g.flatten() for g in row]).double().numpy() for row in rows]
    return np.stack(flat), rows


def train(case: Case, num_steps: int) -> None:
    optimizer = torch.optim.Adam([*case.trunk.parameters(), *case.heads.parameters()], lr=1e-3)
    for _ in range(num_steps):
        optimizer.zero_grad()
        torch.stack(case.losses()[1]).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def errors(case: Case, size: int) -> dict[str, Any]:
    """The errors of all seeds at one sketch length."""
    jac, rows = rows_of(case)
    shared = list(case.trunk.parameters())
    exact_weights = _weights(jac @ jac.T)
    exact = jac.T @ exact_weights
    found: dict[str, list[float]] = {"cosine": [], "direction": [], "smallest": []}
    for seed in range(NUM_SEEDS):
        sketch = Sketch(size, seed=seed)
        short = np.stack([sketch.apply(row, shared).double().numpy() for row in rows])
        gram = short @ short.T
        direction = jac.T @ _weights(gram)
        found["cosine"].append(float(np.abs(_cosines(gram) - _cosines(jac @ jac.T)).max()))
        found["direction"].append(float(np.linalg.norm(direction - exact) / np.linalg.norm(exact)))
        found["smallest"].append(_smallest(jac, direction))
    return {**found, "exact_smallest": _smallest(jac, exact), "num_parameters": jac.shape[1]}


def _weights(gram: Array) -> Array:
    solver = gb.MGDA(normalization="l2")
    return solver.solve(gb.Problem.of(gram)).weights


def _cosines(gram: Array) -> Array:
    norms = np.sqrt(np.diagonal(gram))
    cosines: Array = gram / norms[:, None] / norms
    return cosines


def _smallest(jac: Array, direction: Array) -> float:
    norms = np.linalg.norm(jac, axis=1) * np.linalg.norm(direction)
    return float((jac @ direction / norms).min())


def row_ms(size: int) -> float:
    shared = list(FAMILIES["mlp"](1).trunk.parameters())
    sketch, row = Sketch(size), [torch.randn_like(p) for p in shared]
    times = []
    for _ in range(15):
        start = time.perf_counter()
        sketch.apply(row, shared)
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def as_markdown(result: dict[str, Any]) -> str:
    lines = heading("How far sketches lead", __doc__, result["environment"])
    lines += [
        "",
        "| model | d | cosine error | distance of the direction | smallest cosine (exact) |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for key, by_size in result["found"].items():
        for size, found in by_size.items():
            cells = [
                f"{np.median(found['cosine']):.3f} ({np.max(found['cosine']):.3f})",
                f"{np.median(found['direction']):.3f} ({np.max(found['direction']):.3f})",
                f"{np.median(found['smallest']):.3f} ({np.min(found['smallest']):.3f}); "
                f"{found['exact_smallest']:.3f}",
            ]
            lines.append(f"| {key} | {size} | {' | '.join(cells)} |")
    lines += ["", "| d | ms for a row |", "| ---: | ---: |"]
    lines += [f"| {size} | {ms:.1f} |" for size, ms in result["row_ms"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--families", nargs="*", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--steps", type=int, default=100, help="of plain training")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for family in options.families:
        torch.manual_seed(0)
        case = FAMILIES[family](NUM_TASKS)
        found[f"{family}, random init"] = {size: errors(case, size) for size in SIZES}
        train(case, options.steps)
        found[f"{family}, trained"] = {size: errors(case, size) for size in SIZES}
        print(f"{family}: done", flush=True)
    result = {
        "environment": environment(),
        "found": found,
        "row_ms": {size: row_ms(size) for size in SIZES},
    }
    write_json(options.out / "sketch_error.json", result)
    (options.out / "sketch_error.md").write_text(as_markdown(result))


if __name__ == "__main__":
    main()
