"""Does several runs and compares them, in tables and pictures."""

import json
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from examples.common.run_folder import RunFolder
from examples.metapseudo.config import RunConfig
from examples.metapseudo.run.pictures import draw_accuracy
from examples.metapseudo.run.runs import Result, run, run_all
from examples.metapseudo.run.tables import as_markdown, print_table


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
        configs: The options of the runs.
        out: The folder of all runs.
        report: The folder of the comparison.
        command: The command line, which is written beside the table.
        resume: Continue interrupted runs; those that are done are not done again.
        jobs: Number of processes.
        console: Where to show the table.
    """
    started = time.perf_counter()
    results = run_all(configs, out, jobs=jobs, console=console, do=partial(run, resume=resume))
    for config in configs:
        folder = RunFolder(out / config.name)
        folder.history().plot(folder.path / "history.png")
    report.mkdir(parents=True, exist_ok=True)
    write_results(results, command, report / "comparison.json")
    (report / "comparison.md").write_text(as_markdown(results, command))
    draw_accuracy(results, report / "accuracy.png")
    optimized = [config.name for config in configs if config.samples == "optimized"]
    if optimized:
        shutil.copyfile(out / optimized[0] / "walk.png", report / "walk.png")
    print_table(results, console)
    seconds = time.perf_counter() - started
    console.print(f"{seconds:.0f} s; tables and pictures are in {report}/", soft_wrap=True)
    return results


def write_results(results: Sequence[Result], command: str, path: Path) -> None:
    """Write results as JSON, one line per run, so that files can be compared line by line.

    Args:
        results: Results of runs.
        command: The command that made them.
        path: The file.
    """
    lines = ",\n".join(json.dumps(result) for result in results)
    path.write_text(f'{{"command": {json.dumps(command)}, "results": [\n{lines}\n]}}\n')
