"""A network solves u'' = f on [-1, 1], u = 0 at both ends: with the plain sum and with UPGrad.

Run it with ``python -m examples.short.pinn_minimal``; it takes a few seconds.
"""

import math

import torch
from torch import Tensor, nn

import gradbalance as gb

NUM_STEPS, NUM_POINTS, SEEDS = 500, 100, (0, 1, 2)
WAVES = 2  # the solution is u = sin(2πx), so f = -(2π)² sin(2πx)


def solution(x: Tensor) -> Tensor:
    """Return the exact solution, which the network must learn, at points [N, 1]."""
    return torch.sin(WAVES * math.pi * x)


def derivative(u: Tensor, x: Tensor) -> Tensor:
    """Return du/dx [N, 1]; each value of u depends only on its own point."""
    (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return du


def losses_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the loss of the equation at random points, and the loss of u = 0 at the ends."""
    x = (2 * torch.rand(NUM_POINTS, 1) - 1).requires_grad_()
    curvature = derivative(derivative(network(x), x), x)
    f = -((WAVES * math.pi) ** 2) * solution(x.detach())
    return {
        "equation": (curvature - f).square().mean(),
        "ends": network(torch.tensor([[-1.0], [1.0]])).square().mean(),
    }


def train(solver: gb.Solver, seed: int) -> float:
    """Return the relative error (%) of a trained network."""
    torch.manual_seed(seed)
    layers = [nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)]
    network = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    # The direction gets the length of the plain sum, so that no method wins by longer steps.
    balancer = gb.Balancer(solver, gb.SharedParameters(network), scale="norm")
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, NUM_STEPS)
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        balancer.backward(losses_of(network))
        optimizer.step()
        schedule.step()
    x = torch.linspace(-1, 1, 201)[:, None]
    with torch.no_grad():
        error = (network(x) - solution(x)).norm() / solution(x).norm()
    return 100 * float(error)


def main() -> None:
    """Train with the plain sum and with UPGrad, on the same seeds, and show the errors."""
    torch.set_num_threads(1)  # more threads do not help with such a small network
    print(f"relative error after {NUM_STEPS} steps, one column a seed:")
    for name, make in (("plain sum", gb.Uniform), ("UPGrad", gb.UPGrad)):
        print(f"{name:9}", *(f"{train(make(), seed):7.2f} %" for seed in SEEDS))


if __name__ == "__main__":
    main()
