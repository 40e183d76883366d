"""One command at a time in a folder, or at a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no fcntl: there no command is refused
    fcntl = None  # type: ignore[assignment]


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Lock a folder or a file while the body runs; other commands are refused meanwhile.

    The system releases the lock when the process ends, however it ends, and no file is left behind.

    Args:
        path: The folder or file; it must exist.

    Raises:
        ValueError: Another command has locked it.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        _hold(handle, path)
        yield
    finally:
        os.close(handle)


def _hold(handle: int, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(
            f"another command is at work in {str(path)!r}: wait until it is done, or give another "
            "--out"
        ) from error
    except OSError:
        return  # some network file systems support no locks
