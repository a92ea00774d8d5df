"""Relay, the graph IR of TVM 0.19: expressions, operators, text, types.

Operators are called by name: ``relay.add(x, y)``, ``relay.nn.conv2d(x, w, padding=1)``; see
:mod:`torch_tvm.relay.op`.
"""

from __future__ import annotations

from typing import Any

from torch_tvm.relay import op
from torch_tvm.relay.check import check
from torch_tvm.relay.expr import (
    BoxInt,
    Call,
    Constant,
    Expr,
    Function,
    FuncType,
    GlobalVar,
    If,
    IRModule,
    Let,
    Op,
    Span,
    TensorType,
    Tuple,
    TupleGetItem,
    TupleType,
    Type,
    Var,
    const,
    expressions,
    load_json,
    save_json,
    structural_equal,
    structural_hash,
)
from torch_tvm.relay.text import ParseError, parse, parse_expr
from torch_tvm.relay.type_inference import TypeInferenceError, infer_type

__all__ = [
    "BoxInt",
    "Call",
    "Constant",
    "Expr",
    "FuncType",
    "Function",
    "GlobalVar",
    "IRModule",
    "If",
    "Let",
    "Op",
    "ParseError",
    "Span",
    "TensorType",
    "Tuple",
    "TupleGetItem",
    "TupleType",
    "Type",
    "TypeInferenceError",
    "Var",
    "check",
    "const",
    "expressions",
    "infer_type",
    "load_json",
    "op",
    "parse",
    "parse_expr",
    "save_json",
    "structural_equal",
    "structural_hash",
]


def __getattr__(name: str) -> Any:
    return op.__getattr__(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *dir(op._root)])
