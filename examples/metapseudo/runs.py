"""Do runs in processes of one thread; what is done stays done."""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from examples.common.processes import as_done
from examples.common.run_folder import RunFolder
from examples.metapseudo.classifier import Classifier
from examples.metapseudo.data import Target, load_target
from examples.metapseudo.find import FoundMap, find_map, labelled_classifier
from examples.metapseudo.mapping import build_mapping
from examples.metapseudo.pictures import draw_walk
from examples.metapseudo.source import Source, load_source
from examples.metapseudo.train import NUM_PARTS, Training, train
from examples.metapseudo.variants import RunConfig

Result = dict[str, Any]
Do = Callable[[RunConfig, Path], Result]


def run(config: RunConfig, out: Path, *, resume: bool = True, num_parts: int = NUM_PARTS) -> Result:
    """Train one run on one thread; its folder then holds results, and a picture of its samples.

    Args:
        config: The run.
        out: The folder of all runs.
        resume: Continue the run if it was interrupted, and do nothing if it is done.
        num_parts: How often it is evaluated, and a checkpoint written.

    Returns:
        Its configuration, its evaluations in order, and those of its latents.
    """
    folder = RunFolder(out / config.name)
    done = _done(config, folder)
    if resume and done is not None:
        return done
    torch.set_num_threads(config.threads or 1)
    target, source = _target(config.data, config.labels_per_class, config.seed), None
    if config.samples not in ("none", "real"):
        source = _source(config.generator)
    found = None
    if config.samples == "optimized" and config.order == "first":
        found = _found(config.of_map())
    training = train(
        config,
        target,
        source,
        folder,
        mapping=None if found is None else found.mapping,
        records=[] if found is None else found.records,
        num_parts=num_parts,
        resume=resume,
        console=Console(),
    )
    result: Result = {
        "config": config.as_dict(),
        "evaluations": [record for record in folder.metrics() if record["kind"] == "evaluation"],
        "latents": [record for record in folder.metrics() if record["kind"] == "latents"],
    }
    if config.samples == "optimized":
        assert source is not None
        states = found.states if found is not None else _states_of(training, source)
        evaluations = result["latents"] or result["evaluations"]
        draw_walk(config, source.generator, target, states, evaluations, folder.path / "walk.png")
    folder.save_results(result)
    return result


def find_only(config: RunConfig, out: Path) -> Result:
    """Find the map of a run, and train no classifier on its samples.

    Args:
        config: The run, of optimised samples.
        out: The folder of all runs.

    Returns:
        Its configuration, and the evaluations of its latents in order.
    """
    folder = RunFolder(out / config.name)
    done = _done(config, folder)
    if done is not None:
        return done
    torch.set_num_threads(config.threads or 1)
    found = _found(config.of_map())
    folder.start(config, resume=False)
    for record in found.records:
        folder.log(record)
    latents = [record for record in found.records if record["kind"] == "latents"]
    result = {"config": config.as_dict(), "evaluations": [], "latents": latents}
    folder.save_results(result)
    return result


def run_all(
    configs: Sequence[RunConfig], out: Path, *, jobs: int, console: Console, do: Do = run
) -> list[Result]:
    """Return the results of all runs; those that are done are not done again.

    Args:
        configs: The runs.
        out: Their folder.
        jobs: Number of processes.
        console: Where to show the progress.
        do: What is done with each.
    """
    by_name: dict[str, Result] = {}
    for found in as_done(_do_all, [(do, group, out) for group in groups(configs)], jobs=jobs):
        by_name |= found
        console.print(f"{len(by_name)} of {len(configs)} runs done", highlight=False)
    return [by_name[config.name] for config in configs]


def groups(configs: Sequence[RunConfig]) -> list[list[RunConfig]]:
    """Return runs that may share what comes before them, together: a process does them in turn.

    Args:
        configs: The runs.
    """
    found: dict[tuple[Any, ...], list[RunConfig]] = {}
    for config in configs:
        key: tuple[Any, ...] = (config.name,)
        if config.samples == "optimized" and config.order == "first":
            key = (config.data, config.labels_per_class, config.seed)
        found.setdefault(key, []).append(config)
    return list(found.values())


def _do_all(do: Do, configs: Sequence[RunConfig], out: Path) -> dict[str, Result]:
    found = {}
    for config in configs:
        found[config.name] = do(config, out)
        Console().print(f"done: {config.name}", highlight=False)
    return found


def _done(config: RunConfig, folder: RunFolder) -> Result | None:
    """The results of a run of this configuration, wherever its data lie."""
    if not folder.results_file.exists():
        return None
    found: Result = json.loads(folder.results_file.read_text())
    free = {"data": config.data, "threads": config.threads}
    return found if {**found["config"], **free} == config.as_dict() else None


def _states_of(training: Training, source: Source) -> dict[int, dict[str, Any]]:
    """The map of a run in the alternating order, at its start and at its end."""
    assert training.latents is not None
    config, mapping = training.config, training.latents.samples.mapping
    assert mapping is not None
    start = build_mapping(config.map, source.generator.latent_size, seed=config.seed)
    return {0: start.state_dict(), config.num_steps: mapping.state_dict()}


# What runs one after the other in a process have in common.
@lru_cache(maxsize=1)
def _target(data: str | None, labels_per_class: int, seed: int) -> Target:
    return load_target(data, labels_per_class=labels_per_class, seed=seed)


@lru_cache(maxsize=2)
def _source(generator: str) -> Source:
    return load_source(generator)


@lru_cache(maxsize=2)  # With and without labels that are kept for validation.
def _labelled(config: RunConfig, num_validation: int) -> Classifier:
    target = _target(config.data, config.labels_per_class, config.seed)
    return labelled_classifier(config, target, num_validation)


@lru_cache(maxsize=2)
def _found(config: RunConfig) -> FoundMap:
    target = _target(config.data, config.labels_per_class, config.seed)
    model = _labelled(config.of_labels(), config.num_validation)
    return find_map(config, target, _source(config.generator), model)
