"""What is run: task sets, solvers and seeds, as one configuration a run."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from examples.mpssl.presets import RunConfig, Scale
from examples.mpssl.pretext import TASKS

# All methods take the direction to the norm of the plain sum, over the representation: a method
# must not win by the length of its step.
SCALE: Scale = "norm"
SOURCE = "representation"

UNTRAINED = "random init"  # stands for the tasks of runs that are judged without training

SOLVERS = {
    "uniform": "Uniform",
    "mgda": "MGDA",
    "mgda-l2": "MGDA(normalization='l2')",
    "mgda-loss": "MGDA(normalization='loss')",
    "mgda-loss+": "MGDA(normalization='loss+')",
    "pcgrad": "PCGrad",
    "gradnorm": "GradNorm",
}

ENHANCEMENTS = tuple(name for name in TASKS if name != "rotation")
MIXTURES = (
    ("rotation", "sharpness", "solarization"),
    ("rotation", "sharpness", "solarization", "saturation"),
    tuple(TASKS),
)
PAIRS = tuple(("rotation", enhancement) for enhancement in ENHANCEMENTS)
ALONE = tuple((name,) for name in TASKS)


def procedural(seeds: int) -> Iterator[RunConfig]:
    """Yield the runs on built-in images, the larger questions first.

    Args:
        seeds: Number of seeds.
    """
    yield from _untrained(seeds)
    for tasks in (*MIXTURES[1:2], *ALONE, MIXTURES[0], MIXTURES[2], *PAIRS):
        for solver in SOLVERS if len(tasks) > 1 else ("uniform",):
            for seed in range(seeds):
                yield _config(tasks, solver, seed=seed)


def cifar10(seeds: int, data: str) -> Iterator[RunConfig]:
    """Yield the runs on 10,000 images of CIFAR-10.

    Args:
        seeds: Number of seeds.
        data: The folder or zip of its images.
    """
    options = {"data": data, "max_train": 10_000, "epochs": 15}
    mixture = MIXTURES[1]
    yield from _untrained(seeds, **options)
    for seed in range(seeds):
        yield _config(("rotation",), "uniform", seed=seed, **options)
        yield _config(("rotation", "solarization"), "uniform", seed=seed, **options)
        for solver in ("uniform", "mgda", "mgda-loss+", "pcgrad", "gradnorm"):
            yield _config(mixture, solver, seed=seed, **options)


def _untrained(seeds: int, **options: Any) -> Iterator[RunConfig]:
    for seed in range(seeds):
        config = _config(MIXTURES[1], "uniform", seed=seed, **options)
        yield replace(config, name=f"{UNTRAINED}----seed{seed}")


def _config(tasks: tuple[str, ...], solver: str, *, seed: int, **options: Any) -> RunConfig:
    label = "all" if len(tasks) == len(TASKS) else "+".join(tasks)
    return RunConfig(
        name=f"{label}--{solver}--seed{seed}",
        tasks=tasks,
        solver=SOLVERS[solver],
        source=SOURCE,
        scale=SCALE,
        seed=seed,
        threads=1,
        **options,
    )
