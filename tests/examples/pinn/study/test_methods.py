"""The methods of the study: each one trains, and annealing is as in its paper."""

import math
from dataclasses import asdict

import pytest
import torch

from examples.pinn.study.annealing import Annealing
from examples.pinn.study.methods import METHODS, StudyConfig
from examples.pinn.train import train

TINY = {"adam_steps": 3, "lbfgs_steps": 2, "num_points": 8, "num_fixed_points": 8, "width": 5}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains(name: str) -> None:
    config = StudyConfig(name=name, **asdict(METHODS[name]), **TINY)  # type: ignore[arg-type]
    run = train(config)
    assert run.as_dict()["config"] == config.as_dict()
    assert math.isfinite(run.error)
    assert all(weight >= 0 for weight in run.records[-1].weights.values())


def test_annealing_by_hand() -> None:
    """Largest entry of the equations' gradient over the mean entry of the condition's."""
    x = torch.nn.Linear(2, 2, bias=True, dtype=torch.float64)
    torch.nn.init.constant_(x.weight, 1.0)
    losses = {
        "equation": (x.weight * torch.tensor([[3.0, -8.0], [1.0, 2.0]])).sum(),
        "condition": (x.weight * torch.tensor([[1.0, -2.0], [0.0, 1.0]])).sum() + 50 * x.bias.sum(),
    }
    annealing = Annealing(x, ("condition",))
    report = annealing.backward(losses)
    weight = 0.9 * 1 + 0.1 * 8 / 1  # the bias does not count
    assert report.weights.tolist() == pytest.approx([1.0, weight])
    expected = torch.tensor([[3.0 + weight, -8 - 2 * weight], [1.0, 2 + weight]]).double()
    torch.testing.assert_close(x.weight.grad, expected)
