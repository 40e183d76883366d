"""The classifier: a feature extractor, which is regularised, and a linear head, which is not."""

import torch
from torch import Tensor, nn

from examples.common import transforms
from examples.common.divergence import NOT_FINITE
from examples.common.trunk import SmallTrunk

_BATCH = 500


class Classifier(nn.Module):
    """A trunk, whose output is pooled to features [N, 96], and a linear head.

    The trunk has group norm. With batch norm, real and synthetic images in one batch would
    influence each other's features, and the mean of the features would not show what distinguishes
    them.

    Args:
        num_classes: Number of classes, C.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.trunk = SmallTrunk(norm=lambda channels: nn.GroupNorm(8, channels))
        self.head = nn.Linear(self.trunk.width, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Return features [N, 96].

        Args:
            images: Images in [0, 1], [N, 3, 32, 32].
        """
        maps: Tensor = self.trunk(transforms.normalize(images))
        return maps.mean(dim=(2, 3))

    def blocks(self, images: Tensor) -> list[Tensor]:
        """Return the features after every block of the trunk; those of the first [N, 32, 16, 16].

        Args:
            images: Images in [0, 1], [N, 3, 32, 32].
        """
        return self.trunk.taps(transforms.normalize(images))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 96] and logits [N, C].

        Args:
            images: Images in [0, 1], [N, 3, 32, 32].
        """
        features = self.features(images)
        return features, self.head(features)


def build_classifier(num_classes: int, *, seed: int) -> Classifier:
    """Return a freshly initialised classifier.

    Args:
        num_classes: Number of classes, C.
        seed: Seed of the initial weights; the global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(num_classes)


@torch.no_grad()
def probabilities(classifier: Classifier, images: Tensor) -> Tensor:
    """Return class probabilities [N, C].

    Args:
        classifier: The classifier.
        images: 8-bit images [N, 3, 32, 32].

    Raises:
        ValueError: A probability is not finite.
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
    """Return the share of images that are classified correctly.

    Args:
        classifier: The classifier.
        images: 8-bit images [N, 3, 32, 32].
        labels: Labels, as integers [N].
    """
    return float((probabilities(classifier, images).argmax(1) == labels).double().mean())
