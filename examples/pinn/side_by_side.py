"""Several runs at once, each in a process of its own, that tell how they stand."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from queue import Empty, Queue
from typing import Any

import torch

from examples.pinn.config import RunConfig
from examples.pinn.train import Record, Run, train


def train_side_by_side(
    configs: Sequence[RunConfig], show: Callable[[RunConfig, Record], None]
) -> list[Run]:
    """Train runs, as many at a time as there are cores, and return what came of them.

    Args:
        configs: The runs.
        show: Called here with each record of each run.
    """
    num = min(len(configs), os.cpu_count() or 1)
    context = get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(num, mp_context=context) as pool:
        records = manager.Queue()
        runs = [pool.submit(_train, config, records) for config in configs]
        while not all(run.done() for run in runs) or not records.empty():
            try:
                show(*records.get(timeout=0.1))
            except Empty:
                continue
        return [run.result() for run in runs]


def _train(config: RunConfig, records: "Queue[Any]") -> Run:
    torch.set_num_threads(1)  # more do not help a network of this size
    return train(config, lambda record: records.put((config, record)))
