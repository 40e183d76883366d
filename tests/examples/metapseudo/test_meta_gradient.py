"""The derivative of the loss after a virtual step: exact, and by finite differences."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from examples.metapseudo.meta_gradient import (
    META_GRADIENTS,
    Loss,
    Parameters,
    detached,
    exact,
    finite_difference,
)
from examples.metapseudo.regularizers import consistency

LR = 0.1


class Classifier(nn.Module):
    """Everything in it is smooth."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh())
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(inputs)
        return features, self.head(features)


class Problem:
    """A classifier, and samples φ that are mapped latents, in double precision."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = Classifier().double()
            self.mapping = [
                p.detach().requires_grad_() for p in nn.Linear(4, 4).double().parameters()
            ]
            self.labelled, self.validation = (
                (torch.randn(12, 4).double(), torch.randint(3, (12,))) for _ in range(2)
            )
            self.latents = torch.randn(10, 4).double()
            self.noise = 0.5 * torch.randn(10, 4).double()
        self.theta = detached(dict(self.model.named_parameters()))
        self.targets = self.model(self.samples(*self.mapping))[0].detach()

    def samples(self, weight: Tensor, bias: Tensor) -> Tensor:
        return self.latents @ weight.T + bias

    def cross_entropy(self, theta: Parameters, data: tuple[Tensor, Tensor]) -> Tensor:
        return functional.cross_entropy(self.call(theta, data[0])[1], data[1])

    def call(self, theta: Parameters, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = functional_call(self.model, theta, (inputs,))
        return features, logits

    def inner(self, weight: Tensor, bias: Tensor, *, recompute: bool = False) -> Loss:
        samples = self.samples(weight, bias)

        def loss(theta: Parameters) -> Tensor:
            features = self.call(theta, samples + self.noise)[0]
            targets = self.call(theta, samples)[0] if recompute else self.targets
            return self.cross_entropy(theta, self.labelled) + consistency(features, targets)

        return loss

    def outer(self, theta: Parameters) -> Tensor:
        return self.cross_entropy(theta, self.validation)

    def gradient(self, value: Tensor) -> Tensor:
        parts = torch.autograd.grad(value, self.mapping, retain_graph=True)
        return torch.cat([part.flatten() for part in parts])


@pytest.fixture
def problem() -> Problem:
    return Problem()


def cosine(one: Tensor, other: Tensor) -> float:
    return float(functional.cosine_similarity(one, other, dim=0))


def test_the_exact_gradient_is_the_numerical_one(problem: Problem) -> None:
    def loss(weight: Tensor, bias: Tensor) -> Tensor:
        return exact(problem.inner(weight, bias), problem.outer, problem.theta, LR)

    assert problem.gradient(loss(*problem.mapping)).norm() > 1e-3
    assert torch.autograd.gradcheck(loss, problem.mapping, eps=1e-5, atol=1e-9, rtol=1e-5)


def test_finite_differences_come_close_to_it(problem: Problem) -> None:
    inner = problem.inner(*problem.mapping)
    right = problem.gradient(exact(inner, problem.outer, problem.theta, LR))
    found = problem.gradient(finite_difference(inner, problem.outer, problem.theta, LR))
    assert cosine(found, right) > 0.999
    assert float(found.norm() / right.norm()) == pytest.approx(1, abs=1e-3)


def test_finite_differences_are_wrong_with_targets_that_move_along(problem: Problem) -> None:
    moving = problem.inner(*problem.mapping, recompute=True)
    right = problem.gradient(exact(moving, problem.outer, problem.theta, LR))
    found = problem.gradient(finite_difference(moving, problem.outer, problem.theta, LR))
    assert cosine(found, right) < 0.9


@pytest.mark.parametrize("name", META_GRADIENTS)
def test_the_value_is_the_loss_after_a_step_of_sgd(problem: Problem, name: str) -> None:
    inner = problem.inner(*problem.mapping)
    value = META_GRADIENTS[name](inner, problem.outer, problem.theta, LR)
    inner(dict(problem.model.named_parameters())).backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD(problem.model.parameters(), lr=LR).step()
    after = problem.outer(dict(problem.model.named_parameters()))
    torch.testing.assert_close(value.detach(), after.detach())


@pytest.mark.parametrize("name", META_GRADIENTS)
def test_an_outer_loss_at_its_minimum_gives_zeros(problem: Problem, name: str) -> None:
    def flat(theta: Parameters) -> Tensor:
        return 3 + 0 * theta["trunk.0.weight"].sum()

    value = META_GRADIENTS[name](problem.inner(*problem.mapping), flat, problem.theta, LR)
    assert float(value.detach()) == 3
    assert (problem.gradient(value) == 0).all()


@pytest.mark.parametrize("name", META_GRADIENTS)
def test_the_classifier_is_left_alone(problem: Problem, name: str) -> None:
    before = {key: value.clone() for key, value in problem.model.state_dict().items()}
    inner, theta = problem.inner(*problem.mapping), dict(problem.model.named_parameters())
    value = META_GRADIENTS[name](inner, problem.outer, detached(theta), LR)
    value.backward()  # type: ignore[no-untyped-call]
    assert all(part.grad is not None for part in problem.mapping)
    for key, parameter in theta.items():
        assert parameter.grad is None, key
        assert torch.equal(parameter, before[key]), key
