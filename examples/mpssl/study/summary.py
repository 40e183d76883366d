"""Mean ± standard deviation over the seeds of a study, as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from examples.common.intervals import interval
from examples.common.markdown import table_lines
from examples.mpssl.study.plan import CEILING, UNTRAINED

Results = Mapping[str, Mapping[str, Any]]

PAIRED = "uniform"
DIFFERENCES = "the mean difference and its 95 % confidence interval (Student's)."
CLEAN = "The same probes, after batch norms have taken mean and variance from clean images:"
CLASSIFIERS = "Classifiers of three layers on all features of a block:"
# Further results of some studies: the key, the title of the first column, and the text above.
FURTHER = (("probes_clean", "probe", CLEAN), ("classifiers", "block", CLASSIFIERS))
UPRIGHT = {
    "shape kNN": ("probes", "shape", "knn"),
    "texture block 2": ("probes", "texture", "block2"),
    "rotation %": ("pretext", "rotation"),
}
TURNED = {
    "shape block 4": ("probes", "shape", "block4"),
    "texture block 2": ("probes", "texture", "block2"),
    "texture block 4": ("probes", "texture", "block4"),
    "weight of rotation": ("training", "mean_weight/rotation"),
}
COMPARED = {
    "shape block 4": ("probes", "shape", "block4"),
    "shape kNN": ("probes", "shape", "knn"),
    "texture block 2": ("probes", "texture", "block2"),
    "texture block 4": ("probes", "texture", "block4"),
    "rotation %": ("pretext", "rotation"),
}


def by_kind(
    results: Results,
) -> tuple[dict[str, list[Mapping[str, Any]]], dict[str, dict[str, list[Mapping[str, Any]]]]]:
    """Return the results of all seeds: those of the baselines, and the others by tasks and solver.

    Args:
        results: The results by the name of the run, as in ``plan``: tasks--solver--seed.
    """
    kinds: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for name, result in results.items():
        tasks, solver, _ = name.split("--")
        kinds.setdefault(tasks, {}).setdefault(solver, []).append(result)
    # The names of the baselines have no solver.
    baselines = {kind: kinds.pop(kind)[""] for kind in (UNTRAINED, CEILING) if kind in kinds}
    return baselines, kinds


def as_markdown(results: Results, command: str) -> str:
    """Return a study's tables: probes, pretext tasks, weights and cosines for each set of tasks.

    Args:
        results: The results by the name of the run.
        command: The command that made them.
    """
    baselines, kinds = by_kind(results)
    lines = ["```", command, "```", "", _seeds_of({**kinds, "": baselines})]
    for tasks, solvers in kinds.items():
        rows = {**baselines, **solvers}
        lines += ["", f"## {tasks.replace('+', ', ')}", "", *_table("probe", _probes, rows)]
        lines += ["", *_table("pretext task", _training, solvers)]
        for kind, title, text in FURTHER:
            if all(kind in run for runs in rows.values() for run in runs):
                lines += ["", text, "", *_table(title, partial(_probes, kind=kind), rows)]
        if len(solvers) > 1 and len(solvers.get(PAIRED, ())) >= 5:
            lines += ["", f"Paired by seed with {PAIRED}: {DIFFERENCES}", ""]
            lines += _paired(solvers)
    return "\n".join(lines) + "\n"


def side_by_side(upright: Results, turned: Results, tasks: str) -> str:
    """Return one table with the results of a mixture on both kinds of images.

    Args:
        upright: The results of a study on upright images, by the name of the run.
        turned: The results of the same runs on turned images.
        tasks: The mixture, with its tasks joined by "+".
    """
    columns = {
        f"{title}, {kind}": (results, path)
        for kind, results, shown in (("upright", upright, UPRIGHT), ("turned", turned, TURNED))
        for title, path in shown.items()
    }
    rows: dict[str, list[str]] = {}
    for results, path in columns.values():
        baselines, kinds = by_kind(results)
        alone = {"rotation alone": kinds["rotation"][PAIRED]}
        for name, runs in {**baselines, **alone, **kinds[tasks]}.items():
            # The baselines were not trained on the tasks, so only their probes count.
            known = path[0] == "probes" or name not in baselines
            rows.setdefault(name, []).append(_cell(runs, path) if known else "–")
    lines = table_lines(["trunk", *columns], [[name, *cells] for name, cells in rows.items()])
    return "\n".join(lines) + "\n"


def _cell(runs: Sequence[Mapping[str, Any]], path: Sequence[str]) -> str:
    """Mean and standard deviation of one number; all except the "training" ones are shares."""
    factor = 1 if path[0] == "training" else 100
    return _mean_and_sd([factor * _at(run, path) for run in runs])


def _seeds_of(kinds: Mapping[str, Mapping[str, Sequence[Any]]]) -> str:
    counts = sorted({len(runs) for solvers in kinds.values() for runs in solvers.values()})
    seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"Mean ± standard deviation over {seeds} seeds; accuracies in per cent."


def _paired(solvers: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterable[str]:
    """A table of each solver's difference from uniform weights, on the same seeds."""
    rows = []
    uniform = {run["config"]["seed"]: run for run in solvers[PAIRED]}
    for name, runs in solvers.items():
        if name != PAIRED:
            cells = []
            for path in COMPARED.values():
                pairs = [(run, uniform[run["config"]["seed"]]) for run in runs]
                values = [100 * (_at(one, path) - _at(other, path)) for one, other in pairs]
                mean, low, high = interval(np.array(values))
                cells.append(f"{mean:+.1f} ({low:+.1f} to {high:+.1f})")
            rows.append([name, *cells])
    return table_lines(["solver", *COMPARED], rows)


def _at(result: Mapping[str, Any], path: Sequence[str]) -> float:
    found: Any = result
    for key in path:
        found = found[key]
    return float(found)


def _probes(result: Mapping[str, Any], kind: str = "probes") -> dict[str, float]:
    """The accuracies (%) of linear probes after every block, and of kNN after the last."""
    return {
        f"{factor} {probe.replace('block', 'block ').replace('knn', 'kNN')}": 100 * score
        for factor, scores in result[kind].items()
        for probe, score in scores.items()
    }


def _training(result: Mapping[str, Any]) -> dict[str, float]:
    training = result["training"]
    columns = {f"{task} %": 100 * value for task, value in result["pretext"].items()}
    for kind, label in (("final_loss/", "loss"), ("mean_weight/", "weight")):
        for key, value in training.items():
            if key.startswith(kind):
                columns[f"{key.removeprefix(kind)} {label}"] = value
    cosines = [value for key, value in training.items() if key.startswith("mean_cosine/")]
    if cosines:
        columns["lowest cosine"] = min(cosines)
    return columns


def _table(
    title: str, columns_of: Any, rows: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterable[str]:
    cells = {
        name: {key: [columns_of(result)[key] for result in runs] for key in columns_of(runs[0])}
        for name, runs in rows.items()
    }
    columns = list(next(reversed(cells.values())))
    texts = [
        [name, *(_mean_and_sd(values[column]) if column in values else "–" for column in columns)]
        for name, values in cells.items()
    ]
    return table_lines([title, *columns], texts)


def _mean_and_sd(values: Sequence[float]) -> str:
    digits = 1 if np.max(np.abs(values)) >= 10 else 3
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean
