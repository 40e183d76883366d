"""Trains several runs on the same data, and compares them with each other and random init."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from examples.common.data.image_set import ImageSet
from examples.common.divergence import tells_divergence
from examples.common.run_folder import RunFolder
from examples.common.trunk import PretextModel
from examples.mpssl import evaluate, pretext
from examples.mpssl.inputs import MakeBatch, pretext_batch
from examples.mpssl.presets import RunConfig, build_model_of
from examples.mpssl.run import ranks
from examples.mpssl.run.loop import train
from examples.mpssl.run.pictures import draw_comparison, draw_inputs, draw_summary
from examples.mpssl.run.tables import RANDOM, Results, as_markdown, summary_as_markdown
from examples.mpssl.train import Training


def run(
    config: RunConfig,
    train_set: ImageSet,
    test_set: ImageSet,
    out: Path,
    *,
    resume: bool,
    console: Console,
) -> dict[str, Any]:
    """Train and evaluate one run, and write results and pictures to its folder.

    Args:
        config: The configuration of the run.
        train_set: Images for the training and the probes.
        test_set: Held-out images.
        out: The folder of all runs.
        resume: Continue an interrupted run.
        console: The console that shows the progress.

    Returns:
        The results: accuracies of the probes, of the pretext tasks and of chance. On all processes
        except the first, the result is empty.
    """
    folder = RunFolder(out / config.name)
    model = train(Training(config, train_set), folder, resume=resume, console=console)
    if not ranks.is_first():
        return {}
    results = judge(model, config, train_set, test_set)
    folder.save_results(results)
    if config.pretext_tasks:
        draw_inputs(config.pretext_tasks, test_set, folder.path / "inputs.png")
    folder.history().plot(folder.path / "history.png")
    return results


def judge(
    model: PretextModel,
    config: RunConfig,
    train_set: ImageSet,
    test_set: ImageSet,
    make_batch: MakeBatch = pretext_batch,
) -> dict[str, Any]:
    """Return the accuracies of a model's probes, of its pretext tasks, and of chance.

    Args:
        model: The model, trained or not.
        config: The configuration of its run.
        train_set: Images to fit the probes on.
        test_set: Held-out images.
        make_batch: Makes the inputs of the pretext tasks.

    Raises:
        ValueError: The model's features are not finite: its training has diverged.
    """
    with tells_divergence(config.name, "by its last step", {"--lr": config.lr}):
        probes = evaluate.probe(model.trunk, train_set, test_set)
    return {
        "config": config.as_dict(),
        "num_train": len(train_set),
        "num_test": len(test_set),
        "probes": probes,
        "pretext": evaluate.pretext_accuracy(
            model, config.pretext_tasks, test_set, make_batch=make_batch, seed=config.seed
        ),
        "chance": {name: 1 / len(classes) for name, classes in train_set.classes.items()},
    }


def compare(
    configs: Sequence[RunConfig],
    train_set: ImageSet,
    test_set: ImageSet,
    out: Path,
    *,
    command: str,
    resume: bool,
    console: Console,
) -> Results:
    """Do every run, and write the comparison as JSON, Markdown and a picture.

    Args:
        configs: The configurations of the runs, with the same data and seed.
        train_set: Images for the training and the probes.
        test_set: Held-out images.
        out: The folder of all runs.
        command: The command that was typed, which is written above the table.
        resume: Continue interrupted runs.
        console: The console that shows the progress.

    Returns:
        The results by the name of the run; empty on all processes except the first.
    """
    runs = {
        config.name: run(config, train_set, test_set, out, resume=resume, console=console)
        for config in configs
    }
    if not ranks.is_first():
        return {}
    every_task = [task for task in pretext.TASKS if any(task in c.tasks for c in configs)]
    options = {"name": RANDOM, "tasks": tuple(every_task) or configs[0].tasks}
    base = RunConfig(**{**configs[0].as_dict(), **options})
    untrained = build_model_of(base, train_set)
    results = {RANDOM: judge(untrained, base, train_set, test_set), **runs}
    (out / "comparison.json").write_text(
        json.dumps({"command": command, "results": results}, indent=2) + "\n"
    )
    (out / "comparison.md").write_text(as_markdown(results, command))
    draw_comparison(results, out / "comparison.png")
    return results


def summarize(kinds: Mapping[str, Results], out: Path, *, command: str) -> None:
    """Write a summary over several kinds of images as Markdown and as a picture.

    Args:
        kinds: For each kind of image, the results of the same runs.
        out: The folder of all runs.
        command: The command that was typed, which is written above the table.
    """
    (out / "summary.md").write_text(summary_as_markdown(kinds, command))
    draw_summary(kinds, out / "summary.png")
