"""Trains a run to its end: resumes it, logs and saves it, and shows its progress."""

from collections.abc import Sequence

from rich.console import Console

import gradbalance as gb
from examples.common.run_folder import RunFolder
from examples.common.trunk import PretextModel
from examples.mpssl.run import ranks
from examples.mpssl.run.progress import RunProgress
from examples.mpssl.train import Training


def train(
    training: Training,
    folder: RunFolder,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> PretextModel:
    """Train a run to its end, with a checkpoint after every epoch.

    Args:
        training: The run, at its start.
        folder: The folder for its files.
        resume: Continue the run in the folder, if there is one.
        console: The console that shows the progress; None shows nothing.

    Returns:
        The trained model.
    """
    config, num_steps = training.config, training.steps_per_epoch
    folder = ranks.FolderOfFirst(folder.path)
    training.start(config, folder, resume=resume)
    with RunProgress(
        console if console and ranks.is_first() else Console(quiet=True),
        name=config.name,
        epochs=config.epochs,
        steps_per_epoch=num_steps,
        epochs_done=training.step_done // num_steps,
    ) as progress:
        ends = (num_steps * epoch for epoch in range(1, config.epochs + 1))
        for end in training.parts(folder, ends):
            reports = []
            for report in training.epoch():
                folder.log({"kind": "step", "step": training.step_done, **report.as_dict()})
                progress.step(report)
                reports.append(report)
            lr = training.schedule.get_last_lr()[0]
            epoch = {"kind": "epoch", "epoch": end // num_steps, "lr": lr}
            folder.log({**epoch, **_means(reports)})
    return training.model


def _means(reports: Sequence[gb.Report]) -> dict[str, float]:
    """The mean losses and weights of an epoch."""
    means: dict[str, float] = {}
    for report in reports:
        for key, value in report.as_dict().items():
            if key.startswith(("loss/", "weight/")):
                means[f"mean_{key}"] = means.get(f"mean_{key}", 0.0) + value / len(reports)
    return means
