"""Stores results as JSON lines; a stored run is not repeated, so a study can be interrupted."""

import json
import multiprocessing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.tasks.run import Record, Run, perform

_FIELDS = tuple(field.name for field in fields(Run))


class Store:
    """A file of records, one per line.

    Args:
        path: the file; it is created with the first record.
        data: the images, see `perform`.
        num_jobs: number of processes, with one thread each.
    """

    def __init__(self, path: Path, *, data: Path | None = None, num_jobs: int = 1) -> None:
        self._path = path
        self._data = data
        self._num_jobs = num_jobs
        self._found = {_key(record): record for record in _lines(path)}

    def __getitem__(self, run: Run) -> Record:
        """The record of a finished run."""
        return self._found[_key(asdict(run))]

    def do(self, runs: Iterable[Run]) -> None:
        """Do the runs that are not stored yet, and store each one as soon as it is finished.

        A run with an error counts as done; to try it again, remove its line from the file.
        """
        missing = [run for run in dict.fromkeys(runs) if _key(asdict(run)) not in self._found]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for number, record in enumerate(self._performed(missing), 1):
            self._found[_key(record)] = record
            with self._path.open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(f"{number}/{len(missing)}  {_as_text(record)}", flush=True)

    def _performed(self, runs: Sequence[Run]) -> Iterator[Record]:
        one = partial(perform, data=self._data)
        if self._num_jobs == 1 or len(runs) < 2:
            yield from map(one, runs)
            return
        # With fork, the processes share the data loaded here; otherwise each one loads its own.
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("fork" if "fork" in methods else None)
        with ProcessPoolExecutor(
            self._num_jobs, context, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            yield from pool.map(one, runs)


def _key(record: Mapping[str, Any]) -> str:
    return json.dumps([record[name] for name in _FIELDS])


def _lines(path: Path) -> list[Record]:
    """The records of a file; an incomplete last line is removed."""
    if not path.exists():
        return []
    found = []
    text = path.read_text()
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            found.append(json.loads(line))
        else:
            path.write_text(text.removesuffix(line))
    return found


def _as_text(record: Record) -> str:
    alone = f" ({record['tasks'][0]} alone)" if len(record["tasks"]) == 1 else ""
    what = f"{record['suite']}: {record['solver']}{alone}, {record['rate']:g}, {record['seed']}"
    if "error" in record:
        return f"{what}: {record['error']}"
    return what + "".join(f"  {name} {value:.4g}" for name, value in record["test"].items())
