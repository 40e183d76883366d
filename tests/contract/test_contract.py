"""Every solver through every property that it claims."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

import gradbalance as gb
from tests.contract import properties
from tests.contract.table import CONTRACTS, Contract
from tests.families import FAMILIES

NUM_DRAWS = 3


def rows_where(claims: Callable[[Contract], bool]) -> pytest.MarkDecorator:
    """One test a solver that makes this claim."""
    held = {name: contract for name, contract in CONTRACTS.items() if claims(contract)}
    return pytest.mark.parametrize("contract", held.values(), ids=held.keys())


rows = rows_where(lambda contract: True)
descending_rows = rows_where(lambda contract: contract.descends > 0)
families = pytest.mark.parametrize("family", FAMILIES)


def draws(family: str, num_tasks: tuple[int, ...] = (2, 3, 8)):
    for count in num_tasks:
        for seed in range(NUM_DRAWS):
            rng = np.random.default_rng((seed, count))
            yield properties.problem_of(FAMILIES[family](rng, count), rng), rng


def test_every_public_solver_has_a_row():
    public = {
        name
        for name in gb.__all__
        if isinstance(getattr(gb, name), type) and issubclass(getattr(gb, name), gb.Solver)
    }
    held = {type(contract.make()).__name__ for contract in CONTRACTS.values()}
    assert public - {"Solver", "StatelessSolver"} == held


@rows
@families
def test_weights_are_finite_and_solving_is_pure(contract: Contract, family: str):
    for problem, _ in draws(family, (1, 2, 3, 8)):
        solver = contract.make()
        properties.assert_finite(solver, problem)
        properties.assert_pure(solver, problem)
        properties.advance(solver, problem, solver.solve(problem))
        properties.assert_finite(solver, problem)


@descending_rows
@families
def test_descends(contract: Contract, family: str):
    for problem, _ in draws(family):
        if len(problem.names) <= contract.descends:
            properties.assert_descends(contract.make(), problem)


@rows_where(lambda contract: contract.certified)
@families
def test_is_certified(contract: Contract, family: str):
    for problem, _ in draws(family, (1, 2, 3, 8, 32)):
        properties.assert_certified(contract.make(), problem)


@rows
@families
def test_permutation_equivariance(contract: Contract, family: str):
    for problem, rng in draws(family):
        if len(problem.names) <= contract.equivariant:
            properties.assert_permutation_equivariant(contract.make, problem, rng)


@rows
@pytest.mark.parametrize("factor", [1e-30, 2.0**-100, 3.0, 1e30])
def test_scale(contract: Contract, factor: float):
    for problem, _ in draws("iid"):
        exponent = contract.scale_exponent
        properties.assert_scale_behaviour(contract.make, problem, factor, exponent)


@rows
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_gramians_of_low_precision_are_solved_in_float64(contract: Contract, dtype: torch.dtype):
    for problem, _ in [*draws("iid"), *draws("correlated")]:
        rounded = torch.from_numpy(problem.gramian).to(dtype)
        solver, low = contract.make(), gb.Problem.of(rounded, losses=problem.losses)
        properties.assert_finite(solver, low)
        if contract.certified:
            properties.assert_certified(solver, low)
        exact = gb.Problem.of(rounded.double().numpy(), losses=problem.losses)
        assert np.array_equal(solver.solve(low).weights, contract.make().solve(exact).weights)


@rows_where(lambda contract: contract.ignores_duplicates)
@pytest.mark.parametrize("family", ["iid", "correlated", "spread_iid", "vertex"])
def test_duplicates_are_ignored(contract: Contract, family: str):
    for problem, _ in draws(family):
        properties.assert_duplicates_ignored(contract.make, problem)


@rows_where(lambda contract: contract.pair is not None)
@pytest.mark.parametrize("family", ["iid", "correlated", "spread_iid", "vertex"])
def test_pairs_in_closed_form(contract: Contract, family: str):
    for problem, _ in draws(family, (2,)):
        assert contract.pair is not None
        expected = contract.pair(problem.gramian)
        assert contract.make().solve(problem).weights == pytest.approx(expected, rel=1e-9)


@rows_where(lambda contract: contract.rests)
def test_rests_where_the_gradients_balance(contract: Contract):
    jac = np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    problem = properties.problem_of(jac, np.random.default_rng(0))
    solution = contract.make().solve(problem)
    length = np.linalg.norm(solution.weights @ jac)
    assert length < 1e-7
    assert solution.status is gb.Status.STATIONARY


@rows
def test_a_single_task_keeps_its_direction(contract: Contract):
    problem = gb.Problem.of([[4.0]], losses=[2.0])
    assert contract.make().solve(problem).weights == pytest.approx([contract.single])


@rows
def test_all_gradients_zero(contract: Contract):
    problem = gb.Problem.of(np.zeros((3, 3)), losses=[1.0, 2.0, 3.0])
    solver = contract.make()
    solution = solver.solve(problem)
    assert np.isfinite(solution.weights).all()
    properties.advance(solver, problem, solution)
    assert np.isfinite(solver.solve(problem).weights).all()


@rows
def test_state_round_trip(contract: Contract):
    problems = [problem for problem, _ in draws("iid", (4,))] * 3
    properties.assert_state_round_trip(contract.make, problems)


@rows
def test_is_deterministic(contract: Contract):
    properties.assert_deterministic(contract.make, [p for p, _ in draws("iid", (4,))])


@rows
def test_a_foreign_state_is_refused_and_changes_nothing(contract: Contract):
    solver = contract.make()
    before = solver.state_dict()
    with pytest.raises(ValueError, match="state"):
        solver.load_state_dict({"nonsense": 1})
    assert solver.state_dict() == before


@pytest.mark.long
@descending_rows
@families
def test_descends_over_many_draws(contract: Contract, family: str):
    for seed in range(1000):
        rng = np.random.default_rng((seed, 77))
        count = int(rng.integers(2, min(contract.descends, 12) + 1))
        problem = properties.problem_of(FAMILIES[family](rng, count), rng)
        properties.assert_descends(contract.make(), problem)


@pytest.mark.long
@rows_where(lambda contract: contract.certified)
@families
def test_is_certified_up_to_128_tasks(contract: Contract, family: str):
    for problem, _ in draws(family, (64, 100, 128)):
        properties.assert_certified(contract.make(), problem)
