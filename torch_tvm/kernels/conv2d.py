"""Direct convolution, NHWC, with weights packed ahead and a fused epilogue.

For each output row, register tiles of pixels x filters run over kernel rows, kernel columns and input channels. Tiles
at the left and right border are specialised and skip the taps that fall outside ("peel"); where that would be much
code, the kernel first copies the image into a padded one ("copy"). A 1x1 convolution is a matrix product over all
pixels, a depthwise one has a kernel of its own.

One thread of a Zen 5, with bias and ReLU, against oneDNN with packed weights (us): 64 channels at 56x56 878 / 956,
128 at 28 870 / 903, 256 at 14 804 / 866, 512 at 7 754 / 803; 7x7 stride 2 stem at 224 926 / 992. Peeling is 1-3 %
faster than a padded copy at 56 and 28, 10 % at 14, 20 % at 7, not counting the copy itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import depthwise, matmul, tiling, tir, views
from torch_tvm.kernels import epilogue as epilogues
from torch_tvm.kernels.conv_shape import Conv2d, RowTile, copy_padded, row_tiles, tap_ranges
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression, Operand
from torch_tvm.kernels.matrix_view import MatrixView
from torch_tvm.kernels.panel import PanelCopy
from torch_tvm.kernels.register_tile import RegisterTile
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.views import View

__all__ = ["Conv2d", "Schedule", "build", "build_pack", "default_schedule", "packed_shape"]

# Each specialised loop over channels costs about 10 ms of compile time.
_MOST_PEELED_LOOPS = 12


@dataclass(frozen=True)
class Schedule:
    """How a convolution is computed.

    Parameters
    ----------
    rows, vectors
        Size of the register tile: pixels of one output row x vectors of filters.
    lanes
        Elements of a vector; a panel of weights has vectors * lanes filters.
    border
        "peel" or "copy".
    row_blocks
        Parts that the output rows are divided into, each with one panel of one image a task of the parallel loop.
    chains
        Sums that a result is split into, to hide the latency of FMA when the tile is small.
    parallel
        Whether tasks run in parallel.
    prefetch
        Rows of a panel that are prefetched ahead.
    channel_blocks
        Parts of the channels of a depthwise convolution.
    """

    rows: int
    vectors: int
    lanes: int
    border: str = "peel"
    row_blocks: int = 1
    chains: int = 1
    parallel: bool = False
    prefetch: int = 0
    channel_blocks: int = 1

    @property
    def width(self) -> int:
        """Filters of a panel."""
        return self.vectors * self.lanes


def default_schedule(workload: Conv2d, target: CpuTarget, threads: int = 1) -> Schedule:
    """Choose tiles that fit the registers and waste least, and tasks that keep `threads` threads busy."""
    w = workload
    if w.depthwise:
        return _depthwise_schedule(w, target, threads)
    lanes = target.lanes(w.dtype)
    if w.pointwise:
        flat = matmul.default_schedule(_as_matmul(w), target, threads)
        return Schedule(
            flat.rows,
            flat.vectors,
            lanes,
            "peel",
            flat.row_blocks,
            flat.chains,
            flat.parallel,
            flat.prefetch,
        )
    rows, vectors = _tile(w, target, lanes)
    peeled = sum(len(tap_ranges(w, tile)) for tile in row_tiles(w, rows))
    tasks = w.batch * w.groups * -(-w.group_filters // (vectors * lanes))
    weight_bytes = math.prod(w.weight_shape) * tir.element_bytes(w.dtype)
    parallel = tiling.worth_threads(w.flops, weight_bytes, lanes, threads)
    return Schedule(
        rows=rows,
        vectors=vectors,
        lanes=lanes,
        border="peel" if peeled <= _MOST_PEELED_LOOPS else "copy",
        row_blocks=tiling.blocks(tasks, w.out_height, threads) if parallel else 1,
        chains=tiling.chains(rows, vectors, w.group_channels),
        parallel=parallel,
        prefetch=tiling.prefetch_rows(rows, weight_bytes),
    )


def _depthwise_schedule(w: Conv2d, target: CpuTarget, threads: int) -> Schedule:
    flat = depthwise.default_schedule(w, target, threads)
    return Schedule(
        rows=flat.pixels,
        vectors=1,
        lanes=flat.lanes,
        border=flat.border,
        row_blocks=flat.row_blocks,
        parallel=flat.parallel,
        channel_blocks=flat.channel_blocks,
    )


def _tile(w: Conv2d, target: CpuTarget, lanes: int) -> tuple[int, int]:
    def cost(tile: tuple[int, int]) -> float:
        bodies = sum(len(tap_ranges(w, tile)) for tile in row_tiles(w, tile[0]))
        return tiling.with_compile_time(cycles(w, *tile, lanes), bodies)

    pixel = tir.element_bytes(w.dtype) * (w.pixel_channels if w.input_layout == "NHWC" else 1)
    row_bytes = w.stride[1] * pixel
    rows, vectors = min(tiling.register_tiles(target, lanes, w.group_filters, row_bytes), key=cost)
    return max(height for _, height in tir.split_evenly(w.out_width, rows)), vectors


def cycles(w: Conv2d, rows: int, vectors: int, lanes: int) -> float:
    """Estimate the cycles that one thread takes with tiles of rows x vectors, operands being in caches."""
    size, width = tir.element_bytes(w.dtype), vectors * lanes
    taps = math.prod(w.kernel) * w.group_channels
    step = sum(
        n * tiling.cycles_per_step(height, vectors, lanes * size, taps * width * size)
        for n, height in tir.split_evenly(w.out_width, rows)
    )
    panels = w.groups * -(-w.group_filters // width)
    return w.batch * w.out_height * taps * panels * step


def packed_shape(workload: Conv2d, schedule: Schedule) -> tuple[int, ...]:
    """Shape of the packed weights: [group, panel, kernel row, kernel column, channel, filter]."""
    w = workload
    if w.depthwise:
        return depthwise.packed_shape(w)
    panels = -(-w.group_filters // schedule.width)
    return (w.groups, panels, *w.kernel, w.group_channels, schedule.width)


def build_pack(workload: Conv2d, schedule: Schedule, target: CpuTarget, name: str) -> PrimFunc:
    """Build the kernel (weight, packed); the weight has PyTorch's shape `workload.weight_shape`."""
    w = workload
    if w.depthwise:
        return depthwise.build_pack(w, name)
    shape = packed_shape(w, schedule)
    taps = math.prod(w.kernel)

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
    extras, outputs = epilogues.parameters(expression)
    parameters = [
        tir.Parameter("input", w.input_shape, w.dtype),
        tir.Parameter("weight", packed_shape(w, schedule), w.dtype),
        *extras,
        *outputs,
    ]
    folded = epilogues.fold(expression, (w.output_pixels, w.filters)) if w.pointwise else None

    def body(source: tir.Buffer, weight: tir.Buffer, *rest: tir.Buffer) -> None:
        if folded is not None:
            _emit_pointwise(w, schedule, target, folded, source, weight, rest)
            return
        finish = epilogues.bind(expression, rest, schedule.lanes)
        if w.depthwise:
            depthwise.emit(w, _to_depthwise(schedule), target, source, weight, finish)
        else:
            _Convolution(w, schedule, target, weight, finish).emit(source)

    return tir.kernel(name, parameters, body)


def _to_depthwise(s: Schedule) -> depthwise.Schedule:
    return depthwise.Schedule(s.rows, s.lanes, s.border, s.row_blocks, s.parallel, s.channel_blocks)


def _as_matmul(w: Conv2d) -> matmul.Matmul:
    return matmul.Matmul(
        MatrixView((w.output_pixels, w.channels), ("m", "k")),
        MatrixView((w.filters, w.channels), ("n", "k")),
        MatrixView((w.output_pixels, w.filters), ("m", "n")),
        packed=True,
        dtype=w.dtype,
    )


def _emit_pointwise(
    w: Conv2d,
    s: Schedule,
    target: CpuTarget,
    folded: PlacedExpression,
    source: tir.Buffer,
    weight: tir.Buffer,
    rest: Sequence[tir.Buffer],
) -> None:
    product = _as_matmul(w)
    flat = matmul.Schedule(
        s.rows, s.vectors, s.lanes, "packed", s.row_blocks, s.chains, s.parallel, s.prefetch
    )
    finish = epilogues.bind(folded, rest, s.lanes)
    rows = View(w.input_shape, (w.pixel_channels, 1), w.first_channel)
    left = views.strided(source, Operand(product.a.shape, w.dtype), rows)
    right = tir.reshaped(weight, matmul.packed_shape(product, flat), w.dtype)
    matmul.emit(product, flat, target, left, right, finish)


@dataclass(frozen=True)
class _Convolution:
    """Emits the loops of a convolution that is neither pointwise nor depthwise."""

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
        return weights + self.panels * w.batch * image < w.batch * (weights + image)

    def emit(self, source: tir.Buffer) -> None:
        """Emit the whole kernel."""
        w, s = self.workload, self.schedule
        if s.border == "peel":
            self._images(w, source, w.batch, lambda image: image)
            return
        padded = w.with_padding_done()
        with tir.loop(w.batch) as image:
            copy = T.alloc_buffer(padded.input_shape[1:], w.dtype, align=64)
            copy_padded(w, source, image, copy, s.lanes, parallel=s.parallel)
            self._images(padded, copy, 1, lambda _: image)

    def _images(
        self, w: Conv2d, source: tir.Buffer, images: int, number: Callable[[tir.Index], tir.Index]
    ) -> None:
        """Emit the parallel loop over images, groups, panels and blocks of rows."""
        s = self.schedule
        taps = w.kernel[1] * w.group_channels
        weight = tir.reshaped(self.weight, (w.groups, self.panels, w.kernel[0], taps, s.width), w.dtype)
        operands = _Operands(w, s, tir.reshaped(source, _flat_input_shape(w), w.dtype), weight)
        panels = w.groups * self.panels
        order = (panels, images, s.row_blocks) if self._panels_first else (images, panels, s.row_blocks)
        with tir.loop(math.prod(order), parallel=s.parallel) as task:
            outer, inner, block = tir.unravel(task, order)
            image, position = (inner, outer) if self._panels_first else (outer, inner)
            group, panel = tir.unravel(position, (w.groups, self.panels))
            low = block * w.out_height // s.row_blocks
            high = (block + 1) * w.out_height // s.row_blocks
            with tir.loop_between(low, high) as y:
                for tile in row_tiles(w, s.rows):
                    with tir.loop(tile.count) as i:
                        first = tile.first + i * tile.size
                        sums = operands.sum(self.target, (image, group, panel), y, tile, first)
                        self._store(sums, [number(image), y], first, group, panel)

    def _store(
        self,
        sums: RegisterTile,
        outer: list[tir.Index],
        first: tir.Index,
        group: tir.Index,
        panel: tir.Index,
    ) -> None:
        w, s = self.workload, self.schedule
        ragged = w.group_filters % s.width

        def store(count: int) -> None:
            column = group * w.group_filters + panel * s.width
            sums.store(self.epilogue, lambda pixel: [*outer, first + pixel], column, count)

        if not ragged or self.panels == 1:
            store(ragged or s.width)
            return
        with T.If(panel < self.panels - 1):
            with T.Then():
                store(s.width)
            with T.Else():
                store(ragged)


def _flat_input_shape(w: Conv2d) -> tuple[int, int, int]:
    """Image, row (of a channel when NCHW), and what is contiguous in it."""
    if w.input_layout == "NCHW":
        return (w.batch, w.channels * w.height, w.width)
    return (w.batch, w.height, w.width * w.pixel_channels)


@dataclass(frozen=True)
class _Operands:
    """What the sums of a convolution read: input [image, row, run], weights [group, panel, row, tap, filter]."""

    workload: Conv2d
    schedule: Schedule
    source: tir.Buffer
    weight: tir.Buffer

    def sum(
        self,
        target: CpuTarget,
        place: tuple[tir.Index, tir.Index, tir.Index],
        y: tir.Index,
        tile: RowTile,
        first: tir.Index,
    ) -> RegisterTile:
        """Emit the sums of one register tile: `tile.size` pixels of output row `y` from pixel `first` on.

        `place` is image, group and panel.
        """
        w, s = self.workload, self.schedule
        chains = [
            RegisterTile(tile.size, s.vectors, w.dtype, s.lanes, fused=target.has_fma)
            for _ in range(s.chains)
        ]
        # Kernel columns and channels are one loop where they are neighbours in memory.
        dense = w.input_layout == "NHWC" and w.pixel_channels == w.channels
        joined = dense and w.groups == 1 and w.dilation[1] == 1
        with tir.loop_between(*w.rows_inside(y)) as r:
            row = y * w.stride[0] - w.padding[0] + r * w.dilation[0]
            for from_tap, to_tap, pixels in tap_ranges(w, tile):
                step = functools.partial(self._step, place, row, r, first, pixels)
                if joined:
                    steps = (to_tap - from_tap) * w.channels
                    tir.chained_loop(steps, chains, functools.partial(step, from_tap))
                else:
                    with tir.loop(to_tap - from_tap) as tap:
                        tir.chained_loop(w.group_channels, chains, functools.partial(step, from_tap + tap))
        for other in chains[1:]:
            chains[0].add(other)
        return chains[0]

    def _step(
        self,
        place: tuple[tir.Index, tir.Index, tir.Index],
        row: tir.Index,
        r: tir.Index,
        first: tir.Index,
        pixels: Sequence[int],
        tap: tir.Index,
        chain: RegisterTile,
        k: tir.Index,
    ) -> None:
        """Emit the multiply-adds of channel `k`, counted from channel 0 of kernel column `tap`."""
        w, s = self.workload, self.schedule
        image, group, panel = place
        at = tap * w.group_channels + k
        vectors = [
            T.bind(tir.load(self.weight, (group, panel, r, at, v * s.lanes), s.lanes))
            for v in range(s.vectors)
        ]
        if s.prefetch:
            for v in range(s.vectors):
                tir.prefetch(self.weight, (group, panel, r, at + s.prefetch, v * s.lanes))
        channel = w.first_channel + group * w.group_channels + k
        for pixel in pixels:
            column = (first + pixel) * w.stride[1] - w.padding[1] + tap * w.dilation[1]
            if w.input_layout == "NCHW":
                scalar = self.source[image, channel * w.height + row, column]
            else:
                scalar = self.source[image, row, column * w.pixel_channels + channel]
            chain.multiply_add(pixel, scalar, vectors)
