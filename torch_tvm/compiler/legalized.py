"""Operators that no kernel generator takes: one function each, made by TVM's legalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import tvm
import tvm_ffi
from tvm import relax, tirx

from torch_tvm.kernels import extent, generic, tir
from torch_tvm.kernels.extent import Size
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
    """Replaces the tensors in a call's arguments by fresh parameters, in order, of the given shapes."""

    def __init__(self, shapes: Sequence[Sequence[Size]]) -> None:
        self.params: list[relax.Var] = []
        self._shapes = shapes

    def _parameter(self, ty: relax.TensorType) -> relax.Var:
        shape = tir.expressions(self._shapes[len(self.params)])
        self.params.append(relax.Var(f"a{len(self.params)}", relax.TensorType(shape, str(ty.dtype))))
        return self.params[-1]

    def replace(self, expr: relax.Expr) -> relax.Expr:
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.replace(field) for field in expr.fields])
        if isinstance(expr, relax.Var) and isinstance(expr.ty, relax.TupleType):
            return relax.Tuple([self._parameter(ty) for ty in expr.ty.fields])
        return self._parameter(expr.ty) if isinstance(expr, relax.Var) or is_constant(expr) else expr


@dataclass(frozen=True)
class LegalCall:
    """A call of an operator that TVM's legalisation makes code for.

    Attributes
    ----------
    text
        The operator, its attributes, and those of its arguments that are no tensors.
    shapes
        Shapes of its tensor operands.
    call
        The call itself.
    """

    text: str
    shapes: tuple[tuple[Size, ...], ...]
    call: relax.Call = field(compare=False)

    def legalised(self) -> tvm.IRModule:
        """Return a function that does nothing but the call, legalised."""
        operands = _Operands(self.shapes)
        arguments = [operands.replace(argument) for argument in self.call.args]
        call = relax.Call(self.call.op, arguments, self.call.attrs, self.call.ty_args)
        builder = relax.BlockBuilder()
        with builder.function("main", operands.params):
            with builder.dataflow():
                result = builder.emit_output(call)
            builder.emit_func_output(result)
        return relax.transform.LegalizeOps()(builder.get())


def _legal_call(node: Node) -> LegalCall:
    others = [
        str(argument)
        for argument in node.call.args
        if not isinstance(argument, relax.Tuple | relax.Var) and not is_constant(argument)
    ]
    text = f"{node.op} {node.attrs} {others} {[arg.dtype for arg in node.args]}"
    return LegalCall(text, tuple(arg.shape for arg in node.args), node.call)


def _functions(module: tvm.IRModule) -> list[tirx.PrimFunc]:
    """Return the functions that a legalised call consists of, in order."""
    return [
        module[binding.value.args[0]]
        for block in module["main"].body.blocks
        for binding in block.bindings
        if isinstance(binding.value, relax.Call) and op_name(binding.value) == "call_tir"
    ]


def legalized_launches(
    lowerer: Lowerer, node: Node, inputs: Sequence[Argument], outputs: Sequence[Argument]
) -> None:
    """Append the launches of a node's legalised functions."""
    call = _legal_call(node)
    legal = call.legalised()
    main = legal["main"]
    launched = 0
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
            (call, launched),
            partial(
                _build,
                call=call,
                position=launched,
                tensors=tuple((a.shape, a.dtype) for a in (*arguments, *values[binding.var])),
                made=_Made(function),
                target=lowerer.target,
                threads=lowerer.threads,
            ),
            arguments,
            values[binding.var],
            packing=node.weight_only,
        )
        launched += 1


@dataclass(frozen=True)
class _Made:
    """A function of a call that is at hand already; it says nothing that the call does not."""

    function: tirx.PrimFunc = field(compare=False)


def _build(
    *,
    call: LegalCall,
    position: int,
    tensors: tuple[tuple[tuple[Size, ...], str], ...],
    made: _Made,
    target: CpuTarget,
    threads: int,
    name: str,
) -> tirx.PrimFunc:
    """Build function number `position` of a call, whose operands and results are `tensors`."""
    dims = sorted({dim.name for shape in call.shapes for size in shape for dim in extent.dims(size)})
    if not dims:
        return _unaligned(generic.schedule(made.function, target, threads))
    variables = {f"size_{dim}": tirx.Var(f"size_{dim}", "int64") for dim in dims}
    with extent.bound({dim: variables[f"size_{dim}"] for dim in dims}):
        function = generic.schedule(_functions(call.legalised())[position], target, threads)
        function = _with_scalars(_unaligned(function), variables)
        _check_shapes(function, [shape for shape, _ in tensors])
    return function.with_attrs(tir.symbolic_attributes(dims, tensors)).with_attr("global_symbol", name)


def _with_scalars(function: tirx.PrimFunc, variables: Mapping[str, tirx.Var]) -> tirx.PrimFunc:
    """Let the sizes in the shapes of a function's tensors be its last parameters."""

    def own(var: tvm.ir.Var) -> tvm.ir.Var:
        return variables.get(var.name, var)

    function = tvm_ffi.structural_map(function, (tvm.ir.Var, own))
    tensors = [parameter for parameter in function.params if isinstance(parameter.ty, tirx.BufferType)]
    return tirx.PrimFunc([*tensors, *variables.values()], function.body, function.ret_type, function.attrs)


def _check_shapes(function: tirx.PrimFunc, shapes: Sequence[Sequence[Size]]) -> None:
    """Raise ValueError unless a function's tensors have these shapes for all sizes."""
    analyzer = tvm.sym.Analyzer()
    for parameter, shape in zip(function.params, shapes, strict=False):
        pairs = zip(parameter.ty.shape, tir.expressions(shape), strict=True)
        if not all(analyzer.can_prove_equal(a, b) for a, b in pairs):
            raise ValueError(f"{parameter.name} of shape {parameter.ty.shape} instead of {list(shape)}")


def _argument(lowerer: Lowerer, expr: relax.Expr, values: dict[Any, list[Argument]]) -> list[Argument]:
    if is_constant(expr):
        data = expr.value.numpy()
        return [Argument(lowerer.constant(data, str(expr.ty.dtype)), data.shape, str(expr.ty.dtype))]
    return values[expr]


def _temporaries(lowerer: Lowerer, ty: relax.Type, node: Node) -> list[Argument]:
    types = list(ty.fields) if isinstance(ty, relax.TupleType) else [ty]
    arguments = []
    for each in types:
        shape = tuple(int(d) for d in each.shape.values)
        dtype = str(each.dtype)
        size = Argument(lowerer.temporary(0, False), shape, dtype).bytes
        arguments.append(Argument(lowerer.temporary(size, node.weight_only), shape, dtype))
    return arguments
