from concurrent.futures import Executor, ThreadPoolExecutor

import pytest

from examples.common import processes


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are done here, one by one, as torch's number of threads is global."""

    def executor(jobs: int, mp_context: object) -> Executor:
        return ThreadPoolExecutor(1)

    monkeypatch.setattr(processes, "ProcessPoolExecutor", executor)
