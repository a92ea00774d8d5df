"""Which nodes become one kernel: an anchor with the element-wise nodes behind it, or a chain of those.

A group grows from its root along post-dominators: the next node that every path from the group's
result runs through joins, together with the nodes on these paths, if all of them are element-wise on
as many elements. What a group computes in between is then needed nowhere else, so it is never stored.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .access import is_move, rebroadcast
from .graph import Graph, Node, Tensor
from .rewrite import merged_dims

# Bounds that keep one kernel's code and compile time small; no network tried comes near them.
MAX_NODES = 48
MAX_OPERANDS = 16


class Family(Protocol):
    """What fusion asks of a kernel family; see `lower_kernels.Family`."""

    @property
    def stores_permuted(self) -> bool:
        """Whether a permutation of the result can be stored."""

    @property
    def takes_source(self) -> Callable[[Node], bool]:
        """Whether the first operand of a node can be computed on the fly."""

    @property
    def takes_epilogue(self) -> bool:
        """Whether what is done with the result can be computed on the fly."""


@dataclass(eq=False)
class Group:
    """Nodes that one kernel computes.

    Attributes
    ----------
    root
        The anchor (`anchored`), or the first node of an element-wise chain, or a node on its own.
    nodes
        All nodes in order, reshapes among element-wise nodes included.
    source
        Element-wise nodes that compute the root's first operand.
    shape
        Shape of the iteration space: that of the root's results.
    order
        Permutation of the dims in which an anchor stores the result, if it does.
    """

    root: Node
    anchored: bool
    shape: tuple[int, ...]
    nodes: list[Node] = field(default_factory=list)
    source: list[Node] = field(default_factory=list)
    order: tuple[int, ...] | None = None

    @property
    def output(self) -> Tensor:
        """What the group stores."""
        return self.nodes[-1].output

    def stored(self) -> list[Tensor]:
        """Return all tensors that the group stores; only a node on its own may have several."""
        return [self.output] if len(self.nodes) > 1 else list(self.root.outputs)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape in which the kernel stores its result: that of the iteration space, permuted if it is."""
        return self.shape if self.order is None else tuple(self.shape[axis] for axis in self.order)

    @property
    def index(self) -> int:
        """Place of the group in an order in which everything is computed before it is used."""
        return self.nodes[-1].index

    @property
    def weight_only(self) -> bool:
        """Whether the group depends on weights and constants alone."""
        return self.root.weight_only

    @property
    def behind(self) -> list[Node]:
        """Nodes that work on the results of an anchor, or all nodes of a group without one."""
        others = [node for node in self.nodes if not (self.anchored and node is self.root)]
        return [*self.root.absorbed, *others]

    def operands(self) -> list[Tensor]:
        """Tensors that element-wise nodes behind the anchor read from outside, once each, in order of use."""
        inside = {t for node in (*self.nodes, *self.root.absorbed) for t in node.outputs}
        inside.update(self.root.results)
        args = [arg for node in self.behind for arg in node.args]
        return list(dict.fromkeys(arg for arg in args if arg not in inside and arg.scalar is None))


def is_reshape(node: Node) -> bool:
    """Say whether a node only gives other dims to the same elements in the same order."""
    return node.op == "reshape"


class Fusion:
    """Partitions a graph into groups."""

    def __init__(
        self,
        graph: Graph,
        find_family: Callable[[Node], Family | None],
        is_elementwise: Callable[[Node], bool],
        fuse: bool,
    ) -> None:
        self._graph = graph
        self._find_family = find_family
        self._is_elementwise = is_elementwise
        self._fuse = fuse
        self._outputs = set(graph.outputs)
        self._taken: set[Node] = set()

    def partition(self) -> list[Group]:
        """Return the groups in an order in which they can be computed."""
        roots = [node for node in self._graph.nodes if not is_move(node)]
        families = {node: self._find_family(node) for node in roots}
        groups = [self._grow(node, families[node]) for node in roots if families[node] is not None]
        for group in groups:
            self._extend(group, families[group.root])
        for node in roots:
            if node not in self._taken:
                groups.append(self._grow(node, None))
                self._extend(groups[-1], None)
        return sorted(groups, key=lambda group: group.index)

    def _grow(self, root: Node, family: Family | None) -> Group:
        group = Group(root, family is not None, root.results[0].shape, [root])
        self._taken.add(root)
        if not self._fuse or not self._takes_more(root, family):
            return group
        while True:
            region = self._next_region(group)
            if not region:
                break
            group.nodes += region
            self._taken.update(region)
        self._drop_trailing_reshapes(group)
        return group

    def _extend(self, group: Group, family: Family | None) -> None:
        """Let a group compute its operands and store its result as others want them."""
        if not self._fuse:
            return
        if family is not None and family.takes_source(group.root):
            self._take_source(group)
        if self._takes_more(group.root, family):
            self._take_producers(group)
            if family is not None and family.stores_permuted:
                self._take_permutation(group)

    def _takes_more(self, root: Node, family: Family | None) -> bool:
        """Say whether element-wise nodes can join the group of a root."""
        joinable = family.takes_epilogue if family is not None else self._is_elementwise(root)
        return joinable and len(root.outputs) == 1 and root.output.size > 0

    def _next_region(self, group: Group) -> list[Node]:
        """Nodes up to and including the next post-dominator, or none."""
        frontier = group.output
        region: list[Node] = []
        pending: list[tuple[int, Node]] = []
        self._push(pending, frontier.users)
        if frontier in self._outputs or not pending:
            return []
        while True:
            _, node = heapq.heappop(pending)
            if not self._joins(group, node, region):
                return []
            region.append(node)
            if not pending:
                break
            if node.output in self._outputs or not node.output.users:
                return []
            self._push(pending, node.output.users)
        return region

    @staticmethod
    def _push(pending: list[tuple[int, Node]], nodes: Iterable[Node]) -> None:
        for node in nodes:
            if all(node is not other for _, other in pending):
                heapq.heappush(pending, (node.index, node))

    def _joins(self, group: Group, node: Node, region: list[Node]) -> bool:
        if node in self._taken or not (self._is_elementwise(node) or is_reshape(node)):
            return False
        if node.weight_only != group.weight_only or node.output.size != group.root.output.size:
            return False
        nodes = [*group.nodes, *region]
        if len(nodes) >= MAX_NODES:
            return False
        inside = {n.output for n in nodes}
        if any(arg in inside and arg.size != node.output.size for arg in node.args):
            return False
        outside = [arg for arg in node.args if arg not in inside and arg.scalar is None]
        if len(group.operands()) + len(outside) > MAX_OPERANDS:
            return False
        return all(rebroadcast(arg.shape, node.output.shape, group.shape) is not None for arg in outside)

    def _drop_trailing_reshapes(self, group: Group) -> None:
        """A reshape at the end is a view for whoever reads the result."""
        while len(group.nodes) > 1 and is_reshape(group.nodes[-1]):
            self._taken.discard(group.nodes.pop())

    def _take_producers(self, group: Group) -> None:
        """Compute operands in place that only this group reads and that are as large as its result."""
        waiting = group.operands()
        while waiting:
            chain = self._producer(group, waiting.pop())
            if chain and (self._joins(group, chain[-1], chain[:-1]) or self._refines(group, chain)):
                group.nodes += chain
                group.nodes.sort(key=lambda node: node.index)
                self._taken.update(chain)
                waiting += [arg for arg in chain[-1].args if arg.scalar is None]

    def _refines(self, group: Group, chain: list[Node]) -> bool:
        """Let an element-wise group run over the dims that a producer splits its own into, if that lets it join."""
        coarse, fine = group.shape, chain[-1].output.shape
        if group.anchored or merged_dims(fine, coarse) is None:
            return False
        group.shape = fine
        if None in _operand_shapes(group) or not self._joins(group, chain[-1], chain[:-1]):
            group.shape = coarse
        return group.shape == fine

    def _producer(self, group: Group, operand: Tensor) -> list[Node]:
        """Return the element-wise node that computes an operand for this group alone, after reshapes of its result."""
        chain: list[Node] = []
        user: Node | None = None
        while True:
            node = operand.node
            alone = len(operand.users) == 1 and operand not in self._outputs
            if node is None or node in self._taken or not alone:
                return []
            user = user or operand.users[0]
            chain.append(node)
            if not is_reshape(node):
                known = user in group.behind and self._is_elementwise(node)
                return chain if known else []
            operand = node.args[0]

    def _take_source(self, group: Group) -> None:
        """Compute the anchor's first operand on the fly where nothing else needs it."""
        data = group.root.args[0]
        inside: set[Node] = {group.root}
        waiting = [data]
        while waiting:
            tensor = waiting.pop()
            node = tensor.node
            if node is None or node in self._taken or tensor in self._outputs or tensor.size != data.size:
                continue
            if not all(user in inside for user in tensor.users) or not self._is_elementwise(node):
                continue
            if node.weight_only != group.weight_only or not rebroadcasts(node, data.shape):
                continue
            if data not in node.outputs and not group.source:
                continue
            group.source.append(node)
            inside.add(node)
            self._taken.add(node)
            waiting += [arg for arg in node.args if arg.scalar is None]
        group.source.sort(key=lambda node: node.index)

    def _take_permutation(self, group: Group) -> None:
        """Store the result as the only node that reads it, a permutation, would; reshapes in between may merge dims."""
        nodes: list[Node] = []
        result = group.output
        while not nodes or is_reshape(nodes[-1]):
            if len(result.users) != 1 or result in self._outputs:
                return
            nodes.append(result.users[0])
            result = nodes[-1].output
        last = nodes[-1]
        if last.op != "permute_dims" or last.attrs.axes is None:
            return
        order = _split_order([int(axis) for axis in last.attrs.axes], last.args[0].shape, group.shape)
        if order is None:
            return
        in_order = all(shape is not None and _keeps_order(shape, order) for shape in _operand_shapes(group))
        if order[-1] != len(order) - 1 or not in_order:
            return
        group.order = order
        group.nodes += nodes
        self._taken.update(nodes)


def _split_order(
    order: Sequence[int], merged: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Return the permutation of `shape` that a permutation of its reshape is, whose dims are merged dims of `shape` or 1."""
    if merged == shape:
        return tuple(order)
    wide = [axis for axis, size in enumerate(merged) if size != 1]
    dims = merged_dims(shape, tuple(merged[axis] for axis in wide))
    if dims is None:
        return None
    parts = dict(zip(wide, dims, strict=True))
    return tuple(part for axis in order for part in parts.get(axis, []))


def _operand_shapes(group: Group) -> list[tuple[int, ...] | None]:
    """Shapes that a group's operands have over its iteration space; None for one that cannot broadcast to it."""
    outside = set(group.operands())
    pairs = ((arg, node) for node in group.behind for arg in node.args if arg in outside)
    return [rebroadcast(arg.shape, node.output.shape, group.shape) for arg, node in pairs]


def _keeps_order(shape: tuple[int, ...], order: tuple[int, ...]) -> bool:
    """Say whether permuting dims leaves the elements of an operand that broadcasts to them in order."""
    padded = (1,) * (len(order) - len(shape)) + shape
    moved = [axis for axis in order if padded[axis] != 1]
    return len(shape) <= len(order) and moved == sorted(moved)


def rebroadcasts(node: Node, shape: tuple[int, ...]) -> bool:
    """Say whether all operands of an element-wise node can be read over a reshape of its result."""
    args = [arg for arg in node.args if arg.scalar is None]
    return all(rebroadcast(arg.shape, node.output.shape, shape) is not None for arg in args)
