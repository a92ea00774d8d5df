"""Register tiles and tasks: what fits the registers, what it costs, how many tasks keep threads equally busy."""

from __future__ import annotations

from torch_tvm.kernels import tir
from torch_tvm.kernels.target import CpuTarget

# Two FMA units of four cycles' latency: fewer accumulators than this wait for one another.
_ACCUMULATORS_IN_FLIGHT = 8
# More rows do not help, and rows that are 4 KiB apart share the 12 ways of one set of the L1 cache.
_MAX_ROWS, _MAX_ALIASING_ROWS, _ALIASING_BYTES = 14, 8, 4096
# Bytes a cycle at which a panel of this size at most streams into registers: from L1, L2, L3 (Zen 5, measured on
# 3x3 convolutions of 512 channels at 7x7: 754 us with 7 x 32 tiles, 1020 us with 4 x 64 and 3 x 64).
_STREAMS = ((24 * 1024, 128), (640 * 1024, 32), (1 << 62, 12))
# Weights that may still be in L2 from the call before.
WARM_BYTES = 1024 * 1024
# What L2 keeps for one thread beside weights.
L2_BYTES = 768 * 1024
# The next panel must not push what is being read out of L2: 128x3072x768 with panels of 590 KB takes 1365 us, with 64
# rows fetched ahead 1450 us (two threads).
_PREFETCHED_PANEL_BYTES = 640 * 1024
# What a product loses by the first panel, which nothing fetches ahead from memory (two threads, us with panels of
# 32 and 64 columns): 128x768x768 326 and 337, 128x768x3072 1268 and 1284.
MEMORY_BYTES_PER_CYCLE = 2
# From this size on a panel is read in passes: of 590 KB, 3x3 convolution of 512 channels at 14x14 stride 2 takes 532 us at
# once and 483 us in three passes; of 295 KB, 256 to 512 channels 260 us both ways (two threads).
_PASSES_BYTES = 384 * 1024
# Rows of a panel that arrive in time.
ROWS_AHEAD = 64
# Two FMA a cycle at 4 GHz.
_FMA_PER_NANOSECOND = 8
# From L3: 1x512x1000 takes 21 us for 2 MB of weights.
_WEIGHT_BYTES_PER_NANOSECOND = 100
# What the busiest thread may have to do, the average being 1: less is not worth smaller tiles or more tasks.
MOST_IMBALANCE = 1.05


def register_tiles(target: CpuTarget, lanes: int, columns: int, row_bytes: int) -> list[tuple[int, int]]:
    """List the (rows, vectors) that fit the registers together with a row of the panel and a scalar.

    Parameters
    ----------
    columns
        Columns of the whole result: no tile is wider.
    row_bytes
        Distance in memory of two rows of the left operand.
    """
    widest = min(4, -(-columns // lanes))
    most = _MAX_ALIASING_ROWS if row_bytes % _ALIASING_BYTES == 0 else _MAX_ROWS
    registers = target.vector_registers
    return [(min(most, (registers - 1 - v) // v), v) for v in range(widest, 0, -1)]


def chains(rows: int, vectors: int, steps: int) -> int:
    """Return in how many partial sums to split each result so that the FMA units never wait."""
    return min(4, max(1, steps // 8), -(-_ACCUMULATORS_IN_FLIGHT // (rows * vectors)))


def cycles_per_step(rows: int, vectors: int, vector_bytes: int, panel_bytes: int) -> float:
    """Estimate the cycles of one step of a tile: two FMA and two loads a cycle, and the panel's stream."""
    bandwidth = next(rate for size, rate in _STREAMS if panel_bytes <= size)
    waiting = 4 / min(4, -(-_ACCUMULATORS_IN_FLIGHT // (rows * vectors)))
    bound = max(rows * vectors / 2, (rows + vectors) / 2, waiting, vectors * vector_bytes / bandwidth)
    # Loads are never quite free: with AVX2, where all tiles are equal otherwise, 4x24 does 125 GFLOPS, 6x16 121
    # and 2x32 108.
    return bound + (rows + vectors) / 16


def with_compile_time(cycles: float, bodies: int) -> float:
    """Weigh the cycles of a tile with its compile time: 15 to 40 ms for each inner loop that is specialised.

    3x3 convolution of 256 channels at 14x14: 14x32 has one tile a row, 864 us and 123 ms; 5x64 883 us and 227 ms.
    """
    return cycles * (1 + 0.015 * bodies)


def needs_passes(panel_bytes: int, weight_bytes: int) -> bool:
    """Return whether to read cold weights in passes of one kernel row each: where panels are large for L2."""
    return weight_bytes > WARM_BYTES and panel_bytes > _PASSES_BYTES


def prefetch_rows(rows: int, weight_bytes: int, steps: int, tiles: int, row_bytes: int) -> int:
    """Return how many rows of a panel to prefetch ahead: none where the weights fit L2 or are read only once.

    With weights that come from memory, 64 rows ahead (us): 3x3 convolution of 512 channels at 7x7 1219 -> 1015,
    256 to 512 at 14x14 stride 2 713 -> 544, 128x3072x768 2932 -> 2825; but 1x4096x4096 2029 -> 2241.

    Parameters
    ----------
    steps, tiles, row_bytes
        Rows of a panel, tiles that read each panel and bytes of a row: where more than one tile does and the next panel
        fits L2 too, a whole panel ahead.
    """
    if rows < 4 or weight_bytes <= WARM_BYTES:
        return 0
    whole = tiles > 1 and steps > ROWS_AHEAD and steps * row_bytes <= _PREFETCHED_PANEL_BYTES
    return steps if whole else ROWS_AHEAD


def worth_threads(flops: int, weight_bytes: int, lanes: int, threads: int) -> bool:
    """Return whether to open a parallel region: estimate the time of one thread, at the FMA limit or reading weights."""
    nanoseconds = max(flops / (2 * lanes * _FMA_PER_NANOSECOND), weight_bytes / _WEIGHT_BYTES_PER_NANOSECOND)
    return threads > 1 and nanoseconds > tir.PARALLEL_MIN_NANOSECONDS


def imbalance(tasks: int, steps: int, parts: int, threads: int) -> float:
    """Return what the busiest thread does of `tasks`, each of `steps` in `parts` parts, divided by the average.

    Part p goes from step p * steps // parts on; each thread has one contiguous share of all parts.
    """
    count = tasks * parts
    share = -(-count // threads)

    def steps_before(part: int) -> int:
        return part // parts * steps + part % parts * steps // parts

    busiest = max(steps_before(min(count, low + share)) - steps_before(low) for low in range(0, count, share))
    return busiest * threads / (tasks * steps)


def blocks(tasks: int, steps: int, threads: int) -> int:
    """Find the least number of parts of each task with which no thread has much more to do than the average."""
    candidates = range(1, min(steps, 4 * threads) + 1)
    weighed = ((imbalance(tasks, steps, parts, threads), parts) for parts in candidates)
    best = next(weighed)
    while best[0] > MOST_IMBALANCE and (other := next(weighed, None)) is not None:
        best = min(best, other)
    return best[1]


def shares_rows(m: int, n: int, k: int, tiles: int, threads: int) -> bool:
    """Whether threads move less between their caches when they share a product's rows, and with them both activations.

    What a thread computes of an image it reads again in the next layer, if that shares rows too; else most of it comes from
    another core's cache. Two cores of an Emerald Rapids, all kernels of MobileNetV2: 3.15 -> 2.70 ms; 24 to 144 channels
    at 56x56 106 -> 74 us, 576 to 96 at 14x14 91 -> 66, the same number of operations and tiles; 256 to 1024 and back at
    14x14 735 -> 680, where weights are 1.05 times the activations; but 512 to 2048 and back at 7x7, 16 times, 690 -> 820.
    """
    even = -(-tiles // threads) * threads <= 1.1 * tiles
    return even and n * k < 1.25 * m * (n + k)
