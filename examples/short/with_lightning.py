"""Lightning: ``training_step`` returns the balanced loss, and the Trainer does the rest.

First ``pip install lightning``, then run ``python -m examples.short.with_lightning``.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, no-any-return, no-untyped-call"

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import gradbalance as gb

NUM_EPOCHS = 5


class Module(LightningModule):
    """A trunk with two heads, whose losses are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16))
        self.depth, self.normals = nn.Linear(16, 1), nn.Linear(16, 3)
        # The balancer is part of the module, so its state is in the checkpoints.
        self.balancer = gb.Balancer(gb.NashMTL(), gb.SharedParameters(self.trunk), scale="norm")

    def losses_of(self, x: Tensor) -> dict[str, Tensor]:
        """Return each task's loss, in its own unit."""
        z = self.trunk(x)
        return {
            "depth": (self.depth(z)[:, 0] - x.sum(dim=1)).abs().mean(),
            "normals": 100 * (self.normals(z) - x[:, :3]).square().mean(),
        }

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Return the balanced loss instead of the sum."""
        (x,) = batch
        return self.balancer(self.losses_of(x))

    def on_after_backward(self) -> None:
        """Log the report of this step."""
        self.log_dict(self.balancer.report.as_dict("train/"))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer, as usual."""
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main() -> None:
    """Train for a few epochs, and show the losses on new data before and after."""
    torch.set_num_threads(1)  # more threads do not help with such a small network
    seed_everything(0, verbose=False)
    module, new = Module(), torch.randn(1000, 8)
    before = module.losses_of(new)
    trainer = Trainer(
        max_epochs=NUM_EPOCHS,
        accelerator="cpu",
        devices=1,
        gradient_clip_val=10.0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    data = TensorDataset(torch.randn(2048, 8))
    trainer.fit(module, DataLoader(data, batch_size=64, shuffle=True))
    for task, loss in module.losses_of(new).items():
        logged = trainer.callback_metrics[f"train/weight/{task}"]
        print(f"{task}: loss {before[task]:.2f} -> {loss:.2f}, last weight {logged:.3g}")


if __name__ == "__main__":
    main()
