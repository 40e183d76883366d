"""A class-conditional convolutional generator of 32×32 images, and its adversarial training.

The losses are hinge losses, and the layers of the discriminator are spectrally normalised (Miyato
et al., Spectral Normalization for GANs, ICLR 2018, arXiv 1802.05957). The discriminator gets the
class by a projection (Miyato and Koyama, cGANs with Projection Discriminator, ICLR 2018, arXiv
1802.05637). The result is a running average of the generator's weights (Yazici et al., ICLR 2019,
arXiv 1806.04498).
"""

import copy
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from examples.common import transforms
from examples.metapseudo.generators.conditional import ConditionalGenerator
from examples.metapseudo.generators.generator import frozen

# Legend: N images, L latent size, C classes of the generator.

_BETAS = (0.0, 0.9)
_KEPT = 0.999  # Share of the running average that a step keeps; less in the first steps.


class AdversarialGenerator(ConditionalGenerator):
    """Makes an image of latents and an embedded class, by three convolutions that double its side.

    Args:
        classes: Names of the C classes.
        latent_size: Length of a latent, L.
        width: Number of channels before the last of these convolutions.
    """

    def __init__(self, classes: Sequence[str], *, latent_size: int = 64, width: int = 48) -> None:
        super().__init__(classes, latent_size=latent_size, width=width)
        self.embedding = nn.Embedding(self.num_classes, latent_size)
        self.layers = nn.Sequential(
            nn.Linear(2 * latent_size, 4 * width * 4 * 4, bias=False),
            nn.Unflatten(1, (4 * width, 4, 4)),
            *_normalised(4 * width),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1, bias=False),
            *_normalised(2 * width),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
            *_normalised(width),
            nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def images_of(self, latents: Tensor, classes: Tensor) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1].

        Args:
            latents: Latents [N, L].
            classes: Class of each image, as integers [N].
        """
        both = torch.cat([latents, self.embedding(classes)], dim=1)
        images: Tensor = self.layers(both)
        return images


class Discriminator(nn.Module):
    """Scores how real images look for their class: three halvings, a sum, and a projection.

    It also gets the standard deviation of the features over the batch, which says how much the
    images differ (Karras et al., Progressive Growing of GANs, ICLR 2018, arXiv 1710.10196). Without
    that, the generator soon ignored its latents.

    Args:
        num_classes: Number of classes, C.
        width: Number of channels of the first layer.
    """

    def __init__(self, num_classes: int, width: int = 48) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_halving(3, width), *_halving(width, 2 * width), *_halving(2 * width, 4 * width)
        )
        self.out = spectral_norm(nn.Linear(4 * width + 1, 1))
        self.embedding = spectral_norm(nn.Embedding(num_classes, 4 * width))

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        """Return scores [N].

        Args:
            images: Images in [0, 1], [N, 3, 32, 32], N > 1, all real or all generated.
            classes: Class of each image, as integers [N].
        """
        features = self.layers(2 * images - 1).sum(dim=(2, 3))
        spread = features.std(dim=0).mean().expand(len(features), 1)
        projected = (self.embedding(classes) * features).sum(dim=1)
        scores: Tensor = self.out(torch.cat([features, spread], dim=1))[:, 0] + projected
        return scores


def train_adversarial(
    images: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    *,
    num_steps: int,
    batch_size: int = 64,
    lr: float = 2e-4,
    seed: int = 0,
    console: Console | None = None,
) -> AdversarialGenerator:
    r"""Train a generator against a discriminator; return the average of its weights, frozen.

    .. math::
        L_D = \overline{\max(0, 1 - D(x, c))} + \overline{\max(0, 1 + D(G(z, c), c))}, \qquad
        L_G = -\overline{D(G(z, c), c)}

    Args:
        images: 8-bit images of the source [N, 3, 32, 32].
        labels: Classes of the images [N].
        classes: Names of the classes.
        num_steps: Number of steps of Adam, for each of the two networks.
        batch_size: Images in a step.
        lr: Learning rate of the generator. That of the discriminator is twice as large, and both
            fall to zero in the second half of the training.
        seed: Seed of the weights and of everything drawn.
        console: Where to show the progress.
    """
    draws = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = AdversarialGenerator(classes)
        discriminator = Discriminator(generator.num_classes)
    averaged = copy.deepcopy(generator)
    optimizers = [
        torch.optim.Adam(generator.parameters(), lr=lr, betas=_BETAS),
        torch.optim.Adam(discriminator.parameters(), lr=2 * lr, betas=_BETAS),
    ]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, 2 - 2 * step / num_steps))
        for optimizer in optimizers
    ]
    console = console or Console(quiet=True)
    for step in track(range(num_steps), "generator", console=console, disable=console.quiet):
        chosen = torch.randint(len(images), (batch_size,), generator=draws)
        real, of_class = transforms.to_float(images[chosen]), labels[chosen]
        flipped = torch.rand(batch_size, 1, 1, 1, generator=draws) < 0.5
        real = torch.where(flipped, real.flip(3), real)

        drawn = generator(torch.randn(batch_size, generator.latent_size, generator=draws), of_class)
        loss = (1 - discriminator(real, of_class)).relu().mean()
        loss = loss + (1 + discriminator(drawn.detach(), of_class)).relu().mean()
        _descend(loss, optimizers[1])

        discriminator.requires_grad_(False)
        _descend(-discriminator(drawn, of_class).mean(), optimizers[0])
        discriminator.requires_grad_(True)

        for schedule in schedules:
            schedule.step()
        _average(averaged, generator, keep=min(_KEPT, step / (step + 10)))
    frozen(averaged)
    return averaged


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@torch.no_grad()
def _average(averaged: nn.Module, module: nn.Module, *, keep: float) -> None:
    for kept, new in zip(averaged.parameters(), module.parameters(), strict=True):
        kept.lerp_(new, 1 - keep)
    for state, new_state in zip(averaged.buffers(), module.buffers(), strict=True):
        state.copy_(new_state)


def _normalised(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU()]


def _halving(channels_in: int, channels: int) -> list[nn.Module]:
    return [
        spectral_norm(nn.Conv2d(channels_in, channels, 4, stride=2, padding=1)),
        nn.LeakyReLU(0.1),
    ]
