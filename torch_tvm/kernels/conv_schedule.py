"""Schedules of direct convolution: tiles that fit the registers, weights that arrive in time, tasks for all threads."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch_tvm.kernels import depthwise, matmul, quads, tiling, tir
from torch_tvm.kernels.conv_shape import Conv2d, row_tiles, tap_ranges
from torch_tvm.kernels.extent import Extent, Size, UndecidableError
from torch_tvm.kernels.matrix_view import MatrixView
from torch_tvm.kernels.target import CpuTarget

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
    column_blocks
        Parts that the tiles of an output row are divided into, for tasks of their own where there is but one row.
    chains
        Sums that a result is split into, to hide the latency of FMA when the tile is small.
    parallel
        Whether tasks run in parallel.
    prefetch
        Rows that panels (of a pass) are prefetched ahead, see `PanelPrefetch`.
    passes
        1, or the rows of the kernel: then each pass over the output takes one of them, and the sums lie in memory in
        between, so that L2 holds the weights of a pass and of the next.
    channel_blocks
        Parts of the filters of a convolution across groups.
    across_groups
        Whether a vector holds filters of several groups, as in a depthwise convolution.
    rows_first
        Whether threads share the pixels of a pointwise convolution rather than its panels.
    """

    rows: int
    vectors: int
    lanes: int
    border: str = "peel"
    row_blocks: int = 1
    chains: int = 1
    parallel: bool = False
    prefetch: int = 0
    passes: int = 1
    channel_blocks: int = 1
    across_groups: bool = False
    column_blocks: int = 1
    rows_first: bool = False

    @property
    def width(self) -> int:
        """Filters of a panel."""
        return self.vectors * self.lanes

    @property
    def packing(self) -> Schedule:
        """All that packing depends on: schedules with an equal one want the weights in the same form."""
        if self.across_groups:
            return Schedule(1, 1, 1, across_groups=True)
        return Schedule(1, self.vectors, self.lanes, parallel=self.parallel)

    def block_height(self, workload: Conv2d) -> Size:
        """Rows of the output that a task computes at most."""
        return -(-workload.out_rows // self.row_blocks)

    def for_symbolic(self, workload: Conv2d) -> Schedule:
        """Return the schedule for what is known of the sizes: tiles that overlap do not meet borders, nor are they added up.

        What is prefetched for another pass would leave L1 before it is read, and come from L2 twice.
        """
        if not isinstance(workload.width, Extent):
            return self
        prefetch = self.prefetch if self.passes == 1 else min(self.prefetch, tiling.ROWS_AHEAD)
        if workload.width_padding != (0, 0):
            if min(workload.padding) < 0:
                raise UndecidableError(f"negative padding of an image of symbolic width in {workload}")
            return replace(self, border="copy", passes=1, prefetch=prefetch)
        return replace(self, passes=1, prefetch=prefetch)


def default_schedule(workload: Conv2d, target: CpuTarget, threads: int = 1) -> Schedule:
    """Choose tiles that fit the registers and waste least, and tasks that keep `threads` threads busy."""
    if not workload.pointwise:
        return row_schedule(workload, target, threads)
    flat = matmul.default_schedule(as_matmul(workload), target, threads)
    return Schedule(
        flat.rows,
        flat.vectors,
        flat.lanes,
        "peel",
        flat.row_blocks,
        flat.chains,
        flat.parallel,
        flat.prefetch,
        rows_first=flat.rows_first,
    )


def row_schedule(workload: Conv2d, target: CpuTarget, threads: int = 1) -> Schedule:
    """Choose the schedule of a convolution that is computed row by row, even if it is pointwise."""
    w = workload
    lanes = target.lanes(w.dtype)
    if depthwise.supports(w, lanes):
        return _depthwise_schedule(w, target, threads)
    rows, vectors = _tile(w, target, lanes)
    peeled = sum(len(tap_ranges(w, tile)) for tile in row_tiles(w, rows))
    tasks = w.batch * w.groups * -(-w.group_filters // (vectors * lanes))
    weight_bytes = math.prod(w.weight_shape) * quads.bytes_in_floats(w)
    parallel = tiling.worth_threads(w.flops, weight_bytes, lanes, threads)
    row_blocks = tiling.blocks(tasks, w.out_rows, threads) if parallel else 1
    row = sum(tile.count for tile in row_tiles(w, rows))
    column_blocks = tiling.blocks(tasks, row, threads) if parallel and w.out_rows == 1 else 1
    steps, row_bytes = w.kernel[1] * w.group_channels, vectors * lanes * tir.element_bytes(w.dtype)
    tiles = w.out_rows // row_blocks
    in_passes = tiles > 1 and tiling.needs_passes(w.kernel_rows * steps * row_bytes, weight_bytes)
    passes = w.kernel[0] if in_passes and w.depth is None else 1
    return Schedule(
        rows=rows,
        vectors=vectors,
        lanes=lanes,
        border="peel" if peeled <= _MOST_PEELED_LOOPS or min(w.padding) < 0 else "copy",
        row_blocks=row_blocks,
        chains=tiling.chains(rows, vectors, w.group_channels),
        parallel=parallel,
        prefetch=tiling.prefetch_rows(rows, weight_bytes, steps * w.kernel_rows // passes, tiles, row_bytes),
        passes=passes,
        column_blocks=column_blocks,
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
        across_groups=True,
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
    taps = w.taps * w.group_channels
    step = sum(
        n * tiling.cycles_per_step(height, vectors, lanes * size, taps * width * size)
        for n, height in tir.split_evenly(w.out_width, rows)
    )
    panels = w.groups * -(-w.group_filters // width)
    return w.batch * w.out_rows * taps * panels * step


def as_matmul(w: Conv2d) -> matmul.Matmul:
    """Return a pointwise convolution as the product that it is."""
    return matmul.Matmul(
        MatrixView((w.output_pixels, w.channels), ("m", "k")),
        MatrixView((w.filters, w.channels), ("n", "k")),
        MatrixView((w.output_pixels, w.filters), ("m", "n")),
        packed=True,
        dtype=w.dtype,
        quads=w.quads,
    )
