"""What is used of torch that its releases may change, each with a way to do without it.

No other file reads a private name of torch but `gradbalance/eager.py`, which is about the compiler.
Some are faster than what is public, some are the only way to see something. `available` looks each
one up when it is used, so that tests can take it away.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node


def available(name: str) -> Any:
    """A private attribute of torch by its path; None where this release lacks it."""
    found: Any = torch
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


# Looked up once: it is called once a task and step.
_run_backward = available("autograd.Variable._execution_engine.run_backward")


# Runs of autograd's engine, without what `torch.autograd` checks for each tensor anew.
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


# The backward that is running on this thread, if there is one.
def running_backward() -> int:
    """Its number; -1 if there is none, or if it cannot be known."""
    current = available("_C._current_graph_task_id")
    return -1 if current is None else int(current())


def running_backward_retains() -> bool:
    """Whether it was called with retain_graph=True; False where that cannot be known."""
    retains = available("_C._autograd._get_current_graph_task_keep_graph")
    return bool(retains and retains())


def running_backward_needs(nodes: Iterable[Node]) -> bool:
    """Whether it, and there is one, will pass one of these nodes; False where nothing tells."""
    will_execute = available("_C._will_engine_execute_node")
    return will_execute is not None and any(map(will_execute, nodes))


def after_running_backward(callback: Callable[[], None]) -> None:
    """Call this once it has written all it writes.

    Raises:
        RuntimeError: this release of torch has no way to do that.
    """
    queue = available("autograd.Variable._execution_engine.queue_callback")
    if queue is None:
        raise RuntimeError(
            f"torch {torch.__version__} does not tell when a backward has ended, which "
            "loss.backward() of a balanced loss needs; call balancer.backward(losses) instead"
        )
    queue(callback)


def backwards_told(to: Callable[[bool], None]) -> AbstractContextManager[None]:
    """A context in which `to` is called before a backward begins, and may refuse it by an error.

    Args:
        to: called with whether that backward adds to `.grad`. Nothing calls it where a release of
            torch keeps its engine elsewhere.
    """
    engine = available("autograd.Variable._execution_engine")
    return nullcontext() if engine is None else _told(engine, to)


@contextmanager
def _told(engine: Any, to: Callable[[bool], None]) -> Iterator[None]:
    variable: Any = torch.autograd.Variable
    telling = _TellingEngine(engine, to)
    variable._execution_engine = telling
    try:
        yield
    finally:
        telling.active = False
        # Another thread may have put its own there meanwhile.
        if variable._execution_engine is telling:
            variable._execution_engine = engine


class _TellingEngine:
    def __init__(self, engine: Any, to: Callable[[bool], None]) -> None:
        self._engine, self._to = engine, to
        self.active = True

    def run_backward(self, *args: Any, **options: Any) -> Any:
        if self.active:
            self._to(bool(options.get("accumulate_grad")))
        return self._engine.run_backward(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


# What a tensor, or a node of the graph, does not say publicly.
def outputs_of(node: Node) -> Sequence[Any] | None:
    """The shape and the dtype of each tensor that a node returned in the forward pass.

    None where they cannot be known.
    """
    return getattr(node, "_input_metadata", None)


def holders_of(tensor: Tensor) -> int | None:
    """How many hold the memory of a tensor; None where it cannot be known."""
    count = available("_C._storage_Use_Count")
    if count is None or tensor.layout != torch.strided or type(tensor) is not Tensor:
        return None
    return int(count(tensor.untyped_storage()._cdata))


def hooks_of(tensor: Tensor) -> dict[int, Any]:
    """The hooks that see the gradient of a tensor before it is used."""
    return getattr(tensor, "_backward_hooks", None) or {}


def hooks_after_accumulation(tensor: Tensor) -> dict[int, Any]:
    """The hooks that fire once a gradient was added to `.grad` of a leaf."""
    return getattr(tensor, "_post_accumulate_grad_hooks", None) or {}


@contextmanager
def suspended(hooks: Iterable[dict[int, Any]]) -> Iterator[None]:
    """Keep hooks from firing; they are back afterwards.

    Args:
        hooks: those of some tensors.
    """
    saved = [(of_tensor, dict(of_tensor)) for of_tensor in hooks if of_tensor]
    try:
        for of_tensor, _ in saved:
            of_tensor.clear()
        yield
    finally:
        for of_tensor, before in saved:
            of_tensor.update(before)


def is_flattened(parameter: Tensor) -> bool:
    """Whether FSDP1 made it of several parameters."""
    return getattr(parameter, "_fsdp_flattened", False)


# One call each, where `reshape`, `cat`, `split` and `view` are many.
def joined(tensors: Sequence[Tensor]) -> Tensor:
    """The entries of dense tensors of one dtype, as one vector."""
    flatten = available("_utils._flatten_dense_tensors")
    if flatten is None:
        return torch.cat([tensor.reshape(-1) for tensor in tensors])
    return flatten(tensors)  # type: ignore[no-any-return]


def parted(vector: Tensor, like: Sequence[Tensor]) -> Sequence[Tensor]:
    """Views of the parts of a vector, in the shapes of these tensors."""
    unflatten = available("_utils._unflatten_dense_tensors")
    # In some releases, 2.6 among them, parts without an entry lose their shape.
    if unflatten is None or 0 in map(Tensor.numel, like):
        parts = torch.split(vector, [tensor.numel() for tensor in like])
        return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]
    return unflatten(vector, like)  # type: ignore[no-any-return]
