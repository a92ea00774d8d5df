"""Winograd convolution F(2x2, 3x3) and F(4x4, 3x3), NHWC, with weights transformed ahead and a fused epilogue.

The output is divided into tiles of m x m pixels. Three phases, each one parallel loop: every (m + 2) x (m + 2) patch of
the input is transformed, the (m + 2)^2 elements of the patches are multiplied with the transformed weights in as many
matrix products (tiles x channels x filters), and the products are transformed back. That takes 36 / 16 multiplications
an output pixel, channel and filter for m = 4, 16 / 4 for m = 2, where direct convolution takes 9. A block of tile rows
goes through the phases at a time, so that what lies between them stays in a cache.

Rounding: F(4x4) adds numbers that are up to a hundred times as large as their sum. On N(0, 1) inputs the largest error
over the largest output is 1.6e-6 to 4.7e-6 for 64 to 512 channels, 2.4e-7 to 6.0e-7 with F(2x2), 1.2e-6 to 2.6e-6 with
direct convolution. Points 0, 1, -1, 1/2, -2 have 1.5 to 2.7 times smaller errors than the usual 0, 1, -1, 2, -2.

A NaN or an infinity in the input makes all outputs of the tiles that read it NaN, up to (m + 2)^2 pixels around it
where direct convolution has 3 x 3 of them; and inputs above 1e36 overflow in the transform.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import epilogue as epilogues
from torch_tvm.kernels import extent, matmul, tiling, tir, toom_cook
from torch_tvm.kernels.conv_shape import Conv2d
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression, identity
from torch_tvm.kernels.extent import Extent, Size
from torch_tvm.kernels.linear_transform import VectorType, multiply
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.winograd_tiling import Tiling

__all__ = [
    "TILES",
    "Schedule",
    "Tiling",
    "build",
    "build_pack",
    "default_schedule",
    "matrices",
    "packed_shape",
    "supports",
]

_POINTS = {2: (0, 1, -1), 4: (0, 1, -1, Fraction(1, 2), -2)}
TILES = tuple(_POINTS)


@dataclass(frozen=True)
class Schedule:
    """How a convolution is computed.

    Parameters
    ----------
    tile
        m: 2 or 4.
    block_rows
        Rows of tiles, counted over all images, that go through the three phases together.
    product
        Schedule of the products of one block; its `parallel` says whether threads share the phases of a block.
    parallel_blocks
        Whether each thread takes whole blocks.
    input_parts, output_parts
        Parts that the channels and the filters are divided into, each with one row of tiles a task of the transforms.
    """

    tile: int
    block_rows: int
    product: matmul.Schedule
    parallel_blocks: bool = False
    input_parts: int = 1
    output_parts: int = 1

    @property
    def lanes(self) -> int:
        """Elements of a vector."""
        return self.product.lanes

    @property
    def packing(self) -> Schedule:
        """All that packing depends on: schedules with an equal one want the weights in the same form."""
        return Schedule(self.tile, 1, self.product.packing)


@functools.cache
def matrices(tile: int) -> toom_cook.ToomCook:
    """Return the matrices of F(tile, 3)."""
    return toom_cook.derive(tile, 3, _POINTS[tile])


def supports(w: Conv2d) -> bool:
    """Whether a convolution can be computed so."""
    return (
        w.kernel == (3, 3)
        and w.stride == w.dilation == (1, 1)
        and w.groups == 1
        and w.depth is None
        and w.dtype == "float32"
        and w.input_layout == "NHWC"
    )


def default_schedule(
    workload: Conv2d, tile: int, block_rows: int, target: CpuTarget, threads: int = 1, *, blocks: bool = False
) -> Schedule:
    """Choose the products' tiles and tasks that keep `threads` threads busy, sharing phases or (`blocks`) each a block."""
    tiles = Tiling(workload, tile)
    everything = tiles.product(tiles.rows)
    blocks = blocks and tiling.worth_threads(everything.flops, 0, target.lanes(workload.dtype), threads)
    product = matmul.default_schedule(tiles.product(block_rows), target, 1 if blocks else threads)
    parts = functools.partial(tiling.blocks, block_rows, threads=threads)
    vectors = [max(1, count // product.lanes) for count in (workload.channels, workload.filters)]
    shared = product.parallel
    return Schedule(
        tile=tile,
        block_rows=block_rows,
        product=product,
        parallel_blocks=blocks,
        input_parts=parts(vectors[0]) if shared else 1,
        output_parts=parts(vectors[1]) if shared else 1,
    )


def packed_shape(workload: Conv2d, schedule: Schedule) -> tuple[int, ...]:
    """Shape of the transformed weights: [element of a patch, panel, channel, filter]."""
    return matmul.packed_shape(Tiling(workload, schedule.tile).product(1), schedule.product)


def build_pack(workload: Conv2d, schedule: Schedule, target: CpuTarget, name: str) -> PrimFunc:
    """Build the kernel (weight, packed); the weight has PyTorch's shape `workload.weight_shape`.

    The transform is computed in float64: its rounding would be a third of the whole algorithm's.
    """
    w = workload
    shape = packed_shape(w, schedule)
    _, panels, channels, width = shape
    lanes = min(width, target.lanes("float64"))

    def body(weight: tir.Buffer, packed: tir.Buffer) -> None:
        with (
            tir.loop(panels, parallel=schedule.product.parallel) as panel,
            tir.loop(channels) as channel,
            tir.loop(width // lanes) as v,
        ):
            taps = [tir.scratch("float64", lanes) for _ in range(9)]
            with tir.loop(lanes) as i:
                row = T.min(panel * width + v * lanes + i, w.filters - 1)
                for t, tap in enumerate(taps):
                    tir.store(tap, T.cast(weight[row, channel, t // 3, t % 3], "float64"), (i,), 1)
            loaded = [T.bind(tir.load(tap, (0,), lanes)) for tap in taps]
            of = VectorType("float64", lanes, target.has_fma)
            for element, value in enumerate(_transform_weight(schedule.tile, loaded, of)):
                narrow = T.cast(value, tir.vector_dtype("float32", lanes))
                tir.store(packed, narrow, (element, panel, channel, v * lanes), lanes)

    parameters = [tir.Parameter("weight", w.weight_shape, w.dtype), tir.Parameter("packed", shape, w.dtype)]
    return tir.kernel(name, parameters, body)


def _transform_weight(tile: int, taps: Sequence[tir.Value], of: VectorType) -> Iterator[tir.Value]:
    """Yield the elements of G g G^T."""
    matrix = matrices(tile).weight
    columns = [
        [tir.materialise(value, of.dtype, of.lanes) for value in multiply(matrix, taps[x::3], of)]
        for x in range(3)
    ]
    for i in range(len(matrix)):
        yield from multiply(matrix, [column[i] for column in columns], of)


def build(
    workload: Conv2d,
    schedule: Schedule,
    target: CpuTarget,
    name: str,
    epilogue: Expression | PlacedExpression | None = None,
) -> PrimFunc:
    """Build the kernel (input, transformed weights, extra inputs of the epilogue ..., outputs ...).

    Parameters
    ----------
    epilogue
        Its shape is `workload.output_shape` (NHWC), its input 0 the convolution.
    """
    w = workload
    if not supports(w):
        raise ValueError(f"no Winograd algorithm for {w}")
    expression = epilogues.resolve(epilogue, w.output_shape, w.dtype)
    operands = [
        tir.Parameter("input", w.input_shape, w.dtype),
        tir.Parameter("weight", packed_shape(w, schedule), w.dtype),
    ]

    def body(source: tir.Buffer, weight: tir.Buffer, *rest: tir.Buffer) -> None:
        finish = epilogues.bind(expression, rest, schedule.lanes)
        _Winograd(w, schedule, target, source, weight, finish).emit()

    return epilogues.kernel(name, operands, expression, body)


def _spread(shape: tuple[int, ...], dtype: str) -> tir.Buffer:
    """Allocate matrices of which a transform accesses one element each: they begin an odd number of cache lines apart.

    16 KB apart, the 36 elements of a patch share one set of the L1 cache: 186 ns for a vector of patches instead of 34.
    """
    # Of the largest size: with a stride known at run time only, 64 channels at 56x56 take 1.1 s to compile instead of 0.66.
    # What is not used is never touched.
    matrix, line = extent.bounds(math.prod(shape[1:]))[1], 64 // tir.element_bytes(dtype)
    stride = (-(-matrix // line) // 2 * 2 + 1) * line
    memory = T.alloc_buffer(tir.expressions((shape[0] * stride,)), dtype, align=64)
    strides = tir.expressions((stride, shape[2], 1))
    return T.decl_buffer(tir.expressions(shape), dtype, data=memory.data, strides=strides, align=64)


@dataclass(frozen=True)
class _Winograd:
    """Emits the loops of a convolution."""

    workload: Conv2d
    schedule: Schedule
    target: CpuTarget
    source: tir.Buffer
    weight: tir.Buffer
    epilogue: epilogues.Epilogue

    @property
    def tiling(self) -> Tiling:
        return Tiling(self.workload, self.schedule.tile)

    @property
    def product(self) -> matmul.Matmul:
        return self.tiling.product(self.schedule.block_rows)

    def emit(self) -> None:
        """Emit the loop over blocks."""
        s = self.schedule
        blocks = -(-self.tiling.rows // s.block_rows)
        if s.parallel_blocks:
            with tir.loop(blocks, parallel=True) as block:
                self._block(block * s.block_rows, *self._allocate())
            return
        buffers = self._allocate()
        with tir.loop(blocks) as block:
            self._block(block * s.block_rows, *buffers)

    def _allocate(self) -> tuple[tir.Buffer, tir.Buffer]:
        """Make room for the transformed patches and for the products of a block."""
        dtype = self.workload.dtype
        return _spread(self.product.a.shape, dtype), _spread(self.product.c.shape, dtype)

    def _block(self, first_row: tir.Index, patches: tir.Buffer, products: tir.Buffer) -> None:
        """Emit the three phases of the rows of tiles from `first_row` on."""
        w, s = self.workload, self.schedule

        def transform_inputs(row: tir.Index, in_block: tir.Index, low: tir.Index, high: tir.Index) -> None:
            for group in self.tiling.column_groups():
                with tir.loop(group.count) as i:
                    step = functools.partial(
                        self._transform_patch, patches, row, in_block, group.at(i), group.inside
                    )
                    self._for_vectors(w.channels, low, high, step)

        def transform_products(row: tir.Index, in_block: tir.Index, low: tir.Index, high: tir.Index) -> None:
            whole, rest = divmod(w.out_width, s.tile)
            last = (whole, self.tiling.columns - whole, rest)
            for first, count, width in ((0, whole, s.tile), last):
                if not extent.same(count, 0):
                    with tir.loop(count) as column:
                        step = functools.partial(
                            self._transform_product, products, row, in_block, first + column, width
                        )
                        self._for_vectors(w.filters, low, high, step)

        self._for_rows(first_row, s.input_parts, w.channels, transform_inputs)
        stored = epilogues.Epilogue(identity(self.product.c.shape, w.dtype), [], [products], s.lanes)
        matmul.emit(self.product, s.product, self.target, patches, self.weight, stored)
        self._for_rows(first_row, s.output_parts, w.filters, transform_products)

    def _for_rows(
        self,
        first_row: tir.Index,
        parts: int,
        depth: int,
        step: Callable[[tir.Index, tir.Index, tir.Index, tir.Index], None],
    ) -> None:
        """Emit `step(row of tiles, row in the block, first vector, last vector + 1)` for parts of each row of a block."""
        s = self.schedule
        vectors = -(-depth // s.lanes)
        with tir.loop(s.block_rows * parts, parallel=s.product.parallel) as task:
            in_block, part = tir.unravel(task, (s.block_rows, parts))
            row = first_row + in_block

            def emit() -> None:
                step(row, in_block, part * vectors // parts, (part + 1) * vectors // parts)

            if extent.same(self.tiling.rows % s.block_rows, 0):
                emit()
                return
            (rows,) = tir.expressions((self.tiling.rows,))
            with T.If(row < rows), T.Then():
                emit()

    def _for_vectors(
        self, depth: int, low: tir.Index, high: tir.Index, step: Callable[[tir.Index, int], None]
    ) -> None:
        """Emit `step(first element, elements)` for vectors `low` to before `high` of a run of `depth` elements."""
        lanes = self.schedule.lanes
        whole, rest = divmod(depth, lanes)
        if whole:
            last = tir.clamp_index(high, 0, whole) if rest else high
            with tir.loop_between(low, last) as vector:
                step(vector * lanes, lanes)
        if rest:
            if isinstance(high, int):
                step(whole * lanes, rest)
                return
            with T.If(high > whole), T.Then():
                step(whole * lanes, rest)

    def _place(self, row: tir.Index) -> tuple[tir.Index, tir.Index]:
        """Image, and row of tiles in it."""
        image, tile_row = tir.unravel(row, (self.workload.batch, self.tiling.image_rows))
        return image, tile_row

    def _transform_patch(
        self,
        patches: tir.Buffer,
        row: tir.Index,
        in_block: tir.Index,
        column: tir.Index,
        inside: Sequence[bool] | None,
        first: tir.Index,
        lanes: int,
    ) -> None:
        """Emit B^T d B of one tile for the channels `first` to before `first + lanes`."""
        w, tiles = self.workload, self.tiling
        n, matrix = tiles.patch, matrices(tiles.tile).input
        of = VectorType(w.dtype, lanes, self.target.has_fma)
        image, tile_row = self._place(row)
        half = [tir.scratch(w.dtype, n * lanes) for _ in range(n)]
        x = column * tiles.tile - w.padding[1]

        def pixel(y: tir.Index, x: tir.Index) -> tir.Value:
            return tir.load(self.source, (image, y, x, w.first_channel + first), lanes)

        def row_of_patch(i: int, y: tir.Index) -> None:
            if inside is None:
                pixels = self._pixels_inside(pixel, y, x, lanes)
            else:
                pixels = [T.bind(pixel(y, x + j)) if ok else None for j, ok in enumerate(inside)]
            for j, value in enumerate(multiply(matrix, pixels, of)):
                tir.store(half[i], value, (j * lanes,), lanes)

        for i in range(n):
            y = tile_row * tiles.tile + i - w.padding[0]
            highest = (tiles.image_rows - 1) * tiles.tile + i - w.padding[0]
            (height,) = tir.expressions((w.height,))
            conditions = [y >= 0] if i < w.padding[0] else []
            conditions += [] if extent.at_least(w.height - 1, highest) else [y < height]
            if not conditions:
                row_of_patch(i, y)
                continue
            with T.If(functools.reduce(T.And, conditions)):
                with T.Then():
                    row_of_patch(i, y)
                with T.Else():
                    for j in range(n):
                        tir.store(half[i], tir.constant(0, w.dtype, lanes), (j * lanes,), lanes)
        number = in_block * tiles.columns + column
        for j in range(n):
            column_of_patch = [T.bind(tir.load(half[i], (j * lanes,), lanes)) for i in range(n)]
            for i, value in enumerate(multiply(matrix, column_of_patch, of)):
                tir.store(patches, value, (i * n + j, number, first), lanes)

    def _pixels_inside(
        self, load: Callable[[tir.Index, tir.Index], tir.Value], y: tir.Index, x: tir.Index, lanes: int
    ) -> list[tir.Value]:
        """Return the pixels of a row of a patch, zeros outside of the image."""
        dtype, patch = self.workload.dtype, self.tiling.patch
        held = tir.scratch(dtype, patch * lanes)
        (width,) = tir.expressions((self.workload.width,))
        with T.serial(0, patch) as j, T.If(T.And(T.GE(x + j, 0), T.LT(x + j, width))):
            with T.Then():
                tir.store(held, load(y, x + j), (j * lanes,), lanes)
            with T.Else():
                tir.store(held, tir.constant(0, dtype, lanes), (j * lanes,), lanes)
        return [T.bind(tir.load(held, (j * lanes,), lanes)) for j in range(patch)]

    def _transform_product(
        self,
        products: tir.Buffer,
        row: tir.Index,
        in_block: tir.Index,
        column: tir.Index,
        width: Size,
        first: tir.Index,
        count: int,
    ) -> None:
        """Emit A^T p A and the epilogue of one tile, `width` pixels wide, for `count` filters from `first` on."""
        w, s, tiles = self.workload, self.schedule, self.tiling
        n, m, lanes, matrix = tiles.patch, tiles.tile, s.lanes, matrices(tiles.tile).output
        of = VectorType(w.dtype, lanes, self.target.has_fma)
        image, tile_row = self._place(row)
        number = in_block * tiles.columns + column
        half = [tir.scratch(w.dtype, n * lanes) for _ in range(m)]
        for j in range(n):
            column_of_product = [
                T.bind(
                    tir.load_partial(
                        products, (i * n + j, number, first), count=count, dtype=w.dtype, lanes=lanes
                    )
                )
                for i in range(n)
            ]
            for i, value in enumerate(multiply(matrix, column_of_product, of)):
                tir.store(half[i], value, (j * lanes,), lanes)

        def store_row(i: int, y: tir.Index) -> None:
            vectors = [T.bind(tir.load(half[i], (j * lanes,), lanes)) for j in range(n)]
            known = m if isinstance(width, Extent) else width
            values = multiply(matrix, vectors, of)[:known]
            x = column * m
            if self.epilogue.unrolled and not isinstance(width, Extent):
                for j, value in enumerate(values):
                    self.epilogue.store(value, [image, y, x + j, first], count)
                return
            spilled = tir.scratch(w.dtype, known * lanes)
            for j, value in enumerate(values):
                tir.store(spilled, value, (j * lanes,), lanes)
            with tir.loop(width) as j:
                loaded = tir.load(spilled, (j * lanes,), lanes)
                self.epilogue.store(loaded, [image, y, x + j, first], count)

        for i in range(m):
            y = tile_row * m + i
            if extent.at_least(w.out_height - 1, (tiles.image_rows - 1) * m + i):
                store_row(i, y)
                continue
            (height,) = tir.expressions((w.out_height,))
            with T.If(y < height), T.Then():
                store_row(i, y)
