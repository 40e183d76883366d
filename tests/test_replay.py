import copy
import json
import re

import numpy as np
import pytest
import torch

import gradbalance as gb
from gradbalance.replay.replaying import named_solvers
from tests.models import Net


def report_of(rows, losses=None, **fields) -> gb.Report:
    jac = np.array(rows, dtype=float)
    names = tuple("abcdefghijk"[: len(jac)])
    values = np.ones(len(jac)) if losses is None else np.array(losses, dtype=float)
    gram, weights = jac @ jac.T, np.ones(len(jac))
    known = {"gram": gram, "solver": "Uniform", "status": gb.Status.CONVERGED, **fields}
    return gb.Report(names=names, losses=values, weights=weights, **known)


def history_of(*reports: gb.Report) -> gb.History:
    history = gb.History()
    for report in reports:
        history.append(report)
    return history


def trained(solver: gb.Solver, steps: int = 8, **options) -> gb.History:
    """A run with a step that lacks a task, and one whose loss is masked to a zero gradient."""
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    source = gb.SharedParameters(model.trunk)
    balancer, history = gb.Balancer(solver, source, **options), gb.History()
    for step in range(steps):
        losses = model.losses()
        first, second = list(losses)[:2]
        if step == 3:
            losses[first] = None
        if step == 5:
            losses[second] = losses[second] * 0.0
        optimizer.zero_grad()
        history.append(balancer.backward(losses))
        optimizer.step()
    return history


CONFLICT = [[2.0, 2.0], [-6.0, 0.0]]  # the plain sum (−4, 2) goes against the first


def test_numbers_by_hand():
    replay = history_of(report_of(CONFLICT)).replay([gb.Uniform(), gb.UPGrad()], scale="sum")
    # UPGrad: g_1 + g_2/3 and g_2 + 1.5 g_1, together (5/2, 4/3), brought to a sum of 2.
    weights = np.array([2.5, 4 / 3]) * 2 / (2.5 + 4 / 3)
    d = weights @ np.array(CONFLICT)
    np.testing.assert_allclose(replay.weights["UPGrad"], [weights], rtol=1e-9)
    np.testing.assert_allclose(replay.weights["Uniform"], [[1.0, 1.0]])
    norm = np.linalg.norm(d)
    np.testing.assert_allclose(replay.worst_cosine["UPGrad"], 2 * d.sum() / (8**0.5 * norm))
    np.testing.assert_allclose(replay.worst_cosine["Uniform"], -4 / (8**0.5 * 20**0.5))
    np.testing.assert_allclose(replay.cosine_with_sum["UPGrad"], d @ [-4, 2] / 20**0.5 / norm)
    np.testing.assert_allclose(replay.cosine_with_sum["Uniform"], 1.0)
    np.testing.assert_allclose(replay.length["UPGrad"], norm / 20**0.5)
    np.testing.assert_allclose(replay.length["Uniform"], 1.0)
    assert (replay.rises["Uniform"].tolist(), replay.rises["UPGrad"].tolist()) == ([1.0], [0.0])
    assert replay.status["UPGrad"] == (gb.Status.CONVERGED,)


def test_scales_of_any_size_change_no_angle():
    rows = np.array(CONFLICT)
    once = history_of(report_of(rows)).replay([gb.NashMTL(), gb.MGDA()])
    for scale in (1e-120, 1e120):
        other = history_of(report_of(rows * scale)).replay([gb.NashMTL(), gb.MGDA()])
        for name in once.solvers:
            np.testing.assert_allclose(other.worst_cosine[name], once.worst_cosine[name], rtol=1e-6)
            np.testing.assert_allclose(
                other.cosine_with_sum[name], once.cosine_with_sum[name], rtol=1e-6
            )


def test_rounding_below_zero_is_no_rise():
    d = np.array([[1.0, 0.0], [-1e-8, 1.0]])  # the cosine of the first with its sum is positive
    replay = history_of(report_of(d)).replay({"second alone": gb.Uniform(preferences=[0.0, 1.0])})
    assert replay.worst_cosine["second alone"][0] == pytest.approx(-1e-8)
    assert replay.rises["second alone"][0] == 0.0


@pytest.mark.parametrize(
    "solver",
    [gb.Uniform(), gb.MGDA(), gb.UPGrad(), gb.PCGrad(), gb.GradNorm(), gb.GradVac(), gb.NashMTL(),
     gb.CRMOGM(gb.MGDA()), gb.RLW(), gb.ReLoBRaLo(), gb.UW(), gb.SoftAdapt()],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("scale", [None, "sum"])
def test_the_solver_of_the_run_does_again_what_it_did(solver: gb.Solver, scale):
    history = trained(copy.deepcopy(solver), scale=scale)
    before = solver.state_dict()
    replay = history.replay({"again": solver}, scale=scale)
    assert solver.state_dict() == before
    absent = np.isnan(history.losses)
    expected = np.where(absent, np.nan, history.weights)
    assert absent.any()
    np.testing.assert_allclose(replay.weights["again"], expected, rtol=1e-12)
    assert replay.status["again"] == tuple(report.status for report in history)
    assert not replay.remarks


def test_dwa_is_told_where_epochs_end():
    history = history_of(*(report_of(CONFLICT, losses) for losses in ([4, 1], [1, 1], [1, 1])))
    assert "epoch_steps" in history.replay([gb.DWA()]).remarks["DWA"]
    replay = history.replay([gb.DWA()], epoch_steps=1)
    np.testing.assert_allclose(replay.weights["DWA"][2], [0.815, 1.185], atol=1e-3)


def test_the_means_of_longer_epochs_by_hand():
    losses = [[4, 1], [2, 3], [1, 1], [1, 3], [5, 5]]  # means (3, 2) and (1, 2)
    history = history_of(*(report_of(CONFLICT, values) for values in losses))
    weights = history.replay([gb.DWA()], epoch_steps=2).weights["DWA"]
    shares = np.exp(np.array([1 / 3, 1.0]) / 2)
    np.testing.assert_allclose(weights[:4], 1.0)
    np.testing.assert_allclose(weights[4], 2 * shares / shares.sum())


def test_directions_are_known_as_exactly_as_in_the_run():
    rows = [[1.0, 1e-4], [-1.0, 1e-4]]  # cancel to 1e-4 of their lengths
    for resolution, status in ((1e-3, gb.Status.STATIONARY), (1e-5, gb.Status.CONVERGED)):
        replay = history_of(report_of(rows, resolution=resolution)).replay([gb.MGDA()])
        assert replay.status["MGDA"] == (status,)
        assert np.isnan(replay.worst_cosine["MGDA"][0]) == (status is gb.Status.STATIONARY)


def test_famo_has_a_row_that_says_why():
    replay = history_of(report_of(CONFLICT)).replay([gb.FAMO(), gb.CRMOGM(gb.FAMO()), gb.MGDA()])
    assert set(replay.remarks) == {"FAMO", "CRMOGM"}
    assert np.isnan(replay.weights["FAMO"]).all()
    assert replay.status["FAMO"] == (None,)
    assert "FAMO: needs the losses after each step, which a recording lacks" in str(replay)
    assert "after each step" in replay._repr_html_()


def test_a_step_that_a_solver_refuses_is_nan_and_said():
    history = history_of(report_of(CONFLICT), report_of(CONFLICT, [-1.0, 1.0]))
    replay = history.replay([gb.SI(), gb.MGDA()])
    assert np.isnan(replay.weights["SI"]).tolist() == [[False, False], [True, True]]
    assert np.isnan(replay.worst_cosine["SI"]).tolist() == [False, True]
    assert "1 of 2 steps not solved; first step 1, " in replay.remarks["SI"]
    assert not np.isnan(replay.weights["MGDA"]).any()


def test_steps_without_a_gramian_are_nan():
    history = trained(gb.MGDA(), steps=3, every=2)
    replay = history.replay([gb.UPGrad()])
    assert np.isnan(replay.worst_cosine["UPGrad"]).tolist() == [False, True, False]
    assert replay.num_measured == 2
    assert str(replay).startswith("2 steps with a Gramian, of 3;")
    assert replay.status["UPGrad"][1] is None


def test_a_task_that_is_not_finite_is_left_out():
    broken = report_of([*CONFLICT, [0.0, 1.0]], [1.0, 1.0, np.inf], left_out={"c": "not finite"})
    replay = history_of(broken).replay([gb.Uniform(), gb.UPGrad()])
    alone = history_of(report_of(CONFLICT)).replay([gb.Uniform(), gb.UPGrad()])
    for name in replay.solvers:
        assert replay.worst_cosine[name] == pytest.approx(alone.worst_cosine[name])
        assert replay.length[name] == pytest.approx(alone.length[name])
        assert replay.weights[name][0, 2] == 0.0


def test_where_gradients_cancel_there_is_no_direction():
    history = history_of(report_of([[1.0, 0.0], [-1.0, 0.0]]), report_of(CONFLICT))
    replay = history.replay([gb.MGDA(), gb.Uniform(), gb.Uniform(preferences=[1.0, 0.0])])
    assert replay.status["MGDA"][0] is gb.Status.STATIONARY
    for values in (replay.worst_cosine, replay.rises, replay.length, replay.cosine_with_sum):
        assert np.isnan(values["MGDA"]).tolist() == [True, False]
    one = replay.solvers[2]  # has a direction, which the sum lacks
    assert replay.rises[one].tolist() == [1.0, 1.0]
    assert np.isnan(replay.length[one]).tolist() == [True, False]


def test_the_steps_that_are_kept_keep_their_numbers():
    history = gb.History(max_reports=2)
    for _ in range(5):
        history.append(report_of(CONFLICT))
    assert history.replay([gb.MGDA()]).steps.tolist() == [3.0, 4.0]


def test_groups_are_replayed_one_by_one():
    model = Net()
    source = gb.SharedParameters({"first": model.trunk[0], "last": model.trunk[2]})
    balancer, history = gb.Balancer(gb.MGDA(), source), gb.History()
    history.append(balancer.measure(model.losses()))
    replay = history.replay([gb.MGDA()], group="last")
    np.testing.assert_allclose(replay.weights["MGDA"], history.group_weights["last"])
    for wrong in (None, "middle"):
        with pytest.raises(ValueError, match=r"it has the groups \['first', 'last'\]"):
            history.replay([gb.MGDA()], group=wrong)
    with pytest.raises(ValueError, match="has no groups"):
        history_of(report_of(CONFLICT)).replay([gb.MGDA()], group="first")


def test_what_cannot_be_replayed_says_what_to_do():
    with pytest.raises(ValueError, match="append reports first"):
        gb.History().replay([gb.MGDA()])
    with pytest.raises(ValueError, match=r"SharedParameters\(\)"):
        history_of(report_of(CONFLICT, gram=None)).replay([gb.MGDA()])
    history = history_of(report_of(CONFLICT))
    for wrong in ([], [gb.MGDA], "MGDA", {"MGDA": 1}, gb.MGDA()):
        with pytest.raises(ValueError, match="solvers must be"):
            history.replay(wrong)
    with pytest.raises(ValueError, match="scale must be"):
        history.replay([gb.MGDA()], scale="mean")
    with pytest.raises(ValueError, match="epoch_steps"):
        history.replay([gb.MGDA()], epoch_steps=0)


def test_solvers_are_named_apart():
    solvers = [gb.MGDA(), gb.UW(lr=0.1), gb.UW(lr=0.2), gb.UW(lr=0.2)]
    named = named_solvers(solvers)
    assert list(named.values()) == solvers
    assert list(named) == ["MGDA", "UW(lr=0.1)", "UW(lr=0.2)", "UW(lr=0.2) (2)"]


def test_table_and_dict():
    history = history_of(report_of(CONFLICT), report_of([[1.0, 0.0], [0.0, 1.0]]))
    replay = history.replay([gb.Uniform(), gb.MGDA()])
    lines = str(replay).splitlines()
    assert lines[0] == "2 steps with a Gramian, of 2; what each solver would have done there:"
    assert lines[2].split()[:5] == ["Uniform", "1", "1", "50", "%"]
    floats = replay.as_dict("replay/")
    assert floats["replay/Uniform/rises"] == 0.5
    # the worst cosines are −4/√160 and 1/√2
    assert floats["replay/Uniform/worst_cosine"] == pytest.approx((-4 / 160**0.5 + 0.5**0.5) / 2)
    assert floats["replay/MGDA/weight/a"] == pytest.approx(replay.weights["MGDA"][:, 0].mean())
    assert re.search("<td.*>Uniform</td>", replay._repr_html_())


def test_many_tasks_have_no_weights_in_table_and_plot():
    rows = np.random.default_rng(0).normal(size=(9, 20))
    replay = history_of(report_of(rows)).replay([gb.Uniform()])
    assert "weight/" not in str(replay)
    assert len(replay.plot().axes) == 4


def test_plot(tmp_path):
    replay = trained(gb.UPGrad()).replay([gb.Uniform(), gb.UPGrad(), gb.FAMO()])
    figure = replay.plot(tmp_path / "replay.png")
    assert (tmp_path / "replay.png").stat().st_size > 0
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["cosine of the worst-off task", "share of steps in which a loss rises"]
    assert len(titles) == 4 + len(replay.names)
    assert [text.get_text() for text in figure.axes[0].get_legend().texts] == ["Uniform", "UPGrad"]


def test_yesterdays_run_is_read_from_its_file(tmp_path):
    today = trained(gb.GradNorm())
    written = gb.History(path=tmp_path / "run.jsonl")
    for report in today:
        written.append(report)
    with (tmp_path / "run.jsonl").open("a") as file:
        file.write('{"step": 8, "sol')  # the machine went down here
    history = gb.History.read(tmp_path / "run.jsonl")
    assert len(history) == len(today)
    assert history.names == today.names
    np.testing.assert_array_equal(history.losses, today.losses)
    np.testing.assert_array_equal(history.weights, today.weights)
    for old, new in zip(today, history, strict=True):
        assert (new.solver, new.status, new.resolution) == (old.solver, old.status, old.resolution)
        np.testing.assert_allclose(new.gram, old.gram, rtol=1e-12, atol=1e-15)
    solvers = [gb.UPGrad(), gb.GradNorm(), gb.NashMTL()]
    ours, theirs = history.replay(solvers), today.replay(solvers)
    for name in ours.solvers:
        np.testing.assert_allclose(ours.weights[name], theirs.weights[name], rtol=1e-6)
        np.testing.assert_allclose(ours.worst_cosine[name], theirs.worst_cosine[name], atol=1e-7)


def test_reused_steps_are_read(tmp_path):
    written = gb.History(path=tmp_path / "run.jsonl")
    for report in trained(gb.MGDA(), steps=3, every=2):
        written.append(report)
    history = gb.History.read(tmp_path / "run.jsonl")
    assert [report.gram is None for report in history] == [False, True, False]
    assert history[1].status is gb.Status.REUSED


def test_files_that_are_no_history_are_refused(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text(json.dumps({"step": 0, "loss/a": 1.0}) + "\n")
    with pytest.raises(ValueError, match="not a file that"):
        gb.History.read(path)
    model = Net()
    source = gb.SharedParameters({"first": model.trunk[0], "last": model.trunk[2]})
    gb.History(path=tmp_path / "groups.jsonl").append(
        gb.Balancer(gb.MGDA(), source).measure(model.losses())
    )
    with pytest.raises(ValueError, match="groups of parameters"):
        gb.History.read(tmp_path / "groups.jsonl")
