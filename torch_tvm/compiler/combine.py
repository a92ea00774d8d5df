"""Products of one tensor with several weights (queries, keys, values) as one product with all of them side by side.

One launch instead of several, and one start with weights that nothing has fetched yet. What reads the results reads
slices of one tensor; so nothing may stand behind the products that their kernels could compute but a bias, which is
concatenated too. Rotary embeddings are no such thing: a kernel of their own reads the slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tvm import relax

from .access import Access, contiguous_strides, is_move, moved
from .fusion import is_reshape
from .graph import Graph, Node, Tensor
from .lower_matmul import matrix_view
from .rewrite import size_of

# Kernels that read a strided operand where it lies, and compute nothing behind what they read.
_READERS = ("matmul", "torch_tvm.attention", "torch_tvm.normalize", "concat")

IsElementwise = Callable[[Node], bool]

# Weights that were concatenated along an axis, and the result.
_Joined = dict[tuple[tuple[Tensor, ...], int], Tensor]


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
        """What branches that are combined have in common."""
        return (self.bias is None, self.end.shape[:-1], self.end.dtype)


def combine_products(graph: Graph, is_elementwise: IsElementwise) -> None:
    """Combine products of one left operand with weights wherever their results are read by moves alone."""
    changed = False
    joined: _Joined = {}
    sources = dict.fromkeys(node.args[0] for node in graph.nodes if node.op == "matmul")
    for source in sources:
        alike: dict[tuple[object, ...], list[_Branch]] = {}
        for user in source.users:
            branch = _branch(user, source, set(graph.outputs), is_elementwise)
            if branch is not None:
                alike.setdefault(branch.key, []).append(branch)
        for branches in (part for group in alike.values() for part in _viewable(group)):
            if len(branches) > 1:
                _combine(graph, source, branches, joined)
                changed = True
    if changed:
        _sort(graph)


def _viewable(branches: Sequence[_Branch]) -> Iterator[Sequence[_Branch]]:
    """Give the branches as one group if what reads their slices then needs no copy, else those of one width."""
    widths = dict.fromkeys(branch.columns for branch in branches)
    by_width = [[branch for branch in branches if branch.columns == width] for width in widths]
    yield from (
        group for group in ([branches] if _is_viewable(branches) else by_width) if _is_viewable(group)
    )


def _is_viewable(branches: Sequence[_Branch]) -> bool:
    shape = (*branches[0].end.shape[:-1], sum(branch.columns for branch in branches))
    whole, begin = Access(shape, contiguous_strides(shape)), 0
    for branch in branches:
        if not _reads_in_place(
            branch.end, whole.sliced(len(shape) - 1, begin, branch.columns, 1), size_of(shape)
        ):
            return False
        begin += branch.columns
    return True


def _reads_in_place(tensor: Tensor, access: Access, size: int) -> bool:
    """Say whether everything reads a tensor, held in one of `size` elements, without a copy."""
    for user in tensor.users:
        if is_move(user):
            behind = moved(user, access)
            if behind is None or not _reads_in_place(user.output, behind, size):
                return False
        elif user.op in ("matmul", "torch_tvm.attention"):
            names = (*(f"b{i}" for i in range(len(access.shape) - 2)), "m", "n")
            if matrix_view(size, access, names) is None:
                return False
    return True


def _branch(
    product: Node, source: Tensor, outputs: set[Tensor], is_elementwise: IsElementwise
) -> _Branch | None:
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
    readers, behind = list(_readers(end)), list(_users_of_whole(end))
    if end in outputs or not all(node.op in _READERS or is_elementwise(node) for node in readers):
        return None
    # Kernels compute what only element-wise nodes read along with it, and store parts of a concatenation in place.
    if all(map(is_elementwise, behind)) or any(node.op == "concat" for node in behind):
        return None
    return _Branch(product, tuple(nodes), bias)


def _bias(node: Node, value: Tensor, columns: int) -> Tensor | None:
    """Return the vector of weights that an addition adds to every row."""
    if node.op != "add" or node.output.shape != value.shape:
        return None
    other = node.args[1] if node.args[0] is value else node.args[0]
    vector = other.size == columns == other.shape[-1] if other.shape else False
    return other if vector and other.weight_only and other.dtype == value.dtype else None


def _readers(tensor: Tensor) -> Iterator[Node]:
    """Give what reads a tensor, directly or through moves."""
    for user in tensor.users:
        if is_move(user) and user.output.users:
            yield from _readers(user.output)
        else:
            yield user


def _users_of_whole(tensor: Tensor) -> Iterator[Node]:
    """Give what reads all elements of a tensor in order."""
    for user in tensor.users:
        if is_reshape(user):
            yield from _users_of_whole(user.output)
        else:
            yield user


def _combine(graph: Graph, source: Tensor, branches: Sequence[_Branch], joined: _Joined) -> None:
    first, call = branches[0], branches[0].product.call
    columns = sum(branch.columns for branch in branches)
    rows = first.end.shape[:-1]
    weight = _concat([branch.product.args[1] for branch in branches], 1, joined)
    product = _node("matmul", (source, weight), call, (source.shape[0], columns))
    made = [weight.node, product.node]
    result = product
    if product.shape != (*rows, columns):
        result = _node("reshape", (product,), call, (*rows, columns))
        made.append(result.node)
    if first.bias is not None:
        biases = [_vector(branch.bias, call) for branch in branches if branch.bias is not None]
        bias = _concat([vector for vector, _ in biases], 0, joined)
        result = _node("add", (result, bias), call, result.shape)
        made += [*(node for _, node in biases if node is not None), bias.node, result.node]
    begin = 0
    for branch in branches:
        made.append(_slice(result, branch.end, begin))
        begin += branch.columns
    gone = {node for branch in branches for node in branch.nodes}
    for tensor in {arg for node in gone for arg in node.args}:
        tensor.users = [user for user in tensor.users if user not in gone]
    new = dict.fromkeys(node for node in made if node is not None)
    graph.nodes[:] = [*new, *(node for node in graph.nodes if node not in gone and node not in new)]


def _node(op: str, args: tuple[Tensor, ...], call: relax.Call, shape: tuple[int, ...]) -> Tensor:
    node = Node(op, args, call, 0)
    node.outputs.append(Tensor("node", shape, args[0].dtype, 0, node.weight_only, node))
    for arg in dict.fromkeys(args):
        arg.users.append(node)
    return node.output


def _variable(tensor: Tensor) -> relax.Var:
    return relax.Var("operand", relax.TensorType(list(tensor.shape), tensor.dtype))


def _concat(tensors: Sequence[Tensor], axis: int, joined: _Joined) -> Tensor:
    """Concatenate weights, those of layers that share them once."""
    key = (tuple(tensors), axis)
    if key not in joined:
        shape = list(tensors[0].shape)
        shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
        call = relax.op.concat([_variable(tensor) for tensor in tensors], axis)
        joined[key] = _node("concat", key[0], call, tuple(shape))
    return joined[key]


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
