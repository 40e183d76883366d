"""The configuration of a run: everything that determines its result."""

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
        solver: The solver, see ``Method``.
        scale: The scale of the weights, see ``Method``.
        factor: The hand-set weight of the conditions' losses, see ``Method``.
        seed: Seed of the initial weights and the points.
        dtype: "float64" or "float32".
        adam_steps: Number of steps of Adam; each one is balanced.
        lbfgs_steps: Number of iterations of L-BFGS after Adam, with the average of the last steps'
            weights, kept fixed.
        lr: Learning rate of Adam, at the start of a cosine schedule.
        num_points: Number of new points inside the domain, and of new points for every condition,
            in each step of Adam.
        num_fixed_points: The same for L-BFGS, where the points do not change.
        width: Width of the hidden layers.
        depth: Number of hidden layers.
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
        """The name of the run in error messages."""
        return f"{self.name}, seed {self.seed}"

    @property
    def method(self) -> Method:
        """How the losses are balanced."""
        return Method(self.solver, self.scale, self.factor)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the network and of all computations."""
        return torch.float64 if self.dtype == "float64" else torch.float32
