"""The mapping network over a generator's latents, which meta-optimization trains."""

import torch
from torch import Tensor, nn


class MappingNetwork(nn.Module):
    """M(z) = z + V tanh(Uz + b) + c; V and c begin at zero, so that M begins as the identity.

    Args:
        latent_size: L.
        hidden_size: Rows of U.
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
            latents: [N, L].
        """
        moved: Tensor = self.out(torch.tanh(self.hidden(latents)))
        return latents + moved


def build_mapping(latent_size: int, *, seed: int) -> MappingNetwork:
    """Return a freshly initialised mapping network.

    Args:
        latent_size: L.
        seed: Of the initial weights; the global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MappingNetwork(latent_size)
