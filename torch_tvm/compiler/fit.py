"""Numbers that differ between examples of one computation, as expressions of the sizes that differ."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from torch_tvm.kernels.extent import Dim, Extent, Size, evaluate

# Of a dimension in one product (the scores of attention have the square of a length), and of the product.
_MOST_OF_ONE = 2
_MOST_OF_ALL = 3
# Strides halve sizes, again and again; a few examples could be explained by other divisors as well.
_DIVISORS = (2, 4, 8, 16, 32, 64, 3, 5, 6, 7, 9, 10, 12, 14, 24, 28, 48)
# Sizes of tensors that products are formed of; more take long and explain nothing more.
_MOST_KNOWN = 24


class NoFitError(ValueError):
    """Numbers of examples that no expression explains."""


class Fitter:
    """Finds expressions of dimensions for numbers that examples have.

    The simplest one that explains all examples: a multiple of one product of dimensions, that plus a number, a
    combination of two products, a quotient rounded down. Three examples determine what two unknown numbers may be; those
    beyond can only contradict.

    Parameters
    ----------
    dims
        The dimensions.
    examples
        Their values in each example, by name.
    known
        What certain numbers are: sizes of which products may occur.
    others
        Values for which expressions of one number have to agree too; where they do not, none is taken.
    """

    def __init__(
        self,
        dims: Sequence[Dim],
        examples: Sequence[Mapping[str, int]],
        known: Mapping[tuple[int, ...], Size] | None = None,
        others: Sequence[Mapping[str, int]] = (),
    ) -> None:
        self._others = others
        self._products = [
            (product, [product_of(example, product) for example in examples])
            for product in _products([dim.name for dim in dims])
        ]
        self._extents = {dim.name: dim.extent for dim in dims}
        self._values = {dim.name: [example[dim.name] for example in examples] for dim in dims}
        self._count = len(examples)
        self._known: dict[tuple[int, ...], Size] = dict(known or {})
        parts = [(size, numbers) for numbers, size in self._known.items() if isinstance(size, Extent)]
        self._parts = parts[:_MOST_KNOWN]

    def fit(self, numbers: Sequence[int]) -> Size:
        """Return what gives these numbers in the examples.

        Raises
        ------
        NoFitError
            If no expression does.
        """
        key = tuple(numbers)
        if len(key) != self._count:
            raise ValueError(f"expected a number of each of {self._count} examples, got {len(key)}")
        if len(set(key)) == 1:
            return key[0]
        if key not in self._known:
            found = next(self._candidates(key), None)
            if found is None:
                found = self._agreed(self._products_of_parts(key))
            if found is None:
                raise NoFitError(f"{list(key)} is no expression of the sizes that differ")
            self._known[key] = found
        return self._known[key]

    def _candidates(self, numbers: tuple[int, ...]) -> Iterator[Size]:
        for product, values in self._products:
            factor = Fraction(numbers[0], values[0])
            if factor.denominator == 1 and all(factor * v == n for v, n in zip(values, numbers, strict=True)):
                yield self._expression({product: int(factor)})
        constant = ((), [1] * self._count)
        for first, second in (
            *((constant, each) for each in self._products),
            *itertools.combinations(self._products, 2),
        ):
            factors = _solve(first[1], second[1], numbers)
            if factors is not None:
                yield self._expression({first[0]: factors[0], second[0]: factors[1]})
        yield from self._quotients(numbers)

    def _quotients(self, numbers: tuple[int, ...]) -> Iterator[Size]:
        """Yield (product + a) // d: a size that strides or tiles divide."""
        for product, values in self._products:
            for divisor in _DIVISORS:
                # n <= (v + a) / d < n + 1 bounds a from both sides in each example.
                least = max(n * divisor - v for v, n in zip(values, numbers, strict=True))
                most = min(n * divisor + divisor - 1 - v for v, n in zip(values, numbers, strict=True))
                if least == most:
                    yield (self._expression({product: 1}) + least) // divisor

    def _agreed(self, candidates: Iterator[Size]) -> Size | None:
        """Return the first of some expressions, None if there is none or they are not the same for other values."""
        first = next(candidates, None)
        expected = [evaluate(first, values) for values in self._others] if first is not None else []
        for candidate in candidates:
            if [evaluate(candidate, values) for values in self._others] != expected:
                return None
        return first

    def _products_of_parts(self, numbers: tuple[int, ...]) -> Iterator[Size]:
        """Yield x * part + y and x * part * part + y of sizes that are known, such as those of images; with a batch too."""
        dims = [(extent, self._values[name]) for name, extent in self._extents.items()]
        ones: tuple[Size, Sequence[int]] = (1, [1] * self._count)
        for (a, p), (b, q) in itertools.combinations_with_replacement([ones, *self._parts], 2):
            for c, r in [ones, *dims]:
                values = [x * y * z for x, y, z in zip(p, q, r, strict=True)]
                factors = _solve(values, ones[1], numbers)
                if factors is not None:
                    yield factors[0] * (a * b * c) + factors[1]

    def _expression(self, terms: Mapping[tuple[str, ...], int]) -> Size:
        total: Size = 0
        for product, factor in terms.items():
            total = total + math.prod((self._extents[name] for name in product), start=factor)
        return total

    @property
    def known(self) -> Mapping[tuple[int, ...], Size]:
        """What the numbers are that were fitted so far."""
        return self._known


def known_of_fewer(known: Mapping[tuple[int, ...], Size], count: int) -> dict[tuple[int, ...], Size]:
    """Return what is known of the first `count` examples, where these tell it apart."""
    found: dict[tuple[int, ...], list[Size]] = {}
    for numbers, size in known.items():
        found.setdefault(numbers[:count], []).append(size)
    return {numbers: sizes[0] for numbers, sizes in found.items() if len(sizes) == 1}


def product_of(values: Mapping[str, int], names: Sequence[str]) -> int:
    """Multiply the values of some dimensions."""
    return math.prod(values[name] for name in names)


def _products(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Products of dimensions, small ones first."""
    return [
        product
        for degree in range(1, _MOST_OF_ALL + 1)
        for product in itertools.combinations_with_replacement(names, degree)
        if all(product.count(name) <= _MOST_OF_ONE for name in product)
    ]


def _solve(a: Sequence[int], b: Sequence[int], numbers: Sequence[int]) -> tuple[int, int] | None:
    """Return the whole x, y with x * a + y * b = numbers, None if there are none."""
    pairs = ((i, j) for i, j in itertools.combinations(range(len(numbers)), 2) if a[i] * b[j] != a[j] * b[i])
    i, j = next(pairs, (0, 0))
    determinant = a[i] * b[j] - a[j] * b[i]
    if determinant == 0:
        return None
    x = Fraction(numbers[i] * b[j] - numbers[j] * b[i], determinant)
    y = Fraction(a[i] * numbers[j] - a[j] * numbers[i], determinant)
    if x.denominator != 1 or y.denominator != 1:
        return None
    right = all(x * p + y * q == n for p, q, n in zip(a, b, numbers, strict=True))
    return (int(x), int(y)) if right else None
