"""The code in README and docs runs, block after block of a page in one namespace."""

import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/*.md")))]
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


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), target


def with_name(text: str, module: str, name: str) -> str:
    """A package's `__init__.py` with one more name, imported and in the list."""
    text = text.replace("\n__all__ = [\n", f"\nfrom {module} import {name}\n\n__all__ = [\n", 1)
    return text.replace("\n__all__ = [\n", f'\n__all__ = [\n    "{name}",\n', 1)


def test_following_the_guide_to_a_new_solver_gives_a_package_that_works(tmp_path: Path):
    package = tmp_path / "gradbalance"
    shutil.copytree(ROOT / "gradbalance", package, ignore=shutil.ignore_patterns("__pycache__"))
    match = BLOCK.search((ROOT / "docs/adding-a-solver.md").read_text())
    assert match
    path, text = match[1].split("\n", 1)
    file = tmp_path / path.removeprefix("# ")
    file.write_text(text)
    module = ".".join(file.relative_to(tmp_path).with_suffix("").parts)
    for folder, source in ((package / "solvers", module), (package, "gradbalance.solvers")):
        init = folder / "__init__.py"
        init.write_text(with_name(init.read_text(), source, "EqualNorm"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for command in (
        [
            "-c",
            "import gradbalance as gb; gb.Balancer(gb.EqualNorm()); assert gb.EqualNorm.__doc__",
        ],
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
        ["-m", "ruff", "check", str(file)],
        ["-m", "ruff", "format", "--check", str(file)],
    ):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
