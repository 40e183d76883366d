"""The consistency term: features do not change under strong augmentation."""

from torch import Tensor
from torch.nn import functional


def consistency(strong: Tensor, targets: Tensor) -> Tensor:
    r"""Return the mean of 1 − cos(h(strong), h(weak)), in [0, 2].

    Args:
        strong: Features of strongly augmented images [N, F].
        targets: Features of the same images, weakly augmented [N, F]; no gradient goes there.
    """
    return 1 - functional.cosine_similarity(strong, targets.detach(), dim=1).mean()
