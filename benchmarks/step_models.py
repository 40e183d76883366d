"""The three model families whose balanced steps are measured; each has a trunk and T heads."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.timing import StepModel


@dataclass
class Case(StepModel):
    """A model with a batch.

    Attributes:
        trunk: the part that the tasks share.
        last: the trunk's last layer with parameters.
        heads: one head per task.
        inputs: a batch of inputs for the trunk.
        targets: the targets [T, B].
    """

    trunk: nn.Module
    last: nn.Module
    heads: nn.ModuleList
    inputs: Tensor
    targets: Tensor

    def losses(self) -> tuple[Tensor, list[Tensor]]:
        """Run a forward pass; return the trunk's output and the tasks' losses."""
        z = self.trunk(self.inputs)
        pairs = zip(self.heads, self.targets, strict=True)
        return z, [(head(z).squeeze(1) - target).square().mean() for head, target in pairs]


def mlp(num_tasks: int) -> Case:
    """An MLP with 1.8 million parameters, batch size 256."""
    trunk = nn.Sequential(
        nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 512)
    )
    heads = [nn.Sequential(nn.ReLU(), nn.Linear(512, 1)) for _ in range(num_tasks)]
    return _case(trunk, trunk[-1], heads, torch.randn(256, 256))


def conv(num_tasks: int) -> Case:
    """A convolutional network with a quarter of a million parameters, 32 images of 32×32."""
    trunk = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 128, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(128, 128, 3, padding=1),
    )
    heads = [
        nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 1))
        for _ in range(num_tasks)
    ]
    return _case(trunk, trunk[-1], heads, torch.randn(32, 3, 32, 32))


class Transformer(nn.Module):
    """Two encoder layers; the representation is the mean over the positions and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(128, 128)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs [B, 32, 128] to the representation [B, 128]."""
        z: Tensor = self.last(self.encoder(inputs).mean(dim=1))
        return z


def transformer(num_tasks: int) -> Case:
    """A transformer with 0.4 million parameters, 32 sequences of length 32."""
    trunk = Transformer()
    heads = [nn.Sequential(nn.ReLU(), nn.Linear(128, 1)) for _ in range(num_tasks)]
    return _case(trunk, trunk.last, heads, torch.randn(32, 32, 128))


FAMILIES = {"mlp": mlp, "conv": conv, "transformer": transformer}


def _case(trunk: nn.Module, last: nn.Module, heads: list[nn.Sequential], inputs: Tensor) -> Case:
    targets = torch.randn(len(heads), len(inputs))
    return Case(trunk, last, nn.ModuleList(heads), inputs, targets)
