"""Do runs in processes, and hold them against each other."""

import json
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from examples.common.run_folder import RunFolder
from examples.metapseudo.data import load_target
from examples.metapseudo.pictures import draw_accuracy, draw_gap, draw_samples
from examples.metapseudo.source import load_source_networks
from examples.metapseudo.tables import as_markdown, print_table
from examples.metapseudo.train import train
from examples.metapseudo.variants import RunConfig

Result = dict[str, Any]


def run(config: RunConfig, out: Path, *, resume: bool) -> Result:
    """Train one run on one thread; its folder then holds results and pictures.

    Args:
        config: The run.
        out: The folder of all runs.
        resume: Continue an interrupted run.

    Returns:
        Its configuration, and its evaluations in order.
    """
    torch.set_num_threads(config.threads or 1)
    source = load_source_networks(config.generator)
    target = load_target(config.data, labels_per_class=config.labels_per_class, seed=config.seed)
    folder = RunFolder(out / config.name)
    training = train(config, target, source, folder, resume=resume, console=Console())
    evaluations = [record for record in folder.metrics() if record["kind"] == "evaluation"]
    result = {"config": config.as_dict(), "evaluations": evaluations}
    folder.save_results(result)
    folder.history().plot(folder.path / "history.png")
    if training.latents is not None:
        draw_samples(training.latents.samples, target.labelled, folder.path / "samples.png")
    return result


def compare(
    configs: Sequence[RunConfig],
    out: Path,
    report: Path,
    *,
    command: str,
    resume: bool,
    jobs: int,
    console: Console,
) -> list[Result]:
    """Do every run, print the comparison and write it as JSON, Markdown and pictures.

    Args:
        configs: The runs.
        out: The folder of all runs.
        report: The folder of the comparison.
        command: What was typed, to be written beside the table.
        resume: Continue interrupted runs; those that are done are not done again.
        jobs: Number of processes.
        console: Where to show the table.
    """
    started = time.perf_counter()
    by_name: dict[str, Result] = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(run, config, out, resume=resume): config for config in configs}
        try:
            for future in as_completed(futures):
                by_name[futures[future].name] = future.result()
                console.print(f"{len(by_name)} of {len(configs)} runs done", highlight=False)
        except Exception:
            pool.shutdown(cancel_futures=True)  # what fails in one run would in the others
            raise
    results = [by_name[config.name] for config in configs]
    report.mkdir(parents=True, exist_ok=True)
    # A line for each run: it can be read, and compared line by line.
    lines = ",\n".join(json.dumps(result) for result in results)
    (report / "comparison.json").write_text(
        f'{{"command": {json.dumps(command)}, "results": [\n{lines}\n]}}\n'
    )
    (report / "comparison.md").write_text(as_markdown(results, command))
    draw_accuracy(results, report / "accuracy.png")
    draw_gap(results, report / "gap.png")
    mapped = [config.name for config in configs if config.objectives == "both"]
    if mapped:
        shutil.copyfile(out / mapped[0] / "samples.png", report / "samples.png")
    print_table(results, console)
    seconds = time.perf_counter() - started
    console.print(f"{seconds:.0f} s; tables and pictures are in {report}/", soft_wrap=True)
    return results
