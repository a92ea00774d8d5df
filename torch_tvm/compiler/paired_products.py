"""Finds two products of one tensor with weights whose results meet in an element-wise node: gates of SwiGLU, GeGLU, GLU.

The two and all that stands between them and the node where they meet become one node, and that one kernel. A product
whose result is read as two halves counts as two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tvm import relax

from .access import moved, stored
from .fusion import MAX_NODES
from .graph import Graph, Node, Tensor
from .pairs import find_region, is_private, other_operands, substitute

IsElementwise = Callable[[Node], bool]


@dataclass(eq=False)
class PairedProducts(Node):
    """f(A B0, A B1) with an element-wise f; operands: A, B0, B1, then what else f reads.

    Attributes
    ----------
    products
        A B0 and A B1.
    steps
        The nodes of f in order, reshapes included.
    """

    products: tuple[Tensor, Tensor] = field(kw_only=True)
    steps: list[Node] = field(kw_only=True)

    @property
    def results(self) -> Sequence[Tensor]:
        """Both products."""
        return self.products

    @property
    def absorbed(self) -> Sequence[Node]:
        """The nodes of f."""
        return self.steps


@dataclass(frozen=True)
class _Half:
    """One of the products: its left operand, weight and result, and the nodes from there to what f begins with.

    Attributes
    ----------
    gone
        Nodes of the graph that it replaces.
    made
        Weights that are to be computed.
    """

    source: Tensor
    weight: Tensor
    result: Tensor
    steps: list[Node]
    gone: list[Node]
    made: list[Node]


def find_paired_products(graph: Graph, is_elementwise: IsElementwise) -> None:
    """Replace pairs of products, and what is computed of both alone, by `PairedProducts`."""
    outputs = set(graph.outputs)
    for meeting in list(graph.nodes):
        several = len({arg for arg in meeting.args if arg.scalar is None}) > 1
        if not several or meeting.weight_only or not is_elementwise(meeting):
            continue
        anchors, steps = find_region(meeting.output, _is_anchor, is_elementwise)
        if len(anchors) != 2 or steps[-1] is not meeting or len(steps) > MAX_NODES:
            continue
        inside = {*(anchor.output for anchor in anchors), *(step.output for step in steps[:-1])}
        if is_private(inside, steps) and inside.isdisjoint(outputs):
            _replace(graph, anchors, steps, outputs)


def _is_product(node: Node | None) -> bool:
    if (
        node is None
        or node.op != "matmul"
        or node.weight_only
        or node.output.dtype not in ("float32", "float64")
    ):
        return False
    source, weight = node.args
    matrices = len(source.shape) == len(weight.shape) == 2
    return matrices and weight.weight_only and min(source.size, weight.size) > 0


def _is_anchor(node: Node) -> bool:
    return _is_product(node) or _half_of(node) is not None


def _half_of(node: Node) -> int | None:
    """Return which half of the columns of its operand a node takes, 0 or 1; None if it does not."""
    if node.op != "strided_slice":
        return None
    whole, part = node.args[0], node.output
    access = moved(node, stored(whole))
    columns = part.shape[-1] if part.shape else 0
    if access is None or not columns or whole.shape != (*part.shape[:-1], 2 * columns):
        return None
    same = access.strides == stored(whole).strides and access.offset in (0, columns)
    return access.offset // columns if same else None


def _replace(graph: Graph, anchors: Sequence[Node], steps: list[Node], outputs: set[Tensor]) -> None:
    if all(map(_is_product, anchors)):
        halves = [
            _Half(anchor.args[0], anchor.args[1], anchor.output, [], [anchor], []) for anchor in anchors
        ]
    else:
        halves = _halves(anchors, outputs)
    if len(halves) != 2 or len({half.source for half in halves}) != 1:
        return
    first, second = halves
    if first.weight.shape != second.weight.shape or first.result.dtype != second.result.dtype:
        return
    every = [*first.steps, *second.steps, *steps]
    products = first.result, second.result
    others = other_operands(every, products, products[0].shape)
    if others is None:
        return
    meeting = steps[-1]
    node = PairedProducts(
        "torch_tvm.paired_products",
        (first.source, first.weight, second.weight, *others),
        meeting.call,
        meeting.index,
        meeting.outputs,
        products=products,
        steps=every,
    )
    gone = list(dict.fromkeys([*first.gone, *second.gone, *steps]))
    made = list(dict.fromkeys([*first.made, *second.made]))
    position = graph.nodes.index(gone[0])
    graph.nodes[position:position] = made
    substitute(graph, gone, node)
    for new in made:
        new.args[0].users.append(new)
    for index, other in enumerate(graph.nodes):
        other.index = index


def _halves(slices: Sequence[Node], outputs: set[Tensor]) -> list[_Half]:
    """Divide the product that two slices are halves of; nothing if it is none, or is needed as a whole."""
    whole = slices[0].args[0]
    if {_half_of(node) for node in slices} != {0, 1} or slices[1].args[0] is not whole:
        return []
    chain: list[Node] = []
    readers: set[Node] = set(slices)
    tensor = whole
    while tensor.node is not None:
        node = tensor.node
        if tensor in outputs or not is_private([tensor], readers):
            return []
        chain.insert(0, node)
        readers = {node}
        if _is_product(node):
            return [_half(chain, part) for part in slices]
        keeps_columns = node.op == "reshape" and node.args[0].shape[-1:] == tensor.shape[-1:]
        if not keeps_columns and _bias(node) is None:
            return []
        tensor = node.args[0] if keeps_columns or not node.args[0].weight_only else node.args[1]
    return []


def _bias(node: Node) -> Tensor | None:
    """Return the vector of weights that an addition adds to every row."""
    if node.op != "add":
        return None
    columns = node.output.shape[-1] if node.output.shape else 0
    vectors = [arg for arg in node.args if arg.weight_only and arg.size == columns == arg.shape[-1]]
    return vectors[0] if len(vectors) == 1 else None


def _half(chain: Sequence[Node], part: Node) -> _Half:
    """Compute half of the columns of a chain of a product, reshapes and biases."""
    product, *behind = chain
    columns = part.output.shape[-1]
    begin = (_half_of(part) or 0) * columns
    made = [_columns(product.args[1], begin, columns)]
    rows = product.output.shape[0]
    result = value = Tensor("node", (rows, columns), product.output.dtype)
    steps: list[Node] = []
    for node in behind:
        bias = _bias(node)
        if bias is not None:
            made.append(_columns(bias, begin, columns))
        args = (value,) if bias is None else (value, made[-1].output)
        shape = (*node.output.shape[:-1], columns)
        value = Tensor("node", shape, result.dtype)
        steps.append(Node(node.op, args, node.call, node.index, [value]))
        value.node = steps[-1]
    # What f begins with is the slice's output.
    if steps:
        steps[-1].outputs[:] = [part.output]
        part.output.node = steps[-1]
    else:
        result = part.output
    return _Half(product.args[0], made[0].output, result, steps, [*chain, part], made)


def _columns(weight: Tensor, begin: int, count: int) -> Node:
    """Take some columns of weights."""
    axis = len(weight.shape) - 1
    variable = relax.Var("operand", relax.TensorType(list(weight.shape), weight.dtype))
    node = Node(
        "strided_slice", (weight,), relax.op.strided_slice(variable, [axis], [begin], [begin + count]), 0
    )
    node.outputs.append(Tensor("node", (*weight.shape[:-1], count), weight.dtype, 0, True, node))
    return node
