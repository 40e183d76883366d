"""A reader finds the method without passing the study."""

import re
from pathlib import Path

import examples.mpssl

FOLDER = Path(examples.mpssl.__file__).parent


def test_the_package_says_what_is_in_it() -> None:
    named = set(re.findall(r"``(\w+)``", examples.mpssl.__doc__ or ""))
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "__main__"}
    folders = {path.parent.name for path in FOLDER.glob("*/__init__.py")}
    assert named == files | folders


def test_neither_the_method_nor_the_command_line_knows_the_study() -> None:
    for path in (*FOLDER.glob("*.py"), *FOLDER.glob("run/*.py")):
        assert "mpssl.study" not in path.read_text(), path.name
