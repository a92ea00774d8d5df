"""Composite functions of Relay that are all steps of a recurrent layer, as one Relax operator each."""

from __future__ import annotations

from typing import Any

from tvm import ir, relax
from tvm.ir import _ffi_api as ir_api

from .registry import Lowering, lowers
from .te_operators import PREFIX, call

CELLS = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def _register(cell: str) -> None:
    name = PREFIX + cell
    ir_api.RegisterOp(name, f"all steps of {cell} in one direction")

    def infer_type(node: relax.Call, _: Any) -> relax.Type:
        inputs, hidden, *others = (arg.ty for arg in node.args)
        states = [hidden, others[0]] if cell == "lstm" else [hidden]
        shapes = [[inputs.shape.values[0], *hidden.shape.values], *(state.shape.values for state in states)]
        return relax.TupleType([relax.TensorType(shape, inputs.dtype) for shape in shapes])

    ir.register_op_attr(name, "FInferType", infer_type)
    ir.register_op_attr(name, "FPurity", True)


for _cell in CELLS:
    _register(_cell)


@lowers(*(PREFIX + cell for cell in CELLS))
def _recurrent(given: Lowering) -> relax.Expr:
    attrs = {"reverse": bool(given.attrs["reverse"]), "rounded": str(given.attrs["rounded"])}
    return call(given.name.removeprefix(PREFIX), given.args, attrs)
