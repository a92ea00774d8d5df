"""Validation of programs: syntax, operators, attributes, scopes and types."""

from __future__ import annotations

from typing import Any

from torch_tvm.relay.adt import IRModule, Match
from torch_tvm.relay.expr import Expr, Function, Let, Span, Var
from torch_tvm.relay.text import parse
from torch_tvm.relay.type_inference import TypeInferenceError, infer_type
from torch_tvm.relay.visit import expressions, operands, pattern_vars

_SOURCE = "text"


def check(program: str | IRModule | Expr) -> Any:
    """Validate a program as TVM 0.19 would, and give it back with its types.

    Parameters
    ----------
    program
        Relay text, or a module or an expression. An expression other than a function may have free variables.

    Returns
    -------
    IRModule or Expr
        The program with the types that :func:`torch_tvm.relay.infer_type` finds.

    Raises
    ------
    ParseError
        If text is no Relay: a fault of syntax, an operator or attribute that TVM 0.19 does not have, an attribute of
        the wrong kind, a wrong number of operands, a variable that is used where nothing binds it, a type that nothing
        defines. Has line and column.
    TypeInferenceError
        If the types do not fit together, if a match leaves cases out, or if a function given as an object uses a variable
        that nothing binds. Of text, the message begins with line and column, as that of a ParseError.
    NotImplementedError
        If the type relation of an operator is not known.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> relay.check("fn (%x: Tensor[(2, 3), float32]) { sum(%x, axis=[1]) }").ret_type
    Tensor[(2), float32]
    >>> relay.check("fn (%x: Tensor[(2, 3), float32]) { sum(%x, axis=[2]) }")
    Traceback (most recent call last):
    torch_tvm.relay.type_solver.TypeInferenceError: line 1, column 36: sum(Tensor[(2, 3), float32]): expected axis \
in [-2, 2), got 2
    """
    if not isinstance(program, str):
        if isinstance(program, IRModule | Expr):
            _check_scopes(program)
        return infer_type(program)
    parsed = parse(program, _SOURCE)
    try:
        _check_scopes(parsed)
        return infer_type(parsed)
    except TypeInferenceError as error:
        raise TypeInferenceError(_place(error.span) + error.reason) from error


def _place(span: Span | None) -> str:
    return "" if span is None else f"line {span.line}, column {span.column}: "


def _check_scopes(program: IRModule | Expr) -> None:
    if isinstance(program, IRModule):
        for function in program.functions.values():
            _Scopes().run(function)
    elif isinstance(program, Function):
        _Scopes().run(program)


class _Scopes:
    """Finds variables that are used outside of the scope that binds them, and variables that are bound twice.

    Expressions are shared between scopes, so that what is visited once per expression is which variables it needs.
    """

    def __init__(self) -> None:
        self.free: dict[Expr, frozenset[Var]] = {}
        self.bound: set[Var] = set()

    def run(self, root: Function) -> None:
        for expr in expressions(root):
            self.free[expr] = self._needs(expr)
        for var in self.free[root]:
            raise TypeInferenceError(
                f"variable '%{var.name_hint}' is bound nowhere in the function", var.span
            )

    def _needs(self, expr: Expr) -> frozenset[Var]:
        if isinstance(expr, Var):
            return frozenset([expr])
        if isinstance(expr, Match):
            return self._match_needs(expr)
        needs = frozenset[Var]().union(*[self.free[operand] for operand in operands(expr)])
        if isinstance(expr, Let):
            recursive = isinstance(expr.value, Function)
            self._bind(expr.var)
            within = self.free[expr.body] | (self.free[expr.value] if recursive else frozenset())
            return (within - {expr.var}) | (frozenset() if recursive else self.free[expr.value])
        if isinstance(expr, Function):
            for param in expr.params:
                self._bind(param)
            return needs - set(expr.params)
        return needs

    def _match_needs(self, match: Match) -> frozenset[Var]:
        needs = self.free[match.data]
        for clause in match.clauses:
            bound = pattern_vars(clause.lhs)
            for var in bound:
                self._bind(var)
            needs |= self.free[clause.rhs] - set(bound)
        return needs

    def _bind(self, var: Var) -> None:
        if var in self.bound:
            raise TypeInferenceError(f"variable '%{var.name_hint}' is bound twice", var.span)
        self.bound.add(var)
