"""Draws the committed results, and some runs, which are trained first if they are missing."""

import json
from pathlib import Path

import torch
from rich.console import Console

from examples.common.run_folder import RunFolder
from examples.common.trunk import PretextModel
from examples.mpssl.presets import build_model_of, load_images_of
from examples.mpssl.run.loop import train
from examples.mpssl.study import figures, plan
from examples.mpssl.study.method_figure import draw_method
from examples.mpssl.study.summary import Results, by_kind, side_by_side
from examples.mpssl.train import Training

NEIGHBOURS_OF = (plan.UNTRAINED, "rotation", "uniform", "mgda-loss+", plan.CEILING)
QUERIES = 5
BOTH_KINDS = (
    ("Three seeds", "procedural", "turned"),
    ("Five other seeds", "fresh", "fresh_turned"),
)


def draw_results(results: Results, name: str, folder: Path) -> None:
    """Draw the results of a study.

    Args:
        results: The results by run.
        name: The first part of the pictures' file names.
        folder: The folder for the pictures.
    """
    baselines, kinds = by_kind(results)
    mixture = kinds["+".join(plan.FOUR_TASKS)]
    alone = {"rotation alone": kinds["rotation"]["uniform"]}
    rows = {
        **baselines,
        **alone,
        **{n: mixture[n] for n in (*plan.SOLVERS, "bounded-5") if n in mixture},
    }
    factors = list(next(iter(results.values()))["probes"])
    shown = [(factor, probe) for probe in ("block2", "block4", "knn") for factor in factors]
    if len(factors) == 1:
        shown = [(factors[0], f"block{block}") for block in (1, 2, 3, 4)] + [(factors[0], "knn")]
    figures.draw_bars(rows, shown, folder / f"{name}_probes.png")
    everywhere = {tasks: found for tasks, found in kinds.items() if set(plan.SOLVERS) <= set(found)}
    if len(everywhere) > 1:
        path = folder / f"{name}_rotation.png"
        figures.draw_grid(everywhere, "rotation", list(plan.SOLVERS), path)


def tables_of_both_kinds(folder: Path) -> str:
    """Return the tables that show upright and turned images side by side.

    Args:
        folder: The folder with the results.
    """
    tables = []
    for title, *names in BOTH_KINDS:
        upright, turned = (json.loads((folder / f"study_{n}.json").read_text()) for n in names)
        tables.append(f"## {title}\n\n{side_by_side(upright, turned, '+'.join(plan.FOUR_TASKS))}")
    return "\n".join(tables)


def draw_runs(data: str | None, name: str, out: Path, folder: Path) -> None:
    """Draw some runs over time, and the nearest neighbours according to their trunks.

    Args:
        data: The folder or zip of CIFAR-10's images, or None for the built-in ones.
        name: The first part of the pictures' file names.
        out: The folder of the study's runs; missing runs are trained.
        folder: The folder for the pictures.
    """
    torch.set_num_threads(1)
    configs = plan.pictured(data)
    train_set, test_set = load_images_of(configs[plan.UNTRAINED])
    models: dict[str, PretextModel] = {}
    histories = {}
    for label, config in configs.items():
        if label == plan.UNTRAINED:
            models[label] = build_model_of(config, train_set)
            continue
        run = RunFolder(out / config.name)
        models[label] = train(Training(config, train_set), run, resume=True, console=Console())
        if config.tasks == plan.FOUR_TASKS:
            histories[label] = run.history()
    figures.draw_over_time(histories, folder / f"{name}_over_time.png")
    figures.draw_neighbours(
        {label: models[label].trunk for label in NEIGHBOURS_OF},
        train_set,
        test_set,
        # The files are sorted by class.
        range(0, len(test_set), len(test_set) // QUERIES),
        folder / f"{name}_neighbours.png",
    )
    if data is None:
        draw_method(plan.FOUR_TASKS, test_set, folder / "method.png")
