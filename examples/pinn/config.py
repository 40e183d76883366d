"""Everything that decides the result of a run."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from examples.common.checks import check_positive, check_seed
from examples.common.choices import check_one_of
from examples.common.run_folder import Config
from examples.pinn.methods import Method, Scale
from examples.pinn.problems import PROBLEMS

DType = Literal["float32", "float64"]


@dataclass(frozen=True, kw_only=True)
class RunConfig(Config):
    """A run: the problem, how its losses are balanced, and how long it trains.

    Attributes:
        name: Name of the method, for tables and pictures.
        problem: A key of ``PROBLEMS``.
        solver: As ``Method`` has it, as are the next two.
        scale: Of the weights.
        factor: Of the conditions' losses, by hand.
        seed: Of the weights and the points.
        dtype: "float64" or "float32".
        adam_steps: Steps of Adam, balanced anew at each.
        lbfgs_steps: Iterations of L-BFGS that follow, with the average of the last weights held.
        lr: Adam's, at the start of a cosine schedule.
        num_points: Fresh points inside, and as many of every condition, at a step of Adam.
        num_fixed_points: Those of L-BFGS, the same throughout.
        width: Of the hidden layers.
        depth: Number of the hidden layers.
    """

    name: str
    problem: str = "helmholtz"
    solver: str = "Uniform"
    scale: Scale = "none"
    factor: float = 1.0
    seed: int = 0
    dtype: DType = "float64"
    adam_steps: int = 3000
    lbfgs_steps: int = 800
    lr: float = 2e-3
    num_points: int = 100
    num_fixed_points: int = 800
    width: int = 40
    depth: int = 3

    def __post_init__(self) -> None:
        check_one_of("problem", self.problem, PROBLEMS)
        check_one_of("dtype", self.dtype, get_args(DType))
        assert self.method
        for option, least in {
            "adam_steps": 1,
            "lbfgs_steps": 0,
            "num_points": 4,
        }.items():
            if getattr(self, option) < least:
                raise ValueError(f"{option} must be at least {least}, got {getattr(self, option)}")
        check_positive(self, ("lr", "width", "depth", "factor"))
        check_seed(self.seed)

    @property
    def title(self) -> str:
        """What it is called in an error."""
        return f"{self.name}, seed {self.seed}"

    @property
    def method(self) -> Method:
        """How its losses are balanced."""
        return Method(self.solver, self.scale, self.factor)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Of all that is computed."""
        return torch.float64 if self.dtype == "float64" else torch.float32
