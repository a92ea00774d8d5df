"""Products of one tensor with several weights (queries, keys, values) as one product with all of them side by side.

One launch instead of several, and one start with weights that nothing has fetched yet. What reads the results reads
slices of one tensor; so nothing may stand behind the products but a bias, which is concatenated too, and moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tvm import relax

from .access import is_move
from .graph import Graph, Node, Tensor

_READERS = ("matmul", "torch_tvm.attention")


@dataclass(frozen=True)
class _Branch:
    """A product, the nodes up to its bias, and what they compute."""

    product: Node
    nodes: tuple[Node, ...]
    bias: Tensor | None

    @property
    def end(self) -> Tensor:
        return self.nodes[-1].output

    @property
    def columns(self) -> int:
        return self.product.output.shape[-1]

    @property
    def key(self) -> tuple[object, ...]:
        """What branches that are combined have in common.

        Their width too: only then are heads in a slice a view that the kernels can say without a copy.
        """
        return (self.bias is None, self.end.shape, self.end.dtype, self.product.args[1].shape)


def combine_products(graph: Graph) -> None:
    """Combine products of one left operand with weights wherever their results are read by moves alone."""
    changed = False
    sources = dict.fromkeys(node.args[0] for node in graph.nodes if node.op == "matmul")
    for source in sources:
        alike: dict[tuple[object, ...], list[_Branch]] = {}
        for user in source.users:
            branch = _branch(user, source, set(graph.outputs))
            if branch is not None:
                alike.setdefault(branch.key, []).append(branch)
        for branches in alike.values():
            if len(branches) > 1:
                _combine(graph, source, branches)
                changed = True
    if changed:
        _sort(graph)


def _branch(product: Node, source: Tensor, outputs: set[Tensor]) -> _Branch | None:
    if product.op != "matmul" or product.args[0] is not source or product.weight_only:
        return None
    weight = product.args[1]
    if not weight.weight_only or len(weight.shape) != 2 or len(source.shape) != 2:
        return None
    nodes, bias = [product], None
    while bias is None and len(nodes[-1].output.users) == 1 and nodes[-1].output not in outputs:
        (user,) = nodes[-1].output.users
        bias = _bias(user, nodes[-1].output, weight.shape[1])
        keeps_columns = user.op == "reshape" and user.output.shape[-1:] == weight.shape[1:]
        if bias is None and not keeps_columns:
            break
        nodes.append(user)
    while bias is None and len(nodes) > 1:
        nodes.pop()
    end = nodes[-1].output
    if end in outputs or not all(_only_moves(user) for user in end.users):
        return None
    return _Branch(product, tuple(nodes), bias)


def _bias(node: Node, value: Tensor, columns: int) -> Tensor | None:
    """Return the vector of weights that an addition adds to every row."""
    if node.op != "add" or node.output.shape != value.shape:
        return None
    other = node.args[1] if node.args[0] is value else node.args[0]
    vector = other.size == columns == other.shape[-1] if other.shape else False
    return other if vector and other.weight_only and other.dtype == value.dtype else None


def _only_moves(node: Node) -> bool:
    """Say whether a result goes through moves alone to kernels that read views."""
    if node.op in _READERS:
        return True
    return is_move(node) and bool(node.output.users) and all(map(_only_moves, node.output.users))


def _combine(graph: Graph, source: Tensor, branches: Sequence[_Branch]) -> None:
    first, call = branches[0], branches[0].product.call
    columns = sum(branch.columns for branch in branches)
    rows = first.end.shape[:-1]
    weight = _concat([branch.product.args[1] for branch in branches], 1)
    product = _node("matmul", (source, weight), call, (source.shape[0], columns))
    made = [weight.node, product.node]
    result = product
    if product.shape != (*rows, columns):
        result = _node("reshape", (product,), call, (*rows, columns))
        made.append(result.node)
    if first.bias is not None:
        biases = [_vector(branch.bias, call) for branch in branches if branch.bias is not None]
        bias = _concat([vector for vector, _ in biases], 0)
        result = _node("add", (result, bias), call, result.shape)
        made += [*(node for _, node in biases if node is not None), bias.node, result.node]
    begin = 0
    for branch in branches:
        made.append(_slice(result, branch.end, begin))
        begin += branch.columns
    gone = {node for branch in branches for node in branch.nodes}
    for tensor in {arg for node in gone for arg in node.args}:
        tensor.users = [user for user in tensor.users if user not in gone]
    graph.nodes[:] = [*(n for n in made if n is not None), *(n for n in graph.nodes if n not in gone)]


def _node(op: str, args: tuple[Tensor, ...], call: relax.Call, shape: tuple[int, ...]) -> Tensor:
    node = Node(op, args, call, 0)
    node.outputs.append(Tensor("node", shape, args[0].dtype, 0, node.weight_only, node))
    for arg in dict.fromkeys(args):
        arg.users.append(node)
    return node.output


def _variable(tensor: Tensor) -> relax.Var:
    return relax.Var("operand", relax.TensorType(list(tensor.shape), tensor.dtype))


def _concat(tensors: Sequence[Tensor], axis: int) -> Tensor:
    shape = list(tensors[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
    call = relax.op.concat([_variable(tensor) for tensor in tensors], axis)
    return _node("concat", tuple(tensors), call, tuple(shape))


def _vector(bias: Tensor, call: relax.Call) -> tuple[Tensor, Node | None]:
    if len(bias.shape) == 1:
        return bias, None
    flat = _node("reshape", (bias,), call, (bias.size,))
    return flat, flat.node


def _slice(whole: Tensor, part: Tensor, begin: int) -> Node:
    """Let `part` be some columns of `whole`."""
    axis = len(whole.shape) - 1
    call = relax.op.strided_slice(_variable(whole), [axis], [begin], [begin + part.shape[-1]])
    node = Node("strided_slice", (whole,), call, 0)
    node.outputs.append(part)
    part.node, part.index = node, 0
    whole.users.append(node)
    return node


def _sort(graph: Graph) -> None:
    """Put every node behind those that it reads, else in the order that they have, and number them."""
    placed: dict[Node, None] = {}

    def missing(node: Node) -> Iterable[Node]:
        return (arg.node for arg in node.args if arg.node is not None and arg.node not in placed)

    for root in graph.nodes:
        stack = [root]
        while stack:
            node = stack[-1]
            waiting = [other for other in missing(node) if other is not node]
            if node in placed or not waiting:
                stack.pop()
                placed[node] = None
            else:
                stack += waiting
    graph.nodes[:] = placed
    for index, node in enumerate(graph.nodes):
        node.index = index
