"""A reference evaluator of Relay: each operator as facts/relay/TYPE_RELATIONS.md describes it, on torch tensors.

It stands between the converters and the compiler, so that a converter's Relay is tested against eager PyTorch within
microseconds and without a compiler. Where TVM 0.19 would reject a call - operands of two dtypes, a shape that does not
broadcast - the evaluator does too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


def evaluate(program: relay.Function | relay.IRModule, inputs: list[Tensor]) -> list[Tensor]:
    """Run a function, or the function main of a module; a tuple result gives its fields."""
    module = program if isinstance(program, relay.IRModule) else relay.IRModule({"main": program})
    function = module["main"]
    params = list(function.params)
    assert len(params) == len(inputs), f"{len(params)} parameters, {len(inputs)} inputs"
    values: dict[Any, Any] = {}
    for param, tensor in zip(params, inputs, strict=True):
        check_type(param.type_annotation, tensor)
        values[param] = tensor
    result = Evaluator(values, functions=module.functions).value(function.body)
    return list(result) if isinstance(result, tuple | list) else [result]


def operator_name(call: relay.Call) -> str:
    assert isinstance(call.op, relay.Op)
    return str(call.op.name)


def check_type(type_: Any, tensor: Tensor) -> None:
    same_rank = len(type_.shape) == tensor.dim()
    fits = same_rank and all(size in (-1, got) for size, got in zip(type_.shape, tensor.shape, strict=True))
    assert fits, f"{type_} for {tuple(tensor.shape)}"
    assert str(type_.dtype) == str(tensor.dtype).removeprefix("torch."), f"{type_} for {tensor.dtype}"


@dataclass(frozen=True)
class ConstructorValue:
    """A value of an algebraic data type."""

    constructor: str
    fields: tuple[Any, ...]


@dataclass
class Reference:
    """A cell."""

    value: Any


class MatchError(Exception):
    """No clause of a match takes the value."""


def bindings(pattern: relay.Pattern, value: Any) -> dict[Any, Any] | None:
    """Return what a pattern binds, or None if it does not match."""
    if isinstance(pattern, relay.PatternWildcard):
        return {}
    if isinstance(pattern, relay.PatternVar):
        return {pattern.var: value}
    fields = value
    if isinstance(pattern, relay.PatternConstructor):
        assert isinstance(value, ConstructorValue)
        if value.constructor != pattern.constructor.name_hint:
            return None
        fields = value.fields
    assert isinstance(pattern, relay.PatternConstructor | relay.PatternTuple)
    bound: dict[Any, Any] = {}
    for part, field in zip(pattern.patterns, fields, strict=True):
        found = bindings(part, field)
        if found is None:
            return None
        bound |= found
    return bound


class Closure:
    """A function as a value: it sees the variables of where it stands."""

    def __init__(self, function: relay.Function, scope: Evaluator) -> None:
        self.function = function
        self.scope = scope

    def __call__(self, *args: Any) -> Any:
        params = list(self.function.params)
        assert len(params) == len(args), f"{len(params)} parameters, {len(args)} arguments"
        for param, arg in zip(params, args, strict=True):
            if isinstance(arg, Tensor) and isinstance(param.type_annotation, relay.TensorType):
                check_type(param.type_annotation, arg)
        return Evaluator(dict(zip(params, args, strict=True)), self.scope).value(self.function.body)


class Evaluator:
    """Evaluates expressions once each, operands first; of a branch only the side that is taken."""

    def __init__(
        self,
        values: dict[Any, Any],
        outer: Evaluator | None = None,
        functions: Mapping[str, relay.Function] | None = None,
    ) -> None:
        self.values = values
        self.outer = outer
        self.functions: Any = outer.functions if outer else functions
        self.taken: dict[Any, relay.Expr] = {}  # the right sides of the clauses that matched

    def value(self, root: relay.Expr) -> Any:
        stack = [root]
        while stack:
            expr = stack[-1]
            if expr in self.values:
                stack.pop()
                continue
            if isinstance(expr, relay.Var):
                self.values[expr] = self.look_up(expr)
                continue
            missing = [operand for operand in self.needed(expr) if operand not in self.values]
            if missing:
                in_order = isinstance(expr, relay.Let | relay.If | relay.Match | relay.RefWrite)
                stack += missing[:1] if in_order else missing
                continue
            self.values[expr] = self.compute(expr)
        return self.values[root]

    def look_up(self, var: relay.Var) -> Any:
        scope: Evaluator | None = self
        while scope is not None:
            if var in scope.values:
                return scope.values[var]
            scope = scope.outer
        raise AssertionError(f"variable %{var.name_hint} is bound nowhere")

    def needed(self, expr: relay.Expr) -> list[relay.Expr]:
        """Name what has to be evaluated first, in order."""
        if isinstance(expr, relay.Call):
            return [*([] if isinstance(expr.op, relay.Op) else [expr.op]), *expr.args]
        if isinstance(expr, relay.Tuple):
            return list(expr.fields)
        if isinstance(expr, relay.TupleGetItem):
            return [expr.tuple]
        if isinstance(expr, relay.If):
            if expr.cond not in self.values:
                return [expr.cond]
            return [self.side(expr)]
        if isinstance(expr, relay.Let):
            if expr.value in self.values:
                self.values[expr.var] = self.values[expr.value]
            return [expr.value, expr.body]
        if isinstance(expr, relay.Match):
            return [self.clause(expr)] if expr.data in self.values else [expr.data]
        if isinstance(expr, relay.RefCreate):
            return [expr.value]
        if isinstance(expr, relay.RefRead):
            return [expr.ref]
        return [expr.ref, expr.value] if isinstance(expr, relay.RefWrite) else []

    def clause(self, match: relay.Match) -> relay.Expr:
        """Bind the pattern of the first clause that matches, and give its right side."""
        if match not in self.taken:
            for clause in match.clauses:
                bound = bindings(clause.lhs, self.values[match.data])
                if bound is not None:
                    self.values |= bound
                    self.taken[match] = clause.rhs
                    break
            else:
                raise MatchError(f"no clause takes {self.values[match.data]}")
        return self.taken[match]

    def side(self, branch: relay.If) -> relay.Expr:
        condition = self.values[branch.cond]
        assert condition.dtype == torch.bool and condition.dim() == 0
        return branch.true_branch if condition else branch.false_branch

    def compute(self, expr: relay.Expr) -> Any:
        if isinstance(expr, relay.Constant):
            return torch.from_dlpack(expr.data)
        if isinstance(expr, relay.Tuple):
            return tuple(self.values[field] for field in expr.fields)
        if isinstance(expr, relay.TupleGetItem):
            return self.values[expr.tuple][int(expr.index)]
        if isinstance(expr, relay.Function):
            return Closure(expr, self)
        if isinstance(expr, relay.Let):
            return self.values[expr.body]
        if isinstance(expr, relay.If):
            return self.values[self.side(expr)]
        if isinstance(expr, relay.GlobalVar):
            return Closure(self.functions[expr.name_hint], Evaluator({}, functions=self.functions))
        if isinstance(expr, relay.Constructor):
            return lambda *fields: ConstructorValue(str(expr.name_hint), fields)
        if isinstance(expr, relay.Match):
            return self.values[self.clause(expr)]
        if isinstance(expr, relay.RefCreate):
            return Reference(self.values[expr.value])
        if isinstance(expr, relay.RefRead):
            return self.values[expr.ref].value
        if isinstance(expr, relay.RefWrite):
            self.values[expr.ref].value = self.values[expr.value]
            return ()
        assert isinstance(expr, relay.Call), f"a {type(expr).__name__} in a converter's Relay"
        args = [self.values[arg] for arg in expr.args]
        if not isinstance(expr.op, relay.Op):
            return self.values[expr.op](*args)
        attrs = {str(key): plain(value) for key, value in expr.attrs.items()}
        return OPERATORS[operator_name(expr)](*args, **attrs)
