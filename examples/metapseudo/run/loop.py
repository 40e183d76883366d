"""Takes a run to its end: resumed where it was interrupted, logged, saved and evaluated."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from torch import nn

import gradbalance as gb
from examples.common.divergence import tells_divergence
from examples.common.run_folder import RunFolder
from examples.metapseudo.config import RunConfig
from examples.metapseudo.data.load import Target
from examples.metapseudo.generators.source import Source
from examples.metapseudo.train import Training, ends_of_parts

NUM_PARTS = 4  # Parts of a run, each with an evaluation and a checkpoint at its end.


def train(
    config: RunConfig,
    target: Target,
    source: Source | None,
    folder: RunFolder,
    *,
    mapping: nn.Module | None = None,
    records: Iterable[dict[str, Any]] = (),
    num_parts: int = NUM_PARTS,
    resume: bool = False,
    console: Console | None = None,
) -> Training:
    """Train a run to its end, with an evaluation and a checkpoint after every part of it.

    Args:
        config: The options of the run.
        target: The images to be learned, and to be tested on.
        source: The generator of the samples, or None if the run needs none.
        folder: Where the files of the run go.
        mapping: The map of the latents, if it was found before.
        records: Lines of the log from the search for this map; they are logged first.
        num_parts: Number of parts, which are as equal as possible.
        resume: Continue the run in the folder, if there is one.
        console: Where to show the progress.

    Returns:
        The training after its last step.

    Raises:
        ValueError: The training diverges, or the run in the folder is another one.
    """
    training = Training(config, target, source, mapping)
    training.start(config, folder, resume=resume)
    console = console or Console(quiet=True)
    if training.step_done == 0:
        for record in records:
            folder.log(record)
        folder.log({"kind": "evaluation", "step": 0, **training.judge()})
    rates = {"--lr": config.lr}
    if training.latents is not None:
        rates["--meta-lr"] = config.map_lr
    for end in training.parts(folder, ends_of_parts(config.num_steps, num_parts)):
        while training.step_done < end:
            when = f"at step {training.step_done + 1}"
            with tells_divergence(config.name, when, rates):
                report, of_latents = training.step()
            record = {"kind": "step", "step": training.step_done, **report.as_dict()}
            if of_latents is not None:
                record |= of_latents.as_dict("latents/")
            folder.log(record)
        training.end_epoch()
        with tells_divergence(config.name, f"by step {end}", rates):
            found = training.judge()
        folder.log({"kind": "evaluation", "step": end, **found})
        console.print(_line(config, end, report, found), soft_wrap=True, highlight=False)
    return training


def _line(config: RunConfig, step: int, report: gb.Report, found: dict[str, float]) -> str:
    losses = "  ".join(f"{n} {v:.3f}" for n, v in zip(report.names, report.losses, strict=True))
    judged = f"test accuracy {100 * found['accuracy']:.1f} %"
    if "target_like" in found:
        judged += f"  target-like samples {100 * found['target_like']:.0f} %"
    return f"{config.name}  step {step}/{config.num_steps}  {losses}  {judged}"
