"""The code in README and docs runs, block after block of a page in one namespace."""

import ast
import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import gradbalance as gb

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/*.md")))]
FRAMEWORKS = [str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/frameworks/*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_page(page: str, module: types.ModuleType) -> None:
    text = (ROOT / page).read_text()
    for match in BLOCK.finditer(text):
        line = text[: match.start()].count("\n") + 1
        code = compile("\n" * line + match[1], str(ROOT / page), "exec")
        exec(code, vars(module))


@pytest.mark.parametrize("page", PAGES)
def test_the_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # where pickle looks for its classes
    run_page(page, module)


@pytest.mark.parametrize("page", [*PAGES, *FRAMEWORKS])
def test_links_lead_somewhere(page: str):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), target


def add_once(file: Path, before: str, added: str):
    text = file.read_text()
    assert text.count(before) == 1, before
    file.write_text(text.replace(before, before + added))


def test_following_the_guide_to_a_new_solver_gives_a_package_that_works(tmp_path: Path):
    """What the page says, in a copy of the package; then what our tests and the linter say."""
    package = tmp_path / "gradbalance"
    shutil.copytree(ROOT / "gradbalance", package, ignore=shutil.ignore_patterns("__pycache__"))
    page = (ROOT / "docs/adding-a-solver.md").read_text()
    match = BLOCK.search(page)
    assert match
    path, text = match[1].split("\n", 1)
    file = tmp_path / path.removeprefix("# ")
    file.write_text(text)

    inner, outer = package / "solvers/__init__.py", package / "__init__.py"
    import_line = re.search(r"`(from gradbalance\.solvers\.\w+ import EqualNorm)`", page)
    assert import_line, "the page no longer says what to import"
    add_once(inner, "import UW\n", f"{import_line[1]}\n")
    add_once(outer, "from gradbalance.solvers import (\n", "    EqualNorm,\n")
    for init in (inner, outer):
        add_once(init, "__all__ = [\n", '    "EqualNorm",\n')

    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    names = shutil.copy(ROOT / "tests/test_public_names.py", tmp_path)
    pytest_here = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    commands = [
        ["-c", f"import gradbalance as gb; assert gb.__file__ == {str(outer)!r}; gb.EqualNorm()"],
        [*pytest_here, str(file)],
        [*pytest_here, str(names), "-k", "EqualNorm or reference or sorted or point_down"],
    ]
    if importlib.util.find_spec("ruff"):
        commands += [
            ["-m", "ruff", "check", str(file)],
            ["-m", "ruff", "format", "--check", str(file)],
            ["-m", "ruff", "check", "--fix", str(package)],
            ["-m", "ruff", "format", str(package)],
        ]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for command in commands:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_defaults_that_are_listed_are_ours():
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", (ROOT / "docs/defaults.md").read_text(), re.M)
    checked = 0
    for methods, ours in rows:
        for method in re.findall(r"`(\w+)`", methods):
            known = inspect.signature(getattr(gb, method)).parameters
            for option, value in re.findall(r"`(\w+)=([^`]+)`", ours):
                assert known[option].default == ast.literal_eval(value), (method, option)
                checked += 1
    assert checked > 8
