"""Results come as soon as they are ready, and calls that are no longer needed are not started."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.common.processes import as_done

NUM = 12


def noted(folder: Path, number: int) -> tuple[int, int]:
    (folder / str(number)).touch()
    if number == 1:
        raise ValueError("the call with 1 fails")
    time.sleep(0.05)
    return number, os.getpid()


def test_every_result_comes_from_another_process(tmp_path: Path) -> None:
    calls = [(tmp_path, number) for number in (0, 2, 3)]
    found = dict(as_done(noted, calls, jobs=2))
    assert sorted(found) == [0, 2, 3]
    assert os.getpid() not in found.values()


def all_of(folder: Path) -> None:
    for _ in as_done(noted, [(folder, number) for number in range(NUM)], jobs=1):
        pass


def the_first_of(folder: Path) -> None:
    for number, _ in as_done(noted, [(folder, 10 + number) for number in range(NUM)], jobs=1):
        raise ValueError(f"after the call with {number}")


@pytest.mark.parametrize("ask", [all_of, the_first_of])
def test_where_one_fails_the_others_are_not_begun(
    tmp_path: Path, ask: Callable[[Path], None]
) -> None:
    with pytest.raises(ValueError, match="the call with 1"):
        ask(tmp_path)
    begun = len(list(tmp_path.iterdir()))
    assert 1 <= begun < NUM - 2  # some wait in the queue of the processes, and are done
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == begun


def test_what_is_done_meanwhile_is_done_to_the_end(tmp_path: Path) -> None:
    seen = []
    calls = [(tmp_path, number) for number in (0, 2, 3)]
    numbers = [
        number
        for number, _ in as_done(
            noted, calls, jobs=1, meanwhile=lambda: seen.append(len(list(tmp_path.iterdir())))
        )
    ]
    assert sorted(numbers) == [0, 2, 3]
    assert seen[-1] == 3
