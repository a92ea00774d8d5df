"""Relay types: the Python face of the objects of csrc/relay/type.h.

All are immutable; ``==`` is identity, :func:`torch_tvm.relay.structural_equal` compares types.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import tvm_ffi
from tvm_ffi.dataclasses import c_class

_type_text: Any = tvm_ffi.get_global_func("torch_tvm.relay.type_text")


class Node(tvm_ffi.Object):
    """An object whose class csrc/relay defines."""

    if TYPE_CHECKING:

        def __ffi_init__(self, *args: Any) -> None:
            """Construct the C++ object; installed by tvm_ffi."""


@c_class("torch_tvm.relay.Type", init=False, repr=False)
class Type(Node):
    """Base of all types."""

    def __repr__(self) -> str:
        return str(_type_text(self))


@c_class("torch_tvm.relay.TensorType", repr=False)
class TensorType(Type):
    """A dense tensor. A size of -1 is not known before run time (``?`` in text).

    Examples
    --------
    >>> from torch_tvm import relay
    >>> relay.TensorType((2, 3), "float32")
    Tensor[(2, 3), float32]
    """

    shape: Sequence[int]
    dtype: Any
    size_boxes: Sequence[Any] | None

    def __init__(self, shape: Sequence[int], dtype: Any = "float32") -> None:
        self.__ffi_init__(tuple(shape), dtype)


@c_class("torch_tvm.relay.TupleType", repr=False)
class TupleType(Type):
    """The type of a tuple."""

    fields: Sequence[Type]

    def __init__(self, fields: Sequence[Type]) -> None:
        self.__ffi_init__(list(fields))


class TypeKind(IntEnum):
    """What a type variable stands for."""

    Type = 0
    ShapeVar = 1
    BaseType = 2
    Constraint = 4
    AdtHandle = 5
    TypeData = 6


@c_class("torch_tvm.relay.TypeVar", repr=False)
class TypeVar(Type):
    """A type parameter of a function or of a data type. Identity, not the name, tells type variables apart.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> a = relay.TypeVar("A")
    >>> x = relay.Var("x", a)
    >>> print(relay.Function([x], x, a, [a]))
    #[version = "0.0.5"]
    fn [A](%x: A) -> A {
      %x
    }
    """

    name_hint: str
    kind: int

    def __init__(self, name_hint: str, kind: int = TypeKind.Type) -> None:
        self.__ffi_init__(name_hint, int(kind))

    def __call__(self, *args: Type) -> TypeCall:
        """Return the type with these arguments."""
        return TypeCall(self, args)


@c_class("torch_tvm.relay.GlobalTypeVar", repr=False)
class GlobalTypeVar(Type):
    """An algebraic data type of the module, by name; called with its arguments it is a type.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> relay.GlobalTypeVar("List")(relay.TensorType((), "int32"))
    List[int32]
    """

    name_hint: str
    kind: int

    def __init__(self, name_hint: str, kind: int = TypeKind.AdtHandle) -> None:
        self.__ffi_init__(name_hint, int(kind))

    def __call__(self, *args: Type) -> TypeCall:
        """Return the type with these arguments."""
        return TypeCall(self, args)


@c_class("torch_tvm.relay.TypeCall", repr=False)
class TypeCall(Type):
    """An algebraic data type with its arguments, ``List[int32]``."""

    func: Type
    args: Sequence[Type]

    def __init__(self, func: Type, args: Sequence[Type]) -> None:
        self.__ffi_init__(func, list(args))


@c_class("torch_tvm.relay.RefType", repr=False)
class RefType(Type):
    """The type of a reference to a value. Relay's text prints it as ``ref(T)``, which its parser does not read."""

    value: Type

    def __init__(self, value: Type) -> None:
        self.__ffi_init__(value)


@c_class("torch_tvm.relay.FuncType", repr=False)
class FuncType(Type):
    """The type of a function; ``type_params`` are bound in it."""

    arg_types: Sequence[Type]
    ret_type: Type
    type_params: Sequence[TypeVar]

    def __init__(
        self, arg_types: Sequence[Type], ret_type: Type, type_params: Sequence[TypeVar] | None = None
    ) -> None:
        self.__ffi_init__(list(arg_types), ret_type, list(type_params or []))
