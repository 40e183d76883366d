"""Named families of Jacobians, easy and hard, on which solvers are tested."""

from collections.abc import Callable

import numpy as np

from gradbalance.numerics.array import Array as Jacobian
from gradbalance.solvers import Problem

Family = Callable[[np.random.Generator, int], Jacobian]


def iid(rng: np.random.Generator, num_tasks: int) -> Jacobian:
    """Independent normal entries."""
    return rng.standard_normal((num_tasks, 2 * num_tasks + 3))


def correlated(rng: np.random.Generator, num_tasks: int) -> Jacobian:
    """Pairwise cosines of about .9."""
    common = rng.standard_normal(2 * num_tasks + 30)
    return 3.0 * common + iid(rng, num_tasks + 14)[:num_tasks, : common.size]


def conditioned(condition: float) -> Family:
    """Full rank, and a Gramian with this condition number."""

    def family(rng: np.random.Generator, num_tasks: int) -> Jacobian:
        left, _ = np.linalg.qr(rng.standard_normal((num_tasks, num_tasks)))
        right, _ = np.linalg.qr(rng.standard_normal((num_tasks + 2, num_tasks)))
        singular_values = condition ** (-0.5 * np.linspace(0, 1, num_tasks))
        jac: Jacobian = (left * singular_values) @ right.T
        return jac

    return family


def rank_deficient(rng: np.random.Generator, num_tasks: int) -> Jacobian:
    """More tasks than parameters; all rows on one side of a hyperplane, so not stationary."""
    rank = max(1, num_tasks // 2)
    jac = rng.standard_normal((num_tasks, rank))
    jac[:, 0] = 0.1 + np.abs(jac[:, 0])
    return jac


def overcomplete(rng: np.random.Generator, num_tasks: int) -> Jacobian:
    """More tasks than parameters, rows in all directions: stationary with enough tasks."""
    return rng.standard_normal((num_tasks, max(1, num_tasks // 3)))


def near_stationary(rng: np.random.Generator, num_tasks: int) -> Jacobian:
    """A convex combination of the rows with a norm of 1e-12 to 1e-2."""
    jac = iid(rng, num_tasks)
    weights = rng.dirichlet(np.ones(num_tasks))
    shift = rng.standard_normal(jac.shape[1]) * 10.0 ** rng.uniform(-12, -2)
    moved: Jacobian = jac - weights @ jac + shift
    return moved


def stationary(rng: np.random.Generator, num_tasks: int) -> Jacobian:
    """A convex combination of some rows is zero up to rounding."""
    jac = iid(rng, num_tasks)
    chosen = rng.permutation(num_tasks)[: rng.integers(1, num_tasks + 1)]
    jac[chosen] -= rng.dirichlet(np.ones(chosen.size)) @ jac[chosen]
    return jac


def duplicated(rng: np.random.Generator, num_tasks: int) -> Jacobian:
    """Rows that occur several times."""
    jac = iid(rng, num_tasks)
    return jac[rng.integers(0, max(1, num_tasks // 2), num_tasks)]


def nearly_duplicated(rng: np.random.Generator, num_tasks: int) -> Jacobian:
    """Rows that differ from each other by 1e-15 to 1e-3."""
    jac = duplicated(rng, num_tasks)
    size = 10.0 ** rng.uniform(-15, -3, (num_tasks, 1))
    return jac + size * rng.standard_normal(jac.shape)


def zero_rows(rng: np.random.Generator, num_tasks: int) -> Jacobian:
    """Some or all rows are zero."""
    jac = iid(rng, num_tasks)
    jac[rng.permutation(num_tasks)[: rng.integers(1, num_tasks + 1)]] = 0.0
    return jac


def opposed(rng: np.random.Generator, num_tasks: int) -> Jacobian:
    """Two rows of unequal length that point in opposite directions."""
    jac = iid(rng, num_tasks)
    if num_tasks > 1:
        first, second = rng.permutation(num_tasks)[:2]
        jac[first] = -(10.0 ** rng.uniform(-3, 3)) * jac[second]
    return jac


def vertex(rng: np.random.Generator, num_tasks: int) -> Jacobian:
    """One short row that conflicts with no other: the minimum-norm point is a vertex."""
    jac = iid(rng, num_tasks)
    best = rng.integers(num_tasks)
    direction = 1e-2 * jac[best]
    lacking = np.maximum(0.0, direction @ direction - jac @ direction)
    jac += np.outer(lacking / (direction @ direction), direction)
    jac[best] = direction
    return jac


def vertex_tie(rng: np.random.Generator, num_tasks: int) -> Jacobian:
    """The minimum-norm point is a vertex, and all other rows are exactly at the limit to join."""
    jac = iid(rng, num_tasks)
    jac[:, 0] = 1.0
    jac[rng.integers(num_tasks), 1:] = 0.0
    return jac


def cancelling(rng: np.random.Generator, num_tasks: int) -> Jacobian:
    """Long rows with a combination of nearly zero, and rows about as short as this combination."""
    jac = iid(rng, num_tasks)
    num_long = max(2, num_tasks // 2)
    jac[:num_long] -= rng.dirichlet(np.ones(jac[:num_long].shape[0])) @ jac[:num_long]
    jac[:num_long] += rng.standard_normal(jac.shape[1]) * 10.0 ** rng.uniform(-8, -4)
    jac[num_long:] *= 10.0 ** rng.uniform(-8, -4)
    return jac


def integers(rng: np.random.Generator, num_tasks: int) -> Jacobian:
    """Small integers, with exact ties, duplicates, zero rows and opposed rows."""
    return rng.integers(-2, 3, (num_tasks, max(2, num_tasks // 2))).astype(float)


def with_spread_norms(family: Family) -> Family:
    """The rows of a family, with norms multiplied by log-uniform factors of 1e-3 to 1e3."""

    def spread(rng: np.random.Generator, num_tasks: int) -> Jacobian:
        jac = family(rng, num_tasks)
        return jac * 10.0 ** rng.uniform(-3, 3, (num_tasks, 1))

    return spread


def mixture(rng: np.random.Generator, num_tasks: int) -> Jacobian:
    """Rows from different families, partly with different norms, and a random overall scale."""
    width = 2 * num_tasks + 30
    jac = np.zeros((num_tasks, width))
    names = sorted(set(_PLAIN) - {"zero_rows"})
    blocks = np.array_split(np.arange(num_tasks), rng.integers(1, min(4, num_tasks) + 1))
    for block in blocks:
        rows = _PLAIN[names[rng.integers(len(names))]](rng, block.size)
        columns = rng.permutation(width)[: rows.shape[1]]
        jac[block[:, None], columns[: rows.shape[1]]] = rows[:, : columns.size]
    if rng.random() < 0.5:
        jac *= 10.0 ** rng.uniform(-3, 3, (num_tasks, 1))
    if rng.random() < 0.5:
        jac += rng.standard_normal(width) * 10.0 ** rng.uniform(-6, 0)
    shuffled: Jacobian = rng.permutation(jac) * 10.0 ** rng.uniform(-15, 15)
    return shuffled


_PLAIN: dict[str, Family] = {
    "iid": iid,
    "correlated": correlated,
    "condition_1e6": conditioned(1e6),
    "condition_1e12": conditioned(1e12),
    "rank_deficient": rank_deficient,
    "overcomplete": overcomplete,
    "near_stationary": near_stationary,
    "stationary": stationary,
    "duplicated": duplicated,
    "nearly_duplicated": nearly_duplicated,
    "zero_rows": zero_rows,
    "opposed": opposed,
    "vertex": vertex,
    "vertex_tie": vertex_tie,
    "cancelling": cancelling,
    "integers": integers,
}

FAMILIES: dict[str, Family] = {
    **_PLAIN,
    **{f"spread_{name}": with_spread_norms(family) for name, family in _PLAIN.items()},
    "mixture": mixture,
}


def draw_problem(family: str, num_tasks: int, *, seed: int = 0) -> Problem:
    """Draw a problem: the Gramian of gradients from a family, and random positive losses.

    Args:
        family: a name in `FAMILIES`.
        num_tasks: the number of tasks.
        seed: the seed; the same arguments always give the same problem.

    Returns:
        The problem.

    Example:
        >>> draw_problem("opposed", 3, seed=1).gram.shape
        (3, 3)
    """
    rng = np.random.default_rng((seed, num_tasks))
    jac = FAMILIES[family](rng, num_tasks)
    return Problem.of(jac @ jac.T, rng.uniform(0.1, 3.0, num_tasks))


def draw_run(*, seed: int = 0) -> list[Problem]:
    """Draw seven steps of the tasks a, b, c and d; each task is absent at one step.

    Args:
        seed: the seed.

    Returns:
        The problems of the steps, in order.

    Example:
        >>> draw_run()[2].names
        ('b', 'c', 'd')
    """
    rng, problems, tasks = np.random.default_rng(seed), [], ("a", "b", "c", "d")
    for step in range(7):
        names = [task for i, task in enumerate(tasks) if i != step - 2]
        jac, losses = iid(rng, len(names)), rng.uniform(0.1, 3.0, len(names))
        problems.append(Problem.of(jac @ jac.T, losses, names=names, tasks=tasks))
    return problems
