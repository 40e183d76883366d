"""The properties that solvers have or claim, with one assert function each."""

import copy
import json
import math
import pickle
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import numpy as np
import torch

from gradbalance.balancer import Balancer
from gradbalance.gradients import LossesOnly, Representation, SharedParameters, Source
from gradbalance.numerics import Status
from gradbalance.numerics.array import Array
from gradbalance.solvers import AfterStep, EndEpoch, Problem, Solution, Solver, listeners
from gradbalance.solvers.solver import Needs, Weighs
from gradbalance.testing.net import Net

MakeSolver = Callable[[], Solver]

UNIT = float(np.finfo(np.float64).eps)


@contextmanager
def named(what: str) -> Iterator[None]:
    """A context that turns any error into an AssertionError that says what failed."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error


def advance(solver: Solver, problem: Problem, solution: Solution) -> None:
    """Do what a training step does after the weights were applied, including all hooks."""
    solver.update(problem, solution)
    falls = 0.9 + 0.1 * np.sin(10 * problem.losses)  # by task, independent of the order
    after = dict(zip(problem.names, (falls * problem.losses).tolist(), strict=True))
    for listener in listeners(solver, AfterStep):
        listener.after_step(after)
    for ender in listeners(solver, EndEpoch):
        ender.end_epoch()


def take(solver: Solver, problems: Sequence[Problem]) -> list[list[float]]:
    """Take some steps one after the other, and return their weights."""
    weights = []
    for problem in problems:
        solution = solver.solve(problem)
        weights.append(solution.weights.tolist())
        advance(solver, problem, solution)
    return weights


def products_and_rounding(gram: Array, weights: Array) -> tuple[Array, Array]:
    """Gw and its rounding error, as the certificate allows it."""
    norms = np.sqrt(np.diagonal(gram))
    spread = np.abs(weights) @ norms
    return gram @ weights, 4 * len(gram) * UNIT * spread * np.maximum(norms, spread)


# The properties that a solver may claim, checked on one problem.


def assert_descends(make: MakeSolver, problem: Problem) -> None:
    """No task's loss rises along the direction: ⟨g_i, d⟩ ≥ 0 up to rounding.

    Not checked if the status says that the method guarantees nothing for these gradients.
    """
    solution = make().solve(problem)
    if solution.status in (Status.ASCENT, Status.ILL_POSED):
        return
    products, rounding = products_and_rounding(problem.gramian, solution.weights)
    # The certificate allows a row to miss its condition by tol·wᵀGw.
    value = solution.weights @ products
    assert (products >= -rounding - 1e-10 * abs(value)).all(), f"Gw = {products}, {solution}"


def assert_certified(make: MakeSolver, problem: Problem) -> None:
    """The solution is optimal according to its own certificate."""
    solution = make().solve(problem)
    assert solution.status is not Status.STEP_LIMIT, solution
    assert solution.certificate is not None, "there is no certificate"
    assert solution.certificate <= 1.0, solution


def assert_equivariant(make: MakeSolver, problem: Problem) -> None:
    """Tasks in another order get the same direction."""
    order = np.roll(np.random.default_rng(0).permutation(len(problem.names)), 1)
    names = tuple(problem.names[i] for i in order)
    gram = problem.gramian
    permuted = Problem(names, problem.losses[order], gram[np.ix_(order, order)], names)
    weights, other = _third(make, problem), np.empty(len(order))
    other[order] = _third(make, permuted)
    assert_same_direction(gram, weights, other)


def assert_same_direction(gram: Array, weights: Array, other: Array) -> None:
    """Jᵀw and Jᵀw' have the same direction: |Jᵀ(w − c w')| is small relative to its terms.

    A factor c > 0 is allowed, because for parallel gradients the weights of a minimum-norm point
    are not unique, and rescaling them to the sum 1 leaves the length of the direction undetermined.
    """
    along, square = weights @ gram @ other, other @ gram @ other
    other = other * (along / square if along > 0 and square > 0 else 1.0)
    difference = weights - other
    norms = np.sqrt(np.diagonal(gram))
    # A certified gap of tol·val also bounds the squared distance to the optimum.
    size = (np.abs(weights) + np.abs(other)) @ norms
    allowed = (1e-9 + 100 * len(gram) * UNIT) * size**2
    assert difference @ gram @ difference <= allowed, f"weights {weights} and {other}"


def assert_scales(make: MakeSolver, problem: Problem, exponent: float) -> None:
    """Scaling the Gramian scales the weights by a power of the factor, and keeps the direction."""
    for factor in (1e-30, 2.0**-100, 3.0, 1e30):
        scaled = Problem(problem.names, problem.losses, problem.gramian * factor, problem.tasks)
        found, expected = _third(make, scaled), _third(make, problem) * factor**exponent
        near = np.allclose(found, expected, rtol=1e-9, atol=1e-14 * np.abs(expected).max())
        assert near, f"G times {factor} gives the weights {found}; expected {expected}"


def assert_ignores_duplicates(make: MakeSolver, problem: Problem) -> None:
    """A duplicated task shares its weight; the direction stays the same."""
    twice = [*range(len(problem.names)), 0]
    names = (*problem.names, "again")
    gram = problem.gramian[np.ix_(twice, twice)]
    weights = make().solve(Problem(names, problem.losses[twice], gram, names)).weights
    merged = weights[:-1].copy()
    merged[0] += weights[-1]
    assert_same_direction(problem.gramian, make().solve(problem).weights, merged)


def assert_rests(make: MakeSolver) -> None:
    """If gradients can cancel, the direction is zero, and the status says so."""
    jac = np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    solution = make().solve(Problem.of(jac @ jac.T, [1.7, 0.9, 0.2, 0.15]))
    assert np.linalg.norm(solution.weights @ jac) < 1e-7, solution
    assert solution.status is Status.STATIONARY, solution


def _third(make: MakeSolver, problem: Problem) -> Array:
    """The weights at the third step on the same problem, so that the state matters."""
    return np.array(take(make(), [problem] * 3)[-1])


# The properties that every solver must have.


def assert_finite(make: MakeSolver, problem: Problem) -> None:
    """The weights are finite numbers, one per task, at the first step and after it."""
    solver = make()
    for _ in range(2):
        solution = solver.solve(problem)
        assert solution.weights.shape == (len(problem.names),), solution
        assert solution.weights.dtype == np.float64, solution
        assert np.isfinite(solution.weights).all(), solution
        advance(solver, problem, solution)


def assert_pure(make: MakeSolver, problem: Problem) -> None:
    """Solving changes neither the problem, nor the state, nor the next weights."""
    solver, given = make(), copy.deepcopy(problem)
    take(solver, [problem])
    before = copy.deepcopy(solver.state_dict())
    first = solver.solve(problem).weights.copy()
    solver.solve(Problem(problem.names, 2 * problem.losses, 3 * problem.gramian, problem.tasks))
    again = solver.solve(problem).weights
    assert np.array_equal(first, again, equal_nan=True), f"solved again, {first} became {again}"
    assert solver.state_dict() == before, "solve changed the state"
    assert np.array_equal(given.losses, problem.losses), "solve changed the losses"
    assert np.array_equal(given.gramian, problem.gramian), "solve changed the Gramian"


def assert_reads_what_it_needs(make: MakeSolver, problems: Sequence[Problem]) -> None:
    """`needs` and `weighs` are valid, `repr` works, and no Gramian is read if losses suffice."""
    solver = make()
    assert solver.needs in get_args(Needs), f"needs is {solver.needs!r}"
    assert solver.weighs in get_args(Weighs), f"weighs is {solver.weighs!r}"
    assert repr(solver).startswith(type(solver).__name__), repr(solver)
    if solver.needs == "losses":
        without = [Problem(p.names, p.losses, None, p.tasks) for p in problems]
        assert take(solver, without) == take(make(), problems), "it reads the Gramian"


def assert_deterministic(make: MakeSolver, problems: Sequence[Problem]) -> None:
    """Two runs give the same weights, and do not use global random generators."""
    random.random(), np.random.random(), torch.rand(())  # noqa: NPY002 - seeding would undo this
    before = _global_generators()
    first, second = take(make(), problems), take(make(), problems)
    assert _global_generators() == before, "it draws from, or seeds, a global generator"
    assert first == second, f"one run gave {first}, another {second}"


def assert_resumes(make: MakeSolver, problems: Sequence[Problem]) -> None:
    """A state restored from JSON, a copy and a pickle continue bit for bit, independently."""
    solver = make()
    for problem in problems:
        loaded, state = make(), solver.state_dict()
        text = json.dumps(state, allow_nan=False)
        given = json.loads(text)
        assert given == state, f"the state is not plain JSON: {state}"
        loaded.load_state_dict(given)
        others = [loaded, copy.deepcopy(solver), _unpickled(solver)]
        found = [(take(other, [problem]), other.state_dict()) for other in others]
        assert json.dumps(solver.state_dict()) == text, "a copy changes what it was copied from"
        expected = take(solver, [problem]), solver.state_dict()
        assert found == [expected] * 3, f"resumed, copied, pickled: {found}; unbroken: {expected}"
        assert json.dumps(state) == json.dumps(given) == text, "a state changes after it was saved"


def _unpickled(solver: Solver) -> Solver:
    try:
        found: Solver = pickle.loads(pickle.dumps(solver))
    except Exception as error:  # what is raised depends on Python's release
        raise AssertionError(f"it cannot be pickled: {error}") from error
    return found


def assert_refuses_damaged_states(make: MakeSolver, problems: Sequence[Problem]) -> None:
    """Loading a damaged state raises ValueError, and changes nothing."""
    run, solver = make(), make()
    take(run, problems)
    state, before = run.state_dict(), copy.deepcopy(solver.state_dict())
    damaged: list[Any] = [None, [], "x", state | {"nonsense": 1}]
    damaged += [{k: v for k, v in state.items() if k != missing} for missing in state]
    for path, value in _places(state):
        damaged += [_replaced(state, path, [] if isinstance(value, str) else "x")]
        damaged += [_replaced(state, path, math.nan)]
    for wrong in damaged:
        try:
            solver.load_state_dict(wrong)
        except ValueError:
            assert solver.state_dict() == before, f"refusing {wrong} changed the state"
        else:
            raise AssertionError(f"the state {wrong} was accepted; found right was {state}")


def assert_absent_tasks_keep_their_state(make: MakeSolver, problems: Sequence[Problem]) -> None:
    """State under the name of a task changes only in steps in which the task takes part."""
    solver = make()
    for problem in problems:
        before = copy.deepcopy(solver.state_dict())
        take(solver, [problem])
        after, absent = dict(_places(solver.state_dict())), {*problem.tasks} - {*problem.names}
        for path, value in _places(before):
            if absent & {*path}:
                assert path in after, f"the state of the absent {path} was lost"
                assert after[path] == value, f"{path} changed from {value} to {after[path]}"


def assert_trains(make: MakeSolver) -> None:
    """A model trains through a `Balancer`, with every source that the solver can use."""
    sources: list[Callable[[Net], Source]] = [
        lambda net: SharedParameters(),
        lambda net: SharedParameters(net.trunk, measure=net.trunk[-1]),
        lambda net: Representation(net.trunk),
    ]
    if make().needs == "losses":
        sources.append(lambda net: LossesOnly())
    for source in sources:
        net = Net()
        balancer, resumed = Balancer(make(), source(net)), Balancer(make(), source(net))
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
        for _ in range(3):
            optimizer.zero_grad()
            balancer.backward(net.losses())
            optimizer.step()
            with torch.no_grad():
                balancer.after_step(net.losses())
            balancer.end_epoch()
            moved = [p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters()]
            assert all(moved), f"{balancer}: .grad is missing or not finite; {balancer.report}"
        resumed.load_state_dict(balancer.state_dict())
        same = torch.equal(resumed.get_extra_state(), balancer.get_extra_state())
        assert same, f"{balancer}: its state is another once it is loaded"


def _global_generators() -> object:
    legacy = np.random.get_state()  # noqa: NPY002
    return random.getstate(), repr(legacy), torch.get_rng_state().tolist()


def _places(node: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """Every node of a state except its root, with the path of keys to it."""
    for key, value in node.items():
        yield (*path, key), value
        if isinstance(value, dict):
            yield from _places(value, (*path, key))


def _replaced(state: Mapping[str, Any], path: Sequence[str], value: object) -> Mapping[str, Any]:
    if not path:
        return value  # type: ignore[return-value]
    return {**state, path[0]: _replaced(state[path[0]], path[1:], value)}
