"""Depthwise and narrow grouped convolution, NHWC: vectors run over the filters of several groups.

In a depthwise convolution no channel mixes with another. Where groups have a few channels and filters, the vectors of
filters multiply with vectors in which every lane has a channel of its filter's group, a permutation of the pixel's channels.

Tiles of pixels of one output row share the columns of the input that they both read. Borders are peeled as in
conv2d.py, or padded in a copy. One thread of a Zen 5, 3x3 with bias and ReLU6 against oneDNN with packed weights (us):
144 channels at 56x56 59 / 102, stride 2 27 / 54, 384 at 14x14 9.4-13 / 37.6. Groups, 3x3
with bias and ReLU, two threads, from NCHW to NCHW against PyTorch's JIT (us): 32 of 4 channels at 56x56 387 / 597, 32 of 8
at 28x28 288 / 328, 64 of a channel and two filters at 56x56 226 / 955; with a vector for each group 904, 384 and 491.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import epilogue as epilogues
from torch_tvm.kernels import tiling, tir
from torch_tvm.kernels.conv_shape import Conv2d, RowTile, copy_padded, row_tiles, tap_ranges, tile_rows
from torch_tvm.kernels.target import CpuTarget

# A tile of more pixels shares more columns of the input and keeps the FMA units busy: 5x5 on 672 channels at 14x14, two
# threads: 20.3 us with 4 pixels, 16.8 with 7, 15.5 with 14. Accumulators and a few columns must fit the registers.
_MOST_PIXELS = 14
# With a stride few columns are shared, and permuted ones stay in registers: 8 channels a group, 64 at 112x112 with stride
# 2, one thread: 590 us with 14 pixels, 478 with 7, 499 with 5.
_MOST_GROUPED_STRIDED_PIXELS = 7
# The rows that a kernel reaches over stay in L1 while it moves down a block of channels: 7x7 on 384 channels at 14x14
# 39 us with all channels of a row at once, 14 us in blocks of 1 to 4 vectors; blocks that do not fit gain nothing.
_BLOCK_BYTES = 16 * 1024
_MOST_VECTORS = 4
# Each specialised loop costs about 10 ms of compile time.
_MOST_PEELED_TILES = 5
# The channels of a group are unrolled: 8 of them with 14 pixels and three taps are 336 multiply-adds.
_MOST_GROUP_CHANNELS = 16


def supports(w: Conv2d, lanes: int) -> bool:
    """Whether a convolution is depthwise, or vectors hold the filters of several groups and pairs of them their channels."""
    filters, channels = w.group_filters, w.group_channels
    if w.groups == 1 or w.input_layout != "NHWC" or channels > _MOST_GROUP_CHANNELS:
        return False
    return channels == filters == 1 or (filters < lanes and lanes % filters == 0 and channels <= 2 * filters)


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
    pixels = max(size for _, size in tir.split_evenly(w.out_width, _most_pixels(w, target)))
    # Twice the time of the FMA alone, for loads, borders and stores.
    parallel = tiling.worth_threads(2 * w.flops, 0, lanes, threads)
    edges = sum(tile.edge for tile in row_tiles(w, pixels))
    reach_bytes = w.kernel_rows * w.width * lanes * w.channels // w.filters * tir.element_bytes(w.dtype)
    block = min(_MOST_VECTORS, max(1, _BLOCK_BYTES // max(1, reach_bytes))) * lanes
    channel_blocks = -(-w.filters // block)
    return Schedule(
        pixels=pixels,
        lanes=lanes,
        border="peel" if edges <= _MOST_PEELED_TILES or min(w.padding) < 0 else "copy",
        row_blocks=_row_blocks(w, channel_blocks, threads) if parallel else 1,
        parallel=parallel,
        channel_blocks=channel_blocks,
    )


def _most_pixels(w: Conv2d, target: CpuTarget) -> int:
    most = _MOST_GROUPED_STRIDED_PIXELS if w.group_channels > 1 and w.stride[1] > 1 else _MOST_PIXELS
    return min(most, target.vector_registers // 2 - 2)


def _row_blocks(w: Conv2d, channel_blocks: int, threads: int) -> int:
    """Return the parts of an image's rows: as many as threads where that is even, else what keeps threads equally busy.

    Threads that share the channels of a pixel fetch lines ahead that the other writes.
    """
    if w.batch % threads == 0:
        return 1
    rows = -(-w.out_rows // threads)
    if rows * threads <= 1.1 * w.out_rows:
        return threads

    def imbalance(parts: int) -> float:
        return _imbalance(w, parts, channel_blocks, threads)

    candidates = range(1, w.out_rows + 1)
    return next((parts for parts in candidates if imbalance(parts) <= 1.1), min(candidates, key=imbalance))


def _imbalance(w: Conv2d, row_blocks: int, channel_blocks: int, threads: int) -> float:
    """Return what the busiest thread does, divided by the average."""
    bounds = [block * w.out_rows // row_blocks for block in range(row_blocks + 1)]
    rows = [high - low for low, high in itertools.pairwise(bounds)] * w.batch
    before = [0, *itertools.accumulate(rows)]
    share = -(-len(rows) * channel_blocks // threads)

    def work_before(task: int) -> int:
        block, part = divmod(task, channel_blocks)
        return before[block] * channel_blocks + (rows[block] * part if part else 0)

    tasks = len(rows) * channel_blocks
    busiest = max(work_before(min(tasks, low + share)) - work_before(low) for low in range(0, tasks, share))
    return busiest * threads / work_before(tasks)


def packed_shape(w: Conv2d) -> tuple[int, int, int, int]:
    """Shape of the packed weights: [kernel row, kernel column, channel of a group, filter]."""
    return (w.kernel_rows, w.kernel[1], w.group_channels, w.filters)


def build_pack(w: Conv2d, name: str) -> PrimFunc:
    """Build the kernel (weight, packed)."""

    def body(weight: tir.Buffer, packed: tir.Buffer) -> None:
        source = tir.reshaped(weight, (w.filters, w.group_channels, w.kernel_rows, w.kernel[1]), w.dtype)
        with (
            tir.loop(w.kernel_rows) as r,
            tir.loop(w.kernel[1]) as tap,
            tir.loop(w.group_channels) as k,
            tir.loop(w.filters) as f,
        ):
            T.buffer_store(packed, source[f, k, r, tap], [r, tap, k, f])

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
    tile = (schedule.pixels, schedule.lanes)
    if schedule.border == "peel":
        _emit_images(schedule, Rows(w, *tile, target, source, weight, epilogue), w.batch, None)
        return
    padded = w.with_padding_done()
    with tir.loop(w.batch) as image:
        copy = T.alloc_buffer(tir.expressions(padded.input_shape), w.dtype, align=64)
        copy_padded(w, source, image, copy, schedule.lanes, parallel=schedule.parallel)
        _emit_images(schedule, Rows(padded, *tile, target, copy, weight, epilogue), 1, image)


def _emit_images(s: Schedule, rows: Rows, images: int, number: tir.Index | None) -> None:
    """Emit the loops over images, blocks of channels and rows; `number` is the image in the output if not the input's."""
    w = rows.workload
    shape = (images, s.row_blocks, s.channel_blocks)
    vectors = -(-w.filters // s.lanes)
    with tir.loop(math.prod(shape), parallel=s.parallel) as task:
        image, block, part = tir.unravel(task, shape)
        outer = image if number is None else number
        low, high = block * w.out_rows // s.row_blocks, (block + 1) * w.out_rows // s.row_blocks
        first, last = part * vectors // s.channel_blocks, (part + 1) * vectors // s.channel_blocks
        with tir.loop_between(low, high) as y:
            rows.emit(image, outer, y, (first, last))


@dataclass(frozen=True)
class Rows:
    """Emits rows of a depthwise convolution, in tiles of at most `pixels` pixels.

    Parameters
    ----------
    source
        The input; only pixels inside the image are read.
    weight
        Packed weights.
    where
        Where in `source` [image, row of all planes, column, channel] lies; `None`: there.
    """

    workload: Conv2d
    pixels: int
    lanes: int
    target: CpuTarget
    source: tir.Buffer
    weight: tir.Buffer
    epilogue: epilogues.Epilogue
    where: Callable[[list[tir.Index]], list[tir.Index]] | None = None

    def emit(
        self, image: tir.Index, outer: tir.Index, y: tir.Index, vectors: tuple[tir.Index, tir.Index]
    ) -> None:
        """Emit row `y` of an image, number `outer` in the output, for vectors (from, to) of filters."""
        for tile in tile_rows(self.workload, self.pixels):
            with tir.loop(tile.count) as i:
                place = [outer, *self.workload.output_row(y)]
                self._channels(image, place, y, tile, tile.at(i), vectors)

    def _channels(
        self,
        image: tir.Index,
        outer: list[tir.Index],
        y: tir.Index,
        tile: RowTile,
        first: tir.Index,
        vectors: tuple[tir.Index, tir.Index],
    ) -> None:
        """Emit the loop over vectors of filters, the innermost: it runs along memory."""
        w, lanes = self.workload, self.lanes

        def vector(filter_: tir.Index, count: int) -> None:
            sums = self._sum(image, y, tile, first, filter_, count)
            for pixel in range(tile.size):
                self.epilogue.store(sums[pixel], [*outer, first + pixel, filter_], count)

        whole, rest = divmod(w.filters, lanes)
        if whole:
            with tir.loop_between(vectors[0], T.min(vectors[1], whole) if rest else vectors[1]) as v:
                vector(v * lanes, lanes)
        if rest:
            with T.If(vectors[1] > whole), T.Then():
                vector(whole * lanes, rest)

    def _sum(
        self,
        image: tir.Index,
        y: tir.Index,
        tile: RowTile,
        first: tir.Index,
        filter_: tir.Index,
        count: int,
    ) -> tir.Accumulators:
        w, lanes = self.workload, self.lanes
        sums = tir.Accumulators(tile.size, w.dtype, lanes)
        sums.fill(tir.constant(0, w.dtype, lanes))
        source = self.source
        if self.where is None:
            shape = (w.batch, w.planes * w.height, w.width, w.pixel_channels)
            source = tir.reshaped(source, shape, w.dtype)
        with w.loop_inside(y) as (row, r):
            for k in range(w.group_channels):
                columns: dict[int, tir.Value] = {}
                for from_tap, to_tap, pixels in tap_ranges(w, tile):
                    for tap in range(from_tap, to_tap):
                        at = (r, tap, k, filter_)
                        taps = T.bind(
                            tir.load_partial(self.weight, at, count=count, dtype=w.dtype, lanes=lanes)
                        )
                        for pixel in pixels:
                            column = pixel * w.stride[1] - w.padding[1] + tap * w.dilation[1]
                            if column not in columns:
                                place = (image, row, first * w.stride[1] + column)
                                columns[column] = T.bind(self._channel(source, place, filter_, k, count))
                            sums[pixel] = tir.multiply_add(
                                columns[column], taps, sums[pixel], w.dtype, lanes, fused=self.target.has_fma
                            )
        return sums

    def _channel(
        self,
        source: tir.Buffer,
        place: tuple[tir.Index, tir.Index, tir.Index],
        filter_: tir.Index,
        k: int,
        count: int,
    ) -> tir.Value:
        """Return channel `k` of the group of each of `count` filters, for a pixel of the input."""
        w, lanes = self.workload, self.lanes
        if w.group_channels == w.group_filters == 1:
            index = [*place, w.first_channel + filter_]
            index = index if self.where is None else self.where(index)
            return tir.load_partial(source, index, count=count, dtype=w.dtype, lanes=lanes)
        channels = count // w.group_filters * w.group_channels
        first = w.first_channel + filter_ // w.group_filters * w.group_channels
        loaded = tir.load(source, (*place, first), channels)
        if channels == 1:
            return tir.broadcast(loaded, lanes)
        filters = [min(lane, count - 1) for lane in range(lanes)]
        chosen = [f // w.group_filters * w.group_channels + k for f in filters]
        # A shuffle has no more lanes than its operands.
        return T.Shuffle([loaded] * -(-lanes // channels), chosen)
