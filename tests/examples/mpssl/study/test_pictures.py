"""The study's pictures: what they are of, and that they are drawn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from examples.common.data.image_set import ImageSet
from examples.common.trunk import build_model
from examples.mpssl import evaluate
from examples.mpssl.study import figures, pictures, plan
from examples.mpssl.study.method_figure import draw_method
from examples.mpssl.study.runner import do_run

TINY = {"max_train": 48, "max_test": 48, "epochs": 1, "batch_size": 16}


def result(value):
    probes = {f"block{block}": value for block in (1, 2, 3, 4)} | {"knn": value}
    return {
        "probes": {"shape": probes, "colour": probes},
        "pretext": {"rotation": value},
        "chance": {"shape": 0.2, "colour": 0.2},
    }


def test_pictured_runs_are_runs_of_the_study():
    for data, runs in ((None, plan.procedural(1)), ("some.zip", plan.cifar10(1, "some.zip"))):
        pictured = plan.pictured(data)
        assert set(pictures.NEIGHBOURS_OF) <= set(pictured)
        assert {config.name for config in pictured.values()} <= {config.name for config in runs}


def test_the_nearest_image_of_a_training_image_is_itself(train_set: ImageSet):
    trunk = build_model({"rotation": 4}, seed=0).trunk
    found = figures.nearest(trunk, train_set, train_set, [3, 8, 50], 4)
    assert found[:, 0].tolist() == [3, 8, 50]
    features = evaluate.features(trunk, train_set)[-1]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    expected = np.argsort(-features[[3, 8, 50]] @ features.T, axis=1)[:, :4]
    assert (np.sort(found) == np.sort(expected)).all()


def test_bars_are_means_with_their_deviations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn = []
    monkeypatch.setattr(
        Axes, "barh", lambda self, names, means, xerr, **style: drawn.append((names, means, xerr))
    )
    rows = {"random init": [result(0.2)], "mgda": [result(0.2), result(0.4), result(0.6)]}
    figures.draw_bars(rows, [("shape", "knn"), ("colour", "block4")], tmp_path / "bars.png")
    assert len(drawn) == 2
    assert drawn[0][0] == ["random init", "mgda"]
    assert drawn[0][1] == pytest.approx([20, 40])
    assert drawn[0][2] == pytest.approx([0, 20])


def test_results_are_drawn_for_all_sets_of_tasks_with_all_solvers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    results = {config.name: result(0.5) for config in plan.procedural(2)}
    seen = []
    monkeypatch.setattr(figures, "draw_grid", lambda kinds, *rest: seen.extend(kinds))
    pictures.draw_results(results, "procedural", tmp_path)
    assert seen == ["+".join(plan.FOUR_TASKS), "+".join(plan.THREE_TASKS), "all"] + [
        "+".join(pair) for pair in plan.PAIRS
    ]
    assert imread(tmp_path / "procedural_probes.png").std() > 0.1


def test_the_grid_shows_mean_accuracies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    draw = Axes.imshow

    def imshow(self, values, **style):
        seen.append(values)
        return draw(self, values, **style)

    monkeypatch.setattr(Axes, "imshow", imshow)
    kinds = {"a+b": {"mgda": [result(0.2), result(0.4)]}, "a+c": {"mgda": [result(0.9)]}}
    figures.draw_grid(kinds, "rotation", ["mgda"], tmp_path / "grid.png")
    assert seen[0] == pytest.approx(np.array([[30.0], [90.0]]))


def test_runs_are_trained_once_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tiny = {
        label: replace(config, **TINY)
        for label, config in plan.pictured(None).items()
        if label in (*pictures.NEIGHBOURS_OF, "mgda")
    }
    monkeypatch.setattr(plan, "pictured", lambda data: tiny)
    do_run(tiny["mgda"], tmp_path)
    before = (tmp_path / tiny["mgda"].name / "config.json").stat().st_mtime_ns
    pictures.draw_runs(None, "procedural", tmp_path, tmp_path)
    assert (tmp_path / tiny["mgda"].name / "config.json").stat().st_mtime_ns == before
    for name in ("procedural_over_time", "procedural_neighbours", "method"):
        assert imread(tmp_path / f"{name}.png").std() > 0.1


def test_the_method_is_drawn_for_any_number_of_tasks(tmp_path: Path, test_set: ImageSet):
    for tasks in (("rotation",), ("rotation", "contrast", "posterization")):
        draw_method(tasks, test_set, tmp_path / f"{len(tasks)}.png")
        assert imread(tmp_path / f"{len(tasks)}.png").std() > 0.05
