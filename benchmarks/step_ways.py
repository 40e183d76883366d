"""Ways to compute a step, for several benchmarks: ours with any solver and source, and TorchJD."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

import gradbalance as gb

Way = Callable[[Any, list[Tensor]], object]  # a function of the representation and the losses


def balanced(solver: gb.Solver, source: gb.Source | None = None, **options: Any) -> Way:
    """A step with a Balancer, which gets the representation if its source needs it."""
    balancer = gb.Balancer(solver, source, **options)
    passes = isinstance(source, gb.Representation)
    return lambda z, losses: balancer.backward(losses, representation=z if passes else None)


def torchjd(shared: Sequence[nn.Parameter], name: str, *, chunk: int = 1) -> Way:
    """A step with TorchJD.

    Args:
        shared: the parameters that the tasks share.
        name: name of TorchJD's aggregator.
        chunk: number of tasks that are differentiated together.
    """
    from torchjd import aggregation
    from torchjd.autojac import backward, jac_to_grad, mtl_backward

    aggregator = getattr(aggregation, name)()

    def step(z: Tensor | None, losses: list[Tensor]) -> None:
        if z is None:  # all parameters are shared
            backward(losses, inputs=shared, parallel_chunk_size=chunk)
        else:
            mtl_backward(losses, features=z, parallel_chunk_size=chunk)
        jac_to_grad(shared, aggregator)

    return step
