"""Panels of a product's right operand: neighbouring columns, stored row after row as the inner loop reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.tirx.script import builder as T

from torch_tvm.kernels import extent, tir
from torch_tvm.kernels.extent import Extent, Size

# Packing seven layers of ResNet-18 by blocks of 8 x 8 takes 2.1 ms and 27 ms of compile time a kernel, 16 x 16 1.9 ms
# and 54 ms, single elements 2.7 ms and 25 ms.
_TRANSPOSED_LANES = 8


@dataclass(frozen=True)
class PanelPrefetch:
    """The prefetching of panels that come from memory, by the tiles that read them.

    Parameters
    ----------
    ahead
        Rows to prefetch ahead; none at all if 0. Where that is a whole panel, the tiles share it evenly, so that memory
        is never idle: 3x3 convolution of 512 channels at 7x7 with two threads 568 -> 470 us, Winograd F(2x2) 570 -> 498.
    steps, vectors
        Rows of a panel, and vectors of a row.
    tiles
        Tiles that read each panel, one after the other.
    share, lines
        Where the number of tiles is known only when the kernel runs: vectors that each of them has to prefetch, and how many
        of them at most at a step.
    """

    ahead: int
    steps: int
    vectors: int
    lanes: int
    tiles: int
    share: tir.Index | None = None
    lines: int = 1

    def emit(self, panels: tir.Buffer, outer: Sequence[tir.Index], tile: tir.Index, step: tir.Index) -> None:
        """Emit what tile number `tile` prefetches at row `step`; panels[(*outer, row, column)] are contiguous."""
        if self.ahead == 0:
            return
        if self.ahead < self.steps or (self.tiles == 1 and self.share is None):
            for v in range(self.vectors):
                tir.prefetch(panels, (*outer, step + self.ahead, v * self.lanes))
        elif self.share is not None:
            first = tile * self.share + step * self.share // self.steps
            for line in range(self.lines):
                tir.prefetch(panels, (*outer, self.ahead, (first + line) * self.lanes))
        elif self.tiles <= self.vectors:
            lines = -(-self.vectors // self.tiles)
            for line in range(lines):
                tir.prefetch(panels, (*outer, step + self.ahead, (tile * lines + line) * self.lanes))
        else:
            line = (tile * self.steps + step) * self.vectors // self.tiles
            tir.prefetch(panels, (*outer, self.ahead, line * self.lanes))


@dataclass(frozen=True)
class PanelCopy:
    """The copy of one panel of a rows x columns matrix.

    Parameters
    ----------
    rows, columns
        Extents of the matrix; columns of the panel beyond them repeat the last column.
    width
        Columns of the panel, a multiple of `lanes`.
    inner
        The axis that is contiguous in memory: "k" (down a column), "n" (along a row) or another.
    load
        `load(row, column, lanes)` reads elements along the contiguous axis.
    store
        `store(value, row, column of the panel, lanes)` writes into the panel.
    """

    rows: Size
    columns: Size
    width: int
    inner: str | None
    dtype: str
    lanes: int
    load: Callable[[tir.Index, tir.Index, int], tir.Value]
    store: Callable[[tir.Value, tir.Index, tir.Index, int], None]

    def emit(self, first_column: tir.Index) -> None:
        """Emit the copy of the panel that begins at `first_column`."""
        if self.inner == "k":
            self._transpose(first_column)
        elif self.inner != "n":
            self._copy_elements(0, self.rows, first_column)
        elif self._even:
            self._copy_rows(first_column)
        elif isinstance(self.columns, Extent):
            tir.either(
                tir.reaches(self.columns, first_column + self.width),
                lambda: self._copy_rows(first_column),
                lambda: self._copy_elements(0, self.rows, first_column),
            )
        else:
            with T.If(first_column + self.width <= self.columns):
                with T.Then():
                    self._copy_rows(first_column)
                with T.Else():
                    self._copy_elements(0, self.rows, first_column)

    @property
    def _even(self) -> bool:
        """Whether all panels have columns of their own only."""
        return extent.same(self.columns % self.width, 0)

    def _column(self, first_column: tir.Index, column: tir.Index) -> tir.Index:
        if self._even:
            return first_column + column
        return T.min(first_column + column, self.columns - 1)

    def _copy_rows(self, first_column: tir.Index) -> None:
        with tir.loop(self.rows) as row:
            for column in range(0, self.width, self.lanes):
                value = self.load(row, first_column + column, self.lanes)
                self.store(value, row, column, self.lanes)

    def _copy_elements(self, first_row: Size, rows: Size, first_column: tir.Index) -> None:
        with tir.loop(rows) as row, tir.loop(self.width) as column:
            value = self.load(first_row + row, self._column(first_column, column), 1)
            self.store(value, first_row + row, column, 1)

    def _transpose(self, first_column: tir.Index) -> None:
        lanes = min(self.lanes, _TRANSPOSED_LANES)
        blocks = self.rows // lanes
        if not extent.same(blocks, 0):
            with tir.loop(self.width // lanes) as v, tir.loop(blocks) as block:
                columns = [
                    tir.materialise(
                        self.load(block * lanes, self._column(first_column, v * lanes + c), lanes),
                        self.dtype,
                        lanes,
                    )
                    for c in range(lanes)
                ]
                for r, row in enumerate(tir.transpose_square(columns, self.dtype, lanes)):
                    self.store(row, block * lanes + r, v * lanes, lanes)
        if not extent.same(self.rows % lanes, 0):
            self._copy_elements(blocks * lanes, self.rows % lanes, first_column)
