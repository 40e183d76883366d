"""Runs a study in parallel processes; runs that are already done are not repeated."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from examples.common.data.image_set import ImageSet
from examples.common.only_one import only_one
from examples.common.processes import as_done
from examples.common.run_folder import RunFolder
from examples.mpssl import evaluate
from examples.mpssl.presets import build_model_of, load_images_of
from examples.mpssl.run.compare import judge
from examples.mpssl.run.loop import train
from examples.mpssl.study.ablation import StudyConfig, batches_of
from examples.mpssl.study.block_classifiers import block_classifier_accuracy
from examples.mpssl.study.clean_statistics import with_statistics_of
from examples.mpssl.study.plan import CLASSIFIER_EPOCHS, UNTRAINED
from examples.mpssl.train import Training

Result = dict[str, Any]

_loaded: dict[tuple[Any, ...], tuple[ImageSet, ImageSet]] = {}  # each worker reads its data once


def run_all(
    configs: Sequence[StudyConfig], out: Path, known: Sequence[Result], *, jobs: int
) -> dict[str, Result]:
    """Do the runs that are not done yet, and return the results of all runs by name.

    Args:
        configs: The configurations of the runs.
        out: The folder of the runs. An interrupted run is continued.
        known: Results of earlier runs; those with the same configuration are reused.
        jobs: Number of processes, one thread each.

    Raises:
        ValueError: Another study is running in the folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    with only_one(out):
        return _run_all(configs, out, known, jobs)


def _run_all(
    configs: Sequence[StudyConfig], out: Path, known: Sequence[Result], jobs: int
) -> dict[str, Result]:
    by_kind = {_kind(result): result for result in known}
    results = {c.name: found for c in configs if (found := _done(c, out, by_kind)) is not None}
    todo = [config for config in configs if config.name not in results]
    with Progress() as progress:
        bar = progress.add_task("runs", total=len(configs), completed=len(results))
        for name, result in as_done(do_run, [(config, out) for config in todo], jobs=jobs):
            results[name] = result
            progress.console.print(f"done: {name}", highlight=False)
            progress.advance(bar)
    # The options keep their earlier order, so that committed results do not change.
    return {
        c.name: {**results[c.name], "config": {**results[c.name]["config"], **_portable(c)}}
        for c in configs
    }


def do_run(config: StudyConfig, out: Path) -> tuple[str, Result]:
    """Train and evaluate one run, write its results, and return them with its name.

    Args:
        config: The configuration of the run.
        out: The folder of the study.
    """
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    key = (config.data, config.max_train, config.max_test, config.seed, config.turned)
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = load_images_of(config)
    train_set, test_set = _loaded[key]
    folder = RunFolder(out / config.name)
    if config.name.startswith(UNTRAINED):
        model = build_model_of(config, train_set)
        folder.path.mkdir(parents=True, exist_ok=True)
        training = {}
    else:
        model = train(Training(config, train_set, batches_of(config)), folder, resume=True)
        training = _training_of(list(folder.metrics()))
    results = {
        **judge(model, config, train_set, test_set, batches_of(config, judged=True)),
        "training": training,
    }
    if config.trunk == "nin":
        results["classifiers"] = block_classifier_accuracy(
            model.trunk, train_set, test_set, epochs=CLASSIFIER_EPOCHS, seed=config.seed
        )
    else:
        # The trunk has seen only distorted inputs: probe it also with clean batch-norm statistics.
        clean = with_statistics_of(model.trunk, train_set)
        results["probes_clean"] = evaluate.probe(clean, train_set, test_set)
    folder.save_results(results)
    return config.name, results


def _done(config: StudyConfig, out: Path, known: Mapping[str, Result]) -> Result | None:
    wanted = _kind_of(config, trained=not config.name.startswith(UNTRAINED))
    path = out / config.name / "results.json"
    here = json.loads(path.read_text()) if path.exists() else None
    if here is not None and _kind(here) == wanted:
        found: Result = here
        return found
    return known.get(wanted)


def _kind(result: Result) -> str:
    """What determines a result; only an empty "training" shows that a run was not trained."""
    config = StudyConfig(**{**result["config"], "tasks": tuple(result["config"]["tasks"])})
    return _kind_of(config, trained=bool(result["training"]))


def _kind_of(config: StudyConfig, *, trained: bool) -> str:
    """The same, from a configuration; the run's name and the data's folder do not count."""
    return json.dumps([trained, {**_portable(config), "name": ""}], sort_keys=True)


def _portable(config: StudyConfig) -> dict[str, Any]:
    return {**config.as_dict(), "data": config.data and Path(config.data).name}


def _training_of(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the last epoch's mean losses, and the whole run's mean weights and cosines."""
    epochs = [record for record in records if record["kind"] == "epoch"]
    steps = [record for record in records if record["kind"] == "step"]
    last = {
        f"final_{key.removeprefix('mean_')}": round(value, 6)
        for key, value in epochs[-1].items()
        if key.startswith("mean_loss/")
    }
    means = {
        f"mean_{key}": round(float(np.mean([step[key] for step in steps])), 6)
        for key in steps[0]
        if key.startswith(("weight/", "cosine/"))
    }
    return {**last, **means}
