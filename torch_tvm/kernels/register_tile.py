"""The inner loop's state of matrix products and convolutions: a tile of the result that fits the vector registers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from tvm.tirx.script import builder as T

from torch_tvm.kernels import tir
from torch_tvm.kernels.epilogue import Epilogue


class RegisterTile:
    """`rows` x `vectors` accumulators, the result of an anchor for `rows` positions and consecutive columns."""

    def __init__(self, rows: int, vectors: int, dtype: str, lanes: int, *, fused: bool) -> None:
        self.rows, self.vectors, self.dtype, self.lanes = rows, vectors, dtype, lanes
        self._fused = fused
        self._sums = tir.Accumulators(rows * vectors, dtype, lanes)
        self._sums.fill(tir.constant(0, dtype, lanes))

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
        columns: int,
    ) -> None:
        """Apply the epilogue and store `columns` columns of every row.

        `place(row)` is the index of a row in the output tensor, without the last dimension.
        """
        counts = [min(self.lanes, columns - v * self.lanes) for v in range(self.vectors)]
        counts = [count for count in counts if count > 0]
        if epilogue.unrolled:
            for row, (v, count) in itertools.product(range(self.rows), enumerate(counts)):
                index = [*place(row), first_column + v * self.lanes]
                epilogue.store(self._sums[row * self.vectors + v], index, count)
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
        spilled = T.alloc_buffer((self.rows, self.vectors * lanes), self.dtype, align=64)
        self.spill(spilled, lambda row: [row], 0)
        whole = sum(count == lanes for count in counts)
        with tir.loop(self.rows) as row:
            if whole:
                with tir.loop(whole) as v:
                    index = [*place(row), first_column + v * lanes]
                    epilogue.store(tir.load(spilled, (row, v * lanes), lanes), index, lanes)
            if whole < len(counts):
                index = [*place(row), first_column + whole * lanes]
                value = tir.load(spilled, (row, whole * lanes), lanes)
                epilogue.store(value, index, counts[whole])
