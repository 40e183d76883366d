"""Tables of made-up results: means, deviations, and what is missing."""

import io
from typing import Any

import pytest
from rich.console import Console

from examples.metapseudo.run.tables import (
    as_markdown,
    budgets,
    last,
    print_table,
    table,
    title,
    variants,
)


def result(
    variant: str, labels: int, seed: int, accuracies: list[float], gaps: list[float] | None = None
) -> dict[str, Any]:
    evaluations = [
        {"kind": "evaluation", "step": 5 * index, "accuracy": accuracy}
        for index, accuracy in enumerate(accuracies)
    ]
    for evaluation, gap in zip(evaluations, gaps or (), strict=False):
        evaluation["gap"] = gap
    config = {"variant": variant, "labels_per_class": labels, "seed": seed, "num_steps": 10}
    return {"config": config, "evaluations": evaluations}


@pytest.fixture
def results() -> list[dict[str, Any]]:
    return [
        result("random", 16, 0, [0.1, 0.5], [3.0, 1.0]),
        result("random", 16, 1, [0.2, 0.7], [3.0, 2.0]),
        result("labels", 16, 0, [0.9, 0.25]),
        result("labels", 16, 1, [0.9, 0.35]),
        result("random", 4, 0, [0.1, 0.2], [9.0, 0.1]),
        result("random", 4, 1, [0.1, 0.3], [9.0, 0.3]),
        result("labels", 4, 0, [0.5, 0.125]),
        result("labels", 4, 1, [0.5, 0.125]),
    ]


def test_the_last_evaluations_are_given_as_mean_and_standard_deviation(
    results: list[dict[str, Any]],
) -> None:
    header, rows = table(results)
    assert header == [
        "variant",
        *("accuracy (%), 4 labels", "target-like (%), 4 labels", "gap, 4 labels"),
        *("accuracy (%), 16 labels", "target-like (%), 16 labels", "gap, 16 labels"),
    ]
    # The deviation of two values is their difference over √2.
    assert rows == [
        ["random", "25.0 ± 7.1", "–", "0.200 ± 0.141", "60.0 ± 14.1", "–", "1.500 ± 0.707"],
        ["labels", "12.5 ± 0.0", "–", "–", "30.0 ± 7.1", "–", "–"],
    ]


def test_one_seed_has_no_deviation(results: list[dict[str, Any]]) -> None:
    one = [result for result in results if result["config"]["seed"] == 0]
    _, rows = table(one)
    assert rows[0] == ["random", "20.0", "–", "0.100", "50.0", "–", "1.000"]
    text = as_markdown(one, "the command")
    assert "±" not in text
    assert "one seed" in text


def test_what_occurs_is_found_in_order(results: list[dict[str, Any]]) -> None:
    assert budgets(results) == [4, 16]
    assert variants(results) == ["random", "labels"]
    assert last(results, "random", 16, "accuracy") == {0: 0.5, 1: 0.7}
    assert last(results, "labels", 4, "gap") == {}


def test_measures_can_be_chosen_and_variants_without_them_are_left_out(
    results: list[dict[str, Any]],
) -> None:
    header, rows = table(results, ["gap"])
    assert header == ["variant", "gap, 4 labels", "gap, 16 labels"]
    assert rows == [["random", "0.200 ± 0.141", "1.500 ± 0.707"]]


def test_different_numbers_of_seeds_are_named(results: list[dict[str, Any]]) -> None:
    assert "seeds by labels: 2 at 4, 1 at 16" in title(
        [r for r in results if r["config"] != {**r["config"], "labels_per_class": 16, "seed": 1}]
    )


def test_the_markdown_holds_the_command_and_the_table(results: list[dict[str, Any]]) -> None:
    lines = as_markdown(results, "python -m the.command").splitlines()
    assert lines[:3] == ["```", "python -m the.command", "```"]
    assert "after 10 steps" in lines[4]
    assert "mean ± sd of 2 seeds" in lines[4]
    assert lines[-3] == "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert lines[-1] == "| labels | 12.5 ± 0.0 | – | – | 30.0 ± 7.1 | – | – |"


def test_the_printed_table_has_the_same_numbers(results: list[dict[str, Any]]) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    print_table(results, console)
    printed = console.export_text()
    header, rows = table(results)
    for text in (*header, *(cell for row in rows for cell in row)):
        assert text in printed, text
