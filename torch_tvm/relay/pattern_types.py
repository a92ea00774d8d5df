"""Types of what patterns bind, and whether the patterns of a match leave something out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from torch_tvm.relay.adt import (
    Constructor,
    Match,
    Pattern,
    PatternConstructor,
    PatternTuple,
    PatternVar,
    TypeData,
)
from torch_tvm.relay.expr import Span, Var
from torch_tvm.relay.match_exhaustion import TooManyCasesError, pattern_text, unmatched_cases
from torch_tvm.relay.ty import TupleType, Type, TypeCall
from torch_tvm.relay.type_solver import TypeInferenceError, TypeSolver, substitute

_CASES_SHOWN = 3


class Patterns:
    """Gives the variables of patterns their types; ``bind_var`` takes a variable and its type and returns a typed one."""

    def __init__(
        self, types: Mapping[str, TypeData], solver: TypeSolver, bind_var: Callable[[Var, Type], Var]
    ) -> None:
        self.types = types
        self.solver = solver
        self.bind_var = bind_var

    def definition_of(self, constructor: Constructor, span: Span | None) -> tuple[TypeData, Constructor]:
        """Look up a constructor in the module, which gives its inputs and the parameters of its type."""
        name = str(constructor.belong_to.name_hint)
        data = self.types.get(name)
        for definition in () if data is None else data.constructors:
            if data is not None and definition.name_hint == constructor.name_hint:
                return data, definition
        reason = f"type '{name}'" if data is None else f"constructor of '{name}'"
        raise TypeInferenceError(
            f"constructor '{constructor.name_hint}': the module has no such {reason}", span
        )

    def check_complete(self, match: Match) -> None:
        try:
            missing = list(islice(unmatched_cases(match, self.types), _CASES_SHOWN))
        except TooManyCasesError:
            reason = "match: the patterns are too many to tell whether they take all cases; use match?"
            raise TypeInferenceError(reason, match.span) from None
        if missing:
            cases = ", ".join(map(pattern_text, missing))
            raise TypeInferenceError(f"match: no clause takes {cases}; match? allows that", match.span)

    def bind(self, pattern: Pattern, ty: Type) -> Pattern:
        """Give the variables of a pattern their types, and return it with typed ones."""
        if isinstance(pattern, PatternVar):
            return PatternVar(self.bind_var(pattern.var, self.solver.resolve(ty)), pattern.span)
        if isinstance(pattern, PatternTuple):
            expected: Type = TupleType([self.solver.fresh() for _ in pattern.patterns])
            unified = self.unify_pattern(pattern, expected, ty)
            assert isinstance(unified, TupleType)
            return PatternTuple(self.bind_fields(pattern, unified.fields), pattern.span)
        if not isinstance(pattern, PatternConstructor):
            return pattern
        data, definition = self.definition_of(pattern.constructor, pattern.span)
        expected = TypeCall(data.header, [self.solver.fresh() for _ in data.type_vars])
        unified = self.unify_pattern(pattern, expected, ty)
        assert isinstance(unified, TypeCall)
        if len(definition.inputs) != len(pattern.patterns):
            fields = f"{len(definition.inputs)} fields, got {len(pattern.patterns)}"
            raise TypeInferenceError(f"constructor '{definition.name_hint}': expected {fields}", pattern.span)
        args = dict(zip(data.type_vars, unified.args, strict=True))
        types = [substitute(each, args) for each in definition.inputs]
        return PatternConstructor(definition, self.bind_fields(pattern, types), pattern.span)

    def unify_pattern(self, pattern: Pattern, expected: Type, ty: Type) -> Type:
        unified = self.solver.unify(expected, ty)
        if unified is None:
            ty = self.solver.resolve(ty)
            text = pattern_text(pattern)
            raise TypeInferenceError(
                f"pattern {text}: takes {expected!r}, got a value of type {ty!r}", pattern.span
            )
        return self.solver.resolve(unified)

    def bind_fields(self, pattern: PatternConstructor | PatternTuple, types: Iterable[Type]) -> list[Pattern]:
        pairs = zip(pattern.patterns, types, strict=True)
        return [self.bind(field, self.solver.resolve(ty)) for field, ty in pairs]
