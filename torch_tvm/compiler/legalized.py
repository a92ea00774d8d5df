"""Operators that no kernel generator takes: one function each, made by TVM's legalisation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import tvm
import tvm_ffi
from tvm import relax, tirx

from torch_tvm.kernels import generic
from torch_tvm.kernels.target import CpuTarget

from .graph import Node
from .launch import Argument, element_bytes
from .operators import UnsupportedOperatorError
from .rewrite import is_constant, op_name

if TYPE_CHECKING:
    from .lower_kernels import Lowerer


def _unaligned(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Promise no more than elements' alignment of the parameters; torch tensors begin anywhere."""
    loose = {
        buffer: tirx.decl_buffer(
            buffer.shape, str(buffer.dtype), buffer.name, data_alignment=element_bytes(str(buffer.dtype))
        )
        for buffer in function.params
    }
    return tvm_ffi.structural_map(function, (tvm.ir.Var, lambda var: loose.get(var, var)))


class _Operands:
    """Replaces the tensors in a call's arguments by fresh parameters, in order."""

    def __init__(self) -> None:
        self.params: list[relax.Var] = []

    def replace(self, expr: relax.Expr) -> relax.Expr:
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.replace(field) for field in expr.fields])
        if is_constant(expr):
            self.params.append(relax.Var(f"a{len(self.params)}", expr.ty))
            return self.params[-1]
        if isinstance(expr, relax.Var):
            types = list(expr.ty.fields) if isinstance(expr.ty, relax.TupleType) else [expr.ty]
            new = [relax.Var(f"a{len(self.params) + i}", ty) for i, ty in enumerate(types)]
            self.params += new
            return relax.Tuple(new) if isinstance(expr.ty, relax.TupleType) else new[0]
        return expr


def _module(node: Node) -> tvm.IRModule:
    """A function that does nothing but the call of a node."""
    operands = _Operands()
    call = relax.Call(
        node.call.op, [operands.replace(a) for a in node.call.args], node.attrs, node.call.ty_args
    )
    builder = relax.BlockBuilder()
    with builder.function("main", operands.params):
        with builder.dataflow():
            result = builder.emit_output(call)
        builder.emit_func_output(result)
    return builder.get()


def legalized_launches(
    lowerer: Lowerer, node: Node, inputs: Sequence[Argument], outputs: Sequence[Argument]
) -> None:
    """Append the launches of a node's legalised functions."""
    module = _module(node)
    key = str(module["main"])
    legal = relax.transform.LegalizeOps()(module)
    main = legal["main"]
    values: dict[Any, list[Argument]] = {p: [a] for p, a in zip(main.params, inputs, strict=True)}
    bindings = [b for block in main.body.blocks for b in block.bindings]
    result = main.body.body
    for position, binding in enumerate(bindings):
        value = binding.value
        if isinstance(value, relax.Var):
            values[binding.var] = values[value]
            continue
        if isinstance(value, relax.TupleGetItem):
            values[binding.var] = [values[value.tuple_value][value.index]]
            continue
        if not isinstance(value, relax.Call) or op_name(value) != "call_tir":
            raise UnsupportedOperatorError(f"TVM has no CPU code for {node.op}, it legalises to {value}")
        last = binding.var.same_as(result) or position == len(bindings) - 1
        values[binding.var] = list(outputs) if last else _temporaries(lowerer, binding.var.ty, node)
        function = legal[value.args[0]]
        arguments = [a for field in value.args[1].fields for a in _argument(lowerer, field, values)]
        lowerer.launch(
            node.op.rpartition(".")[2],
            (key, position),
            partial(_scheduled, function=function, target=lowerer.target, threads=lowerer.threads),
            arguments,
            values[binding.var],
            packing=node.weight_only,
        )


def _scheduled(*, function: tirx.PrimFunc, target: CpuTarget, threads: int, name: str) -> tirx.PrimFunc:
    return _unaligned(generic.schedule(function, target, threads)).with_attr("global_symbol", name)


def _argument(lowerer: Lowerer, expr: relax.Expr, values: dict[Any, list[Argument]]) -> list[Argument]:
    if is_constant(expr):
        data = expr.value.numpy()
        return [Argument(lowerer.constant(data, str(expr.ty.dtype)), data.shape, str(expr.ty.dtype))]
    return values[expr]


def _temporaries(lowerer: Lowerer, ty: relax.Type, node: Node) -> list[Argument]:
    types = list(ty.fields) if isinstance(ty, relax.TupleType) else [ty]
    arguments = []
    for field in types:
        shape = tuple(int(d) for d in field.shape.values)
        dtype = str(field.dtype)
        size = Argument(lowerer.temporary(0, False), shape, dtype).bytes
        arguments.append(Argument(lowerer.temporary(size, node.weight_only), shape, dtype))
    return arguments
