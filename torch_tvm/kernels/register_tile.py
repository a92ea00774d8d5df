"""The inner loop's state of matrix products and convolutions: a tile of the result that fits the vector registers."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

from tvm.tirx.script import builder as T

from torch_tvm.kernels import extent, tir
from torch_tvm.kernels.epilogue import Epilogue
from torch_tvm.kernels.extent import Extent, Size

# Sums of more terms than the first are added up in parts of at most as many as the second. Rounding grows with the terms
# of a part and with the parts, not with all terms: 3x3 convolution of 512 channels of numbers from 0 to 1, largest error
# against float64 relative to the largest result, 2.1e-6 at once and 4.6e-7 in parts (PyTorch 2.5e-7). A part of a tile of
# 14 x 32 takes 7000 cycles, adding it to the others 50.
_AT_ONCE, _PART = 1024, 512


def memory_of_parts(terms: Size, shape: tuple[int, int], dtype: str) -> tir.Buffer | None:
    """Allocate what a `Summation` of so many terms in tiles of this shape adds up its parts in, if it has any."""
    if extent.at_least(_AT_ONCE, terms) or not dtype.startswith(("float", "bfloat")):
        return None
    buffer: tir.Buffer = T.alloc_buffer(shape, dtype, align=64)
    return buffer


class RegisterTile:
    """`rows` x `vectors` accumulators, the result of an anchor for `rows` positions and consecutive columns."""

    def __init__(self, rows: int, vectors: int, dtype: str, lanes: int, *, fused: bool) -> None:
        self.rows, self.vectors, self.dtype, self.lanes = rows, vectors, dtype, lanes
        self._fused = fused
        self._sums = tir.Accumulators(rows * vectors, dtype, lanes)
        self.clear()

    def multiply_add(self, row: int, scalar: tir.Value, vectors: Sequence[tir.Value]) -> None:
        """Add `scalar` times each vector to a row."""
        repeated = T.bind(tir.broadcast(scalar, self.lanes))
        for v, vector in enumerate(vectors):
            k = row * self.vectors + v
            self._sums[k] = tir.multiply_add(
                repeated, vector, self._sums[k], self.dtype, self.lanes, fused=self._fused
            )

    def add(self, other: RegisterTile) -> None:
        """Add another tile's sums to this one's."""
        for k in range(len(self._sums)):
            self._sums[k] = self._sums[k] + other._sums[k]

    def load(
        self, buffer: tir.Buffer, place: Callable[[tir.Index], list[tir.Index]], first_column: tir.Index
    ) -> None:
        """Take sums that `spill` stored."""
        for row, v in itertools.product(range(self.rows), range(self.vectors)):
            index = (*place(row), first_column + v * self.lanes)
            self._sums[row * self.vectors + v] = tir.load(buffer, index, self.lanes)

    def add_stored(
        self, buffer: tir.Buffer, place: Callable[[tir.Index], list[tir.Index]], first_column: tir.Index
    ) -> None:
        """Add sums that `spill` stored."""
        for row, v in itertools.product(range(self.rows), range(self.vectors)):
            k = row * self.vectors + v
            stored = tir.load(buffer, (*place(row), first_column + v * self.lanes), self.lanes)
            self._sums[k] = self._sums[k] + stored

    def clear(self) -> None:
        """Set all sums to zero."""
        self._sums.fill(tir.constant(0, self.dtype, self.lanes))

    def scale(self, factor: Callable[[int], tir.Value]) -> None:
        """Multiply every row with its factor."""
        for row in range(self.rows):
            repeated = T.bind(tir.broadcast(factor(row), self.lanes))
            for v in range(self.vectors):
                k = row * self.vectors + v
                self._sums[k] = self._sums[k] * repeated

    def spill(
        self, buffer: tir.Buffer, place: Callable[[tir.Index], list[tir.Index]], first_column: tir.Index
    ) -> None:
        """Store all sums as they are, whole vectors of them."""
        for row, v in itertools.product(range(self.rows), range(self.vectors)):
            index = (*place(row), first_column + v * self.lanes)
            tir.store(buffer, self._sums[row * self.vectors + v], index, self.lanes)

    def store(
        self,
        epilogue: Epilogue,
        place: Callable[[tir.Index], list[tir.Index]],
        first_column: tir.Index,
        columns: Size,
    ) -> None:
        """Apply the epilogue and store `columns` columns of every row.

        `place(row)` is the index of a row in the output tensor, without the last dimension. Of several results for an
        index, each has its share of the tile's columns, side by side.
        """
        if isinstance(columns, Extent):
            self._store_symbolic(epilogue, place, first_column, columns)
            return
        share = self.vectors // epilogue.results
        counts = [min(self.lanes, columns - v * self.lanes) for v in range(share)]
        counts = [count for count in counts if count > 0]
        if epilogue.unrolled:
            for row, (v, count) in itertools.product(range(self.rows), enumerate(counts)):
                index = [*place(row), first_column + v * self.lanes]
                result, *others = (
                    self._sums[row * self.vectors + at] for at in range(v, self.vectors, share)
                )
                epilogue.store(result, index, count, *others)
        else:
            self._store_in_loop(epilogue, place, first_column, counts)

    def _store_in_loop(
        self,
        epilogue: Epilogue,
        place: Callable[[tir.Index], list[tir.Index]],
        first_column: tir.Index,
        counts: Sequence[int],
    ) -> None:
        lanes = self.lanes
        spilled = self._spilled()
        whole = sum(count == lanes for count in counts)

        def store(row: tir.Index, v: tir.Index, count: int) -> None:
            self._store_spilled(spilled, epilogue, [*place(row), first_column], row, v * lanes, count)

        with tir.loop(self.rows) as row:
            if whole:
                with tir.loop(whole) as v:
                    store(row, v, lanes)
            if whole < len(counts):
                store(row, whole, counts[whole])

    def _store_symbolic(
        self,
        epilogue: Epilogue,
        place: Callable[[tir.Index], list[tir.Index]],
        first_column: tir.Index,
        columns: Extent,
    ) -> None:
        """Store whole vectors of every row, then elements."""
        whole, spilled = columns // self.lanes, self._spilled()
        elements = dataclasses.replace(epilogue, lanes=1)
        with tir.loop(self.rows) as row:
            begin = [*place(row), first_column]
            if not extent.same(whole, 0):
                with tir.loop(whole) as v:
                    self._store_spilled(spilled, epilogue, begin, row, v * self.lanes, self.lanes)
            with tir.loop(columns % self.lanes) as column:
                self._store_spilled(spilled, elements, begin, row, whole * self.lanes + column, 1)

    def _spilled(self) -> tir.Buffer:
        """Store all sums in memory of their own."""
        spilled: tir.Buffer = T.alloc_buffer((self.rows, self.vectors * self.lanes), self.dtype, align=64)
        self.spill(spilled, lambda row: [row], 0)
        return spilled

    def _store_spilled(
        self,
        spilled: tir.Buffer,
        epilogue: Epilogue,
        begin: Sequence[tir.Index],
        row: tir.Index,
        column: tir.Index,
        count: int,
    ) -> None:
        """Apply the epilogue to `count` columns of what `_spilled` stored, and store them in a row that begins at `begin`."""
        *outer, first = begin
        width = self.vectors * self.lanes
        result, *others = (
            tir.load(spilled, (row, column + share), epilogue.lanes)
            for share in range(0, width, width // epilogue.results)
        )
        epilogue.store(result, [*outer, first + column], count, *others)


class Summation:
    """Sums of many terms in a register tile: in chains, so that FMA units do not wait, and parts, so that rounding is small.

    Parameters
    ----------
    chains
        Tiles that take terms in turn; all zero.
    memory
        What parts are added up in; `None` where everything is one part.
    place
        Where in the memory a row of the tile lies.
    """

    def __init__(
        self,
        chains: Sequence[RegisterTile],
        memory: tir.Buffer | None = None,
        place: Callable[[tir.Index], list[tir.Index]] = lambda row: [row],
    ) -> None:
        self._chains, self._memory, self._place = chains, memory, place

    def begin(self) -> None:
        """Set the memory of the parts to zero."""
        if self._memory is not None:
            self._chains[0].spill(self._memory, self._place, 0)

    def add(self, terms: Size, step: Callable[[RegisterTile, tir.Index], None]) -> None:
        """Emit `step(tile, k)`, which adds term k to a tile, for every k below `terms`."""
        if self._memory is None:
            tir.chained_loop(terms, self._chains, step)
            return

        def step_from(first: tir.Index, chain: RegisterTile, k: tir.Index) -> None:
            step(chain, first + k)

        first: tir.Index = 0
        if isinstance(terms, Extent):
            with tir.loop(terms // _PART) as part:
                tir.chained_loop(_PART, self._chains, functools.partial(step_from, part * _PART))
                self._add_part(self._memory)
            first, rest = terms // _PART * _PART, terms % _PART
            tir.chained_loop(rest, self._chains, functools.partial(step_from, first))
            self._add_part(self._memory)
            return
        for count, size in tir.split_evenly(terms, _PART):
            with tir.loop(count) as part:
                tir.chained_loop(size, self._chains, functools.partial(step_from, first + part * size))
                self._add_part(self._memory)
            first += count * size

    def _add_part(self, memory: tir.Buffer) -> None:
        tile = self._joined()
        tile.add_stored(memory, self._place, 0)
        tile.spill(memory, self._place, 0)
        for chain in self._chains:
            chain.clear()

    def _joined(self) -> RegisterTile:
        for other in self._chains[1:]:
            self._chains[0].add(other)
        return self._chains[0]

    def total(self) -> RegisterTile:
        """Return the tile with the sums of all terms."""
        if self._memory is None:
            return self._joined()
        self._chains[0].load(self._memory, self._place, 0)
        return self._chains[0]
