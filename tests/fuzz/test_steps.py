"""Seeded random steps: small graphs × solvers × sources × options, against plain autograd.

A failing case names its seed; `python -m tests.fuzz.test_steps SEED` runs it alone, and with two
numbers all from the first up to the second.
"""

import sys
from collections import Counter

import pytest
import torch

from tests.fuzz.cases import Case

NUM_FAST, NUM_LONG = 300, 20_000


def run_case(seed):
    """Take the steps of a case; returns what happened, to be counted."""
    case = None
    try:
        case = Case(seed)
        happened = []
        for index in range(int(case.rng.integers(1, 4))):
            happened.append(case.step(index))
            if happened[-1].startswith(("refused", "empty")) and index == 0:
                break  # a later step without some tasks would be refused too
        return happened
    except Exception as error:
        raise AssertionError(f"case {seed} ({case}): {type(error).__name__}: {error}") from error


def run_cases(seeds):
    happened = Counter()
    for seed in seeds:
        happened.update(run_case(seed))
    solved = sum(n for what, n in happened.items() if "solved" in what)
    assert solved > len(seeds) / 2, happened
    return happened


def test_steps_are_those_of_plain_autograd():
    run_cases(range(NUM_FAST))


# Found by the long test: the gradient of a hooked, sparse table that no task reached became dense.
@pytest.mark.parametrize("seed", [8307])
def test_a_case_that_failed_once_passes(seed):
    run_case(seed)


@pytest.mark.long
@pytest.mark.parametrize("chunk", range(10))
def test_many_steps_are_those_of_plain_autograd(chunk):
    size = NUM_LONG // 10
    start = NUM_FAST + chunk * size
    run_cases(range(start, start + size))


if __name__ == "__main__":
    torch.set_num_threads(1)
    first, *last = map(int, sys.argv[1:])
    print(run_cases(range(first, *last)) if last else run_case(first))
