"""The benchmark of tasks: its arithmetic, its choices, and that no run is done twice."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks.tasks import __main__ as command
from benchmarks.tasks import store, suites
from benchmarks.tasks.run import Run, perform
from benchmarks.tasks.scores import Comparison, changes, delta_m, mean_rank
from benchmarks.tasks.store import Store
from benchmarks.tasks.study import ALONE, STATIC, Study, static_grid
from benchmarks.tasks.suite import Metric, Suite
from benchmarks.tasks.supervised import Classes, Labelled, Number, Supervised
from examples.common.solvers import build_solver

METRICS = {"hits": Metric("%", higher_is_better=True), "miss": Metric("", higher_is_better=False)}
OUTSIDE = """
import gradbalance as gb

class Half(gb.StatelessSolver):
    needs = weighs = "losses"

    def __init__(self, *, share=0.5):
        self.share = share

    def solve(self, problem):
        return gb.Uniform(preferences=[self.share] * len(problem.tasks)).solve(problem)

class Broken(Half):
    def solve(self, problem):
        raise RuntimeError("no weights today")
"""


class Points(Suite):
    """Two numbers between two points each; trains in milliseconds."""

    tasks = ("near", "far")
    metrics = {name: Metric("", higher_is_better=False) for name in tasks}  # noqa: RUF012
    num_steps = 4

    def __init__(self, *, alone=True):
        self.alone = alone

    def build(self, tasks):
        return nn.ParameterDict({"shared": torch.rand(1), **{t: torch.rand(1) for t in tasks}})

    def batches(self, seed):
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield {t: torch.randn(1, generator=generator) + 4 * i for i, t in enumerate(self.tasks)}

    def losses(self, model, batch):
        return {
            task: (model["shared"] + model[task] - batch[task]).square().sum()
            for task in self.tasks
            if task in model
        }

    def measure(self, model, split):
        best = {task: {task: 4.0 * place} for place, task in enumerate(self.tasks)}
        return {
            task: float(abs(model["shared"] + model[task] - best[task][task]).detach())
            for task in self.tasks
            if task in model
        }


@pytest.fixture(autouse=True)
def points(monkeypatch):
    """A suite `points` beside the others; none of them lives on in the cache."""
    makers = {**suites._SUITES, "points": lambda _: Points()}
    monkeypatch.setattr(suites, "_SUITES", makers)
    monkeypatch.setattr(suites, "NAMES", tuple(makers))
    monkeypatch.setattr(command, "NAMES", tuple(makers))
    suites.suite_of.cache_clear()
    yield
    suites.suite_of.cache_clear()


def run_of(**changed):
    given = {"suite": "points", "solver": "Uniform", "tasks": Points.tasks, "rate": 0.1}
    return Run(**{**given, "seed": 0, "num_steps": 3, "scale": "none", **changed})


def study(tmp_path, *options):
    command.main([*options, "--out", str(tmp_path)])
    text = (tmp_path / "tasks.md").read_text()
    return json.loads((tmp_path / "tasks.json").read_text()), text


def test_delta_m_by_hand():
    values, reference = {"hits": 60.0, "miss": 3.0}, {"hits": 80.0, "miss": 2.0}
    assert changes(values, reference, METRICS) == {"hits": -25.0, "miss": -50.0}
    assert delta_m(values, reference, METRICS) == -37.5
    assert delta_m({"hits": 88.0, "miss": 1.0}, reference, METRICS) == 30.0


def test_ranks_by_hand():
    found = mean_rank(
        [{"hits": 9.0, "miss": 5.0}, {"hits": 8.0, "miss": 1.0}, {"hits": 8.0, "miss": 2.0}],
        METRICS,
    )
    assert found.tolist() == [2.0, 1.75, 2.25]


def test_the_critical_difference_is_that_of_demsar():
    # Demšar 2006, section 3.2.2: 4 methods on 14 sets, q = 2.569.
    scores = np.random.default_rng(0).standard_normal((14, 4))
    assert Comparison.of(scores).critical_difference == pytest.approx(1.25, abs=5e-3)


def test_units_scale_a_loss_by_their_variance_and_leave_its_metric():
    targets, output = torch.tensor([10.0, 20.0, 60.0]), torch.tensor([[0.5], [0.1], [2.0]])
    raw, standardised = (Number.of(targets, raw=raw) for raw in (True, False))
    ratio = raw.loss(output, targets) / standardised.loss(output, targets)
    assert ratio == pytest.approx(float(targets.var()))
    assert raw.loss(output, targets) == pytest.approx(
        float((30 + targets.std() * output[:, 0] - targets).square().mean())
    )
    assert raw.measure(output, targets) == standardised.measure(output, targets)


def test_missing_labels_take_no_part():
    inputs = torch.ones(3, 2)
    nan = float("nan")
    labels = {"half": torch.tensor([1.0, nan, 4.0]), "none": torch.full((3,), nan)}
    kinds = {"half": Number(0.0, 1.0, raw=True), "none": Number(0.0, 1.0, raw=True)}
    suite = Supervised(kinds, Labelled(inputs, labels), {}, trunk=nn.Identity, width=2, num_steps=1)
    losses = suite.losses(lambda x: dict.fromkeys(labels, torch.ones(3, 1)), suite._train)
    assert losses["none"] is None
    assert losses["half"] == pytest.approx((0 + 9) / 2)


def test_accuracy_by_hand():
    output = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 2.0]])
    assert Classes(2).measure(output, torch.tensor([0, 1, 1, 0])) == 75.0


def test_a_run_is_the_plain_loop():
    suite, found = Points(), perform(run_of())
    torch.manual_seed(0)
    model, batches = suite.build(suite.tasks), suite.batches(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    for _ in range(3):
        optimizer.zero_grad()
        sum(suite.losses(model, next(batches)).values()).backward()
        optimizer.step()
        schedule.step()
    assert found["test"] == pytest.approx(suite.measure(model, "test"), rel=1e-3)


@pytest.mark.parametrize("solver", ["FAMO", "DWA", "GradNorm", "CRMOGM(solver=UPGrad())"])
@pytest.mark.parametrize("scale", ["none", "sum", "norm"])
def test_solvers_with_hooks_run_at_every_scale(solver, scale):
    assert "error" not in perform(run_of(solver=solver, num_steps=12, scale=scale))


def test_the_static_weights_that_are_tried():
    tried = [build_solver(text) for text in static_grid(Points(), seed=0)]
    assert len(tried) == 2 + 5
    assert all(solver.preferences is None or max(solver.preferences) == 1 for solver in tried)


def test_rates_are_chosen_on_the_validation_part(tmp_path, monkeypatch):
    """The middle rate is best there, the last one on the test part."""

    def outcome(run, data=None):
        quality = {0.1: 3.0, 0.2: 1.0, 0.3: 2.0}[run.rate]
        parts = {"validation": quality, "test": 1 / run.rate}
        metrics = {p: dict.fromkeys(run.tasks, value) for p, value in parts.items()}
        return {**vars(run), **metrics, "ms": 1.0, "over_plain": 1.0}

    monkeypatch.setattr(store, "perform", outcome)
    one = Study("points", Points(), ["Uniform", "RLW", STATIC], (0, 1), rates=(0.1, 0.2, 0.3))
    kept = Store(tmp_path / "runs.jsonl")
    for stage in range(2):
        kept.do(one.runs(stage, kept))
    found = {line.method: line for line in one.found(kept)}
    assert {line.rates for line in found.values()} == {(0.2,), (0.2, 0.2)}
    assert [len(line.tests) for line in found.values()] == [2] * 4
    assert found["RLW"].num_tried == found[ALONE].num_tried == 3 * 2
    assert found[STATIC].num_tried == 7 + 3 * 2 - 1


def test_a_study_is_resumed(tmp_path, monkeypatch):
    options = ["--suites", "points", "--solvers", "Uniform", "UPGrad", STATIC, "--seeds", "0", "1"]
    first, text = study(tmp_path, *options)
    assert first["points"]["UPGrad"]["seeds"] == 2
    assert "| UPGrad |" in text
    runs = tmp_path / "runs.jsonl"
    lines = runs.read_text()
    assert len(set(lines.splitlines())) == len(lines.splitlines())
    assert {"suite", "solver", "rate", "seed", "test"} <= json.loads(lines.splitlines()[0]).keys()

    runs.write_text(lines[:-9])  # cut off while the last run was written down
    done = []
    monkeypatch.setattr(store, "perform", lambda run, data: done.append(run) or perform(run, data))
    again, _ = study(tmp_path, *options)
    assert len(done) == 1
    assert len(runs.read_text().splitlines()) == len(lines.splitlines())
    assert again["points"]["UPGrad"]["metrics"] == first["points"]["UPGrad"]["metrics"]


def test_a_suite_without_single_tasks_is_compared_with_the_plain_sum(tmp_path, monkeypatch):
    monkeypatch.setitem(suites._SUITES, "points", lambda _: Points(alone=False))
    found, _ = study(tmp_path, "--suites", "points", "--solvers", "RLW", "--seeds", "0")
    assert list(found["points"]) == ["Uniform", "RLW"]
    assert found["points"]["Uniform"]["delta_m"] == [0.0, 0.0]


def test_a_solver_from_outside(tmp_path, monkeypatch):
    (tmp_path / "outside.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    options = ["--suites", "points", "--solvers", "Uniform", "--seeds", "0"]
    options += ["--solver", "outside.Half(share=0.25)", "--solver", "outside.Broken"]
    found, text = study(tmp_path / "out", *options)
    rows = found["points"]
    half, plain = (rows[m]["metrics"] for m in ("outside.Half(share=0.25)", "Uniform"))
    for task in Points.tasks:
        assert half[task] == pytest.approx(plain[task], rel=1e-2)  # Adam's ε is all that differs
    assert rows["outside.Broken"]["errors"] == ["RuntimeError: no weights today"]
    assert "| outside.Broken | failed |" in text
    assert "- outside.Broken: RuntimeError: no weights today" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--suites", "numbers"], "invalid choice: 'numbers'"),
        (["--solver", "Sum"], "gradbalance has no solver 'Sum'"),
        (["--solver", "nowhere.Solver"], "No module named 'nowhere'"),
        (["--solver", "collections.abc.Mapping"], "collections.abc has no solver 'Mapping'"),
        (["--solver", "__import__('os').Solver"], "must be a name or a call"),
        (["--solver", "MGDA @ length"], "the scale in 'MGDA @ length' must be one of none, sum"),
        (["--suites", "cifar"], "no suite is left"),
    ],
)
def test_unknown_names(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit):
        command.main([*options, "--out", str(tmp_path)])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_images_that_are_not_at_hand_leave_their_suite_out(tmp_path, capsys):
    options = ["--suites", "points", "cifar", "--solvers", "Uniform", "--seeds", "0"]
    found, text = study(tmp_path, *options, "--data", str(tmp_path / "missing.zip"))
    assert "cifar" not in found
    assert "- cifar is left out: it needs --data" in text


def test_images_from_a_folder(tmp_path):
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("cat", "ship"):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for index in range(4):
                pixels = generator.integers(255, size=(8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    options = ["--suites", "cifar", "--solvers", "RLW", "--seeds", "0", "--num-steps", "2"]
    found, _ = study(tmp_path / "out", *options, "--data", str(tmp_path / "images"))
    assert found["cifar"]["RLW"]["metrics"].keys() == {"class", "turn"}


def test_digits_have_no_digit_in_common_between_their_parts():
    suite = suites.suite_of("digits", None)
    batch = next(suite.batches(0))
    assert batch.inputs.shape == (64, 1, 12, 12)
    left, right, number = (batch.labels[task] for task in suite.tasks)
    assert torch.equal(10 * left + right, number.long())
    corners = {
        name: {image[0, :4, :8].numpy().tobytes() for image in part.inputs}
        for name, part in {"train": suite._train, **suite._held_out}.items()
    }
    assert not corners["train"] & corners["test"]


def test_molecules_and_their_missing_labels():
    pytest.importorskip("rdkit")
    suite = suites.suite_of("targets-missing", None)
    known = {t: float((~y.isnan()).float().mean()) for t, y in suite._train.labels.items()}
    assert list(known.values()) == pytest.approx([1 - k / 8 for k in range(8)], abs=0.05)
    assert not any(y.isnan().any() for y in suite._held_out["test"].labels.values())


@pytest.mark.long
def test_the_quick_command_runs_with_several_processes(tmp_path):
    root = Path(__file__).parents[1]
    options = ["--quick", "--num-steps", "2", "--jobs", "2", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tasks", *options],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "tasks.json").read_text())["digits"]["UPGrad"]["seeds"] == 1
    assert (tmp_path / "ranks.png").exists()


def test_an_equation_is_measured_by_the_error_of_its_solution():
    suite = suites.suite_of("pinn-klein-gordon", None)
    assert suite.tasks[0] == "residual"
    assert len(suite.tasks) == 4
    assert not suite.alone
    torch.manual_seed(0)
    model = suite.build(suite.tasks)
    losses = suite.losses(model, next(suite.batches(0)))
    assert list(losses) == list(suite.tasks)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    # The network is 0 everywhere, and so is the solution's speed at first: x cos(5πt) + (xt)³.
    assert suite.measure(model, "validation") == {"error": pytest.approx(100.0)}
    assert suite.losses(model, next(suite.batches(0)))["velocity"] == 0
