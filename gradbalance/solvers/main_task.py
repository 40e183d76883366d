"""MainTask: use auxiliary tasks only as far as they do not slow down the main task."""

from collections.abc import Sequence
from typing import final

from gradbalance.numerics import nearest_vector
from gradbalance.numerics.checks import check_number
from gradbalance.solvers.options import PerTask, check_preferences, position_of, preferences_of
from gradbalance.solvers.solver import Problem, Solution, StatelessSolver


@final
class MainTask(StatelessSolver):
    r"""Train a main task with auxiliary tasks that must not slow it down.

    .. math::
        d = \arg\min_d \|d - J^\top p\|^2 \;\text{ over }\;
        \langle g_m, d \rangle \ge \rho \|g_m\|^2 \;\text{ for every main task } m

    with g_i the rows of J [T, P] and p [T] the preferences, ones by default. For a single main task
    there is a closed form: w = p except w_m = p_m + max(0, ρ − ⟨g_m, Jᵀp⟩/‖g_m‖²). If the
    auxiliary tasks help, d is the plain sum; if they oppose the main task, only the opposing
    component is removed. To first order, the loss of the main task decreases at least ρ times as
    fast as if it were trained alone; nothing is guaranteed for the auxiliary tasks. `PCD` does the
    opposite: it protects the secondary tasks.

    Args:
        main: the name of the main task, or several names; the first task by default.
        rate: ρ ≥ 0. With 0 the auxiliary tasks may stop the main task, but not make its loss rise.
        preferences: one non-negative number per task, by name or in order.

    Raises:
        ValueError: an option is out of range, or there is no such task.

    Example:
        >>> import gradbalance as gb
        >>> gb.MainTask().solve(gb.Problem.of([[1.0, -2.0], [-2.0, 9.0]])).weights
        array([3., 1.])

    References:
        The projection is that of A-GEM for one main task (Chaudhry et al. 2019, arXiv 1812.00420),
        and that of GEM for several (Lopez-Paz & Ranzato 2017, arXiv 1706.08840); both have ρ = 0
        and another purpose. ρ > 0 is the barrier of Gong, Liu & Liu 2021 (`DBGD`).

    If several main tasks oppose each other, so that no direction decreases all their losses, d only
    ensures that none of them rises, and the status is ill-posed. A main task that is absent, or has
    a zero gradient, adds no constraint.
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
        """Compute the preferences, raised where a main task would be slowed, with a certificate."""
        gram = problem.gramian
        places = [position_of("main", name, problem) for name in self._names]
        rows = sorted({place for place in places if place is not None})
        least = self.rate * gram.diagonal()[rows]
        return Solution(
            *nearest_vector(gram, preferences_of(self.preferences, problem), rows, least)
        )
