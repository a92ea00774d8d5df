"""From element-wise nodes of a group to the kernels' `Expression`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from torch_tvm.kernels.expression import FLOATS, Expression, Instruction, Operand, Scalar, identity

from .access import Access, AccessMap, is_move, rebroadcast
from .fusion import Group
from .graph import Node, Tensor

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
    "torch_tvm.multiply_add": "multiply_add",
    "torch_tvm.trunc_divide": "trunc_divide",
    "torch_tvm.trunc_mod": "trunc_mod",
    "torch_tvm.reinterpret": "reinterpret",
}

SAME_NAME = frozenset(
    "add subtract multiply divide floor_divide floor_mod mod power maximum minimum equal not_equal less "
    "less_equal greater greater_equal logical_and logical_or logical_xor logical_not bitwise_and bitwise_or "
    "bitwise_xor bitwise_not left_shift right_shift where negative abs exp log sqrt rsqrt sin cos tan tanh "
    "sinh cosh asin acos atan asinh acosh atanh sigmoid erf floor ceil round trunc sign isnan isinf isfinite".split()
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


def _scalar(tensor: Tensor) -> Scalar:
    value = tensor.scalar
    assert value is not None, "only constants of one element are scalars"
    return Scalar(value, tensor.dtype)


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
        args: tuple[Value, ...] = tuple(
            _scalar(arg) if value is None else value for arg, value in zip(node.args, values, strict=True)
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
    """The tensors that an expression reads besides an anchor's result, and how.

    Attributes
    ----------
    tensors
        One for each input.
    views
        The view of each over the iteration space; None where it is stored contiguously.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.views: list[Access | None] = []


class _ExpressionMaker:
    """Describes some nodes over one iteration space as an expression."""

    def __init__(
        self,
        nodes: Sequence[Node],
        space: tuple[int, ...],
        accesses: AccessMap | None,
        order: tuple[int, ...] | None,
        *,
        unit: bool = False,
    ) -> None:
        self._unit = unit
        self._nodes = nodes
        self._space = space
        self._accesses = accesses
        self._order = order
        self._builder = _Builder(self._ordered(space))
        self._placed: dict[tuple[Tensor, tuple[int, ...]], int] = {}
        self.operands = Operands()
        self.values: dict[Tensor, Value] = {}

    def _ordered(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Permute the dims of a shape that broadcasts to the iteration space."""
        if self._order is None:
            return shape
        padded = (1,) * (len(self._space) - len(shape)) + shape
        return tuple(padded[i] for i in self._order)

    def anchor(self, result: Tensor, dtype: str) -> None:
        """Make an anchor's result, held as `dtype`, input 0."""
        self.values[result] = self._builder.input(self._ordered(self._space), dtype)

    def read_operands(self) -> None:
        inside = {t for node in self._nodes for t in node.outputs} | set(self.values)
        for node in self._nodes:
            for arg in node.args:
                if arg not in inside and arg.scalar is None:
                    self._read(arg, node)

    def _where(self, arg: Tensor, node: Node) -> tuple[int, ...]:
        shape = rebroadcast(arg.shape, node.output.shape, self._space)
        if shape is None:
            raise AssertionError(f"{node.op}: an operand of shape {arg.shape} cannot join its group")
        return shape

    def _read(self, arg: Tensor, node: Node) -> None:
        where = self._where(arg, node)
        if (arg, where) in self._placed:
            return
        view = None
        if self._accesses is not None:
            _, access = self._accesses.of(arg)
            if not access.contiguous:
                view = access.broadcast(node.output.shape).reshaped(self._space)
            if view is not None and self._unit and view.strides[-1:] != (1,):
                view = None
        shape = self._ordered(where) if view is None else view.shape
        self._placed[arg, where] = self._builder.input(shape, arg.dtype)
        self.operands.tensors.append(arg)
        self.operands.views.append(view)

    def cast(self, tensor: Tensor) -> None:
        """Round an anchor's result, held wider, to its own dtype."""
        self.values[tensor] = self._builder.emit("cast", (self.values[tensor],), tensor.dtype)

    def compute(self) -> None:
        for node in self._nodes:
            args = tuple(self._value(arg, node) for arg in node.args)
            moved = is_move(node)
            self.values[node.output] = args[0] if moved else _instruction(node, args, self._builder.emit)

    def _value(self, arg: Tensor, node: Node) -> Value:
        if arg in self.values:
            return self.values[arg]
        if arg.scalar is not None:
            return _scalar(arg)
        return self._placed[arg, self._where(arg, node)]

    def finish(self, output: Tensor) -> Expression:
        return self._builder.finish(self.values[output])


def stand_alone(group: Group, accesses: AccessMap) -> tuple[Expression, Operands]:
    """Describe a group of element-wise nodes; operands may be strided views of what is stored."""
    maker = _ExpressionMaker(group.nodes, group.shape, accesses, None)
    maker.read_operands()
    maker.compute()
    return maker.finish(group.output), maker.operands


def source(group: Group, accesses: AccessMap) -> tuple[Expression, Operands]:
    """Describe how an anchor's first operand is computed; the identity of it where the group does not."""
    data = group.root.args[0]
    if group.source:
        maker = _ExpressionMaker(group.source, data.shape, accesses, None)
        maker.read_operands()
        maker.compute()
        return maker.finish(data), maker.operands
    operands = Operands()
    _, access = accesses.of(data)
    operands.tensors.append(data)
    operands.views.append(None if access.contiguous else access)
    return identity(data.shape, data.dtype), operands


def between(
    steps: Sequence[Node], first: Tensor, last: Tensor, space: tuple[int, ...], accesses: AccessMap | None
) -> tuple[Expression, Operands]:
    """Describe the element-wise nodes that lead from one tensor, input 0, to another over an iteration space.

    With `accesses` operands may be strided views of what is stored, whose last dim is contiguous.
    """
    maker = _ExpressionMaker(steps, space, accesses, None, unit=True)
    maker.anchor(first, first.dtype)
    maker.read_operands()
    maker.compute()
    return maker.finish(last), maker.operands


def epilogue(
    group: Group, held: str | None = None, accesses: AccessMap | None = None, *, unit: bool = False
) -> tuple[Expression, Operands]:
    """Describe the element-wise nodes behind an anchor; the first inputs are the anchor's results, held as `held`.

    With `accesses` operands may be strided views of what is stored (`unit`: whose last dim is contiguous), else they are
    contiguous.
    """
    result = group.root.output
    maker = _ExpressionMaker(group.behind, group.shape, accesses, group.order, unit=unit)
    for each in group.root.results:
        maker.anchor(each, held or each.dtype)
    maker.read_operands()
    if held is not None and held != result.dtype:
        maker.cast(result)
    maker.compute()
    return maker.finish(group.output), maker.operands
