"""The two networks of a source: its generator and, if that has classes, a classifier of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch.nn import functional

from examples.common import transforms
from examples.common.checkpoint import DAMAGED, load_checkpoint, save_checkpoint
from examples.common.choices import check_one_of
from examples.metapseudo import augment
from examples.metapseudo.classifier import Classifier, build_classifier
from examples.metapseudo.data.load import Labelled
from examples.metapseudo.generators.adversarial import AdversarialGenerator, train_adversarial
from examples.metapseudo.generators.autoencoder import AutoencoderGenerator, train_autoencoder
from examples.metapseudo.generators.conditional import ConditionalGenerator
from examples.metapseudo.generators.generator import Generator, frozen
from examples.metapseudo.generators.published import FaceGenerator
from examples.metapseudo.generators.renderer import Renderer

AUTOENCODER = Path("runs/metapseudo-autoencoder.pt")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of generator that can be trained.

    Attributes:
        train: Trains it on images, given their labels and the names of the classes.
        generator: The class of the network.
        num_steps: Default number of training steps.
    """

    train: Callable[..., ConditionalGenerator]
    generator: type[ConditionalGenerator]
    num_steps: int


KINDS = {
    "autoencoder": Kind(train=train_autoencoder, generator=AutoencoderGenerator, num_steps=8000),
    "adversarial": Kind(train=train_adversarial, generator=AdversarialGenerator, num_steps=6000),
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A generator, and a classifier of the same classes, both frozen.

    Attributes:
        generator: The generator of source images.
        classifier: The classifier of source images; None if the generator has no classes.
    """

    generator: Generator
    classifier: Classifier | None


def train_source(
    images: Labelled,
    path: Path,
    *,
    kind: str = "autoencoder",
    generator_steps: int | None = None,
    classifier_steps: int,
    console: Console | None = None,
) -> None:
    """Train both networks of a source, and write them to a file.

    Args:
        images: The images of the source.
        path: The file.
        kind: Kind of the generator, a key of ``KINDS``.
        generator_steps: Training steps of the generator; None for the default of its kind.
        classifier_steps: Training steps of the classifier.
        console: Where to show the progress.

    Raises:
        ValueError: There is no such kind.
    """
    check_one_of("kind", kind, KINDS)
    num_steps = KINDS[kind].num_steps if generator_steps is None else generator_steps
    generator = KINDS[kind].train(
        images.images, images.labels, images.classes, num_steps=num_steps, console=console
    )
    classifier = train_classifier(images, num_steps=classifier_steps, console=console)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = {name: value.half() for name, value in classifier.state_dict().items()}
    state = {"kind": kind, "generator": generator.as_state(), "classifier": half}
    save_checkpoint(path, state)


def load_source(name: str) -> Source:
    """Return the generator of a name, with the classifier of its source if there is one.

    Args:
        name: "renderer"; "autoencoder", for the file that ``train_source`` writes by default;
            "faces" for a published generator; or another such file, of which no code is run.

    Raises:
        ValueError: There is no such file, or ``train_source`` did not write it.
    """
    if name == "renderer":
        return Source(generator=frozen(Renderer()), classifier=None)
    if name == "faces":
        return Source(generator=FaceGenerator.load(), classifier=None)
    path = AUTOENCODER if name == "autoencoder" else Path(name)
    if not path.exists():
        command = "python -m examples.metapseudo.train_source"
        if name != "autoencoder":
            command += f" --data … --out {name}"
        raise ValueError(f"there is no generator in {str(path)!r}: train one by `{command}`")
    try:
        state = load_checkpoint(path)
        generator = KINDS[state["kind"]].generator.of_state(state["generator"])
        classifier = build_classifier(generator.num_classes, seed=0)
        classifier.load_state_dict(state["classifier"])
    except DAMAGED as error:
        raise ValueError(
            f"{str(path)!r} is not a file that `train_source` wrote: {error!r}"
        ) from error
    return Source(generator=generator, classifier=classifier.requires_grad_(False))


def train_classifier(
    images: Labelled,
    *,
    num_steps: int,
    batch_size: int = 64,
    lr: float = 0.05,
    console: Console | None = None,
) -> Classifier:
    """Return a classifier trained on labelled images.

    Args:
        images: The labelled images.
        num_steps: Steps of SGD, on a cosine schedule.
        batch_size: Images in a step.
        lr: Learning rate at the start.
        console: Where to show the progress.
    """
    console = console or Console(quiet=True)
    draws = torch.Generator().manual_seed(0)
    classifier = build_classifier(len(images.classes), seed=0)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    for _ in track(range(num_steps), "classifier", console=console, disable=console.quiet):
        chosen = torch.randint(len(images), (batch_size,), generator=draws)
        shown = augment.weak(transforms.to_float(images.images[chosen]), draws)
        loss = functional.cross_entropy(classifier(shown)[1], images.labels[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return classifier
