"""Does runs in several processes of one thread each; a run that is done is not done again."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from examples.common.processes import as_done
from examples.common.run_folder import RunFolder
from examples.metapseudo.config import RunConfig
from examples.metapseudo.generators.source import Source
from examples.metapseudo.mapping import build_mapping
from examples.metapseudo.run import shared
from examples.metapseudo.run.loop import NUM_PARTS, train
from examples.metapseudo.run.pictures import draw_walk
from examples.metapseudo.train import Training

Result = dict[str, Any]
Do = Callable[[RunConfig, Path], Result]


def run(config: RunConfig, out: Path, *, resume: bool = True, num_parts: int = NUM_PARTS) -> Result:
    """Train one run on one thread; its folder then holds results, and a picture of its samples.

    Args:
        config: The options of the run.
        out: The folder of all runs.
        resume: Continue the run if it was interrupted, and do nothing if it is done.
        num_parts: Number of parts, each with an evaluation and a checkpoint at its end.

    Returns:
        The configuration of the run, its evaluations in order, and those of its latents.
    """
    folder = RunFolder(out / config.name)
    done = done_before(config, folder)
    if resume and done is not None:
        return done
    torch.set_num_threads(config.threads or 1)
    target, source = shared.target(config.data, config.labels_per_class, config.seed), None
    if config.samples not in ("none", "real"):
        source = shared.source(config.generator)
    found = None
    if config.samples == "optimized" and config.order == "first":
        found = shared.found_map(config.of_map())
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


def done_before(config: RunConfig, folder: RunFolder) -> Result | None:
    """Return the results of a run of this configuration, or None if there are none.

    Where its data lie, and its number of threads, need not be the same.

    Args:
        config: The options of the run.
        folder: The folder of the run.
    """
    if not folder.results_file.exists():
        return None
    found: Result = json.loads(folder.results_file.read_text())
    free = {"data": config.data, "threads": config.threads}
    return found if {**found["config"], **free} == config.as_dict() else None


def run_all(
    configs: Sequence[RunConfig], out: Path, *, jobs: int, console: Console, do: Do = run
) -> list[Result]:
    """Return the results of all runs; those that are done are not done again.

    Args:
        configs: The options of the runs.
        out: The folder of all runs.
        jobs: Number of processes.
        console: Where to show the progress.
        do: The function that does a run.
    """
    by_name: dict[str, Result] = {}
    for found in as_done(_do_all, [(do, group, out) for group in groups(configs)], jobs=jobs):
        by_name |= found
        console.print(f"{len(by_name)} of {len(configs)} runs done", highlight=False)
    return [by_name[config.name] for config in configs]


def groups(configs: Sequence[RunConfig]) -> list[list[RunConfig]]:
    """Group the runs that may share a map; one process does the runs of a group in turn.

    Args:
        configs: The options of the runs.
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


def _states_of(training: Training, source: Source) -> dict[int, dict[str, Any]]:
    """The map of a run in the alternating order, at its start and at its end."""
    assert training.latents is not None
    config, mapping = training.config, training.latents.samples.mapping
    assert mapping is not None
    start = build_mapping(config.map, source.generator.latent_size, seed=config.seed)
    return {0: start.state_dict(), config.num_steps: mapping.state_dict()}
