"""Pseudo-labels with FreeMatch's self-adaptive thresholds.

After Wang et al., FreeMatch: Self-adaptive Thresholding for Semi-supervised Learning, ICLR 2023
(arXiv 2205.07246), without its fairness term.
"""

import torch
from torch import Tensor
from torch.nn import functional


class FreeMatch:
    r"""Cross-entropy of strongly augmented images to the classes that the weak ones are given.

    .. math::
        \tau \leftarrow m\tau + (1-m)\,\overline{\max_c q_c}, \qquad
        p \leftarrow mp + (1-m)\,\overline{q}, \qquad
        L = \tfrac1N \sum_n 1\big[\max_c q_{nc} \ge \tau\, p_{\hat c} / \max p\big]\,
        \mathrm{CE}(s_n, \hat c_n), \quad \hat c_n = \arg\max_c q_{nc}

    with q the probabilities of the weak images and s the logits of the strong ones.

    Args:
        num_classes: C; where τ and p begin is 1/C.
        momentum: m. The paper's 0.999 is for a million steps.
    """

    def __init__(self, num_classes: int, momentum: float = 0.99) -> None:
        self.momentum = momentum
        self.threshold = torch.tensor(1 / num_classes)
        self.shares = torch.full((num_classes,), 1 / num_classes)

    def targets(self, weak: Tensor) -> tuple[Tensor, Tensor]:
        """Return pseudo-labels [N] and which of them pass, after one update of the thresholds.

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
        """Return the loss.

        Args:
            strong: Logits of the strongly augmented images [N, C].
            labels: Pseudo-labels [N].
            passed: Which of them count [N].
        """
        return (functional.cross_entropy(strong, labels, reduction="none") * passed).mean()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the thresholds' state."""
        return {"threshold": self.threshold, "shares": self.shares}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from a state.

        Args:
            state: What ``state_dict`` returned.
        """
        self.threshold, self.shares = state["threshold"], state["shares"]
