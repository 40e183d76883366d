"""The losses on unlabelled images: consistency of the features, or FreeMatch's pseudo-labels."""

import torch
from torch import Tensor
from torch.nn import functional


def consistency(strong: Tensor, targets: Tensor) -> Tensor:
    r"""Return the mean of 1 − cos(h(strong), h(weak)), in [0, 2].

    It asks that features do not change under strong augmentation.

    Args:
        strong: Features of strongly augmented images [N, F].
        targets: Features of the same images, weakly augmented [N, F]; they get no gradient.
    """
    return 1 - functional.cosine_similarity(strong, targets.detach(), dim=1).mean()


class FreeMatch:
    r"""Pseudo-labels with FreeMatch's self-adaptive thresholds.

    The weakly augmented image gets a pseudo-label. Where its confidence passes a threshold, the
    cross-entropy of the strongly augmented image to this label is the loss.

    .. math::
        \tau \leftarrow m\tau + (1-m)\,\overline{\max_c q_c}, \qquad
        p \leftarrow mp + (1-m)\,\overline{q}, \qquad
        L = \tfrac1N \sum_n 1\big[\max_c q_{nc} \ge \tau\, p_{\hat c} / \max p\big]\,
        \mathrm{CE}(s_n, \hat c_n), \quad \hat c_n = \arg\max_c q_{nc}

    with q the probabilities of the weak images and s the logits of the strong ones. After Wang et
    al., FreeMatch: Self-adaptive Thresholding for Semi-supervised Learning, ICLR 2023 (arXiv
    2205.07246), without its fairness term.

    Args:
        num_classes: C; τ and every entry of p start at 1/C.
        momentum: The m of the running averages. The paper's 0.999 is for a million steps.
    """

    def __init__(self, num_classes: int, momentum: float = 0.99) -> None:
        self.momentum = momentum
        self.threshold = torch.tensor(1 / num_classes)
        self.shares = torch.full((num_classes,), 1 / num_classes)

    def targets(self, weak: Tensor) -> tuple[Tensor, Tensor]:
        """Update the thresholds once; return pseudo-labels [N] and which of them pass [N].

        Args:
            weak: Logits of the weakly augmented images [N, C].
        """
        probabilities = weak.detach().softmax(dim=1)
        confidence, labels = probabilities.max(dim=1)
        self.threshold = torch.lerp(confidence.mean(), self.threshold, self.momentum)
        self.shares = torch.lerp(probabilities.mean(dim=0), self.shares, self.momentum)
        thresholds = self.threshold * self.shares / self.shares.max()
        return labels, confidence >= thresholds[labels]

    @staticmethod
    def loss(strong: Tensor, labels: Tensor, passed: Tensor) -> Tensor:
        """Return the mean over all N images; those that did not pass count as zero.

        Args:
            strong: Logits of the strongly augmented images [N, C].
            labels: Pseudo-labels [N].
            passed: Which of the labels passed their threshold [N].
        """
        return (functional.cross_entropy(strong, labels, reduction="none") * passed).mean()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state of the thresholds."""
        return {"threshold": self.threshold, "shares": self.shares}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from a state.

        Args:
            state: What ``state_dict`` returned.
        """
        self.threshold, self.shares = state["threshold"], state["shares"]
