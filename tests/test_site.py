"""What the site is made of is complete and true, as far as one can tell without building it."""

import ast
import contextlib
import inspect
import io
import re
import sys
import types
from pathlib import Path

import pytest

import gradbalance as gb
from gradbalance import agreement, numerics, testing
from tests.scripts import load

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SOLVERS = {
    name
    for name in gb.__all__
    if inspect.isclass(thing := getattr(gb, name))
    and issubclass(thing, gb.Solver)
    and not inspect.isabstract(thing)
}


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "solvers", None)
    return load(DOCS / "solvers.py")


@pytest.fixture
def paths(table: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    monkeypatch.setitem(sys.modules, "paths", None)
    return load(DOCS / "images" / "paths.py")


def test_the_table_has_every_solver_once(table):
    named = [name for row in table.TABLE for name in row.names]
    assert len(named) == len(set(named))
    assert set(named) == SOLVERS
    assert {type(table.make(table.drawn(name).solver)).__name__ for name in SOLVERS} == SOLVERS


def test_the_table_groups_solvers_by_what_they_need(table):
    for name, row in table.SOLVERS.items():
        if row.group != table.AROUND:
            assert getattr(gb, name).needs == ("losses" if row.group == table.LOSSES else "gramian")


def test_the_tables_of_choosing_are_those_of_the_table(table):
    page = (DOCS / "choosing.md").read_text()
    assert table.fill(page) == page
    for group in (table.GRADIENTS, table.LOSSES):
        assert table.table(group) in page


def test_every_solver_has_a_page_and_a_picture(table, tmp_path):
    table.write_pages(tmp_path)
    assert {page.stem for page in tmp_path.glob("*.md")} == {"index", *SOLVERS}
    index = (tmp_path / "index.md").read_text()
    for name in SOLVERS:
        assert f"]({name}.md)" in index
        text = (tmp_path / f"{name}.md").read_text()
        assert f".. autoclass:: gradbalance.{name}\n" in text
        assert f"../images/paths/{name}.png" in text
        assert (DOCS / "images" / "paths" / f"{name}.png").stat().st_size < 15_000
        for target in re.findall(r"\]\(\.\./([^)#]+)", text):
            assert (DOCS / target).exists(), target
    assert {file.stem for file in (DOCS / "images" / "paths").iterdir()} == SOLVERS


def test_pages_are_written_anew_only_where_they_change(table, tmp_path):
    (tmp_path / "Gone.md").write_text("of a solver that is no more")
    table.write_pages(tmp_path)
    assert not (tmp_path / "Gone.md").exists()
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.md")}
    (tmp_path / "MGDA.md").write_text("changed by hand")
    table.write_pages(tmp_path)
    after = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.md")}
    assert {file.stem for file in after if after[file] != before[file]} == {"MGDA"}


def test_pictures_are_drawn(paths, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "HERE", tmp_path)
    monkeypatch.setattr(paths, "NUM_STEPS", 20)
    paths.main(["Bounded", "DBGD"])
    assert {file.name for file in (tmp_path / "paths").iterdir()} == {"Bounded.png", "DBGD.png"}


def test_every_public_name_is_on_a_page_of_the_api():
    text = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    documented = set(re.findall(r"^\.\. (?:auto|py:)\w+:: gradbalance\.([\w.]+)$", text, re.M))
    modules = {"numerics": numerics, "testing": testing}
    public = {f"{module}.{name}" for module, found in modules.items() for name in found.__all__}
    # `Status` is public in two places, and on one page.
    assert documented - set(modules) == set(gb.__all__) - SOLVERS | public - {"numerics.Status"}


FAQ = (DOCS / "faq.md").read_text()
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


def test_the_messages_of_the_faq_are_raised():
    namespace: dict[str, object] = {}
    quoted = 0
    for code, message in BLOCK.findall(FAQ):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "faq.md", "exec"), namespace)
        assert printed.getvalue().split() == message.split(), code
        quoted += bool(message)
    assert quoted > 12


def test_the_message_of_ranks_that_drift_apart():
    # That it is raised is a test of two processes, in tests/distributed/test_drift.py.
    message = agreement._DRIFT.format(num_steps=1)
    quoted = re.findall(r"^```text\n(.*?)^```$", FAQ, re.MULTILINE | re.DOTALL)
    assert message.split() in [text.split() for text in quoted]


def test_the_versions_are_those_that_are_claimed_and_tested():
    project, page = ((ROOT / "pyproject.toml").read_text(), (DOCS / "install.md").read_text())
    (line,) = re.findall(r"^dependencies = (\[.*\])$", project, re.M)
    least = dict(requirement.split(">=") for requirement in ast.literal_eval(line))
    (python,) = re.findall(r'requires-python = ">=([\d.]+)"', project)
    torch, numpy, scipy = (least[name] for name in ("torch", "numpy", "scipy"))
    assert f"Python ≥ {python}, torch ≥ {torch}, NumPy ≥ {numpy} and SciPy ≥ {scipy}." in page
    rows = dict(re.findall(r"^\| ([\w ]+?) \| [\d.]+ \| (.*?) \| (?:`make|`pytest)", page, re.M))
    for name, file in (("lowest", "constraints-lowest.txt"), ("pinned", "constraints.txt")):
        pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / file).read_text(), re.M))
        used = [pinned[package] for package in ("torch", "numpy", "scipy")]
        assert rows[name].split(" | ") == used
        assert name != "lowest" or [".".join(v.split(".")[:2]) for v in used] == list(
            least.values()
        )


@pytest.mark.parametrize("page", sorted(DOCS.glob("api/*.md")), ids=lambda page: page.stem)
def test_links_of_the_api_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "solvers/index.md" not in target:  # written when the site is built
            assert (page.parent / target).exists(), target
