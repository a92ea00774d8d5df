"""A Relay function as a Relax function of the same meaning, one dataflow block, one to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
from tvm import relax

from torch_tvm import relay

from .operators import COMPOSITES, BindingEmitter, Lowering, UnsupportedOperatorError
from .relax_terms import attributes, lower_call, to_relax_type

Orders = Sequence[Sequence[int]]


def is_identity(order: Sequence[int]) -> bool:
    """Say whether a permutation moves nothing."""
    return list(order) == list(range(len(order)))


def inverse(order: Sequence[int]) -> list[int]:
    """Invert a permutation."""
    return sorted(range(len(order)), key=lambda i: order[i])


def composite_name(function: relay.Function) -> str | None:
    """Return what a composite function computes where the compiler takes it whole, without looking at its body."""
    name = str(function.attrs.get("Composite", ""))
    return name if name in COMPOSITES else None


class _Translator:
    """Translates expressions in evaluation order; an explicit stack, for graphs deeper than Python's."""

    def __init__(self, emitter: BindingEmitter) -> None:
        self._emitter = emitter
        self._values: dict[Any, Any] = {}
        self._constants: dict[Any, Any] = {}

    def bind(self, var: relay.Var, value: relax.Expr) -> None:
        self._values[var] = value

    def translate(self, root: relay.Expr) -> relax.Expr:
        stack: list[tuple[Any, bool]] = [(root, False)]
        while stack:
            expr, operands_done = stack.pop()
            if expr in self._values:
                continue
            if operands_done:
                self._values[expr] = self._value(expr)
                continue
            stack.append((expr, True))
            stack += [(operand, False) for operand in reversed(self._operands(expr))]
        return self._values[root]

    def _operands(self, expr: relay.Expr) -> list[relay.Expr]:
        if isinstance(expr, relay.Call):
            return list(expr.args)
        if isinstance(expr, relay.Tuple):
            return list(expr.fields)
        if isinstance(expr, relay.TupleGetItem):
            return [expr.tuple]
        if isinstance(expr, relay.Let):
            self.bind(expr.var, self.translate(expr.value))
            return [expr.body]
        return []

    def _value(self, expr: relay.Expr) -> relax.Expr:
        if isinstance(expr, relay.Constant):
            data = expr.numpy()
            self._constants[expr] = data
            return relax.const(data, str(data.dtype))
        if isinstance(expr, relay.Tuple):
            return relax.Tuple([self._values[field] for field in expr.fields])
        if isinstance(expr, relay.TupleGetItem):
            value = self._values[expr.tuple]
            if isinstance(value, relax.Tuple):
                return value.fields[expr.index]
            return self._emitter.emit(relax.TupleGetItem(value, int(expr.index)))
        if isinstance(expr, relay.Let):
            return self._values[expr.body]
        if isinstance(expr, relay.Call):
            return self._call(expr)
        if isinstance(expr, relay.Var):
            raise ValueError(f"variable %{expr.name_hint} is used but never bound")
        kind = type(expr).__name__
        raise UnsupportedOperatorError(f"a plan is straight-line code; {kind} cannot stand in it")

    def _call(self, expr: relay.Call) -> relax.Expr:
        args = [self._values[arg] for arg in expr.args]
        if isinstance(expr.op, relay.Function):
            composite = composite_name(expr.op)
            if composite is not None:
                return self._lowered(composite, args, expr.op.attrs, expr.args)
            for param, arg in zip(expr.op.params, args, strict=True):
                self.bind(param, arg)
            return self.translate(expr.op.body)
        if not isinstance(expr.op, relay.Op):
            kind = type(expr.op).__name__
            raise UnsupportedOperatorError(f"only operators and functions can be called, not a {kind}")
        return self._lowered(str(expr.op.name), args, expr.attrs, expr.args)

    def _lowered(self, name: str, args: list[relax.Expr], attrs: Any, sources: Sequence[Any]) -> relax.Expr:
        """Lower a call with the table's entry for an operator, or for what a composite function says that it computes."""
        constants = [self._constants.get(source) for source in sources]
        lowering = Lowering(name, args, attributes(attrs), constants, self._emitter)
        try:
            value = lower_call(lowering)
            return value if isinstance(value, relax.Tuple | relax.Var) else self._emitter.emit(value)
        except UnsupportedOperatorError:
            raise
        except Exception as error:
            types = ", ".join(str(a.ty) for a in args)
            raise ValueError(
                f"cannot lower {lowering.name}({types}) with {lowering.attrs}: {error}"
            ) from error


def _reordered(ty: relax.Type, order: Sequence[int]) -> relax.Type:
    dims = list(ty.shape.values)
    if sorted(order) != list(range(len(dims))):
        raise ValueError(f"order {list(order)} is no permutation of the {len(dims)} dims of {ty}")
    return relax.TensorType([dims[i] for i in order], ty.dtype)


def relay_to_relax(
    function: relay.Function, num_inputs: int, input_orders: Orders, output_orders: Orders
) -> tvm.IRModule:
    """Translate a Relay function.

    Parameters
    ----------
    function
        Runtime inputs first, then weights; its body is one tensor or a tuple of tensors.
    num_inputs
        How many of the parameters are runtime inputs.
    input_orders, output_orders
        For each input and output its dims from the outermost to the innermost in memory. The Relax
        function takes and gives tensors whose dims stand in that order.

    Returns
    -------
    tvm.IRModule
        A module whose ``main`` returns a tuple of tensors.

    """
    builder = relax.BlockBuilder()
    params: list[relax.Var] = []
    for i, param in enumerate(function.params):
        if param.type_annotation is None:
            raise ValueError(f"parameter %{param.name_hint} has no type")
        ty = to_relax_type(param.type_annotation)
        if i < num_inputs:
            ty = _reordered(ty, input_orders[i])
        params.append(relax.Var(f"input{i}" if i < num_inputs else f"weight{i - num_inputs}", ty))
    with builder.function("main", params):
        with builder.dataflow():
            emitter = BindingEmitter(builder)
            translator = _Translator(emitter)
            for i, (source, param) in enumerate(zip(function.params, params, strict=True)):
                value: relax.Expr = param
                if i < num_inputs and not is_identity(input_orders[i]):
                    value = emitter.emit(relax.op.permute_dims(param, inverse(input_orders[i])))
                translator.bind(source, value)
            body = translator.translate(function.body)
            outputs = list(body.fields) if isinstance(body, relax.Tuple) else [body]
            if len(outputs) != len(output_orders):
                raise ValueError(
                    f"the function has {len(outputs)} outputs, got {len(output_orders)} output orders"
                )
            results = [
                value if is_identity(order) else emitter.emit(relax.op.permute_dims(value, list(order)))
                for value, order in zip(outputs, output_orders, strict=True)
            ]
            result = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(result)
    return builder.get()
