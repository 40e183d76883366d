"""Gradients with respect to a shared representation, the cheap source of MGDA-UB."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from gradbalance.eager import eager
from gradbalance.gradients.graph import Graph
from gradbalance.gradients.graph_gradients import GraphGradients, Keeping, Shared
from gradbalance.gradients.hidden import check_differentiable
from gradbalance.gradients.micro_batches import Reached
from gradbalance.gradients.parameters import check_whole
from gradbalance.gradients.source import Request, StatelessSource, TaskGradients


@final
class Representation(StatelessSource):
    r"""Compute the Gramian on a shared representation Z, with one backward through the trunk.

    .. math::
        J_i = \nabla_Z L_i, \qquad G = J J^\top, \qquad
        \texttt{.grad}_\theta \mathrel{+}=
        \Big(\frac{\partial Z}{\partial \theta}\Big)^{\!\top} \sum_i w_i \nabla_Z L_i

    with Z the output of the trunk for one batch (flattened, so J is [T, numel(Z)]), and θ the
    parameters of the trunk. Costs T backwards through the heads and one through the trunk. With
    MGDA this is MGDA-UB: ‖Jᵀw‖ is an upper bound, up to a factor, of the direction's norm in
    parameter space. But no guarantee holds there: the direction of the parameters may conflict with
    a task. Parameters that a task reaches without passing through Z belong to its head.

    If each task has its own samples (a data set per task), the gradients of different tasks have no
    entry of Z in common, and cannot be compared. A warning says so; use `SharedParameters` then.

    Args:
        module: the trunk. Its output is captured at each forward pass with gradients enabled, and
            kept until a step has used it, `close()` is called, or the source is deleted. None if
            you pass the representation yourself: `balancer(losses, representation=z)`.

    Raises:
        ValueError: `module` is not a module. At a step: there was no forward pass, or more than
            one; the output is not a tensor with an autograd graph (nor a sequence or mapping with
            such tensors, as models of Hugging Face return); a loss does not depend on it, or
            reaches the trunk by another path too; or the losses use two tensors of the output, one
            of which is computed from the other.

    Example:
        >>> import torch, gradbalance as gb
        >>> trunk, heads = torch.nn.Linear(3, 2), [torch.nn.Linear(2, 1) for _ in range(2)]
        >>> balancer = gb.Balancer(gb.MGDA(), gb.Representation(trunk))
        >>> z = trunk(torch.ones(4, 3))
        >>> report = balancer.backward([head(z).square().mean() for head in heads])
        >>> trunk.weight.grad.shape
        torch.Size([2, 3])

    References:
        Sener & Koltun 2018, arXiv 1810.04650.
    """

    measures_gramian: ClassVar[bool] = True
    accumulates: ClassVar[bool] = False
    takes_representation: ClassVar[bool] = True
    groups = ()

    def __init__(self, module: nn.Module | None = None) -> None:
        if module is not None and not isinstance(module, nn.Module):
            raise ValueError(f"Representation needs a module; found a {type(module).__name__}")
        if module is not None:
            check_whole(list(module.parameters()))
        self._module = module
        self._listen()
        self._text = "" if module is None else type(module).__name__

    def _listen(self) -> None:
        self._captured: Any = None  # only the latest output; older ones would keep graphs alive
        self._num_captures = 0
        self._used = False
        if self._module is not None:
            handle = self._module.register_forward_hook(_Capture(self))
            self._end = weakref.finalize(self, handle.remove)

    def close(self) -> None:
        """Remove the hook from the module for good, and release the captured output."""
        self._release()
        if self._module is not None:
            self._end()

    def __getstate__(self) -> dict[str, Any]:
        return {
            "module": self._module,
            "text": self._text,
        }  # a copy captures from the module that is copied with it

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._module, self._text = state["module"], state["text"]
        self._listen()

    def _capture(self, output: Any) -> None:
        if self._used:
            self._release()
        self._captured = output
        self._num_captures += 1

    def _release(self) -> None:
        self._captured, self._num_captures, self._used = None, 0, False

    def open(self, losses: Mapping[str, Tensor], request: Request) -> TaskGradients:
        """Open a step; its ends are the representation and the leaves of the heads."""
        captured, num_captures = self._captured, self._num_captures
        if request.representation is not None:
            captured, num_captures = request.representation, 1
        # The same output may be used by `measure` and by the step that follows it.
        self._used = True
        if num_captures != 1:
            self._release()
            raise ValueError(
                "a step needs exactly one representation; found "
                + (f"{num_captures} forward passes" if num_captures else "none")
                + " since the last step. Run the trunk once, under enabled gradients, or pass it: "
                "balancer(losses, representation=z)"
            )
        tensors, graph = _reached(losses, _tensors_of(captured))
        check_whole(graph.reached_by)

        def share(reached: Reached, tasks: Sequence[str]) -> Shared:
            return Shared([tensors], [tensors], reached)

        ends = [*tensors, *graph.reached_by]
        keeping = Keeping(samples_are_columns=True)
        return GraphGradients(losses, graph, ends, share, request, keeping)

    def commit(self, gradients: TaskGradients | None, *, freed: bool) -> None:
        """Release the representation, unless there was another forward pass since."""
        if freed and (self._used or gradients is None):
            self._release()


class _Capture:
    """The forward hook of a `Representation`: a weak reference, not copied with the module."""

    def __init__(self, source: Representation | None = None) -> None:
        self._source = None if source is None else weakref.ref(source)

    @eager
    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        source = None if self._source is None else self._source()
        if source is not None and torch.is_grad_enabled():
            source._capture(output)

    def __reduce__(self) -> tuple[type["_Capture"], tuple[()]]:
        return _Capture, ()


def _reached(
    losses: Mapping[str, Tensor], representation: dict[str, Tensor]
) -> tuple[list[Tensor], Graph]:
    """The tensors that a loss reaches, and the graph between them and the losses.

    Args:
        losses: by task.
        representation: all tensors in the trunk's output, by a name for their place in it.
    """
    names, tensors = list(representation), list(representation.values())
    graph = Graph(losses, stop=tensors)
    used = sorted(set().union(*graph.reached.values()))
    for index in used if len(used) > 1 else ():
        before = _computed_from(index, tensors, used)
        if before is not None:
            raise ValueError(
                f"the losses start from {[names[i] for i in used]} of the representation, and "
                f"{names[index]} is computed from {names[before]}: gradients with respect to both "
                "cannot be compared. Pass those that are not computed from one another: "
                f"balancer(losses, representation={names[before]}), say"
            )
    if 0 < len(used) < len(tensors):  # the heads do not use the whole output
        tensors = [tensors[index] for index in used]
        graph = Graph(losses, stop=tensors)
    _check(losses, tensors, graph)
    return tensors, graph


def _computed_from(index: int, tensors: Sequence[Tensor], used: Sequence[int]) -> int | None:
    """The index of the first other tensor that this one is computed from; None if there is none."""
    others = [i for i in used if i != index]
    behind = Graph({"": tensors[index]}, stop=[tensors[i] for i in others]).reached[""]
    return others[min(behind)] if behind else None


def _check(losses: Mapping[str, Tensor], representation: list[Tensor], graph: Graph) -> None:
    """Raise a ValueError unless each loss depends on the trunk, and only via the representation."""
    check_differentiable(graph)
    behind = Graph({str(i): z for i, z in enumerate(representation)}).reached_by
    for task in losses:
        if not graph.reached[task]:
            raise ValueError(
                f"the loss of task {task!r} does not depend on the representation; every task must "
                "be computed from it. Where torch.compile or DDP hides that it is, "
                "use SharedParameters(model.trunk)"
            )
        around = [tuple(leaf.shape) for leaf in graph.leaves(task) if leaf in behind]
        if around:
            raise ValueError(
                f"task {task!r} reaches parameters of shapes {around} both through the "
                "representation and around it; use SharedParameters() instead"
            )


def _tensors_of(output: Any) -> dict[str, Tensor]:
    """The tensors with a graph in the trunk's output, by a name for their place in it."""
    if isinstance(output, Tensor):
        found = {"the output": output}
    elif isinstance(output, Mapping):  # also what Hugging Face's models return
        found = {key: t for name, part in output.items() for key, t in _named(str(name), part)}
    else:
        found = dict(_named("output", output))
    if not found:
        raise ValueError(
            "a representation is a tensor, or a sequence or mapping of tensors; found a "
            f"{type(output).__name__}. Pass balancer(losses, representation=z)"
        )
    # A tensor may have two names.
    differentiable = {id(t): (name, t) for name, t in reversed(found.items()) if t.requires_grad}
    if not differentiable:
        raise ValueError(
            "the representation does not require gradients; found a trunk that is frozen or ran "
            "without gradients"
        )
    return dict(reversed(differentiable.values()))


def _named(name: str, part: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors in an entry of a mapping, which may contain other things, such as a cache."""
    if isinstance(part, Tensor):
        yield name, part
    elif isinstance(part, list | tuple):
        for index, inner in enumerate(part):
            yield from _named(f"{name}[{index}]", inner)
