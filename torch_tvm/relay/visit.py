"""What expressions, patterns and types are made of."""

from __future__ import annotations

from torch_tvm.relay.adt import Match, Pattern, PatternConstructor, PatternTuple, PatternVar
from torch_tvm.relay.expr import (
    Call,
    Expr,
    Function,
    If,
    Let,
    RefCreate,
    RefRead,
    RefWrite,
    Tuple,
    TupleGetItem,
    Var,
)


def operands(expr: Expr) -> list[Expr]:
    """Return the expressions that one is made of: callee and operands, fields, branches, body; no parameters."""
    if isinstance(expr, Call):
        return [expr.op, *expr.args]
    if isinstance(expr, Tuple):
        return list(expr.fields)
    if isinstance(expr, TupleGetItem):
        return [expr.tuple]
    if isinstance(expr, Let):
        return [expr.value, expr.body]
    if isinstance(expr, If):
        return [expr.cond, expr.true_branch, expr.false_branch]
    if isinstance(expr, Function):
        return [expr.body]
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
