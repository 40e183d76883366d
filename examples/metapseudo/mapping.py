"""The maps that move the latents of a generator; both begin as the identity."""

from typing import Literal

import torch
from torch import Tensor, nn

MapName = Literal["mlp", "affine"]

# Learning rates of Adam. The affine map has few parameters and can take a larger one than an MLP.
META_LR: dict[MapName, float] = {"mlp": 0.01, "affine": 0.03}


class MappingNetwork(nn.Module):
    """M(z) = z + V tanh(Uz + b) + c; V and c begin at zero.

    Args:
        latent_size: Length of a latent, L.
        hidden_size: Number of rows of U.
    """

    def __init__(self, latent_size: int, hidden_size: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Linear(latent_size, hidden_size)
        self.out = nn.Linear(hidden_size, latent_size)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, latents: Tensor) -> Tensor:
        """Return latents [N, L].

        Args:
            latents: Latents [N, L].
        """
        moved: Tensor = self.out(torch.tanh(self.hidden(latents)))
        return latents + moved


class AffineMap(nn.Module):
    """M(z) = exp(a) z + b, latent by latent; a and b begin at zero.

    With its two numbers for each latent it can scale and shift the prior, and nothing else.

    Args:
        latent_size: Length of a latent, L.
    """

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(latent_size))
        self.shift = nn.Parameter(torch.zeros(latent_size))

    def forward(self, latents: Tensor) -> Tensor:
        """Return latents [N, L].

        Args:
            latents: Latents [N, L].
        """
        return latents * self.log_scale.exp() + self.shift


def build_mapping(name: MapName, latent_size: int, *, seed: int) -> nn.Module:
    """Return a freshly initialised map.

    Args:
        name: Kind of the map.
        latent_size: Length of a latent, L.
        seed: Seed of the initial weights; the global random state is left as it was.
    """
    if name == "affine":
        return AffineMap(latent_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MappingNetwork(latent_size)
