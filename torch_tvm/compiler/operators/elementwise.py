"""Element-wise Relay operators: unary, binary with broadcasting, where, clip, casts, activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import relax
from tvm.relax import op

from . import te_operators
from .registry import LOWERINGS, Lowering, lowers

UNARY: dict[str, Callable[[relax.Expr], relax.Expr]] = {
    "abs": op.abs,
    "acos": op.acos,
    "acosh": op.acosh,
    "asin": op.asin,
    "asinh": op.asinh,
    "atan": op.atan,
    "atanh": op.atanh,
    "bitwise_not": op.bitwise_not,
    "ceil": op.ceil,
    "cos": op.cos,
    "cosh": op.cosh,
    "erf": op.erf,
    "exp": op.exp,
    "fast_erf": op.erf,
    "fast_exp": op.exp,
    "fast_tanh": op.tanh,
    "floor": op.floor,
    "isfinite": op.isfinite,
    "isinf": op.isinf,
    "isnan": op.isnan,
    "log": op.log,
    "logical_not": op.logical_not,
    "negative": op.negative,
    "nn.relu": op.nn.relu,
    "ones_like": op.ones_like,
    "round": op.round,
    "rsqrt": op.rsqrt,
    "sigmoid": op.sigmoid,
    "sign": op.sign,
    "sin": op.sin,
    "sinh": op.sinh,
    "sqrt": op.sqrt,
    "tan": op.tan,
    "tanh": op.tanh,
    "trunc": op.trunc,
    "zeros_like": op.zeros_like,
}

BINARY: dict[str, Callable[[relax.Expr, relax.Expr], relax.Expr]] = {
    "add": op.add,
    "bitwise_and": op.bitwise_and,
    "bitwise_or": op.bitwise_or,
    "bitwise_xor": op.bitwise_xor,
    "divide": op.divide,
    "equal": op.equal,
    "floor_divide": op.floor_divide,
    "floor_mod": op.floor_mod,
    "greater": op.greater,
    "greater_equal": op.greater_equal,
    "left_shift": op.left_shift,
    "less": op.less,
    "less_equal": op.less_equal,
    "logical_and": op.logical_and,
    "logical_or": op.logical_or,
    "logical_xor": op.logical_xor,
    "maximum": op.maximum,
    "minimum": op.minimum,
    "mod": op.mod,
    "multiply": op.multiply,
    "not_equal": op.not_equal,
    "power": op.power,
    "right_shift": op.right_shift,
    "subtract": op.subtract,
}


def _unary(make: Callable[[relax.Expr], relax.Expr]) -> Callable[[Lowering], relax.Expr]:
    return lambda call: make(call.data)


def _binary(make: Callable[[relax.Expr, relax.Expr], relax.Expr]) -> Callable[[Lowering], relax.Expr]:
    def lower(call: Lowering) -> relax.Expr:
        lhs, rhs = call.args
        if call.dtype(lhs) != call.dtype(rhs):
            raise TypeError(
                f"{call.name}: operands must have one dtype, got {call.dtype(lhs)} and {call.dtype(rhs)}"
            )
        return make(lhs, rhs)

    return lower


LOWERINGS.update({name: _unary(make) for name, make in UNARY.items()})
LOWERINGS.update({name: _binary(make) for name, make in BINARY.items()})


@lowers("log2", "log10", "trunc_divide", "trunc_mod")
def _without_relax_operator(call: Lowering) -> relax.Expr:
    return te_operators.call(call.name, call.args)


@lowers("copy")
def _copy(call: Lowering) -> relax.Expr:
    return call.data


@lowers("clip")
def _clip(call: Lowering) -> relax.Expr:
    return op.clip(call.data, call.attrs["a_min"], call.attrs["a_max"])


@lowers("cast")
def _cast(call: Lowering) -> relax.Expr:
    dtype = call.attrs["dtype"]
    return call.data if dtype == call.dtype() else op.astype(call.data, dtype)


@lowers("reinterpret")
def _reinterpret(call: Lowering) -> relax.Expr:
    return te_operators.call("reinterpret", [call.data], {"dtype": call.attrs["dtype"]})


@lowers("cast_like")
def _cast_like(call: Lowering) -> relax.Expr:
    return op.astype(call.data, call.dtype(call.args[1]))


@lowers("where")
def _where(call: Lowering) -> relax.Expr:
    condition, x, y = call.args
    if call.dtype(condition) != "bool":
        condition = call.emit(op.astype(condition, "bool"))
    return op.where(condition, x, y)


@lowers("nn.leaky_relu")
def _leaky_relu(call: Lowering) -> relax.Expr:
    return op.nn.leakyrelu(call.data, call.attrs["alpha"])


@lowers("nn.prelu")
def _prelu(call: Lowering) -> relax.Expr:
    return op.nn.prelu(call.data, call.args[1], call.axis())


@lowers("nn.bias_add")
def _bias_add(call: Lowering) -> relax.Expr:
    trailing = call.rank() - 1 - call.axis()
    bias: Any = call.args[1]
    if trailing:
        bias = call.emit(op.reshape(bias, [*call.dims(bias), *[1] * trailing]))
    return op.add(call.data, bias)
