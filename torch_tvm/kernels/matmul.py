"""Matrix products: C = A B with batches, views of tensors as operands, weights packed ahead, and a fused epilogue.

A register tile of rows x vectors accumulators runs over all of k: it reads a scalar of A for each row and a row of
a panel of B. The right operand's panels are packed ahead (weights), copied by the kernel (when many tiles read
them, or when B is transposed), or read where they lie.

One thread of a Zen 5 at 4.1 GHz, 262 GFLOPS at the FMA limit: 128x768x768 246-267, 128x3072x768 246-253 with any
tile that fits the registers (`rows * vectors + vectors + 1 <= 32`); with one row more than fits, 128-145.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import cover, extent, quads, tiling, tir
from torch_tvm.kernels import epilogue as epilogues
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression
from torch_tvm.kernels.extent import Extent, Size
from torch_tvm.kernels.matmul_shape import Matmul
from torch_tvm.kernels.panel import PanelCopy, PanelPrefetch
from torch_tvm.kernels.register_tile import RegisterTile, Summation, memory_of_parts
from torch_tvm.kernels.target import CpuTarget

__all__ = [
    "Matmul",
    "Product",
    "Schedule",
    "build",
    "build_pack",
    "cycles",
    "default_schedule",
    "emit",
    "packed_shape",
]

# From this many tiles that read it, a copied panel pays: its rows are contiguous and never partial.
_TILES_PER_COPIED_PANEL = 8
# Heights beside that of the schedule and 1 for rows whose number is known only when the kernel runs: each takes as long to
# compile as the schedule's. 3072x768 with tiles of 6 rows, 13 and 33 rows, against a kernel for that number: 1.47 times as
# long with tiles of 6 rows only, 0.94 and 1.00 times with 3 and 2.
_LESSER_HEIGHTS = 2


@dataclass(frozen=True)
class Schedule:
    """How a product is computed.

    Parameters
    ----------
    rows, vectors
        Size of the register tile.
    lanes
        Elements of a vector; a panel has vectors * lanes columns.
    right
        "packed" (ahead), "copied" (the kernel copies a panel before it reads it) or "direct" (where it lies).
    row_blocks
        Parts that the rows are divided into, each with all panels a task of the parallel loop.
    chains
        Sums that a result is split into, to hide the latency of FMA when the tile is small.
    parallel
        Whether tasks run in parallel.
    prefetch
        Rows that packed panels are prefetched ahead. Where that is a whole panel, the tiles that read a panel share
        the prefetching of the next one, so that memory is never idle.
    rows_first
        Whether threads share the rows, each with all panels, rather than the panels.
    """

    rows: int
    vectors: int
    lanes: int
    right: str
    row_blocks: int = 1
    chains: int = 1
    parallel: bool = False
    prefetch: int = 0
    rows_first: bool = False

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return self.vectors * self.lanes

    @property
    def packing(self) -> Schedule:
        """All that packing depends on: schedules with an equal one want the right operand in the same form."""
        return Schedule(1, self.vectors, self.lanes, self.right, parallel=self.parallel)


def default_schedule(workload: Matmul, target: CpuTarget, threads: int = 1, multiple: int = 1) -> Schedule:
    """Choose tiles that fit the registers and waste least, and tasks that keep `threads` threads busy.

    The vectors of a tile are a multiple of `multiple`.
    """
    workload = workload.with_contiguous_rows()
    lanes, size = target.lanes(workload.dtype), tir.element_bytes(workload.dtype)
    rows, vectors = _tile(workload, target, lanes, threads, multiple)
    tiles = -(-workload.m // rows)
    right = "packed" if workload.packed else "copied"
    if not workload.packed and workload.b.inner == "n" and tiles < _TILES_PER_COPIED_PANEL:
        right = "direct"
    panels = -(-workload.n // (vectors * lanes))
    tasks = panels * math.prod(workload.batch.values())
    bytes_of_b = _weight_bytes(workload)
    parallel = tiling.worth_threads(workload.flops, bytes_of_b, lanes, threads)
    rows_first = parallel and workload.packed and not workload.batch
    rows_first = rows_first and tiling.shares_rows(workload.m, workload.n, workload.k, tiles, threads)
    row_blocks = threads if rows_first else tiling.blocks(tasks, tiles, threads) if parallel else 1
    chains = tiling.chains(rows, vectors, workload.k)
    ahead = tiling.prefetch_rows(rows, bytes_of_b, workload.k, tiles, vectors * lanes * size)
    prefetch = ahead if workload.packed else 0
    return Schedule(rows, vectors, lanes, right, row_blocks, chains, parallel, prefetch, rows_first)


def _tile(workload: Matmul, target: CpuTarget, lanes: int, threads: int, multiple: int) -> tuple[int, int]:
    size = tir.element_bytes(workload.dtype)
    from_memory = workload.packed and _weight_bytes(workload) > tiling.WARM_BYTES

    def cost(tile: tuple[int, int]) -> float:
        bodies = len(tir.split_evenly(workload.m, tile[0]))
        panel_bytes = workload.k * tile[1] * lanes * size
        # Nothing fetches a thread's first panel ahead.
        first = threads * panel_bytes / tiling.MEMORY_BYTES_PER_CYCLE if from_memory else 0
        waiting = max(tiling.MOST_IMBALANCE, _imbalance(workload, *tile, lanes, threads))
        computing = cycles(workload, *tile, lanes) * waiting
        return tiling.with_compile_time(computing + first, bodies)

    row_bytes = workload.a.stride("m") * size if workload.m > 1 else 1
    tiles = tiling.register_tiles(target, lanes, workload.n, row_bytes)
    rows, vectors = min((tile for tile in tiles if tile[1] % multiple == 0), key=cost)
    return max(height for _, height in tir.split_evenly(workload.m, rows)), vectors


def _imbalance(workload: Matmul, rows: int, vectors: int, lanes: int, threads: int) -> float:
    """Return what the busiest thread does, divided by the average, with tiles of rows x vectors."""
    tasks = math.prod(workload.batch.values()) * -(-workload.n // (vectors * lanes))
    tiles = -(-workload.m // rows)
    return tiling.imbalance(tasks, tiles, tiling.blocks(tasks, tiles, threads), threads)


def cycles(workload: Matmul, rows: int, vectors: int, lanes: int) -> float:
    """Estimate the cycles that one thread takes with tiles of rows x vectors, operands being in caches."""
    size, width = tir.element_bytes(workload.dtype), vectors * lanes
    panel_bytes = workload.k * width * size
    step = sum(
        n * tiling.cycles_per_step(height, vectors, lanes * size, panel_bytes)
        for n, height in tir.split_evenly(workload.m, rows)
    )
    return math.prod(workload.batch.values()) * workload.k * -(-workload.n // width) * step


def _weight_bytes(workload: Matmul) -> int:
    """Bytes of the right operand."""
    matrices = math.prod(workload.batch[axis] for axis in _packed_batch(workload))
    return matrices * workload.n * workload.k * quads.bytes_in_floats(workload)


def _packed_batch(workload: Matmul) -> list[str]:
    return [axis for axis in workload.batch if axis in workload.b.extents]


def packed_shape(workload: Matmul, schedule: Schedule) -> tuple[int, ...]:
    """Shape of the packed right operand: [batch axes that it has ..., panel, k, column]."""
    batch = [workload.batch[axis] for axis in _packed_batch(workload)]
    return (*batch, -(-workload.n // schedule.width), workload.k, schedule.width)


def build_pack(workload: Matmul, schedule: Schedule, target: CpuTarget, name: str) -> PrimFunc:
    """Build the kernel (b, packed) that packs the right operand."""
    axes = _packed_batch(workload)
    shape = packed_shape(workload, schedule)
    panels = math.prod(shape[:-2])

    def body(source: tir.Buffer, packed: tir.Buffer) -> None:
        with tir.loop(panels, parallel=schedule.parallel) as task:
            position = tir.unravel(task, shape[:-2])
            batch = dict(zip(axes, position[:-1], strict=True))
            copy = _panel_copy(
                workload,
                schedule,
                source,
                batch,
                lambda value, k, column, lanes: tir.store(packed, value, (*position, k, column), lanes),
            )
            copy.emit(position[-1] * schedule.width)

    parameters = [
        tir.Parameter("b", workload.b.shape, workload.dtype),
        tir.Parameter("packed", shape, workload.dtype),
    ]
    return tir.kernel(name, parameters, body)


def build(
    workload: Matmul,
    schedule: Schedule,
    target: CpuTarget,
    name: str,
    epilogue: Expression | PlacedExpression | None = None,
) -> PrimFunc:
    """Build the kernel (a, b or packed, extra inputs of the epilogue ..., outputs ...).

    Parameters
    ----------
    epilogue
        Its shape is that of `workload.c`, its input 0 the product.
    """
    expression = epilogues.resolve(epilogue, workload.c.shape, workload.dtype)
    right = packed_shape(workload, schedule) if workload.packed else workload.b.shape
    operands = [
        tir.Parameter("a", workload.a.shape, workload.dtype),
        tir.Parameter("b", right, workload.dtype),
    ]
    product = workload.with_contiguous_rows()
    loops = epilogues.fold(expression, product.c.shape)
    if loops is None:
        product = workload if workload.c.inner == "n" else workload.mirrored()
        loops = expression

    def body(a: tir.Buffer, b: tir.Buffer, *rest: tir.Buffer) -> None:
        if workload.c.inner != "n":
            a, b = b, a
        left = tir.reshaped(a, product.a.shape, workload.dtype)
        right = b if workload.packed else tir.reshaped(b, product.b.shape, workload.dtype)
        emit(product, schedule, target, left, right, epilogues.bind(loops, rest, schedule.lanes))

    return epilogues.kernel(name, operands, expression, body)


def emit(
    workload: Matmul,
    schedule: Schedule,
    target: CpuTarget,
    a: tir.Buffer,
    b: tir.Buffer,
    epilogue: epilogues.Epilogue,
) -> None:
    """Emit a product whose result has contiguous rows into the kernel that is being built."""
    if schedule.right == "direct" and isinstance(workload.n % schedule.width, Extent):
        # A copied panel has all its columns.
        schedule = dataclasses.replace(schedule, right="copied")
    Product(workload, schedule, target, a, b, epilogue).emit()


def _panel_copy(
    workload: Matmul,
    schedule: Schedule,
    source: tir.Buffer,
    batch: Mapping[str, tir.Index],
    store: Callable[[tir.Value, tir.Index, tir.Index, int], None],
) -> PanelCopy:
    return PanelCopy(
        rows=workload.k,
        columns=workload.n,
        width=schedule.width,
        inner=workload.b.inner,
        dtype=workload.dtype,
        lanes=schedule.lanes,
        load=lambda k, n, lanes: tir.load(source, workload.b.index({**batch, "k": k, "n": n}), lanes),
        store=store,
    )


@dataclass(frozen=True)
class Product:
    """Emits the loops of a product whose result has contiguous rows."""

    workload: Matmul
    schedule: Schedule
    target: CpuTarget
    a: tir.Buffer
    b: tir.Buffer
    epilogue: epilogues.Epilogue

    @property
    def panels(self) -> Size:
        return -(-self.workload.n // self.schedule.width)

    @property
    def ragged(self) -> Size:
        """Columns of the last panel when it has fewer than the others, else 0."""
        return self.workload.n % self.schedule.width

    @property
    def _last(self) -> Size:
        """Columns of the last panel."""
        return self.workload.n - (self.panels - 1) * self.schedule.width

    def emit(self) -> None:
        """Emit the parallel loop over batch, panels and blocks of rows."""
        w, s = self.workload, self.schedule
        inner = (s.row_blocks, self.panels) if s.rows_first else (self.panels, s.row_blocks)
        shape = (*w.batch.values(), *inner)
        with tir.loop(math.prod(shape), parallel=s.parallel) as task:
            *position, panel, block = tir.unravel(task, shape)
            if s.rows_first:
                panel, block = block, panel
            batch = dict(zip(w.batch, position, strict=True))
            if isinstance(self.ragged, Extent):
                self._rows(batch, block, panel, None)
            elif s.right == "direct" and self.ragged and self.panels > 1:
                with T.If(panel < self.panels - 1):
                    with T.Then():
                        self._rows(batch, block, panel, s.width)
                    with T.Else():
                        self._rows(batch, block, self.panels - 1, self.ragged)
            elif self.ragged and self.panels > 1:
                self._rows(batch, block, panel, None)
            else:
                self._rows(batch, block, panel, self.ragged or s.width)

    def emit_rows(self, batch: Mapping[str, tir.Index], panel: tir.Index) -> None:
        """Emit all rows of one matrix of the batch for one panel of a packed right operand."""
        columns = None if self.ragged and self.panels > 1 else self.ragged or self.schedule.width
        self._rows(batch, 0, panel, columns)

    def _rows(
        self, batch: Mapping[str, tir.Index], block: tir.Index, panel: tir.Index, columns: int | None
    ) -> None:
        """Emit the tiles of a block of rows; `columns` is `None` where only the store depends on the panel."""
        w, s = self.workload, self.schedule
        vectors = self._right_operand(batch, panel, columns)
        if isinstance(w.m, Extent):
            self._any_rows(w.m, batch, block, panel, columns, vectors)
            return
        sizes = tir.split_evenly(w.m, s.rows)
        tiles = sum(count for count, _ in sizes)
        low, high = block * tiles // s.row_blocks, (block + 1) * tiles // s.row_blocks
        parts = memory_of_parts(w.k, (s.rows, s.width), w.dtype)
        first_row = 0
        for group, i, tile in tir.loops_between([count for count, _ in sizes], low, high):
            count, rows = sizes[group]
            load = functools.partial(vectors, tile)
            self._tile(batch, first_row + i * rows, rows, panel, columns, load, parts)
            first_row += count * rows

    def _any_rows(
        self,
        m: Extent,
        batch: Mapping[str, tir.Index],
        block: tir.Index,
        panel: tir.Index,
        columns: int | None,
        load: Callable[..., list[tir.Value]],
    ) -> None:
        """Emit tiles of as many heights as cover any number of rows."""
        w, s = self.workload, self.schedule
        parts = memory_of_parts(w.k, (s.rows, s.width), w.dtype)
        tiles = cover.cover(m, s.rows, cover.parts(s.rows, _LESSER_HEIGHTS))
        number: tir.Index = 0
        for group in tiles:
            number += group.count
        count = number if isinstance(number, int) else tir.materialise(number, "int32", 1)
        share = (w.k * s.vectors + count - 1) // T.max(count, 1) if s.prefetch else 0
        share = tir.materialise(share, "int32", 1) if s.prefetch else 0
        low, high = block * count // s.row_blocks, (block + 1) * count // s.row_blocks
        for place, i, tile in tir.loops_between([group.count for group in tiles], low, high):
            group = tiles[place]
            # As many tiles as vectors, or two of the schedule's height, prefetch all of a panel.
            lines = -(-s.vectors // 2) if group.size == s.rows else s.vectors
            vectors = functools.partial(load, tile, share=share, lines=lines)
            self._tile(batch, group.at(i), group.size, panel, columns, vectors, parts)

    def _right_operand(
        self, batch: Mapping[str, tir.Index], panel: tir.Index, columns: int | None
    ) -> Callable[..., list[tir.Value]]:
        """Return what loads row k of the panel for a tile: a function of the number of the tile and of k.

        And, where the number of tiles is known only when the kernel runs, of `share` and `lines` of `PanelPrefetch`.
        """
        w, s = self.workload, self.schedule
        if s.right == "packed":
            position = [batch[axis] for axis in _packed_batch(w)]
            return self._panel_loads(self.b, [*position, panel], s.prefetch)
        if s.right == "copied":
            copied = T.alloc_buffer(tir.expressions((w.k, s.width)), w.dtype, align=64)

            def store(value: tir.Value, k: tir.Index, column: tir.Index, lanes: int) -> None:
                tir.store(copied, value, (k, column), lanes)

            _panel_copy(w, s, self.b, batch, store).emit(panel * s.width)
            return self._panel_loads(copied, [], 0)
        counts = [min(s.lanes, (columns or s.width) - v * s.lanes) for v in range(s.vectors)]

        def load(tile: tir.Index, k: tir.Index, **_: tir.Index) -> list[tir.Value]:
            first = [
                w.b.index({**batch, "k": k, "n": panel * s.width + v * s.lanes}) for v in range(s.vectors)
            ]
            return [
                T.bind(tir.load_partial(self.b, index, count=count, dtype=w.dtype, lanes=s.lanes))
                for index, count in zip(first, counts, strict=True)
                if count > 0
            ]

        return load

    def _panel_loads(
        self, buffer: tir.Buffer, outer: list[tir.Index], prefetch: int
    ) -> Callable[..., list[tir.Value]]:
        s = self.schedule
        known = sum(count for count, _ in tir.split_evenly(extent.hint(self.workload.m), s.rows))

        def load(tile: tir.Index, k: tir.Index, share: tir.Index = None, lines: int = 1) -> list[tir.Value]:
            vectors = [T.bind(tir.load(buffer, (*outer, k, v * s.lanes), s.lanes)) for v in range(s.vectors)]
            ahead = PanelPrefetch(prefetch, self.workload.k, s.vectors, s.lanes, known, share, lines)
            ahead.emit(buffer, outer, tile, k)
            return vectors

        return load

    def _tile(
        self,
        batch: Mapping[str, tir.Index],
        first_row: tir.Index,
        rows: int,
        panel: tir.Index,
        columns: int | None,
        vectors: Callable[[tir.Index], list[tir.Value]],
        parts: tir.Buffer | None,
    ) -> None:
        w, s = self.workload, self.schedule
        used = s.vectors if columns is None else -(-columns // s.lanes)
        count = max(s.chains, tiling.chains(rows, used, extent.hint(w.k)))
        chains = [quads.register_tile(w, rows, used, s.lanes, self.target) for _ in range(count)]

        def step(chain: RegisterTile, k: tir.Index) -> None:
            row_of_panel = vectors(k)
            for i in range(rows):
                scalar = tir.load(self.a, w.a.index({**batch, "m": first_row + i, "k": k}), 1)
                chain.multiply_add(i, scalar, row_of_panel)

        sums = Summation(chains, parts)
        sums.begin()
        sums.add(w.k, step)
        self._store(sums.total(), batch, first_row, panel, columns)

    def _store(
        self,
        tile: RegisterTile,
        batch: Mapping[str, tir.Index],
        first_row: tir.Index,
        panel: tir.Index,
        columns: int | None,
    ) -> None:
        w, s = self.workload, self.schedule

        def place(row: tir.Index) -> list[tir.Index]:
            return w.c.index({**batch, "m": first_row + row, "n": 0})[:-1]

        def store(count: Size) -> None:
            tile.store(self.epilogue, place, panel * s.width, count)

        if isinstance(self.ragged, Extent):
            behind = tir.reaches(panel, self.panels - 1)
            tir.either(behind, lambda: store(self._last), lambda: store(s.width))
            return
        if columns is not None:
            store(columns)
            return
        with T.If(panel < self.panels - 1):
            with T.Then():
                store(s.width)
            with T.Else():
                store(self.ragged)
