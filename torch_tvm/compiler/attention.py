"""Finds softmax(f(Q K^T)) V among the nodes of a graph and makes one node of it.

f is whatever element-wise nodes stand between the first product and the softmax: scale, mask, causal mask. The scores
must be needed nowhere else. Where keys and values of fewer heads were repeated for the heads of queries, the node gets
the dims from before the repeated ones were merged: the kernel then reads shared heads where they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .access import is_move
from .graph import Graph, Node, Tensor
from .masks import diagonal
from .pairs import find_chain, other_operands
from .rewrite import size_of


@dataclass(eq=False)
class AttentionNode(Node):
    """softmax(f(Q K^T)) V; its operands are Q, K^T, V, then what else f reads.

    Attributes
    ----------
    product
        The result of Q K^T.
    steps
        The nodes of f in order, reshapes included.
    scores
        What the softmax is taken of.
    diagonal
        f is minus infinity for key n and query m wherever n > m + diagonal; None where nothing is known.
    """

    product: Tensor = field(kw_only=True)
    steps: list[Node] = field(kw_only=True)
    scores: Tensor = field(kw_only=True)
    diagonal: int | None = field(kw_only=True)

    @property
    def space(self) -> tuple[int, ...]:
        """Shape of the scores with the batch dims of the result."""
        return (*self.output.shape[:-2], *self.scores.shape[-2:])


def find_attention(graph: Graph, is_elementwise: Callable[[Node], bool]) -> None:
    """Replace every attention in a graph by an `AttentionNode`."""
    finder = _Finder(graph, is_elementwise)
    for node in list(graph.nodes):
        if node.op == "nn.softmax":
            finder.replace(node)
    _drop_unread(graph)


def _drop_unread(graph: Graph) -> None:
    """Remove moves that led to what is gone: readers that do nothing would keep others from being fused."""
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(tensor.users or tensor in graph.outputs for tensor in node.outputs):
            kept.append(node)
            continue
        for arg in dict.fromkeys(node.args):
            arg.users.remove(node)
    graph.nodes[:] = reversed(kept)


class _Finder:
    def __init__(self, graph: Graph, is_elementwise: Callable[[Node], bool]) -> None:
        self._graph = graph
        self._outputs = set(graph.outputs)
        self._is_elementwise = is_elementwise

    def replace(self, softmax: Node) -> None:
        scores = softmax.args[0]
        context = self._only_user(softmax.output)
        if context is None or int(softmax.attrs.axis) % len(scores.shape) != len(scores.shape) - 1:
            return
        found = find_chain(
            scores, softmax, lambda node: node.op == "matmul", self._is_elementwise, self._outputs
        )
        if found is None:
            return
        product, steps = found
        for batch in _batches(product, context):
            node = _attention_node(product, steps, scores, context, batch)
            if node is not None:
                self._substitute([product, *steps, softmax, context], node)
                return

    def _only_user(self, weights: Tensor) -> Node | None:
        """Return the product that alone reads the weights, as its left operand, perhaps reshaped."""
        while len(weights.users) == 1 and weights not in self._outputs:
            (user,) = weights.users
            if user.op == "matmul":
                return user if user.args[0] is weights and user.args[1] is not weights else None
            if user.op != "reshape":
                return None
            weights = user.output
        return None

    def _substitute(self, gone: list[Node], node: AttentionNode) -> None:
        """Put a node in the place of others, with reshapes of its operands before it and one of its result behind it."""
        dropped, context = set(gone), gone[-1]
        for tensor in {arg for old in gone for arg in old.args}:
            tensor.users = [user for user in tensor.users if user not in dropped]
        known = set(self._graph.nodes)
        made = [t.node for t in node.args if t.node is not None and t.node not in known]
        made.append(node)
        if node.output is not context.output:
            made.append(_reshape(node.output, context.output, context))
        context.output.node = made[-1]
        position = self._graph.nodes.index(context)
        self._graph.nodes[position : position + 1] = made
        self._graph.nodes[:] = [other for other in self._graph.nodes if other not in dropped]
        for index, other in enumerate(self._graph.nodes):
            other.index = index
        for new in made:
            for tensor in dict.fromkeys(new.args):
                tensor.users.append(new)
                tensor.users.sort(key=lambda user: user.index)


def _batches(product: Node, context: Node) -> Iterator[tuple[int, ...]]:
    """Give the batch dims that the attention could have, the best first."""
    batch = context.output.shape[:-2]
    for operand in (product.args[1], context.args[1]):
        node = operand.node
        if node is None or node.op != "reshape":
            continue
        (source,) = node.args
        if size_of(source.shape[:-2]) == size_of(batch) and _is_repeated(source):
            yield source.shape[:-2]
    yield batch


def _is_repeated(tensor: Tensor) -> bool:
    """Say whether a tensor is a view of one that was broadcast."""
    while tensor.node is not None and is_move(tensor.node):
        if tensor.node.op == "broadcast_to":
            return True
        tensor = tensor.node.args[0]
    return False


def _attention_node(
    product: Node, steps: list[Node], scores: Tensor, context: Node, batch: tuple[int, ...]
) -> AttentionNode | None:
    """Make the node; None if the products' batches do not fit `batch` or the kernel cannot compute f."""
    space = (*batch, *scores.shape[-2:])
    query, key = (_with_batch(arg, product, batch) for arg in product.args)
    value = _with_batch(context.args[1], context, batch)
    if query is None or key is None or value is None:
        return None
    if size_of(space) != scores.size or context.output.size == 0:
        return None
    others = other_operands(steps, [product.output], space)
    inside = [product.output, *(step.output for step in steps)]
    tensors = [query, key, value, *inside, context.output]
    if others is None or len({t.dtype for t in tensors}) != 1 or scores.dtype not in ("float32", "float64"):
        return None
    node = AttentionNode(
        "torch_tvm.attention",
        (query, key, value, *others),
        context.call,
        context.index,
        product=product.output,
        steps=steps,
        scores=scores,
        diagonal=diagonal(scores),
    )
    result = context.output
    if batch != result.shape[:-2]:
        shape = (*batch, *result.shape[-2:])
        result = Tensor("node", shape, result.dtype, 0, result.weight_only)
    result.node = node
    node.outputs.append(result)
    return node


def _with_batch(tensor: Tensor, product: Node, batch: tuple[int, ...]) -> Tensor | None:
    """Return an operand of a product as one of a product with other batch dims of as many elements."""
    own = product.output.shape[:-2]
    if own == batch or len(tensor.shape) == 2:
        return tensor
    shape = (*batch, *tensor.shape[-2:])
    if tensor.shape[:-2] != own or size_of(own) != size_of(batch):
        return None
    if tensor.node is not None and tensor.node.op == "reshape":
        (tensor,) = tensor.node.args
    if tensor.shape == shape:
        return tensor
    reshaped = Tensor("node", shape, tensor.dtype, 0, tensor.weight_only)
    reshaped.node = _reshape(tensor, reshaped, product)
    return reshaped


def _reshape(source: Tensor, result: Tensor, near: Node) -> Node:
    return Node("reshape", (source,), near.call, near.index, [result])
