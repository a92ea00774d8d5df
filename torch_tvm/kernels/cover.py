"""Tiles that cover a size which is known only when the kernel runs: whole ones, and smaller ones for what they leave over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm.tirx.script import builder as T

from torch_tvm.kernels import extent, tir
from torch_tvm.kernels.extent import Extent


@dataclass(frozen=True)
class Tiles:
    """`count` tiles of `size` elements, none perhaps; the first begins at `first`, none behind `last`."""

    size: int
    count: tir.Index
    first: tir.Index
    last: tir.Index

    def at(self, i: tir.Index) -> tir.Index:
        """Return the element at which tile `i` begins."""
        return T.min(self.first + i * self.size, self.last)


def parts(size: int, most: int) -> list[int]:
    """Return the half of a size, a quarter and so on, `most` of them at most, and 1: each is code of its own."""
    halves = [-(-size // 2**power) for power in range(1, most + 1)]
    return sorted({*halves, 1} - {size}, reverse=True)


def cover(whole: Extent, size: int, lesser: Sequence[int]) -> list[Tiles]:
    """Emit what says how many tiles of each size cover `whole`.

    Tiles of `size`, then one of the least of the lesser sizes that has all that is left over; it begins early enough to be
    whole. Where `whole` is less than `size`, tiles of one of the lesser sizes, of which the last is 1.
    """
    if size == 1 or extent.same(whole % size, 0):
        count, last = tir.expressions((whole // size, whole - size))
        return [Tiles(size, count, 0, last)]
    (all_,) = tir.expressions((whole,))
    enough = tir.reaches(whole, size)
    most = lesser[0]
    covered = _once(_where(enough, (all_ + (size - 1 - most)) // size, 0))
    tiles = [] if enough is False else [Tiles(size, covered, 0, all_ - size)]
    left = all_ - covered * size
    below = [*lesser[1:], 0]
    # Two tiles of the next size take no longer than two of this one.
    least = [max(own, 2 * next_ + 1) if next_ else 1 for own, next_ in zip(lesser, below, strict=True)]
    largest = [size - 1, *(value - 1 for value in least[:-1])]
    for own, next_, low, high in zip(lesser, below, least, largest, strict=True):
        last = _where(T.And(left > next_, left <= own), 1, 0)
        few = _where(T.And(all_ >= low, all_ <= high), (all_ + (own - 1)) // own, 0)
        tiles.append(Tiles(own, _once(_where(enough, last, few)), covered * size, all_ - own))
    return tiles


def _where(condition: bool | tir.Value, then: tir.Index, otherwise: tir.Index) -> tir.Index:
    if isinstance(condition, bool):
        return then if condition else otherwise
    return T.Select(condition, then, otherwise)


def _once(index: tir.Index) -> tir.Index:
    return index if isinstance(index, int) else tir.materialise(index, "int32", 1)
