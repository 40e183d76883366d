"""The problems by name."""

from collections.abc import Callable

from examples.pinn.problems.burgers import Burgers
from examples.pinn.problems.helmholtz import Helmholtz
from examples.pinn.problems.klein_gordon import KleinGordon
from examples.pinn.problems.kovasznay import Kovasznay
from examples.pinn.problems.problem import Problem

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "helmholtz": Helmholtz,
    "klein-gordon": KleinGordon,
    "burgers": Burgers,
    "kovasznay": Kovasznay,
    # Balancing does not help here: nothing trains at these lengths.
    "poisson": lambda: Helmholtz((6, 6), 0.0, "Poisson, u = sin(6πx) sin(6πy)"),
}

__all__ = ["PROBLEMS", "Problem"]
