"""Accelerate: ``accelerator.backward`` gets the balanced loss.

First ``pip install accelerate``, then run ``python -m examples.short.with_accelerate``.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, no-any-return, no-untyped-call"

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import gradbalance as gb

NUM_EPOCHS = 5


class Model(nn.Module):
    """A trunk with two heads; the model returns the losses."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16))
        self.depth, self.normals = nn.Linear(16, 1), nn.Linear(16, 3)
        # The balancer is part of the model, so `save_state` and `load_state` include its state.
        self.balancer = gb.Balancer(gb.NashMTL(), gb.SharedParameters(self.trunk), scale="norm")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return each task's loss, in its own unit."""
        z = self.trunk(x)
        return {
            "depth": (self.depth(z)[:, 0] - x.sum(dim=1)).abs().mean(),
            "normals": 100 * (self.normals(z) - x[:, :3]).square().mean(),
        }


def main() -> None:
    """Train for a few epochs with gradient accumulation, and show the losses on new data."""
    torch.set_num_threads(1)  # more threads do not help with such a small network
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    net, new = Model(), torch.randn(1000, 8)
    before = net(new)
    loader = DataLoader(TensorDataset(torch.randn(2048, 8)), batch_size=32, shuffle=True)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    model, optimizer, batches = accelerator.prepare(net, optimizer, loader)
    for _ in range(NUM_EPOCHS):
        for (x,) in batches:
            with accelerator.accumulate(model):
                accelerator.backward(net.balancer(model(x)))  # instead of the sum
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 10.0)
                optimizer.step()
                optimizer.zero_grad()
    weights = net.balancer.report.as_dict()
    for task, loss in net(new).items():
        last = weights[f"weight/{task}"]
        print(f"{task}: loss {before[task]:.2f} -> {loss:.2f}, last weight {last:.3g}")


if __name__ == "__main__":
    main()
