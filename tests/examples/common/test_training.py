"""What the trainings have in common: steps, states, and parts with a checkpoint after each."""

import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gradbalance as gb
from examples.common.run_folder import Config, RunFolder
from examples.common.training import TrainingState, balanced_step


@dataclass(frozen=True, kw_only=True)
class Options(Config):
    lr: float = 0.1


class Line(TrainingState):
    """A line through points that are drawn anew for each step."""

    def __init__(self, solver: gb.Solver) -> None:
        self.model = nn.Linear(1, 2)
        nn.init.ones_(self.model.weight)
        nn.init.zeros_(self.model.bias)
        super().__init__(
            self.model,
            gb.Balancer(solver, scale="sum"),
            lr=0.1,
            weight_decay=0.5,
            num_steps=6,
            seed=0,
        )

    def step(self) -> gb.Report:
        points = torch.rand(4, 1, generator=self.generator)

        def losses() -> dict[str, Tensor]:
            first, second = self.model(points).unbind(1)
            return {"near": first.square().mean(), "far": (second - 9).square().mean()}

        report = balanced_step(self.balancer, self.optimizer, losses)
        self.count_step()
        return report


def test_a_step_is_sgd_with_momentum_and_a_cosine() -> None:
    line, other = Line(gb.Uniform()), Line(gb.Uniform())
    optimizer = torch.optim.SGD(other.model.parameters(), 0.1, momentum=0.9, weight_decay=0.5)
    for step in range(6):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / 6))
        points = torch.rand(4, 1, generator=other.generator)
        first, second = other.model(points).unbind(1)
        optimizer.zero_grad()
        (first.square().mean() + (second - 9).square().mean()).backward()
        optimizer.step()
        line.step()
    assert line.step_done == 6
    for one, by_hand in zip(line.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(one, by_hand)


def test_a_run_is_saved_after_each_part_and_goes_on_from_the_last(tmp_path: Path) -> None:
    def run(line: Line, folder: RunFolder, *, resume: bool, stop: int | None = None) -> list[int]:
        line.start(Options(), folder, resume=resume)
        ends = []
        for end in line.parts(folder, [2, 4, 6]):
            ends.append(end)
            while line.step_done < end:
                if line.step_done == stop:
                    raise KeyboardInterrupt
                folder.log({"kind": "step", **line.step().as_dict()})
        return ends

    whole, broken = (RunFolder(tmp_path / name) for name in ("whole", "broken"))
    expected, resumed = Line(gb.FAMO()), Line(gb.FAMO())
    assert run(expected, whole, resume=False) == [2, 4, 6]
    with pytest.raises(KeyboardInterrupt):
        run(Line(gb.FAMO()), broken, resume=False, stop=3)
    assert run(resumed, broken, resume=True) == [4, 6]
    assert torch.equal(expected.model.weight, resumed.model.weight)
    assert broken.metrics_file.read_bytes() == whole.metrics_file.read_bytes()
    assert run(Line(gb.FAMO()), whole, resume=True) == [], "it is done"
    with pytest.raises(ValueError, match=r"its lr was 0\.1, got 0\.2"):
        Line(gb.FAMO()).start(Options(lr=0.2), whole, resume=True)
