"""What a type relation sees of a call, and the table of relations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tvm_ffi

from torch_tvm.relay.expr import BoxInt, Constant
from torch_tvm.relay.size_solver import ANY, SizeSolver, is_any, same_size
from torch_tvm.relay.ty import TensorType, TupleType, Type

Relation = Callable[["CallSite"], Type]
RELATIONS: dict[str, Relation] = {}


def relation(*names: str) -> Callable[[Relation], Relation]:
    """Register the decorated function as the type relation of these operators."""

    def register(function: Relation) -> Relation:
        for name in names:
            assert name not in RELATIONS, name
            RELATIONS[name] = function
        return function

    return register


def agree(a: int, b: int) -> bool:
    """Say whether two sizes may be the same: a variable may be any size."""
    return a == b or ANY in (a, b)


def times(sizes: Sequence[int]) -> int:
    """Multiply sizes; one that is not known makes the product unknown, unless another is zero or all others are one."""
    product = 1
    for size in sizes:
        if size == 0:
            return 0
        if product == 1:
            product = size
        elif size != 1:
            product = ANY if ANY in (product, size) else product * size
    return product


def plus(size: int, number: int) -> int:
    """Add a number to a size."""
    if number == 0:
        return size
    return ANY if size == ANY else size + number


def larger(a: int, b: int) -> int:
    """Give the larger one of two sizes."""
    if same_size(a, b):
        return a
    return ANY if ANY in (a, b) else max(a, b)


def broadcast(a: Sequence[int], b: Sequence[int]) -> list[int] | None:
    """Give the shape that two shapes broadcast to, or None. A variable broadcasts with itself, with 1 and with '?'."""
    rank = max(len(a), len(b))
    result = []
    for m, n in zip([1] * (rank - len(a)) + list(a), [1] * (rank - len(b)) + list(b), strict=True):
        if m == 1 or (is_any(m) and n != 1):
            result.append(n)
        elif n == 1 or is_any(n) or same_size(m, n):
            result.append(m)
        else:
            return None
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, BoxInt):
        return value.value
    if isinstance(value, tvm_ffi.Array | list | tuple):
        return [_plain(item) for item in value]
    return value


@dataclass(frozen=True)
class CallSite:
    """One call of an operator: types of its operands, its attributes, and which operands are constants."""

    name: str
    types: Sequence[Type]
    attributes: Mapping[str, Any]
    constants: Sequence[Constant | None]
    sizes: SizeSolver = field(default_factory=SizeSolver)

    def attr(self, name: str) -> Any:
        """Give an attribute as a plain Python value; a dtype by its name, "" for 'that of the operand'."""
        return _plain(self.attributes[name])

    def demand(self, condition: bool, message: str) -> None:
        """Raise an error if the call breaks a rule."""
        if not condition:
            raise TypeError(message)

    def tensor(self, index: int = 0) -> TensorType:
        """Give the type of an operand that has to be a tensor."""
        ty = self.types[index]
        if not isinstance(ty, TensorType):
            raise TypeError(f"expected a tensor as operand {index}, got {ty!r}")
        return ty

    def shape(self, index: int = 0) -> list[int]:
        """Give the sizes of a tensor operand."""
        return self.tensor(index).sizes

    def rank(self, index: int = 0) -> int:
        """Give the rank of a tensor operand."""
        return len(self.tensor(index).shape)

    def dtype(self, index: int = 0) -> str:
        """Give the dtype of a tensor operand."""
        return str(self.tensor(index).dtype)

    def fields(self, index: int = 0) -> list[TensorType]:
        """Give the types of the tensors in an operand that has to be a tuple of them."""
        ty = self.types[index]
        if not isinstance(ty, TupleType) or not all(isinstance(field, TensorType) for field in ty.fields):
            raise TypeError(f"expected a tuple of tensors as operand {index}, got {ty!r}")
        return [field for field in ty.fields if isinstance(field, TensorType)]

    def axis(self, rank: int | None = None, name: str = "axis") -> int:
        """Give an attribute that is one axis, counted from the front."""
        return self.normal(int(self.attr(name)), self.rank() if rank is None else rank, name)

    def normal(self, axis: int, rank: int, name: str = "axis") -> int:
        """Count an axis from the front."""
        self.demand(-rank <= axis < rank, f"expected {name} in [{-rank}, {rank}), got {axis}")
        return axis % rank

    def axes(self, name: str = "axis", rank: int | None = None) -> list[int]:
        """Give an attribute that lists axes, counted from the front, each once."""
        rank = self.rank() if rank is None else rank
        given = self.attr(name)
        axes = [self.normal(axis, rank, name) for axis in ([given] if isinstance(given, int) else given)]
        self.demand(len(set(axes)) == len(axes), f"expected {name} to name each axis once, got {given}")
        return axes

    def one_dtype(self, *indices: int) -> str:
        """Demand that operands have one dtype, which Relay never converts by itself."""
        dtypes = [self.dtype(index) for index in indices]
        self.demand(len(set(dtypes)) == 1, f"expected operands of one dtype, got {' and '.join(dtypes)}")
        return dtypes[0]

    def one_of(self, what: str, value: Any, *allowed: Any) -> None:
        """Demand that a value is one of a few."""
        names = ", ".join(map(repr, allowed))
        self.demand(value in allowed, f"expected {what} to be {names}, got {value!r}")

    def demand_rank(self, rank: int, index: int = 0) -> list[int]:
        """Demand the rank of an operand, and give its sizes."""
        got = self.rank(index)
        self.demand(got == rank, f"expected operand {index} of rank {rank}, got {self.types[index]!r}")
        return self.shape(index)

    def demand_shape(self, index: int, sizes: Sequence[int], why: str = "") -> None:
        """Demand the sizes of an operand; a variable may be any size."""
        shape = self.shape(index)
        fits = len(shape) == len(sizes) and all(map(agree, shape, sizes))
        want = TensorType(sizes, self.dtype(index))
        self.demand(fits, f"expected {want!r} as operand {index}{why}, got {self.types[index]!r}")

    def assign_shape(self, index: int, sizes: Sequence[int], why: str = "") -> None:
        """Say which sizes an operand has; a variable is one number from here on, and no other variable."""
        shape = self.shape(index)
        unified = [self.sizes.unify(a, b) for a, b in zip(shape, sizes, strict=False)]
        fits = len(shape) == len(sizes) and None not in unified
        want = TensorType(sizes, self.dtype(index))
        self.demand(fits, f"expected {want!r} as operand {index}{why}, got {self.types[index]!r}")

    def demand_integers(self, index: int) -> None:
        """Demand an operand of integers."""
        dtype = self.dtype(index)
        self.demand(dtype.startswith(("int", "uint")), f"expected integers as operand {index}, got {dtype}")

    def dtype_attr(self, name: str = "dtype", default: str | None = None) -> str:
        """Give a dtype attribute, or the operand's dtype where it is left open."""
        return str(self.attr(name)) or (self.dtype() if default is None else default)
