"""Every solver through every property that it claims."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

import gradbalance as gb
from gradbalance.testing import FAMILIES, check_solver, draw_problem
from gradbalance.testing.properties import assert_certified, assert_descends, assert_finite
from tests.contract.table import CONTRACTS, Contract


def rows_where(claims: Callable[[Contract], bool]) -> pytest.MarkDecorator:
    """One test a solver that makes this claim."""
    held = {name: contract for name, contract in CONTRACTS.items() if claims(contract)}
    return pytest.mark.parametrize("contract", held.values(), ids=held.keys())


rows = rows_where(lambda contract: True)
certified_rows = rows_where(lambda contract: contract.certified)
families = pytest.mark.parametrize("family", FAMILIES)


def test_every_public_solver_has_a_row():
    public = {
        name
        for name in gb.__all__
        if isinstance(getattr(gb, name), type) and issubclass(getattr(gb, name), gb.Solver)
    }
    held = {type(contract.make()).__name__ for contract in CONTRACTS.values()}
    assert public - {"Solver", "StatelessSolver"} == held


@rows
def test_keeps_what_it_claims(contract: Contract):
    check_solver(**contract.claims)


@certified_rows
@families
def test_is_certified_for_32_tasks(contract: Contract, family: str):
    for seed in range(3):
        assert_certified(contract.make, draw_problem(family, 32, seed=seed))


@rows
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_gramians_of_low_precision_are_solved_in_float64(contract: Contract, dtype: torch.dtype):
    for family in ("iid", "correlated"):
        for count in (2, 3, 8):
            problem = draw_problem(family, count)
            rounded = torch.from_numpy(problem.gramian).to(dtype)
            low = gb.Problem.of(rounded, losses=problem.losses)
            exact = gb.Problem.of(rounded.double().numpy(), losses=problem.losses)
            exact = replace(exact, resolution=low.resolution)  # which is the dtype's
            weights = [contract.make().solve(given).weights for given in (low, exact)]
            assert np.array_equal(*weights)
            assert_finite(contract.make, low)
            if contract.certified:
                assert_certified(contract.make, low)


@rows_where(lambda contract: contract.pair is not None)
@pytest.mark.parametrize("family", ["iid", "correlated", "spread_iid", "vertex"])
def test_pairs_in_closed_form(contract: Contract, family: str):
    for seed in range(3):
        problem = draw_problem(family, 2, seed=seed)
        assert contract.pair is not None
        expected = contract.pair(problem.gramian)
        assert contract.make().solve(problem).weights == pytest.approx(expected, rel=1e-9)


@rows
def test_a_single_task_keeps_its_direction(contract: Contract):
    problem = gb.Problem.of([[4.0]], losses=[2.0])
    assert contract.make().solve(problem).weights == pytest.approx([contract.single])


@rows
def test_all_gradients_zero(contract: Contract):
    assert_finite(contract.make, gb.Problem.of(np.zeros((3, 3)), losses=[1.0, 2.0, 3.0]))


@pytest.mark.long
@rows_where(lambda contract: contract.descends > 0)
@families
def test_descends_over_many_draws(contract: Contract, family: str):
    for seed in range(1000):
        count = 2 + seed % int(min(contract.descends - 1, 11))
        assert_descends(contract.make, draw_problem(family, count, seed=seed))


@pytest.mark.long
@certified_rows
@families
def test_is_certified_up_to_128_tasks(contract: Contract, family: str):
    for count in (64, 100, 128):
        for seed in range(3):
            assert_certified(contract.make, draw_problem(family, count, seed=seed))
