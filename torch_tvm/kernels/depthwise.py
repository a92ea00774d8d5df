"""Depthwise convolution, NHWC: vectors run over channels, no channel mixes with another.

Tiles of pixels of one output row share the columns of the input that they both read. Borders are peeled as in
conv2d.py, or padded in a copy. One thread of a Zen 5, 3x3 with bias and ReLU6 against oneDNN with packed weights (us):
144 channels at 56x56 59 / 102, stride 2 27 / 54, 384 at 14x14 9.4-13 / 37.6.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import epilogue as epilogues
from torch_tvm.kernels import tiling, tir
from torch_tvm.kernels.conv_shape import Conv2d, RowTile, copy_padded, row_tiles, tap_ranges
from torch_tvm.kernels.target import CpuTarget

# A tile of more pixels shares more columns of the input and keeps the FMA units busy: 5x5 on 672 channels at 14x14, two
# threads: 20.3 us with 4 pixels, 16.8 with 7, 15.5 with 14. Accumulators and a few columns must fit the registers.
_MOST_PIXELS = 14
# The rows that a kernel reaches over stay in L1 while it moves down a block of channels: 7x7 on 384 channels at 14x14
# 39 us with all channels of a row at once, 14 us in blocks of 1 to 4 vectors; blocks that do not fit gain nothing.
_BLOCK_BYTES = 16 * 1024
_MOST_VECTORS = 4
# Each specialised loop costs about 10 ms of compile time.
_MOST_PEELED_TILES = 5


@dataclass(frozen=True)
class Schedule:
    """How a depthwise convolution is computed; see `conv2d.Schedule` for the names.

    `channel_blocks` are parts of the channels; each moves down its rows by itself.
    """

    pixels: int
    lanes: int
    border: str
    row_blocks: int
    parallel: bool
    channel_blocks: int = 1


def default_schedule(w: Conv2d, target: CpuTarget, threads: int) -> Schedule:
    """Choose the tile, the blocks of channels and the tasks of the parallel loop."""
    lanes = target.lanes(w.dtype)
    pixels = max(size for _, size in tir.split_evenly(w.out_width, _most_pixels(target)))
    # Twice the time of the FMA alone, for loads, borders and stores.
    parallel = tiling.worth_threads(2 * w.flops, 0, lanes, threads)
    edges = sum(tile.edge for tile in row_tiles(w, pixels))
    reach_bytes = w.kernel[0] * w.width * lanes * tir.element_bytes(w.dtype)
    block = min(_MOST_VECTORS, max(1, _BLOCK_BYTES // reach_bytes)) * lanes
    channel_blocks = -(-w.channels // block)
    return Schedule(
        pixels=pixels,
        lanes=lanes,
        border="peel" if edges <= _MOST_PEELED_TILES else "copy",
        row_blocks=_row_blocks(w, channel_blocks, threads) if parallel else 1,
        parallel=parallel,
        channel_blocks=channel_blocks,
    )


def _most_pixels(target: CpuTarget) -> int:
    return min(_MOST_PIXELS, target.vector_registers // 2 - 2)


def _row_blocks(w: Conv2d, channel_blocks: int, threads: int) -> int:
    """Return the parts of an image's rows: as many as threads where that is even, else what keeps threads equally busy.

    Threads that share the channels of a pixel fetch lines ahead that the other writes.
    """
    if w.batch % threads == 0:
        return 1
    rows = -(-w.out_height // threads)
    if rows * threads <= 1.1 * w.out_height:
        return threads

    def imbalance(parts: int) -> float:
        return _imbalance(w, parts, channel_blocks, threads)

    candidates = range(1, w.out_height + 1)
    return next((parts for parts in candidates if imbalance(parts) <= 1.1), min(candidates, key=imbalance))


def _imbalance(w: Conv2d, row_blocks: int, channel_blocks: int, threads: int) -> float:
    """Return what the busiest thread does, divided by the average."""
    bounds = [block * w.out_height // row_blocks for block in range(row_blocks + 1)]
    rows = [high - low for low, high in itertools.pairwise(bounds)] * w.batch
    before = [0, *itertools.accumulate(rows)]
    share = -(-len(rows) * channel_blocks // threads)

    def work_before(task: int) -> int:
        block, part = divmod(task, channel_blocks)
        return before[block] * channel_blocks + (rows[block] * part if part else 0)

    tasks = len(rows) * channel_blocks
    busiest = max(work_before(min(tasks, low + share)) - work_before(low) for low in range(0, tasks, share))
    return busiest * threads / work_before(tasks)


def packed_shape(w: Conv2d) -> tuple[int, int, int]:
    """Shape of the packed weights: [kernel row, kernel column, channel]."""
    return (*w.kernel, w.channels)


def build_pack(w: Conv2d, name: str) -> PrimFunc:
    """Build the kernel (weight, packed)."""

    def body(weight: tir.Buffer, packed: tir.Buffer) -> None:
        with tir.loop(w.kernel[0]) as r, tir.loop(w.kernel[1]) as tap, tir.loop(w.channels) as c:
            T.buffer_store(packed, weight[c, 0, r, tap], [r, tap, c])

    parameters = [
        tir.Parameter("weight", w.weight_shape, w.dtype),
        tir.Parameter("packed", packed_shape(w), w.dtype),
    ]
    return tir.kernel(name, parameters, body)


def emit(
    w: Conv2d,
    schedule: Schedule,
    target: CpuTarget,
    source: tir.Buffer,
    weight: tir.Buffer,
    epilogue: epilogues.Epilogue,
) -> None:
    """Emit the whole convolution into the kernel that is being built."""
    if schedule.border == "peel":
        _Depthwise(w, schedule, target, source, weight, epilogue).emit(w.batch, None)
        return
    padded = w.with_padding_done()
    with tir.loop(w.batch) as image:
        copy = T.alloc_buffer(padded.input_shape, w.dtype, align=64)
        copy_padded(w, source, image, copy, schedule.lanes, parallel=schedule.parallel)
        _Depthwise(padded, schedule, target, copy, weight, epilogue).emit(1, image)


@dataclass(frozen=True)
class _Depthwise:
    """Emits the loops over images, rows, tiles of pixels and channels."""

    workload: Conv2d
    schedule: Schedule
    target: CpuTarget
    source: tir.Buffer
    weight: tir.Buffer
    epilogue: epilogues.Epilogue

    def emit(self, images: int, number: tir.Index | None) -> None:
        """Emit all loops; `number` is the image in the output where it is not that of the input."""
        w, s = self.workload, self.schedule
        shape = (images, s.row_blocks, s.channel_blocks)
        vectors = -(-w.channels // s.lanes)
        with tir.loop(math.prod(shape), parallel=s.parallel) as task:
            image, block, part = tir.unravel(task, shape)
            outer = image if number is None else number
            low, high = block * w.out_height // s.row_blocks, (block + 1) * w.out_height // s.row_blocks
            first, last = part * vectors // s.channel_blocks, (part + 1) * vectors // s.channel_blocks
            with tir.loop_between(low, high) as y:
                for tile in row_tiles(w, s.pixels):
                    with tir.loop(tile.count) as i:
                        at = tile.first + i * tile.size
                        self._channels(image, [outer, y], y, tile, at, (first, last))

    def _channels(
        self,
        image: tir.Index,
        outer: list[tir.Index],
        y: tir.Index,
        tile: RowTile,
        first: tir.Index,
        vectors: tuple[tir.Index, tir.Index],
    ) -> None:
        """Emit the loop over vectors of channels, the innermost: it runs along memory."""
        w, s = self.workload, self.schedule

        def vector(channel: tir.Index, count: int) -> None:
            sums = self._sum(image, y, tile, first, channel, count)
            for pixel in range(tile.size):
                self.epilogue.store(sums[pixel], [*outer, first + pixel, channel], count)

        whole, rest = divmod(w.channels, s.lanes)
        if whole:
            with tir.loop_between(vectors[0], T.min(vectors[1], whole) if rest else vectors[1]) as v:
                vector(v * s.lanes, s.lanes)
        if rest:
            with T.If(vectors[1] > whole), T.Then():
                vector(whole * s.lanes, rest)

    def _sum(
        self,
        image: tir.Index,
        y: tir.Index,
        tile: RowTile,
        first: tir.Index,
        channel: tir.Index,
        count: int,
    ) -> tir.Accumulators:
        w, lanes = self.workload, self.schedule.lanes
        sums = tir.Accumulators(tile.size, w.dtype, lanes)
        sums.fill(tir.constant(0, w.dtype, lanes))

        def read(buffer: tir.Buffer, index: list[tir.Index]) -> tir.Value:
            return T.bind(tir.load_partial(buffer, index, count=count, dtype=w.dtype, lanes=lanes))

        with tir.loop_between(*w.rows_inside(y)) as r:
            row = y * w.stride[0] - w.padding[0] + r * w.dilation[0]
            columns: dict[int, tir.Value] = {}
            for from_tap, to_tap, pixels in tap_ranges(w, tile):
                for tap in range(from_tap, to_tap):
                    taps = read(self.weight, [r, tap, channel])
                    for pixel in pixels:
                        column = pixel * w.stride[1] - w.padding[1] + tap * w.dilation[1]
                        if column not in columns:
                            at = first * w.stride[1] + column
                            columns[column] = read(self.source, [image, row, at, w.first_channel + channel])
                        sums[pixel] = tir.multiply_add(
                            columns[column], taps, sums[pixel], w.dtype, lanes, fused=self.target.has_fma
                        )
        return sums
