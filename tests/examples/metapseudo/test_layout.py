"""A reader finds the method without passing the command line and the study."""

import re
from pathlib import Path

import pytest

import examples.metapseudo

FOLDER = Path(examples.metapseudo.__file__).parent


def imported(path: Path) -> set[str]:
    """The parts of the example that a file imports."""
    found = re.findall(
        r"^ *(?:from|import) examples\.metapseudo(?:\.(\w+)| import (.+)$)",
        path.read_text(),
        re.MULTILINE,
    )
    return {name for pair in found for part in pair for name in re.findall(r"\w+", part)}


def test_the_package_says_what_is_in_it() -> None:
    named = set(re.findall(r"``(\w+)``", examples.metapseudo.__doc__ or ""))
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "__main__"}
    folders = {path.parent.name for path in FOLDER.glob("*/__init__.py")}
    assert named == files | folders


def test_nothing_but_the_study_knows_the_study() -> None:
    for path in FOLDER.rglob("*.py"):
        if path.parent.name != "study":
            assert "study" not in imported(path), path
    assert "study" in imported(FOLDER / "study" / "__main__.py")


@pytest.mark.parametrize("folder", [".", "data", "generators"])
def test_the_method_does_not_know_the_command_line(folder: str) -> None:
    for path in (FOLDER / folder).glob("*.py"):
        if path.name != "__main__.py":
            assert "run" not in imported(path), path
    assert "run" in imported(FOLDER / "__main__.py")
