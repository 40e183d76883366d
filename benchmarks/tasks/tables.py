"""The results of studies, as numbers and as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import benchmarks.tasks
from benchmarks.environment import heading
from benchmarks.tasks.scores import Comparison, Values, changes, delta_m, mean_rank
from benchmarks.tasks.study import ALONE, PLAIN, STATIC, Found
from benchmarks.tasks.suite import Metric

Row = dict[str, Any]


def rows_of(found: Sequence[Found], metrics: Mapping[str, Metric]) -> dict[str, Row]:
    """The results of each method in a suite, with pairs of mean and standard deviation."""
    by_name = {line.method: line for line in found}
    reference = _means(by_name.get(ALONE, by_name[PLAIN]).tests)
    ranked = [line for line in found if line.tests and line.method != ALONE]
    by_rank = mean_rank([_means(line.tests) for line in ranked], metrics)
    rank = {line.method: float(r) for line, r in zip(ranked, by_rank, strict=True)}
    return {line.method: _row(line, reference, metrics, rank.get(line.method)) for line in found}


def _row(line: Found, reference: Values, metrics: Mapping[str, Metric], rank: float | None) -> Row:
    row: Row = {
        "rates": list(line.rates),
        "runs": line.num_tried,
        "seeds": len(line.tests),
        "errors": list(line.errors),
    }
    if line.method == STATIC:
        row["solver"] = line.solver
    if not line.tests:
        return row
    change = changes(_means(line.tests), reference, metrics)
    worst = min(change, key=lambda name: change[name])
    return row | {
        "delta_m": _pair([delta_m(values, reference, metrics) for values in line.tests]),
        "worst": [worst, change[worst]],
        "mean_rank": rank,
        "ms": line.ms,
        "over_plain": line.over_plain,
        "metrics": {name: _pair([values[name] for values in line.tests]) for name in metrics},
    }


def compared(suites: Mapping[str, Mapping[str, Row]]) -> dict[str, Any]:
    """Ranks by Δm, for the methods that every suite has; a failed method comes last."""
    shared = [
        name
        for name in next(iter(suites.values()))
        if name != ALONE and all(name in rows for rows in suites.values())
    ]
    scores = np.array(
        [[rows[m].get("delta_m", [-np.inf])[0] for m in shared] for rows in suites.values()]
    )
    comparison = Comparison.of(scores)
    return {
        "mean_rank": dict(zip(shared, comparison.mean_ranks, strict=True)),
        "friedman_p": comparison.p_value,
        "critical_difference": comparison.critical_difference,
    }


def as_markdown(
    result: Mapping[str, Any], metrics: Mapping[str, Mapping[str, Metric]], notes: Sequence[str]
) -> str:
    """The whole page: what was measured, a summary of all suites, and each suite in full."""
    lines = heading("Tasks", benchmarks.tasks.__doc__, result["environment"])
    lines += [*notes, "", *_in_short(result, list(metrics))]
    for suite, of_suite in metrics.items():
        lines += ["", f"## {suite}", "", *_in_full(result[suite], of_suite)]
    return "\n".join(lines) + "\n"


def _in_short(result: Mapping[str, Any], suites: Sequence[str]) -> list[str]:
    overall = result["overall"]
    p, apart = overall["friedman_p"], overall["critical_difference"]
    lines = ["", "![Mean ranks](ranks.png)", ""]
    if p is not None:
        lines += [
            f"Ranks by Δm over {len(suites)} suites: Friedman's p = {p:.2g}; mean ranks less than "
            f"{apart:.1f} apart do not differ at 5 % (Nemenyi). Variants of a suite are not "
            "independent, so read both as optimistic.",
            "",
        ]
    lines += [
        f"| Δm, % | mean rank | {' | '.join(suites)} |",
        f"| --- | ---: |{' ---: |' * len(suites)}",
    ]
    for method, rank in sorted(overall["mean_rank"].items(), key=lambda item: item[1]):
        cells = [_delta(result[suite].get(method, {})) for suite in suites]
        lines.append(f"| {method} | {rank:.1f} | {' | '.join(cells)} |")
    return lines


def _in_full(rows: Mapping[str, Row], metrics: Mapping[str, Metric]) -> list[str]:
    heads = [f"{name}, {metric.unit} {metric.arrow}" for name, metric in metrics.items()]
    lines = [
        "| method | Δm, % | worst | mean rank | step / plain | ms | rate | runs | "
        f"{' | '.join(heads)} |",
        f"| --- | ---: | --- |{' ---: |' * (5 + len(heads))}",
    ]
    order = sorted(rows, key=lambda m: -rows[m].get("delta_m", [-np.inf])[0])
    for method in order:
        row = rows[method]
        if "delta_m" not in row:
            lines.append(f"| {method} | failed |{' |' * (6 + len(heads))}")
            continue
        rates = row["rates"]
        cells = [
            method,
            _delta(row),
            "" if method == ALONE else f"{row['worst'][0]} {row['worst'][1]:+.1f}",
            "" if row["mean_rank"] is None else f"{row['mean_rank']:.1f}",
            "" if method == ALONE else f"{row['over_plain']:.1f}",
            f"{row['ms']:.1f}",
            f"{min(rates):g}" + (f" to {max(rates):g}" if min(rates) < max(rates) else ""),
            str(row["runs"]),
            *(f"{mean:.4g} ± {deviation:.2g}" for mean, deviation in row["metrics"].values()),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [""] + [f"- {m}: {rows[m]['solver']}" for m in order if "solver" in rows[m]]
    lines += [f"- {m}: {error}" for m in order for error in rows[m]["errors"]]
    return lines


def _delta(row: Row) -> str:
    if "delta_m" not in row:
        return "failed" if row else "–"
    mean, deviation = row["delta_m"]
    return f"{mean:+.1f} ± {deviation:.1f}"


def _means(tests: Sequence[Values]) -> dict[str, float]:
    return {name: float(np.mean([values[name] for values in tests])) for name in tests[0]}


def _pair(values: Sequence[float]) -> list[float]:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return [float(np.mean(values)), deviation]
