"""Runs of autograd's engine, without what `torch.autograd` checks for each tensor anew."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

# Private; where a release of torch lacks it, the public function does the same and takes longer.
_run_backward = getattr(
    getattr(torch.autograd.Variable, "_execution_engine", None), "run_backward", None
)


def gradients_of(
    outputs: Sequence[Tensor | GradientEdge],
    inputs: Sequence[Tensor | GradientEdge],
    upstream: Sequence[Tensor],
    *,
    retain_graph: bool,
) -> Sequence[Tensor | None]:
    """The gradient of each input, None where it is not reached; `.grad` stays as it is.

    Args:
        outputs: with a graph.
        inputs: at least one.
        upstream: the gradients of the outputs, in their shapes and dtypes.
        retain_graph: whether the graph must outlive this.
    """
    if _run_backward is None:
        found: Sequence[Tensor | None] = torch.autograd.grad(
            outputs,  # type: ignore[arg-type]
            inputs,  # type: ignore[arg-type]
            upstream,
            retain_graph=retain_graph,
            allow_unused=True,
        )
        return found
    return _run_backward(  # type: ignore[no-any-return]
        tuple(outputs), tuple(upstream), retain_graph, False, tuple(inputs), True,
        accumulate_grad=False,
    )  # fmt: skip


def carry_on(ends: Sequence[Tensor], gradients: Sequence[Tensor], *, retain_graph: bool) -> None:
    """Go on with a backward from these tensors to the leaves, and add to their `.grad`.

    Args:
        ends: leaves, or tensors with a graph; at least one.
        gradients: of the ends, in their shapes and dtypes.
        retain_graph: whether the graph must outlive this.
    """
    if _run_backward is None:
        torch.autograd.backward(ends, gradients, retain_graph=retain_graph)
        return
    _run_backward(
        tuple(ends), tuple(gradients), retain_graph, False, (), True, accumulate_grad=True
    )  # fmt: skip
