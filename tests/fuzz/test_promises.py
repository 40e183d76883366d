"""Near stationary points, every method that promises that no loss rises keeps its promise.

What is promised where is docs/choosing.md's column; the draws are those of `benchmarks.promises`.
"""

import re
from collections import Counter
from pathlib import Path

import pytest
import torch

import gradbalance as gb
from benchmarks.near_stationary import PRECISIONS, WAYS, Draw
from benchmarks.promises import PROMISES, Promise, allowed

NUM_FAST, NUM_LONG = 7, 600
WITH_EXACT_SUMS = [way for way in WAYS if way != "measure"]
promising = pytest.mark.parametrize("promise", PROMISES.values(), ids=list(PROMISES))


def hold(promise, name, seeds):
    """Take the steps; how many of them were promised something."""
    precision, found = PRECISIONS[name], Counter()
    for seed in seeds:
        way = WITH_EXACT_SUMS[seed % len(WITH_EXACT_SUMS)]
        draw = Draw(seed, num_tasks=promise.num_tasks, way=way)
        outcome = draw.step(promise.make(), precision)
        found[outcome.report.status] += 1
        if promise.is_excused(outcome):
            continue
        where = f"draw {seed} of {name} ({way}): {outcome}"
        assert promise.cosine(outcome) >= -allowed(precision), f"a loss rises, {where}"
        slack = max(allowed(precision), 2 * torch.finfo(precision.dtype).eps)
        assert outcome.difference <= slack, f"the report is of another step, {where}"
        found["promised"] += 1
    return found


@promising
@pytest.mark.parametrize("name", PRECISIONS)
def test_no_loss_rises(promise, name):
    hold(promise, name, range(NUM_FAST))


@pytest.mark.long
@promising
@pytest.mark.parametrize("name", PRECISIONS)
def test_no_loss_rises_in_many_draws(promise, name):
    found = hold(promise, name, range(NUM_FAST, NUM_LONG))
    assert found["promised"] >= NUM_LONG / 10, found


def test_every_promise_of_the_docs_is_held_to():
    text = (Path(__file__).parents[2] / "docs/choosing.md").read_text()
    rows = re.findall(r"^\| (`.+?`) \| .+? \| (.+?) \| .+ \|$", text, re.MULTILINE)
    of_all_losses = ("always", "for ", "unless ", "with two tasks")  # others are in their own tests
    promised = {name for name, promise in rows if promise.startswith(of_all_losses)}
    methods = {name for names in promised for name in re.findall(r"`(\w+)`", names)}
    assert {"MGDA", "IMTLG"} <= methods
    methods = {
        name for name in methods if hasattr(gb, name) and hasattr(getattr(gb, name), "solve")
    }
    assert methods == {type(promise.make()).__name__ for promise in PROMISES.values()}


def test_a_direction_that_is_not_promised_is_caught():
    with pytest.raises(AssertionError, match="a loss rises"):
        hold(Promise(gb.Uniform), "float32", range(20))
