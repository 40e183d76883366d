"""MainTask: helpers are followed only as far as they do not slow the main task."""

from collections.abc import Sequence
from typing import final

from gradbalance.numerics import nearest_vector
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.options import PerTask, check_preferences, position_of, preferences_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class MainTask(StatelessSolver):
    r"""A main task with helpers: their sum, moved as little as lets the main task fall as alone.

    .. math::
        d = \arg\min_d \|d - J^\top p\|^2 \;\text{ over }\;
        \langle g_m, d \rangle \ge \rho \|g_m\|^2 \;\text{ for every main task } m

    with J [T, P] the gradients and the preferences p [T], ones by default. For one main task it is
    in closed form, w = p but for w_m = p_m + max(0, ρ − ⟨g_m, Jᵀp⟩/‖g_m‖²): where the helpers help,
    d is the plain sum; where they oppose, what opposes the main task is taken out of them and the
    rest stays. To first order the main task falls at least ρ times as fast as if it were trained
    alone; nothing is promised to the helpers. `PCD` is the other way round: it protects the
    secondary tasks.

    Args:
        main: the main task's name, or several; the first task by default.
        rate: ρ ≥ 0. With 0 the helpers may stop the main task, but not turn it back.
        preferences: one non-negative number a task, by name or in order.

    Raises:
        ValueError: an option is out of range, or there is no such task.

    Example:
        >>> import gradbalance as gb
        >>> gb.MainTask().solve(gb.Problem.of([[1.0, -2.0], [-2.0, 9.0]])).weights
        array([3., 1.])

    References:
        The projection of one task's conflict is that of A-GEM (Chaudhry et al. 2019,
        arXiv 1812.00420), of several that of GEM (Lopez-Paz & Ranzato 2017, arXiv 1706.08840), both
        with ρ = 0 and for another purpose; ρ > 0 is the barrier of Gong, Liu & Liu 2021 (`DBGD`).

    Where several main tasks oppose each other, so that no direction lets all of them fall, none of
    them rises instead, and the status is ill-posed. A main task that is absent, or has no gradient,
    constrains nothing.
    """

    needs = "gramian"
    weighs = "gradients"

    def __init__(
        self,
        main: str | Sequence[str] | None = None,
        *,
        rate: float = 1.0,
        preferences: PerTask | None = None,
    ) -> None:
        names = [main] if main is None or isinstance(main, str) else list(main)
        if not names or not all(name is None or isinstance(name, str) for name in names):
            raise ValueError(f"main must be the name of a task, or several; found {main!r}")
        check_number("rate", rate, "[0, inf)")
        check_preferences(preferences, positive=False)
        self.main = main
        self.rate = rate
        self.preferences = preferences
        self._names = names

    def solve(self, problem: Problem) -> Solution:
        """The preferences, more for main tasks that would be slowed, with a certificate."""
        gram = problem.gramian
        places = [position_of("main", name, problem) for name in self._names]
        rows = sorted({place for place in places if place is not None})
        least = self.rate * gram.diagonal()[rows]
        return Solution(
            *nearest_vector(gram, preferences_of(self.preferences, problem), rows, least)
        )
