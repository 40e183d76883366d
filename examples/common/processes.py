"""Many function calls in separate processes."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any, TypeVar

_Result = TypeVar("_Result")

_PAUSE = 0.1  # seconds between two calls of `meanwhile`


def as_done(
    function: Callable[..., _Result],
    arguments: Iterable[tuple[Any, ...]],
    *,
    jobs: int,
    meanwhile: Callable[[], None] | None = None,
) -> Iterator[_Result]:
    """Call a function in several processes, and yield each result as soon as it is there.

    If a call fails, or the caller asks for no more results, the waiting calls are not started. The
    calls that already run are waited for.

    Args:
        function: The function. It, its arguments and its results are pickled, so it must be
            importable by its module and name.
        arguments: The arguments of each call.
        jobs: Number of processes.
        meanwhile: Called in this process from time to time, and once more at the end.
    """
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(function, *each) for each in arguments}
        try:
            while waiting:
                pause = None if meanwhile is None else _PAUSE
                done, waiting = wait(waiting, timeout=pause, return_when=FIRST_COMPLETED)
                if meanwhile is not None:
                    meanwhile()
                for future in done:
                    yield future.result()
        except BaseException:  # includes GeneratorExit, if the results are not read to the end
            pool.shutdown(cancel_futures=True)
            raise
