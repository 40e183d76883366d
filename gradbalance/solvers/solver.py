"""The interface of all solvers: a `Solver` turns a `Problem` into a `Solution`."""

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
    """The input of a solver for one step: the tasks that take part, their losses and Gramian.

    Build one with `Problem.of`, which checks the Gramian; solvers do not check it again.

    Attributes:
        names: the t tasks that take part in this step.
        losses: [t] their losses, in the units of the losses. Their absolute values are between
            1e-300 and 1e250, or 0, so that sums and inverses stay within float64.
        gram: [t, t] the inner products of their gradients, G_ij = ⟨g_i, g_j⟩; None if the source of
            gradients does not measure them.
        tasks: all T tasks of the run, in order; those not in `names` are absent in this step.
        resolution: how precisely directions are known: a direction Jᵀw with
            ‖Jᵀw‖ ≤ resolution·Σ|w_i|‖g_i‖ cannot be distinguished from zero. See
            `numerics.resolution`.

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
        """Build a problem from arrays, for example to try a solver without a model.

        The Gramian may be an array or a tensor of any real dtype, including bfloat16. It is checked
        and converted to float64.

        Args:
            gram: [t, t] the Gramian; its dtype determines how precisely it is known.
            losses: [t] the losses; ones by default.
            names: the names of the t tasks; "0", "1", … by default.
            tasks: the names of all T tasks; the same as `names` by default.
            rounding: the relative rounding error of the gradients; see `numerics.resolution`.

        Returns:
            The problem.

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
        """[t, t] the Gramian, for solvers that need it; ValueError if it was not measured."""
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
    """Clip losses so that sums and inverses stay within float64: 1e-300 to 1e250 in size, or 0.

    Smaller ones become 0, and larger ones 1e250.
    """
    if all(_SMALLEST_LOSS <= abs(loss) <= _LARGEST_LOSS for loss in losses.tolist()):
        return losses
    clipped: Array = np.clip(losses, -_LARGEST_LOSS, _LARGEST_LOSS)
    return np.where(np.abs(clipped) < _SMALLEST_LOSS, 0.0, clipped)


def _unit(gram: ArrayLike | Tensor | None) -> float:
    """The unit roundoff of a Gramian's dtype; that of float64 if the dtype is not floating."""
    if isinstance(gram, Tensor) and gram.is_floating_point():
        return torch.finfo(gram.dtype).eps
    dtype = getattr(gram, "dtype", None)
    known = isinstance(dtype, np.dtype) and np.issubdtype(dtype, np.floating)
    return float(np.finfo(dtype if known else np.float64).eps)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Solution:
    """The output of a solver: the weights, and a certificate of their optimality.

    Attributes:
        weights: [t] the weights w of the direction Jᵀw, one per task in the order of the problem.
        status: how the solver ended: at the optimum (`CONVERGED`), with gradients that cancel up to
            rounding (`STATIONARY`), or at the limit of iterations (`STEP_LIMIT`); see `Status`.
        num_steps: the number of iterations; 0 for a closed form.
        certificate: the largest optimality residual divided by its tolerance; the solution is
            certified if this is at most 1. None if the method has no optimality condition.
    """

    weights: Array
    status: Status = Status.CONVERGED
    num_steps: int = 0
    certificate: float | None = None


class Solver(ABC):
    """Interface of a method that turns the losses and the Gramian of a step into weights.

    `solve` is pure: it changes no state, so `Balancer.measure` does not affect the run. A method
    with a state changes it in `update`, which the `Balancer` calls after the weights were applied.
    Stateless methods derive from `StatelessSolver`.

    Attributes:
        needs: what `solve` reads, "losses" or "gramian".
        weighs: what the weights apply to. "gradients": only the gradients of the shared parameters;
            each head keeps its raw gradient, and a task with a zero gradient is left out.
            "losses": whole losses, heads included.
        takes_zero_losses: whether the method can handle a loss of exactly 0. Methods that take
            logarithms or ratios cannot, and a `Balancer` leaves such a task out of the step.
    """

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What `solve` reads; concrete classes set it as a class attribute."""

    @property
    @abstractmethod
    def weighs(self) -> Weighs:
        """What the weights apply to; concrete classes set it as a class attribute."""

    @property
    def takes_zero_losses(self) -> bool:
        """Whether a loss of exactly 0 can be handled; a class attribute of classes that cannot."""
        return True

    @abstractmethod
    def solve(self, problem: Problem) -> Solution:
        """Compute the weights for this step, without changing any state.

        Args:
            problem: the losses and the Gramian of the step.

        Returns:
            One finite weight per task of the problem, with status and certificate.

        Raises:
            ValueError: the method cannot handle these losses or tasks.
        """

    @abstractmethod
    def update(self, problem: Problem, solution: Solution) -> None:
        """Update the method's state after the weights of `solution` were applied.

        Args:
            problem: the problem that was solved.
            solution: the solution whose weights were applied.
        """

    @abstractmethod
    def state_dict(self) -> State:
        """Return the method's state as plain Python numbers, strings, lists and dicts."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises ValueError if the state does not fit."""

    @property
    @final
    def wrapped(self) -> tuple["Solver", ...]:
        """The solvers that this one wraps, that is those in its attributes."""
        return tuple(value for value in vars(self).values() if isinstance(value, Solver))

    @property
    @final
    def name(self) -> str:
        """The name of the class, with those of wrapped solvers: "Bounded(MGDA)"."""
        held = ", ".join(solver.name for solver in self.wrapped)
        return f"{type(self).__name__}({held})" if held else type(self).__name__

    @final
    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({options})"


class StatelessSolver(Solver):
    """Base class of solvers without a state: their weights depend only on the present step."""

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
