"""From element-wise nodes of a group to the kernels' `Expression`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from torch_tvm.kernels.expression import FLOATS, Expression, Instruction, Operand, Scalar

from .access import Access, AccessMap, is_move, rebroadcast
from .fusion import Group
from .graph import Node, Tensor
from .rewrite import op_name

Value = int | Scalar

# Relax operators whose name differs from the instruction's.
RENAMED = {
    "astype": "cast",
    "nn.relu": "relu",
    "nn.gelu": "gelu",
    "nn.gelu_tanh": "gelu_tanh",
    "nn.silu": "silu",
    "torch_tvm.log2": "log2",
    "torch_tvm.log10": "log10",
    "torch_tvm.trunc_divide": "trunc_divide",
    "torch_tvm.trunc_mod": "trunc_mod",
}

SAME_NAME = frozenset(
    "add subtract multiply divide floor_divide floor_mod mod power maximum minimum equal not_equal less "
    "less_equal greater greater_equal logical_and logical_or logical_xor logical_not bitwise_and bitwise_or "
    "bitwise_xor bitwise_not left_shift right_shift where negative abs exp log sqrt rsqrt sin cos tan tanh "
    "sinh cosh asin acos atan sigmoid erf floor ceil round trunc sign isnan isinf isfinite".split()
)

FILLED = {"zeros": 0, "ones": 1}

Emit = Callable[[str, tuple[Value, ...], str], Value]


def _bound(value: float, dtype: str) -> Scalar:
    """Make a bound of clip; one beyond an integer type's range becomes the end of the range."""
    if dtype in FLOATS:
        return Scalar(value, dtype)
    info = np.iinfo(dtype)
    if value <= info.min:
        return Scalar(int(info.min), dtype)
    return Scalar(int(info.max) if value >= info.max else math.trunc(value), dtype)


def _instruction(node: Node, args: tuple[Value, ...], emit: Emit) -> Value:
    """Emit the instructions of one node and return the value that it computes."""
    op, dtype = node.op, node.output.dtype
    if op in SAME_NAME or op in RENAMED:
        return emit(RENAMED.get(op, op), args, dtype)
    if op == "nn.leakyrelu":
        return emit("leaky_relu", (args[0], Scalar(float(node.attrs.alpha), dtype)), dtype)
    if op == "square":
        return emit("multiply", (args[0], args[0]), dtype)
    if op == "clip":
        low, high = (_bound(float(bound.value), dtype) for bound in node.call.args[1:3])
        return emit("clip", (args[0], low, high), dtype)
    if op == "full":
        return args[0]
    return Scalar(FILLED[op], dtype)


OPERATORS = {*SAME_NAME, *RENAMED, *FILLED, "nn.leakyrelu", "square", "clip", "full"}


class _Builder:
    """Collects the inputs and instructions of one expression."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.inputs: list[Operand] = []
        self.instructions: list[Instruction] = []

    def input(self, shape: tuple[int, ...], dtype: str) -> int:
        assert not self.instructions, "inputs are numbered before instructions"
        self.inputs.append(Operand(shape, dtype))
        return len(self.inputs) - 1

    def emit(self, op: str, args: tuple[Value, ...], dtype: str) -> int:
        self.instructions.append(Instruction(op, args, dtype))
        return len(self.inputs) + len(self.instructions) - 1

    def finish(self, value: Value) -> Expression:
        if isinstance(value, Scalar):
            value = self.emit("cast", (value,), value.dtype)
        return Expression(tuple(self.inputs), tuple(self.instructions), (value,), self.shape)


@functools.lru_cache(maxsize=4096)
def _accepted(key: tuple[Any, ...], build: Callable[[], Expression]) -> bool:
    try:
        build()
    except ValueError:
        return False
    return True


class _Key:
    """Wraps a node so that equal operators on equal dtypes and constants are checked once."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def __call__(self) -> Expression:
        node, builder = self.node, _Builder(())
        values = [None if arg.scalar is not None else builder.input((), arg.dtype) for arg in node.args]
        args = tuple(
            Scalar(arg.scalar, arg.dtype) if value is None else value
            for arg, value in zip(node.args, values, strict=True)
        )
        return builder.finish(_instruction(node, args, builder.emit))

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key)


def is_elementwise(node: Node) -> bool:
    """Say whether a node can be computed inside an `Expression`."""
    if node.op not in OPERATORS:
        return False
    attrs = str(node.attrs) if node.op in ("nn.leakyrelu",) else ""
    bounds = tuple(float(b.value) for b in node.call.args[1:3]) if node.op == "clip" else ()
    key = (node.op, node.output.dtype, attrs, bounds, tuple((a.dtype, repr(a.scalar)) for a in node.args))
    return _accepted(key, _Key(node))


class Operands:
    """The tensors that a group's expression reads, and how."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.views: list[Access | None] = []


def _placed(arg: Tensor, node: Node, group: Group) -> tuple[int, ...]:
    shape = rebroadcast(arg.shape, node.output.shape, group.shape)
    if shape is None:
        raise AssertionError(f"{op_name(node.call)}: an operand of shape {arg.shape} cannot join its group")
    return shape


def build_expression(
    group: Group, accesses: AccessMap | None = None, order: tuple[int, ...] | None = None
) -> tuple[Expression, Operands]:
    """Describe the element-wise nodes of a group.

    Parameters
    ----------
    group
        The group; if it is anchored, the expression's input 0 is the anchor's result.
    accesses
        Given, operands may be strided views of what is stored; otherwise they are contiguous.
    order
        Permutation that the anchor applies to its result, and so to the iteration space.

    Returns
    -------
    tuple of Expression and Operands
        Operands has one tensor for each input of the expression but the anchor's result, and, with
        `accesses`, the view of each.
    """
    shape = tuple(group.shape[i] for i in order) if order else group.shape
    builder, operands = _Builder(shape), Operands()
    values: dict[Tensor, Value] = {}
    placed: dict[tuple[Tensor, tuple[int, ...]], int] = {}
    if group.anchored:
        values[group.root.output] = builder.input(shape, group.root.output.dtype)
    inside = {t for node in group.nodes for t in node.outputs}
    nodes = [n for n in group.nodes if not (group.anchored and n is group.root)]
    for node in nodes:
        for arg in node.args:
            if arg in inside or arg.scalar is not None:
                continue
            where = _placed(arg, node, group)
            if (arg, where) not in placed:
                view = _view(arg, node, group, accesses) if accesses is not None else None
                if order:
                    padded = (1,) * (len(group.shape) - len(where)) + where
                    where_now = tuple(padded[i] for i in order)
                else:
                    where_now = where if view is None else view.shape
                placed[arg, where] = builder.input(where_now, arg.dtype)
                operands.tensors.append(arg)
                operands.views.append(view)
    for node in nodes:
        args = tuple(
            values[arg]
            if arg in inside
            else Scalar(arg.scalar, arg.dtype)
            if arg.scalar is not None
            else placed[arg, _placed(arg, node, group)]
            for arg in node.args
        )
        values[node.output] = args[0] if is_move(node) else _instruction(node, args, builder.emit)
    return builder.finish(values[group.output]), operands


def _view(arg: Tensor, node: Node, group: Group, accesses: AccessMap) -> Access | None:
    """Access of an operand over the whole iteration space; None where it is stored contiguously."""
    _, access = accesses.of(arg)
    if access.contiguous:
        return None
    return access.broadcast(node.output.shape).reshaped(group.shape)
