"""A small model to test solvers and sources with."""

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """A small shared trunk with one head per task, for random but reproducible gradients."""

    def __init__(self, num_tasks: int = 3, *, seed: int = 0, dtype: torch.dtype = torch.float64):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trunk = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5)).to(dtype)
            self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in range(num_tasks)).to(dtype)
            self.x = torch.randn(8, 4, dtype=dtype)
            self.y = torch.randn(num_tasks, 8, 1, dtype=dtype)

    def losses(self, z: Tensor | None = None) -> dict[str, Tensor]:
        """The loss of each task, for the trunk's output or another representation z."""
        z = self.trunk(self.x) if z is None else z
        return {
            f"task{i}": (head(z) - y).square().mean()
            for i, (head, y) in enumerate(zip(self.heads, self.y, strict=True))
        }
