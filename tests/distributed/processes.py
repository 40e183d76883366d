"""Starts the ranks of a test on this machine, with gloo, and waits for them for a limited time."""

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist

NEEDS_FSDP2 = pytest.mark.skipif(
    not hasattr(torch.cpu.Stream, "record_event"),
    reason="FSDP2 of this torch does not run on a CPU, with or without a Balancer",
)
TIMEOUT = 300  # seconds until a test fails; ranks that wait for one another give up earlier
GROUP_TIMEOUT = 60


def run(size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What a function returned on each rank; an error on one is an error here.

    Args:
        size: number of ranks.
        function: of a module; called with `args` in every process of a group of this size.
        args: what it is called with.
    """
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            context.Process(
                target=_rank, args=(rank, size, Path(folder) / "store", results, function, args)
            )
            for rank in range(size)
        ]
        for process in ranks:
            process.start()
        try:
            found = [results.get(timeout=TIMEOUT) for _ in ranks]
        finally:
            for process in ranks:
                process.join(timeout=5)
                process.kill()
    errors = [f"rank {rank}:\n{error}" for rank, _, error in sorted(found, key=_first) if error]
    if errors:
        raise AssertionError("\n".join(errors))
    return [value for _, value, _ in sorted(found, key=_first)]


def run_cases(size: int, cases: Sequence[Callable[[], Any]]) -> Callable[..., list[Any]]:
    """What gives a case's results by rank; ranks are started once, and do all cases in turn.

    Args:
        size: number of ranks.
        cases: functions of a module.
    """
    done = run(size, _all_of, cases)
    return lambda case: [results[cases.index(case)] for results in done]


def _all_of(cases: Sequence[Callable[[], Any]]) -> list[Any]:
    return [case() for case in cases]


@contextmanager
def as_one_process_of_many() -> Iterator[None]:
    """What `torchrun` tells a process, for frameworks that read it."""
    rank, size = str(dist.get_rank()), str(dist.get_world_size())
    told = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
        "TORCHELASTIC_RUN_ID": "tests",
    }
    with mock.patch.dict(os.environ, told):
        yield


def _first(result: tuple[int, Any, Any]) -> int:
    return result[0]


def _rank(rank: int, size: int, store: Path, results: Any, function: Any, args: Any) -> None:
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=GROUP_TIMEOUT),
        )
        value, error = function(*args), None
    except BaseException:
        value, error = None, traceback.format_exc()
    results.put((rank, value, error))
    if dist.is_initialized():
        dist.destroy_process_group()
