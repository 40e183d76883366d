"""Random orders in which each task meets the others."""

import numpy as np
from numpy.typing import NDArray


def random_orders(num_tasks: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """[T, T-1]: for each task the others in an order of its own."""
    others = np.tile(np.arange(num_tasks), (num_tasks, 1))
    others = others[~np.eye(num_tasks, dtype=bool)].reshape(num_tasks, num_tasks - 1)
    return generator.permuted(others, axis=1)
