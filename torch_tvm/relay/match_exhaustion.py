"""Which values no clause of a match takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch_tvm.relay.adt import (
    Match,
    Pattern,
    PatternConstructor,
    PatternTuple,
    PatternVar,
    PatternWildcard,
    TypeData,
)

# Whether patterns leave something out takes time that grows exponentially with the number of fields in the worst
# case; patterns that people write take tens of steps.
MAX_STEPS = 10_000

Row = Sequence[Pattern]


class TooManyCasesError(Exception):
    """The patterns are too many to tell what they leave out."""


def unmatched_cases(match: Match, types: Mapping[str, TypeData]) -> Iterator[Pattern]:
    """Find patterns, one for each kind of value that no clause takes.

    Parameters
    ----------
    match
        Its patterns have to be of one type.
    types
        The definitions of the types of all constructors in it.

    Raises
    ------
    TooManyCasesError
        After ``MAX_STEPS`` steps.
    """
    search = _Search(types)
    for case in search.missing([[clause.lhs] for clause in match.clauses], 1):
        yield case[0]


def pattern_text(pattern: Pattern) -> str:
    """Return a pattern as Relay's text has it."""
    if isinstance(pattern, PatternVar):
        return f"%{pattern.var.name_hint}"
    if isinstance(pattern, PatternConstructor | PatternTuple):
        name = pattern.constructor.name_hint if isinstance(pattern, PatternConstructor) else ""
        fields = ", ".join(map(pattern_text, pattern.patterns))
        return f"{name}({fields})" if fields or not name else str(name)
    return "_"


class _Search:
    def __init__(self, types: Mapping[str, TypeData]) -> None:
        self.types = types
        self.steps = 0

    def missing(self, rows: Sequence[Row], width: int) -> Iterator[list[Pattern]]:
        """Give the lists of ``width`` patterns that no row takes, by the forms that the first pattern can have."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise TooManyCasesError
        if width == 0:
            if not rows:
                yield []
            return
        forms = self.forms([row[0] for row in rows])
        if not forms:
            rest = [row[1:] for row in rows]
            for case in self.missing(rest, width - 1):
                yield [PatternWildcard(), *case]
        for form in forms:
            arity = len(form.patterns)
            within = [[*fields, *row[1:]] for row in rows if (fields := _fields(row[0], form)) is not None]
            for case in self.missing(within, arity + width - 1):
                yield [_with_fields(form, case[:arity]), *case[arity:]]

    def forms(self, patterns: list[Pattern]) -> list[PatternConstructor | PatternTuple]:
        """List all forms of the type of these patterns; none if they tell nothing apart."""
        for pattern in patterns:
            if isinstance(pattern, PatternTuple):
                return [PatternTuple([PatternWildcard()] * len(pattern.patterns))]
            if isinstance(pattern, PatternConstructor):
                data = self.types[str(pattern.constructor.belong_to.name_hint)]
                return [
                    PatternConstructor(each, [PatternWildcard()] * len(each.inputs))
                    for each in data.constructors
                ]
        return []


def _fields(pattern: Pattern, form: PatternConstructor | PatternTuple) -> list[Pattern] | None:
    """Return the patterns of the fields if this one takes values of the form."""
    if isinstance(pattern, PatternConstructor):
        assert isinstance(form, PatternConstructor)
        same = pattern.constructor.name_hint == form.constructor.name_hint
        return list(pattern.patterns) if same else None
    return list(pattern.patterns if isinstance(pattern, PatternTuple) else form.patterns)


def _with_fields(form: PatternConstructor | PatternTuple, fields: list[Pattern]) -> Pattern:
    if isinstance(form, PatternConstructor):
        return PatternConstructor(form.constructor, fields)
    return PatternTuple(fields)
