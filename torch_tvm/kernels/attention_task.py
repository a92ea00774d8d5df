"""What one task of an attention kernel does: the loops over blocks of keys and tiles of queries."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm.tirx.script import builder as T

from torch_tvm.kernels import epilogue as epilogues
from torch_tvm.kernels import extent, tir, vector_math
from torch_tvm.kernels.expression import Expression, emit
from torch_tvm.kernels.extent import Extent, Size
from torch_tvm.kernels.panel import PanelCopy
from torch_tvm.kernels.register_tile import RegisterTile
from torch_tvm.kernels.target import CpuTarget

if TYPE_CHECKING:
    from torch_tvm.kernels.attention import Attention, Schedule


@dataclass(frozen=True)
class Scores:
    """What is done with products of queries and keys."""

    expression: Expression
    masks: Sequence[tir.Buffer]
    lanes: int

    def apply(self, product: tir.Value, index: Sequence[tir.Index], count: int) -> tir.Value:
        """Return the score of `count` keys that begin at `index`."""
        loads = [product]
        for operand, buffer in zip(self.expression.inputs[1:], self.masks, strict=True):
            loads.append(epilogues.load_operand(operand, buffer, index, count, self.lanes))
        return emit(self.expression, loads, self.lanes)[0]


class Task:
    """Emits what one task does: some tiles of queries of one head.

    Buffers: `panels` a block of K^T; `strip` the scores of one tile, then their exponentials. For each row of queries
    that is under way `peak` is the largest score so far, `total` the sum of exponentials, `sums` that of weighted
    values; `shift` is what is subtracted from a tile's scores and `factor` what its older sums
    are multiplied with.
    """

    def __init__(
        self,
        workload: Attention,
        schedule: Schedule,
        target: CpuTarget,
        operands: Sequence[tir.Buffer],
        scores: Scores,
        epilogue: epilogues.Epilogue,
        position: Sequence[tir.Index],
        block: tir.Index,
    ) -> None:
        w, s = workload, schedule
        self._w, self._s, self._target = w, s, target
        self._q, self._k, self._v = operands
        self._scores, self._epilogue = scores, epilogue
        self._position, self._block = position, block
        self._batch = dict(zip(w.batch, position, strict=True))
        self._tiles = -(-w.m // s.rows)
        self._key_blocks = -(-w.n // s.keys)
        self._several = not extent.at_least(1, self._key_blocks)
        # With one block of keys a tile is finished before the next begins.
        rows = s.rows * (-(-self._tiles // s.row_blocks) if self._several else 1)
        padded = -(-w.v // s.lanes) * s.lanes
        self._state = rows, padded
        self._panels = T.alloc_buffer((s.keys // s.width, w.k, s.width), w.dtype, align=64)
        self._strip = T.alloc_buffer((s.rows, s.keys), w.dtype, align=64)
        self._peak = T.alloc_buffer(tir.expressions((rows,)), w.dtype, align=64)
        self._total = T.alloc_buffer(tir.expressions((rows,)), w.dtype, align=64)
        self._shift = T.alloc_buffer((s.rows,), w.dtype, align=64)
        self._factor = T.alloc_buffer((s.rows,), w.dtype, align=64)
        self._sums = T.alloc_buffer(tir.expressions((rows, padded)), w.dtype, align=64)

    def emit(self) -> None:
        """Emit the loops over blocks of keys and tiles of queries."""
        s = self._s
        bound = self._bound()
        if not self._several:
            self._copy_keys(0)
            with self._each_tile() as (_, first_row):
                self._visit(first_row, 0, 0, bound(first_row))
                self._finish(first_row, 0)
            return
        self._clear()
        with tir.loop(self._key_blocks) as key_block:
            self._copy_keys(key_block * s.keys)
            with self._each_tile() as (slot, first_row):
                end = bound(first_row)
                with _when(end, key_block * s.keys):
                    self._visit(first_row, slot, key_block * s.keys, end)
        with self._each_tile() as (slot, first_row):
            self._finish(first_row, slot)

    # -- which keys and queries --------------------------------------------------------------------

    @contextlib.contextmanager
    def _each_tile(self) -> Iterator[tuple[tir.Index, tir.Index]]:
        """Loop over this task's tiles: (first row of the tile's state, first row of queries).

        Tiles are dealt out in turn, because with a diagonal later ones take longer. The last one begins early
        enough to be whole.
        """
        w, s = self._w, self._s
        count = (self._tiles - self._block + s.row_blocks - 1) // s.row_blocks
        with tir.loop_between(0, count) as j:
            tile = self._block + j * s.row_blocks
            first_row = 0 if self._one_tile else T.min(tile * s.rows, w.m - s.rows)
            yield (j * s.rows if self._several else 0), first_row

    @property
    def _one_tile(self) -> bool:
        return extent.same(self._tiles, 1)

    def _bound(self) -> Callable[[tir.Index], tir.Index]:
        """Return what gives the end of the keys that a tile must look at.

        Keys beyond the diagonal have weight zero, yet eager multiplies them: NaN and infinite values count.
        """
        w, s = self._w, self._s
        if w.diagonal is None or extent.at_least(w.diagonal, w.n - 1):
            return lambda _: w.n
        offset = s.rows + w.diagonal

        def visible(first_row: tir.Index) -> tir.Index:
            return tir.clamp_index(first_row + offset, 0, w.n)

        first = 0 if self._one_tile else T.min(self._block * s.rows, w.m - s.rows)
        finite = self._is_finite(visible(first))
        return lambda first_row: T.Select(finite, visible(first_row), *tir.expressions((w.n,)))

    def _is_finite(self, first: tir.Index) -> tir.Value:
        """Whether all values from a key on are finite."""
        w, s = self._w, self._s
        zeros = tir.Accumulators(1, w.dtype, s.lanes)
        zeros.fill(self._const(0.0, s.lanes))
        with tir.loop_between(first, w.n) as n:

            def add(column: tir.Index, lanes: int) -> None:
                index = self._w.value.index({**self._batch, "n": n, "v": column})
                value = tir.load_partial(self._v, index, count=lanes, dtype=w.dtype, lanes=s.lanes)
                zeros[0] = self._multiply_add(value, self._const(0.0, s.lanes), zeros[0])

            tir.for_run(w.v, s.lanes, add)
        total = _across(zeros[0], _sum, w.dtype, s.lanes)
        return tir.materialise(T.EQ(total, self._const(0.0)), "bool", 1)

    # -- one tile of queries and one block of keys -------------------------------------------------

    def _visit(self, first_row: tir.Index, slot: tir.Index, first_key: tir.Index, end: tir.Index) -> None:
        """Add what a block of keys contributes to a tile of queries."""
        keys = self._s.keys
        count = tir.materialise(end - first_key, "int32", 1) if self._several else end
        if self._several:
            count = tir.clamp_index(count, 0, keys)
        self._multiply_keys(first_row, count)
        self._score(first_row, slot, first_key, count)
        self._exponentiate(slot, first_key, count)
        self._multiply_values(slot, first_key, count)

    def _copy_keys(self, first_key: tir.Index) -> None:
        w, s = self._w, self._s
        copy = PanelCopy(
            rows=w.k,
            columns=w.n,
            width=s.width,
            inner=w.key.inner,
            dtype=w.dtype,
            lanes=s.lanes,
            load=lambda k, n, lanes: tir.load(self._k, w.key.index({**self._batch, "k": k, "n": n}), lanes),
            store=lambda value, k, column, lanes: tir.store(self._panels, value, (panel, k, column), lanes),
        )
        panels = s.keys // s.width
        if isinstance(w.n, Extent) or (self._several and w.n % s.keys):
            panels = tir.clamp_index((w.n - first_key + s.width - 1) // s.width, 0, panels)
        with tir.loop_between(0, panels) as panel:
            copy.emit(first_key + panel * s.width)

    def _multiply_keys(self, first_row: tir.Index, count: tir.Index) -> None:
        """Fill the strip with products of queries and keys, whole panels of them."""
        w, s = self._w, self._s
        with tir.loop_between(0, (count + s.width - 1) // s.width) as panel:
            chains = [self._register_tile(s.vectors) for _ in range(s.chains)]

            def step(chain: RegisterTile, k: tir.Index) -> None:
                vectors = [
                    T.bind(tir.load(self._panels, (panel, k, v * s.lanes), s.lanes)) for v in range(s.vectors)
                ]
                for i in range(s.rows):
                    index = w.query.index({**self._batch, "m": first_row + i, "k": k})
                    chain.multiply_add(i, tir.load(self._q, index, 1), vectors)

            tir.chained_loop(w.k, chains, step)
            for other in chains[1:]:
                chains[0].add(other)
            chains[0].spill(self._strip, lambda row: [row], panel * s.width)

    def _score(self, first_row: tir.Index, slot: tir.Index, first_key: tir.Index, count: tir.Index) -> None:
        """Turn the strip's products into scores and find what to subtract from each row."""
        w, s = self._w, self._s
        with tir.loop(s.rows) as row:
            peak = tir.Accumulators(1, w.dtype, s.lanes)
            peak.fill(self._const(-math.inf, s.lanes))

            def score(at: tir.Index, lanes: int) -> None:
                index = [*self._position, first_row + row, first_key + at]
                product = tir.load(self._strip, (row, at), s.lanes)
                value = tir.materialise(self._scores.apply(product, index, lanes), w.dtype, s.lanes)
                if lanes < s.lanes:
                    # Where there is no key the weight must become zero.
                    tir.store(self._strip, self._const(-math.inf, s.lanes), (row, at), s.lanes)
                tir.store_partial(self._strip, value, (row, at), count=lanes, dtype=w.dtype, lanes=s.lanes)
                peak[0] = _larger(peak[0], tir.load(self._strip, (row, at), s.lanes))

            def rest(at: tir.Index, keys: Size) -> None:
                products = tir.scratch(w.dtype, s.lanes)
                tir.store(products, tir.load(self._strip, (row, at), s.lanes), (0,), s.lanes)
                tir.store(self._strip, self._const(-math.inf, s.lanes), (row, at), s.lanes)
                single = Scores(self._scores.expression, self._scores.masks, 1)
                with tir.loop(keys) as key:
                    index = [*self._position, first_row + row, first_key + at + key]
                    value = single.apply(tir.load(products, (key,), 1), index, 1)
                    tir.store(self._strip, value, (row, at + key), 1)
                peak[0] = _larger(peak[0], tir.load(self._strip, (row, at), s.lanes))

            self._each_vector(first_key, count, score, rest)
            self._set_shift(row, slot, _across(peak[0], _larger, w.dtype, s.lanes))

    def _exponentiate(self, slot: tir.Index, first_key: tir.Index, count: tir.Index) -> None:
        """Turn the strip's scores into exponentials and add these up."""
        w, s = self._w, self._s
        with tir.loop(s.rows) as row:
            total = tir.Accumulators(1, w.dtype, s.lanes)
            total.fill(self._const(0.0, s.lanes))
            shift = tir.materialise(tir.broadcast(self._shift[row], s.lanes), w.dtype, s.lanes)

            def exponential(at: tir.Index, _: int) -> None:
                distance = tir.load(self._strip, (row, at), s.lanes) - shift
                power = self._exp(distance, s.lanes)
                tir.store(self._strip, power, (row, at), s.lanes)
                total[0] = total[0] + power

            self._each_vector(first_key, count, exponential, lambda at, _: exponential(at, s.lanes))
            new = _across(total[0], _sum, w.dtype, s.lanes)
            old = self._total[slot + row] * self._factor[row] if self._several else None
            T.buffer_store(self._total, new if old is None else old + new, [slot + row])

    def _each_vector(
        self,
        first_key: tir.Index,
        count: tir.Index,
        step: Callable[[tir.Index, int], None],
        symbolic: Callable[[tir.Index, Size], None],
    ) -> None:
        """Emit `step(first, lanes)` for the vectors that hold the first `count` keys of a block.

        The last vector has fewer lanes if there are fewer keys; it is `symbolic(first, keys)` if their number is an extent.
        """
        w, s = self._w, self._s
        rest = w.n % s.lanes
        vectors = (count + s.lanes - 1) // s.lanes
        if extent.same(rest, 0):
            with tir.loop_between(0, vectors) as i:
                step(i * s.lanes, s.lanes)
            return
        whole = (w.n - first_key) // s.lanes
        if isinstance(rest, Extent):
            with tir.loop_between(0, T.min(*tir.expressions((vectors, whole)))) as i:
                step(i * s.lanes, s.lanes)
            with T.If(T.GT(*tir.expressions((vectors, whole)))), T.Then():
                symbolic(whole * s.lanes, w.n - first_key - whole * s.lanes)
            return
        if isinstance(whole, int) and isinstance(vectors, int):
            with tir.loop_between(0, min(vectors, whole)) as i:
                step(i * s.lanes, s.lanes)
            if vectors > whole:
                step(whole * s.lanes, rest)
            return
        with tir.loop_between(0, T.min(vectors, whole)) as i:
            step(i * s.lanes, s.lanes)
        with T.If(vectors > whole), T.Then():
            step(whole * s.lanes, rest)

    def _set_shift(self, row: tir.Index, slot: tir.Index, highest: tir.Value) -> None:
        """Set what is subtracted from a row's scores, and the factor of older sums."""
        w = self._w
        if self._several:
            highest = tir.materialise(_larger(highest, self._peak[slot + row]), w.dtype, 1)
        # A row without a visible key so far: minus infinity minus itself would be NaN, and stay.
        none = T.EQ(highest, self._const(-math.inf))
        shift = tir.materialise(T.Select(none, self._const(0.0), highest), w.dtype, 1)
        T.buffer_store(self._shift, shift, [row])
        if self._several:
            T.buffer_store(self._factor, self._exp(self._peak[slot + row] - shift, 1), [row])
            T.buffer_store(self._peak, highest, [slot + row])

    def _multiply_values(self, slot: tir.Index, first_key: tir.Index, count: tir.Index) -> None:
        """Add the values, weighted with the exponentials, to the tile's sums."""
        w, s = self._w, self._s
        whole, rest = divmod(w.v, s.width)
        if whole:
            with tir.loop(whole) as part:
                self._multiply_columns(slot, first_key, count, part * s.width, s.width)
        if rest:
            self._multiply_columns(slot, first_key, count, whole * s.width, rest)

    def _multiply_columns(
        self, slot: tir.Index, first_key: tir.Index, count: tir.Index, column: tir.Index, columns: int
    ) -> None:
        w, s = self._w, self._s
        counts = [min(s.lanes, columns - at) for at in range(0, columns, s.lanes)]
        tile = self._register_tile(len(counts))
        if self._several:
            tile.load(self._sums, lambda row: [slot + row], column)
            tile.scale(lambda row: self._factor[row])
        with tir.loop_between(0, count) as n:
            index = {**self._batch, "n": first_key + n}
            vectors = [
                T.bind(
                    tir.load_partial(
                        self._v,
                        w.value.index({**index, "v": column + v * s.lanes}),
                        count=lanes,
                        dtype=w.dtype,
                        lanes=s.lanes,
                    )
                )
                for v, lanes in enumerate(counts)
            ]
            for i in range(s.rows):
                tile.multiply_add(i, self._strip[i, n], vectors)
        tile.spill(self._sums, lambda row: [slot + row], column)

    # -- the result --------------------------------------------------------------------------------

    def _clear(self) -> None:
        lanes = self._s.lanes
        rows, padded = self._state
        with tir.loop(rows) as row:
            T.buffer_store(self._peak, self._const(-math.inf), [row])
            T.buffer_store(self._total, self._const(0.0), [row])
            with tir.loop(padded // lanes) as v:
                tir.store(self._sums, self._const(0.0, lanes), (row, v * lanes), lanes)

    def _finish(self, first_row: tir.Index, slot: tir.Index) -> None:
        """Divide by the sums of exponentials and store.

        A last tile that begins early leaves alone the rows that an earlier tile stores.
        """
        w, s = self._w, self._s
        overlap = self._tiles * s.rows - w.m
        skipped: tir.Index = 0
        if isinstance(overlap, Extent):
            early = T.EQ(first_row, *tir.expressions((w.m - s.rows,)))
            skipped = T.Select(early, *tir.expressions((overlap,)), 0)
        elif overlap:
            skipped = T.Select(first_row == w.m - s.rows, overlap, 0)
        with tir.loop_between(skipped, s.rows) as row:
            factor = tir.materialise(self._const(1.0) / self._total[slot + row], w.dtype, 1)

            def store(column: tir.Index, lanes: int) -> None:
                value = tir.load(self._sums, (slot + row, column), s.lanes) * tir.broadcast(factor, s.lanes)
                index = w.result.index({**self._batch, "m": first_row + row, "v": column})
                self._epilogue.store(tir.materialise(value, w.dtype, s.lanes), index, lanes)

            tir.for_run(w.v, s.lanes, store)

    # -- shorthands --------------------------------------------------------------------------------

    def _const(self, value: float, lanes: int = 1) -> tir.Value:
        return tir.constant(value, self._w.dtype, lanes)

    def _exp(self, value: tir.Value, lanes: int) -> tir.Value:
        held = tir.materialise(value, self._w.dtype, lanes)
        return vector_math.call("exp_nonpositive", (held,), self._w.dtype, lanes)

    def _register_tile(self, vectors: int) -> RegisterTile:
        s = self._s
        return RegisterTile(s.rows, vectors, self._w.dtype, s.lanes, fused=self._target.has_fma)

    def _multiply_add(self, a: tir.Value, b: tir.Value, c: tir.Value) -> tir.Value:
        return tir.multiply_add(a, b, c, self._w.dtype, self._s.lanes, fused=self._target.has_fma)


def _larger(a: tir.Value, b: tir.Value) -> tir.Value:
    """Maximum that may lose a NaN: the exponentials find it again."""
    return T.Select(a > b, a, b)


def _sum(a: tir.Value, b: tir.Value) -> tir.Value:
    return a + b


def _across(
    value: tir.Value, combine: Callable[[tir.Value, tir.Value], tir.Value], dtype: str, lanes: int
) -> tir.Value:
    """Combine the lanes of a vector."""
    while lanes > 1:
        whole, lanes = tir.scratch(dtype, lanes), lanes // 2
        tir.store(whole, value, (0,), lanes * 2)
        low, high = tir.load(whole, (0,), lanes), tir.load(whole, (lanes,), lanes)
        value = tir.materialise(combine(low, high), dtype, lanes)
    return value


@contextlib.contextmanager
def _when(end: tir.Index, first_key: tir.Index) -> Iterator[None]:
    """Open a branch for tiles that see keys of the block; none where all do."""
    if isinstance(end, (int, Extent)):
        yield
        return
    with T.If(end > first_key), T.Then():
        yield
