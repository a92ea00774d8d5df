"""A reference evaluator of Relay: each operator as facts/relay/TYPE_RELATIONS.md describes it, on torch tensors.

It stands between the converters and the compiler, so that a converter's Relay is tested against eager PyTorch within
microseconds and without a compiler. Where TVM 0.19 would reject a call - operands of two dtypes, a shape that does not
broadcast - the evaluator does too.
"""

from __future__ import annotations

from typing import Any

import relay_eval_image  # noqa: F401  registers its operators
import relay_eval_indexing  # noqa: F401
import relay_eval_nn  # noqa: F401
import relay_eval_shape  # noqa: F401
import relay_eval_values  # noqa: F401
import torch
from relay_eval_registry import OPERATORS, plain

from torch_tvm import relay

Tensor = torch.Tensor


def evaluate(function: relay.Function, inputs: list[Tensor]) -> list[Tensor]:
    """Run a function; a tuple result gives its fields."""
    params = list(function.params)
    assert len(params) == len(inputs), f"{len(params)} parameters, {len(inputs)} inputs"
    values: dict[Any, Any] = {}
    for param, tensor in zip(params, inputs, strict=True):
        check_type(param.type_annotation, tensor)
        values[param] = tensor
    result = Evaluator(values).value(function.body)
    return list(result) if isinstance(result, tuple | list) else [result]


def operator_name(call: relay.Call) -> str:
    assert isinstance(call.op, relay.Op)
    return str(call.op.name)


def check_type(type_: Any, tensor: Tensor) -> None:
    assert list(type_.shape) == list(tensor.shape), f"{type_} for {tuple(tensor.shape)}"
    assert str(type_.dtype) == str(tensor.dtype).removeprefix("torch."), f"{type_} for {tensor.dtype}"


class Evaluator:
    """Evaluates expressions once each, operands first."""

    def __init__(self, values: dict[Any, Any]) -> None:
        self.values = values

    def value(self, root: relay.Expr) -> Any:
        stack = [root]
        while stack:
            expr = stack[-1]
            if expr in self.values:
                stack.pop()
                continue
            missing = [operand for operand in self.operands(expr) if operand not in self.values]
            if missing:
                stack += missing
                continue
            self.values[expr] = self.compute(expr)
        return self.values[root]

    def operands(self, expr: relay.Expr) -> list[relay.Expr]:
        if isinstance(expr, relay.Call):
            return list(expr.args)
        if isinstance(expr, relay.Tuple):
            return list(expr.fields)
        return [expr.tuple] if isinstance(expr, relay.TupleGetItem) else []

    def compute(self, expr: relay.Expr) -> Any:
        if isinstance(expr, relay.Constant):
            return torch.from_dlpack(expr.data)
        if isinstance(expr, relay.Tuple):
            return tuple(self.values[field] for field in expr.fields)
        if isinstance(expr, relay.TupleGetItem):
            return self.values[expr.tuple][int(expr.index)]
        assert isinstance(expr, relay.Call), f"a {type(expr).__name__} in a converter's Relay"
        args = [self.values[arg] for arg in expr.args]
        attrs = {str(key): plain(value) for key, value in expr.attrs.items()}
        return OPERATORS[operator_name(expr)](*args, **attrs)
