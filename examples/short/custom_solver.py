"""Your own solver in ten lines: its claims are checked, and it is used like any other solver.

Run it with ``python -m examples.short.custom_solver``.
"""

from math import inf

import numpy as np
import torch
from torch import nn

import gradbalance as gb
from gradbalance.testing import check_solver


class EqualShares(gb.StatelessSolver):
    """Every task contributes equally to the step, however long its gradient is.

    The weights are w_i = s / ‖g_i‖, where s is the mean of the norms ‖g_i‖.
    """

    needs = "gramian"  # or "losses"
    weighs = "gradients"  # weights apply to the shared parameters; heads keep their own gradients

    def solve(self, problem: gb.Problem) -> gb.Solution:
        """Return the weights for this step, from the inner products G_ij = ⟨g_i, g_j⟩ [T, T]."""
        norms = np.sqrt(np.diagonal(problem.gramian))
        if not norms.any():
            return gb.Solution(np.ones_like(norms))
        return gb.Solution(norms.mean() / np.where(norms > 0, norms, norms.max()))


def main() -> None:
    """Try the solver on a Gramian, check its claims, and train with it."""
    problem = gb.Problem.of([[4.0, 0.0], [0.0, 1.0]])
    print("weights of gradients of length 2 and 1:", EqualShares().solve(problem).weights)

    # Only two claims: neither the order of the tasks nor a common unit of the gradients matters.
    check_solver(EqualShares, equivariant=inf, scale_exponent=0.0, num_draws=1)
    print("check_solver: it does what it claims")
    try:
        check_solver(EqualShares, descends=inf)
    except AssertionError as error:
        print("and not what it does not:", str(error).splitlines()[0][:72], "…")

    torch.set_num_threads(1)  # more threads do not help with such a small network
    torch.manual_seed(0)
    trunk, near, far = nn.Linear(8, 16), nn.Linear(16, 1), nn.Linear(16, 1)
    parameters = [p for module in (trunk, near, far) for p in module.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.01)
    balancer = gb.Balancer(EqualShares(), scale="norm")
    for _ in range(200):
        x = torch.randn(64, 8)
        z = trunk(x).tanh()
        losses = {
            "near": (near(z)[:, 0] - x[:, 0]).square().mean(),
            "far": 10 * (far(z)[:, 0] - x[:, 0] + x[:, 1]).square().mean(),
        }
        optimizer.zero_grad()
        balancer(losses).backward()
        optimizer.step()
    print(balancer.report)


if __name__ == "__main__":
    main()
