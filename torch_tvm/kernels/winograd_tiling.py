"""The tiles that Winograd's algorithm divides an output into, and where their patches leave the image."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tvm.tirx.script import builder as T

from torch_tvm.kernels import extent, matmul, tir
from torch_tvm.kernels.conv_shape import Conv2d
from torch_tvm.kernels.extent import Extent, Size
from torch_tvm.kernels.matrix_view import MatrixView


@dataclass(frozen=True)
class Tiling:
    """The tiles of an output: `rows` over all images, `columns` in each row."""

    workload: Conv2d
    tile: int

    @property
    def image_rows(self) -> Size:
        """Rows of tiles in an image."""
        return -(-self.workload.out_height // self.tile)

    @property
    def rows(self) -> Size:
        """Rows of tiles in all images."""
        return self.workload.batch * self.image_rows

    @property
    def columns(self) -> Size:
        """Tiles in a row."""
        return -(-self.workload.out_width // self.tile)

    @property
    def patch(self) -> int:
        """Rows and columns of the input patch of a tile."""
        return self.tile + 2

    def product(self, block_rows: int) -> matmul.Matmul:
        """Return the products of a block: one for each element of a patch."""
        w, elements, tiles = self.workload, self.patch**2, block_rows * self.columns
        return matmul.Matmul(
            MatrixView((elements, tiles, w.channels), ("b0", "m", "k")),
            MatrixView((elements, w.filters, w.channels), ("b0", "n", "k")),
            MatrixView((elements, tiles, w.filters), ("b0", "m", "n")),
            packed=True,
            dtype=w.dtype,
        )

    def column_groups(self) -> Iterator[ColumnGroup]:
        """Group neighbouring tiles whose patches leave the image in the same columns."""
        w = self.workload
        if isinstance(w.width, Extent):
            yield from self._symbolic_column_groups()
            return
        first = 0
        masks = [
            tuple(0 <= t * self.tile + j - w.padding[1] < w.width for j in range(self.patch))
            for t in range(self.columns)
        ]
        for t in range(1, self.columns + 1):
            if t == self.columns or masks[t] != masks[first]:
                yield ColumnGroup(t - first, masks[first], functools.partial(operator.add, first))
                first = t

    def _symbolic_column_groups(self) -> Iterator[ColumnGroup]:
        """Group the tiles whose patches lie inside of the image, and those at its borders."""
        w = self.workload
        first = extent.least_of(-(-w.padding[1] // self.tile), self.columns)
        end: tir.Index = (w.width + w.padding[1] - self.patch) // self.tile + 1
        if not extent.at_least(end, first) or not extent.at_least(self.columns, end):
            end = tir.clamp_index(end, first, self.columns)
        inside = (True,) * self.patch
        yield ColumnGroup(end - first, inside, functools.partial(operator.add, first))

        def at_border(i: tir.Index) -> tir.Index:
            return T.Select(i < first, i, i - first + end)

        yield ColumnGroup(self.columns - end + first, None, at_border)


@dataclass(frozen=True)
class ColumnGroup:
    """`count` tiles of a row, tile i of them at column `at(i)`.

    `inside` says which columns of their patches lie in the image; None where that differs among them.
    """

    count: tir.Index
    inside: tuple[bool, ...] | None
    at: Callable[[tir.Index], tir.Index]
