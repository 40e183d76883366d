"""Presets are the paper's runs, and any solver goes with any source that serves it."""

from typing import Any

import pytest
import torch

import gradbalance as gb
from examples.common.data.image_set import ImageSet
from examples.common.solvers import build_solver
from examples.mpssl.presets import SOURCES, preset_config
from examples.mpssl.train import Training


def test_the_presets() -> None:
    rotation, ie_rot, mp_ssl = map(preset_config, ("rotation", "ie-rot", "mp-ssl"))
    assert rotation.tasks == ("rotation",)
    assert len(ie_rot.tasks) == 2
    assert ie_rot.tasks[0] == "rotation"
    assert isinstance(build_solver(ie_rot.solver), gb.Uniform), "equal weights"
    assert set(mp_ssl.tasks) == {"rotation", "sharpness", "solarization", "saturation"}
    solver = build_solver(mp_ssl.solver)
    assert isinstance(solver, gb.Bounded), "a task that cannot be learned draws the weight"
    assert isinstance(solver.solver, gb.MGDA)
    assert solver.solver.method == "frank_wolfe"
    assert mp_ssl.source == "representation"
    assert mp_ssl.scale == "norm"
    assert preset_config("supervised").pretext_tasks == ()


def test_options_replace_what_a_preset_says() -> None:
    config = preset_config("mp-ssl", solver="PCGrad", lr=0.01, scale=None)
    assert (config.solver, config.lr, config.scale, config.source) == (
        "PCGrad",
        0.01,
        "norm",
        "representation",
    )


def test_a_solver_is_called_as_in_python() -> None:
    solver = build_solver("MGDA(normalization='l2', preferences={'rotation': 2.0})")
    assert isinstance(solver, gb.MGDA)
    assert solver.normalization == "l2"
    assert solver.preferences == {"rotation": 2.0}
    assert isinstance(build_solver("PCGrad()"), gb.PCGrad)
    nested = build_solver("Bounded(Scaled(UPGrad, by=InverseNorm('loss')), ratio=3)")
    assert nested.name == "Bounded(Scaled(UPGrad, InverseNorm))"
    assert nested.solver.by.normalization == "loss"
    for wrong in ("MGDA('l2')", "MGDA(*x)", "Scaled(1)", "print(1)", "MGDA(method=print(1))"):
        with pytest.raises(ValueError, match="solver"):
            build_solver(wrong)


CALLS = {
    "AveragedGramian": "AveragedGramian(MGDA())",
    "Bounded": "Bounded(MGDA(normalization='l2'))",
    "CRMOGM": "CRMOGM(MGDA(normalization='l2'))",
    "DBGD": "DBGD({'rotation': 1.0})",
    "Scaled": "Scaled(UPGrad(), by=UW())",
    "Shifted": "Shifted(UW(), min_losses=-1.0)",
}
SOLVERS = [
    CALLS.get(name, name)
    for name in gb.__all__
    if isinstance(getattr(gb, name), type)
    and issubclass(getattr(gb, name), gb.Solver)
    and not getattr(getattr(gb, name), "__abstractmethods__", None)
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_any_solver_goes_with_any_source(train_set: ImageSet, solver: str, source: str) -> None:
    options = {"solver": solver, "source": source, "scale": "sum", "batch_size": 8}
    config = preset_config("mp-ssl", tasks=("rotation", "sharpness"), **options)
    if source == "losses" and build_solver(solver).needs == "gramian":
        with pytest.raises(ValueError, match="needs the gradients' Gramian"):
            Training(config, train_set)
        return
    training = Training(config, train_set)
    for _ in range(2):  # a second step fails for a method that was not told what the first one did
        report = training.step(torch.arange(8))
    training.balancer.end_epoch()
    assert report.solver == build_solver(solver).name
    assert report.weights.sum() == pytest.approx(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "Adam"}, "no solver 'Adam'"),
        ({"solver": "Balancer"}, "no solver 'Balancer'"),
        ({"solver": "MGDA("}, "a call like"),
        ({"solver": "MGDA(1)"}, "1 positional argument"),
        ({"solver": "__import__('os').getcwd()"}, "a call like"),
        ({"solver": "MGDA(method=open('x'))"}, "no solver 'open'"),
        ({"solver": "CRMOGM(solver=Adam())"}, "no solver 'Adam'"),
        ({"solver": "CRMOGM(solver='MGDA')"}, "must be a Solver"),
        ({"solver": "MGDA(speed=3)"}, "speed"),
        ({"solver": "MGDA(method='magic')"}, "method"),
        ({"source": "oracle"}, "source"),
        ({"scale": "max"}, "scale"),
        ({"precision": "int8"}, "precision"),
        ({"tasks": ("colour",)}, "unknown pretext task 'colour'"),
        ({"epochs": 0}, "epochs must be positive"),
        ({"name": "../up"}, "name of a folder"),
    ],
)
def test_what_is_not_possible_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset_config("mp-ssl", **options)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="preset must be one of"):
        preset_config("colouring")
