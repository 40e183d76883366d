"""The command line."""

import shlex
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from examples.common.checks import check_device, check_folder
from examples.common.data.image_set import ImageSet
from examples.common.data.unreadable import name_unreadable
from examples.common.earlier_runs import check_runs_in
from examples.common.only_one import only_one
from examples.common.run_folder import RunFolder
from examples.common.trunk import TRUNKS
from examples.mpssl.presets import PRESETS, SOURCES, RunConfig, load_images_of, preset_config
from examples.mpssl.pretext import TASKS
from examples.mpssl.run import ranks
from examples.mpssl.run.checks import try_out
from examples.mpssl.run.compare import compare, summarize
from examples.mpssl.run.tables import Results, print_comparison, print_summary

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)

# Enough for the default command to show the effect; the studies train longer.
EPOCHS = 6
BUILT_IN = ("upright", "turned")


@app.command()
def main(
    presets: Annotated[
        list[str] | None,
        typer.Argument(help=f"What to train: {', '.join(PRESETS)} (default: rotation mp-ssl)."),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help=f"Pretext tasks, separated by commas: {', '.join(TASKS)}.")
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
        str | None,
        typer.Option(
            help="Folder or zip of images; or upright or turned, for one kind of the built-in "
            "images (default: both kinds)."
        ),
    ] = None,
    turned: Annotated[
        bool, typer.Option("--turned", help="Give every image a random quarter turn.")
    ] = False,
    trunk: Annotated[
        str, typer.Option(help=f"The shared network: {', '.join(TRUNKS)}.")
    ] = RunConfig.trunk,
    max_train: Annotated[int | None, typer.Option(help="Number of training images.")] = None,
    max_test: Annotated[int | None, typer.Option(help="Number of test images.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = EPOCHS,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = RunConfig.batch_size,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = RunConfig.lr,
    seed: Annotated[int, typer.Option(help="Seed of weights and data.")] = RunConfig.seed,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads (default: torch's choice).")
    ] = None,
    device: Annotated[str, typer.Option(help="Device, such as cpu or cuda.")] = RunConfig.device,
    precision: Annotated[
        str, typer.Option(help="float32, bfloat16, or auto (bfloat16 on a GPU only).")
    ] = RunConfig.precision,
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue runs that were interrupted.")
    ] = False,
) -> None:
    """Train pretext tasks on a shared trunk, and compare what it has learned with random init.

    Without arguments: rotation alone against MP-SSL, on upright built-in images and on randomly
    turned ones.
    """
    started = time.perf_counter()
    kinds = _kinds_of(data, turned=turned)
    options = {
        "trunk": trunk,
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
    results: dict[str, Results] = {}
    try:
        configs = {
            kind: _configs(presets or ["rotation", "mp-ssl"], {**options, **of_kind}, changes)
            for kind, of_kind in kinds.items()
        }
        command = shlex.join(["python", "-m", "examples.mpssl", *sys.argv[1:]])
        check_device(device)
        if threads is not None:
            torch.set_num_threads(threads)
        ranks.start(device)
        folders = {kind: out / kind if len(kinds) > 1 else out for kind in kinds}
        sets = _checked(configs, folders, out, resume=resume)
        with only_one(_made(out)) if ranks.is_first() else nullcontext():
            for kind in kinds:
                if ranks.is_first():
                    name_unreadable(console, *sets[kind])
                    if len(kinds) > 1:
                        console.print(f"{kind} images:", highlight=False)
                results[kind] = compare(
                    configs[kind],
                    *sets[kind],
                    folders[kind],
                    command=command,
                    resume=resume,
                    console=console,
                )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if not ranks.is_first():
        return
    if len(kinds) > 1:
        summarize(results, out, command=command)
        print_summary(results, console)
    else:
        print_comparison(next(iter(results.values())), console)
    seconds = time.perf_counter() - started
    console.print(f"{seconds:.0f} s; tables, pictures and runs are in {out}/", soft_wrap=True)


def _kinds_of(data: str | None, *, turned: bool) -> dict[str, dict[str, Any]]:
    """The kinds of images to train on; for each, their source and whether they are turned."""
    built_in = {name: {"data": None, "turned": name == "turned"} for name in BUILT_IN}
    if data is None and not turned:
        return built_in
    if data is None or data in built_in:
        kind = "turned" if turned or data is None else data
        return {kind: built_in[kind]}
    return {Path(data).name: {"data": data, "turned": turned}}


def _configs(
    presets: list[str], options: dict[str, Any], changes: dict[str, Any]
) -> list[RunConfig]:
    given = [key for key, value in changes.items() if value is not None]
    if given and len(presets) > 1:
        raise ValueError(f"--{given[0]} changes one preset, got {', '.join(presets)}")
    if len(set(presets)) != len(presets):
        raise ValueError(f"each preset can be trained once, got {', '.join(presets)}")
    return [preset_config(preset, **options, **changes) for preset in presets]


def _checked(
    configs: dict[str, list[RunConfig]], folders: dict[str, Path], out: Path, *, resume: bool
) -> dict[str, tuple[ImageSet, ImageSet]]:
    """Check all runs, and return the training and test images of each kind."""
    check_folder(out)
    asked = {folders[kind] / c.name: c for kind, of_kind in configs.items() for c in of_kind}
    if ranks.is_first() and not resume:
        check_runs_in(out, asked, kinds=BUILT_IN, resumable=True)
    sets = {kind: load_images_of(of_kind[0]) for kind, of_kind in configs.items()}
    for kind, of_kind in configs.items():
        for config in of_kind:
            folder = RunFolder(folders[kind] / config.name)
            try_out(config, sets[kind][0], folder, resume=resume)
    return sets


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
