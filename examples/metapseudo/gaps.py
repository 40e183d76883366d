"""The gap: a distance between samples and real images, in the features of a classifier.

``mean`` is the gap that the paper states. ``moments`` and ``mmd`` compare the features of all
blocks, which still tell where something is in an image. These features are standardised by the mean
and the standard deviation of those of the real images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from examples.metapseudo.classifier import Classifier

GapName = Literal["mean", "moments", "mmd"]

# Legend: N real images, M samples, F features.

_BANDWIDTHS = (0.5, 1.0, 2.0, 4.0)  # The h of the kernels, for squared distances per feature.
_CELLS = 2  # The features of a block are averaged in a grid of so many rows and columns.


def mean_gap(real: Tensor, synthetic: Tensor) -> Tensor:
    """Return the squared distance between the mean features.

    Args:
        real: Features of real images [N, F].
        synthetic: Features of samples [M, F].
    """
    return (real.mean(dim=0) - synthetic.mean(dim=0)).square().sum()


def moments_gap(real: Tensor, synthetic: Tensor) -> Tensor:
    """Return the squared distance of means plus that of log variances, averaged over features.

    Args:
        real: Features of real images [N, F].
        synthetic: Features of samples [M, F].
    """
    real, synthetic = _standardised(real, synthetic)
    means = (real.mean(dim=0) - synthetic.mean(dim=0)).square().mean()
    spreads = [(values.var(dim=0) + 0.05).log() for values in (real, synthetic)]
    return means + (spreads[0] - spreads[1]).square().mean()


def mmd_gap(real: Tensor, synthetic: Tensor) -> Tensor:
    r"""Return the squared maximum mean discrepancy; it is unbiased if all images are different.

    .. math::
        \overline{k(r_i, r_j)}_{i \ne j} + \overline{k(s_i, s_j)}_{i \ne j} -
        2\, \overline{k(r_i, s_j)}, \qquad k(a, b) = \sum_h \exp\!\big(-\|a - b\|^2 / (h F)\big)

    Gretton et al., A Kernel Two-Sample Test, JMLR 2012. It can be less than zero.

    Args:
        real: Features of real images [N, F], N > 1.
        synthetic: Features of samples [M, F], M > 1.
    """
    real, synthetic = _standardised(real, synthetic)
    within = sum(_mean_of_pairs(_kernel(values, values)) for values in (real, synthetic))
    return within - 2 * _kernel(real, synthetic).mean()


def pooled(classifier: Classifier, images: Tensor) -> Tensor:
    """Return the features that are the input of the head [N, F].

    Args:
        classifier: The classifier.
        images: Images in [0, 1], [N, 3, 32, 32].
    """
    return classifier.features(images)


def of_all_blocks(classifier: Classifier, images: Tensor) -> Tensor:
    """Return the features of every block, each averaged in four cells [N, F].

    Args:
        classifier: The classifier.
        images: Images in [0, 1], [N, 3, 32, 32].
    """
    blocks = classifier.blocks(images)
    cells = [functional.adaptive_avg_pool2d(block, _CELLS).flatten(1) for block in blocks]
    return torch.cat(cells, dim=1)


@dataclass(frozen=True)
class Gap:
    """A distance between two sets of images: the distance between their features.

    Attributes:
        features: Computes the features of images.
        distance: Computes the distance between two sets of features.
    """

    features: Callable[[Classifier, Tensor], Tensor]
    distance: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, classifier: Classifier, real: Tensor, synthetic: Tensor) -> Tensor:
        """Return the gap; the features of the real images get no gradient.

        Args:
            classifier: The classifier whose features are compared.
            real: Real images in [0, 1], [N, 3, 32, 32].
            synthetic: Samples in [0, 1], [M, 3, 32, 32].
        """
        with torch.no_grad():
            known = self.features(classifier, real)
        return self.distance(known, self.features(classifier, synthetic))


GAPS: dict[GapName, Gap] = {
    "mean": Gap(pooled, mean_gap),
    "moments": Gap(of_all_blocks, moments_gap),
    "mmd": Gap(of_all_blocks, mmd_gap),
}


def _standardised(real: Tensor, synthetic: Tensor) -> tuple[Tensor, Tensor]:
    mean, sd = real.mean(dim=0), real.std(dim=0) + 1e-3
    return (real - mean) / sd, (synthetic - mean) / sd


def _kernel(one: Tensor, other: Tensor) -> Tensor:
    squares = one.square().sum(dim=1)[:, None] + other.square().sum(dim=1)
    distances = (squares - 2 * one @ other.T).clamp(min=0) / one.shape[1]
    return torch.stack([torch.exp(-distances / width) for width in _BANDWIDTHS]).sum(dim=0)


def _mean_of_pairs(kernel: Tensor) -> Tensor:
    num = len(kernel)
    return (kernel.sum() - kernel.trace()) / (num * num - num)
