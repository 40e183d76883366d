"""`check_solver`: check the properties that a solver claims, and those that all must have."""

from collections.abc import Callable, Sequence
from typing import Any

from gradbalance.solvers import Solver
from gradbalance.testing import properties
from gradbalance.testing.families import FAMILIES, draw_problem, draw_run
from gradbalance.testing.properties import MakeSolver, named

EASY = ("iid", "correlated", "spread_iid", "vertex")


def check_solver(
    make: Callable[[], Solver],
    *,
    descends: float = 0,
    certified: bool = False,
    equivariant: float = 0,
    scale_exponent: float | None = None,
    rests: bool = False,
    ignores_duplicates: bool = False,
    families: Sequence[str] = tuple(FAMILIES),
    num_tasks: Sequence[int] = (1, 2, 3, 8),
    num_draws: int = 3,
    seed: int = 0,
) -> None:
    """Check the properties that a solver claims, and those that all must have, on many gradients.

    Every solver must return finite weights, one per task; change no state in `solve`; be
    deterministic and not use global random generators; resume bit for bit from a state that went
    through JSON, and raise an error for a damaged one; keep the state of absent tasks; read no
    Gramian if it `needs` only losses; support copying and pickling; and train a model in a
    `Balancer`, with each source that it can use.

    Args:
        make: the class of the solver, or a function without arguments that builds a new one.
        descends: the largest number of tasks for which no loss rises along the direction, unless
            the status says that the method guarantees nothing: 0 for no such claim, 2 for pairs,
            `math.inf` for any number.
        certified: whether every solution has a certificate of optimality that holds.
        equivariant: the largest number of tasks for which the direction does not depend on their
            order.
        scale_exponent: scaling the Gramian by k scales the weights by k to this power; None for no
            such claim.
        rests: whether the direction has length 0 if the gradients can cancel.
        ignores_duplicates: whether duplicating a task does not change the direction.
        families: names in `FAMILIES` from which gradients are drawn, easy and hard: with zero,
            duplicated and opposed rows, of very low rank, and with norms spread over 1e-3…1e3.
            Scaling is checked on "iid", duplicates on easy families.
        num_tasks: the numbers of tasks that are drawn from each family.
        num_draws: the number of draws for each family and number of tasks.
        seed: the seed of the first draw; the following draws use the following seeds.

    Raises:
        AssertionError: a property does not hold; the message names it, and the call that draws the
            problem again.

    Example:
        >>> import math
        >>> import gradbalance as gb
        >>> from gradbalance.testing import check_solver
        >>> promises = dict(descends=math.inf, certified=True, equivariant=math.inf, rests=True)
        >>> check_solver(gb.MGDA, scale_exponent=0.0, **promises, num_draws=1)
        >>> check_solver(gb.Uniform, descends=2)
        Traceback (most recent call last):
        AssertionError: Uniform(...) fails 'descends' on draw_problem('condition_1e6', 2, seed=1)...
    """
    for family in families:
        for count in num_tasks:
            held: list[Callable[..., None]] = [properties.assert_pure, properties.assert_finite]
            held += [properties.assert_certified] * certified
            held += [properties.assert_descends] * (2 <= count <= descends)
            held += [properties.assert_equivariant] * (2 <= count <= equivariant)
            if family in EASY:
                held += [properties.assert_ignores_duplicates] * ignores_duplicates
            for draw in range(seed, seed + num_draws):
                problem = draw_problem(family, count, seed=draw)
                text = f" on draw_problem({family!r}, {count}, seed={draw})"
                for check in held:
                    _hold(make, text, check, problem)
                if family == "iid" and scale_exponent is not None:
                    _hold(make, text, properties.assert_scales, problem, scale_exponent)
    for check in (
        properties.assert_deterministic,
        properties.assert_reads_what_it_needs,
        properties.assert_resumes,
        properties.assert_refuses_damaged_states,
        properties.assert_absent_tasks_keep_their_state,
    ):
        _hold(make, f" on draw_run(seed={seed})", check, draw_run(seed=seed))
    _hold(make, "", properties.assert_trains)
    if rests:
        _hold(make, "", properties.assert_rests)


def _hold(make: MakeSolver, where: str, check: Callable[..., None], *arguments: Any) -> None:
    name = check.__name__.removeprefix("assert_")
    with named(f"{make()!r} fails {name!r}{where}"):
        check(make, *arguments)
