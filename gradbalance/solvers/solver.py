"""What every solver takes, gives and promises: `Problem` in, `Solution` out, behind `Solver`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gradbalance.numerics import Status, as_gramian, resolution
from gradbalance.numerics.array import Array
from gradbalance.solvers.state import checked_state

_LARGEST_LOSS, _SMALLEST_LOSS = 1e250, 1e-300

State = dict[str, Any]
Needs = Literal["losses", "gramian"]
Weighs = Literal["gradients", "losses"]


@dataclass(frozen=True, eq=False)
class Problem:
    """One step as a solver sees it: the tasks that take part, their losses and their Gramian.

    `Problem.of` checks the Gramian, once for all that follows: solvers take it as it is.

    Attributes:
        names: the t tasks that take part in this step.
        losses: [t] their losses, in the units of the losses; between 1e-300 and 1e250 in size, or
            0, so that sums and inverses stay within float64.
        gram: [t, t] inner products of their gradients, G_ij = ⟨g_i, g_j⟩, or None where the
            source of gradients does not measure it.
        tasks: all T tasks of the run, in order; those not in `names` are absent this step.
        resolution: how exactly directions are known: one with ‖Jᵀw‖ ≤ resolution·Σ|w_i|‖g_i‖ cannot
            be told from zero. See `Problem.of` and `numerics.resolution`.

    Example:
        >>> from gradbalance import Problem
        >>> Problem.of([[2.0, 0.0], [0.0, 1.0]]).names
        ('0', '1')
    """

    names: tuple[str, ...]
    losses: Array
    gram: Array | None
    tasks: tuple[str, ...]
    resolution: float = 0.0

    @classmethod
    def of(
        cls,
        gram: ArrayLike | Tensor | None = None,
        losses: ArrayLike | None = None,
        *,
        names: Sequence[str] | None = None,
        tasks: Sequence[str] | None = None,
        rounding: float = 0.0,
    ) -> "Problem":
        """Build a problem, by hand too, to try a solver without a model; losses default to ones.

        The Gramian is an array or a tensor of any real dtype, bfloat16 too; it is checked, and
        solved in float64.

        Args:
            gram: [t, t]; its dtype says how exactly it was summed.
            losses: [t].
            names: of the t tasks; "0", "1", … by default.
            tasks: of all T; the same by default.
            rounding: of the gradients themselves, relative to each; see `numerics.resolution`.

        Raises:
            ValueError: neither `gram` nor `losses` is given, shapes disagree, or `gram` is not a
                Gramian.
        """
        if gram is None and losses is None:
            raise ValueError("Problem.of() needs a gram or losses; found neither")
        matrix = None if gram is None else _checked(gram)
        if losses is not None:
            values = np.asarray(losses, dtype=np.float64)
        else:
            assert matrix is not None
            values = np.ones(len(matrix))
        labels = tuple(names) if names is not None else tuple(str(i) for i in range(values.size))
        if values.shape != (len(labels),) or (matrix is not None and len(matrix) != len(labels)):
            raise ValueError(
                f"losses and gram must cover the same tasks; found losses of shape {values.shape}, "
                f"{'no gram' if matrix is None else f'gram of shape {matrix.shape}'} "
                f"and {len(labels)} names"
            )
        finest = resolution(len(labels), rounding=rounding, unit=_unit(gram))
        every = labels if tasks is None else tuple(tasks)
        return cls(labels, losses_in_range(values), matrix, every, finest)

    @property
    def gramian(self) -> Array:
        """The Gramian, for solvers that declare that they need it."""
        if self.gram is None:
            raise ValueError("this solver needs the Gramian of the gradients; found losses only")
        return self.gram


def _checked(gram: ArrayLike | Tensor) -> Array:
    """The Gramian as float64; NumPy has no bfloat16."""
    if isinstance(gram, Tensor):
        wide = gram.detach().cpu().double().numpy()
        return as_gramian(wide, half_precision=gram.element_size() <= 2)
    return as_gramian(gram)


def losses_in_range(losses: Array) -> Array:
    """Losses of a size that leaves float64 some room: 1e-300 to 1e250, or 0.

    Smaller ones are taken for 0, and larger ones for 1e250.
    """
    if all(_SMALLEST_LOSS <= abs(loss) <= _LARGEST_LOSS for loss in losses.tolist()):
        return losses
    clipped: Array = np.clip(losses, -_LARGEST_LOSS, _LARGEST_LOSS)
    return np.where(np.abs(clipped) < _SMALLEST_LOSS, 0.0, clipped)


def _unit(gram: ArrayLike | Tensor | None) -> float:
    """The unit roundoff of a Gramian's dtype: float64's, where it says nothing."""
    if isinstance(gram, Tensor) and gram.is_floating_point():
        return torch.finfo(gram.dtype).eps
    dtype = getattr(gram, "dtype", None)
    known = isinstance(dtype, np.dtype) and np.issubdtype(dtype, np.floating)
    return float(np.finfo(dtype if known else np.float64).eps)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Solution:
    """A solver's answer, with what certifies it.

    Attributes:
        weights: [t] the weights w of the update Jᵀw, one a task in the order of the problem.
        status: whether the answer is the optimum (`CONVERGED`), the gradients cancel to rounding
            (`STATIONARY`), or the steps ran out first (`STEP_LIMIT`).
        num_steps: iterations that were spent; 0 for a closed form.
        certificate: the worst optimality residual over the one that is allowed: at most 1 is
            certified; None where the method has no optimality condition.
    """

    weights: Array
    status: Status = Status.CONVERGED
    num_steps: int = 0
    certificate: float | None = None


class Solver(ABC):
    """A method that turns the losses and the Gramian of one step into weights.

    `solve` is pure: it changes nothing, so that looking at a step (`Balancer.measure`) does not
    alter the run. Whatever a method remembers changes in `update`, which the `Balancer` calls
    after the weights were applied. Stateless methods derive from `StatelessSolver` instead.

    Attributes:
        needs: "losses" or "gramian", what `solve` reads.
        weighs: what the weights belong to. "gradients": the shared parameters' gradients only;
            each head keeps its own raw gradient, and a task without a gradient is left out.
            "losses": the whole loss, heads included.
        takes_zero_losses: whether a loss of exactly 0 can be solved for; methods of logarithms and
            ratios cannot, and a `Balancer` leaves such a task out of the step.
    """

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What `solve` reads; a class attribute of the concrete class."""

    @property
    @abstractmethod
    def weighs(self) -> Weighs:
        """What the weights belong to; a class attribute of the concrete class."""

    @property
    def takes_zero_losses(self) -> bool:
        """Whether a loss of exactly 0 can be solved for; a class attribute where it cannot."""
        return True

    @abstractmethod
    def solve(self, problem: Problem) -> Solution:
        """Weights for this step; changes no state."""

    @abstractmethod
    def update(self, problem: Problem, solution: Solution) -> None:
        """Advance the method's state after `solution` was applied."""

    @abstractmethod
    def state_dict(self) -> State:
        """The method's state as plain Python numbers, strings, lists and dicts."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; a state that does not fit raises ValueError."""

    @property
    @final
    def wrapped(self) -> tuple["Solver", ...]:
        """The methods that this one holds in its attributes, to solve with them."""
        return tuple(value for value in vars(self).values() if isinstance(value, Solver))

    @property
    @final
    def name(self) -> str:
        """The class's name, and those of the methods that it holds: "Bounded(MGDA)"."""
        held = ", ".join(solver.name for solver in self.wrapped)
        return f"{type(self).__name__}({held})" if held else type(self).__name__

    @final
    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({options})"


class StatelessSolver(Solver):
    """A solver whose weights depend on the present step only."""

    @final
    def update(self, problem: Problem, solution: Solution) -> None:
        """Nothing to remember."""

    @final
    def state_dict(self) -> State:
        """Nothing to save."""
        return {}

    @final
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""
        checked_state(self, state, {})
