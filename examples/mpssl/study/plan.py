"""The plan of each study: task sets, solvers and seeds, as one configuration per run."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from examples.mpssl.presets import SUPERVISED, Scale
from examples.mpssl.pretext import TASKS
from examples.mpssl.study.ablation import StudyConfig

# For all methods, the direction over the representation gets the norm of the plain sum's, because
# a method must not win by taking longer steps.
SCALE: Scale = "norm"
SOURCE = "representation"

# In the names of runs, these stand in place of the tasks. The first two are the baselines: a trunk
# without training, and one trained on the labels that the probes predict.
UNTRAINED = "random init"
CEILING = "supervised"
ABLATION = "ablation"  # the four tasks with one change

SOLVERS = {
    "uniform": "Uniform",
    "mgda": "MGDA",
    "mgda-l2": "MGDA(normalization='l2')",
    "mgda-loss": "MGDA(normalization='loss')",
    "mgda-loss+": "MGDA(normalization='loss+')",
    "pcgrad": "PCGrad",
    "gradnorm": "GradNorm",
}

# Further solvers, run on one set of tasks only; the first is the solver of the preset "mp-ssl".
FAMILY = {
    "bounded-5": "Bounded(solver=MGDA(normalization='loss+'), ratio=5)",
    "cagrad": "CAGrad",
    "nash-mtl": "NashMTL",
    "fairgrad": "FairGrad(alpha=2.0)",
    "upgrad": "UPGrad",
    "db-mtl": "DBMTL",
    "uw": "UW",
    "dwa": "DWA",
    "famo": "FAMO",
    "stch": "STCH",
}

# Weights that follow the losses grow for a task that cannot be learned; these test a bound on the
# weights. The ratio 5 was chosen before on other seeds, so these seeds are a confirmation.
FIRST_FRESH_SEED = 10
BOUNDED = {
    "bounded-4": "Bounded(solver=MGDA(normalization='loss+'), ratio=4)",
    "bounded-8": "Bounded(solver=MGDA(normalization='loss+'), ratio=8)",
    "bounded-gradnorm": "Bounded(solver=GradNorm(), ratio=5)",
    "bounded-famo": "Bounded(solver=FAMO(), ratio=5)",
}

# Trunk, learning rate and inputs per step are RotNet's. RotNet was trained for 200 epochs with four
# inputs per image; these runs have 80 epochs with one input per image.
ROTNET = {"trunk": "nin", "lr": 0.1, "batch_size": 512, "epochs": 80}
CLASSIFIER_EPOCHS = 30  # of the classifiers on the trunk's blocks; RotNet's had 100

ENHANCEMENTS = tuple(name for name in TASKS if name != "rotation")
THREE_TASKS = ("rotation", "sharpness", "solarization")
FOUR_TASKS = (*THREE_TASKS, "saturation")
PAIRS = tuple(("rotation", enhancement) for enhancement in ENHANCEMENTS)
ALONE = tuple((name,) for name in TASKS)

# The four tasks with one change, balanced by the solver that did best on them. The number of inputs
# is the same as without the change.
ABLATED = "mgda-loss"
ABLATIONS: dict[str, dict[str, Any]] = {
    "as the others": {},
    "order reversed": {"order": "reversed"},
    "all rotations": {"rotations": "all", "batch_size": 16, "epochs": 4},
    "separate images": {"mixing": "separate"},
    "source shared": {"source": "shared"},
}


def procedural(seeds: int) -> Iterator[StudyConfig]:
    """Yield the runs on built-in images, those for the main questions first.

    Args:
        seeds: Number of seeds.
    """
    yield from _baselines(seeds)
    for tasks in (FOUR_TASKS, *ALONE, THREE_TASKS, tuple(TASKS), *PAIRS):
        solvers = [*SOLVERS, *FAMILY] if tasks == FOUR_TASKS else SOLVERS
        for solver in solvers if len(tasks) > 1 else ("uniform",):
            for seed in range(seeds):
                yield _config(tasks, solver, seed=seed)


def turned(seeds: int) -> Iterator[StudyConfig]:
    """Yield the runs on built-in images that are turned at random, so nothing tells their rotation.

    Args:
        seeds: Number of seeds.
    """
    yield from _baselines(seeds, turned=True)
    for seed in range(seeds):
        yield _config(("rotation",), "uniform", seed=seed, turned=True)
    for solver in (*SOLVERS, *FAMILY):
        for seed in range(seeds):
            yield _config(FOUR_TASKS, solver, seed=seed, turned=True)


def fresh(seeds: int) -> Iterator[StudyConfig]:
    """Yield the runs that confirm the bound on the weights, on upright images.

    Args:
        seeds: Number of seeds, none of which another study has.
    """
    yield from _fresh(seeds, turned=False)


def fresh_turned(seeds: int) -> Iterator[StudyConfig]:
    """Yield the same runs as ``fresh``, on turned images.

    Args:
        seeds: Number of seeds, none of which another study has.
    """
    yield from _fresh(seeds, turned=True)


def _fresh(seeds: int, *, turned: bool) -> Iterator[StudyConfig]:
    for seed in range(FIRST_FRESH_SEED, FIRST_FRESH_SEED + seeds):
        yield _untrained(seed, turned=turned)
        yield _config(("rotation",), "uniform", seed=seed, turned=turned)
        for solver in ("uniform", "mgda-loss+", "bounded-5", *BOUNDED):
            yield _config(FOUR_TASKS, solver, seed=seed, turned=turned)


def cifar10(seeds: int, data: str) -> Iterator[StudyConfig]:
    """Yield the runs on 10,000 images of CIFAR-10.

    Args:
        seeds: Number of seeds.
        data: The folder or zip of its images.
    """
    options = {"data": data, "max_train": 10_000, "epochs": 30}
    yield from _baselines(seeds, **options)
    for seed in range(seeds):
        yield _config(("rotation",), "uniform", seed=seed, **options)
        for enhancement in ("solarization", "sharpness"):
            yield _config(("rotation", enhancement), "uniform", seed=seed, **options)
        for solver in ("uniform", "mgda", "mgda-loss", "mgda-loss+", "pcgrad", "gradnorm"):
            yield _config(FOUR_TASKS, solver, seed=seed, **options)


def cifar10_turned(seeds: int, data: str) -> Iterator[StudyConfig]:
    """Yield the runs on the same images of CIFAR-10, turned at random.

    Args:
        seeds: Number of seeds.
        data: The folder or zip of its images.
    """
    options = {"data": data, "max_train": 10_000, "epochs": 30, "turned": True}
    for seed in range(seeds):
        yield _untrained(seed, **options)
        yield _config(("rotation",), "uniform", seed=seed, **options)
        yield _config(FOUR_TASKS, "bounded-5", seed=seed, **options)


def rotnet(seeds: int, data: str, device: str = "cuda") -> Iterator[StudyConfig]:
    """Yield the runs with RotNet's trunk on all of CIFAR-10, for a GPU.

    Args:
        seeds: Number of seeds.
        data: The folder or zip of its images.
        device: The device for the runs.
    """
    options = {"data": data, "device": device, **ROTNET}
    for seed in range(seeds):
        yield _untrained(seed, **options)
        yield _config(FOUR_TASKS, "bounded-5", seed=seed, **options)
        yield _config(("rotation", "sharpness"), "uniform", seed=seed, **options)
        yield _config(("rotation",), "uniform", seed=seed, **options)


def ablation(seeds: int) -> Iterator[StudyConfig]:
    """Yield the runs of the ablation on built-in images; each has one change.

    Args:
        seeds: Number of seeds.
    """
    yield from _baselines(seeds)
    for label, changes in ABLATIONS.items():
        for seed in range(seeds):
            config = _config(FOUR_TASKS, ABLATED, seed=seed)
            yield replace(config, name=f"{ABLATION}--{label}--seed{seed}", **changes)


def _baselines(seeds: int, **options: Any) -> Iterator[StudyConfig]:
    for seed in range(seeds):
        yield (config := _untrained(seed, **options))
        yield replace(config, name=f"{CEILING}----seed{seed}", tasks=SUPERVISED)


def _untrained(seed: int, **options: Any) -> StudyConfig:
    config = _config(FOUR_TASKS, "uniform", seed=seed, **options)
    return replace(config, name=f"{UNTRAINED}----seed{seed}")


def _config(tasks: tuple[str, ...], solver: str, *, seed: int, **options: Any) -> StudyConfig:
    label = "all" if len(tasks) == len(TASKS) else "+".join(tasks)
    return StudyConfig(
        name=f"{label}--{solver}--seed{seed}",
        tasks=tasks,
        solver={**SOLVERS, **FAMILY, **BOUNDED}[solver],
        source=SOURCE,
        scale=SCALE,
        seed=seed,
        threads=1,
        **options,
    )


def pictured(data: str | None) -> dict[str, StudyConfig]:
    """Return the runs whose trunks and histories are drawn, by their names in the picture.

    Args:
        data: The folder or zip of CIFAR-10's images, or None for the built-in ones.
    """
    configs = {
        config.name: config for config in (procedural(1) if data is None else cifar10(1, data))
    }
    mixture = "+".join(FOUR_TASKS)
    solvers = ("uniform", "mgda", "mgda-loss+", "gradnorm")
    names = {
        UNTRAINED: f"{UNTRAINED}----seed0",
        CEILING: f"{CEILING}----seed0",
        "rotation": "rotation--uniform--seed0",
        **{solver: f"{mixture}--{solver}--seed0" for solver in solvers},
    }
    return {label: configs[name] for label, name in names.items()}
