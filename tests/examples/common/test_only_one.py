"""Two commands do not work in one place at the same time."""

import subprocess
import sys
from pathlib import Path

import pytest

from examples.common.only_one import only_one

HOLD = """
import sys
from pathlib import Path
from examples.common.only_one import only_one
with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_another_process_is_refused_until_the_first_is_gone(tmp_path: Path, kind: str) -> None:
    path = tmp_path if kind == "folder" else tmp_path / "results.jsonl"
    if kind == "file":
        path.touch()
    command = [sys.executable, "-c", HOLD, str(path)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(ValueError, match=r"another command is at work in .* --out"),
            only_one(path),
        ):
            pass
        other.kill()  # as a machine that goes down does: nothing is cleared away
        other.wait()
        with only_one(path):
            pass
    finally:
        other.kill()
        other.wait()
        for stream in (other.stdin, other.stdout):
            assert stream is not None
            stream.close()


def test_it_leaves_nothing_behind_and_can_be_had_again(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), only_one(tmp_path):
            raise KeyError
    with only_one(tmp_path), only_one(tmp_path / ".."):
        pass
    assert not list(tmp_path.iterdir())
