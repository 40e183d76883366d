"""The code on the pages of `docs/frameworks` runs, each after the overview's model."""

import sys
import types
from pathlib import Path

import pytest
import torch

from tests.distributed.test_checkpoint import HAS_NO_DIST
from tests.test_docs import BLOCK, ROOT, run_page

FOLDER = "docs/frameworks"
OVERVIEW = f"{FOLDER}/README.md"
NEEDS = {
    "lightning": "lightning",
    "fabric": "lightning",
    "accelerate": "accelerate",
    "transformers": "transformers",
    "loggers": "tensorboard",
}
PAGES = [page for page in sorted((ROOT / FOLDER).glob("*.md")) if page.name != "README.md"]


@pytest.mark.filterwarnings("ignore::FutureWarning:lightning", "ignore::UserWarning:lightning")
@pytest.mark.filterwarnings("ignore:torch.distributed is (disabled|unavailable)")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.stem in NEEDS:
        pytest.importorskip(NEEDS[page.stem], reason="pip install '.[integrations]'")
    if page.stem == "checkpoints" and not HAS_NO_DIST:
        pytest.skip("this torch lacks no_dist, as the page says")
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    with torch.random.fork_rng():
        run_page(OVERVIEW, module)
        run_page(str(page.relative_to(ROOT)), module)


def test_the_overview_names_every_page_and_a_page_says_its_trap() -> None:
    overview = (ROOT / OVERVIEW).read_text()
    for page in PAGES:
        assert f"]({page.name})" in overview
        text = page.read_text()
        assert "**The trap" in text
        assert BLOCK.search(text)
