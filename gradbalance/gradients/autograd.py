"""The ways in which gradients are obtained from autograd: task by task, or of a weighted sum."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from gradbalance.gradients.custom_functions import kept_apart, no_backward_inside
from gradbalance.gradients.graph import Graph
from gradbalance.gradients.torch_private import (
    gradients_of,
    hooks_of,
    running_backward,
    running_backward_needs,
    suspended,
)

Gradients = dict[Tensor, Tensor]
# Bytes of activations: to free less of them early is not worth one more run of the engine a task.
_WORTH_FREEING = 1 << 20


def differentiate_each(
    losses: Mapping[str, Tensor],
    graph: Graph,
    inputs: Mapping[str, Sequence[Tensor]],
    *,
    factor: float,
    retain_graph: bool,
    chunk_size: int = 1,
) -> Iterator[tuple[str, Gradients]]:
    """Each task with the gradients of its loss, times a factor; of those inputs that it reaches.

    What only one task needs of the graph is freed at once, as far as the graph allows.

    Args:
        losses: by task.
        graph: behind them.
        inputs: what each task is differentiated by.
        factor: the gradient that the losses receive.
        retain_graph: whether the graph must outlive the last of them.
        chunk_size: how many tasks are differentiated together.
    """
    wanted = list({id(tensor): tensor for some in inputs.values() for tensor in some}.values())
    with _hooks_suspended(wanted), no_backward_inside(graph):
        if chunk_size > 1:
            yield from _in_chunks(losses, graph, inputs, factor, retain_graph, chunk_size)
            return
        frees_parts = not retain_graph and graph.last_task_leaves(_WORTH_FREEING)
        ends = graph.ends_of_own_parts() if frees_parts else {}
        left = len(losses)
        for task, loss in losses.items():
            left -= 1
            retain = retain_graph or left > 0
            upstream = torch.full_like(loss, factor)
            try:
                if retain and ends.get(task):
                    found = _in_two(loss, ends[task], inputs[task], upstream, graph, task)
                else:
                    found = _grad([loss], inputs[task], [upstream], retain and task not in ends)
            except RuntimeError as error:
                explain(error, f" of task {task!r}")
            yield task, kept_apart(found) if graph.custom else found


def weighted_gradients(
    losses: Mapping[str, Tensor],
    weights: Mapping[str, float],
    inputs: Iterable[Tensor],
    *,
    retain_graph: bool,
) -> Gradients:
    """The gradients of Σ w_i L_i, of those inputs that it reaches, in one backward.

    A task with a weight and no loss is one of other ranks.
    """
    wanted = list(inputs)
    known = [task for task in weights if task in losses]
    if not known or not wanted:
        return {}
    upstream = [torch.full_like(losses[task], weights[task]) for task in known]
    with explained(), _hooks_suspended(wanted):
        return _grad([losses[task] for task in known], wanted, upstream, retain_graph)


def _grad(
    outputs: Sequence[Tensor | GradientEdge],
    inputs: Sequence[Tensor],
    upstream: Sequence[Tensor],
    retain_graph: bool,
) -> Gradients:
    if not inputs:
        return {}
    found = gradients_of(outputs, inputs, upstream, retain_graph=retain_graph)
    return {tensor: g for tensor, g in zip(inputs, found, strict=True) if g is not None}


def _in_two(
    loss: Tensor,
    ends: Sequence[GradientEdge],
    inputs: Sequence[Tensor],
    upstream: Tensor,
    graph: Graph,
    task: str,
) -> Gradients:
    """The part of the graph that only this task needs, which is freed, and then what lies behind.

    Hooks of a tensor between the two fire in both; what the second time makes of the gradient is
    put aside.
    """
    own = graph.last_leaves(task)
    near = [tensor for tensor in inputs if tensor in own]
    wanted: Sequence[Any] = [*near, *ends]
    found = gradients_of([loss], wanted, [upstream], retain_graph=False)
    gradients = {t: g for t, g in zip(near, found, strict=False) if g is not None}
    arrived = {e: g for e, g in zip(ends, found[len(near) :], strict=True) if g is not None}
    if not arrived:
        return gradients
    handles = [node.register_prehook(_replace(node, arrived)) for node in {e.node for e in arrived}]
    try:
        behind = [tensor for tensor in inputs if tensor not in own]
        gradients |= _grad(list(arrived), behind, list(arrived.values()), True)
    finally:
        for handle in handles:
            handle.remove()
    return gradients


def _replace(
    node: torch.autograd.graph.Node, arrived: Mapping[GradientEdge, Tensor]
) -> Callable[[tuple[Tensor | None, ...]], tuple[Tensor | None, ...]]:
    own = {edge.output_nr: gradient for edge, gradient in arrived.items() if edge.node is node}
    return lambda found: tuple(own.get(index, g) for index, g in enumerate(found))


def _in_chunks(
    losses: Mapping[str, Tensor],
    graph: Graph,
    inputs: Mapping[str, Sequence[Tensor]],
    factor: float,
    retain_graph: bool,
    chunk_size: int,
) -> Iterator[tuple[str, Gradients]]:
    """Each task with its gradients, several of them differentiated together."""
    tasks = list(losses)
    for start in range(0, len(tasks), chunk_size):
        chunk = tasks[start : start + chunk_size]
        retain = retain_graph or start + chunk_size < len(tasks)
        reached = {t: [x for x in inputs[t] if graph.reaches(t, x)] for t in chunk}
        yield from _together({t: losses[t] for t in chunk}, reached, factor, retain)


def _together(
    losses: Mapping[str, Tensor],
    inputs: Mapping[str, Sequence[Tensor]],
    factor: float,
    retain_graph: bool,
) -> Iterator[tuple[str, Gradients]]:
    """The gradients of k losses in one vectorised backward."""
    units = [
        factor * torch.eye(len(losses), dtype=x.dtype, device=x.device)[:, i].view(-1, *x.shape)
        for i, x in enumerate(losses.values())
    ]
    wanted = list({tensor: None for task in losses for tensor in inputs[task]})
    if not wanted:
        yield from ((task, {}) for task in losses)
        return
    with explained():
        try:
            found = torch.autograd.grad(
                list(losses.values()),
                wanted,
                units,
                retain_graph=retain_graph,
                allow_unused=True,
                is_grads_batched=True,
            )
        except (RuntimeError, NotImplementedError) as error:
            if any(words in str(error) for words in ("a second time", "inplace operation")):
                raise
            raise ValueError(
                "these losses cannot be differentiated together, some operation does not support "
                f"torch.vmap; use chunk_size=1 ({error})"
            ) from error
    for index, task in enumerate(losses):
        rows = {t: g[index] for t, g in zip(wanted, found, strict=True) if g is not None}
        yield task, {t: rows[t] for t in inputs[task] if t in rows}


@contextmanager
def explained() -> Iterator[None]:
    """A context in which errors are explained."""
    try:
        yield
    except RuntimeError as error:
        explain(error)


def explain(error: RuntimeError, where: str = "") -> NoReturn:
    """Raise the error; one that says what to do, where the graph was freed before."""
    if "donated buffers" in str(error):
        raise ValueError(
            "torch.compile made this graph for one backward only, and balancing takes one a task; "
            "set torch._functorch.config.donated_buffer = False before it is compiled, or take a "
            "source that needs one backward, LossesOnly()"
        ) from error
    if "backward through the graph a second time" not in str(error):
        raise error
    raise ValueError(
        f"the graph{where} was freed by an earlier backward; compute the losses anew, or keep the "
        "graph in the earlier one: balancer(losses, retain_graph=True) where a Balancer did it, "
        "loss.backward(retain_graph=True) elsewhere"
    ) from error


def check_outer_backward(graph: Graph) -> None:
    """Raise torch's error of a second backward where the one that is running needs the graph too.

    What is differentiated here is freed here; a term that was added to the balanced loss, and
    shares its graph, would find nothing left.
    """
    if running_backward() != -1 and running_backward_needs(graph.next_to_leaves):
        raise RuntimeError(
            "Trying to backward through the graph a second time: a term that was added to the "
            "balanced loss shares its graph, which the balanced step frees. Keep it: "
            "balancer(losses, retain_graph=True) + term"
        )


def _hooks_suspended(tensors: Sequence[Tensor]) -> AbstractContextManager[None]:
    """Keep the hooks of tensors from firing while gradients are only measured, and `retain_grad`.

    They fire once, on what is written, as they do in `Tensor.backward`; otherwise they would be
    applied to every row and then again to the sum.
    """
    known = [tensor for tensor in tensors if hooks_of(tensor) or tensor.retains_grad]
    return _suspended(known) if known else nullcontext()


@contextmanager
def _suspended(tensors: Sequence[Tensor]) -> Iterator[None]:
    retained = [(tensor, tensor.grad) for tensor in tensors if tensor.retains_grad]
    try:
        with suspended(map(hooks_of, tensors)):
            for tensor, _ in retained:
                tensor.grad = None
            yield
    finally:
        for tensor, gradient in retained:
            tensor.grad = gradient
