"""The cost of a balanced step on a GPU, compared with a plain step and with TorchJD.

One step is the backward part alone, from the losses to `.grad`, after a forward pass outside the
clock; the clock starts and stops with an idle GPU. All ways take turns on the same model. "floor"
is the T backwards through trunk and heads that any way to exact gradients has to do, whose results
are thrown away. Memory is the most that torch had allocated at once during forward and backward,
parameters aside, over that of the plain step. "waits" counts how often the host stopped for the GPU
within one step, as torch's sync debug mode sees it. Chunk T differentiates all tasks in one pass.

- resnet: ResNet-18's blocks for images of 32×32, 11.2 million parameters, batch 128.
- transformer: 6 encoder layers of width 512, 18.9 million parameters, 32 sequences of 128.

Float32, with TF32 in convolutions, as torch has it by default.
"""

import argparse
import time
import warnings
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
from benchmarks.timing import Spread, StepModel, as_text

EVERY = 10
NUM_WARM_UP = 5


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut = nn.Conv2d(before, width, 1, stride) if before != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class Means(nn.Module):
    """The mean of [B, S, C] over the positions S."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=1)


class Model(StepModel):
    """A trunk with one linear head per task."""

    def __init__(self, trunk: nn.Module, width: int, inputs: Tensor, num_tasks: int) -> None:
        device = inputs.device
        self.trunk, self.inputs = trunk.to(device), inputs
        self.heads = nn.ModuleList(nn.Linear(width, 10) for _ in range(num_tasks)).to(device)
        self.labels = torch.randint(10, (num_tasks, len(inputs)), device=device)

    def losses(self) -> tuple[Tensor, list[Tensor]]:
        z = self.trunk(self.inputs)
        pairs = zip(self.heads, self.labels, strict=True)
        return z, [nn.functional.cross_entropy(head(z), labels) for head, labels in pairs]


def resnet(num_tasks: int, device: torch.device) -> Model:
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
    ]
    before = 64
    for width in (64, 128, 256, 512):
        layers += [Block(before, width, 1 if width == 64 else 2), Block(width, width, 1)]
        before = width
    trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Model(trunk, 512, torch.randn(128, 3, 32, 32, device=device), num_tasks)


def transformer(num_tasks: int, device: torch.device) -> Model:
    layer = nn.TransformerEncoderLayer(512, 8, 2048, dropout=0.0, batch_first=True)
    trunk = nn.Sequential(nn.TransformerEncoder(layer, 6, enable_nested_tensor=False), Means())
    return Model(trunk, 512, torch.randn(32, 128, 512, device=device), num_tasks)


FAMILIES: dict[str, Callable[[int, torch.device], Model]] = {
    "resnet": resnet,
    "transformer": transformer,
}


def ways(model: Model) -> dict[str, Way]:
    """All ways to compute a step, by name; the first one is the plain step."""
    trunk, num_tasks = model.trunk, len(model.heads)
    shared = list(trunk.parameters())

    def plain(z: Tensor, losses: list[Tensor]) -> None:
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]

    def floor(z: Tensor, losses: list[Tensor]) -> None:
        for index, loss in enumerate(losses):
            own = [*shared, *model.heads[index].parameters()]
            torch.autograd.grad(loss, own, retain_graph=index + 1 < num_tasks)

    chunked = gb.SharedParameters(trunk, chunk_size=num_tasks)
    return {
        "plain": plain,
        "floor": floor,
        "losses only": balanced(gb.Uniform(), gb.LossesOnly()),
        "MGDA, representation": balanced(gb.MGDA(), gb.Representation()),
        "MGDA": balanced(gb.MGDA(), gb.SharedParameters(trunk)),
        "MGDA, found": balanced(gb.MGDA(), gb.SharedParameters()),
        "UPGrad": balanced(gb.UPGrad(), gb.SharedParameters(trunk)),
        "MGDA, chunk T": balanced(gb.MGDA(), chunked),
        f"MGDA, every={EVERY}": balanced(gb.MGDA(), gb.SharedParameters(trunk), every=EVERY),
        **_peer(shared, num_tasks),
    }


def _peer(shared: list[nn.Parameter], num_tasks: int) -> dict[str, Way]:
    if find_spec("torchjd") is None:
        return {}
    one_by_one = {f"TorchJD, {n}": torchjd(shared, n) for n in ("Mean", "MGDA", "UPGrad")}
    return one_by_one | {"TorchJD, Mean, chunk T": torchjd(shared, "Mean", chunk=num_tasks)}


def measure(family: str, num_tasks: int, num_turns: int, device: torch.device) -> dict[str, Any]:
    """The times, peak memory and host waits of all ways, by name."""
    torch.manual_seed(0)
    model = FAMILIES[family](num_tasks, device)
    failed: dict[str, str] = {}
    seconds: dict[str, list[float]] = {}
    peaks: dict[str, int] = {}
    made = ways(model)
    for turn in range(-NUM_WARM_UP, num_turns):
        for name, way in made.items():
            if name in failed:
                continue
            try:
                took = [_step(model, way) for _ in range(EVERY if "every" in name else 1)]
            except Exception as error:  # whatever a package raises counts as its failure
                failed[name] = f"{type(error).__name__}: {error}".split("\n")[0][:200]
                continue
            if turn >= 0:
                seconds.setdefault(name, []).append(float(np.mean([s for s, _ in took])))
                peaks[name] = max(peak for _, peak in took)
    plain, floor = np.array(seconds["plain"]), np.array(seconds["floor"])
    return {
        name: {"failed": failed[name]}
        if name in failed
        else {
            "ms": vars(Spread.of([1e3 * s for s in seconds[name]])),
            "over_plain": vars(Spread.of(list(np.array(seconds[name]) / plain))),
            "over_floor": vars(Spread.of(list(np.array(seconds[name]) / floor))),
            "peak_over_plain": peaks[name] / peaks["plain"],
            "waits": _waits(model, way),
        }
        for name, way in made.items()
    }


def _step(model: Model, way: Way) -> tuple[float, int]:
    """Seconds and peak memory of one step."""
    model.forget()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    z, losses = model.losses()
    torch.cuda.synchronize()
    start = time.perf_counter()
    way(z, losses)
    torch.cuda.synchronize()
    took = time.perf_counter() - start
    return took, torch.cuda.max_memory_allocated() - before


def _waits(model: Model, way: Way) -> int:
    model.forget()
    z, losses = model.losses()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            way(z, losses)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in found)


def as_markdown(result: dict[str, Any]) -> str:
    lines = heading("Balanced steps on a GPU", __doc__, result["environment"])
    lines += [f"- GPU: {result['gpu']}", f"- {result['turns']} turns"]
    for key, found in result["found"].items():
        family, num_tasks = key.split("/")
        lines += ["", f"## {family}, T = {num_tasks}", ""]
        lines.append("| way | ms | over plain | over the floor | memory over plain | waits |")
        lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
        for name, line in found.items():
            if "failed" in line:
                lines.append(f"| {name} | failed: {line['failed']} | | | | |")
                continue
            cells = [as_text(line["ms"], ".2f"), f"{line['over_plain']['median']:.2f}"]
            cells += [f"{line['over_floor']['median']:.2f}", f"{line['peak_over_plain']:.2f}"]
            lines.append(f"| {name} | {' | '.join(cells)} | {line['waits']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--turns", type=int, default=50, help="steps of each way")
    parser.add_argument("--families", nargs="*", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--tasks", nargs="*", type=int, default=[2, 4, 8])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch finds no CUDA device")
    torch.set_num_threads(1)
    device = torch.device("cuda")
    found = {}
    for family in options.families:
        for num_tasks in options.tasks:
            start = time.perf_counter()
            found[f"{family}/{num_tasks}"] = measure(family, num_tasks, options.turns, device)
            print(f"{family}, T = {num_tasks}: {time.perf_counter() - start:.0f} s", flush=True)
    result = {
        "environment": environment(),
        "gpu": f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}",
        "turns": options.turns,
        "found": found,
    }
    write_json(options.out / "gpu_steps.json", result)
    (options.out / "gpu_steps.md").write_text(as_markdown(result))


if __name__ == "__main__":
    main()
