"""The cost of a balanced step on small models, where overhead dominates and not arithmetic.

One step is the backward part alone, from the losses to `.grad`, after a forward pass outside the
clock. All ways take turns on the same model. "floor" is what any way to exact gradients has to do:
T backwards by `torch.autograd.grad`, whose results are thrown away. Microseconds are medians, with
the 20th percentile in brackets; ratios are medians, of the same turn. Float32, one thread. TorchJD
differentiates the tasks one by one (chunk 1), which was its fastest here.

- mlp: 3 layers of 64, batch 32, a linear head a task.
- conv: 2 layers of 16 channels, 16 images of 16×16, a linear head a task.
- pinn: 3 layers of 50 in two variables, all shared: the Laplace equation at 128 points, which takes
  second derivatives, and T − 1 parts of the boundary.
"""

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gradbalance as gb
from benchmarks.environment import environment, heading
from benchmarks.results import write_json
from benchmarks.step_ways import Way, balanced, torchjd
from benchmarks.timing import Spread, StepModel, seconds_of_step

EVERY = 10
Losses = tuple[Tensor | None, list[Tensor]]


class Small(StepModel):
    """A small model; `losses()` returns the representation (None if all is shared) and losses."""

    def __init__(self, trunk: nn.Module, heads: list[nn.Module], inputs: Tensor) -> None:
        self.trunk, self.heads, self.inputs = trunk, nn.ModuleList(heads), inputs

    def losses(self) -> Losses:
        z = self.trunk(self.inputs)
        return z, [(head(z) - i).square().mean() for i, head in enumerate(self.heads)]


class Pinn(Small):
    """A network u(x, y) for the Laplace equation."""

    def __init__(self, num_tasks: int) -> None:
        layers = [nn.Linear(2, 50), nn.Tanh(), nn.Linear(50, 50), nn.Tanh(), nn.Linear(50, 50)]
        trunk = nn.Sequential(*layers, nn.Tanh(), nn.Linear(50, 1))
        super().__init__(trunk, [], torch.rand(128, 2))
        self.edges = torch.rand(num_tasks - 1, 32, 2)

    def losses(self) -> Losses:
        x = self.inputs.clone().requires_grad_()
        slopes = torch.autograd.grad(self.trunk(x).sum(), x, create_graph=True)[0]
        curvature: Tensor | float = 0.0
        for axis in range(2):
            second = torch.autograd.grad(slopes[:, axis].sum(), x, create_graph=True)[0]
            curvature = curvature + second[:, axis]
        residual = torch.as_tensor(curvature).square().mean()
        return None, [residual, *((self.trunk(e) - 1.0).square().mean() for e in self.edges)]


def mlp(num_tasks: int) -> Small:
    layers: list[nn.Module] = []
    for size in (16, 64, 64):
        layers += [nn.Linear(size, 64), nn.ReLU()]
    heads: list[nn.Module] = [nn.Linear(64, 1) for _ in range(num_tasks)]
    return Small(nn.Sequential(*layers), heads, torch.randn(32, 16))


def conv(num_tasks: int) -> Small:
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2), nn.ReLU()]
    trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())
    heads: list[nn.Module] = [nn.Linear(64, 1) for _ in range(num_tasks)]
    return Small(trunk, heads, torch.randn(16, 3, 16, 16))


FAMILIES: dict[str, Callable[[int], Small]] = {"mlp": mlp, "conv": conv, "pinn": Pinn}


def ways(model: Small) -> dict[str, Way]:
    """All ways to compute a step, by name; the first one is the plain step."""
    shared = list(model.trunk.parameters())

    def plain(z: Tensor | None, losses: list[Tensor]) -> None:
        sum(losses[1:], losses[0]).backward()  # type: ignore[no-untyped-call]

    def floor(z: Tensor | None, losses: list[Tensor]) -> None:
        for index, loss in enumerate(losses):
            own = list(model.heads[index].parameters()) if len(model.heads) else []
            kept = index + 1 < len(losses)
            torch.autograd.grad(loss, [*shared, *own], retain_graph=kept, allow_unused=True)

    found = {
        "plain": plain,
        "floor": floor,
        "losses only": balanced(gb.Uniform()),
        "MGDA, named": balanced(gb.MGDA(), gb.SharedParameters(model.trunk)),
        "MGDA, found": balanced(gb.MGDA()),
        "UPGrad, named": balanced(gb.UPGrad(), gb.SharedParameters(model.trunk)),
        f"MGDA, every={EVERY}": balanced(gb.MGDA(), gb.SharedParameters(model.trunk), every=EVERY),
    }
    if len(model.heads):
        found["MGDA, representation"] = balanced(gb.MGDA(), gb.Representation())
    return {**found, **_peer(shared)}


def _peer(shared: list[nn.Parameter]) -> dict[str, Way]:
    if find_spec("torchjd") is None:
        return {}
    return {f"TorchJD, {name}": torchjd(shared, name) for name in ("Mean", "MGDA", "UPGrad")}


def measure(family: str, num_tasks: int, num_turns: int) -> dict[str, dict[str, Any]]:
    """The times of all ways, by name."""
    torch.manual_seed(0)
    model = FAMILIES[family](num_tasks)
    made = ways(model)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(-20, num_turns):
        for name, way in made.items():
            took = seconds_of_step(model, way)
            if turn >= 0:
                seconds[name].append(took)
    times = {name: np.array(found) for name, found in seconds.items()}
    return {
        name: {
            "us": 1e6 * float(np.median(found)),
            "us_20th": 1e6 * float(np.percentile(found, 20)),
            "us_over_floor": 1e6 * float(np.median(found - times["floor"])),
            "us_over_plain": 1e6 * float(np.median(found - times["plain"])),
            "over_plain": vars(Spread.of(list(found / times["plain"]))),
            **{
                f"over_{peer}": float(np.median(found / times[f"TorchJD, {peer}"]))
                for peer in ("Mean", "MGDA", "UPGrad")
                if f"TorchJD, {peer}" in times
            },
        }
        for name, found in times.items()
    }


def as_markdown(result: dict[str, Any]) -> str:
    lines = heading("Balanced steps on small models", __doc__, result["environment"])
    lines += [f"- {result['turns']} turns"]
    for key, found in result["found"].items():
        family, num_tasks = key.split("/")
        has_peer = "TorchJD, Mean" in found
        peers = ["over TorchJD's mean", "MGDA", "UPGrad"] if has_peer else []
        header = ["way", "µs", "over plain", "µs over the floor", *peers]
        lines += ["", f"## {family}, T = {num_tasks}", "", f"| {' | '.join(header)} |"]
        lines.append(f"| --- |{' ---: |' * (len(header) - 1)}")
        for name, line in found.items():
            cells = [
                f"{line['us']:.0f} ({line['us_20th']:.0f})",
                f"{line['over_plain']['median']:.2f}",
                f"{line['us_over_floor']:.0f}",
            ]
            cells += [f"{line[f'over_{p}']:.2f}" for p in ("Mean", "MGDA", "UPGrad") if has_peer]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--turns", type=int, default=150, help="steps of each way")
    parser.add_argument("--families", nargs="*", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--tasks", nargs="*", type=int, default=[2, 4, 8, 16])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for family in options.families:
        for num_tasks in options.tasks:
            found[f"{family}/{num_tasks}"] = measure(family, num_tasks, options.turns)
            print(f"{family}, T = {num_tasks}: done", flush=True)
    result = {"environment": environment(), "turns": options.turns, "found": found}
    write_json(options.out / "small_steps.json", result)
    (options.out / "small_steps.md").write_text(as_markdown(result))


if __name__ == "__main__":
    main()
