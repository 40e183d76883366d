"""Walks of the autograd graph: which leaves a loss reaches, and which part is its own."""

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge, Node

from gradbalance.gradients.torch_private import outputs_of

_LEAF = "AccumulateGrad"
_CPP_FUNCTION = "CppFunction"
_CAST = "ToCopy"
# What a module's full backward hooks put around it: its outputs are its inputs.
_IDENTITY = "BackwardHookFunctionBackward"

# Where a release of torch does not tell the shapes of a node's outputs.
_UNKNOWN = (SimpleNamespace(shape=(1 << 62,), dtype=torch.float32),)

Edge = tuple[Node, int]
_NOWHERE: Any = (None, 0)  # the edge to an input without a gradient


class Graph:
    """The autograd graph behind some losses: one walk for all of them.

    Args:
        losses: by task.
        stop: tensors that the walk does not go past.

    Attributes:
        reached_by: for each leaf the tasks that reach it.
        reached: for each task the indices into `stop` of the tensors it reaches.
        bits: for each task the bit that stands for it.
        roots: for each task the edge that its loss comes from; None for a leaf.
        children: the edges on which a node passes gradients on.
        tasks_of_node: which tasks reach a node, one bit each.
        leaf_of: the leaf behind a node that has one.
        custom: the nodes whose inside is not visible: custom functions in Python, among them
            compiled code, and in C++, among them scripted code.
        casts: the nodes that change the dtype of a tensor.
    """

    def __init__(self, losses: Mapping[str, Tensor], *, stop: Sequence[Tensor] = ()) -> None:
        self.bits = {task: 1 << index for index, task in enumerate(losses)}
        self._stop: dict[tuple[Node | None, int], int] = {
            (tensor.grad_fn, tensor.output_nr): index
            for index, tensor in enumerate(stop)
            if tensor.grad_fn is not None
        }
        self.children: dict[Node, Sequence[Edge]] = {}
        self.leaf_of: dict[Node, Tensor] = {}
        self.custom: list[Node] = []
        self.casts: list[Node] = []
        self.roots: dict[str, Edge | None] = {
            task: None if loss.grad_fn is None else (loss.grad_fn, loss.output_nr)
            for task, loss in losses.items()
        }
        nodes = self._from_losses_to_leaves()
        self._has_identities = any(map(_is_identity, self.custom))
        if self._has_identities:
            self._look_through_identities()

        self.tasks_of_node: dict[Node, int] = {}
        tasks_of_node, stops = self.tasks_of_node, self._stop
        tasks_of_leaf: dict[Tensor, int] = {}
        tasks_of_stop: dict[int, int] = {}
        for (task, loss), root in zip(losses.items(), self.roots.values(), strict=True):
            bit = self.bits[task]
            if root is None:
                tasks_of_leaf[loss] = tasks_of_leaf.get(loss, 0) | bit
            elif root in stops:
                tasks_of_stop[stops[root]] = tasks_of_stop.get(stops[root], 0) | bit
            else:
                tasks_of_node[root[0]] = tasks_of_node.get(root[0], 0) | bit
        for node in nodes:
            tasks = tasks_of_node.get(node)
            if tasks is None:  # an identity, or behind one at which the walk stops
                continue
            for edge in self.children[node]:
                end = stops.get(edge) if stops else None
                if end is None:
                    child = edge[0]
                    tasks_of_node[child] = tasks_of_node.get(child, 0) | tasks
                else:
                    tasks_of_stop[end] = tasks_of_stop.get(end, 0) | tasks
        self.leaf_of = {node: leaf for node, leaf in self.leaf_of.items() if node in tasks_of_node}
        for node, leaf in self.leaf_of.items():
            tasks_of_leaf[leaf] = tasks_of_leaf.get(leaf, 0) | tasks_of_node[node]

        for index, tensor in enumerate(stop):
            if tensor.grad_fn is None:
                tasks_of_stop[index] = tasks_of_leaf.pop(tensor, 0)
        names = {bits: tuple(self.names(bits)) for bits in set(tasks_of_leaf.values())}
        self.reached_by: dict[Tensor, tuple[str, ...]] = {
            leaf: names[bits] for leaf, bits in tasks_of_leaf.items() if bits
        }
        self.reached: dict[str, set[int]] = {
            task: {index for index, tasks in tasks_of_stop.items() if tasks & bit}
            for task, bit in self.bits.items()
        }

    def _from_losses_to_leaves(self) -> list[Node]:
        """All nodes but leaves, each before those it leads to: the reverse of their post-order."""
        order: list[Node] = []
        children, stops = self.children, self._stop
        roots = [edge for edge in self.roots.values() if edge is not None]
        # None stands above a node that is left once all above it were.
        pending: list[Node | None] = [node for node, index in roots if (node, index) not in stops]
        while pending:
            node = pending.pop()
            if node is None:
                order.append(pending.pop())  # type: ignore[arg-type]
                continue
            if node in children:
                continue
            kind = type(node).__name__
            if kind == _LEAF:
                children[node] = ()
                self.leaf_of[node] = node.variable  # type: ignore[attr-defined]
                continue
            edges: Sequence[Edge] = node.next_functions  # type: ignore[assignment]
            if kind == _CPP_FUNCTION or isinstance(node, BackwardCFunction):
                self.custom.append(node)
            elif kind.startswith(_CAST):
                self.casts.append(node)
            pending += (node, None)
            if _NOWHERE in edges:
                edges = [edge for edge in edges if edge[0] is not None]
            children[node] = edges
            ahead = [edge for edge in edges if edge not in stops] if stops else edges
            pending += [child for child, _ in ahead]
        order.reverse()
        return order

    def _look_through_identities(self) -> None:
        """Let each edge to an identity lead to what lies behind, since outputs are not mixed."""

        def behind(edge: Edge) -> Edge:
            while edge not in self._stop and _is_identity(edge[0]):
                edge = edge[0].next_functions[edge[1]]  # type: ignore[assignment]
            return edge

        for node, edges in self.children.items():
            self.children[node] = [behind(edge) for edge in edges]
        self.roots = {task: root and behind(root) for task, root in self.roots.items()}

    def names(self, tasks: int) -> list[str]:
        """The tasks whose bits these are."""
        return [task for task, bit in self.bits.items() if tasks & bit]

    def reaches(self, task: str, leaf: Tensor) -> bool:
        """Whether a task reaches a leaf."""
        return task in self.reached_by.get(leaf, ())

    def leaves(self, task: str) -> set[Tensor]:
        """The leaves that a task reaches."""
        return {leaf for leaf, tasks in self.reached_by.items() if task in tasks}

    @property
    def next_to_leaves(self) -> list[Node]:
        """Of each leaf a node that passes gradients on to it."""
        above = {}
        for node in self.tasks_of_node:
            for child, _ in self.children[node]:
                if child in self.leaf_of:
                    above[child] = node
        return list(above.values())

    def last_leaves(self, task: str) -> set[Tensor]:
        """The leaves of a task that no later task reaches."""
        return {leaf for leaf, tasks in self.reached_by.items() if tasks[-1] == task}

    def last_task_leaves(self, num_bytes: int) -> bool:
        """Whether the last task's backward would leave more activations than this, about."""
        total, last = 0, 1 << (len(self.bits) - 1)
        leaves = self.leaf_of
        for node, tasks in self.tasks_of_node.items():
            if not tasks & last and node not in leaves:
                for entry in outputs_of(node) or _UNKNOWN:
                    total += math.prod(entry.shape) * entry.dtype.itemsize
                    if total > num_bytes:
                        return True
        return False

    def ends_of_own_parts(self) -> dict[str, list[GradientEdge]]:
        """For each task the edges at which the part of the graph ends that no later task needs.

        What lies before them can be freed once the task was differentiated. A task is left out
        that has no such part, or none that the engine can stop behind: it runs through a tensor
        that lies on the way to another one that is asked for. None has one where an identity of
        several tensors was looked through: the engine sends zeros through all of them.
        """
        if self._has_identities:
            return {}
        ends: dict[int, dict[Edge, None]] = {bit.bit_length(): {} for bit in self.bits.values()}
        mixed = set()
        for node, tasks in self.tasks_of_node.items():
            last = tasks.bit_length()
            for edge in self.children[node]:
                if edge in self._stop:
                    mixed.add(last)
                elif self.tasks_of_node[edge[0]].bit_length() > last:
                    if edge[0] in self.leaf_of:
                        mixed.add(last)
                    else:
                        ends[last][edge] = None
        found = {}
        for task, bit in self.bits.items():
            last, root = bit.bit_length(), self.roots[task]
            edges = ends[last]
            if root is None or self.tasks_of_node.get(root[0], 0).bit_length() > last:
                continue
            if not edges or not (last in mixed or self._on_one_way({node for node, _ in edges})):
                found[task] = [GradientEdge(node, number) for node, number in edges]
        return found

    def _on_one_way(self, nodes: set[Node]) -> bool:
        """Whether one of the nodes leads to another."""
        entered: set[Node] = set()
        pending = [child for node in nodes for child, _ in self.children[node]]
        while pending and len(nodes) > 1:
            node = pending.pop()
            if node in nodes:
                return True
            if node not in entered:
                entered.add(node)
                pending += [child for child, _ in self.children.get(node, ())]
        return False


def _is_identity(node: Node) -> bool:
    """Whether several tensors pass it, each on its own."""
    return type(node).__name__ == _IDENTITY and len(node.next_functions) > 1
