"""Walks of the autograd graph: which leaves a loss reaches, and where the graph hides them."""

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.autograd.graph import Node

_LEAF = "AccumulateGrad"
_REENTRANT = "CheckpointFunctionBackward"
_DDP_SINK = "_DDPSinkBackward"
_OPAQUE = ("CompiledFunction", "_DDPSink")
# Nodes that only pick an entry or rescale it: what stands between a loss and the tensor of losses
# that it was cut from.
_CUTS = ("Select", "Unbind", "Split", "Slice", "Index", "Gather")
_PASSES = (*_CUTS, "Squeeze", "Unsqueeze", "View", "ReshapeAlias", "UnsafeView", "Alias", "Clone",
           "ToCopy", "Mul", "Div", "Neg", "Expand")  # fmt: skip

_Edge = tuple[Node, int]


class Graph:
    """The autograd graph behind some losses: one walk for all of them.

    Args:
        losses: by task.
        stop: tensors that the walk does not go past.

    Attributes:
        leaves: for each task the leaves it reaches, by id.
        reached: for each task the indices into `stop` of the tensors it reaches.
    """

    def __init__(self, losses: Mapping[str, Tensor], *, stop: Sequence[Tensor] = ()) -> None:
        self._losses = losses
        self._bits = {task: 1 << index for index, task in enumerate(losses)}
        self._stop: dict[tuple[Node | None, int], int] = {
            (tensor.grad_fn, tensor.output_nr): index
            for index, tensor in enumerate(stop)
            if tensor.grad_fn is not None
        }
        self._children: dict[Node, list[_Edge]] = {}
        # Which tasks reach a node, a leaf (by id) or a stop, one bit each.
        self._tasks_of_node: dict[Node, int] = {}
        tasks_of_leaf: dict[int, int] = {}
        tasks_of_stop: dict[int, int] = {}
        found: dict[int, Tensor] = {}

        roots: list[Node] = []
        for task, loss in losses.items():
            stopped = self._stop.get((loss.grad_fn, loss.output_nr))
            if loss.grad_fn is None:
                found[id(loss)] = loss
                tasks_of_leaf[id(loss)] = tasks_of_leaf.get(id(loss), 0) | self._bits[task]
            elif stopped is not None:
                tasks_of_stop[stopped] = tasks_of_stop.get(stopped, 0) | self._bits[task]
            else:
                roots.append(loss.grad_fn)
                known = self._tasks_of_node.get(loss.grad_fn, 0)
                self._tasks_of_node[loss.grad_fn] = known | self._bits[task]
        for node in self._from_losses_to_leaves(roots):
            tasks = self._tasks_of_node[node]
            if type(node).__name__ == _LEAF:
                leaf: Tensor = node.variable  # type: ignore[attr-defined]
                found[id(leaf)] = leaf
                tasks_of_leaf[id(leaf)] = tasks_of_leaf.get(id(leaf), 0) | tasks
            for edge in self._children[node]:
                stopped = self._stop.get(edge)
                if stopped is None:
                    child = edge[0]
                    self._tasks_of_node[child] = self._tasks_of_node.get(child, 0) | tasks
                else:
                    tasks_of_stop[stopped] = tasks_of_stop.get(stopped, 0) | tasks

        for index, tensor in enumerate(stop):
            if tensor.grad_fn is None:
                tasks_of_stop[index] = tasks_of_leaf.pop(id(tensor), 0)
        self.leaves: dict[str, dict[int, Tensor]] = {
            task: {key: found[key] for key, tasks in tasks_of_leaf.items() if tasks & bit}
            for task, bit in self._bits.items()
        }
        self.reached: dict[str, set[int]] = {
            task: {index for index, tasks in tasks_of_stop.items() if tasks & bit}
            for task, bit in self._bits.items()
        }

    def _from_losses_to_leaves(self, roots: list[Node]) -> list[Node]:
        """All nodes, each before those it leads to: the reverse of the order of leaving them."""
        order: list[Node] = []
        entered: set[Node] = set()
        pending: list[tuple[Node, bool]] = [(root, False) for root in roots]
        while pending:
            node, leaving = pending.pop()
            if leaving:
                order.append(node)
            elif node not in entered:
                entered.add(node)
                edges = [(n, index) for n, index in node.next_functions if n is not None]
                self._children[node] = edges
                pending.append((node, True))
                pending += [(n, False) for n, i in edges if (n, i) not in self._stop]
        order.reverse()
        return order

    def reentrant_task(self) -> str | None:
        """A task whose graph passes reentrant checkpointing, which hides the parameters inside."""
        for node, tasks in self._tasks_of_node.items():
            if type(node).__name__ == _REENTRANT:
                return self._names(tasks)[0]
        return None

    def check_ddp(self) -> None:
        """Raise a ValueError under DDP's static graph, which misses what is written to leaves."""
        for node in self._tasks_of_node:
            if type(node).__name__ == _DDP_SINK:
                ddp = getattr(node, "ddp_weakref", lambda: None)()
                if getattr(ddp, "static_graph", False):
                    raise ValueError(
                        "DistributedDataParallel(static_graph=True) would leave the ranks apart: "
                        "it does not notice gradients that are written to parameters. Leave it "
                        "out, or use LossesOnly()"
                    )

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
        for node, tasks in self._tasks_of_node.items():
            if type(node).__name__.startswith(_OPAQUE):
                names = self._names(tasks)
                if len(names) > 1 and self._holds_all_leaves(node, self._bits[names[0]]):
                    return f"{node.name()} holds all that {names[0]!r} and {names[1]!r} reach"
        return None

    def _names(self, tasks: int) -> list[str]:
        return [task for task, bit in self._bits.items() if tasks & bit]

    def _cut_from(self, loss: Tensor) -> set[Node]:
        """The nodes right behind a loss that pick it from something larger, if any do."""
        chain: list[Node] = []
        node = loss.grad_fn
        cut = False
        while node is not None and node.name().startswith(_PASSES):
            chain.append(node)
            cut = cut or node.name().startswith(_CUTS)
            children = self._children.get(node, [])
            if len(children) != 1:
                break
            node = children[0][0]
        if node is not None:
            chain.append(node)
        return set(chain) if cut else set()

    def _holds_all_leaves(self, opaque: Node, task: int) -> bool:
        inside: set[Node] = set()
        pending = [opaque]
        while pending:
            node = pending.pop()
            if node not in inside:
                inside.add(node)
                pending += [child for child, _ in self._children[node]]
        return all(
            node in inside
            for node, tasks in self._tasks_of_node.items()
            if tasks & task and type(node).__name__ == _LEAF
        )
