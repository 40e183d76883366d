"""The trunk, a small CNN for 32×32 images, and one head per task."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

WIDTHS = (32, 48, 64, 96)


class Trunk(nn.Module):
    """Four blocks of convolution, max pooling (not in the last), normalisation and ReLU.

    ``forward`` maps images [N, 3, 32, 32] to features [N, 96, 4, 4]; ``taps`` returns the features
    after every block. 98,000 parameters.

    Args:
        norm: Makes the normalisation of a number of channels.
    """

    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        blocks = []
        for index, (width_in, width) in enumerate(zip((3, *WIDTHS), WIDTHS, strict=False)):
            last = index == len(WIDTHS) - 1
            # Pooling before normalisation and ReLU leaves them a quarter of the work.
            blocks.append(
                nn.Sequential(
                    nn.Conv2d(width_in, width, 3, padding=1, bias=False),
                    nn.Identity() if last else nn.MaxPool2d(2),
                    norm(width),
                    nn.ReLU(),
                )
            )
        self.blocks = nn.Sequential(*blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features after the last block.

        Args:
            images: Normalised images [N, 3, 32, 32].
        """
        return self.taps(images)[-1]

    def taps(self, images: Tensor) -> list[Tensor]:
        """Return the features after every block.

        Args:
            images: Normalised images [N, 3, 32, 32].
        """
        # The layout carries over from block to block, and a CPU is nearly twice as fast in it.
        images = images.contiguous(memory_format=torch.channels_last)
        features = []
        for block in self.blocks:
            images = block(images)
            features.append(images)
        return features


class PretextModel(nn.Module):
    """The trunk with a head, pooling and one linear layer, for each task.

    Args:
        heads: For each task its number of classes.
    """

    def __init__(self, heads: Mapping[str, int]) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], num_classes)
                )
                for name, num_classes in heads.items()
            }
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return each task's logits [N, classes].

        Args:
            images: Normalised images [N, 3, 32, 32].
        """
        features = self.trunk(images)
        return {name: head(features) for name, head in self.heads.items()}


def build_model(heads: Mapping[str, int], *, seed: int) -> PretextModel:
    """Return a freshly initialised model; the trunk depends on the seed only.

    Args:
        heads: For each task its number of classes.
        seed: Seed of the initial weights; the global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PretextModel(heads)
