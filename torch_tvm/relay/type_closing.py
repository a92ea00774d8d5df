"""The last step of type inference: what was found out later, in place of types that were not known."""

from __future__ import annotations

from collections.abc import Iterable

from torch_tvm.relay.adt import (
    Clause,
    Constructor,
    Match,
    Pattern,
    PatternConstructor,
    PatternTuple,
    PatternVar,
)
from torch_tvm.relay.expr import (
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
    Tuple,
    TupleGetItem,
    Var,
)
from torch_tvm.relay.type_solver import TypeSolver
from torch_tvm.relay.visit import expressions, map_attributes


class Closing:
    """Rebuilds a typed program with what was found out of the types that were unknown."""

    def __init__(self, solver: TypeSolver) -> None:
        self.solver = solver
        self.done: dict[Expr, Expr] = {}

    def run(self, root: Expr) -> Expr:
        for expr in expressions(root):
            if expr not in self.done:
                self.done[expr] = self.closed(expr)
        return self.done[root]

    def closed(self, expr: Expr) -> Expr:
        if isinstance(expr, Var):
            return self.var(expr)
        if isinstance(expr, Op | GlobalVar | Constructor | Constant):
            return expr
        new = self.rebuilt(expr)
        assert expr.checked_type is not None
        new.checked_type = self.solver.resolve(expr.checked_type)
        return new

    def var(self, var: Var) -> Var:
        known = self.done.get(var)
        if known is None:
            annotation, ty = var.type_annotation, var.checked_type
            assert ty is not None
            open_type = annotation is not None and self.solver.is_open(annotation)
            known = Var(
                var.name_hint,
                None if annotation is None or open_type else self.solver.resolve(annotation),
                var.span,
            )
            known.checked_type = self.solver.resolve(ty)
            self.done[var] = known
        assert isinstance(known, Var)
        return known

    def each(self, exprs: Iterable[Expr]) -> list[Expr]:
        return [self.done[expr] for expr in exprs]

    def rebuilt(self, expr: Expr) -> Expr:
        done = self.done
        if isinstance(expr, Call):
            attrs = map_attributes(expr, done.__getitem__) or expr.attrs
            return Call(done[expr.op], self.each(expr.args), attrs, expr.span)
        if isinstance(expr, Tuple):
            return Tuple(self.each(expr.fields), expr.span)
        if isinstance(expr, TupleGetItem):
            return TupleGetItem(done[expr.tuple], expr.index, expr.span)
        if isinstance(expr, Let):
            return Let(self.var(expr.var), done[expr.value], done[expr.body], expr.span)
        if isinstance(expr, If):
            return If(done[expr.cond], done[expr.true_branch], done[expr.false_branch], expr.span)
        if isinstance(expr, Function):
            result = None if expr.ret_type is None else self.solver.resolve(expr.ret_type)
            if result is not None and self.solver.is_open(result):
                result = None
            params = [self.var(param) for param in expr.params]
            attrs = map_attributes(expr, done.__getitem__) or expr.attrs
            return Function(params, done[expr.body], result, expr.type_params, attrs, expr.span)
        if isinstance(expr, Match):
            clauses = [Clause(self.pattern(clause.lhs), done[clause.rhs]) for clause in expr.clauses]
            return Match(done[expr.data], clauses, expr.complete, expr.span)
        if isinstance(expr, RefCreate):
            return RefCreate(done[expr.value], expr.span)
        if isinstance(expr, RefRead):
            return RefRead(done[expr.ref], expr.span)
        assert isinstance(expr, RefWrite)
        return RefWrite(done[expr.ref], done[expr.value], expr.span)

    def pattern(self, pattern: Pattern) -> Pattern:
        if isinstance(pattern, PatternVar):
            return PatternVar(self.var(pattern.var), pattern.span)
        if isinstance(pattern, PatternConstructor):
            fields = [self.pattern(field) for field in pattern.patterns]
            return PatternConstructor(pattern.constructor, fields, pattern.span)
        if isinstance(pattern, PatternTuple):
            return PatternTuple([self.pattern(field) for field in pattern.patterns], pattern.span)
        return pattern
