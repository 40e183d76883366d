"""Solves the same problems with other packages; each `make` returns a function of a draw.

`make` is called once per number of tasks and is not timed. TorchJD gets torch tensors in float64,
cvxpy problems are compiled once, with the Gramian's factor as a parameter, and quadprog's
constraints are built beforehand. So only the solution of one more Gramian is timed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy import Array

Output = Array | torch.Tensor
Solve = Callable[["Draw"], Output]
Convex = tuple[Any, list[Any]]


@dataclass(eq=False)
class Draw:
    """One set of gradients, in the forms that the packages need."""

    jac: Array
    gram: Array = field(init=False)
    jac_tensor: torch.Tensor = field(init=False)
    gram_tensor: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.gram = self.jac @ self.jac.T
        self.jac_tensor = torch.from_numpy(self.jac)
        self.gram_tensor = torch.from_numpy(self.gram)


@dataclass(frozen=True)
class Peer:
    """A solver of another package.

    Attributes:
        label: its name in the tables.
        needs: the required modules; the peer is skipped if one is missing.
        make: returns the solving function for a number of tasks.
        gives: "weights", or "direction" if the package returns no weights.
    """

    label: str
    needs: tuple[str, ...]
    make: Callable[[int], Solve]
    gives: str = "weights"

    @property
    def missing(self) -> list[str]:
        """The modules that are not installed."""
        return [module for module in self.needs if find_spec(module) is None]


def torchjd_weighting(name: str, *needs: str, **options: object) -> Peer:
    """A weighting of TorchJD, which gets the Gramian."""

    def make(num_tasks: int) -> Solve:
        from torchjd import aggregation

        weighting = getattr(aggregation, name)(**options)
        return lambda draw: weighting(draw.gram_tensor)

    return Peer("TorchJD", ("torchjd", *needs), make)


def torchjd_aggregator(name: str, *needs: str) -> Peer:
    """An aggregator of TorchJD without a weighting: gets the Jacobian and returns a direction."""

    def make(num_tasks: int) -> Solve:
        from torchjd import aggregation

        aggregator = getattr(aggregation, name)()
        return lambda draw: aggregator(draw.jac_tensor)

    return Peer("TorchJD (on J)", ("torchjd", *needs), make, "direction")


def torchjd_nash() -> Peer:
    """TorchJD's NashMTL: gets the Jacobian; its weights are clipped to a direction of length 1."""

    def make(num_tasks: int) -> Solve:
        from torchjd import aggregation

        weighting = aggregation.NashMTL(num_tasks).weighting
        return lambda draw: weighting(draw.jac_tensor)

    return Peer("TorchJD (on J)", ("torchjd", "cvxpy", "ecos"), make)


def quadprog_hull() -> Peer:
    """The shortest vector of the convex hull: min wᵀGw over the simplex."""

    def make(num_tasks: int) -> Solve:
        from quadprog import solve_qp

        zeros = np.zeros(num_tasks)
        columns = np.hstack([np.ones((num_tasks, 1)), np.eye(num_tasks)])
        bounds = np.append(1.0, zeros)
        return lambda draw: solve_qp(draw.gram, zeros, columns, bounds, 1)[0]

    return Peer("quadprog", ("quadprog",), make)


def quadprog_cone(starts: Callable[[int], Array]) -> Peer:
    """Σ over the rows u of `starts` [K, T] of argmin vᵀGv over v ≥ u."""

    def make(num_tasks: int) -> Solve:
        from quadprog import solve_qp

        zeros, identity, bounds = np.zeros(num_tasks), np.eye(num_tasks), starts(num_tasks)
        return lambda draw: sum(solve_qp(draw.gram, zeros, identity, row)[0] for row in bounds)

    return Peer("quadprog", ("quadprog",), make)


def clarabel(build: Callable[[Any, Any, Any], Convex]) -> Peer:
    """Clarabel, called through cvxpy.

    Args:
        build: returns the objective and the constraints, from the module cvxpy, a root R of the
            Gramian (wᵀGw = ‖Rw‖²) and the variables w ≥ 0.
    """

    def make(num_tasks: int) -> Solve:
        import cvxpy as cp

        root = cp.Parameter((num_tasks, num_tasks))
        weights = cp.Variable(num_tasks, nonneg=True)
        problem = cp.Problem(*build(cp, root, weights))

        def solve(draw: Draw) -> Array:
            values, vectors = np.linalg.eigh(draw.gram)
            size = np.sqrt(max(draw.gram.diagonal().max(), 1e-300))
            root.value = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T / size
            problem.solve(solver="CLARABEL")  # type: ignore[no-untyped-call]
            if weights.value is None:
                raise RuntimeError(f"cvxpy: {problem.status}")
            return np.asarray(weights.value)

        return solve

    return Peer("cvxpy", ("cvxpy", "clarabel"), make)


def hull(cp: Any, root: Any, weights: Any) -> Convex:
    """The shortest vector of the convex hull: min ‖Jᵀw‖² over the simplex."""
    return cp.Minimize(cp.sum_squares(root @ weights)), [cp.sum(weights) == 1]


def bargaining(cp: Any, root: Any, weights: Any) -> Convex:
    """Nash bargaining: min ½‖Jᵀw‖² − Σ log w_i, with the optimality condition Gw = 1/w."""
    return cp.Minimize(cp.sum_squares(root @ weights) / 2 - cp.sum(cp.log(weights))), []


def square_root_fairness(cp: Any, root: Any, weights: Any) -> Convex:
    """Fairness at α = 2: min ½‖Jᵀw‖² − 2 Σ √w_i, with the optimality condition Gw = w^(−1/2)."""
    return cp.Minimize(cp.sum_squares(root @ weights) / 2 - 2 * cp.sum(cp.sqrt(weights))), []
