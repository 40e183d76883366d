"""Adversarial training of the small conditional generator: hinge loss, spectral normalisation.

A projection discriminator (Miyato and Koyama, cGANs with Projection Discriminator, ICLR 2018,
arXiv 1802.05637) with spectral normalisation (Miyato et al., ICLR 2018, arXiv 1802.05957). What is
kept of the generator is the running mean of its weights.
"""

import copy
import itertools
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from examples.common import transforms
from examples.metapseudo.generators.conditional import ConditionalGenerator
from examples.metapseudo.generators.generator import frozen

_MEAN_DECAY = 0.995


class Discriminator(nn.Module):
    """How real images look for their class: ψ(h(x)) + ⟨e(c), h(x)⟩, one number an image.

    Args:
        num_classes: C.
        width: Channels of the last layer over two.
    """

    def __init__(self, num_classes: int, width: int = 48) -> None:
        super().__init__()
        widths = (3, width // 2, width, 2 * width)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers.append(spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)))
            layers.append(nn.LeakyReLU(0.1))
        self.layers = nn.Sequential(*layers)
        self.score = spectral_norm(nn.Linear(16 * widths[-1], 1))
        self.embedding = spectral_norm(nn.Embedding(num_classes, 16 * widths[-1]))

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        """Return scores [N].

        Args:
            images: In [0, 1], [N, 3, 32, 32].
            classes: Integers [N].
        """
        images = transforms.normalize(images).contiguous(memory_format=torch.channels_last)
        features = self.layers(images).flatten(1)
        score: Tensor = self.score(features).squeeze(1)
        of_class: Tensor = (self.embedding(classes) * features).sum(1)
        return score + of_class


def train_generator(
    images: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    *,
    num_steps: int,
    batch_size: int = 64,
    lr: float = 4e-4,
    seed: int = 0,
    console: Console | None = None,
) -> ConditionalGenerator:
    """Train a generator on labelled images, and return it frozen.

    Args:
        images: 8-bit images of the source [N, 3, 32, 32].
        labels: Their classes [N].
        classes: Names of the classes.
        num_steps: Steps of both networks.
        batch_size: Real images in a step, and as many generated ones.
        lr: Learning rate of both, falling linearly to zero.
        seed: Of weights and draws.
        console: Where to show the progress.
    """
    draws = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, critic = ConditionalGenerator(classes), Discriminator(len(classes))
    kept = copy.deepcopy(generator)
    frozen(kept)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=lr, betas=(0.0, 0.9))
        for network in (critic, generator)
    ]
    schedules = [
        torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=num_steps)
        for optimizer in optimizers
    ]
    console = console or Console(quiet=True)
    for _ in track(range(num_steps), "generator", console=console, disable=console.quiet):
        chosen = torch.randint(len(images), (batch_size,), generator=draws)
        real, right = transforms.to_float(images[chosen]), labels[chosen]
        fake = generator(generator.draw(batch_size, draws)[0], right)
        on_both = critic(torch.cat([real, fake.detach()]), torch.cat([right, right]))
        on_real, on_fake = on_both.chunk(2)
        _step(
            optimizers[0], functional.relu(1 - on_real).mean() + functional.relu(1 + on_fake).mean()
        )
        critic.requires_grad_(False)
        _step(optimizers[1], -critic(fake, right).mean())
        critic.requires_grad_(True)
        for schedule in schedules:
            schedule.step()
        _follow(kept, generator)
    return kept


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@torch.no_grad()
def _follow(kept: nn.Module, generator: nn.Module) -> None:
    for mean, now in zip(kept.state_dict().values(), generator.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - _MEAN_DECAY)
        else:
            mean.copy_(now)
