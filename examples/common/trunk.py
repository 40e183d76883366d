"""Trunks for 32×32 images, and a model that has a trunk and one head per task."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

TrunkName = Literal["small", "nin"]


class Trunk(nn.Module):
    """A sequence of blocks that can return the features after each block.

    Args:
        blocks: The blocks; the first one takes images [N, 3, 32, 32].
        width: Number of channels after the last block.
    """

    def __init__(self, blocks: Iterable[nn.Module], width: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.width = width

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
        # All blocks keep this memory layout, and a CPU is nearly twice as fast with it.
        images = images.contiguous(memory_format=torch.channels_last)
        features = []
        for block in self.blocks:
            images = block(images)
            features.append(images)
        return features


class SmallTrunk(Trunk):
    """Four blocks of convolution, max pooling (not in the last), normalisation and ReLU.

    Its features are [N, 96, 4, 4], and it has 98,000 parameters.

    Args:
        norm: Creates the normalisation layer for a number of channels.
    """

    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        widths = (32, 48, 64, 96)
        blocks = []
        for index, (width_in, width) in enumerate(zip((3, *widths), widths, strict=False)):
            last = index == len(widths) - 1
            # With pooling first, normalisation and ReLU have a quarter of the work.
            blocks.append(
                nn.Sequential(
                    nn.Conv2d(width_in, width, 3, padding=1, bias=False),
                    nn.Identity() if last else nn.MaxPool2d(2),
                    norm(width),
                    nn.ReLU(),
                )
            )
        super().__init__(blocks, widths[-1])


class NetworkInNetwork(Trunk):
    """Four blocks of three convolutions, two of them 1×1, each with batch norm and ReLU.

    RotNet (Gidaris et al. 2018) used this trunk on CIFAR-10. Its features are [N, 192, 8, 8], and
    it has 1.4 million parameters.
    """

    def __init__(self) -> None:
        super().__init__(
            [
                nn.Sequential(*_three(3, (192, 160, 96), 5), nn.MaxPool2d(3, 2, padding=1)),
                nn.Sequential(*_three(96, (192, 192, 192), 5), nn.AvgPool2d(3, 2, padding=1)),
                nn.Sequential(*_three(192, (192, 192, 192), 3)),
                nn.Sequential(*_three(192, (192, 192, 192), 3)),
            ],
            192,
        )


def _three(width_in: int, widths: tuple[int, int, int], kernel_size: int) -> Iterable[nn.Module]:
    for before, width, size in zip((width_in, *widths), widths, (kernel_size, 1, 1), strict=False):
        yield nn.Conv2d(before, width, size, padding=size // 2, bias=False)
        yield nn.BatchNorm2d(width)
        yield nn.ReLU()


TRUNKS: dict[str, Callable[[], Trunk]] = {"small": SmallTrunk, "nin": NetworkInNetwork}


class PretextModel(nn.Module):
    """A trunk with one head per task; a head is pooling and one linear layer.

    Args:
        trunk: The trunk.
        heads: The number of classes of each task.
    """

    def __init__(self, trunk: Trunk, heads: Mapping[str, int]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(trunk.width, num_classes)
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


def build_model(heads: Mapping[str, int], *, trunk: TrunkName = "small", seed: int) -> PretextModel:
    """Return a new model; the trunk's initial weights depend only on its name and the seed.

    Args:
        heads: The number of classes of each task.
        trunk: A key of ``TRUNKS``.
        seed: Seed of the initial weights; torch's global random state is not changed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PretextModel(TRUNKS[trunk](), heads)
