"""The classifier: a feature extractor, which is regularised, and a linear head, which is not."""

import torch
from torch import Tensor, nn

from examples.common import transforms
from examples.common.divergence import NOT_FINITE
from examples.common.trunk import SmallTrunk

_BATCH = 500


class Classifier(nn.Module):
    """The trunk, pooled to features [N, 96], and a linear head.

    Batch norm would have real and synthetic images decide about each other's features, and hide
    from their mean what tells them apart; the trunk has group norm instead.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.trunk = SmallTrunk(norm=lambda channels: nn.GroupNorm(8, channels))
        self.head = nn.Linear(self.trunk.width, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Return features [N, 96].

        Args:
            images: In [0, 1], [N, 3, 32, 32].
        """
        maps: Tensor = self.trunk(transforms.normalize(images))
        return maps.mean(dim=(2, 3))

    def blocks(self, images: Tensor) -> list[Tensor]:
        """Return the features after every block of the trunk, the first [N, 32, 16, 16].

        Args:
            images: In [0, 1], [N, 3, 32, 32].
        """
        return self.trunk.taps(transforms.normalize(images))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 96] and logits [N, C].

        Args:
            images: In [0, 1], [N, 3, 32, 32].
        """
        features = self.features(images)
        return features, self.head(features)


def build_classifier(num_classes: int, *, seed: int) -> Classifier:
    """Return a freshly initialised classifier.

    Args:
        num_classes: C.
        seed: Of the initial weights; the global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(num_classes)


@torch.no_grad()
def probabilities(classifier: Classifier, images: Tensor) -> Tensor:
    """Return class probabilities [N, C].

    Args:
        classifier: Any.
        images: 8-bit images [N, 3, 32, 32].

    Raises:
        ValueError: One is not finite.
    """
    batches = [
        classifier(transforms.to_float(batch))[1].softmax(dim=1)
        for batch in torch.split(images, _BATCH)
    ]
    found = torch.cat(batches)
    if not found.isfinite().all():
        raise ValueError(f"a class probability is {NOT_FINITE}")
    return found


def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """Return the share of images that are classified right.

    Args:
        classifier: Any.
        images: 8-bit images [N, 3, 32, 32].
        labels: Integers [N].
    """
    return float((probabilities(classifier, images).argmax(1) == labels).double().mean())
