"""In each example, a reader finds the method without passing the command line and the study."""

import re
from pathlib import Path
from types import ModuleType

import pytest

from examples import metapseudo, mpssl, pinn

EXAMPLES = (mpssl, metapseudo, pinn)
every = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.__name__)


def folder_of(example: ModuleType) -> Path:
    assert example.__file__ is not None
    return Path(example.__file__).parent


def imported(path: Path, example: ModuleType) -> set[str]:
    """The parts of the example that a file imports."""
    found = re.findall(
        rf"^ *(?:from|import) {re.escape(example.__name__)}(?:\.(\w+)| import (.+)$)",
        path.read_text(),
        re.MULTILINE,
    )
    return {name for pair in found for part in pair for name in re.findall(r"\w+", part)}


@every
def test_the_package_says_what_is_in_it(example: ModuleType) -> None:
    folder = folder_of(example)
    named = set(re.findall(r"``(\w+)``", example.__doc__ or ""))
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    folders = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert named == files | folders


@every
def test_nothing_but_the_study_knows_the_study(example: ModuleType) -> None:
    folder = folder_of(example)
    for path in folder.rglob("*.py"):
        if path.parent.name != "study":
            assert "study" not in imported(path, example), path
            assert f"{example.__name__}.study" not in path.read_text(), path
    assert "study" in imported(folder / "study" / "__main__.py", example)


@pytest.mark.parametrize("name", [".", "data", "generators"])
def test_the_method_does_not_know_the_command_line(name: str) -> None:
    folder = folder_of(metapseudo)
    for path in (folder / name).glob("*.py"):
        if path.name != "__main__.py":
            assert "run" not in imported(path, metapseudo), path
    assert "run" in imported(folder / "__main__.py", metapseudo)
