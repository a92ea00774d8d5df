"""Concatenation without copies of its own: whoever computes a part stores it in its place in the whole.

A dense block concatenates the same parts again and again, each time with one more. All these
concatenations are views of the last one's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .access import Access, AccessMap, stored
from .fusion import Group
from .graph import Graph, Node, Tensor

Placements = Mapping[Tensor, tuple[Tensor, Access]]


def concat_axis(node: Node) -> int:
    """Axis along which a concatenation joins its operands, not negative."""
    axis = node.attrs.axis
    return int(axis) % len(node.output.shape) if axis is not None else 0


def parts(node: Node, whole: Access) -> list[tuple[Tensor, Access]]:
    """Return each operand of a concatenation and where in an access to the result it belongs."""
    axis, begin = concat_axis(node), 0
    found = []
    for operand in node.args:
        extent = operand.shape[axis]
        found.append((operand, whole.sliced(axis, begin, extent, 1)))
        begin += extent
    return found


def share_prefixes(graph: Graph) -> None:
    """Let a concatenation whose first operands were concatenated before begin with that result."""
    known: dict[tuple[object, ...], Tensor] = {}
    for node in graph.nodes:
        if node.op != "concat":
            continue
        axis = concat_axis(node)
        for count in range(len(node.args) - 1, 1, -1):
            prefix = known.get((axis, *node.args[:count]))
            if prefix is not None:
                _replace_operands(node, (prefix, *node.args[count:]))
                break
        known[(axis, *_leaves(node, axis))] = node.output


def _leaves(node: Node, axis: int) -> list[Tensor]:
    """What a concatenation consists of when those that it begins with are taken apart."""
    first, *others = node.args
    if first.node is not None and first.node.op == "concat" and concat_axis(first.node) == axis:
        return [*_leaves(first.node, axis), *others]
    return [first, *others]


def _replace_operands(node: Node, args: tuple[Tensor, ...]) -> None:
    for arg in set(node.args) - set(args):
        arg.users.remove(node)
    for arg in set(args) - set(node.args):
        arg.users.append(node)
    node.args = args


def place_parts(
    graph: Graph, groups: Sequence[Group], can_store: Callable[[Group, Access], bool]
) -> Placements:
    """Find stored tensors that can be stored as parts of a concatenation instead.

    Parameters
    ----------
    can_store
        Whether the kernel of a group can store its result in a strided part of a larger tensor.

    Returns
    -------
    Placements
        For each such tensor the result of a concatenation, and where in it.
    """
    writer = {tensor: group for group in groups for tensor in group.stored()}
    accesses = AccessMap(writer)
    # The caller gets its outputs in memory of their own.
    fixed = {accesses.of(tensor)[0] for tensor in graph.outputs}
    found: dict[Tensor, tuple[Tensor, Access]] = {}
    for group in reversed(groups):
        if group.root.op != "concat" or group.weight_only or group.output.size == 0:
            continue
        base, whole = found.get(group.output, (group.output, stored(group.output)))
        for operand, part in parts(group.root, whole):
            tensor, access = accesses.of(operand)
            producer = writer.get(tensor)
            if producer is None or tensor in found or tensor in fixed or producer.weight_only:
                continue
            if not access.contiguous or tensor.size != operand.size:
                continue
            place = part.reshaped(tensor.shape)
            if place is not None and can_store(producer, place):
                found[tensor] = (base, place)
    return found
