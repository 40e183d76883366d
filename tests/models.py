"""Tiny models whose gradients can be written by hand."""

import torch
from torch import Tensor, nn

from gradbalance.testing.net import Net

__all__ = ["HandModel", "Net", "grads"]


class HandModel(nn.Module):
    """z = W x, two losses a·z and b·|z|²/2: gradients by hand in `hand_gradients`.

    W [2, 2] is the trunk, a [2] the head of the first task and b [1] that of the second.
    """

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.trunk = nn.Linear(2, 2, bias=False, dtype=dtype)
        self.a = nn.Parameter(torch.tensor([1.0, -2.0], dtype=dtype))
        self.b = nn.Parameter(torch.tensor([0.5], dtype=dtype))
        with torch.no_grad():
            self.trunk.weight.copy_(torch.tensor([[1.0, 2.0], [0.5, -1.0]]))
        self.x = torch.tensor([2.0, 1.0], dtype=dtype)

    def represent(self) -> Tensor:
        z: Tensor = self.trunk(self.x)
        return z

    def losses(self, z: Tensor | None = None) -> dict[str, Tensor]:
        z = self.represent() if z is None else z
        return {"linear": self.a @ z, "square": (self.b * (z @ z) / 2).squeeze()}

    # z = (1*2 + 2*1, .5*2 - 1*1) = (4, 0);  x = (2, 1)
    # linear: L = a·z = 4;  dL/dz = a = (1, -2);  dL/dW = a xᵀ;  dL/da = z
    # square: L = .5·16/2 = 4;  dL/dz = b z = (2, 0);  dL/dW = b z xᵀ;  dL/db = |z|²/2 = 8
    ROWS_Z = ((1.0, -2.0), (2.0, 0.0))
    ROWS_W = (((2.0, 1.0), (-4.0, -2.0)), ((4.0, 2.0), (0.0, 0.0)))
    # ⟨a xᵀ, b z xᵀ⟩ = ⟨a, b z⟩·|x|², |x|² = 5
    GRAM_Z = ((5.0, 2.0), (2.0, 4.0))
    GRAM_W = ((25.0, 10.0), (10.0, 20.0))
    HEAD_A = (4.0, 0.0)
    HEAD_B = (8.0,)


def grads(module: nn.Module) -> dict[str, Tensor | None]:
    """Copies of all gradients, by name."""
    return {
        name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()
    }
