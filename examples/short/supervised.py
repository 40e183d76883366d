"""Three heads and losses in different units: the plain sum starves tasks, NashMTL does not.

Run it with ``python -m examples.short.supervised``; it takes a few seconds.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

import gradbalance as gb

NUM_STEPS, BATCH_SIZE, NUM_INPUTS = 800, 64, 8


def make_data(num: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """Return inputs [N, 8] and their labels: a kind, a force in newtons and a shift in metres."""
    x = torch.randn(num, NUM_INPUTS, generator=generator)
    hidden = torch.sin(x[:, :4] + x[:, 4:])  # common to the three tasks
    labels = {
        "kind": hidden.argmax(dim=1),
        "force": 100 * (hidden[:, 0] + hidden[:, 1]),
        "shift": 0.1 * (hidden[:, 2] - hidden[:, 3]),
    }
    return x, labels


class Model(nn.Module):
    """A trunk and a head for each task."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"kind": 4, "force": 1, "shift": 1}
        hidden = nn.Linear(64, 64)
        self.trunk = nn.Sequential(nn.Linear(NUM_INPUTS, 64), nn.ReLU(), hidden, nn.ReLU())
        self.heads = nn.ModuleDict({task: nn.Linear(64, size) for task, size in sizes.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return each task's output."""
        z = self.trunk(x)
        return {task: head(z).squeeze(1) for task, head in self.heads.items()}


def losses_of(outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return each task's loss, in its own unit."""
    return {
        "kind": cross_entropy(outputs["kind"], labels["kind"]),
        "force": mse_loss(outputs["force"], labels["force"]),
        "shift": mse_loss(outputs["shift"], labels["shift"]),
    }


def train(solver: gb.Solver) -> dict[str, float]:
    """Train a model; return the accuracy of the kinds, and the share of explained variance."""
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, NUM_STEPS)
    balancer = gb.Balancer(solver, gb.SharedParameters(model.trunk), scale="norm")
    for _ in range(NUM_STEPS):
        x, labels = make_data(BATCH_SIZE, draws)
        optimizer.zero_grad()
        balancer(losses_of(model(x), labels)).backward()  # before: sum(losses.values())
        optimizer.step()
        schedule.step()

    x, labels = make_data(2000, draws)
    with torch.no_grad():
        outputs = model(x)
    scores = {"kind": (outputs["kind"].argmax(dim=1) == labels["kind"]).float().mean().item()}
    for task in ("force", "shift"):
        rest = mse_loss(outputs[task], labels[task]) / labels[task].var()
        scores[task] = 1 - rest.item()
    return scores


def main() -> None:
    """Train with the plain sum and with NashMTL, and show the scores of each on every task."""
    torch.set_num_threads(1)  # more threads do not help with such a small network
    print("           kind told   force explained   shift explained")
    for solver in (gb.Uniform(), gb.NashMTL()):
        scores = train(solver)
        kind, force, shift = (f"{100 * scores[task]:.0f} %" for task in ("kind", "force", "shift"))
        print(f"{solver.name:8}  {kind:>10}  {force:>16}  {shift:>16}")


if __name__ == "__main__":
    main()
