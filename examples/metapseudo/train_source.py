"""Runs ``python -m examples.metapseudo.train_source``: trains a generator and a classifier."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from examples.common.data.unreadable import name_unreadable
from examples.metapseudo.data.load import load_files, load_source_images
from examples.metapseudo.generators.source import AUTOENCODER, train_source


def main(
    data: Annotated[
        str | None,
        typer.Option(
            help="Folder or zip of images, the first half of whose classes is the source "
            "(default: what the renderer draws)."
        ),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="Kind of generator: autoencoder (minutes) or adversarial (an hour).")
    ] = "autoencoder",
    generator_steps: Annotated[
        int | None, typer.Option(help="Steps of the generator (default: that of its kind).")
    ] = None,
    classifier_steps: Annotated[int, typer.Option(help="Steps of the source classifier.")] = 600,
    out: Annotated[Path, typer.Option(help="File of the weights.")] = AUTOENCODER,
) -> None:
    """Train the generator and the classifier of a source, and write their weights."""
    console = Console()
    try:
        if data is not None:
            name_unreadable(console, *load_files(data))
        train_source(
            load_source_images(data),
            out,
            kind=kind,
            generator_steps=generator_steps,
            classifier_steps=classifier_steps,
            console=console,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    typer.run(main)
