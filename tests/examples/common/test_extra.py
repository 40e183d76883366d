"""Without the extra, the examples say how to install it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RUN = """
import runpy, sys
module, missing = sys.argv[1:]
sys.modules[missing] = None  # as if it were not installed
sys.argv = [module]
runpy.run_module(module, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("module", "missing"),
    [
        ("examples.mpssl", "typer"),
        ("examples.mpssl", "kornia"),
        ("examples.mpssl.study", "typer"),
        ("examples.pinn", "typer"),
        ("examples.pinn", "matplotlib"),
        ("examples.pinn.study", "typer"),
        ("examples.metapseudo", "typer"),
        ("examples.metapseudo.study", "typer"),
    ],
)
def test_what_is_missing_is_named_and_how_to_install_it(module: str, missing: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, module, missing], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(rf"'{missing}'.* extra 'example'", done.stderr)
    assert 'pip install -e ".[example]"' in done.stderr


def test_what_is_missing_for_another_reason_is_an_error_as_usual() -> None:
    from examples.common.extra import needs_the_extra

    with pytest.raises(ModuleNotFoundError, match="no_such_module"), needs_the_extra():
        import no_such_module  # noqa: F401


def test_the_extra_is_the_projects() -> None:
    from examples.common.extra import IN_EXTRA

    text = (ROOT / "pyproject.toml").read_text()
    listed = [re.search(rf"(?ms)^{key} = \[(.*?)\]$", text) for key in LISTS]
    named = {name for found in listed if found for name in re.findall(r'"([\w-]+)[>"]', found[1])}
    assert set(IN_EXTRA.values()) == named


LISTS = ("dependencies", "plots", "example")
