"""Walks of the autograd graph: which leaves a loss reaches, and where the graph hides them."""

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.autograd.graph import Node

# Nodes that only pick an entry or rescale it: what stands between a loss and the tensor of losses
# that it was cut from.
_CUTS = ("Select", "Unbind", "Split", "Slice", "Index", "Gather")
_PASSES = (*_CUTS, "Squeeze", "Unsqueeze", "View", "ReshapeAlias", "UnsafeView", "Alias", "Clone",
           "ToCopy", "Mul", "Div", "Neg", "Expand")  # fmt: skip
_OPAQUE = ("CompiledFunction", "_DDPSink")
_LEAF = "AccumulateGrad"
_REENTRANT = "CheckpointFunctionBackward"

_Edge = tuple[Node, int]


class Graph:
    """The autograd graph behind some losses, walked once.

    Args:
        losses: by task.
        stop: tensors that the walk does not go past.

    Attributes:
        leaves: for each task the leaves it reaches, by id, in the order of the walk.
        reached: for each task the indices into `stop` of the tensors it reaches.
    """

    def __init__(self, losses: Mapping[str, Tensor], *, stop: Sequence[Tensor] = ()) -> None:
        self._losses = losses
        self._next: dict[Node, tuple[_Edge, ...]] = {}
        self._stop: dict[_Edge, int] = {}
        self._stop_leaves: dict[int, int] = {}
        for index, tensor in enumerate(stop):
            if tensor.grad_fn is None:
                self._stop_leaves[id(tensor)] = index
            else:
                self._stop[tensor.grad_fn, tensor.output_nr] = index
        self.leaves: dict[str, dict[int, Tensor]] = {}
        self.reached: dict[str, set[int]] = {}
        self._nodes: dict[str, set[Node]] = {}
        for task, loss in losses.items():
            self._walk(task, loss)

    def _walk(self, task: str, loss: Tensor) -> None:
        leaves: dict[int, Tensor] = {}
        reached: set[int] = set()
        nodes: set[Node] = set()
        if loss.grad_fn is None:
            self._meet_leaf(loss, leaves, reached)
            pending: list[_Edge] = []
        else:
            pending = [(loss.grad_fn, loss.output_nr)]
        while pending:
            edge = pending.pop()
            if edge in self._stop:
                reached.add(self._stop[edge])
                continue
            node = edge[0]
            if node in nodes:
                continue
            nodes.add(node)
            if type(node).__name__ == _LEAF:
                self._meet_leaf(
                    node.variable,  # type: ignore[attr-defined]
                    leaves,
                    reached,
                )
            pending += self._children(node)
        self.leaves[task], self.reached[task], self._nodes[task] = leaves, reached, nodes

    def _meet_leaf(self, leaf: Tensor, leaves: dict[int, Tensor], reached: set[int]) -> None:
        if id(leaf) in self._stop_leaves:
            reached.add(self._stop_leaves[id(leaf)])
        else:
            leaves[id(leaf)] = leaf

    def _children(self, node: Node) -> tuple[_Edge, ...]:
        children = self._next.get(node)
        if children is None:
            children = tuple((n, i) for n, i in node.next_functions if n is not None)
            self._next[node] = children
        return children

    def reentrant_task(self) -> str | None:
        """A task whose graph passes reentrant checkpointing, which hides the parameters inside."""
        for task, nodes in self._nodes.items():
            if any(node.name() == _REENTRANT for node in nodes):
                return task
        return None

    def hidden_by(self) -> str | None:
        """What hides the tasks' own paths, so that parameters of one look shared by all.

        None if nothing does. The paths are hidden where two losses were cut from one tensor, and
        where a node whose inside cannot be seen holds all that two losses reach.
        """
        met: dict[Node, str] = {}
        for task, loss in self._losses.items():
            for node in self._cut_from(loss):
                if node in met:
                    return f"the losses {met[node]!r} and {task!r} were cut from one tensor"
                met[node] = task
        for task, nodes in self._nodes.items():
            for node in nodes:
                if node.name().startswith(_OPAQUE):
                    others = [t for t in self._nodes if t != task and node in self._nodes[t]]
                    if others and self._holds_all_leaves(node, task):
                        return f"{node.name()} holds all that {task!r} and {others[0]!r} reach"
        return None

    def _cut_from(self, loss: Tensor) -> set[Node]:
        """The nodes right behind a loss that pick it from something larger, if any do."""
        chain: list[Node] = []
        node = loss.grad_fn
        cut = False
        while node is not None and node.name().startswith(_PASSES):
            chain.append(node)
            cut = cut or node.name().startswith(_CUTS)
            children = self._children(node)
            if len(children) != 1:
                break
            node = children[0][0]
        if node is not None:
            chain.append(node)
        return set(chain) if cut else set()

    def _holds_all_leaves(self, opaque: Node, task: str) -> bool:
        inside: set[Node] = set()
        pending = [opaque]
        while pending:
            node = pending.pop()
            if node not in inside:
                inside.add(node)
                pending += [child for child, _ in self._children(node)]
        return all(node in inside for node in self._nodes[task] if type(node).__name__ == _LEAF)
