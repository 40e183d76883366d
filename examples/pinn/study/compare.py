"""Does many runs, saves their results, and compares them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from examples.common.only_one import only_one
from examples.common.processes import as_done
from examples.pinn.config import RunConfig
from examples.pinn.study.pictures import draw_comparison
from examples.pinn.study.tables import as_markdown, print_tables
from examples.pinn.train import train

Result = dict[str, Any]


def compare(
    configs: Sequence[RunConfig], file: Path, *, command: str, jobs: int, console: Console
) -> list[Result]:
    """Do the runs that are not in a file yet, and update its table and picture.

    Each finished run is written to the file at once, as one line, so an interrupted comparison
    continues where it was. A table of all runs in the file (``.md``) and a picture (``.png``) with
    the same name are next to it.

    Args:
        configs: The configurations of the runs, which differ only in method and seed.
        file: The file of the results, ``.jsonl``.
        command: The command that was typed, which is written above the table.
        jobs: Number of processes, one thread each.
        console: The console that shows progress and tables.

    Raises:
        ValueError: The file has runs of another problem or with other options, or another
            comparison is using it.
    """
    _check_alike(read(file), configs, file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    with only_one(file):
        _do_what_is_left(configs, file, jobs, console)
        results = read(file)
    file.with_suffix(".md").write_text(as_markdown(results, command))
    draw_comparison(results, file.with_suffix(".png"))
    print_tables(results, console)
    return results


def _do_what_is_left(configs: Sequence[RunConfig], file: Path, jobs: int, console: Console) -> None:
    known = [result["config"] for result in read(file)]
    to_do = [config for config in configs if config.as_dict() not in known]
    console.print(f"{len(configs) - len(to_do)} of {len(configs)} runs are in {file}")
    for index, result in enumerate(as_done(run, [(c,) for c in to_do], jobs=jobs), 1):
        with file.open("a") as lines:
            lines.write(json.dumps(result) + "\n")
        config = result["config"]
        console.print(
            f"{index} of {len(to_do)}: {config['name']}, seed {config['seed']}: "
            f"error {_shown(result['error'])}, {result['seconds']:.0f} s",
            highlight=False,
        )


def read(file: Path) -> list[Result]:
    """Return the results in a file, or an empty list if there is no file.

    Args:
        file: A file with one line of JSON per run.
    """
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def run(config: RunConfig) -> Result:
    """Do a run on one thread, and return its result.

    Args:
        config: The configuration of the run.
    """
    torch.set_num_threads(1)
    return train(config).as_dict()


def _shown(error: float | None) -> str:
    return "none" if error is None else f"{error:.3g}"


def _check_alike(done: Sequence[Result], wanted: Sequence[RunConfig], file: Path) -> None:
    """Raise a ValueError unless all runs agree in every option except method and seed."""
    configs = [*(result["config"] for result in done), *(config.as_dict() for config in wanted)]
    own = ("name", "solver", "scale", "factor", "seed")
    for config in configs:
        for option, value in config.items():
            if option not in own and value != configs[0][option]:
                raise ValueError(
                    f"the runs in {str(file)!r} have {option} {configs[0][option]!r}, got "
                    f"{value!r}: use another folder"
                )
