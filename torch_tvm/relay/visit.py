"""What expressions, attributes and patterns are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tvm_ffi

from torch_tvm.relay.adt import Match, Pattern, PatternConstructor, PatternTuple, PatternVar
from torch_tvm.relay.expr import (
    Call,
    Constant,
    Expr,
    Function,
    If,
    Let,
    Op,
    RefCreate,
    RefRead,
    RefWrite,
    Tuple,
    TupleGetItem,
    Var,
)
from torch_tvm.relay.op import TABLE

# Operators with attributes that may hold expressions: classes of their own, fields of kind Expr or object.
_MAY_HOLD_EXPRESSIONS = frozenset(
    str(info.name)
    for info in TABLE.values()
    if info.attrs_key == "DictAttrs" or any(attr.kind in ("object", "Expr") for attr in info.attrs)
)


def _in_value(value: Any) -> Iterator[Expr]:
    if isinstance(value, Expr):
        if not isinstance(value, Constant):
            yield value
    elif isinstance(value, tvm_ffi.Array):
        for item in value:
            yield from _in_value(item)


def attribute_expressions(expr: Call | Function) -> list[Expr]:
    """Return the expressions that attributes hold. A constant is a value and none of them."""
    if isinstance(expr, Call) and isinstance(expr.op, Op) and str(expr.op.name) not in _MAY_HOLD_EXPRESSIONS:
        return []
    return [held for value in expr.attrs.values() for held in _in_value(value)]


def map_attributes(expr: Call | Function, replace: Callable[[Expr], Expr]) -> dict[str, Any] | None:
    """Return the attributes with other expressions in place of those that they hold; None if that changes nothing."""

    def mapped(value: Any) -> Any:
        if isinstance(value, Expr):
            return value if isinstance(value, Constant) else replace(value)
        return [mapped(item) for item in value] if isinstance(value, tvm_ffi.Array) else value

    if all(replace(held).same_as(held) for held in attribute_expressions(expr)):
        return None
    return {str(name): mapped(value) for name, value in expr.attrs.items()}


def operands(expr: Expr) -> list[Expr]:
    """Return the expressions that one is made of: callee and operands, fields, branches, body; no parameters."""
    if isinstance(expr, Call):
        return [expr.op, *expr.args, *attribute_expressions(expr)]
    if isinstance(expr, Tuple):
        return list(expr.fields)
    if isinstance(expr, TupleGetItem):
        return [expr.tuple]
    if isinstance(expr, Let):
        return [expr.value, expr.body]
    if isinstance(expr, If):
        return [expr.cond, expr.true_branch, expr.false_branch]
    if isinstance(expr, Function):
        return [expr.body, *attribute_expressions(expr)]
    if isinstance(expr, Match):
        return [expr.data, *[clause.rhs for clause in expr.clauses]]
    if isinstance(expr, RefCreate):
        return [expr.value]
    if isinstance(expr, RefRead):
        return [expr.ref]
    return [expr.ref, expr.value] if isinstance(expr, RefWrite) else []


def expressions(root: Expr) -> list[Expr]:
    """Return every expression of a program once, operands ahead of what uses them.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> x = relay.Var("x", relay.TensorType((2,), "float32"))
    >>> [type(expr).__name__ for expr in relay.expressions(relay.Function([x], relay.exp(x)))]
    ['Op', 'Var', 'Call', 'Function']
    """
    done: dict[Expr, None] = {}
    stack = [root]
    while stack:
        missing = [operand for operand in reversed(operands(stack[-1])) if operand not in done]
        if missing:
            stack += missing
        else:
            done.setdefault(stack.pop())
    return list(done)


def pattern_vars(pattern: Pattern) -> list[Var]:
    """Return the variables that a pattern binds, from left to right."""
    found: list[Var] = []
    stack = [pattern]
    while stack:
        last = stack.pop()
        if isinstance(last, PatternVar):
            found.append(last.var)
        elif isinstance(last, PatternConstructor | PatternTuple):
            stack += reversed(last.patterns)
    return found
