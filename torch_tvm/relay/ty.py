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


@c_class("torch_tvm.relay.SizeVar", repr=False)
class SizeVar(Node):
    """A variable that stands for a size. Identity, not the name, tells variables apart.

    In text it is ``meta[tir.Var][0]``, or ``meta[tir.SizeVar][0]`` if it is ``non_negative``.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> n = relay.SizeVar("n")
    >>> relay.TensorType((n, 3), "float32")
    Tensor[(n, 3), float32]
    """

    name_hint: str
    dtype: Any
    non_negative: bool

    def __init__(self, name_hint: str, dtype: Any = "int32", non_negative: bool = False) -> None:
        self.__ffi_init__(name_hint, dtype, non_negative)

    def __repr__(self) -> str:
        return f"SizeVar({self.name_hint})"


class Size(int):
    """A size with more to it than its number: which variable it is, or how wide its type is.

    One that a variable stands for is the number -1, as all that are not known before run time. What is computed with it
    is a plain number.

    Attributes
    ----------
    bits : int
        Width of the size's integer type.
    var : SizeVar or None
        What stands for the size.
    """

    bits: int
    var: SizeVar | None

    def __new__(cls, number: int, bits: int = 32, var: SizeVar | None = None) -> Size:
        """Make a size."""
        size = super().__new__(cls, number)
        size.bits, size.var = bits, var
        return size

    @classmethod
    def of(cls, size: int | SizeVar) -> Size:
        """Return a size with its variable and its width: that of its value, if it does not say another."""
        if isinstance(size, SizeVar):
            return cls(-1, int(size.dtype.bits), size)
        return size if isinstance(size, Size) else cls(size, 32 if size < 2**31 else 64)

    def __repr__(self) -> str:
        return int.__repr__(self) if self.var is None else str(self.var.name_hint)

    __str__ = __repr__


@c_class("torch_tvm.relay.TensorType", repr=False)
class TensorType(Type):
    """A dense tensor.

    Parameters
    ----------
    shape
        Sizes. One of -1 is not known before run time (``?`` in text); a :class:`SizeVar` is -1 in :attr:`shape`, too.
    dtype
        Of the elements.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> relay.TensorType((2, 3), "float32")
    Tensor[(2, 3), float32]
    """

    shape: Sequence[int]
    dtype: Any
    size_vars: Sequence[SizeVar | None] | None
    size_bits: Sequence[int] | None
    size_boxes: Sequence[Any] | None

    def __init__(self, shape: Sequence[int | SizeVar], dtype: Any = "float32") -> None:
        given = tuple(shape)
        if not any(isinstance(size, Size | SizeVar) for size in given):
            self.__ffi_init__(given, dtype, None, None)
            return
        sizes = [Size.of(size) for size in given]
        bits = [32 if size.var is not None else size.bits for size in sizes]
        self.__ffi_init__([int(size) for size in sizes], dtype, [size.var for size in sizes], bits)

    @property
    def sizes(self) -> list[int]:
        """The sizes; those that are more than numbers as :class:`Size`."""
        numbers, variables, widths = self.shape, self.size_vars, self.size_bits
        if variables is None and widths is None:
            return list(numbers)
        sizes: list[int] = []
        for dim, number in enumerate(numbers):
            var = None if variables is None else variables[dim]
            bits = None if widths is None else widths[dim]
            if var is not None:
                sizes.append(Size.of(var))
            else:
                sizes.append(number if bits is None else Size(number, bits))
        return sizes


@c_class("torch_tvm.relay.IncompleteType", repr=False)
class IncompleteType(Type):
    """A type that is left open (``_`` in text), for :func:`torch_tvm.relay.infer_type` to find. Each is one of its own.

    Examples
    --------
    >>> from torch_tvm import relay
    >>> relay.TupleType([relay.IncompleteType(), relay.TensorType((), "int32")])
    (_, int32)
    """

    kind: int

    def __init__(self, kind: int = 0) -> None:
        self.__ffi_init__(int(kind))


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
