"""Models of fields where tasks meet: recommenders, differential equations, actors and critics."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gradbalance as gb
from tests.contract.table import CONTRACTS

# Each is trained by the balancer and by its weights, which are taken from `measure`.


class Recommender(nn.Module):
    """Sparse embedding tables, experts that all tasks share, and a gate and a tower for each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.users = nn.Embedding(40, 4, sparse=True)
        self.items = nn.Embedding(30, 4, sparse=True)
        self.experts = nn.ModuleList(nn.Linear(8, 6) for _ in range(3))
        self.gates = nn.ModuleDict({task: nn.Linear(8, 3) for task in ("click", "buy")})
        self.towers = nn.ModuleDict({task: nn.Linear(6, 1) for task in ("click", "buy")})

    def forward(self, users: Tensor, items: Tensor) -> dict[str, Tensor]:
        x = torch.cat([self.users(users), self.items(items)], dim=1)
        experts = torch.stack([expert(x).relu() for expert in self.experts], dim=1)
        return {
            task: tower((self.gates[task](x).softmax(1)[:, :, None] * experts).sum(1))[:, 0]
            for task, tower in self.towers.items()
        }

    def losses(self, generator: torch.Generator) -> dict[str, Tensor]:
        users, items = (torch.randint(high, (16,), generator=generator) for high in (40, 30))
        outputs = self(users, items)
        clicked = (users + items) % 2
        labels = {"click": clicked.float(), "buy": (clicked * (users % 3 == 0)).float()}
        loss = nn.functional.binary_cross_entropy_with_logits
        return {task: loss(outputs[task], labels[task]) for task in outputs}


def test_a_recommender_with_sparse_tables() -> None:
    def trained(balanced: bool) -> Recommender:
        model, generator = Recommender(), torch.Generator().manual_seed(1)
        tables = [model.users.weight, model.items.weight]
        known = set(tables)
        rest = [parameter for parameter in model.parameters() if parameter not in known]
        optimizers = [torch.optim.SparseAdam(tables, lr=0.01), torch.optim.Adam(rest, lr=0.01)]
        balancer = gb.Balancer(gb.UPGrad())
        for _ in range(5):
            losses = model.losses(generator)
            for optimizer in optimizers:
                optimizer.zero_grad()
            if balanced:
                balancer(losses).backward()
            else:
                shared = [*tables, *model.experts.parameters()]
                weights = balancer.measure(losses).weights
                rows = [
                    torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses.values()
                ]
                sum(losses.values()).backward()  # type: ignore[union-attr]
                for index, parameter in enumerate(shared):
                    parts = [float(w) * row[index] for w, row in zip(weights, rows, strict=True)]
                    parameter.grad = parts[0] + parts[1]
            assert tables[0].grad is not None
            assert tables[0].grad.is_sparse
            for optimizer in optimizers:
                optimizer.step()
        return model

    pairs = zip(trained(True).parameters(), trained(False).parameters(), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_differential_equation_by_adam_and_then_lbfgs() -> None:
    """Second derivatives in float64; a line search wants values and gradients of one function."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 10), nn.Tanh(), nn.Linear(10, 1)).double()
    points = torch.linspace(0, 1, 20, dtype=torch.float64)[:, None].requires_grad_()
    ends = torch.tensor([[0.0], [1.0]], dtype=torch.float64)

    def losses() -> dict[str, Tensor]:
        values = net(points)
        (slope,) = torch.autograd.grad(values.sum(), points, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), points, create_graph=True)
        wave = torch.pi**2 * torch.sin(torch.pi * points)
        return {"equation": (bend + wave).square().mean(), "ends": net(ends).square().mean()}

    balancer = gb.Balancer(gb.UPGrad())
    adam = torch.optim.Adam(net.parameters(), lr=0.01)
    before = sum(losses().values()).item()  # type: ignore[union-attr]
    for _ in range(50):
        adam.zero_grad()
        balancer(losses()).backward()
        adam.step()
    weights = dict(zip(balancer.report.names, balancer.report.weights, strict=True))
    lbfgs = torch.optim.LBFGS(net.parameters(), max_iter=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        lbfgs.zero_grad()
        loss: Tensor = balancer(losses())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with balancer.hold():
        value = closure().item()
        expected = sum(weights[task] * loss for task, loss in losses().items())
        assert value == pytest.approx(expected.item(), rel=1e-12)
        gradients = torch.autograd.grad(expected, list(net.parameters()))
        for parameter, gradient in zip(net.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
        lbfgs.step(closure)
    with torch.no_grad():
        assert net(ends).abs().max() < 0.2
    assert sum(losses().values()).item() < before / 20  # type: ignore[union-attr]


def actor_critic() -> tuple[nn.Module, dict[str, Tensor]]:
    """A step of an actor-critic: a policy loss of either sign, and an entropy bonus below zero."""
    torch.manual_seed(0)
    trunk, policy, value = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 1)
    z = trunk(torch.randn(10, 4)).tanh()
    actions = torch.distributions.Categorical(logits=policy(z))
    returns = torch.randn(10)
    advantage = returns - value(z)[:, 0].detach()
    chosen = actions.log_prob(torch.randint(3, (10,)))
    losses = {
        "policy": -(advantage * chosen).mean(),
        "value": (value(z)[:, 0] - returns).square().mean(),
        "entropy": -0.01 * actions.entropy().mean(),
    }
    return nn.ModuleList([trunk, policy, value]), losses


def test_losses_below_zero_are_refused_by_those_that_the_docs_name() -> None:
    refused = set()
    for contract in CONTRACTS.values():
        model, losses = actor_critic()
        assert losses["entropy"] < 0
        solver = contract.make()
        if isinstance(solver, gb.Scaled):  # either of the two may refuse
            continue
        try:
            gb.Balancer(solver)(losses).backward()
        except ValueError:
            assert all(parameter.grad is None for parameter in model.parameters())
            inner = getattr(solver, "solver", solver)  # of one around another
            refused.add(type(inner).__name__)
        else:
            assert all(parameter.grad is not None for parameter in model.parameters())
    (said,) = [
        line
        for line in (Path(gb.__file__).parents[1] / "docs" / "choosing.md")
        .read_text()
        .split("\n\n")
        if line.startswith("**Losses below zero**")
    ]
    named = set(re.findall(r"`([A-Z]\w+)", said))
    assert refused == named - {"Shifted"}, "which is what to do about it"
