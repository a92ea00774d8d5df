"""Algebraic data types, the expression that takes their values apart, and modules, which define them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tvm_ffi.dataclasses import c_class

from torch_tvm.relay.expr import Call, Expr, Function, Printable, Span, Var
from torch_tvm.relay.ty import GlobalTypeVar, Node, Type, TypeVar


@c_class("torch_tvm.relay.Constructor", repr=False)
class Constructor(Expr):
    """One of the forms of a data type; called with its fields it makes a value."""

    name_hint: str
    inputs: Sequence[Type]
    belong_to: GlobalTypeVar

    def __init__(
        self, name_hint: str, inputs: Sequence[Type], belong_to: GlobalTypeVar, span: Span | None = None
    ) -> None:
        self.__ffi_init__(name_hint, list(inputs), belong_to, span)

    def __call__(self, *args: Expr) -> Call:
        """Return the call with these fields."""
        return Call(self, args)

    def __repr__(self) -> str:
        return f"Constructor({self.name_hint})"


@c_class("torch_tvm.relay.TypeData", repr=False)
class TypeData(Type):
    """The definition of an algebraic data type; ``type_vars`` are bound in the inputs of its constructors.

    Raises
    ------
    ValueError
        For a type variable or a constructor that stands there twice, and for a constructor of another type.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> a, lists = relay.TypeVar("A"), relay.GlobalTypeVar("List")
    >>> cons, nil = relay.Constructor("Cons", [a, lists(a)], lists), relay.Constructor("Nil", [], lists)
    >>> print(relay.TypeData(lists, [a], [cons, nil]))
    type List[A] {
      Cons(A, List[A]),
      Nil,
    }
    """

    header: GlobalTypeVar
    type_vars: Sequence[TypeVar]
    constructors: Sequence[Constructor]

    def __init__(
        self, header: GlobalTypeVar, type_vars: Sequence[TypeVar], constructors: Sequence[Constructor]
    ) -> None:
        self.__ffi_init__(header, list(type_vars), list(constructors))


@c_class("torch_tvm.relay.Pattern", init=False, repr=False)
class Pattern(Node):
    """Base of the four patterns.

    Attributes
    ----------
    span : Span or None
        Where in the user's source the pattern comes from.
    """

    span: Span | None

    def __repr__(self) -> str:
        return f"<relay.{type(self).__name__}>"


@c_class("torch_tvm.relay.PatternWildcard", repr=False)
class PatternWildcard(Pattern):
    """Matches everything."""

    def __init__(self, span: Span | None = None) -> None:
        self.__ffi_init__(span)


@c_class("torch_tvm.relay.PatternVar", repr=False)
class PatternVar(Pattern):
    """Matches everything and binds it to ``var``."""

    var: Var

    def __init__(self, var: Var, span: Span | None = None) -> None:
        self.__ffi_init__(var, span)


@c_class("torch_tvm.relay.PatternConstructor", repr=False)
class PatternConstructor(Pattern):
    """Matches what ``constructor`` made of fields that ``patterns`` match."""

    constructor: Constructor
    patterns: Sequence[Pattern]

    def __init__(
        self, constructor: Constructor, patterns: Sequence[Pattern] | None = None, span: Span | None = None
    ) -> None:
        self.__ffi_init__(constructor, list(patterns or []), span)


@c_class("torch_tvm.relay.PatternTuple", repr=False)
class PatternTuple(Pattern):
    """Matches a tuple of fields that ``patterns`` match."""

    patterns: Sequence[Pattern]

    def __init__(self, patterns: Sequence[Pattern] | None = None, span: Span | None = None) -> None:
        self.__ffi_init__(list(patterns or []), span)


@c_class("torch_tvm.relay.Clause", repr=False)
class Clause(Node):
    """``lhs => rhs``: a pattern and what a match gives where it is the first one to match."""

    lhs: Pattern
    rhs: Expr

    def __init__(self, lhs: Pattern, rhs: Expr) -> None:
        self.__ffi_init__(lhs, rhs)


@c_class("torch_tvm.relay.Match", repr=False)
class Match(Expr):
    """The right side of the first clause whose pattern ``data`` matches.

    If it is ``complete``, :func:`torch_tvm.relay.infer_type` checks that there is one whatever ``data`` is.
    """

    data: Expr
    clauses: Sequence[Clause]
    complete: bool

    def __init__(
        self, data: Expr, clauses: Sequence[Clause], complete: bool = True, span: Span | None = None
    ) -> None:
        self.__ffi_init__(data, list(clauses), complete, span)


@c_class("torch_tvm.relay.IRModule", repr=False)
class IRModule(Printable):
    """Functions by name, ``main`` is the entry; and definitions of algebraic data types by name.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> x = relay.Var("x", relay.TensorType((2,), "float32"))
    >>> module = relay.IRModule.from_expr(relay.Function([x], relay.exp(x)))
    >>> module["main"].params[0].name_hint
    'x'
    """

    functions: Mapping[str, Function]
    type_definitions: Mapping[str, TypeData]

    def __init__(
        self,
        functions: Mapping[str, Function] | None = None,
        type_definitions: Mapping[str, TypeData] | None = None,
    ) -> None:
        self.__ffi_init__(dict(functions or {}), dict(type_definitions or {}))

    @classmethod
    def from_expr(cls, expr: Expr) -> IRModule:
        """Make a module whose ``main`` is this function, or a function without parameters around ``expr``."""
        return cls({"main": expr if isinstance(expr, Function) else Function([], expr)})

    def __getitem__(self, name: str) -> Function:
        return self.functions[name]

    def get_type(self, name: str) -> tuple[Any, ...]:
        """Return the name of a data type of the module, as a type, and then its constructors.

        Examples
        --------
        >>> from torch_tvm import relay
        >>> module = relay.parse('''#[version = "0.0.5"]
        ... type Maybe[A] { Some(A), None_, }''')
        >>> maybe, some, none = module.get_type("Maybe")
        >>> some(relay.const(1)).op.name_hint
        'Some'
        """
        data = self.type_definitions[name]
        return (data.header, *data.constructors)
