import copy
import dataclasses
import json
import math
import pickle
import re
from html import unescape

import numpy as np
import pytest
import torch

import gradbalance as gb
from tests.models import HandModel, Net


def hand_report():
    model = HandModel()
    return gb.Balancer(gb.MGDA(), gb.SharedParameters(model.trunk)).measure(model.losses())


def test_numbers_by_hand():
    report = hand_report()
    np.testing.assert_allclose(report.norms, [5.0, np.sqrt(20.0)])
    np.testing.assert_allclose(report.cosines[0, 1], 10 / (5 * np.sqrt(20)))
    np.testing.assert_allclose(report.descent, [16.0, 16.0])  # 25·.4 + 10·.6 = 10·.4 + 20·.6
    assert report.conflicts == ()


def test_conflicts_are_named_pairs():
    x = torch.ones(2, requires_grad=True)
    report = gb.Balancer(gb.Uniform(), gb.SharedParameters([x])).measure(
        {"a": x.sum(), "b": -x.sum(), "c": x[0] - 0.5 * x[1]}
    )
    assert report.conflicts == (("a", "b"), ("b", "c"))


def test_orthogonal_gradients_do_not_conflict():
    x = torch.ones(2, requires_grad=True)
    report = gb.Balancer(gb.MGDA()).measure([x[0] + x.sum() * 0, x[1] + x.sum() * 0])
    assert report.gram[0, 1] == 0.0
    assert report.conflicts == ()


def test_a_zero_gradient_has_cosine_0():
    x = torch.ones(2, requires_grad=True)
    report = gb.Balancer(gb.MGDA()).measure([x.sum(), 0 * x.sum()])
    assert report.cosines.tolist() == [[pytest.approx(1.0), 0.0], [0.0, 0.0]]


def test_descent_where_a_task_is_absent():
    model = HandModel()
    balancer = gb.Balancer(
        gb.MGDA(), gb.SharedParameters(model.trunk), tasks=["linear", "away", "square"]
    )
    report = balancer.measure(model.losses())
    np.testing.assert_allclose(report.descent, [16.0, np.nan, 16.0])


def test_the_table():
    text = str(hand_report())
    lines = text.splitlines()
    assert lines[0] == "MGDA: converged, 0 conflicts"
    assert lines[1].split() == ["task", "loss", "weight", "|gradient|", "descent", "cosines"]
    assert lines[2].split() == ["linear", "4", "0.4", "5", "16", "·", "0.45"]
    assert len({len(line) for line in lines[1:]}) == 1


def test_the_table_tells_who_was_left_out_and_what_to_do():
    model = Net()
    losses = model.losses()
    losses["task1"] = None
    solver = gb.MGDA(method="frank_wolfe", max_steps=0)
    text = str(gb.Balancer(solver, gb.SharedParameters(model.trunk)).measure(losses))
    assert "(absent)" in text
    assert all(line == line.rstrip() for line in text.splitlines())
    text = str(gb.Balancer(solver, gb.SharedParameters(model.trunk)).measure(model.losses()))
    assert text.splitlines()[0].startswith("MGDA: step limit (raise max_steps")


def test_the_table_without_a_gramian():
    text = str(gb.Balancer(gb.Uniform()).measure(HandModel().losses()))
    assert text.splitlines()[1].split() == ["task", "loss", "weight"]


def test_the_table_of_one_task_has_no_cosines():
    text = str(gb.Balancer(gb.MGDA()).measure({"only": HandModel().losses()["linear"]}))
    assert text.splitlines()[1].split() == ["task", "loss", "weight", "|gradient|", "descent"]


def test_the_table_of_a_task_that_is_named_as_a_heading():
    balancer = gb.Balancer(gb.Uniform(), tasks=["task", "other"])
    lines = str(balancer.measure({"other": HandModel().losses()["linear"]})).splitlines()
    assert ["(absent)" in line for line in lines[1:]] == [False, True, False]


def test_a_notebook_shows_the_cells_of_the_text_and_no_colours():
    model = HandModel()
    losses = model.losses()
    source = gb.SharedParameters(model.trunk)
    balancer = gb.Balancer(gb.MGDA(), source, tasks=["away", "<b>a & b</b>", "square"])
    report = balancer.measure({"<b>a & b</b>": losses["linear"], "square": losses["square"]})
    html = report._repr_html_()
    cells = [unescape(cell) for cell in re.findall(r">([^<>]*)</t[hd]>", html)]
    assert html.startswith("<p>MGDA: converged, 0 conflicts</p>")
    assert " ".join(cells).split() == " ".join(str(report).splitlines()[1:]).split()
    assert {"<b>a & b</b>", "(absent)", "  nan  0.45     ·"} <= set(cells)
    assert html.count("<tr>") == html.count("</tr>") == 4
    assert "color" not in html
    assert "background" not in html


def grouped(losses=("near", "far")):
    x, y = (torch.tensor([1.0, 1.0], requires_grad=True) for _ in range(2))
    balancer = gb.Balancer(
        gb.MGDA(), gb.SharedParameters({"stem": [x], "<body>": [y]}), tasks=["near", "far"]
    )
    values = {"near": (x**2).sum() + y[0], "far": ((x - 3) ** 2).sum() + y[1] ** 2}
    return balancer.measure({name: values[name] for name in losses})


def test_both_tables_have_a_column_of_weights_for_each_group():
    report = grouped()
    header = str(report).splitlines()[1].split()
    assert header[:4] == ["task", "loss", "weight/stem", "weight/<body>"]
    assert "weight/&lt;body&gt;" in report._repr_html_()
    assert f"{report.groups['stem'].weights[0]:.3g}" in report._repr_html_()


def test_as_dict_has_a_prefix_in_front_of_every_name():
    report = hand_report()
    entries = report.as_dict("train/")
    assert entries == {f"train/{key}": value for key, value in report.as_dict().items()}
    assert "train/weight/linear" in entries


def test_as_dict_by_hand():
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    losses = {"a": 3 * x[0] + 0 * x[1], "b": x[1] - x[0]}
    report = gb.Balancer(gb.MGDA(method="frank_wolfe", max_steps=0)).measure(losses)
    assert report.as_dict() == pytest.approx(
        {
            "loss/a": 3.0,
            "loss/b": 0.0,
            "weight/a": report.weights[0],
            "weight/b": report.weights[1],
            "norm/a": 3.0,
            "norm/b": 2**0.5,
            "descent/a": report.descent[0],
            "descent/b": report.descent[1],
            "cosine/a/b": -(0.5**0.5),
            "num_conflicts": 1.0,
            "certificate": report.certificate,
            "status_code": 2.0,
        }
    )
    assert report.status is gb.Status.CONVERGED


def test_as_dict_is_plain_floats():
    model = Net()
    losses = model.losses()
    losses["task1"] = None
    balancer = gb.Balancer(gb.MGDA(), gb.SharedParameters(model.trunk))
    entries = balancer.measure(losses).as_dict()
    assert {type(value) for value in entries.values()} == {float}
    unknown = {key for key, value in entries.items() if math.isnan(value)}
    of_pairs = {"cosine/task0/task1", "cosine/task1/task2"}
    assert unknown == {"loss/task1", "norm/task1", "descent/task1"} | of_pairs
    assert entries["weight/task1"] == 0.0


def of_each_kind_of_step(solver, source, model):
    """Solved, reused, without a task, with a loss that is not finite, skipped, and with no task."""
    balancer = gb.Balancer(solver, source, every=2, nonfinite="skip")
    steps = [{}, {}, {"task1": None}, {"task0": torch.tensor(math.nan)}, {}]
    for changed in steps:
        losses = model.losses()
        if "task0" in changed:
            changed = {"task0": losses["task0"] * math.nan}
        yield balancer.backward(losses | changed)
    (balancer(model.losses()) * 0).backward()
    yield balancer.report
    losses = {task: loss * math.nan for task, loss in model.losses().items()}
    yield balancer.backward(losses)


@pytest.mark.parametrize("kind", ["rows", "groups", "losses", "representation"])
def test_as_dict_has_the_same_names_at_every_step(kind):
    model = Net()
    source = {
        "rows": gb.SharedParameters(model.trunk),
        "groups": gb.SharedParameters({"a": model.trunk[0], "b": model.trunk[2]}),
        "losses": gb.LossesOnly(),
        "representation": gb.Representation(model.trunk),
    }[kind]
    solver = gb.Uniform() if kind == "losses" else gb.MGDA()
    found = [report.as_dict() for report in of_each_kind_of_step(solver, source, model)]
    codes = [entries["status_code"] for entries in found]
    assert {*codes[:2], codes[5]} >= {1.0, 6.0}
    assert math.isnan(codes[6])
    for entries in found:
        assert list(entries) == list(found[0])
    assert ("norm/task0" in found[0]) == (kind != "losses")


def make_history(source=None, steps=120):
    model = Net()
    balancer = gb.Balancer(gb.Uniform(), source)
    history = gb.History()
    for step in range(steps):
        losses = model.losses()
        if step % 7 == 3:
            losses["task1"] = None
        history.append(balancer.backward(losses))
    return history


def test_history_stacks_reports():
    history = make_history(gb.SharedParameters())
    assert len(history) == 120
    assert history.names == ("task0", "task1", "task2")
    assert history.losses.shape == history.weights.shape == (120, 3)
    assert history.cosines.shape == (120, 3, 3)
    assert np.isnan(history.losses[3, 1])
    assert history.num_conflicts.shape == (120,)
    assert list(history)[3] is history[3]
    assert history.losses[5].tolist() == history[5].losses.tolist()
    assert history.weights[5].tolist() == history[5].weights.tolist()
    assert gb.History().names == ()


@pytest.mark.parametrize("source", [None, gb.SharedParameters()])
def test_history_plots_to_a_file(source, tmp_path):
    figure = make_history(source).plot(tmp_path / "history.png")
    assert (tmp_path / "history.png").stat().st_size > 10_000
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["loss", "weight", "cosine of gradients", "conflicting pairs of 3"]
    notes = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert notes == ([] if source else ["not measured"] * 2)


def test_history_draws_each_task_in_its_panel_smoothed_over_absences():
    history = make_history(gb.SharedParameters())
    loss, weight, cosine, _ = history.plot().axes
    # A task that is absent has weight 0, which is not drawn.
    weights = np.where(np.isnan(history.losses), np.nan, history.weights)
    for axes, values in ((loss, history.losses), (weight, weights)):
        assert [line.get_label() for line in axes.lines] == ["task0", "task1", "task2"]
        for line, column in zip(axes.lines, values.T, strict=True):
            drawn = line.get_ydata()
            assert len(drawn) == 50  # of 120 steps: two or three to a point
            assert drawn[0] == pytest.approx(column[:3].mean())
            assert drawn[1] == pytest.approx(np.nanmean(column[3:6]))  # task1 is absent at 3
    pairs = ["task0 · task1", "task0 · task2", "task1 · task2"]
    assert [line.get_label() for line in cosine.lines] == pairs
    assert cosine.lines[1].get_ydata()[0] == pytest.approx(history.cosines[0, 0, 2])


def test_history_of_one_step_and_of_none():
    assert make_history(steps=1).plot() is not None
    with pytest.raises(ValueError, match="nothing to plot"):
        gb.History().plot()


def test_history_is_of_one_run():
    history = make_history(steps=1)
    with pytest.raises(ValueError, match="of one run"):
        history.append(hand_report())


def test_a_missing_matplotlib_is_explained(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install gradbalance\[plots\]"):
        make_history(steps=1).plot()


def test_a_notebook_shows_the_plot_of_a_history(monkeypatch):
    history = make_history(steps=2)
    assert re.fullmatch(r'<img .*src="data:image/png;base64,[\w+/=]+">', history._repr_html_())
    assert "nothing to plot" in gb.History()._repr_html_()
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert "pip install gradbalance[plots]" in history._repr_html_()


def test_history_has_the_weights_of_groups_and_draws_them():
    history = gb.History()
    assert history.group_weights == {}
    reports = [grouped(), grouped(["near"])]
    for report in reports:
        history.append(report)
    assert list(history.group_weights) == ["stem", "<body>"]
    for group, weights in history.group_weights.items():
        expected = [report.groups[group].weights for report in reports]
        np.testing.assert_array_equal(weights, expected)
    figure = history.plot()
    loss, stem, body, *_ = figure.axes
    assert [stem.get_title(), body.get_title()] == ["weight/stem", "weight/<body>"]
    np.testing.assert_array_equal(stem.lines[0].get_ydata(), history.group_weights["stem"][:, 0])
    assert stem.lines[1].get_xdata().tolist() == [0]  # absent at 1
    legends = [axes for axes in figure.axes if axes.get_legend()]
    assert legends == [loss]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["near", "far"]


def test_the_weights_of_a_group_that_a_step_did_not_reach_are_nan():
    history = gb.History()
    report = grouped()
    history.append(report)
    history.append(dataclasses.replace(report, groups={"stem": report.groups["stem"]}))
    assert np.isnan(history.group_weights["<body>"]).tolist() == [[False] * 2, [True] * 2]


def synthetic_history(losses):
    rng = np.random.default_rng(0)
    history = gb.History()
    for row in losses:
        rows = rng.normal(size=(len(row), 3))
        names = tuple(f"task{k}" for k in range(len(row)))
        history.append(
            gb.Report(names, row, np.ones(len(row)), rows @ rows.T, "Uniform", gb.Status.CONVERGED)
        )
    return history


def test_of_many_tasks_the_spread_and_the_extremes_are_drawn():
    losses = np.tile(np.arange(12.0), (60, 1))
    losses[:, 5] = np.nan  # one was never there
    losses[10:20] = np.nan  # and for some steps nobody
    loss, _, cosine, _ = synthetic_history(losses).plot().axes
    labels = [line.get_label() for line in loss.lines]
    assert labels == ["median", "task11", "task10", "task1", "task0"]
    assert set(loss.lines[0].get_ydata()) == {6.0}
    texts = [text.get_text() for text in loss.get_legend().get_texts()]
    assert texts == ["all 11", "middle half", *labels]
    lowest_and_highest = [
        (path.vertices[:, 1].min(), path.vertices[:, 1].max())
        for band in loss.collections
        for path in band.get_paths()
    ]
    assert lowest_and_highest == [(0.0, 11.0), (2.5, 8.5)]
    assert len(cosine.lines) == 5


@pytest.mark.parametrize("num_tasks", [8, 9])
def test_up_to_eight_tasks_have_a_line_each(num_tasks):
    loss = synthetic_history(np.ones((3, num_tasks))).plot().axes[0]
    assert (len(loss.lines), len(loss.collections)) == ((8, 0) if num_tasks == 8 else (5, 2))


@pytest.mark.parametrize(
    ("losses", "scale"),
    [((1, 40), "log"), ((1, 30), "linear"), ((0, 40), "linear"), ((-1, 40), "linear")],
)
def test_positive_losses_far_apart_have_a_log_axis(losses, scale):
    history = synthetic_history(np.array([losses, losses], dtype=float))
    assert history.plot().axes[0].get_yscale() == scale


def test_cosines_never_have_a_log_axis():
    history = gb.History()
    for cosine in (0.01, 0.9):
        gram = np.array([[1, cosine], [cosine, 1]])
        history.append(gb.Report(("a", "b"), np.ones(2), np.ones(2), gram, "Uniform", None))
    assert [axes.get_yscale() for axes in history.plot().axes] == ["linear"] * 4


def test_infinite_losses_are_not_drawn():
    losses = np.array([[1.0, np.inf]] * 100)  # two to a point
    losses[10, 0] = np.inf
    (line,) = synthetic_history(losses).plot().axes[0].lines
    assert line.get_label() == "task0"
    assert line.get_ydata().tolist() == [1.0] * 50


def test_a_short_history_keeps_the_latest_reports_and_counts_their_steps():
    history = gb.History(max_reports=3)
    losses = np.arange(10.0).reshape(5, 2)
    for report in synthetic_history(losses):
        history.append(report)
    assert len(history) == 3
    assert history.losses.tolist() == losses[2:].tolist()
    assert history[0].losses.tolist() == losses[2].tolist()
    assert history.plot().axes[0].lines[0].get_xdata().tolist() == [2, 3, 4]
    with pytest.raises(ValueError, match="max_reports must be at least 1"):
        gb.History(max_reports=0)


def read_strictly(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    lines = path.read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_a_history_is_written_while_it_grows(tmp_path, monkeypatch):
    path = tmp_path / "new" / "folder" / "run.jsonl"
    monkeypatch.chdir(tmp_path)
    history = gb.History(max_reports=1, path="new/folder/run.jsonl")
    monkeypatch.chdir("/")  # the file stays where it is
    reports = [*synthetic_history(np.array([[1.0, np.inf], [np.nan, 2.0]])), grouped()]
    reports[1] = dataclasses.replace(reports[1], status=None)
    for step, report in enumerate(reports[:2]):
        history.append(report)
        assert len(read_strictly(path)) == step + 1
    with pytest.raises(ValueError, match="of one run"):
        history.append(reports[2])
    records = read_strictly(path)
    for step, (record, report) in enumerate(zip(records, reports[:2], strict=True)):
        floats = {key: value for key, value in report.as_dict().items() if math.isfinite(value)}
        status = ["converged", None][step]
        about = {"step": step, "solver": "Uniform", "status": status}
        assert record == {**about, "resolution": report.resolution, **floats}
    assert "loss/task1" not in records[0]
    assert "loss/task0" not in records[1]


def test_the_file_of_another_run_is_refused_and_kept(tmp_path):
    path = tmp_path / "run.jsonl"
    gb.History(path=path).append(hand_report())
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"run.jsonl is of another run; name a new file"):
        gb.History(path=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("again", [copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h))])
def test_a_copied_or_pickled_history_goes_on_in_the_same_file(again, tmp_path):
    path = tmp_path / "run.jsonl"
    history = gb.History(max_reports=2, path=path)
    for _ in range(3):
        history.append(hand_report())
    copied = again(history)
    copied.append(hand_report())
    assert [record["step"] for record in read_strictly(path)] == [0, 1, 2, 3]
    assert (len(copied), len(history)) == (2, 2)
    assert copied.names == history.names
