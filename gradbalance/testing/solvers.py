"""`check_solver`: a solver through every property that it claims, and those that all must have."""

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
    """Hold a solver to what it claims, and to what every solver must do, on all kinds of gradients.

    Every solver must give finite weights, one a task; change nothing in `solve`; be deterministic
    and leave global generators alone; resume bit for bit from a state that went through JSON, and
    refuse a damaged one; keep the state of absent tasks; read no Gramian if it `needs` losses only;
    be copied and pickled; and train a model through a `Balancer` with each source it can use.

    Args:
        make: builds a fresh solver: the class, or a function without arguments.
        descends: for up to how many tasks no loss rises along the direction, unless the status
            says that the method promises nothing: 0 for none, 2 for pairs, `math.inf` for always.
        certified: whether every answer carries a certificate of optimality that holds.
        equivariant: for up to how many tasks the direction does not depend on their order.
        scale_exponent: scaling the Gramian by k scales the weights by k to this power; None to
            claim nothing.
        rests: whether the direction has length 0 where the gradients balance.
        ignores_duplicates: whether a task that is given twice changes no direction.
        families: of gradients, by their names in `FAMILIES`: easy and hard, with zero, duplicated
            and opposed rows, of nearly no rank, and with norms spread over 1e-3…1e3. Scaling is
            tried on "iid", duplicates on easy ones.
        num_tasks: how many tasks are drawn from each.
        num_draws: of each family and number of tasks.
        seed: of the first draw; the next draws have the next ones.

    Raises:
        AssertionError: a property does not hold; names it and the draw, to be drawn again.

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
