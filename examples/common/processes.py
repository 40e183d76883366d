"""Many calls in processes of their own."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any, TypeVar

_Result = TypeVar("_Result")

_PAUSE = 0.1  # seconds between two calls of what is done meanwhile


def as_done(
    function: Callable[..., _Result],
    arguments: Iterable[tuple[Any, ...]],
    *,
    jobs: int,
    meanwhile: Callable[[], None] | None = None,
) -> Iterator[_Result]:
    """Call a function in processes, and yield what it returns as it comes.

    Where a call fails, or nobody asks for more results, the calls that wait are not begun; those
    that have begun are waited for.

    Args:
        function: To be found by its module and name, as what it is given and returns is pickled.
        arguments: Those of each call.
        jobs: Number of processes.
        meanwhile: Called here now and then, and once more when all is done.
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
        except BaseException:  # a generator that is not read to its end is closed by one, too
            pool.shutdown(cancel_futures=True)
            raise
