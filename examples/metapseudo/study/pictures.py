"""The picture of generators beside the images that they were trained on."""

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib import style
from matplotlib.figure import Figure

from examples.common import transforms
from examples.metapseudo.data.load import Labelled
from examples.metapseudo.generators.generator import Generator


@style.context("gradbalance.pictures")
def draw_sources(generators: Mapping[str, Generator], real: Labelled, path: Path) -> None:
    """Draw samples of generators beside images that they were trained on, one row for each class.

    Args:
        generators: The generators, by the title of their part of the picture.
        real: Images of the same classes.
        path: File of the picture.
    """
    columns, draws = 6, torch.Generator().manual_seed(0)
    num_classes = len(real.classes)
    classes = torch.arange(num_classes).repeat_interleave(columns)
    shown = {
        name: generator(torch.randn(len(classes), generator.latent_size, generator=draws), classes)
        for name, generator in generators.items()
    }
    chosen = torch.cat([(real.labels == c).nonzero()[:columns, 0] for c in range(num_classes)])
    shown["images"] = transforms.to_float(real.images[chosen])
    figure = Figure(figsize=(3 * len(shown), 2.6))
    for axis, (name, images) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
        rows = images.detach().reshape(num_classes, columns, *images.shape[1:])
        axis.imshow(rows.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2).numpy())
        axis.set_title(name)
        axis.axis("off")
    figure.savefig(path)
