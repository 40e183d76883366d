"""Training of the small conditional generator as the decoder of a variational autoencoder.

Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014 (arXiv 1312.6114). Its Gaussians are
fitted afterwards, to the codes of each class, as Ghosh et al. do (From Variational to Deterministic
Autoencoders, ICLR 2020, arXiv 1903.12436): samples are then like what the decoder was trained on.
"""

from collections.abc import Sequence

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from examples.common import transforms
from examples.metapseudo.generators.conditional import ConditionalGenerator
from examples.metapseudo.generators.generator import frozen

_PIXEL_SD = 0.1  # How exact the images are to be, against how normal the codes.
_BATCH = 500


class Encoder(nn.Module):
    """From images to the mean and the logarithm of the variance of their codes.

    Args:
        latent_size: L.
        width: Channels of the first layer.
    """

    def __init__(self, latent_size: int, width: int = 24) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _halving(3, width), _halving(width, 2 * width), _halving(2 * width, 4 * width)
        )
        self.out = nn.Linear(4 * width * 16, 2 * latent_size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and logarithms of variances, both [N, L].

        Args:
            images: In [0, 1], [N, 3, 32, 32].
        """
        both = self.out(self.layers(transforms.normalize(images)).flatten(1))
        mean, log_variance = both.chunk(2, dim=1)
        return mean, log_variance


def train_generator(
    images: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    *,
    num_steps: int,
    batch_size: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    console: Console | None = None,
) -> ConditionalGenerator:
    r"""Train a generator on labelled images, and return it frozen.

    .. math::
        L = \frac{\|x - g(\mu + \sigma \epsilon)\|^2}{2 s^2} +
        \mathrm{KL}\big(N(\mu, \sigma^2) \,\|\, N(0, 1)\big), \qquad
        (\mu, \sigma) = \text{encoder}(x)

    with s = 0.1 the standard deviation of a pixel.

    Args:
        images: 8-bit images of the source [N, 3, 32, 32].
        labels: Their classes [N].
        classes: Names of the classes.
        num_steps: Steps of Adam.
        batch_size: Images in a step.
        lr: Learning rate at the start of the cosine schedule.
        seed: Of weights and draws.
        console: Where to show the progress.
    """
    draws = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = ConditionalGenerator(classes)
        encoder = Encoder(generator.latent_size)
    parameters = [*generator.parameters(), *encoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    console = console or Console(quiet=True)
    for _ in track(range(num_steps), "generator", console=console, disable=console.quiet):
        chosen = torch.randint(len(images), (batch_size,), generator=draws)
        shown = transforms.to_float(images[chosen])
        mean, log_variance = encoder(shown)
        noise = torch.randn(mean.shape, generator=draws)
        decoded = generator.decoder(mean + (0.5 * log_variance).exp() * noise)
        error = (decoded - shown).square().sum() / (2 * _PIXEL_SD**2)
        divergence = 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).sum()
        loss = (error + divergence) / (batch_size * shown[0].numel())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    frozen(generator)
    encoder.eval()
    with torch.no_grad():
        codes = [encoder(transforms.to_float(batch))[0] for batch in torch.split(images, _BATCH)]
    generator.fit(torch.cat(codes), labels)
    return generator


def _halving(channels_in: int, channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )
