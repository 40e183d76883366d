"""Several runs in parallel, each in its own process, which report their progress."""

import os
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from queue import Queue
from typing import Any

import torch

from examples.common.processes import as_done
from examples.pinn.config import RunConfig
from examples.pinn.train import Record, Run, train


def train_side_by_side(
    configs: Sequence[RunConfig], show: Callable[[RunConfig, Record], None]
) -> list[Run]:
    """Train runs, as many at a time as there are cores, and return the finished runs.

    Args:
        configs: The configurations of the runs.
        show: Called in this process with each record of each run.
    """
    jobs = min(len(configs), os.cpu_count() or 1)
    with get_context("spawn").Manager() as manager:
        records = manager.Queue()

        def show_records() -> None:
            while not records.empty():
                show(*records.get())

        calls = [(config, records) for config in configs]
        runs = {
            run.config: run for run in as_done(_train, calls, jobs=jobs, meanwhile=show_records)
        }
    return [runs[config] for config in configs]


def _train(config: RunConfig, records: "Queue[Any]") -> Run:
    torch.set_num_threads(1)  # more threads do not help with such a small network
    return train(config, lambda record: records.put((config, record)))
