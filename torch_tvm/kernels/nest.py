"""The loops around a vector: serial or parallel, over the iteration space that all operands of a kernel share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script import builder as T

from torch_tvm.kernels import extent, tir
from torch_tvm.kernels.extent import Extent, Size
from torch_tvm.kernels.tir import PARALLEL_MIN_NANOSECONDS
from torch_tvm.kernels.views import Space

Index = Any  # int or PrimExpr
Body = Callable[[Sequence[Index], int], None]

# Threads take contiguous shares of the tasks; with four tasks each the last thread is at most a quarter of a share behind.
TASKS_PER_THREAD = 4
# From here on threads share rows rather than wait for one another.
_MOST_IMBALANCE = 1.1


@dataclass(frozen=True)
class Schedule:
    """`lanes` elements a vector; at least `tasks` parallel tasks, none in parallel if 1."""

    lanes: int
    tasks: int


def task_count(nanoseconds: float, threads: int) -> int:
    """Tasks for work that one thread does in `nanoseconds`: 1 (no parallel region) or several per thread."""
    if threads <= 1 or nanoseconds < 2 * PARALLEL_MIN_NANOSECONDS:
        return 1
    return threads * TASKS_PER_THREAD


def threads_of(tasks: int) -> int:
    """Threads that `task_count` has made so many tasks for."""
    return -(-tasks // TASKS_PER_THREAD)


def advance(space: Space, offsets: Sequence[Index], indices: Sequence[Index], loop: int) -> list[Index]:
    """Offsets of all operands after moving by `indices` along the loops from `loop` on."""
    return [
        sum((index * stride for index, stride in zip(indices, strides[loop:], strict=False)), start=offset)
        for offset, strides in zip(offsets, space.strides, strict=True)
    ]


@dataclass(frozen=True)
class Nest:
    """Calls `body(offsets of all operands, lanes)` for every vector of `lanes` along the innermost loop.

    The last vector of a row overlaps the one before it where `lanes` does not divide the row: computed twice, but never past
    the end and never lane by lane. So a body must not read what it writes. Shorter rows are one shorter vector, elements where
    their size is symbolic unless `whole` says that there are none.
    """

    space: Space
    bases: tuple[int, ...]
    lanes: int
    tasks: int
    body: Body
    whole: bool = False

    def emit(self) -> None:
        """Emit the loops, the outermost ones in parallel if there is more than one task."""
        *outer, inner = self.space.sizes
        split = self._parallel_loops(outer)
        if self._is_uneven(extent.hint(math.prod(outer[:split]))) and extent.hint(inner) >= 2 * self.lanes:
            self._split_inner()
            return
        with tir.loop(math.prod(outer[:split]), parallel=self.tasks > 1) as task:
            self._serial(split, advance(self.space, self.bases, _unravel(task, outer[:split]), 0))

    def _parallel_loops(self, outer: Sequence[int]) -> int:
        """How many outer loops make enough tasks when they run as one parallel loop."""
        if self.tasks == 1:
            return 0
        enough = (split for split in range(len(outer)) if extent.hint(math.prod(outer[:split])) >= self.tasks)
        return next(enough, len(outer))

    def _is_uneven(self, iterations: int) -> bool:
        """Whether so many iterations of the outer loops leave threads idle."""
        if self.tasks == 1 or iterations >= self.tasks:
            return False
        threads = threads_of(self.tasks)
        return -(-iterations // threads) * threads > _MOST_IMBALANCE * iterations

    def _split_inner(self) -> None:
        """Few outer iterations, a long inner loop: tasks are parts of rows."""
        *outer, inner = self.space.sizes
        rows, vectors = math.prod(outer), inner // self.lanes
        parts = min(extent.hint(vectors), -(-self.tasks // extent.hint(rows)))
        with tir.loop(rows * parts, parallel=True) as task:
            offsets = advance(self.space, self.bases, _unravel(T.floordiv(task, parts), outer), 0)
            part = T.floormod(task, parts)
            with tir.loop_between(part * vectors // parts, (part + 1) * vectors // parts) as vector:
                self._at(offsets, vector * self.lanes)
        rest = inner % self.lanes
        if isinstance(rest, Extent) and not self.whole:
            with tir.loop(rows) as row:
                offsets = advance(self.space, self.bases, _unravel(row, outer), 0)
                self._elements(offsets, vectors * self.lanes, rest)
        elif isinstance(rest, Extent) or rest:
            with tir.loop(rows) as row:
                self._at(advance(self.space, self.bases, _unravel(row, outer), 0), inner - self.lanes)

    def _serial(self, loop: int, offsets: Sequence[Index]) -> None:
        size = self.space.sizes[loop]
        if loop < len(self.space.sizes) - 1:
            with tir.loop(size) as index:
                self._serial(loop + 1, advance(self.space, offsets, [index], loop))
            return
        if isinstance(size % self.lanes, Extent):
            self._symbolic(size, offsets)
            return
        if size < self.lanes:
            self.body(offsets, size)
            return
        with tir.loop(size // self.lanes) as vector:
            self._at(offsets, vector * self.lanes)
        if size % self.lanes:
            self._at(offsets, size - self.lanes)

    def _symbolic(self, size: Size, offsets: Sequence[Index]) -> None:
        """A row whose last vector begins early enough to be whole, or elements if it is shorter than a vector."""

        def vectors() -> None:
            with tir.loop(-(-size // self.lanes)) as vector:
                self._at(offsets, T.min(vector * self.lanes, size - self.lanes))

        whole = self.whole or tir.reaches(size, self.lanes)
        tir.either(whole, vectors, lambda: self._elements(offsets, 0, size))

    def _elements(self, offsets: Sequence[Index], first: Index, count: Size) -> None:
        with tir.loop(count) as index:
            loop = len(self.space.sizes) - 1
            self.body(advance(self.space, offsets, [first + index], loop), 1)

    def _at(self, offsets: Sequence[Index], position: Index) -> None:
        self.body(advance(self.space, offsets, [position], len(self.space.sizes) - 1), self.lanes)


def _unravel(index: Index, sizes: Sequence[Size]) -> list[Index]:
    """The indices of nested loops of `sizes`, given that of their fused loop."""
    indices: list[Index] = []
    for position, size in reversed(list(enumerate(sizes))):
        indices.append(index if position == 0 else T.floormod(index, size))
        index = T.floordiv(index, size) if position else index
    return indices[::-1]
