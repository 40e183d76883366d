"""A small generator: a Gaussian of codes for each class, and the decoder of an autoencoder.

The autoencoder is variational (Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014,
arXiv 1312.6114). The Gaussians are fitted to the codes of each class after its training, as Ghosh
et al. do (From Variational to Deterministic Autoencoders, ICLR 2020, arXiv 1903.12436). So the
codes that are drawn are like those that the decoder was trained on.
"""

from collections.abc import Sequence

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from examples.common import transforms
from examples.common.data.image_set import IMAGE_SIZE
from examples.metapseudo.generators.conditional import ConditionalGenerator
from examples.metapseudo.generators.generator import frozen

# Legend: N images, L latent size, C classes of the generator.

_PIXEL_SD = 0.1  # A smaller one gives more exact images, and codes that are less normal.
_BATCH = 500


class AutoencoderGenerator(ConditionalGenerator):
    r"""Decodes codes drawn from the Gaussian of a class: x = g(μ_c + A_c z), z standard normal.

    The decoder g is a perceptron of three layers. It costs little compared with convolutions, and
    is good enough for so few pixels.

    Args:
        classes: Names of the C classes.
        latent_size: Length of a latent, L.
        width: Width of the hidden layers.
    """

    means: Tensor
    factors: Tensor

    def __init__(self, classes: Sequence[str], *, latent_size: int = 64, width: int = 512) -> None:
        super().__init__(classes, latent_size=latent_size, width=width)
        self.register_buffer("means", torch.zeros(self.num_classes, latent_size))
        self.register_buffer("factors", torch.eye(latent_size).repeat(self.num_classes, 1, 1))
        self.decoder = nn.Sequential(
            nn.Linear(latent_size, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 3 * IMAGE_SIZE**2),
            nn.Sigmoid(),
            nn.Unflatten(1, (3, IMAGE_SIZE, IMAGE_SIZE)),
        )

    def images_of(self, latents: Tensor, classes: Tensor) -> Tensor:
        """Return images [N, 3, 32, 32] in [0, 1].

        Args:
            latents: Latents [N, L].
            classes: Class of each image, as integers [N].
        """
        drawn = torch.einsum("nij,nj->ni", self.factors[classes], latents)
        images: Tensor = self.decoder(self.means[classes] + drawn)
        return images

    @torch.no_grad()
    def fit(self, codes: Tensor, labels: Tensor) -> None:
        """Fit the Gaussian of each class to its codes.

        Args:
            codes: Codes of some images, as the decoder gets them [N, L].
            labels: Classes of the images [N].

        Raises:
            ValueError: A class has fewer than two images.
        """
        for index, name in enumerate(self.classes):
            mine = codes[labels == index].double()
            if len(mine) < 2:
                raise ValueError(f"a class needs two images, found {len(mine)} of {name!r}")
            covariance = torch.cov(mine.T) + 1e-6 * torch.eye(self.latent_size, dtype=mine.dtype)
            self.means[index] = mine.mean(dim=0).float()
            self.factors[index] = torch.linalg.cholesky(covariance).float()


class Encoder(nn.Module):
    """From images to the mean and the logarithm of the variance of their codes.

    Args:
        latent_size: Length of a latent, L.
        width: Number of channels of the first layer.
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
            images: Images in [0, 1], [N, 3, 32, 32].
        """
        both = self.out(self.layers(transforms.normalize(images)).flatten(1))
        mean, log_variance = both.chunk(2, dim=1)
        return mean, log_variance


def train_autoencoder(
    images: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    *,
    num_steps: int,
    batch_size: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    console: Console | None = None,
) -> AutoencoderGenerator:
    r"""Train an autoencoder on labelled images, and return its generator, frozen.

    .. math::
        L = \frac{\|x - g(\mu + \sigma \epsilon)\|^2}{2 s^2} +
        \mathrm{KL}\big(N(\mu, \sigma^2) \,\|\, N(0, 1)\big), \qquad
        (\mu, \sigma) = \text{encoder}(x)

    with s = 0.1 the standard deviation of a pixel.

    Args:
        images: 8-bit images of the source [N, 3, 32, 32].
        labels: Classes of the images [N].
        classes: Names of the classes.
        num_steps: Number of steps of Adam.
        batch_size: Images in a step.
        lr: Learning rate at the start of the cosine schedule.
        seed: Seed of the weights and of everything drawn.
        console: Where to show the progress.
    """
    draws = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = AutoencoderGenerator(classes)
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
