"""The optimised dataflow block as plain nodes and tensors: what fusion and lowering look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
from tvm import relax

from .rewrite import is_constant, op_name, size_of, static_shape


@dataclass(eq=False)
class Tensor:
    """One value: a parameter, a constant, or what a node computes.

    Attributes
    ----------
    kind
        "input", "weight", "constant" or "node".
    index
        Which input or weight; which output of its node.
    weight_only
        Whether it depends on weights and constants alone.
    data
        Value of a constant.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    index: int = 0
    weight_only: bool = False
    node: Node | None = None
    data: np.ndarray | None = None
    users: list[Node] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Count of elements."""
        return size_of(self.shape)

    @property
    def scalar(self) -> Any | None:
        """Value of a constant of one element, else None."""
        return self.data.reshape(()).item() if self.data is not None and self.data.size == 1 else None


@dataclass(eq=False)
class Node:
    """One call: its operator's name without prefix, operands (tuples flattened), attributes, results."""

    op: str
    args: tuple[Tensor, ...]
    call: relax.Call
    index: int
    outputs: list[Tensor] = field(default_factory=list)

    @property
    def attrs(self) -> Any:
        """Attributes of the call."""
        return self.call.attrs

    @property
    def output(self) -> Tensor:
        """The result of a node that has one."""
        return self.outputs[0]

    @property
    def results(self) -> Sequence[Tensor]:
        """What a kernel that the node anchors has in registers before it computes anything element-wise."""
        return self.outputs[:1]

    @property
    def absorbed(self) -> Sequence[Node]:
        """Element-wise nodes that compute the node's output from its results, and are nowhere in the graph."""
        return ()

    @property
    def weight_only(self) -> bool:
        """Whether its results depend on weights and constants alone."""
        return all(arg.weight_only for arg in self.args)


@dataclass
class Graph:
    """Nodes in order, parameters and results of the function."""

    inputs: list[Tensor]
    weights: list[Tensor]
    nodes: list[Node]
    outputs: list[Tensor]


class _Reader:
    def __init__(self) -> None:
        self.tensors: dict[relax.Var, Tensor | list[Tensor]] = {}
        self.nodes: list[Node] = []

    def parameter(self, var: relax.Var, kind: str, index: int) -> Tensor:
        tensor = Tensor(kind, static_shape(var), str(var.ty.dtype), index, weight_only=kind == "weight")
        self.tensors[var] = tensor
        return tensor

    def tensors_of(self, expr: relax.Expr) -> list[Tensor]:
        """Read an operand; a tuple gives its members."""
        if isinstance(expr, relax.Tuple):
            return [t for member in expr.fields for t in self.tensors_of(member)]
        if is_constant(expr):
            data = expr.value.numpy()
            return [Tensor("constant", data.shape, str(expr.ty.dtype), weight_only=True, data=data)]
        if isinstance(expr, relax.Var):
            value = self.tensors[expr]
            return value if isinstance(value, list) else [value]
        return []

    def bind(self, var: relax.Var, value: relax.Expr) -> None:
        if isinstance(value, relax.Call):
            self.tensors[var] = self._call(value)
        elif isinstance(value, relax.TupleGetItem):
            self.tensors[var] = self.tensors_of(value.tuple_value)[value.index]
        else:
            found = self.tensors_of(value)
            self.tensors[var] = found if isinstance(value, relax.Tuple) else found[0]

    def _call(self, call: relax.Call) -> Tensor | list[Tensor]:
        args = tuple(t for arg in call.args for t in self.tensors_of(arg))
        node = Node(op_name(call), args, call, len(self.nodes))
        several = isinstance(call.ty, relax.TupleType)
        types = list(call.ty.fields) if several else [call.ty]
        for i, ty in enumerate(types):
            shape = tuple(int(d) for d in ty.shape.values)
            node.outputs.append(Tensor("node", shape, str(ty.dtype), i, node.weight_only, node))
        for arg in dict.fromkeys(args):
            arg.users.append(node)
        self.nodes.append(node)
        return node.outputs if several else node.output


def read_graph(module: tvm.IRModule, num_inputs: int) -> Graph:
    """Read ``main`` of a module, one dataflow block that returns a tuple of tensors."""
    function = module["main"]
    reader = _Reader()
    inputs = [reader.parameter(p, "input", i) for i, p in enumerate(function.params[:num_inputs])]
    weights = [reader.parameter(p, "weight", i) for i, p in enumerate(function.params[num_inputs:])]
    for block in function.body.blocks:
        for binding in block.bindings:
            reader.bind(binding.var, binding.value)
    outputs = reader.tensors_of(function.body.body)
    return Graph(inputs, weights, reader.nodes, outputs)
