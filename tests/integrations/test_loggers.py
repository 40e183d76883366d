"""Loggers are given `report.as_dict()`: the same names at every step, which they accept."""

import math
from pathlib import Path

import pytest

import gradbalance as gb
from tests.integrations.plain import Net, inputs, losses_of

HINT = "pip install '.[integrations]'"


def reports() -> list[gb.Report]:
    """Steps that were solved, and steps that reused weights, of which less is known."""
    net = Net()
    balancer = gb.Balancer(gb.UPGrad(), gb.SharedParameters(net.trunk), every=2)
    return [balancer.backward(losses_of(net(x), x)) for x in inputs()]


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason=HINT)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        for step, report in enumerate(reports()):
            for name, value in report.as_dict("train/").items():
                writer.add_scalar(name, value, step)
    events = EventAccumulator(str(tmp_path)).Reload()
    for name, value in reports()[0].as_dict("train/").items():
        found = events.Scalars(name)
        assert [event.step for event in found] == [0, 1, 2, 3]
        assert found[0].value == pytest.approx(value, nan_ok=True)


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database needs the whole package
    mlflow = pytest.importorskip("mlflow", reason=HINT)
    mlflow.set_tracking_uri(tmp_path.as_uri())
    mlflow.set_experiment("tests")
    with mlflow.start_run() as run:
        for step, report in enumerate(reports()):
            mlflow.log_metrics(report.as_dict("train/"), step=step)
    client = mlflow.tracking.MlflowClient()
    for name, value in reports()[0].as_dict("train/").items():
        found = client.get_metric_history(run.info.run_id, name)
        assert [metric.step for metric in found] == [0, 1, 2, 3]
        assert found[0].value == pytest.approx(value, nan_ok=True)


def test_wandb_offline(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb", reason=HINT)
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True)
    with wandb.init(project="tests", mode="offline", dir=tmp_path, settings=settings) as run:
        for report in reports():
            run.log(report.as_dict("train/"))
        summary = {name: run.summary[name] for name in reports()[-1].as_dict("train/")}
    for name, value in reports()[-1].as_dict("train/").items():
        found = float(summary[name])  # it writes NaN as a text
        assert math.isnan(found) if math.isnan(value) else found == pytest.approx(value)
