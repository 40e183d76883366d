"""The properties that solvers claim, one named assert each."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gradbalance import AfterStep, EndEpoch, Problem, Solution, Solver, Status, listeners

Array = NDArray[np.float64]
MakeSolver = Callable[[], Solver]

UNIT = float(np.finfo(np.float64).eps)


def problem_of(jac: Array, rng: np.random.Generator) -> Problem:
    """The problem of these gradients, with random positive losses."""
    return Problem.of(jac @ jac.T, losses=rng.uniform(0.1, 3.0, len(jac)))


def advance(solver: Solver, problem: Problem, solution: Solution) -> None:
    """What a training step does after the weights were applied, with all the hooks there are."""
    solver.update(problem, solution)
    falls = 0.9 + 0.1 * np.sin(10 * problem.losses)  # by task, whatever their order
    after = dict(zip(problem.names, (falls * problem.losses).tolist(), strict=True))
    for listener in listeners(solver, AfterStep):
        listener.after_step(after)
    for ender in listeners(solver, EndEpoch):
        ender.end_epoch()


def products_and_rounding(gram: Array, weights: Array) -> tuple[Array, Array]:
    """Gw and what rounding may do to it, as the certificate allows."""
    norms = np.sqrt(np.diagonal(gram))
    spread = np.abs(weights) @ norms
    return gram @ weights, 4 * len(gram) * UNIT * spread * np.maximum(norms, spread)


def assert_descends(solver: Solver, problem: Problem) -> None:
    """No task's loss rises along the direction: ⟨g_i, d⟩ ≥ 0 up to rounding.

    Unless the solution says that its method promises nothing for these gradients.
    """
    solution = solver.solve(problem)
    if solution.status in (Status.ASCENT, Status.ILL_POSED):
        return
    products, rounding = products_and_rounding(problem.gramian, solution.weights)
    # The certificate lets a row fall short by tol·wᵀGw.
    value = solution.weights @ products
    assert (products >= -rounding - 1e-10 * abs(value)).all(), (products, solution)


def assert_certified(solver: Solver, problem: Problem) -> None:
    """The solution says that it is optimal, by its own certificate."""
    solution = solver.solve(problem)
    assert solution.status is not Status.STEP_LIMIT, solution
    assert solution.certificate is not None
    assert solution.certificate <= 1.0, solution


def assert_finite(solver: Solver, problem: Problem) -> None:
    """The weights are finite numbers, one a task."""
    solution = solver.solve(problem)
    assert solution.weights.shape == (len(problem.names),)
    assert np.isfinite(solution.weights).all(), solution


def assert_pure(solver: Solver, problem: Problem) -> None:
    """Solving changes nothing: twice gives the same weights and the same state."""
    before = solver.state_dict()
    first, second = solver.solve(problem), solver.solve(problem)
    assert np.array_equal(first.weights, second.weights)
    assert solver.state_dict() == before


def assert_permutation_equivariant(
    make: MakeSolver, problem: Problem, rng: np.random.Generator
) -> None:
    """Tasks in another order get the same direction."""
    order = rng.permutation(len(problem.names))
    gram = problem.gramian
    permuted = Problem(
        names=tuple(problem.names[i] for i in order),
        losses=problem.losses[order],
        gram=gram[np.ix_(order, order)],
        tasks=tuple(problem.names[i] for i in order),
    )
    weights, other = _after_two_steps(make(), problem), np.empty(len(order))
    other[order] = _after_two_steps(make(), permuted)
    assert_same_direction(gram, weights, other)


def assert_same_direction(gram: Array, weights: Array, other: Array) -> None:
    """Jᵀw and Jᵀw' point the same way: |Jᵀ(w − c w')| is small beside the terms that make it up.

    c > 0, because where gradients are parallel a normalised min-norm point has many weights, and
    bringing their sum to 1 then leaves the length of the direction open.
    """
    along, square = weights @ gram @ other, other @ gram @ other
    other = other * (along / square if along > 0 and square > 0 else 1.0)
    difference = weights - other
    norms = np.sqrt(np.diagonal(gram))
    # A certified gap of tol·val bounds the squared distance to the optimum by as much.
    size = (np.abs(weights) + np.abs(other)) @ norms
    assert difference @ gram @ difference <= (1e-9 + 100 * len(gram) * UNIT) * size**2


def assert_scale_behaviour(
    make: MakeSolver, problem: Problem, factor: float, exponent: float
) -> None:
    """Scaling the Gramian scales the weights by a power of the factor, and no direction."""
    scaled = Problem(problem.names, problem.losses, problem.gramian * factor, problem.tasks)
    expected = _after_two_steps(make(), problem) * factor**exponent
    found = _after_two_steps(make(), scaled)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14 * np.abs(expected).max())


def assert_duplicates_ignored(make: MakeSolver, problem: Problem) -> None:
    """A task that is given twice shares its weight; the direction stays the same."""
    twice = [*range(len(problem.names)), 0]
    names = (*map(str, twice[:-1]), "again")
    gram = problem.gramian[np.ix_(twice, twice)]
    solution = make().solve(Problem(names, problem.losses[twice], gram, names))
    merged = solution.weights[:-1].copy()
    merged[0] += solution.weights[-1]
    assert_same_direction(problem.gramian, make().solve(problem).weights, merged)


def assert_deterministic(make: MakeSolver, problems: list[Problem]) -> None:
    """The same seed gives the same weights, whatever the global generators do."""
    runs = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002 - that is what must not matter
        solver, weights = make(), []
        for problem in problems:
            solution = solver.solve(problem)
            weights.append(solution.weights)
            advance(solver, problem, solution)
        runs.append(np.concatenate(weights))
    assert np.array_equal(*runs)


def assert_state_round_trip(make: MakeSolver, problems: list[Problem]) -> None:
    """A state saved in the middle and loaded elsewhere continues bit for bit."""
    unbroken, resumed = make(), make()
    middle = len(problems) // 2
    for problem in problems[:middle]:
        advance(unbroken, problem, unbroken.solve(problem))
    resumed.load_state_dict(unbroken.state_dict())
    for problem in problems[middle:]:
        expected, found = unbroken.solve(problem), resumed.solve(problem)
        assert np.array_equal(expected.weights, found.weights)
        advance(unbroken, problem, expected)
        advance(resumed, problem, found)


def _after_two_steps(solver: Solver, problem: Problem) -> Array:
    """The weights at the third step on the same problem, so that state counts."""
    for _ in range(2):
        advance(solver, problem, solver.solve(problem))
    return solver.solve(problem).weights
