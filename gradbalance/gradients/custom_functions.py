"""What a custom function may do in its backward: run another one, or give out one buffer again."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from gradbalance.gradients.graph import Graph


def no_backward_inside(graph: Graph) -> AbstractContextManager[None]:
    """Refuse the backwards that a custom function runs while gradients are only measured.

    They would write `.grad`, of parameters that the graph does not show. Only torch's engine sees
    them coming, and only where they begin is nothing written yet.
    """
    engine = getattr(torch.autograd.Variable, "_execution_engine", None)
    return _refused(engine) if graph.custom and engine is not None else nullcontext()


@contextmanager
def _refused(engine: Any) -> Iterator[None]:
    variable: Any = torch.autograd.Variable
    refusing = _RefusingEngine(engine)
    variable._execution_engine = refusing
    try:
        yield
    finally:
        refusing.active = False
        # Another thread may have put its own there meanwhile.
        if variable._execution_engine is refusing:
            variable._execution_engine = engine


class _RefusingEngine:
    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._outer = _current_backward()
        self.active = True

    def run_backward(self, *args: Any, **options: Any) -> Any:
        inside = _current_backward() not in (-1, self._outer)
        if self.active and inside and options.get("accumulate_grad"):
            raise ValueError(
                "a custom function runs a backward of its own inside its backward, as reversible "
                "blocks and hand-made checkpointing do. It writes .grad whenever it is "
                "differentiated, which balancing does once a task. Use "
                "torch.utils.checkpoint.checkpoint(..., use_reentrant=False), or a source that "
                "takes one backward through it: LossesOnly(), or Representation(model.trunk) if "
                "it is in the trunk"
            )
        return self._engine.run_backward(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def _current_backward() -> int:
    """The number of the backward that is running on this thread; -1 if there is none."""
    current = getattr(torch._C, "_current_graph_task_id", None)
    return -1 if current is None else int(current())


def kept_apart(gradients: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
    """The gradients, copied where something else holds their memory.

    A function that keeps a buffer for its gradients, as CUDA-graphed callables do, overwrites it
    in the next backward.
    """
    alone = _holders(torch.empty(1))
    return {
        tensor: gradient if alone and _holders(gradient) == alone else gradient.clone()
        for tensor, gradient in gradients.items()
    }


def _holders(tensor: Tensor) -> int | None:
    """How many hold the memory of a tensor; None where it cannot be known."""
    count = getattr(torch._C, "_storage_Use_Count", None)
    if count is None or tensor.layout != torch.strided or type(tensor) is not Tensor:
        return None
    return int(count(tensor.untyped_storage()._cdata))
