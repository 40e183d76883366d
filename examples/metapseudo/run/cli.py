"""The command line of ``python -m examples.metapseudo``."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from examples.common.checks import check_folder
from examples.common.data.unreadable import name_unreadable
from examples.common.earlier_runs import check_runs_in
from examples.common.only_one import only_one
from examples.common.run_folder import RunFolder
from examples.metapseudo.config import RunConfig
from examples.metapseudo.data.load import load_files
from examples.metapseudo.run.compare import compare
from examples.metapseudo.variants import SHOWN, VARIANTS, variant_config

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)


@app.command()
def main(
    variants: Annotated[
        list[str] | None,
        typer.Argument(help=f"Any of {', '.join(VARIANTS)} (default: {', '.join(SHOWN)})."),
    ] = None,
    labels_per_class: Annotated[
        list[int] | None, typer.Option(help="Labelled images of a class; may be given repeatedly.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 1,
    solver: Annotated[
        str, typer.Option(help="Solver of cross-entropy and regulariser, such as PCGrad.")
    ] = RunConfig.solver,
    gap: Annotated[
        str | None, typer.Option(help="mean, moments or mmd (default: the variant's).")
    ] = None,
    map: Annotated[
        str | None, typer.Option("--map", help="mlp or affine (default: the variant's).")
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            help="When latents are optimised: first or alternating (default: the variant's)."
        ),
    ] = None,
    map_steps: Annotated[int, typer.Option(help="Steps of the map, in the order first.")] = (
        RunConfig.map_steps
    ),
    meta_solver: Annotated[
        str | None,
        typer.Option(
            help="Solver of validation loss and gap, such as MGDA (default: the variant's)."
        ),
    ] = None,
    meta_gradient: Annotated[
        str | None, typer.Option(help="exact or finite-difference (default: the variant's).")
    ] = None,
    validation_share: Annotated[
        float, typer.Option(help="Share of the labelled images kept for the validation loss.")
    ] = RunConfig.validation_share,
    num_steps: Annotated[int, typer.Option(help="Iterations.")] = RunConfig.num_steps,
    batch_size: Annotated[int, typer.Option(help="Labelled images in a step.")] = (
        RunConfig.batch_size
    ),
    num_samples: Annotated[int, typer.Option(help="Unlabelled images in a step.")] = (
        RunConfig.num_samples
    ),
    weight: Annotated[float, typer.Option(help="Weight of the regulariser.")] = RunConfig.weight,
    gap_weight: Annotated[float, typer.Option(help="Weight of the gap.")] = RunConfig.gap_weight,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = RunConfig.lr,
    meta_lr: Annotated[
        float | None, typer.Option(help="Learning rate of the map (default: that of its kind).")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Folder or zip of images, the latter half of whose classes is the target "
            "(default: built-in ones)."
        ),
    ] = None,
    generator: Annotated[
        str, typer.Option(help="renderer, autoencoder, faces, or a file of `train_source`.")
    ] = RunConfig.generator,
    jobs: Annotated[int, typer.Option(min=1, help="Processes, one thread each.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/metapseudo"),
    report: Annotated[
        Path | None,
        typer.Option(help="Folder of tables and pictures (default: the folder of the runs)."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue runs that were interrupted.")
    ] = False,
) -> None:
    """Train a classifier on few labels with synthetic samples, and compare ways to get them.

    Without arguments: five variants with four labels a class, on built-in images.
    """
    console = Console()
    options = {
        "solver": solver,
        "gap": gap,
        "map": map,
        "order": order,
        "map_steps": map_steps,
        "meta_solver": meta_solver,
        "meta_gradient": meta_gradient,
        "validation_share": validation_share,
        "num_steps": num_steps,
        "batch_size": batch_size,
        "num_samples": num_samples,
        "weight": weight,
        "gap_weight": gap_weight,
        "lr": lr,
        "meta_lr": meta_lr,
        "data": data,
        "generator": generator,
    }
    try:
        configs = [
            variant_config(variant, labels_per_class=labels, seed=seed, **options)
            for labels in labels_per_class or [RunConfig.labels_per_class]
            for variant in variants or SHOWN
            for seed in range(seeds)
        ]
        if len({config.name for config in configs}) < len(configs):
            raise ValueError("each variant and number of labels can be given once")
        command = shlex.join(["python", "-m", "examples.metapseudo", *sys.argv[1:]])
        check_folder(out)
        if data is not None:
            name_unreadable(console, *load_files(data))
        out.mkdir(parents=True, exist_ok=True)
        with only_one(out):
            _check_earlier(configs, out, resume=resume)
            compare(
                configs,
                out,
                report or out,
                command=command,
                resume=resume,
                jobs=jobs,
                console=console,
            )
    except (ValueError, ModuleNotFoundError) as error:
        raise typer.BadParameter(str(error)) from error


def _check_earlier(configs: Sequence[RunConfig], out: Path, *, resume: bool) -> None:
    """Raise a ValueError if the folder has other runs, or runs with other options."""
    asked = {out / config.name: config for config in configs}
    if not resume:
        check_runs_in(out, asked, resumable=True)
    for path, config in asked.items():
        if resume:
            RunFolder(path).check_same(config)
