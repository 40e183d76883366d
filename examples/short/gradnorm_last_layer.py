"""GradNorm as published: compare gradients on the last shared layer, then one backward pass.

Run it with ``python -m examples.short.gradnorm_last_layer``; it takes a few seconds.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import gradbalance as gb

NUM_STEPS, BATCH_SIZE = 600, 100
SCALES = {"small": 1.0, "large": 10.0}  # scales of the two tasks' targets


def make_teacher() -> dict[str, Tensor]:
    """Return the matrix that makes each task's targets: a large common part, a small own part."""
    common = 0.3 * torch.randn(20, 10)
    return {task: common + 0.1 * torch.randn(20, 10) for task in SCALES}


def train(solver: gb.Solver) -> dict[str, list[float]]:
    """Train two tasks on one trunk; print the weights, and return final losses / first losses."""
    torch.manual_seed(0)
    teacher = make_teacher()
    trunk = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    heads = nn.ModuleDict({task: nn.Linear(64, 10) for task in SCALES})
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=2e-3)
    # T backward passes reach only the last layer; one, of the weighted sum, goes all the way.
    source = gb.SharedParameters(trunk, measure=trunk[2])
    balancer = gb.Balancer(solver, source, tasks=list(SCALES))
    history = gb.History()
    for _ in range(NUM_STEPS):
        x = torch.randn(BATCH_SIZE, 20)
        z = trunk(x)
        losses = {
            task: mse_loss(heads[task](z), scale * torch.tanh(x @ teacher[task]))
            for task, scale in SCALES.items()
        }
        optimizer.zero_grad()
        history.append(balancer.backward(losses))
        optimizer.step()
    print(f"{solver.name}: weights of {', '.join(SCALES)}")
    for step in range(0, NUM_STEPS, NUM_STEPS // 3):
        print(f"  step {step:4}: {', '.join(f'{weight:.2f}' for weight in history.weights[step])}")
    last = history.losses[-50:].mean(axis=0) / history.losses[0]
    return dict(zip(SCALES, last.tolist(), strict=True))


def main() -> None:
    """Train with equal weights and with GradNorm, and show which part of each loss is left."""
    torch.set_num_threads(1)  # more threads do not help with such a small network
    for solver in (gb.Uniform(), gb.GradNorm(alpha=0.5)):
        left = (f"{task} {100 * share:.1f} %" for task, share in train(solver).items())
        print("  left of the losses:", ", ".join(left))


if __name__ == "__main__":
    main()
