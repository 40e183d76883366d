"""Walks of the autograd graph: which leaves a loss reaches, and where the graph hides them."""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

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
        leaves: for each task the leaves it reaches, as the keys of a dictionary.
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
        # Which tasks reach a node, a leaf or a stop, one bit each.
        self._tasks_of_node: dict[Node, int] = {}
        self._tasks_of_leaf: dict[Tensor, int] = {}
        tasks_of_leaf = self._tasks_of_leaf
        tasks_of_stop: dict[int, int] = {}

        roots: list[Node] = []
        for task, loss in losses.items():
            stopped = self._stop.get((loss.grad_fn, loss.output_nr))
            if loss.grad_fn is None:
                tasks_of_leaf[loss] = tasks_of_leaf.get(loss, 0) | self._bits[task]
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
                tasks_of_leaf[leaf] = tasks_of_leaf.get(leaf, 0) | tasks
            for edge in self._children[node]:
                stopped = self._stop.get(edge)
                if stopped is None:
                    child = edge[0]
                    self._tasks_of_node[child] = self._tasks_of_node.get(child, 0) | tasks
                else:
                    tasks_of_stop[stopped] = tasks_of_stop.get(stopped, 0) | tasks

        for index, tensor in enumerate(stop):
            if tensor.grad_fn is None:
                tasks_of_stop[index] = tasks_of_leaf.pop(tensor, 0)
        self.leaves: dict[str, dict[Tensor, None]] = {
            task: {leaf: None for leaf, tasks in tasks_of_leaf.items() if tasks & bit}
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

    @property
    def all_leaves(self) -> dict[Tensor, None]:
        """The leaves that any task reaches."""
        return {leaf: None for leaves in self.leaves.values() for leaf in leaves}

    @property
    def nodes(self) -> Iterable[Node]:
        """All of them, each before those it leads to."""
        return self._tasks_of_node

    @property
    def next_to_leaves(self) -> list[Node]:
        """Of each leaf a node that passes gradients on to it."""
        above = {}
        for node in self._tasks_of_node:
            for child, _ in self._children[node]:
                if type(child).__name__ == _LEAF:
                    above[child] = node
        return list(above.values())

    def last_leaves(self, task: str) -> set[Tensor]:
        """The leaves of a task that no later task reaches."""
        last = self._bits[task].bit_length()
        return {t for t in self.leaves[task] if self._tasks_of_leaf[t].bit_length() == last}

    def ends_of_own_parts(self) -> dict[str, list[GradientEdge]]:
        """For each task the edges at which the part of the graph ends that no later task needs.

        What lies before them can be freed once the task was differentiated. A task is left out
        that has no such part, or none that the engine can stop behind: it runs through a tensor
        that lies on the way to another one that is asked for.
        """
        ends: dict[int, dict[_Edge, None]] = {bit.bit_length(): {} for bit in self._bits.values()}
        mixed = set()
        for node, tasks in self._tasks_of_node.items():
            last = tasks.bit_length()
            for edge in self._children[node]:
                if edge in self._stop:
                    mixed.add(last)
                elif self._tasks_of_node[edge[0]].bit_length() > last:
                    if type(edge[0]).__name__ == _LEAF:
                        mixed.add(last)
                    else:
                        ends[last][edge] = None
        found = {}
        for task, bit in self._bits.items():
            last, root = bit.bit_length(), self._losses[task].grad_fn
            edges = ends[last]
            if root is None or self._tasks_of_node.get(root, 0).bit_length() > last:
                continue
            if not edges or not (last in mixed or self._on_one_way({node for node, _ in edges})):
                found[task] = [GradientEdge(node, number) for node, number in edges]
        return found

    def _on_one_way(self, nodes: set[Node]) -> bool:
        """Whether one of the nodes leads to another."""
        entered: set[Node] = set()
        pending = [child for node in nodes for child, _ in self._children[node]]
        while pending and len(nodes) > 1:
            node = pending.pop()
            if node in nodes:
                return True
            if node not in entered:
                entered.add(node)
                pending += [child for child, _ in self._children.get(node, ())]
        return False

    def check_differentiable(self) -> None:
        """Raise a ValueError where the tasks cannot be differentiated one by one."""
        for node, tasks in self._tasks_of_node.items():
            kind = type(node).__name__
            if kind == _REENTRANT:
                raise ValueError(
                    f"task {self._names(tasks)[0]!r} passes reentrant checkpointing, which can "
                    "only be differentiated as a whole; use "
                    "torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"
                )
            if kind == _DDP_SINK:
                ddp = getattr(node, "ddp_weakref", lambda: None)()
                if getattr(ddp, "static_graph", False):
                    raise ValueError(
                        "DistributedDataParallel(static_graph=True) would leave the ranks apart: "
                        "it counts on one backward, and here each task is differentiated. Leave it "
                        "out, compute balancer(losses) inside the module that is wrapped, or use "
                        "LossesOnly()"
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
