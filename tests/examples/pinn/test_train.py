"""Runs: what they do step by step, and that the same run comes out the same."""

import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
import torch

import gradbalance as gb
from examples.pinn import optimizers
from examples.pinn import train as training
from examples.pinn.config import RunConfig
from examples.pinn.methods import METHODS, Method
from examples.pinn.network import Network
from examples.pinn.problems import PROBLEMS
from examples.pinn.train import train


def tiny(name: str = "upgrad", **options: object) -> RunConfig:
    sizes = {"adam_steps": 3, "lbfgs_steps": 2, "num_points": 8, "num_fixed_points": 8, "width": 5}
    return RunConfig(name=name, **{**asdict(METHODS[name]), **sizes, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_problem_trains(problem: str, dtype: str) -> None:
    run = train(tiny(problem=problem, dtype=dtype))
    assert {parameter.dtype for parameter in run.network.parameters()} == {run.config.torch_dtype}
    assert [record.step for record in run.records] == [0, 3, 5]
    assert run.error == PROBLEMS[problem]().error(run.network)
    result = run.as_dict()
    names = PROBLEMS[problem]().equations + PROBLEMS[problem]().conditions
    assert tuple(result["losses"]) == tuple(result["weights"]) == names
    assert result["config"] == run.config.as_dict()


def test_a_run_depends_on_its_configuration_alone() -> None:
    torch.manual_seed(1)
    relobralo = {"solver": "ReLoBRaLo", "scale": "none"}
    first = train(tiny(**relobralo))
    torch.manual_seed(2)
    again, other = train(tiny(**relobralo)), train(tiny(**relobralo, seed=1))
    assert first.error == again.error != other.error
    assert first.records[-1] == again.records[-1]


def test_the_plain_sum_is_that_of_an_ordinary_loop() -> None:
    config = tiny("x10", lbfgs_steps=0)
    generator = torch.Generator().manual_seed(config.seed)
    problem = PROBLEMS["helmholtz"]()
    network = Network(problem.box, 1, width=5, depth=3, dtype=torch.float64, generator=generator)
    problem.draw_points(config.num_fixed_points, generator)
    optimizer = torch.optim.Adam(network.parameters())
    for step in range(3):
        optimizer.param_groups[0]["lr"] = config.lr * (1 + math.cos(math.pi * step / 3)) / 2
        losses = problem.losses(network, problem.draw_points(config.num_points, generator))
        optimizer.zero_grad()
        (losses["residual"] + 10 * losses["boundary"]).backward()
        optimizer.step()
    for expected, found in zip(
        network.parameters(), train(config).network.parameters(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_lbfgs_holds_the_average_of_the_last_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []

    def backward(balancer: gb.Balancer, losses: object) -> gb.Report:
        report = plain(balancer, losses)
        if balancer.options.scale == "norm":
            weights.append(report.weights)
        return report

    plain = gb.Balancer.backward
    monkeypatch.setattr(gb.Balancer, "backward", backward)
    monkeypatch.setattr(training, "_NUM_AVERAGED", 2)
    run = train(tiny(solver="NashMTL"))
    held = list(run.records[-1].weights.values())
    np.testing.assert_allclose(held, np.mean(weights[-2:], axis=0))
    assert len(weights) == 3


class Stuck(torch.optim.SGD):
    """As torch's L-BFGS after a line search that failed: it stays where it is."""

    def step(self, closure: Callable[[], torch.Tensor]) -> torch.Tensor:  # type: ignore[override]
        return closure()


def test_lbfgs_begins_anew_where_the_loss_stops_to_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def stuck_at_first(network: torch.nn.Module) -> torch.optim.Optimizer:
        made.append(len(made))
        return Stuck(network.parameters()) if len(made) == 1 else plain(network)

    plain = optimizers._new_lbfgs
    monkeypatch.setattr(optimizers, "_new_lbfgs", stuck_at_first)
    monkeypatch.setattr(optimizers, "_NUM_AT_ONCE", 2)
    run = train(tiny("x10", lbfgs_steps=8))
    assert len(made) == 2
    last = [sum(r.weights[k] * r.losses[k] for k in r.losses) for r in run.records[-5:]]
    assert last[0] == last[1] == last[2] > last[3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"problem": "heat"}, "problem must be one of"),
        ({"dtype": "float16"}, "dtype must be one of"),
        ({"scale": "big"}, "scale must be one of"),
        ({"solver": "Sum"}, "no solver 'Sum'"),
        ({"solver": "MGDA", "factor": 2.0}, "weights by hand are of a plain sum"),
        ({"adam_steps": 0}, "adam_steps must be at least 1, got 0"),
        ({"lbfgs_steps": -1}, "lbfgs_steps must be at least 0, got -1"),
        ({"lr": -1.0}, "lr must be positive and finite, got -1.0"),
        ({"lr": float("nan")}, "lr must be positive and finite, got nan"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_a_run_that_is_not_possible_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        tiny(**options)


def test_weights_by_hand_are_those_of_the_conditions() -> None:
    problem = PROBLEMS["kovasznay"]()
    network = Network(
        problem.box, 3, width=4, depth=1, dtype=torch.float64, generator=torch.Generator()
    )
    balancing = Method("Uniform", factor=100.0).build(problem, network)
    points = problem.draw_points(8, torch.Generator())
    report = balancing.backward(problem.losses(network, points))
    assert report.weights.tolist() == [1.0, 1.0, 1.0, 100.0]
