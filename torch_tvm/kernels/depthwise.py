"""Depthwise convolution, NHWC: vectors run over channels, no channel mixes with another.

Tiles of pixels of one output row share the columns of the input that they both read. Borders are peeled as in
conv2d.py, or padded in a copy. One thread of a Zen 5, 3x3 with bias and ReLU6 against oneDNN with packed weights (us):
144 channels at 56x56 59 / 102, stride 2 27 / 54, 384 at 14x14 9.4-13 / 37.6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import epilogue as epilogues
from torch_tvm.kernels import tiling, tir
from torch_tvm.kernels.conv_shape import Conv2d, RowTile, copy_padded, row_tiles, tap_ranges
from torch_tvm.kernels.target import CpuTarget

# Pixels of a tile: each input column of a 3x3 kernel is loaded once for 2 outputs at 4 pixels, more gain little.
_PIXELS = 4
# Each specialised loop costs about 10 ms of compile time.
_MOST_PEELED_TILES = 5


@dataclass(frozen=True)
class Schedule:
    """How a depthwise convolution is computed; see `conv2d.Schedule` for the names."""

    pixels: int
    lanes: int
    border: str
    row_blocks: int
    parallel: bool


def default_schedule(w: Conv2d, target: CpuTarget, threads: int) -> Schedule:
    """Choose the tile and the tasks of the parallel loop."""
    lanes = target.lanes(w.dtype)
    # Every load feeds one FMA or two: about three times the time of the FMA alone.
    parallel = tiling.worth_threads(3 * w.flops, 0, lanes, threads)
    edges = sum(tile.edge for tile in row_tiles(w, _PIXELS))
    return Schedule(
        pixels=_PIXELS,
        lanes=lanes,
        border="peel" if edges <= _MOST_PEELED_TILES else "copy",
        row_blocks=tiling.blocks(w.batch, w.out_height, threads) if parallel else 1,
        parallel=parallel,
    )


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
        shape = (images, s.row_blocks)
        with tir.loop(math.prod(shape), parallel=s.parallel) as task:
            image, block = tir.unravel(task, shape)
            low = block * w.out_height // s.row_blocks
            high = (block + 1) * w.out_height // s.row_blocks
            outer = image if number is None else number
            with tir.loop_between(low, high) as y:
                for tile in row_tiles(w, s.pixels):
                    with tir.loop(tile.count) as i:
                        self._channels(image, [outer, y], y, tile, tile.first + i * tile.size)

    def _channels(
        self, image: tir.Index, outer: list[tir.Index], y: tir.Index, tile: RowTile, first: tir.Index
    ) -> None:
        """Emit the loop over vectors of channels, the innermost: it runs along memory."""
        w, s = self.workload, self.schedule

        def vector(channel: tir.Index, count: int) -> None:
            sums = self._sum(image, y, tile, first, channel, count)
            for pixel in range(tile.size):
                self.epilogue.store(sums[pixel], [*outer, first + pixel, channel], count)

        tir.for_run(w.channels, s.lanes, vector)

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
