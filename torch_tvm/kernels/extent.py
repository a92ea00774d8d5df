"""Sizes that are known when a kernel runs only: integer expressions of dimensions with bounds.

Generators compute with them as with ints. What a comparison says must hold for all values within the bounds.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Union

import tvm
from tvm.runtime import ObjectConvertible

from torch_tvm.kernels import polynomial
from torch_tvm.kernels.polynomial import Monomial, Terms

Size = Union[int, "Extent"]

# The variables of the kernel that is being built, by the names of their dimensions.
_variables: ContextVar[Mapping[str, Any]] = ContextVar("variables")


class UndecidableError(ValueError):
    """Something holds for some values of a dimension only, or must be a number."""


@dataclass(frozen=True)
class Dim:
    """A dimension whose size is known when a kernel runs.

    Parameters
    ----------
    name
        Two dimensions of equal names are the same one.
    least, most
        Bounds of its values, 0 <= least <= most.
    hint
        A likely value, for choices of speed only; `most` unless given.

    Examples
    --------
    >>> from torch_tvm.kernels.extent import Dim
    >>> tokens = Dim("s", 2, 512, hint=128).extent
    >>> (12 * tokens + 8) // 4
    3*s + 2
    >>> (tokens + 15) // 16 * 16 >= tokens, (tokens // 4).bounds, (2 * tokens).hint
    (True, (0, 128), 256)
    """

    name: str
    least: int
    most: int
    hint: int = -1

    def __post_init__(self) -> None:
        """Check the bounds."""
        if not self.name.isidentifier():
            raise ValueError(f"a dimension's name is an identifier, got {self.name!r}")
        if not 0 <= self.least <= self.most:
            raise ValueError(f"expected 0 <= least <= most, got {self.least}, {self.most} of {self.name}")
        if self.hint == -1:
            object.__setattr__(self, "hint", self.most)
        if not self.least <= self.hint <= self.most:
            raise ValueError(
                f"the hint of {self.name} lies between {self.least} and {self.most}, got {self.hint}"
            )

    @property
    def extent(self) -> Size:
        """The dimension as an expression; a number where the bounds leave but one value."""
        return _make({(self,): 1}) if self.least < self.most else self.least

    @property
    def bounds(self) -> tuple[int, int]:
        """Least and largest value."""
        return self.least, self.most

    def evaluate(self, values: Mapping[str, int]) -> int:
        """Return its value among those of all dimensions, by name."""
        return values[self.name]

    def expr(self, variables: Mapping[str, Any]) -> Any:
        """Return its variable."""
        return variables[self.name]

    @property
    def dims(self) -> frozenset[Dim]:
        """Just itself."""
        return frozenset([self])

    def __str__(self) -> str:
        """Name it."""
        return self.name


@dataclass(frozen=True, eq=False)
class Quotient:
    """A numerator divided by a positive number, rounded down, that is no polynomial of dimensions."""

    numerator: Extent
    divisor: int

    def __eq__(self, other: object) -> bool:
        """Compare the form, not the value."""
        same = isinstance(other, Quotient) and self.divisor == other.divisor
        return same and self.numerator.terms == other.numerator.terms  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        """Hash the form."""
        return hash((self.numerator.terms, self.divisor))

    @property
    def bounds(self) -> tuple[int, int]:
        """Least and largest value."""
        low, high = self.numerator.bounds
        return low // self.divisor, high // self.divisor

    def evaluate(self, values: Mapping[str, int]) -> int:
        """Return its value for those of the dimensions."""
        return self.numerator.evaluate(values) // self.divisor

    def expr(self, variables: Mapping[str, Any]) -> Any:
        """Return the TIR expression."""
        return tvm.tirx.floordiv(self.numerator.expr(variables), self.divisor)

    @property
    def dims(self) -> frozenset[Dim]:
        """What it depends on."""
        return self.numerator.dims

    def __str__(self) -> str:
        """Write it as Python does."""
        return f"({self.numerator})//{self.divisor}"


@dataclass(frozen=True, eq=False, repr=False)
class Extent(ObjectConvertible):
    """An integer expression of dimensions in normal form: a sum of products of dimensions and quotients.

    Results that depend on no dimension are plain ints. Comparisons are decided by the bounds of the dimensions and raise
    `UndecidableError` where they hold for some values only. TVM takes an extent wherever it takes a `PrimExpr`, inside of
    `bound`.
    """

    terms: Terms

    # -- arithmetic --------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        """Add an int, an extent or a TIR expression."""
        if not isinstance(other, (int, Extent)):
            return self.asobject() + other
        return _make(polynomial.add(self.terms, _terms(other)))

    def __radd__(self, other: Any) -> Any:
        """Add to an int or a TIR expression."""
        return self + other if isinstance(other, int) else other + self.asobject()

    def __neg__(self) -> Size:
        """Negate."""
        return self * -1

    def __pos__(self) -> Extent:
        """Return it as it is."""
        return self

    def __sub__(self, other: Any) -> Any:
        """Subtract an int, an extent or a TIR expression."""
        if not isinstance(other, (int, Extent)):
            return self.asobject() - other
        return self + -other

    def __rsub__(self, other: Any) -> Any:
        """Subtract from an int or a TIR expression."""
        return -self + other if isinstance(other, int) else other - self.asobject()

    def __mul__(self, other: Any) -> Any:
        """Multiply with an int, an extent or a TIR expression."""
        if not isinstance(other, (int, Extent)):
            return self.asobject() * other
        return _make(polynomial.multiply(self.terms, _terms(other)))

    def __rmul__(self, other: Any) -> Any:
        """Multiply with an int or a TIR expression."""
        return self * other if isinstance(other, int) else other * self.asobject()

    def __floordiv__(self, other: Any) -> Any:
        """Divide by an int, an extent of which this is a multiple, or a TIR expression."""
        if isinstance(other, int):
            return _divided(self, other)
        if not isinstance(other, Extent):
            return tvm.tirx.floordiv(self.asobject(), other)
        quotient = _exact_quotient(self, other)
        if quotient is None:
            raise UndecidableError(f"{self} divided by {other} is no polynomial")
        return quotient

    def __rfloordiv__(self, other: Any) -> Any:
        """Divide an int or a TIR expression."""
        if not isinstance(other, int):
            return tvm.tirx.floordiv(other, self.asobject())
        low, high = self.bounds
        if low > 0 and other // low == other // high:
            return other // low
        raise UndecidableError(f"{other} divided by {self} between {low} and {high}")

    def __mod__(self, other: Any) -> Any:
        """Return the remainder of `//`."""
        if not isinstance(other, (int, Extent)):
            return tvm.tirx.floormod(self.asobject(), other)
        return self - self // other * other

    def __rmod__(self, other: Any) -> Any:
        """Return the remainder of an int or a TIR expression."""
        if not isinstance(other, int):
            return tvm.tirx.floormod(other, self.asobject())
        return other - other // self * self

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        """Divide with remainder."""
        return self // other, self % other

    def __abs__(self) -> Size:
        """Return the absolute value."""
        return self if self >= 0 else -self

    def __index__(self) -> int:
        """Refuse to be a number."""
        raise UndecidableError(
            f"{self}, between {self.bounds[0]} and {self.bounds[1]}, must be a number here"
        )

    __int__ = __float__ = __index__

    # -- comparison --------------------------------------------------------------------------------

    def _decide(self, other: Any, relation: str, lowest: int, highest: int) -> bool:
        """Say whether self - other always, or never, lies between `lowest` and `highest`."""
        low, high = _bounds(self - other)
        if lowest <= low and high <= highest:
            return True
        if high < lowest or low > highest:
            return False
        raise UndecidableError(
            f"{self} {relation} {other} holds for some values only: {self} lies between {self.bounds[0]} and"
            f" {self.bounds[1]}, the difference between {low} and {high}"
        )

    def __lt__(self, other: Any) -> Any:
        """Say whether it is always or never less; a condition if compared with a TIR expression."""
        return self._compare(other, "<", _LOWEST, -1)

    def __le__(self, other: Any) -> Any:
        """Say whether it is always or never less or equal."""
        return self._compare(other, "<=", _LOWEST, 0)

    def __gt__(self, other: Any) -> Any:
        """Say whether it is always or never greater."""
        return self._compare(other, ">", 1, -_LOWEST)

    def __ge__(self, other: Any) -> Any:
        """Say whether it is always or never greater or equal."""
        return self._compare(other, ">=", 0, -_LOWEST)

    def _compare(self, other: Any, relation: str, lowest: int, highest: int) -> Any:
        if isinstance(other, (int, Extent)):
            return self._decide(other, relation, lowest, highest)
        return NotImplemented

    def __eq__(self, other: object) -> bool:
        """Say whether it is always or never equal: always if the normal forms are the same."""
        if not isinstance(other, (int, Extent)):
            return NotImplemented
        return (isinstance(other, Extent) and self.terms == other.terms) or self._decide(other, "==", 0, 0)

    def __ne__(self, other: object) -> bool:
        """Negate `==`."""
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __hash__(self) -> int:
        """Hash the normal form."""
        return hash(self.terms)

    def __bool__(self) -> bool:
        """Say whether it is never, or always, zero."""
        return not self._decide(0, "==", 0, 0)

    # -- values ------------------------------------------------------------------------------------

    @property
    def bounds(self) -> tuple[int, int]:
        """Return bounds of the values, which need not be reached."""
        return _bounds(self)

    @property
    def dims(self) -> frozenset[Dim]:
        """Return the dimensions that it depends on."""
        return frozenset(dim for atoms, _ in self.terms for atom in atoms for dim in atom.dims)

    @property
    def hint(self) -> int:
        """Return a likely value."""
        return self.evaluate({dim.name: dim.hint for dim in self.dims})

    def evaluate(self, values: Mapping[str, int]) -> int:
        """Return the value for those of the dimensions, by name."""
        return sum(
            factor * math.prod(atom.evaluate(values) for atom in atoms) for atoms, factor in self.terms
        )

    def expr(self, variables: Mapping[str, Any]) -> Any:
        """Return the TIR expression, given the variables of the dimensions by name."""
        total: Any = None
        for atoms, factor in reversed(self.terms):
            product: Any = factor if not atoms or factor != 1 else None
            for atom in atoms:
                own = atom.expr(variables)
                product = own if product is None else own * product
            total = product if total is None else total + product
        return total

    def asobject(self) -> Any:
        """Return the TIR expression in the variables of the kernel that is being built."""
        variables = _variables.get(None)
        if variables is None:
            raise UndecidableError(f"no kernel that takes the dimensions of {self} is being built")
        return self.expr(variables)

    def __repr__(self) -> str:
        """Write the normal form."""
        return polynomial.text(self.terms)


_LOWEST = -(2**63)


@contextlib.contextmanager
def bound(variables: Mapping[str, Any]) -> Iterator[None]:
    """Let extents be TIR expressions of these variables, named as the dimensions, for a while."""
    token = _variables.set(variables)
    try:
        yield
    finally:
        _variables.reset(token)


def hint(size: Size) -> int:
    """Return a likely value of a size."""
    return size.hint if isinstance(size, Extent) else size


def bounds(size: Size) -> tuple[int, int]:
    """Return the least and largest value of a size."""
    return size.bounds if isinstance(size, Extent) else (size, size)


def evaluate(size: Size, values: Mapping[str, int]) -> int:
    """Return the value of a size."""
    return size.evaluate(values) if isinstance(size, Extent) else size


def dims(size: Size) -> frozenset[Dim]:
    """Return the dimensions that a size depends on."""
    return size.dims if isinstance(size, Extent) else frozenset()


def same(a: Size, b: Size) -> bool:
    """Say whether two sizes are equal for all values of their dimensions."""
    return not isinstance(difference := a - b, Extent) and difference == 0


def at_least(a: Size, b: Size) -> bool:
    """Say whether a >= b for all values of their dimensions."""
    return bounds(a - b)[0] >= 0


def least_of(a: Size, b: Size) -> Size:
    """Return the smaller of two sizes, the same one for all values of their dimensions."""
    if at_least(b, a):
        return a
    return b if at_least(a, b) or a > b else a


def greatest_of(a: Size, b: Size) -> Size:
    """Return the larger of two sizes, the same one for all values of their dimensions."""
    return -least_of(-a, -b)


# -- normal form -------------------------------------------------------------------------------------


def _make(terms: Mapping[Monomial, int]) -> Size:
    """Return the sum of terms, a number if it is one."""
    kept = sorted(
        ((atoms, factor) for atoms, factor in terms.items() if factor), key=lambda t: polynomial.order(t[0])
    )
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    made = Extent(tuple(kept))
    if len({dim.name for dim in made.dims}) < len(made.dims):
        raise ValueError(f"dimensions of equal names differ in {sorted(made.dims, key=str)}")
    return made


def _terms(size: Size) -> Terms:
    return size.terms if isinstance(size, Extent) else (((), int(size)),)


def _divided(numerator: Extent, divisor: int) -> Size:
    """Return the quotient rounded down: whole multiples of the divisor go outside, common factors go."""
    if divisor <= 0:
        raise UndecidableError(f"{numerator} is divided by {divisor}; divisors are positive")
    outside: dict[Monomial, int] = {}
    inside: dict[Monomial, int] = {}
    for atoms, factor in numerator.terms:
        whole = factor // divisor if not atoms else int(math.copysign(abs(factor) // divisor, factor))
        outside[atoms], inside[atoms] = whole, factor - whole * divisor
    rest = _make(inside)
    if isinstance(rest, int):
        return _make(outside) + rest // divisor
    if rest.terms[-1][1] < 0:  # -(n // d) is -n divided and rounded up: one form for both
        return _make(outside) - _divided_part(-rest + (divisor - 1), divisor)
    return _make(outside) + _divided_part(rest, divisor)


def _divided_part(rest: Size, divisor: int) -> Size:
    """Divide what has no multiples of the divisor but perhaps a constant."""
    terms = dict(_terms(rest))
    constant = terms.pop((), 0)
    common = math.gcd(divisor, *terms.values())
    whole, constant = divmod(constant // common, divisor // common)
    numerator = _make({**{atoms: factor // common for atoms, factor in terms.items()}, (): constant})
    divisor //= common
    if isinstance(numerator, int) or divisor == 1:
        return numerator // divisor + whole
    if len(terms) == 1:
        ((atoms, factor),) = ((a, f // common) for a, f in terms.items())
        if factor == 1 and len(atoms) == 1 and isinstance(atoms[0], Quotient):  # (x // a + c) // b
            inner = atoms[0]
            return (inner.numerator + constant * inner.divisor) // (inner.divisor * divisor) + whole
    quotient = Quotient(numerator, divisor)
    low, high = quotient.bounds
    return whole + (low if low == high else _make({(quotient,): 1}))


def _exact_quotient(numerator: Extent, divisor: Extent) -> Size | None:
    """Divide polynomials, by leading terms; None if that leaves a remainder or the divisor may be zero."""
    low, high = divisor.bounds
    if low <= 0 <= high:
        return None
    atoms, factor = divisor.terms[-1]
    quotient: Size = 0
    rest: Size = numerator
    for _ in range(64):
        if isinstance(rest, int):
            return quotient if rest == 0 else None
        leading, largest = rest.terms[-1]
        left = list(leading)
        for atom in atoms:
            if atom not in left:
                return None
            left.remove(atom)
        if largest % factor:
            return None
        part = _make({tuple(left): largest // factor})
        quotient, rest = quotient + part, rest - part * divisor
    return None


# -- bounds ------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=65536)
def _extent_bounds(terms: Terms) -> tuple[int, int]:
    """Bounds of an expression, its quotients first as independent values, then each together with its remainder."""
    low, high = polynomial.bounds(terms)
    for atoms, factor in terms:
        if len(atoms) != 1 or not isinstance(atoms[0], Quotient):
            continue
        # d times the whole, in which factor * d * (n // d) = factor * (n - n % d)
        quotient, divisor = atoms[0], atoms[0].divisor
        others = _make(polynomial.add(terms, ((atoms, -factor),))) * divisor + quotient.numerator * factor
        remainder = sorted((0, -factor * (divisor - 1)))
        own = _bounds(others)
        low = max(low, -(-(own[0] + remainder[0]) // divisor))
        high = min(high, (own[1] + remainder[1]) // divisor)
    return low, high


def _bounds(size: Size) -> tuple[int, int]:
    return _extent_bounds(size.terms) if isinstance(size, Extent) else (int(size), int(size))
