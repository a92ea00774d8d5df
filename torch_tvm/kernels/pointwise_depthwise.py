"""A pointwise convolution and the depthwise one that alone reads its result, as one kernel, NHWC.

Inverted residuals (MobileNet, EfficientNet, MnasNet) expand a few channels to many and convolve each of those by itself. A
task computes rows of the output for one panel of expanded channels. It holds the rows of the expanded tensor that the
depthwise kernel reaches over in a ring that its L2 cache holds, and computes each of them just before it is first
read; rows at the border of two tasks are computed by both. The ring has the depthwise convolution's horizontal padding,
which is zero, so that no tile of pixels needs special borders.

Emerald Rapids (2 MB of L2 a core, AVX-512), bias and activation behind both, two kernels / one (us), the best of many:

| channels, size, kernel, stride | two cores | one core |
|---|---|---|
| 16 to 96 @112 3x3 s2, ReLU6 | 379 / 148 | 918 / 292 |
| 24 to 144 @56 3x3, ReLU6 | 118 / 96 | 282 / 198 |
| 24 to 144 @56 3x3 s2, ReLU6 | 83 / 75 | 190 / 145 |
| 32 to 192 @28 3x3, ReLU6 | 49 / 44 | 79 / 77 |
| 96 to 576 @14 3x3, ReLU6 | 78 / 82 | 130 / 141 |
| 160 to 960 @7 3x3, ReLU6 | 57 / 72 | 85 / 97 |
| 16 to 96 @112 3x3 s2, SiLU | 563 / 402 | 1176 / 743 |
| 24 to 144 @56 5x5 s2, SiLU | 187 / 193 | 392 / 358 |
| 40 to 240 @28 5x5, SiLU | 142 / 144 | 263 / 257 |
| 112 to 672 @14 5x5, SiLU | 155 / 176 | 274 / 283 |
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import depthwise, matmul, tiling, tir, views
from torch_tvm.kernels import epilogue as epilogues
from torch_tvm.kernels.conv_shape import Conv2d
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression, Operand
from torch_tvm.kernels.matrix_view import MatrixView
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.views import View

# Bytes of a row of a panel: narrow, so that the ring fits L1; a tile of 14 pixels still keeps the FMA units busy. In us
# with AVX-512 and tiles of 8x3, 14x2 and 14x1: 16 to 96 channels at 112x112, stride 2 168, 168, 146, with SiLU 437, 452,
# 395; 24 to 144 at 56x56 with SiLU 250, 260, 245, 5x5 stride 2 201, 212, 192.
_PANEL_BYTES = 64

# What `pays` weighs, in nanoseconds of one thread for a line of 64 bytes of the expanded tensor; fitted to the table above.
_LINE_BYTES = 64
_LINE_NANOSECONDS, _BEYOND_L2_NANOSECONDS = 1.0, 7.0
_CHEAP_NANOSECONDS, _COSTLY_NANOSECONDS = 0.5, 5.0
_FMA_PER_NANOSECOND = 6
# A smaller share of a thread is left as it is: nothing of this size was ever faster.
_LEAST_BYTES = 128 * 1024
# What a narrow tile loses to the best one.
_NARROW = 0.1


@dataclass(frozen=True)
class PointwiseDepthwise:
    """A depthwise convolution of what `between` makes of a pointwise one's result.

    Parameters
    ----------
    pointwise, depthwise
        The convolutions; the result of the first is the input of the second.
    between
        Its shape is that of the pointwise result, its input 0 that result; it has one output. `None`: nothing.
    epilogue
        The same for the depthwise result, with any outputs.
    """

    pointwise: Conv2d
    depthwise: Conv2d
    between: Expression | PlacedExpression | None = None
    epilogue: Expression | PlacedExpression | None = None

    def __post_init__(self) -> None:
        """Refuse convolutions of other kinds, or that do not fit together."""
        first, second = self.pointwise, self.depthwise
        if not first.pointwise or not is_depthwise(second):
            raise ValueError(f"expected a pointwise and a depthwise convolution, got {first} and {second}")
        whole = second.input_shape == first.output_shape and second.input_slice is None
        if not whole or first.dtype != second.dtype:
            raise ValueError(f"the result of {first} is not the input of {second}")

    @property
    def flops(self) -> int:
        """Floating-point operations, each pixel counted once."""
        return self.pointwise.flops + self.depthwise.flops

    @property
    def row_product(self) -> matmul.Matmul:
        """One row of the pointwise convolution, for all images and rows."""
        w = self.pointwise
        pixels = (w.batch, w.height, w.width)
        return matmul.Matmul(
            MatrixView((*pixels, w.channels), ("image", "row", "m", "k")),
            MatrixView((w.filters, w.channels), ("n", "k")),
            MatrixView((*pixels, w.filters), ("image", "row", "m", "n")),
            packed=True,
            dtype=w.dtype,
        )


def is_depthwise(w: Conv2d) -> bool:
    """Whether the kernel takes a convolution as the second: depthwise, in two dimensions, nothing cut off."""
    plain = w.depth is None and w.input_layout == "NHWC" and min(w.padding) >= 0
    return plain and w.groups == w.channels == w.filters > 1


@dataclass(frozen=True)
class Schedule:
    """How both convolutions are computed.

    Parameters
    ----------
    product
        Of the pointwise convolution: its tile, and with its width the expanded channels of a task.
    pixels
        Pixels of a tile of the depthwise convolution.
    strips
        Parts that the rows of the output are divided into; each with one image and one panel is a task.
    """

    product: matmul.Schedule
    pixels: int
    strips: int = 1

    @property
    def parallel(self) -> bool:
        """Whether tasks run in parallel."""
        return self.product.parallel


def default_schedule(workload: PointwiseDepthwise, target: CpuTarget, threads: int = 1) -> Schedule:
    """Choose tiles as for the single convolutions, and tasks that keep `threads` threads busy."""
    w = workload.pointwise
    lanes, size = target.lanes(w.dtype), tir.element_bytes(w.dtype)
    row_bytes, columns = w.pixel_channels * size, max(lanes, _PANEL_BYTES // size)
    most, vectors = tiling.register_tiles(target, lanes, columns, row_bytes)[0]
    rows = max(size for _, size in tir.split_evenly(w.width, most))
    parallel = tiling.worth_threads(workload.flops, 0, lanes, threads)
    product = matmul.Schedule(
        rows, vectors, lanes, "packed", 1, tiling.chains(rows, vectors, w.channels), parallel
    )
    panels = -(-w.filters // product.width)
    return Schedule(
        product,
        depthwise.default_schedule(workload.depthwise, target, 1).pixels,
        _strips(workload, panels, threads) if parallel else 1,
    )


def pays(workload: PointwiseDepthwise, target: CpuTarget, threads: int = 1) -> bool:
    """Estimate whether one kernel takes less time than two.

    It saves the way of the expanded tensor to L2 and back, and further where a thread's share of it is more than L2 holds.
    It costs the rows that two tasks compute, and a tile that is narrower than the best: the more input channels, the more.
    """
    first, lanes = workload.pointwise, target.lanes(workload.pointwise.dtype)
    size = tir.element_bytes(first.dtype)
    share = math.prod(first.output_shape) * size / threads
    beyond = max(0.0, 1 - tiling.L2_BYTES / share)
    saved = _LINE_NANOSECONDS + _BEYOND_L2_NANOSECONDS * beyond
    strips = default_schedule(workload, target, threads).strips
    again = computed_rows(workload, strips) / first.height - 1
    between = epilogues.resolve(workload.between, first.output_shape, first.dtype).expression
    activation = _CHEAP_NANOSECONDS if epilogues.is_cheap(between) else _COSTLY_NANOSECONDS
    line = first.channels * _LINE_BYTES / (lanes * size) / _FMA_PER_NANOSECOND
    cost = (again + _NARROW) * line + again * activation
    return share >= _LEAST_BYTES and cost < saved


def computed_rows(workload: PointwiseDepthwise, strips: int) -> int:
    """Return the rows of the expanded tensor that all tasks of one panel and image compute."""
    w = workload.depthwise
    rows = 0
    for strip in range(strips):
        low, high = strip * w.out_height // strips, (strip + 1) * w.out_height // strips
        top = max(0, low * w.stride[0] - w.padding[0])
        bottom = min(w.height, (high - 1) * w.stride[0] - w.padding[0] + w.reach[0] + 1)
        rows += max(0, bottom - top)
    return rows


def _strips(workload: PointwiseDepthwise, panels: int, threads: int) -> int:
    """Return the strips with which the busiest thread has least to do; threads share rows wherever that is even."""
    w = workload.depthwise
    if w.batch % threads == 0:
        return 1

    def cost(strips: int) -> float:
        tasks = w.batch * panels * strips
        expanding = computed_rows(workload, strips) * w.width * workload.pointwise.channels
        convolving = -(-w.out_height // strips) * strips * w.out_width * math.prod(w.kernel)
        return -(-tasks // threads) * threads / tasks * (expanding + convolving)

    shared = range(threads, w.out_height + 1, threads)
    return min(shared or range(1, w.out_height + 1), key=cost)


def packed_shapes(
    workload: PointwiseDepthwise, schedule: Schedule
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the packed weights of both convolutions."""
    pointwise = matmul.packed_shape(workload.row_product, schedule.product)
    return pointwise, depthwise.packed_shape(workload.depthwise)


def build_packs(
    workload: PointwiseDepthwise, schedule: Schedule, target: CpuTarget
) -> tuple[partial[PrimFunc], partial[PrimFunc]]:
    """Return what builds the kernels (weight, packed) of both convolutions."""
    row = workload.row_product
    return (
        partial(matmul.build_pack, workload=row, schedule=schedule.product.packing, target=target),
        partial(depthwise.build_pack, w=workload.depthwise),
    )


def build(workload: PointwiseDepthwise, schedule: Schedule, target: CpuTarget, name: str) -> PrimFunc:
    """Build the kernel (input, both packed weights, extra inputs of `between` ..., of the epilogue ..., outputs ...)."""
    first, second = workload.pointwise, workload.depthwise
    between = epilogues.resolve(workload.between, first.output_shape, first.dtype)
    behind = epilogues.resolve(workload.epilogue, second.output_shape, second.dtype)
    inner = [
        dataclasses.replace(p, name=f"between{i}") for i, p in enumerate(epilogues.parameters(between)[0])
    ]
    shapes = packed_shapes(workload, schedule)
    operands = [
        tir.Parameter("input", first.input_shape, first.dtype),
        tir.Parameter("pointwise", shapes[0], first.dtype),
        tir.Parameter("depthwise", shapes[1], first.dtype),
        *inner,
    ]

    def body(*buffers: tir.Buffer) -> None:
        count = 3 + len(inner)
        finish = epilogues.bind(behind, buffers[count:], schedule.product.lanes)
        placed = zip(buffers[3:count], between.operands, between.views, strict=False)
        extras = [epilogues.shape(*each) for each in placed]
        _Kernel(workload, schedule, target, buffers[:3], (between.expression, extras), finish).emit()

    return epilogues.kernel(name, operands, behind, body)


@dataclass(frozen=True)
class _IntoRing(epilogues.Epilogue):
    """The epilogue of the pointwise convolution: whole vectors of its only output go into the ring."""

    ring: _Ring

    def store(self, result: tir.Value, index: Sequence[tir.Index], count: int, *others: tir.Value) -> None:
        """Apply the expression to `count` elements that begin at `index`, and keep them."""
        (value,) = self.apply(result, index, count, *others)
        tir.store(self.ring.buffer, value, self.ring.place(index), self.lanes)


@dataclass(frozen=True)
class _Ring:
    """The last rows of some channels of the expanded tensor, with `left` columns of padding before each."""

    buffer: tir.Buffer
    rows: int
    left: int
    first_channel: tir.Index

    def place(self, index: Sequence[tir.Index]) -> list[tir.Index]:
        """Return where the element [image, row, column, channel] lies."""
        _, row, column, channel = index
        return [T.truncmod(row, self.rows), column + self.left, channel - self.first_channel]


@dataclass(frozen=True)
class _Kernel:
    """Emits the tasks."""

    workload: PointwiseDepthwise
    schedule: Schedule
    target: CpuTarget
    operands: Sequence[tir.Buffer]
    between: tuple[Expression, Sequence[tir.Buffer]]
    epilogue: epilogues.Epilogue

    def emit(self) -> None:
        """Emit the parallel loop over images, strips of rows and panels."""
        w, s = self.workload, self.schedule
        panels = -(-w.pointwise.filters // s.product.width)
        shape = (w.pointwise.batch, s.strips, panels)
        with tir.loop(math.prod(shape), parallel=s.parallel) as task:
            image, strip, panel = tir.unravel(task, shape)
            height = w.depthwise.out_height
            low, high = strip * height // s.strips, (strip + 1) * height // s.strips
            ring = self._ring(panel)
            expand, convolve = self._pointwise(ring), self._depthwise(ring)
            width = s.product.vectors
            vectors = -(-w.pointwise.filters // s.product.lanes)
            last = T.min((panel + 1) * width, vectors) if vectors % width else (panel + 1) * width
            with tir.loop_between(low, high) as y:
                with tir.loop_between(*self._new_rows(low, y)) as row:
                    expand.emit_rows({"image": image, "row": row}, panel)
                convolve.emit(image, image, y, (panel * width, last))

    def _new_rows(self, low: tir.Index, y: tir.Index) -> tuple[tir.Index, tir.Index]:
        """Return the expanded rows (from, to) that output row `y` is the first to read, `low` being the task's first."""
        w = self.workload.depthwise
        top = y * w.stride[0] - w.padding[0]
        bottom = top + w.reach[0] + 1
        first = T.Select(y == low, top, T.max(top, bottom - w.stride[0]))
        return tir.clamp_index(first, 0, w.height), tir.clamp_index(bottom, 0, w.height)

    def _ring(self, panel: tir.Index) -> _Ring:
        """Allocate the ring of a task and set its padding to zero."""
        w, s = self.workload.depthwise, self.schedule.product
        _, left, _, right = w.padding
        rows = w.reach[0] + 1
        shape = tir.expressions((rows, left + w.width + right, s.width))
        buffer = T.alloc_buffer(shape, w.dtype, align=64)
        with tir.loop(rows) as row:
            for first, count in ((0, left), (left + w.width, right)):
                if count:
                    with tir.loop(count) as column:
                        for v in range(s.vectors):
                            zero = tir.constant(0, w.dtype, s.lanes)
                            tir.store(buffer, zero, (row, first + column, v * s.lanes), s.lanes)
        return _Ring(buffer, rows, left, panel * s.width)

    def _pointwise(self, ring: _Ring) -> matmul.Product:
        w = self.workload.pointwise
        pixel, line = w.pixel_channels, w.width * w.pixel_channels
        view = View(w.input_shape, (w.height * line, line, pixel, 1), w.first_channel)
        source = views.strided(
            self.operands[0], Operand((w.batch, w.height, w.width, w.channels), w.dtype), view
        )
        expression, extras = self.between
        sink = _IntoRing(expression, extras, (), self.schedule.product.lanes, ring)
        product = self.workload.row_product
        return matmul.Product(product, self.schedule.product, self.target, source, self.operands[1], sink)

    def _depthwise(self, ring: _Ring) -> depthwise.Rows:
        w, lanes = self.workload.depthwise, self.schedule.product.lanes
        top, left, bottom, right = w.padding
        padded = dataclasses.replace(w, width=left + w.width + right, padding=(top, 0, bottom, 0))
        in_ring = dataclasses.replace(ring, left=0)

        tile = (self.schedule.pixels, lanes)
        return depthwise.Rows(
            padded, *tile, self.target, ring.buffer, self.operands[2], self.epilogue, in_ring.place
        )
