"""The gallery's page, its numbers and its script say the same, and the script runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.landscapes import LANDSCAPES
from tests.scripts import load

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def gallery():
    return load(DOCS / "images" / "gallery.py")


def test_the_tables_are_those_of_the_last_run(gallery):
    results = json.loads((DOCS / "images" / "gallery.json").read_text())
    page = (DOCS / "gallery.md").read_text()
    assert gallery.fill(page, results) == page
    for name, (key, num_steps, lr, _) in gallery.RUNS.items():
        assert list(results[name]["methods"]) == list(gallery.METHODS)
        assert gallery.table(results[name]) in page
        assert [results[name][entry] for entry in ("landscape", "steps", "lr")] == [
            key,
            num_steps,
            lr,
        ]
        for found in results[name]["methods"].values():
            losses, _ = LANDSCAPES[key].evaluate(np.array(found["end"]))
            np.testing.assert_allclose(
                LANDSCAPES[key].distance(np.array(found["end"])), found["distance"], atol=2e-3
            )
            # The logarithmic valleys are so steep that rounded points lie elsewhere on their walls.
            settled = np.array(found["distance"]) < 1
            np.testing.assert_allclose(
                losses[settled], np.array(found["losses"])[settled], atol=2e-2
            )


def test_the_script_runs_and_writes_what_the_page_shows(gallery, tmp_path, monkeypatch):
    few = {name: (run[0], 20, run[2], 1) for name, run in gallery.RUNS.items()}
    monkeypatch.setattr(gallery, "RUNS", few)
    monkeypatch.setattr(gallery, "HERE", tmp_path)
    monkeypatch.setattr(gallery, "PAGE", tmp_path / "gallery.md")
    kept = {label: gallery.METHODS[label] for label in ("Uniform", "MGDA", "FAMO")}
    monkeypatch.setattr(gallery, "METHODS", kept)
    (tmp_path / "gallery.md").write_text((DOCS / "gallery.md").read_text())
    gallery.main()
    page = (DOCS / "gallery.md").read_text()
    for picture in tmp_path.glob("*.png"):
        assert f"images/{picture.name}" in page
    assert len(list(tmp_path.glob("*.png"))) == 3
    results = json.loads((tmp_path / "gallery.json").read_text())
    assert gallery.table(results["toy"]) in (tmp_path / "gallery.md").read_text()
