"""Direct convolution, NHWC, with weights packed ahead and a fused epilogue.

For each output row, register tiles of pixels x filters run over kernel rows, kernel columns and input channels. Tiles
at the left and right border are specialised and skip the taps that fall outside ("peel"); where that would be much
code, the kernel first copies the image into a padded one ("copy"). A 1x1 convolution is a matrix product over all
pixels, a depthwise one and one of narrow groups have a kernel of their own.

One thread of a Zen 5, with bias and ReLU, against oneDNN with packed weights (us): 64 channels at 56x56 878 / 956,
128 at 28 870 / 903, 256 at 14 804 / 866, 512 at 7 754 / 803; 7x7 stride 2 stem at 224 926 / 992. Peeling is 1-3 %
faster than a padded copy at 56 and 28, 10 % at 14, 20 % at 7, not counting the copy itself.

In three dimensions the sum runs over the planes of the kernel too. Two threads, from NCDHW to NCDHW, against PyTorch's JIT
before and after `optimize_for_inference` (us): 64 channels 3x3x3 at 8x28x28 4073 / 22052 / 4366, 256 at 4x14x14
6520 / 12817 / 7543.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import depthwise, extent, matmul, quads, tir, views
from torch_tvm.kernels import epilogue as epilogues
from torch_tvm.kernels.conv_schedule import Schedule, as_matmul, cycles, default_schedule
from torch_tvm.kernels.conv_shape import Conv2d, RowTile, copy_padded, row_tiles, tap_ranges, tile_rows
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression, Operand
from torch_tvm.kernels.extent import Extent
from torch_tvm.kernels.panel import PanelCopy, PanelPrefetch
from torch_tvm.kernels.register_tile import RegisterTile, Summation, memory_of_parts
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.views import View

__all__ = ["Conv2d", "Schedule", "build", "build_pack", "cycles", "default_schedule", "packed_shape"]


def packed_shape(workload: Conv2d, schedule: Schedule) -> tuple[int, ...]:
    """Shape of the packed weights: [group, panel, kernel row, kernel column, channel, filter]."""
    w = workload
    if schedule.across_groups:
        return depthwise.packed_shape(w)
    panels = -(-w.group_filters // schedule.width)
    return (w.groups, panels, w.kernel_rows, w.kernel[1], w.group_channels, schedule.width)


def build_pack(workload: Conv2d, schedule: Schedule, target: CpuTarget, name: str) -> PrimFunc:
    """Build the kernel (weight, packed); the weight has PyTorch's shape `workload.weight_shape`."""
    w = workload
    if schedule.across_groups:
        return depthwise.build_pack(w, name)
    shape = packed_shape(w, schedule)
    taps = w.taps

    def body(weight: tir.Buffer, packed: tir.Buffer) -> None:
        source = tir.reshaped(weight, (w.filters, w.group_channels * taps), w.dtype)
        target_rows = tir.reshaped(packed, (*shape[:2], taps, *shape[4:]), w.dtype)
        with tir.loop(shape[0] * shape[1], parallel=schedule.parallel) as task:
            group, panel = tir.unravel(task, shape[:2])
            copy = PanelCopy(
                rows=w.group_channels * taps,
                columns=w.group_filters,
                width=schedule.width,
                inner="k",
                dtype=w.dtype,
                lanes=schedule.lanes,
                load=lambda k, n, lanes: tir.load(source, (group * w.group_filters + n, k), lanes),
                store=lambda value, k, n, lanes: tir.store(
                    target_rows, value, (group, panel, k % taps, k // taps, n), lanes
                ),
            )
            copy.emit(panel * schedule.width)

    parameters = [
        tir.Parameter("weight", w.weight_shape, w.dtype),
        tir.Parameter("packed", shape, w.dtype),
    ]
    return tir.kernel(name, parameters, body)


def build(
    workload: Conv2d,
    schedule: Schedule,
    target: CpuTarget,
    name: str,
    epilogue: Expression | PlacedExpression | None = None,
) -> PrimFunc:
    """Build the kernel (input, packed weights, extra inputs of the epilogue ..., outputs ...).

    Parameters
    ----------
    epilogue
        Its shape is `workload.output_shape` (NHWC), its input 0 the convolution.
    """
    w = workload
    expression = epilogues.resolve(epilogue, w.output_shape, w.dtype)
    operands = [
        tir.Parameter("input", w.input_shape, w.dtype),
        tir.Parameter("weight", packed_shape(w, schedule), w.dtype),
    ]
    folded = epilogues.fold(expression, (w.output_pixels, w.filters)) if w.pointwise else None

    def body(source: tir.Buffer, weight: tir.Buffer, *rest: tir.Buffer) -> None:
        if folded is not None:
            _emit_pointwise(w, schedule, target, folded, source, weight, rest)
            return
        emit_rows(w, schedule, target, source, weight, epilogues.bind(expression, rest, schedule.lanes))

    return epilogues.kernel(name, operands, expression, body)


def emit_rows(
    workload: Conv2d,
    schedule: Schedule,
    target: CpuTarget,
    source: tir.Buffer,
    weight: tir.Buffer,
    epilogue: epilogues.Epilogue,
) -> None:
    """Emit a convolution row by row into the kernel that is being built, with a schedule of `row_schedule`."""
    schedule = schedule.for_symbolic(workload)
    if schedule.across_groups:
        depthwise.emit(workload, _to_depthwise(schedule), target, source, weight, epilogue)
    else:
        _Convolution(workload, schedule, target, weight, epilogue).emit(source)


def _to_depthwise(s: Schedule) -> depthwise.Schedule:
    return depthwise.Schedule(s.rows, s.lanes, s.border, s.row_blocks, s.parallel, s.channel_blocks)


def _emit_pointwise(
    w: Conv2d,
    s: Schedule,
    target: CpuTarget,
    folded: PlacedExpression,
    source: tir.Buffer,
    weight: tir.Buffer,
    rest: Sequence[tir.Buffer],
) -> None:
    product = as_matmul(w)
    flat = matmul.Schedule(
        s.rows, s.vectors, s.lanes, "packed", s.row_blocks, s.chains, s.parallel, s.prefetch, s.rows_first
    )
    finish = epilogues.bind(folded, rest, s.lanes)
    rows = View(w.input_shape, (w.pixel_channels, 1), w.first_channel)
    left = views.strided(source, Operand(product.a.shape, w.dtype), rows)
    right = tir.reshaped(weight, matmul.packed_shape(product, flat), w.dtype)
    matmul.emit(product, flat, target, left, right, finish)


@dataclass(frozen=True)
class _Convolution:
    """Emits the loops of a convolution whose panels of filters belong to one group each."""

    workload: Conv2d
    schedule: Schedule
    target: CpuTarget
    weight: tir.Buffer
    epilogue: epilogues.Epilogue

    @property
    def panels(self) -> int:
        return -(-self.workload.group_filters // self.schedule.width)

    @property
    def _panels_first(self) -> bool:
        """Whether reading all images for each panel is less than reading all weights for each image."""
        w = self.workload
        image, weights = math.prod(w.input_shape[1:]), math.prod(w.weight_shape)
        batch, image = extent.hint(w.batch), extent.hint(image)
        return weights + self.panels * batch * image < batch * (weights + image)

    def emit(self, source: tir.Buffer) -> None:
        """Emit the whole kernel."""
        w, s = self.workload, self.schedule
        if s.border == "peel":
            self._images(w, source, w.batch, lambda image: image)
            return
        padded = w.with_padding_done()
        with tir.loop(w.batch) as image:
            copy = T.alloc_buffer(tir.expressions(padded.input_shape[1:]), w.dtype, align=64)
            copy_padded(w, source, image, copy, s.lanes, parallel=s.parallel)
            self._images(padded, copy, 1, lambda _: image)

    def _images(
        self, w: Conv2d, source: tir.Buffer, images: int, number: Callable[[tir.Index], tir.Index]
    ) -> None:
        """Emit the parallel loop over images, groups, panels and blocks of rows."""
        s = self.schedule
        taps = w.kernel[1] * w.group_channels
        weight = tir.reshaped(self.weight, (w.groups, self.panels, w.kernel_rows, taps, s.width), w.dtype)
        operands = _Operands(w, s, tir.reshaped(source, _flat_input_shape(w), w.dtype), weight)
        panels = w.groups * self.panels
        blocks = (s.row_blocks, s.column_blocks)
        order = (panels, images, *blocks) if self._panels_first else (images, panels, *blocks)
        with tir.loop(math.prod(order), parallel=s.parallel) as task:
            outer, inner, block, columns = tir.unravel(task, order)
            image, position = (inner, outer) if self._panels_first else (outer, inner)
            group, panel = tir.unravel(position, (w.groups, self.panels))
            low = block * w.out_rows // s.row_blocks
            high = (block + 1) * w.out_rows // s.row_blocks
            block = _Block(image, number(image), group, panel, low, high, columns)
            if s.passes > 1:
                self._in_passes(operands, block)
            else:
                self._at_once(operands, block)

    def _at_once(self, operands: _Operands, block: _Block) -> None:
        """Emit the rows of a block, each sum from the first kernel row to the last."""
        w, s = operands.workload, self.schedule
        terms = w.kernel_rows * w.kernel[1] * w.group_channels
        parts = memory_of_parts(terms, (s.rows, s.width), w.dtype)
        with tir.loop_between(block.low, block.high) as y:
            for tile in _tiles(w, s, block.columns):
                sums = Summation(operands.begin(self.target, tile), parts)
                sums.begin()
                with w.loop_inside(y) as (row, r):
                    operands.add(sums, block, row, r, tile, (y - block.low) * tile.per_row + tile.number)
                self._store(sums.total(), block, y, tile.first)

    def _in_passes(self, operands: _Operands, block: _Block) -> None:
        """Emit a pass over the rows of a block for each kernel row, then one that stores them."""
        w, s = operands.workload, self.schedule
        shape = tir.expressions((s.block_height(w), w.out_width, s.width))
        kept = T.alloc_buffer(shape, w.dtype, align=64)

        def place(y: tir.Index, first: tir.Index) -> Callable[[tir.Index], list[tir.Index]]:
            return lambda pixel: [y - block.low, first + pixel]

        with tir.loop_between(0, block.high - block.low) as row, tir.loop(w.out_width) as x:
            for v in range(s.vectors):
                tir.store(kept, tir.constant(0, w.dtype, s.lanes), (row, x, v * s.lanes), s.lanes)
        with tir.loop(w.kernel[0]) as r:
            top, bottom = w.outputs_of(r)
            top, bottom = T.max(top, block.low), T.min(bottom, block.high)
            with tir.loop_between(top, bottom) as y:
                for tile in _tiles(w, s, block.columns):
                    sums = Summation(operands.begin(self.target, tile), kept, place(y, tile.first))
                    row = y * w.stride[0] - w.padding[0] + r * w.dilation[0]
                    operands.add(sums, block, row, r, tile, (y - top) * tile.per_row + tile.number)
        with tir.loop_between(block.low, block.high) as y:
            for tile in _tiles(w, s, block.columns):
                (whole,) = operands.begin(self.target, tile, chains=1)
                whole.load(kept, place(y, tile.first), 0)
                self._store(whole, block, y, tile.first)

    def _store(self, sums: RegisterTile, block: _Block, y: tir.Index, first: tir.Index) -> None:
        w, s = self.workload, self.schedule
        ragged = w.group_filters % s.width

        def store(count: int) -> None:
            column = block.group * w.group_filters + block.panel * s.width
            place = [block.number, *w.output_row(y)]
            sums.store(self.epilogue, lambda pixel: [*place, first + pixel], column, count)

        if not ragged or self.panels == 1:
            store(ragged or s.width)
            return
        with T.If(block.panel < self.panels - 1):
            with T.Then():
                store(s.width)
            with T.Else():
                store(ragged)


@dataclass(frozen=True)
class _Block:
    """What a task computes: rows `low` to before `high`, in them the part `columns`, of a panel's filters.

    The image is number `number` in the output and `image` in what is read.
    """

    image: tir.Index
    number: tir.Index
    group: tir.Index
    panel: tir.Index
    low: tir.Index
    high: tir.Index
    columns: tir.Index


@dataclass(frozen=True)
class _Tile:
    """A register tile in a row of the output, from pixel `first` on: one of `per_row` of a task, with what it reads."""

    shape: RowTile
    first: tir.Index
    number: tir.Index
    per_row: tir.Index


def _tiles(w: Conv2d, s: Schedule, columns: tir.Index) -> Iterator[_Tile]:
    """Emit the loop over the tiles of a row that are in a part of its columns; yield each whose code is different."""
    shapes = tile_rows(w, s.rows)
    every: tir.Index = 0
    for shape in shapes:
        every += shape.count
    low, high = columns * every // s.column_blocks, (columns + 1) * every // s.column_blocks
    per_row = (every + (s.column_blocks - 1)) // s.column_blocks
    for group, i, number in tir.loops_between([shape.count for shape in shapes], low, high):
        yield _Tile(shapes[group], shapes[group].at(i), number - low, per_row)


def _flat_input_shape(w: Conv2d) -> tuple[int, int, int]:
    """Image, row (of all planes; of all channels when NCHW), and what is contiguous in it."""
    if w.input_layout == "NCHW":
        return (w.batch, w.channels * w.height, w.width)
    return (w.batch, w.planes * w.height, w.width * w.pixel_channels)


@dataclass(frozen=True)
class _Operands:
    """What the sums of a convolution read: input [image, row, run], weights [group, panel, row, tap, filter]."""

    workload: Conv2d
    schedule: Schedule
    source: tir.Buffer
    weight: tir.Buffer

    def begin(self, target: CpuTarget, tile: _Tile, chains: int | None = None) -> list[RegisterTile]:
        """Emit sums that are zero, `chains` for each result."""
        w, s = self.workload, self.schedule
        return [
            quads.register_tile(w, tile.shape.size, s.vectors, s.lanes, target)
            for _ in range(chains or s.chains)
        ]

    @property
    def _prefetch(self) -> PanelPrefetch:
        w, s = self.workload, self.schedule
        rows = w.kernel_rows // s.passes
        counts = [-(-w.out_width // s.rows)]
        if not isinstance(w.out_width, Extent):
            counts = [shape.count for shape in row_tiles(w, s.rows)]
        row = sum(counts)
        tiles = extent.hint(s.block_height(w) * -(-row // s.column_blocks))
        return PanelPrefetch(s.prefetch, rows * w.kernel[1] * w.group_channels, s.vectors, s.lanes, tiles)

    def add(
        self,
        sums: Summation,
        block: _Block,
        row: tir.Index,
        r: tir.Index,
        tile: _Tile,
        number: tir.Index,
    ) -> None:
        """Emit the sums of kernel row `r` on input row `row` for a tile, number `number` of those that read its weights."""
        w = self.workload
        # Kernel columns and channels are one loop where they are neighbours in memory.
        dense = w.input_layout == "NHWC" and w.pixel_channels == w.channels
        joined = dense and w.groups == 1 and w.dilation[1] == 1
        for from_tap, to_tap, pixels in tap_ranges(w, tile.shape):
            step = functools.partial(self._step, block, row, r, tile.first, number, pixels)
            if joined:
                steps = (to_tap - from_tap) * w.channels
                sums.add(steps, functools.partial(step, from_tap))
            else:
                with tir.loop(to_tap - from_tap) as tap:
                    sums.add(w.group_channels, functools.partial(step, from_tap + tap))

    def _step(
        self,
        block: _Block,
        row: tir.Index,
        r: tir.Index,
        first: tir.Index,
        number: tir.Index,
        pixels: Sequence[int],
        tap: tir.Index,
        chain: RegisterTile,
        k: tir.Index,
    ) -> None:
        """Emit the multiply-adds of channel `k`, counted from channel 0 of kernel column `tap`."""
        w, s = self.workload, self.schedule
        image, group, panel = block.image, block.group, block.panel
        at = tap * w.group_channels + k
        vectors = [
            T.bind(tir.load(self.weight, (group, panel, r, at, v * s.lanes), s.lanes))
            for v in range(s.vectors)
        ]
        if s.passes > 1:
            self._prefetch.emit(self.weight, (group, panel, r), number, at)
        else:
            every = w.kernel[1] * w.group_channels
            self._prefetch.emit(self.weight, (group, panel, 0), number, r * every + at)
        channel = w.first_channel + group * w.group_channels + k
        for pixel in pixels:
            column = (first + pixel) * w.stride[1] - w.padding[1] + tap * w.dilation[1]
            if w.input_layout == "NCHW":
                scalar = tir.load(self.source, (image, channel * w.height + row, column), 1)
            else:
                scalar = tir.load(self.source, (image, row, column * w.pixel_channels + channel), 1)
            chain.multiply_add(pixel, scalar, vectors)
