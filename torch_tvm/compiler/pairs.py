"""Two anchors with element-wise nodes between them, as one node: what attention and inverted residuals have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from .access import rebroadcast
from .fusion import MAX_NODES, MAX_OPERANDS
from .graph import Graph, Node, Tensor


def find_chain(
    last: Tensor,
    reader: Node,
    is_first: Callable[[Node], bool],
    is_elementwise: Callable[[Node], bool],
    outputs: set[Tensor],
) -> tuple[Node, list[Node]] | None:
    """Return the anchor that a tensor comes from and the nodes in between, if nothing but `reader` reads any of them.

    Parameters
    ----------
    last
        What the second anchor, `reader`, reads.
    is_first
        Whether a node can be the first anchor.
    outputs
        Tensors that are needed anyhow.
    """
    anchors, steps = find_region(last, is_first, is_elementwise)
    if len(anchors) != 1:
        return None
    inside = {anchors[0].output, *(step.output for step in steps)}
    private = is_private(inside, {*steps, reader}) and inside.isdisjoint(outputs)
    return (anchors[0], steps) if private else None


def find_region(
    last: Tensor, is_first: Callable[[Node], bool], is_elementwise: Callable[[Node], bool]
) -> tuple[list[Node], list[Node]]:
    """Return the anchors that a tensor comes from through element-wise nodes, and those nodes, each list in order."""
    region: set[Node] = set()
    anchors: set[Node] = set()
    waiting = [last]
    while waiting:
        tensor = waiting.pop()
        node = tensor.node
        if node is None or node in region or tensor.size != last.size:
            continue
        if is_first(node):
            anchors.add(node)
        elif is_elementwise(node) or node.op == "reshape":
            region.add(node)
            waiting += node.args
    steps: list[Node] = []
    inside = {anchor.output for anchor in anchors}
    for node in sorted(region, key=lambda node: node.index):
        if not inside.isdisjoint(node.args):
            steps.append(node)
            inside.add(node.output)
    return sorted(anchors, key=lambda node: node.index), steps


def is_private(tensors: Iterable[Tensor], readers: Collection[Node]) -> bool:
    """Say whether nothing but some nodes reads any of some tensors."""
    return all(user in readers for tensor in tensors for user in tensor.users)


def other_operands(
    steps: Sequence[Node], first: Iterable[Tensor], space: tuple[int, ...]
) -> list[Tensor] | None:
    """Return what else the nodes behind some results read; None if a kernel cannot compute them over `space`."""
    inside = {*first, *(step.output for step in steps)}
    others: list[Tensor] = []
    for step in steps:
        for arg in step.args:
            if arg in inside or arg.scalar is not None:
                continue
            if rebroadcast(arg.shape, step.output.shape, space) is None:
                return None
            others.append(arg)
    others = list(dict.fromkeys(others))
    return others if len(others) <= MAX_OPERANDS and len(steps) <= MAX_NODES else None


def substitute(graph: Graph, gone: Sequence[Node], node: Node) -> None:
    """Put a node in the place of the last of some others, whose result it computes."""
    dropped = set(gone)
    for tensor in {arg for old in gone for arg in old.args}:
        tensor.users = [user for user in tensor.users if user not in dropped]
    for tensor in dict.fromkeys(node.args):
        tensor.users.append(node)
        tensor.users.sort(key=lambda user: user.index)
    node.output.node = node
    position = graph.nodes.index(gone[-1])
    graph.nodes[position] = node
    graph.nodes[:] = [other for other in graph.nodes if other not in dropped]
