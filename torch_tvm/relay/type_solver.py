"""Unification of types: which types the unknown ones have to be."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch_tvm.relay.expr import Span
from torch_tvm.relay.size_solver import SizeSolver, same_size
from torch_tvm.relay.ty import (
    FuncType,
    GlobalTypeVar,
    IncompleteType,
    RefType,
    TensorType,
    TupleType,
    Type,
    TypeCall,
    TypeVar,
)


class TypeInferenceError(TypeError):
    """A program whose types do not fit together.

    Attributes
    ----------
    reason : str
        What was expected and what came.
    span : Span or None
        Where in the source of the program.
    """

    def __init__(self, reason: str, span: Span | None = None) -> None:
        super().__init__(reason + ("" if span is None else f" (at {span!r})"))
        self.reason, self.span = reason, span


def map_type_vars(ty: Type, replace: Callable[[TypeVar | IncompleteType], Type]) -> Type:
    """Return a type with others in place of its variables and open parts; the same object if nothing changes."""

    def mapped(types: Iterable[Type]) -> list[Type]:
        return [map_type_vars(part, replace) for part in types]

    if isinstance(ty, TypeVar | IncompleteType):
        return replace(ty)
    if isinstance(ty, TupleType):
        fields = mapped(ty.fields)
        return ty if _same(fields, ty.fields) else TupleType(fields)
    if isinstance(ty, FuncType):
        args, result = mapped(ty.arg_types), map_type_vars(ty.ret_type, replace)
        unchanged = _same(args, ty.arg_types) and result.same_as(ty.ret_type)
        return ty if unchanged else FuncType(args, result, ty.type_params)
    if isinstance(ty, TypeCall):
        args = mapped(ty.args)
        return ty if _same(args, ty.args) else TypeCall(ty.func, args)
    if isinstance(ty, RefType):
        value = map_type_vars(ty.value, replace)
        return ty if value.same_as(ty.value) else RefType(value)
    return ty


def substitute(ty: Type, types: dict[TypeVar, Type]) -> Type:
    """Return a type with these types in place of variables."""
    if not types:
        return ty
    return map_type_vars(ty, lambda var: types.get(var, var) if isinstance(var, TypeVar) else var)


class TypeSolver:
    """Unknown types and what is found out about them. An unknown is a type variable of the solver's own, named ``_``."""

    def __init__(self) -> None:
        self._found: dict[TypeVar, Type | None] = {}
        self._opened: dict[IncompleteType, TypeVar] = {}
        self.sizes = SizeSolver()

    @property
    def used(self) -> bool:
        """Whether there was any unknown."""
        return bool(self._found)

    def fresh(self) -> TypeVar:
        """Make an unknown."""
        unknown = TypeVar("_")
        self._found[unknown] = None
        return unknown

    def opened(self, ty: Type) -> Type:
        """Put unknowns in place of the parts of a type that are left open."""

        def unknown(part: TypeVar | IncompleteType) -> Type:
            if isinstance(part, TypeVar):
                return part
            if part not in self._opened:
                self._opened[part] = self.fresh()
            return self._opened[part]

        return map_type_vars(ty, unknown)

    def is_unknown(self, ty: Type) -> bool:
        """Say whether nothing at all is known of a type."""
        ty = self._seen(ty)
        return isinstance(ty, TypeVar) and ty in self._found

    def is_open(self, ty: Type) -> bool:
        """Say whether a type has parts that are not known."""
        found = False

        def look(var: TypeVar | IncompleteType) -> Type:
            nonlocal found
            found = found or isinstance(var, IncompleteType) or var in self._found
            return var

        if self._found:
            map_type_vars(self.resolve(ty), look)
        return found

    def resolve(self, ty: Type) -> Type:
        """Return a type with what is known in place of unknowns."""
        if not self._found:
            return ty

        def known(var: TypeVar | IncompleteType) -> Type:
            unknown = self._opened.get(var) if isinstance(var, IncompleteType) else var
            found = None if unknown is None else self._found.get(unknown)
            return var if found is None else self.resolve(found)

        return map_type_vars(ty, known)

    def instantiate(self, ty: Type) -> Type:
        """Put unknowns in place of the type parameters of a function."""
        if not isinstance(ty, FuncType) or not ty.type_params:
            return ty
        return substitute(FuncType(ty.arg_types, ty.ret_type), {var: self.fresh() for var in ty.type_params})

    def unify(self, a: Type, b: Type) -> Type | None:
        """Return what both types allow ('?' allows any size, '_' any type), or None if they exclude each other."""
        a, b = self._seen(a), self._seen(b)
        if a.same_as(b):
            return a
        for unknown, other in ((a, b), (b, a)):
            if isinstance(unknown, TypeVar) and unknown in self._found:
                return self._bind(unknown, other)
        if isinstance(a, TensorType) and isinstance(b, TensorType):
            return self._unify_tensors(a, b)
        if isinstance(a, TupleType) and isinstance(b, TupleType):
            fields = self._unify_all(a.fields, b.fields)
            return None if fields is None else TupleType(fields)
        if isinstance(a, FuncType) and isinstance(b, FuncType):
            return self._unify_functions(a, b)
        if isinstance(a, TypeCall) and isinstance(b, TypeCall):
            func, args = self.unify(a.func, b.func), self._unify_all(a.args, b.args)
            return None if func is None or args is None else TypeCall(func, args)
        if isinstance(a, RefType) and isinstance(b, RefType):
            value = self.unify(a.value, b.value)
            return None if value is None else RefType(value)
        if isinstance(a, GlobalTypeVar) and isinstance(b, GlobalTypeVar):
            return a if a.name_hint == b.name_hint else None
        return None

    def _seen(self, ty: Type) -> Type:
        if isinstance(ty, IncompleteType):
            ty = self.opened(ty)
        while isinstance(ty, TypeVar) and (found := self._found.get(ty)) is not None:
            ty = found
        return ty

    def _bind(self, unknown: TypeVar, ty: Type) -> Type | None:
        within = False

        def look(var: TypeVar | IncompleteType) -> Type:
            nonlocal within
            within = within or var.same_as(unknown)
            return var

        ty = self.resolve(self.opened(ty))
        map_type_vars(ty, look)
        if within:  # a type that would be part of itself
            return None
        self._found[unknown] = ty
        return ty

    def _unify_tensors(self, a: TensorType, b: TensorType) -> Type | None:
        left, right = a.sizes, b.sizes
        if a.dtype != b.dtype or len(left) != len(right):
            return None
        sizes = [self.sizes.unify(m, n) for m, n in zip(left, right, strict=True)]
        known = [size for size in sizes if size is not None]
        if len(known) != len(sizes):
            return None
        return a if all(map(same_size, known, left)) else TensorType(known, a.dtype)

    def _unify_functions(self, a: FuncType, b: FuncType) -> Type | None:
        """The type parameters that one function has more than the other are unknowns."""
        more, less = (a, b) if len(a.type_params) >= len(b.type_params) else (b, a)
        params: dict[TypeVar, Type] = dict(zip(more.type_params, less.type_params, strict=False))
        for extra in list(more.type_params)[len(params) :]:
            params[extra] = self.fresh()
        renamed = substitute(FuncType(more.arg_types, more.ret_type), params)
        assert isinstance(renamed, FuncType)
        args = self._unify_all(renamed.arg_types, less.arg_types)
        result = self.unify(renamed.ret_type, less.ret_type)
        return None if args is None or result is None else FuncType(args, result, less.type_params)

    def _unify_all(self, a: Iterable[Type], b: Iterable[Type]) -> list[Type] | None:
        left, right = list(a), list(b)
        if len(left) != len(right):
            return None
        unified = [self.unify(x, y) for x, y in zip(left, right, strict=True)]
        return None if None in unified else [ty for ty in unified if ty is not None]


def _same(a: Iterable[Type], b: Iterable[Type]) -> bool:
    return all(x.same_as(y) for x, y in zip(a, b, strict=True))
