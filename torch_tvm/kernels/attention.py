"""softmax(f(Q K^T)) V as one kernel: scores live in registers and the L1 cache, never in memory.

A task takes some rows of queries of one head. It copies K^T block by block into panels, as a product does with its
right operand, and for each tile of queries computes a strip of scores, its exponentials, and their product with V,
which is read where it lies. With more than one block of keys the sums are rescaled whenever a larger score appears.

One thread of a Zen 5, us, in brackets torch's scaled_dot_product_attention: 12 heads of 128 x 128 x 64 266 (939),
causal 179 (934), of 197 x 197 x 64 700 (2030), of 1024 x 1024 x 64 17000 (41900), causal 9800 (30600). At the FMA limit
the products of the first take 198.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tvm.tirx import PrimFunc

from torch_tvm.kernels import epilogue as epilogues
from torch_tvm.kernels import tiling, tir
from torch_tvm.kernels.attention_task import Scores, Task
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression
from torch_tvm.kernels.extent import Extent, Size
from torch_tvm.kernels.matrix_view import MatrixView
from torch_tvm.kernels.target import CpuTarget

# A strip of scores stays in L1 and a block of keys in L2.
_BLOCK_KEYS, _BLOCK_BYTES = 512, 256 * 1024
# Rows of queries that share one copy of the keys: with fewer the copy costs more than 5 % of the products.
_ROWS_PER_COPY = 48
# From here on idle threads cost more than further copies.
_MOST_IMBALANCE = 1.2


@dataclass(frozen=True)
class Attention:
    """result[batch, m, v] = sum over n of softmax over n of f(sum over k of Q[batch, m, k] K[batch, n, k]) V[batch, n, v].

    Parameters
    ----------
    query, key, value, result
        Where the operands and the result lie. Axes: "m" and "k", "n" and "k", "n" and "v", "m" and "v", and batch axes
        "b0", "b1" ...; operands may lack batch axes of the result, then they are the same for all indices of them.
    scores
        f, over the shape (b0, b1, ..., m, n); its input 0 is the product. None is the identity.
    diagonal
        f is minus infinity wherever n > m + diagonal; None where nothing is known.
    epilogue
        What is done with the result; its shape is that of `result`.
    dtype
        Of all operands.

    Examples
    --------
    Twelve heads that lie side by side in each row of queries, keys, values and result:

    >>> from torch_tvm.kernels.attention import Attention
    >>> from torch_tvm.kernels.matrix_view import MatrixView
    >>> def heads(rows, columns):
    ...     return MatrixView((128, 12, 64), (rows, "b0", columns))
    >>> attention = Attention(heads("m", "k"), heads("n", "k"), heads("n", "v"), heads("m", "v"))
    >>> attention.batch, attention.m, attention.n, attention.k, attention.v
    ({'b0': 12}, 128, 128, 64, 64)
    """

    query: MatrixView
    key: MatrixView
    value: MatrixView
    result: MatrixView
    scores: Expression | PlacedExpression | None = None
    diagonal: int | None = None
    epilogue: Expression | PlacedExpression | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Check that the views agree."""
        views = (self.query, self.key, self.value, self.result)
        sizes = {axis: size for view in views for axis, size in view.extents.items()}
        for view, axes in zip(views, ("mk", "nk", "nv", "mv"), strict=True):
            extents = view.extents
            if not set(axes) <= set(extents) or any(size != sizes[axis] for axis, size in extents.items()):
                raise ValueError(f"expected axes {', '.join(axes)} of extents {sizes} in {view}")
            if set(extents) - set(axes) - set(self.batch):
                raise ValueError(f"{view} has batch axes that the result {self.result} lacks")
        if any(size < 1 for size in sizes.values()):
            raise ValueError(f"expected extents of at least 1, got {sizes}")
        if self.result.inner != "v":
            raise ValueError(f"v must be contiguous in the result, got {self.result}")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"expected float32 or float64, got {self.dtype}")
        epilogues.resolve(self.scores, self.score_shape, self.dtype)

    @property
    def batch(self) -> dict[str, Size]:
        """Batch axes and their sizes, in order of their names."""
        extents = self.result.extents
        names = sorted((a for a in extents if a not in ("m", "v")), key=lambda a: int(a[1:]))
        return {axis: extents[axis] for axis in names}

    @property
    def m(self) -> int:
        """Queries."""
        return self.query.extents["m"]

    @property
    def n(self) -> int:
        """Keys and values."""
        return self.key.extents["n"]

    @property
    def k(self) -> int:
        """Size of a query and of a key."""
        return self.query.extents["k"]

    @property
    def v(self) -> int:
        """Size of a value."""
        return self.value.extents["v"]

    @property
    def score_shape(self) -> tuple[int, ...]:
        """Shape of the scores."""
        return (*self.batch.values(), self.m, self.n)

    @property
    def flops(self) -> int:
        """Floating-point operations of both products, without those that `diagonal` saves."""
        pairs = self.m * self.n
        if self.diagonal is not None:
            pairs = sum(min(self.n, max(0, row + self.diagonal + 1)) for row in range(self.m))
        return 2 * math.prod(self.batch.values()) * pairs * (self.k + self.v)


@dataclass(frozen=True)
class Schedule:
    """How attention is computed.

    Parameters
    ----------
    rows, vectors, lanes
        Size of the register tile of both products, and elements of a vector.
    keys
        Keys in a block, a multiple of `vectors * lanes`.
    row_blocks
        Tasks that the tiles of queries of one head are dealt out to.
    chains
        Sums that a score is split into where the tile is small.
    parallel
        Whether tasks run in parallel.
    """

    rows: int
    vectors: int
    lanes: int
    keys: int
    row_blocks: int = 1
    chains: int = 1
    parallel: bool = False

    @property
    def width(self) -> int:
        """Columns of the register tile."""
        return self.vectors * self.lanes


def default_schedule(workload: Attention, target: CpuTarget, threads: int = 1) -> Schedule:
    """Choose a tile that fits the registers, a block that fits the caches, and tasks that keep threads busy."""
    w, lanes = workload, target.lanes(workload.dtype)
    rows, vectors = _tile(w, target, lanes)
    width = vectors * lanes
    largest = _largest_block(w, width)
    blocks = -(-w.n // largest)
    keys = -(-w.n // (blocks * width)) * width
    parallel = tiling.worth_threads(w.flops, 0, lanes, threads)
    return Schedule(
        rows=rows,
        vectors=vectors,
        lanes=lanes,
        keys=keys,
        row_blocks=_row_blocks(w, rows, threads) if parallel else 1,
        chains=tiling.chains(rows, vectors, w.k),
        parallel=parallel,
    )


def _largest_block(workload: Attention, width: int) -> int:
    """Return the most keys of a block."""
    row_bytes = workload.k * tir.element_bytes(workload.dtype)
    return max(width, min(_BLOCK_KEYS, _BLOCK_BYTES // row_bytes) // width * width)


def _row_blocks(workload: Attention, rows: int, threads: int) -> int:
    """Find the least number of tasks for each head that keeps threads equally busy, or as equally as can be."""
    heads, tiles = math.prod(workload.batch.values()), -(-workload.m // rows)

    def imbalance(parts: int) -> float:
        return -(-heads * parts // threads) * -(-tiles // parts) * threads / (heads * tiles)

    shared = range(1, max(1, workload.m // max(rows, _ROWS_PER_COPY)) + 1)
    candidates = shared if min(map(imbalance, shared)) <= _MOST_IMBALANCE else range(1, tiles + 1)
    return next((parts for parts in candidates if imbalance(parts) <= 1.05), min(candidates, key=imbalance))


def _tile(workload: Attention, target: CpuTarget, lanes: int) -> tuple[int, int]:
    w, size = workload, tir.element_bytes(workload.dtype)

    def cost(tile: tuple[int, int]) -> float:
        most, vectors = tile
        tiles = -(-w.m // most)
        rows = -(-w.m // tiles)

        def step(used: int) -> float:
            return tiling.cycles_per_step(rows, used, lanes * size, 0)

        # Half of the keys lie beyond a diagonal; panels are computed whole, values one by one.
        panels = -(-w.n // (vectors * lanes)) if w.diagonal is None else w.n / 2 / (vectors * lanes) + 0.5
        whole, rest = divmod(w.v, vectors * lanes)
        values = (w.n if w.diagonal is None else w.n / 2) * (
            whole * step(vectors) + (step(-(-rest // lanes)) if rest else 0)
        )
        return tiles * (panels * w.k * step(vectors) + values)

    row_bytes = w.query.stride("m") * size if w.m > 1 else 1
    most, vectors = min(tiling.register_tiles(target, lanes, max(w.n, w.v), row_bytes), key=cost)
    return -(-w.m // -(-w.m // most)), vectors


def build(workload: Attention, schedule: Schedule, target: CpuTarget, name: str) -> PrimFunc:
    """Build the kernel (query, key, value, extra inputs of scores ..., of the epilogue ..., outputs ...)."""
    w = workload
    if isinstance(w.n, Extent):
        # One block if all values fit one.
        keys = -(-w.n.bounds[1] // schedule.width) * schedule.width
        schedule = replace(schedule, keys=min(keys, _largest_block(w, schedule.width)))
    scores = epilogues.resolve(w.scores, w.score_shape, w.dtype)
    behind = epilogues.resolve(w.epilogue, w.result.shape, w.dtype)
    masks = [replace(p, name=f"mask{i}") for i, p in enumerate(epilogues.parameters(scores)[0])]
    operands = [
        *(tir.Parameter(n, v.shape, w.dtype) for n, v in (("q", w.query), ("k", w.key), ("v", w.value))),
        *masks,
    ]

    def body(*buffers: tir.Buffer) -> None:
        count = 3 + len(masks)
        finish = epilogues.bind(behind, buffers[count:], schedule.lanes)
        placed = zip(buffers[3:count], scores.operands, scores.views, strict=False)
        shaped = [epilogues.shape(*each) for each in placed]
        scored = Scores(scores.expression, shaped, schedule.lanes)
        shape = (*w.batch.values(), schedule.row_blocks)
        with tir.loop(math.prod(shape), parallel=schedule.parallel) as number:
            *position, block = tir.unravel(number, shape)

            def task(own: Schedule) -> None:
                Task(w, own, target, buffers[:3], scored, finish, position, block).emit()

            whole = tir.reaches(w.m, schedule.rows)
            tir.either(whole, lambda: task(schedule), lambda: task(_of_single_rows(w, schedule)))

    return epilogues.kernel(name, operands, behind, body)


def _of_single_rows(workload: Attention, schedule: Schedule) -> Schedule:
    """Return the schedule for fewer queries than a tile has rows."""
    return replace(schedule, rows=1, chains=tiling.chains(1, schedule.vectors, workload.k))
