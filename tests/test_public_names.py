"""Every public name is listed once, documented, and shown at work."""

import ast
import inspect
import pkgutil
from pathlib import Path

import pytest

import gradbalance as gb
from gradbalance import numerics, testing

PACKAGE = Path(gb.__file__).parent
EXAMPLE_ELSEWHERE = {"AfterStep", "EndEpoch", "Solution", "Solver", "Source", "StatelessSolver",
                     "TaskGradients"}  # fmt: skip
PUBLIC = {
    **{name: getattr(gb, name) for name in gb.__all__},
    **{f"numerics.{name}": getattr(numerics, name) for name in numerics.__all__},
    **{f"testing.{name}": getattr(testing, name) for name in testing.__all__ if name.islower()},
}


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings(name: str):
    thing = PUBLIC[name]
    text = inspect.getdoc(thing)
    assert text, f"{name} has no docstring"
    assert text.splitlines()[0].endswith("."), f"{name}: one sentence first"
    if name not in EXAMPLE_ELSEWHERE:
        assert ">>>" in text, f"{name} shows no example"
    if inspect.isclass(thing):
        for method, function in inspect.getmembers(thing, inspect.isfunction):
            if not method.startswith("_") and function.__module__.startswith("gradbalance"):
                assert inspect.getdoc(function), f"{name}.{method} has no docstring"


def test_methods_give_equation_and_reference():
    for name in gb.__all__:
        thing = getattr(gb, name)
        if (
            inspect.isclass(thing)
            and issubclass(thing, gb.Solver)
            and not inspect.isabstract(thing)
        ):
            text = inspect.getdoc(thing) or ""
            assert ".. math::" in text, name
            assert "References:" in text or "arXiv" in text, name


def test_the_list_is_sorted_as_the_linter_wants_and_complete():
    assert len(set(gb.__all__)) == len(gb.__all__)
    assert not [name for name in gb.__all__ if not hasattr(gb, name)]


LAYERS = {"numerics": 0, "table": 0, "eager": 0, "jsonl": 0, "solvers": 1, "report": 1,
          "gradients": 1, "losses": 1, "state": 1, "plot": 2, "policy": 2, "loss": 2,
          "measured": 2, "agreement": 2, "recording": 2, "memory": 3, "comparison": 3,
          "decision": 4, "balancer": 5, "replay": 5, "history": 6, "diagnosis": 6,
          "testing": 6}  # fmt: skip


def imported_layers(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gradbalance"):
            parts = (node.module or "").split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return names


def test_imports_point_down_only():
    modules = {module.name for module in pkgutil.iter_modules([str(PACKAGE)])}
    assert modules == set(LAYERS)
    assert "testing" not in imported_layers(PACKAGE / "__init__.py")
    for path in PACKAGE.rglob("*.py"):
        if path.parent == PACKAGE and path.stem == "__init__":
            continue
        parts = path.relative_to(PACKAGE).parts
        own = parts[0].removesuffix(".py")
        for other in imported_layers(path) - {own}:
            assert LAYERS[other] < LAYERS[own], f"{path.name} of {own} imports {other}"


def test_numerics_import_no_torch():
    for path in (PACKAGE / "numerics").glob("*.py"):
        assert "torch" not in path.read_text().split("import")[0] + "".join(
            line for line in path.read_text().splitlines() if line.startswith(("import", "from"))
        ), path.name


def test_a_method_is_a_file_that_reads_in_one_sitting():
    folder = PACKAGE / "solvers"
    shared = {"solver.py", "__init__.py"}
    for file in folder.rglob("*.py"):
        assert file.name in shared or len(file.read_text().splitlines()) <= 150, file
