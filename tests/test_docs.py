"""The code in README and docs runs, block after block of a page in one namespace."""

import dataclasses
import re
from pathlib import Path

import pytest

from tests.contract import test_contract as contract_tests
from tests.contract.table import Contract

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/*.md")))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_page(page: str) -> dict[str, object]:
    text = (ROOT / page).read_text()
    namespace: dict[str, object] = {"__name__": "page"}
    for match in BLOCK.finditer(text):
        line = text[: match.start()].count("\n") + 1
        code = compile("\n" * line + match[1], str(ROOT / page), "exec")
        exec(code, namespace)
    return namespace


@pytest.mark.parametrize("page", PAGES)
def test_the_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run_page(page)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), target


def test_the_solvers_of_the_guide_keep_the_contract_they_claim():
    namespace = run_page("docs/adding-a-solver.md")
    row = namespace["row"]
    assert isinstance(row, Contract)
    for make in (row.make, namespace["SmoothedEqualNorm"]):
        claims = dataclasses.replace(row, make=make)
        for family in ("iid", "spread_iid", "duplicated"):
            contract_tests.test_weights_are_finite_and_solving_is_pure(claims, family)
            contract_tests.test_permutation_equivariance(claims, family)
        contract_tests.test_scale(claims, 1e-20)
        contract_tests.test_all_gradients_zero(claims)
        contract_tests.test_state_round_trip(claims)
        contract_tests.test_a_foreign_state_is_refused_and_changes_nothing(claims)
