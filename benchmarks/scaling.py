"""Balanced steps on several ranks: network traffic and time, compared with plain DDP.

The MLP trunk of the benchmark of steps (1.8 million parameters, batch 256 in all), T heads, DDP
with gloo on this machine's loopback. Bytes are those of the loopback interface, measured, headers
and all, from each rank a step; they are ratios to plain DDP's with the same number of ranks. Times
are those of backward and averaging, medians over the steps of the slowest rank, likewise. All
ranks share this machine's cores, one thread each, so more ranks than cores say nothing about speed.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import gradbalance as gb
from benchmarks.environment import environment, heading
from benchmarks.results import write_json
from benchmarks.step_models import Case, mlp

WAYS = ("plain", "losses only", "representation", "shared-last", "sketch, d=4096", "shared")


class Model(nn.Module):
    """A case's trunk and heads in one module, as DDP needs it."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.trunk, self.heads = case.trunk, case.heads

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Return the heads' outputs."""
        z = self.trunk(inputs)
        return [head(z) for head in self.heads]


def balancer_of(way: str, case: Case) -> gb.Balancer | None:
    if way == "plain":
        return None
    if way == "losses only":
        return gb.Balancer(gb.Uniform(), gb.LossesOnly())
    sources: dict[str, gb.Source] = {
        "representation": gb.Representation(case.trunk),
        "shared-last": gb.SharedParameters(case.trunk, measure=case.last),
        "sketch, d=4096": gb.SharedParameters(case.trunk, sketch=4096),
        "shared": gb.SharedParameters(case.trunk),
    }
    return gb.Balancer(gb.MGDA(), sources[way])


def steps(way: str, num_tasks: int, num_steps: int) -> tuple[float, float]:
    """The median seconds and mean bytes of a step on this rank, without the first three steps."""
    torch.manual_seed(0)
    case = mlp(num_tasks)
    size, rank = dist.get_world_size(), dist.get_rank()
    model = DistributedDataParallel(Model(case)) if size > 1 else Model(case)
    balancer = balancer_of(way, case)
    inputs, targets = case.inputs[rank::size], case.targets[:, rank::size]
    seconds = []
    before = 0
    for index in range(num_steps + 3):
        if index == 3:
            dist.barrier()
            before = _bytes_on_loopback()
        case.forget()
        pairs = zip(model(inputs), targets, strict=True)
        losses = [(out.squeeze(1) - target).square().mean() for out, target in pairs]
        start = time.perf_counter()
        if balancer is None:
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        else:
            balancer.backward(losses)
        seconds.append(time.perf_counter() - start)
    dist.barrier()
    sent = (_bytes_on_loopback() - before) / num_steps / size
    return float(np.median(seconds[3:])), sent


def _bytes_on_loopback() -> int:
    lines = Path("/proc/net/dev").read_text().splitlines()
    loopback = next(line for line in lines if line.strip().startswith("lo:"))
    return int(loopback.split(":")[1].split()[0])


def _rank(rank: int, size: int, store: str, results: Any, tasks: list[int], num: int) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    found = {f"{way}/{t}": steps(way, t, num) for t in tasks for way in WAYS}
    results.put((rank, found))
    dist.barrier()
    dist.destroy_process_group()


def measure(size: int, tasks: list[int], num_steps: int) -> dict[str, dict[str, float]]:
    """The time of the slowest rank and the mean bytes per rank, by way and number of tasks."""
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        store = f"file://{folder}/store"
        ranks = [
            context.Process(target=_rank, args=(rank, size, store, results, tasks, num_steps))
            for rank in range(size)
        ]
        for process in ranks:
            process.start()
        found = [results.get(timeout=600)[1] for _ in ranks]
        for process in ranks:
            process.join(timeout=30)
    return {
        key: {
            "ms": 1e3 * max(one[key][0] for one in found),
            "bytes": float(np.mean([one[key][1] for one in found])),
        }
        for key in found[0]
    }


def as_markdown(result: dict[str, Any]) -> str:
    lines = heading("Balanced steps on several ranks", __doc__, result["environment"])
    lines += [
        f"- {os.cpu_count()} cores",
        "",
        "| ranks | T | way | MB | over DDP | ms | over DDP |",
    ]
    lines += ["| ---: | ---: | --- | ---: | ---: | ---: | ---: |"]
    for size, found in result["found"].items():
        for key, line in found.items():
            way, num_tasks = key.rsplit("/", 1)
            plain = found[f"plain/{num_tasks}"]
            sent = f"{line['bytes'] / plain['bytes']:.2f}" if int(size) > 1 else "–"
            megabytes = f"{line['bytes'] / 1e6:.2f}" if int(size) > 1 else "–"
            ratio = f"{line['ms'] / plain['ms']:.2f}"
            cells = [size, num_tasks, way, megabytes, sent, f"{line['ms']:.0f}", ratio]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ranks", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--tasks", nargs="*", type=int, default=[2, 4, 8])
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    options = parser.parse_args()
    found = {}
    for size in options.ranks:
        found[str(size)] = measure(size, options.tasks, options.steps)
        print(f"{size} ranks: done", flush=True)
    result = {"environment": environment(), "found": found}
    write_json(options.out / "scaling.json", result)
    (options.out / "scaling.md").write_text(as_markdown(result))


if __name__ == "__main__":
    main()
