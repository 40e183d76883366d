import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import gradbalance as gb
from gradbalance.comparison.curves import mean_curve


def write(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def runs(tmp_path):
    """Last accuracies (70, 74, 72) and (75, 77, 79); last errors (4, 2, 3) and (3, 3, 3)."""

    def of(name: str, accuracies: list[float], errors: list[float]) -> list[Path]:
        return [
            write(
                tmp_path / f"{name}-{seed}.jsonl",
                [{"step": 0, "accuracy": 90.0, "error": 8.0},
                 {"step": 10, "accuracy": accuracy, "error": error}],
            )
            for seed, (accuracy, error) in enumerate(zip(accuracies, errors, strict=True))
        ]  # fmt: skip

    return {"sum": of("sum", [70, 74, 72], [4, 2, 3]), "MGDA": of("mgda", [75, 77, 79], [3, 3, 3])}


BETTER = {"accuracy": "higher", "error": "lower"}


def test_numbers_by_hand(runs):
    comparison = gb.compare(runs, better=BETTER, baseline="sum")
    assert comparison.values["MGDA"]["accuracy"].tolist() == [75.0, 77.0, 79.0]
    # pairs differ by 5, 3, 7: mean 5, sd 2, and t(2) = 4.3027
    found = comparison.difference("MGDA", "accuracy")
    half = 4.30265273 * 2 / 3**0.5
    assert (found.mean, found.paired) == (5.0, True)
    assert (found.low, found.high) == pytest.approx((5 - half, 5 + half), rel=1e-6)
    # +5 of 72 in accuracy, and no change of the mean error
    assert comparison.delta_m("MGDA") == pytest.approx(100 * (5 / 72) / 2)
    assert comparison.delta_m("sum") == 0.0
    floats = comparison.as_dict("end/")
    assert floats["end/MGDA/accuracy/mean"] == 77.0
    assert floats["end/MGDA/accuracy/sd"] == pytest.approx(2.0)
    assert floats["end/MGDA/accuracy/change"] == 5.0
    assert floats["end/sum/error/sd"] == 1.0


def test_a_lower_error_counts_as_better(runs, tmp_path):
    runs["none"] = [write(tmp_path / "no.jsonl", [{"accuracy": 72.0, "error": 1.5}])]
    comparison = gb.compare(runs, better=BETTER, baseline="sum")
    assert comparison.delta_m("none") == pytest.approx(+100 * 0.5 / 2)


def test_the_sign_is_right_for_negative_metrics(tmp_path):
    better = {"reward": "higher"}
    files = {n: [write(tmp_path / n, [{"reward": r}])] for n, r in (("a", -10.0), ("b", -5.0))}
    assert gb.compare(files, better=better, baseline="a").delta_m("b") == 50.0


def test_unequal_numbers_of_seeds_are_not_paired(runs):
    del runs["MGDA"][2]
    comparison = gb.compare(runs, better=BETTER, baseline="sum")
    found = comparison.difference("MGDA", "accuracy")
    assert not found.paired
    assert found.mean == 76.0 - 72.0
    # Welch: variances of the means 4/3 and 2/2
    error = (4 / 3 + 1) ** 0.5
    freedom = (4 / 3 + 1) ** 2 / ((4 / 3) ** 2 / 2 + 1)
    from scipy import stats

    other = stats.ttest_ind([75, 77], [70, 74, 72], equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((other.low, other.high))
    assert found.high == pytest.approx(4 + stats.t.ppf(0.975, freedom) * error)
    assert "* not paired, for sum has 3 runs: MGDA 2" in str(comparison)
    assert "]*" in str(comparison)


def test_one_seed_has_no_interval(runs):
    alone = {name: files[:1] for name, files in runs.items()}
    comparison = gb.compare(alone, better=BETTER, baseline="sum")
    found = comparison.difference("MGDA", "accuracy")
    assert found.mean == 5.0
    assert np.isnan([found.low, found.high]).all()
    assert "nan" not in str(comparison)
    assert "±" not in str(comparison).split("\n", 2)[2]


def test_differences_that_are_all_the_same(runs):
    runs["again"] = runs["sum"]
    found = gb.compare(runs, better=BETTER, baseline="sum").difference("again", "error")
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


def test_the_best_value(runs):
    comparison = gb.compare(runs, better=BETTER, value="best")
    assert comparison.values["sum"]["accuracy"].tolist() == [90.0, 90.0, 90.0]
    assert comparison.values["sum"]["error"].tolist() == [4.0, 2.0, 3.0]


def test_a_run_that_diverged_shows(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"error": 1.0}\n{"error": NaN}\n')
    last = gb.compare({"sum": path}, better={"error": "lower"})
    assert np.isnan(last.values["sum"]["error"]).all()
    assert "nan" in str(last)
    assert last.front("error", "error") == ()
    best = gb.compare({"sum": path}, better={"error": "lower"}, value="best")
    assert best.values["sum"]["error"].tolist() == [1.0]


def test_the_table(runs):
    comparison = gb.compare(runs, better=BETTER, baseline="sum")
    lines = str(comparison).splitlines()
    assert lines[0].startswith("last values, mean ± sd over the seeds, and the difference to sum")
    assert lines[2].split() == ["sum", "accuracy", "↑", "3", "72", "±", "2"]
    assert lines[4].split()[:7] == ["MGDA", "accuracy", "↑", "3", "77", "±", "2"]
    assert lines[4].split()[-4:] == ["+5", "[+0.032,", "+10]", "+3.47"]
    assert lines[5].split()[:2] == ["error", "↓"]
    assert "difference" not in str(gb.compare(runs, better=BETTER))
    assert "<table" in comparison._repr_html_()


def test_a_baseline_of_0_has_no_delta_m(runs, tmp_path):
    runs["sum"] = [write(tmp_path / "zero.jsonl", [{"accuracy": 50.0, "error": 0.0}])]
    comparison = gb.compare(runs, better=BETTER, baseline="sum")
    assert np.isnan(comparison.delta_m("MGDA"))
    assert "no Δm: error of sum is 0" in str(comparison)


def test_the_front_by_hand(tmp_path):
    points = {"a": (1.0, 1.0), "b": (2.0, 2.0), "c": (2.0, 3.0), "d": (3.0, 3.0), "e": (3.0, 3.0)}
    files = {n: [write(tmp_path / n, [{"x": x, "y": y}])] for n, (x, y) in points.items()}
    # x is to be high and y low: b is better than c, d and e tie
    comparison = gb.compare(files, better={"x": "higher", "y": "lower"})
    assert comparison.front("x", "y") == ("a", "b", "d", "e")


def test_lines_without_steps_are_counted_and_later_ones_win(tmp_path):
    counted = write(
        tmp_path / "counted", [{"loss": 3.0}, {"other": 1}, {"loss": None}, {"loss": 1}]
    )
    rows = [{"step": s, "loss": y} for s, y in ((0, 5.0), (10, 4.0), (20, 9.0), (10, 3.0))]
    resumed = write(tmp_path / "resumed", rows)
    curves = gb.compare({"a": counted, "b": resumed}, better={"loss": "lower"}).curves
    assert [part.tolist() for part in curves["a"]["loss"][0]] == [[0.0, 3.0], [3.0, 1.0]]
    assert [part.tolist() for part in curves["b"]["loss"][0]] == [[0, 10, 20], [5.0, 3.0, 9.0]]


def test_the_mean_curve_is_of_common_steps():
    short = np.array([0.0, 10.0]), np.array([0.0, 10.0])
    long = np.array([5.0, 10.0, 15.0]), np.array([7.0, 10.0, 0.0])
    steps, mean, sd = mean_curve([short, long])
    assert steps.tolist() == [5.0, 10.0]
    assert mean.tolist() == [6.0, 10.0]
    assert sd == pytest.approx([2**0.5, 0.0])
    assert mean_curve([short, (np.array([20.0]), np.array([1.0]))])[0].size == 0


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path):
    path = write(tmp_path / "run.jsonl", [{"error": 1.0}])
    with path.open("ab") as file:
        file.write('{"error": 2.0, "näme'.encode()[:-3])
    assert gb.compare({"sum": path}, better={"error": "lower"}).values["sum"]["error"] == [1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ('{"err', "is empty"),
        ('{"err\n{"error": 1}\n', "line 1, is not JSON"),
        ("[1, 2]\n", "must be a JSON object"),
        ('{"loss": 1, "step": 2}\n', r"has no 'error'; found \['loss'\]"),
        ('{"error": null}\n', "has no 'error'"),
        ('{"error": "small"}\n', "must be a number; found 'small'"),
        ('{"error": true}\n', "must be a number"),
        ('{"error": 1, "step": 0}\n{"error": 1}\n', '1 of 2 lines have a "step"'),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, message):
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        gb.compare({"sum": [path]}, better={"error": "lower"})
    assert "run.jsonl" in str(caught.value)


def test_arguments_that_cannot_be_used(runs):
    for wrong, message in (
        ({"baseline": "adam"}, r"baseline must be one of \['sum', 'MGDA'\]; found 'adam'"),
        ({"better": {"error": "smaller"}}, 'must be "higher" or "lower"'),
        ({"better": {}}, "compare\\(\\) needs"),
        ({"value": "mean"}, "value must be"),
    ):
        with pytest.raises(ValueError, match=message):
            gb.compare(runs, **{"better": BETTER, **wrong})
    with pytest.raises(ValueError, match="has no files"):
        gb.compare({"sum": []}, better=BETTER)
    with pytest.raises(FileNotFoundError):
        gb.compare({"sum": "nowhere.jsonl"}, better=BETTER)
    comparison = gb.compare(runs, better=BETTER)
    for method in ("difference", "delta_m"):
        with pytest.raises(ValueError, match="baseline="):
            getattr(comparison, method)(*("MGDA", "error")[: 1 + (method == "difference")])
    with pytest.raises(ValueError, match="metric must be one of"):
        comparison.pareto("accuracy", "loss")
    with pytest.raises(ValueError, match="method must be one of"):
        gb.compare(runs, better=BETTER, baseline="sum").delta_m("adam")


def test_plots(runs, tmp_path):
    comparison = gb.compare(runs, better=BETTER, baseline="sum")
    figure = comparison.plot(tmp_path / "curves.png")
    assert [axes.get_title() for axes in figure.axes] == ["accuracy ↑", "error ↓"]
    assert [t.get_text() for t in figure.axes[0].get_legend().texts] == ["sum", "MGDA"]
    line = figure.axes[0].lines[0]
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0.0, 10.0], [90.0, 72.0])
    figure = comparison.pareto("accuracy", "error", tmp_path / "pareto.png")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "accuracy (higher is better)"
    texts = [t.get_text() for t in axes.get_legend().texts]
    assert set(texts) == {"sum", "MGDA", "Pareto front"}
    for name in ("curves.png", "pareto.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_runs_without_common_steps_are_drawn_one_by_one(tmp_path):
    files = [write(tmp_path / str(step), [{"step": step, "loss": 1.0}]) for step in (1, 2)]
    figure = gb.compare({"sum": files}, better={"loss": "lower"}).plot()
    assert len(figure.axes[0].lines) == 2


def test_without_matplotlib_the_error_says_what_to_install(runs, monkeypatch):
    comparison = gb.compare(runs, better=BETTER)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (comparison.plot, lambda: comparison.pareto("accuracy", "error")):
        with pytest.raises(ImportError, match=r"pip install gradbalance\[plots\]"):
            draw()
