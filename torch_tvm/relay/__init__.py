"""Relay, the graph IR of TVM 0.19: expressions, operators, text, types.

Operators are called by name: ``relay.add(x, y)``, ``relay.nn.conv2d(x, w, padding=1)``; see
:mod:`torch_tvm.relay.op`.
"""

from __future__ import annotations

from typing import Any

from torch_tvm.relay import op
from torch_tvm.relay.adt import (
    Clause,
    Constructor,
    IRModule,
    Match,
    Pattern,
    PatternConstructor,
    PatternTuple,
    PatternVar,
    PatternWildcard,
    TypeData,
)
from torch_tvm.relay.check import check
from torch_tvm.relay.expr import (
    BoxInt,
    Call,
    Constant,
    Expr,
    Function,
    GlobalVar,
    If,
    Let,
    Op,
    RefCreate,
    RefRead,
    RefWrite,
    Span,
    Tuple,
    TupleGetItem,
    Var,
    VirtualDevice,
    const,
    load_json,
    save_json,
    structural_equal,
    structural_hash,
)
from torch_tvm.relay.text import ParseError, parse, parse_expr
from torch_tvm.relay.ty import (
    FuncType,
    GlobalTypeVar,
    IncompleteType,
    RefType,
    Size,
    SizeVar,
    TensorType,
    TupleType,
    Type,
    TypeCall,
    TypeKind,
    TypeVar,
)
from torch_tvm.relay.type_inference import TypeInferenceError, infer_type
from torch_tvm.relay.visit import expressions

__all__ = [
    "BoxInt",
    "Call",
    "Clause",
    "Constant",
    "Constructor",
    "Expr",
    "FuncType",
    "Function",
    "GlobalTypeVar",
    "GlobalVar",
    "IRModule",
    "If",
    "IncompleteType",
    "Let",
    "Match",
    "Op",
    "ParseError",
    "Pattern",
    "PatternConstructor",
    "PatternTuple",
    "PatternVar",
    "PatternWildcard",
    "RefCreate",
    "RefRead",
    "RefType",
    "RefWrite",
    "Size",
    "SizeVar",
    "Span",
    "TensorType",
    "Tuple",
    "TupleGetItem",
    "TupleType",
    "Type",
    "TypeCall",
    "TypeData",
    "TypeInferenceError",
    "TypeKind",
    "TypeVar",
    "Var",
    "VirtualDevice",
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
