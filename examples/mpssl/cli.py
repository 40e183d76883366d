"""The command line."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from examples.common.data.image_set import ImageSet
from examples.common.data.load import load_data
from examples.mpssl import ranks
from examples.mpssl.compare import compare
from examples.mpssl.presets import PRESETS, SOURCES, RunConfig, preset_config
from examples.mpssl.pretext import TASKS

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)

_MAX_NAMED = 5  # Unreadable files that are named on the console.


@app.command()
def main(
    presets: Annotated[
        list[str] | None,
        typer.Argument(help=f"What to train: {', '.join(PRESETS)} (default: rotation mp-ssl)."),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help=f"Pretext tasks, with commas between: {', '.join(TASKS)}.")
    ] = None,
    solver: Annotated[
        str | None,
        typer.Option(help="A gradbalance solver, such as PCGrad or MGDA(normalization='l2')."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help=f"Source of the gradients: {', '.join(SOURCES)}.")
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="Scale of the weights: none, sum or norm.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run, by default the preset's.")] = (
        None
    ),
    data: Annotated[
        str | None, typer.Option(help="Folder or zip of images (default: built-in images).")
    ] = None,
    max_train: Annotated[int | None, typer.Option(help="Number of training images.")] = None,
    max_test: Annotated[int | None, typer.Option(help="Number of test images.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = (
        RunConfig.epochs
    ),
    batch_size: Annotated[int, typer.Option(help="Images in a step.")] = RunConfig.batch_size,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = RunConfig.lr,
    seed: Annotated[int, typer.Option(help="Seed of weights, data and draws.")] = RunConfig.seed,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads (default: torch's choice).")
    ] = None,
    device: Annotated[str, typer.Option(help="Such as cpu or cuda.")] = RunConfig.device,
    precision: Annotated[
        str, typer.Option(help="float32, bfloat16, or auto: bfloat16 on a GPU.")
    ] = RunConfig.precision,
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue runs that were interrupted.")
    ] = False,
) -> None:
    """Train pretext tasks that share a trunk, and compare what it has learned with random init.

    Without arguments: rotation alone against MP-SSL, on built-in images.
    """
    options = {
        "data": data,
        "max_train": max_train,
        "max_test": max_test,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "threads": threads,
        "device": device,
        "precision": precision,
    }
    changes = {
        "tasks": tuple(task.strip() for task in tasks.split(",")) if tasks else None,
        "solver": solver,
        "source": source,
        "scale": scale,
        "name": name,
    }
    console = Console()
    try:
        configs = _configs(presets or ["rotation", "mp-ssl"], options, changes)
        if threads is not None:
            torch.set_num_threads(threads)
        ranks.start(device)
        train_set, test_set = load_data(data, max_train=max_train, max_test=max_test, seed=seed)
        if ranks.is_first():
            _name_unreadable(console, train_set, test_set)
        command = shlex.join(["python", "-m", "examples.mpssl", *sys.argv[1:]])
        compare(configs, train_set, test_set, out, command=command, resume=resume, console=console)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _configs(
    presets: list[str], options: dict[str, Any], changes: dict[str, Any]
) -> list[RunConfig]:
    given = [key for key, value in changes.items() if value is not None]
    if given and len(presets) > 1:
        raise ValueError(f"--{given[0]} changes one preset, got {', '.join(presets)}")
    if len(set(presets)) != len(presets):
        raise ValueError(f"each preset can be trained once, got {', '.join(presets)}")
    return [preset_config(preset, **options, **changes) for preset in presets]


def _name_unreadable(console: Console, *image_sets: ImageSet) -> None:
    unreadable = [name for image_set in image_sets for name in image_set.unreadable]
    if unreadable:
        console.print(f"{len(unreadable)} unreadable images were left out:")
        for line in unreadable[:_MAX_NAMED]:
            console.print(f"  {line}", markup=False, soft_wrap=True)
        if len(unreadable) > _MAX_NAMED:
            console.print(f"  and {len(unreadable) - _MAX_NAMED} more")
