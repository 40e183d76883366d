"""The parts of a run: its configuration, the presets, sources by name, its model and images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import gradbalance as gb
from examples.common.checks import check_positive, check_seed
from examples.common.choices import check_one_of, preset_options
from examples.common.data.image_set import ImageSet
from examples.common.data.load import load_data
from examples.common.run_folder import Config
from examples.common.solvers import build_solver
from examples.common.trunk import TRUNKS, PretextModel, Trunk, TrunkName, build_model
from examples.mpssl import pretext

Scale = Literal["none", "sum", "norm"]
Precision = Literal["auto", "float32", "bfloat16"]

SUPERVISED = ("labels",)


@dataclass(frozen=True, kw_only=True)
class RunConfig(Config):
    """Everything that determines the result of a run; saved as ``config.json``.

    Attributes:
        name: Name of the run and of its folder.
        tasks: Names of the pretext tasks. ``("labels",)`` stands for supervised training instead,
            with one task per known factor, as a baseline for the other runs.
        solver: The gradbalance solver that balances the tasks, as a call in Python.
        source: The source of the task gradients, a key of ``SOURCES``.
        scale: ``Balancer(scale=...)``: "norm" and "sum" keep the learning rate comparable with
            uniform weights, "none" leaves the weights as the solver defines them.
        trunk: The network that the tasks share, a key of ``TRUNKS``.
        data: Folder or zip of images, or None for the built-in ones.
        turned: Whether every image gets a random quarter turn, so that it has no upright
            orientation.
        max_train: Maximum number of training images.
        max_test: Maximum number of test images.
        epochs: Passes over the training images.
        batch_size: Number of images per step.
        lr: Learning rate at the start of the cosine schedule.
        weight_decay: Weight decay of SGD.
        seed: Seed of the weights, the data and all random draws.
        threads: CPU threads, or None for torch's default; it changes the last bits of sums.
        device: The device for training, such as "cpu" or "cuda".
        precision: bfloat16 autocast or float32; "auto" means bfloat16 on a GPU and float32 on a
            CPU.
    """

    name: str
    tasks: tuple[str, ...]
    solver: str
    source: str
    scale: Scale
    trunk: TrunkName = "small"
    data: str | None = None
    turned: bool = False
    max_train: int | None = None
    max_test: int | None = None
    epochs: int = 16
    batch_size: int = 64
    lr: float = 0.05
    weight_decay: float = 5e-4
    seed: int = 0
    threads: int | None = None
    device: str = "cpu"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if self.tasks != SUPERVISED:
            pretext.select_tasks(self.tasks)
        build_solver(self.solver)
        check_one_of("source", self.source, SOURCES)
        check_one_of("trunk", self.trunk, TRUNKS)
        check_one_of("scale", self.scale, get_args(Scale))
        check_one_of("precision", self.precision, get_args(Precision))
        if not self.name or self.name.startswith(".") or set(self.name) & set("/\\"):
            raise ValueError(f"name must be the name of a folder, got {self.name!r}")
        check_positive(self, ("epochs", "batch_size", "max_train", "max_test", "threads", "lr"))
        check_seed(self.seed)

    @property
    def pretext_tasks(self) -> tuple[pretext.PretextTask, ...]:
        """The pretext tasks in the order in which they are applied; none if supervised."""
        return () if self.tasks == SUPERVISED else pretext.select_tasks(self.tasks)


PRESETS: dict[str, dict[str, Any]] = {
    "rotation": {
        "tasks": ("rotation",),
        "solver": "Uniform",
        "source": "losses",
        "scale": "none",
    },
    "ie-rot": {
        "tasks": ("rotation", "solarization"),
        "solver": "Uniform",
        "source": "losses",
        "scale": "none",
    },
    "mp-ssl": {
        "tasks": ("rotation", "sharpness", "solarization", "saturation"),
        "solver": "Bounded(solver=MGDA(method='frank_wolfe', normalization='loss+'), ratio=5)",
        "source": "representation",
        "scale": "norm",
    },
    "supervised": {
        "tasks": SUPERVISED,
        "solver": "Uniform",
        "source": "losses",
        "scale": "none",
    },
}

SOURCES: dict[str, Callable[[Trunk], gb.Source]] = {
    "losses": lambda trunk: gb.LossesOnly(),
    "shared": lambda trunk: gb.SharedParameters(trunk),
    "shared-last": lambda trunk: gb.SharedParameters(trunk, measure=trunk.blocks[-1]),
    "representation": lambda trunk: gb.Representation(trunk),
}


def preset_config(preset: str, **options: Any) -> RunConfig:
    """Return a preset's configuration with some options changed.

    Args:
        preset: A key of ``PRESETS``.
        options: Fields of ``RunConfig``; None keeps the preset's value or the default.

    Raises:
        ValueError: The preset does not exist, or an option is invalid.
    """
    return RunConfig(**{"name": preset, **preset_options("preset", preset, PRESETS, options)})


def build_balancer(config: RunConfig, model: PretextModel) -> gb.Balancer:
    """Return the balancer of a run.

    Args:
        config: The configuration of the run.
        model: The model of the run, on its device.
    """
    return gb.Balancer(
        build_solver(config.solver),
        SOURCES[config.source](model.trunk),
        scale=None if config.scale == "none" else config.scale,
        tasks=tuple(model.heads),
    )


def build_model_of(config: RunConfig, train_set: ImageSet) -> PretextModel:
    """Return the newly initialised model of a run, on its device.

    Args:
        config: The configuration of the run.
        train_set: The images; in a supervised run, their labelled factors are the tasks.
    """
    if config.pretext_tasks:
        heads = {task.name: task.num_classes for task in config.pretext_tasks}
    else:
        heads = {name: len(classes) for name, classes in train_set.classes.items()}
    return build_model(heads, trunk=config.trunk, seed=config.seed).to(config.device)


def load_images_of(config: RunConfig) -> tuple[ImageSet, ImageSet]:
    """Return the training and the test images of a run.

    Args:
        config: The configuration of the run.
    """
    return load_data(
        config.data,
        max_train=config.max_train,
        max_test=config.max_test,
        seed=config.seed,
        turned=config.turned,
    )
