"""Kinds: which types a value can have."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch_tvm.relay.adt import TypeData
from torch_tvm.relay.ty import (
    FuncType,
    GlobalTypeVar,
    IncompleteType,
    RefType,
    TupleType,
    Type,
    TypeCall,
    TypeKind,
    TypeVar,
)


def kind_fault(ty: Type, types: Mapping[str, TypeData], bound: Collection[TypeVar]) -> str | None:
    """Say what keeps values from having this type, if anything does.

    Parameters
    ----------
    ty
        The type.
    types
        The data types that are defined.
    bound
        The type variables that stand for something where the type stands.
    """
    if isinstance(ty, TypeVar):
        if ty.kind != TypeKind.Type:
            return f"expected a type, got '{ty.name_hint}' of kind {TypeKind(ty.kind).name}"
        return None if ty in bound else f"type variable '{ty.name_hint}' is bound nowhere"
    if isinstance(ty, IncompleteType):
        return "expected a type, got '_', which nothing tells"
    if isinstance(ty, GlobalTypeVar):
        return f"expected a type, got '{ty.name_hint}' without its arguments"
    if isinstance(ty, TypeData):
        return f"expected a type, got the definition of '{ty.header.name_hint}'"
    if isinstance(ty, TypeCall):
        return _call_fault(ty, types) or _first_fault(ty.args, types, bound)
    if isinstance(ty, TupleType):
        return _first_fault(ty.fields, types, bound)
    if isinstance(ty, FuncType):
        return _first_fault([*ty.arg_types, ty.ret_type], types, {*bound, *ty.type_params})
    return kind_fault(ty.value, types, bound) if isinstance(ty, RefType) else None


def _call_fault(ty: TypeCall, types: Mapping[str, TypeData]) -> str | None:
    if not isinstance(ty.func, GlobalTypeVar) or ty.func.kind != TypeKind.AdtHandle:
        return f"{ty!r}: expected the name of a data type before '[', got '{ty.func!r}'"
    data = types.get(ty.func.name_hint)
    if data is None:
        return f"no type '{ty.func.name_hint}' is defined"
    if len(data.type_vars) != len(ty.args):
        return f"{ty!r}: expected {len(data.type_vars)} arguments, got {len(ty.args)}"
    return None


def _first_fault(
    parts: Collection[Type], types: Mapping[str, TypeData], bound: Collection[TypeVar]
) -> str | None:
    for part in parts:
        fault = kind_fault(part, types, bound)
        if fault is not None:
            return fault
    return None


def definition_fault(data: TypeData, types: Mapping[str, TypeData]) -> str | None:
    """Say what keeps a definition from being one, if anything does."""
    for var in data.type_vars:
        if var.kind != TypeKind.Type:
            return f"type variable '{var.name_hint}' of '{data.header.name_hint}' is of kind {TypeKind(var.kind).name}"
    for constructor in data.constructors:
        fault = _first_fault(list(constructor.inputs), types, set(data.type_vars))
        if fault is not None:
            return f"constructor '{constructor.name_hint}': {fault}"
    return None
