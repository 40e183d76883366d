"""Graphs that hide which task reaches which leaf, or cannot be differentiated task by task."""

from torch import Tensor
from torch.autograd.graph import Node

from gradbalance.gradients.graph import Edge, Graph

_REENTRANT = "CheckpointFunctionBackward"
_DDP_SINK = "_DDPSinkBackward"
# Nodes that only select an entry or rescale it: they lie between a loss and the tensor of losses
# from which it was taken.
_CUTS = ("Select", "Unbind", "Split", "Slice", "Index", "Gather")
_PASSES = (*_CUTS, "Squeeze", "Unsqueeze", "View", "ReshapeAlias", "UnsafeView", "Alias", "Clone",
           "ToCopy", "Mul", "Div", "Neg", "Expand")  # fmt: skip


def check_differentiable(graph: Graph) -> None:
    """Raise a ValueError if the tasks cannot be differentiated one by one."""
    for node in graph.custom:
        kind = type(node).__name__
        if kind == _REENTRANT:
            task = graph.names(graph.tasks_of_node.get(node, 0))[0]
            raise ValueError(
                f"task {task!r} passes reentrant checkpointing, which can only be differentiated "
                "as a whole; use torch.utils.checkpoint.checkpoint(..., use_reentrant=False). With "
                "Hugging Face, model.gradient_checkpointing_enable(gradient_checkpointing_kwargs="
                '{"use_reentrant": False}), or the same in TrainingArguments'
            )
        if kind == _DDP_SINK:
            ddp = getattr(node, "ddp_weakref", lambda: None)()
            if getattr(ddp, "static_graph", False):
                raise ValueError(
                    "DistributedDataParallel(static_graph=True) would leave the ranks apart: it "
                    "counts on one backward, and here each task is differentiated. Leave it out, "
                    "compute balancer(losses) inside the module that is wrapped, or use "
                    "LossesOnly()"
                )


def hidden_by(graph: Graph) -> str | None:
    """Describe what hides the paths of tasks, so that a task's own parameters look shared.

    None if nothing does. If two losses are entries of one tensor, each seems to reach all leaves
    behind this tensor. The inside of a custom node is not visible, so each of its outputs seems to
    depend on all of its inputs. This matters if tasks use different outputs of it, or if two tasks
    have no parameters outside of it. A single parameter cannot be hidden.
    """
    met: dict[Node, str] = {}
    for task, root in graph.roots.items():
        for node in _cut_from(graph, root):
            if node in met and len(_leaves_behind(graph, node)) > 1:
                return f"the losses {met[node]!r} and {task!r} were cut from one tensor"
            met[node] = task
    opaque = {n for n in graph.custom if n in graph.tasks_of_node and len(graph.children[n]) > 1}
    for node, outputs in _tasks_of_outputs(graph, opaque).items():
        names = graph.names(graph.tasks_of_node[node])
        behind = _leaves_behind(graph, node)
        if len(names) < 2 or len(behind) < 2:
            continue
        what = f"the inside of {node.name()} is not visible, and"
        if len(set(outputs.values())) > 1:
            return f"{what} the tasks {names} start from different outputs of it"
        inside = [task for task in names if behind.issuperset(graph.leaves(task))]
        if len(inside) > 1:
            return f"{what} it holds all that {inside[0]!r} and {inside[1]!r} reach"
    return None


def _tasks_of_outputs(graph: Graph, nodes: set[Node]) -> dict[Node, dict[int, int]]:
    """For each of the nodes, the tasks that reach each of its outputs."""
    found: dict[Node, dict[int, int]] = {node: {} for node in nodes}
    if not nodes:
        return found
    arriving = [(root, graph.bits[task]) for task, root in graph.roots.items() if root is not None]
    for node, tasks in graph.tasks_of_node.items():
        arriving += [(edge, tasks) for edge in graph.children[node]]
    for (node, output), tasks in arriving:
        if node in found:
            found[node][output] = found[node].get(output, 0) | tasks
    return found


def _cut_from(graph: Graph, root: Edge | None) -> set[Node]:
    """The nodes right behind a loss that select it from a larger tensor, if there are any."""
    chain: list[Node] = []
    node = None if root is None else root[0]
    cut = False
    while node is not None and node.name().startswith(_PASSES):
        chain.append(node)
        cut = cut or node.name().startswith(_CUTS)
        children = graph.children.get(node, [])
        if len(children) != 1:
            break
        node = children[0][0]
    if node is not None:
        chain.append(node)
    return set(chain) if cut else set()


def _leaves_behind(graph: Graph, node: Node) -> set[Tensor]:
    found: set[Tensor] = set()
    entered: set[Node] = set()
    pending = [node]
    while pending:
        node = pending.pop()
        if node not in entered:
            entered.add(node)
            if node in graph.leaf_of:
                found.add(graph.leaf_of[node])
            pending += [child for child, _ in graph.children[node]]
    return found
