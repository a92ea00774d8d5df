"""Which algorithm computes a convolution: direct or Winograd, by a model of the time that each takes.

The model adds what the phases take and waits for weights, which in a network come from memory at every call. Its
constants were fitted to what `python -m benchmarks.winograd` measures on two cores of a Zen 5 (AVX-512, weights cold).
In us with two threads, measured / predicted, each with its best blocks. The schedule that the model chose was at most
9 % slower than the fastest of six layers, and at most 12 % in 20 layers on a busy machine:

| layer | direct | F(2x2) | F(4x4) |
|---|---|---|---|
| 64-64 @56 | 483 / 456 | 272 / 250 | 171 / 162 |
| 128-128 @28 | 494 / 455 | 284 / 244 | 165 / 151 |
| 128-32 @28 | 126 / 115 | 78 / 69 | 62 / 46 |
| 96-160 @35 | 730 / 671 | 424 / 387 | 252 / 239 |
| 192-192 @17 | 425 / 365 | 254 / 229 | 220 / 189 |
| 256-256 @14 | 476 / 443 | 259 / 245 | 309 / 306 |
| 512-512 @7 | 534 / 444 | 498 / 531 | 1053 / 1088 |
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from tvm.tirx import PrimFunc

from torch_tvm.kernels import conv2d, matmul, tiling, tir, winograd
from torch_tvm.kernels.conv_shape import Conv2d
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression
from torch_tvm.kernels.target import CpuTarget

Schedule = conv2d.Schedule | winograd.Schedule

OPTIONS = ("off", "f2", "auto")

# Less accurate, F(4x4) must at least be so much faster than F(2x2).
_LEAST_GAIN_OF_F4 = 1.1

_CYCLES_PER_NANOSECOND = 4.1
# Nanoseconds to transform a patch, and a tile of products with its epilogue, of one vector of channels.
_INPUT_NANOSECONDS = {2: 14.0, 4: 36.0}
_OUTPUT_NANOSECONDS = {2: 12.0, 4: 33.0}
# Starting and ending a parallel loop.
_PARALLEL_NANOSECONDS = 1500.0
# What the last cache holds for all threads.
_L3_BYTES = 16 * 1024 * 1024
# Bytes a nanosecond: to or from L3 for a thread, from or to memory for all threads.
_L3_RATE, _MEMORY_RATE = 60.0, 36.0
# Bytes a nanosecond that a transposing copy reads and writes.
_TRANSPOSE_RATE = 16.0
# What of the shorter of computing and waiting for weights is not hidden behind the longer.
_NOT_HIDDEN = 0.2


def choose(workload: Conv2d, target: CpuTarget, threads: int = 1, algorithms: str = "auto") -> Schedule:
    """Return the schedule that is expected to be fastest.

    Parameters
    ----------
    algorithms
        "off": direct convolution alone; "f2": also Winograd F(2x2), which is as accurate; "auto": also F(4x4).
    """
    if algorithms not in OPTIONS:
        raise ValueError(f"expected one of {', '.join(OPTIONS)}, got {algorithms!r}")
    direct = conv2d.default_schedule(workload, target, threads)
    tiles = {"off": (), "f2": (2,), "auto": winograd.TILES}[algorithms]
    times: list[tuple[float, Schedule]] = [(nanoseconds(workload, direct, threads), direct)]
    for tile in tiles if winograd.supports(workload) else ():
        handicap = _LEAST_GAIN_OF_F4 if tile == 4 else 1.0
        times += [
            (handicap * nanoseconds(workload, schedule, threads), schedule)
            for schedule in winograd_schedules(workload, tile, target, threads)
        ]
    return min(times, key=lambda timed: timed[0])[1]


def prefix(schedule: Schedule) -> str:
    """Return what profiles show before a kernel's name: the algorithm, where it is not direct convolution."""
    return f"winograd{schedule.tile}_" if isinstance(schedule, winograd.Schedule) else ""


def spreads_nonfinite(schedule: Schedule) -> bool:
    """Whether a NaN or an infinity reaches outputs that it does not belong to: the whole of Winograd's tiles."""
    return isinstance(schedule, winograd.Schedule)


def packed_shape(workload: Conv2d, schedule: Schedule) -> tuple[int, ...]:
    """Shape of the packed weights."""
    if isinstance(schedule, winograd.Schedule):
        return winograd.packed_shape(workload, schedule)
    return conv2d.packed_shape(workload, schedule)


def build_pack(workload: Conv2d, schedule: Schedule, target: CpuTarget, name: str) -> PrimFunc:
    """Build the kernel (weight, packed); the weight has PyTorch's shape `workload.weight_shape`."""
    if isinstance(schedule, winograd.Schedule):
        return winograd.build_pack(workload, schedule, target, name)
    return conv2d.build_pack(workload, schedule, target, name)


def build(
    workload: Conv2d,
    schedule: Schedule,
    target: CpuTarget,
    name: str,
    epilogue: Expression | PlacedExpression | None = None,
) -> PrimFunc:
    """Build the kernel (input, packed weights, extra inputs of the epilogue ..., outputs ...)."""
    if isinstance(schedule, winograd.Schedule):
        return winograd.build(workload, schedule, target, name, epilogue)
    return conv2d.build(workload, schedule, target, name, epilogue)


def winograd_schedules(
    workload: Conv2d, tile: int, target: CpuTarget, threads: int
) -> Iterator[winograd.Schedule]:
    """List schedules that differ in the size of blocks and in what threads share."""
    rows = winograd.Tiling(workload, tile).rows
    sizes = sorted({-(-rows // blocks) for blocks in (1, 2, 4, 8, 16, 32, 64, rows)})
    for block_rows in sizes:
        yield winograd.default_schedule(workload, tile, block_rows, target, threads)
        if threads > 1 and block_rows < rows:
            yield winograd.default_schedule(workload, tile, block_rows, target, threads, blocks=True)


def is_copied_first(
    planar: Conv2d, dense: Conv2d, target: CpuTarget, threads: int, algorithms: str = "auto"
) -> bool:
    """Whether a convolution whose input is NCHW is faster with a copy of it in NHWC, on which it can be fast.

    `planar` is it on the input as it lies, `dense` on the copy.
    """
    direct = nanoseconds(planar, choose(planar, target, threads, algorithms), threads)
    on_copy = nanoseconds(dense, choose(dense, target, threads, algorithms), threads)
    copying = 2 * math.prod(dense.input_shape) * tir.element_bytes(dense.dtype) / _TRANSPOSE_RATE / threads
    return on_copy + copying + _PARALLEL_NANOSECONDS < direct


def nanoseconds(workload: Conv2d, schedule: Schedule, threads: int) -> float:
    """Estimate the time of a convolution."""
    if isinstance(schedule, winograd.Schedule):
        return _winograd_nanoseconds(workload, schedule, threads)
    return _direct_nanoseconds(workload, schedule, threads)


def _direct_nanoseconds(w: Conv2d, schedule: conv2d.Schedule, threads: int) -> float:
    """Estimate the time of direct convolution."""
    s = schedule
    rows_inside = _mean_inside(w.height, w.out_height, w.stride[0], w.padding[0], w.kernel[0], w.dilation[0])
    columns_inside = _mean_inside(w.width, w.out_width, w.stride[1], w.padding[1], w.kernel[1], w.dilation[1])
    computing = conv2d.cycles(w, s.rows, s.vectors, s.lanes) / _CYCLES_PER_NANOSECOND * rows_inside
    if s.border == "peel":
        computing *= columns_inside
    if w.depth is not None:
        d = w.depth
        computing *= _mean_inside(d.size, d.outputs, d.stride, d.padding[0], d.kernel, d.dilation)
    panels = w.groups * -(-w.group_filters // s.width)
    if s.across_groups:
        computing /= panels
        panels = -(-w.filters // s.lanes)
        computing *= panels
    share = _share(w.batch * panels * s.row_blocks * s.column_blocks, threads, s.parallel)
    weight_bytes = math.prod(w.weight_shape) * tir.element_bytes(w.dtype)
    starting = _PARALLEL_NANOSECONDS if s.parallel else 0.0
    return starting + _overlapped(computing * share, weight_bytes / _MEMORY_RATE)


def _winograd_nanoseconds(w: Conv2d, schedule: winograd.Schedule, threads: int) -> float:
    """Estimate the time of a Winograd convolution."""
    s, tiles = schedule, winograd.Tiling(w, schedule.tile)
    product = tiles.product(s.block_rows)
    blocks = -(-tiles.rows // s.block_rows)
    shared = s.product.parallel
    workers = threads if shared or s.parallel_blocks else 1
    patches = product.m / workers if shared else product.m
    transforms = patches * (
        -(-w.channels // s.lanes) * _INPUT_NANOSECONDS[s.tile]
        + -(-w.filters // s.lanes) * _OUTPUT_NANOSECONDS[s.tile]
    )
    element = tir.element_bytes(w.dtype)
    block_bytes = tiles.patch**2 * product.m * (w.channels + w.filters) * element
    held_by_all = block_bytes * (workers if s.parallel_blocks else 1)
    moved = 2 * block_bytes / (workers if shared else 1)
    if held_by_all > workers * tiling.L2_BYTES:
        transforms += moved * (1 - workers * tiling.L2_BYTES / held_by_all) / _L3_RATE
    if held_by_all > _L3_BYTES:
        transforms += moved * (1 - _L3_BYTES / held_by_all) * workers / _MEMORY_RATE
    tasks = tiles.patch**2 * -(-w.filters // s.product.width) * s.product.row_blocks
    cycles = matmul.cycles(product, s.product.rows, s.product.vectors, s.lanes)
    computing = cycles / _CYCLES_PER_NANOSECOND * _share(tasks, threads, shared)
    weight_bytes = tiles.patch**2 * w.filters * w.channels * element
    readers = workers if s.parallel_blocks and weight_bytes > tiling.L2_BYTES else 1
    first = _overlapped(computing, readers * weight_bytes / _MEMORY_RATE)
    again = computing
    if weight_bytes > (workers if shared else 1) * tiling.L2_BYTES / 2:
        again = _overlapped(computing, weight_bytes / (workers if shared else 1) / _L3_RATE)
    rounds = -(-blocks // workers) if s.parallel_blocks else blocks
    loops = 3 * blocks if shared else int(s.parallel_blocks)
    return first + (rounds - 1) * again + rounds * transforms + loops * _PARALLEL_NANOSECONDS


def _overlapped(computing: float, waiting: float) -> float:
    """Return the time of a loop that computes while it waits for memory."""
    return max(computing, waiting) + _NOT_HIDDEN * min(computing, waiting)


def _share(tasks: int, threads: int, parallel: bool) -> float:
    """Return what the busiest thread does of the work of `tasks` equal tasks."""
    return -(-tasks // threads) / tasks if parallel else 1.0


def _mean_inside(size: int, outputs: int, stride: int, padding: int, taps: int, dilation: int) -> float:
    """Return how many of the taps of a kernel lie in the image along one axis, as a part of all."""
    inside = sum(0 <= y * stride - padding + t * dilation < size for y in range(outputs) for t in range(taps))
    return inside / (outputs * taps)
