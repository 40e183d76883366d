"""What a custom function may do in its backward: run another one, or give out one buffer again."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from gradbalance.gradients.graph import Graph
from gradbalance.gradients.torch_private import backwards_told, holders_of, running_backward


def no_backward_inside(graph: Graph) -> AbstractContextManager[None]:
    """Refuse the backwards that a custom function runs while gradients are only measured.

    They would write `.grad`, of parameters that the graph does not show. Only torch's engine sees
    them coming, and only where they begin is nothing written yet.
    """
    if not graph.custom:
        return nullcontext()
    outer = running_backward()

    def refuse(writes: bool) -> None:
        if writes and running_backward() not in (-1, outer):
            raise ValueError(
                "a custom function runs a backward of its own inside its backward, as reversible "
                "blocks and hand-made checkpointing do. It writes .grad whenever it is "
                "differentiated, which balancing does once a task. Use "
                "torch.utils.checkpoint.checkpoint(..., use_reentrant=False), or a source that "
                "takes one backward through it: LossesOnly(), or Representation(model.trunk) if "
                "it is in the trunk"
            )

    return backwards_told(refuse)


def kept_apart(gradients: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
    """The gradients, copied where something else holds their memory.

    A function that keeps a buffer for its gradients, as CUDA-graphed callables do, overwrites it
    in the next backward.
    """
    alone = holders_of(torch.empty(1))
    return {
        tensor: gradient if alone and holders_of(gradient) == alone else gradient.clone()
        for tensor, gradient in gradients.items()
    }
