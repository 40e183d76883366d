"""The page on fronts agrees with its numbers and its script, and the numbers support its claims."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.scripts import load

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def fronts():
    return load(DOCS / "images" / "fronts.py")


def test_the_table_is_that_of_the_last_run(fronts):
    results = json.loads((DOCS / "images" / "fronts.json").read_text())
    page = (DOCS / "fronts.md").read_text()
    assert fronts.fill(page, results) == page
    assert fronts.table(results) in page
    assert list(results["methods"]) == list(fronts.METHODS)
    assert tuple(results["shares"]) == fronts.SHARES
    assert (results["steps"], results["lr"]) == (fronts.NUM_STEPS, fronts.LR)


def test_a_weighted_sum_ends_at_the_ends_and_the_others_where_they_are_told(fronts):
    results = json.loads((DOCS / "images" / "fronts.json").read_text())
    shares = np.array(results["shares"])
    uniform, _, ratios, bounds = (np.array(ends) for ends in results["methods"].values())
    assert (uniform.min(axis=1) < 0.01).all()
    np.testing.assert_allclose(ratios[:, 0] / ratios.sum(axis=1), shares, atol=0.01)
    assert (bounds[:, 0] <= shares + 0.005).all()
    assert (np.diff(bounds[:, 1]) < 0).all()


def test_the_script_runs_and_writes_what_the_page_shows(fronts, tmp_path, monkeypatch):
    for name, value in (("NUM_STEPS", 40), ("HERE", tmp_path), ("PAGE", tmp_path / "fronts.md")):
        monkeypatch.setattr(fronts, name, value)
    (tmp_path / "fronts.md").write_text((DOCS / "fronts.md").read_text())
    fronts.main()
    results = json.loads((tmp_path / "fronts.json").read_text())
    assert fronts.table(results) in (tmp_path / "fronts.md").read_text()
    assert (tmp_path / "fronts.png").exists()
