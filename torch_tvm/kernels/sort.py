"""Sorting along one dimension: the first k elements in order, and where they were.

Every element becomes an integer key that orders as the element does: NaN is above all numbers, and both zeros are one.
For dtypes of at most 32 bits key and position are one int64, so that comparing entries is one instruction and equal
elements stay in their order; wider dtypes keep them apart. Rows are sorted by merging, from runs of one element up; a few
elements of many are kept in a sorted list that every element of the row is offered to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import extent, tir
from torch_tvm.kernels.extent import Size
from torch_tvm.kernels.nest import task_count

Value = Any
Index = Any

# Nanoseconds for an element, on Zen 5: a step of a merge, a look at the worst entry of a list.
_MERGE_NS, _LOOK_NS = 2.0, 0.7
# An entry enters a list of k in k steps, at worst every one does.
MAX_SELECTED = 32
# Selecting reads each element once, merging once for each time that runs double.
_SELECT_FROM = 4

# Of each dtype: that of its bits as a signed integer, and for floats the bits of an infinity.
_BITS = {
    "bool": ("int8", None),
    "uint8": ("uint8", None),
    "int8": ("int8", None),
    "int16": ("int16", None),
    "int32": ("int32", None),
    "int64": ("int64", None),
    "float16": ("int16", 0x7C00),
    "bfloat16": ("int16", 0x7F80),
    "float32": ("int32", 0x7F800000),
    "float64": ("int64", 0x7FF0000000000000),
}
DTYPES = tuple(_BITS)
_LAST_POSITION = 2**31 - 1


@dataclass(frozen=True)
class Sort:
    """The first `k` elements along the middle dimension, in order, and their positions.

    Parameters
    ----------
    shape
        Rows lie along the second of three dimensions; no size is zero.
    k
        How many elements of each row are wanted.
    descending
        Whether the largest come first; NaN counts as the largest. Equal elements keep their order.
    dtype
        Of the elements.
    index_dtype
        "int32" or "int64".

    Examples
    --------
    >>> from torch_tvm.kernels import host_target, sort
    >>> workload = sort.Sort((8, 100, 1), k=5, descending=True)
    >>> schedule = sort.default_schedule(workload, threads=2)
    >>> schedule.select
    True
    >>> str(sort.build(workload, schedule, "topk").attrs["global_symbol"])
    'topk'
    """

    shape: tuple[int, int, int]
    k: int
    descending: bool = False
    dtype: str = "float32"
    index_dtype: str = "int64"

    def __post_init__(self) -> None:
        """Check sizes and dtypes."""
        if len(self.shape) != 3 or math.prod(self.shape) == 0:
            raise ValueError(f"sorting takes three dimensions with elements, got shape {self.shape}")
        if not 1 <= self.k <= self.shape[1]:
            raise ValueError(f"sorting gives 1 to {self.shape[1]} elements of each row, got k={self.k}")
        if self.dtype not in _BITS or self.index_dtype not in ("int32", "int64"):
            raise ValueError(f"sorting takes {', '.join(_BITS)}, got {self.dtype} and {self.index_dtype}")

    @property
    def rows(self) -> int:
        """Rows that are sorted, each on its own."""
        return self.shape[0] * self.shape[2]

    @property
    def result_shape(self) -> tuple[int, int, int]:
        """Shape of both results."""
        return (self.shape[0], self.k, self.shape[2])


@dataclass(frozen=True)
class Schedule:
    """Parallel tasks, none in parallel if 1; whether the elements wanted are kept in a list rather than merged."""

    tasks: int
    select: bool


def default_schedule(workload: Sort, threads: int) -> Schedule:
    """Select a few elements of many; merge the rest."""
    _, count, _ = workload.shape
    select = workload.k <= MAX_SELECTED and count >= _SELECT_FROM * workload.k
    merges = max(1, math.ceil(math.log2(count)))
    nanoseconds = _LOOK_NS if select else _MERGE_NS * merges
    tasks = task_count(workload.rows * count * nanoseconds, threads)
    return Schedule(min(tasks, workload.rows), select)


def build(workload: Sort, schedule: Schedule, name: str) -> PrimFunc:
    """Build the kernel `name`(x, values, positions)."""
    w = workload
    parameters = [
        tir.Parameter("x", w.shape, w.dtype),
        tir.Parameter("values", w.result_shape, w.dtype),
        tir.Parameter("positions", w.result_shape, w.index_dtype),
    ]

    def body(x: Any, values: Any, positions: Any) -> None:
        bits = _BITS[w.dtype][0]
        source = _Rows(tir.reshaped(x, (math.prod(w.shape),), bits), w.shape)
        results = (
            _Rows(tir.reshaped(values, (math.prod(w.result_shape),), bits), w.result_shape),
            _Rows(tir.reshaped(positions, (math.prod(w.result_shape),), w.index_dtype), w.result_shape),
        )
        sort_row = _select if schedule.select else _merge_sort
        with tir.loop(schedule.tasks, parallel=schedule.tasks > 1) as task:
            rows = w.rows
            first, last = task * rows // schedule.tasks, (task + 1) * rows // schedule.tasks
            sort_row(w, source, results, (first, last))

    return tir.kernel(name, parameters, body)


@dataclass(frozen=True)
class _Rows:
    """The rows along the middle of three dimensions, in a flat buffer."""

    buffer: Any
    shape: tuple[int, int, int]

    def at(self, row: Index, position: Index) -> Index:
        """Where an element of a row lies."""
        _, count, inner = self.shape
        if extent.same(inner, 1):
            return row * count + position
        return T.floordiv(row, inner) * (count * inner) + position * inner + T.floormod(row, inner)


class _Entries:
    """Keys with positions: int64 that hold both, or int64 keys and int32 positions."""

    def __init__(self, count: Size, dtype: str) -> None:
        self.wide = _BITS[dtype][0] == "int64"
        shape = tir.expressions((count,))
        self._keys = T.alloc_buffer(shape, "int64", align=64)
        self._positions = T.alloc_buffer(shape, "int32", align=64) if self.wide else None

    def __getitem__(self, index: Index) -> tuple[Value, ...]:
        if self._positions is None:
            return (self._keys[index],)
        return (self._keys[index], self._positions[index])

    def __setitem__(self, index: Index, entry: tuple[Value, ...]) -> None:
        T.buffer_store(self._keys, entry[0], [index])
        if self._positions is not None:
            T.buffer_store(self._positions, entry[1], [index])


def _materialised(entry: tuple[Value, ...]) -> tuple[Value, ...]:
    dtypes = ("int64", "int32")
    return tuple(tir.materialise(part, dtype, 1) for part, dtype in zip(entry, dtypes, strict=False))


def _select_entry(condition: Value, a: tuple[Value, ...], b: tuple[Value, ...]) -> tuple[Value, ...]:
    return tuple(T.Select(condition, one, other) for one, other in zip(a, b, strict=True))


def _before(a: tuple[Value, ...], b: tuple[Value, ...]) -> Value:
    """Whether an entry comes before another one; no two are equal."""
    if len(a) == 1:
        return a[0] < b[0]
    return T.Or(a[0] < b[0], T.And(a[0] == b[0], a[1] < b[1]))


def _position_of(entry: tuple[Value, ...]) -> Value:
    return entry[1] if len(entry) == 2 else T.cast(entry[0], "int32")


def _entry(w: Sort, source: _Rows, row: Index, position: Index) -> tuple[Value, ...]:
    """Make the entry of an element."""
    bits, infinity = _BITS[w.dtype]
    held = "int64" if bits == "int64" else "int32"
    raw = tir.materialise(T.cast(source.buffer[source.at(row, position)], held), held, 1)
    key = raw
    if infinity is not None:
        sign = 1 << (16 if bits == "int16" else 32 if bits == "int32" else 64) - 1
        magnitude = tir.materialise(T.bitwise_and(raw, tir.constant(sign - 1, held)), held, 1)
        key = T.Select(raw < 0, -magnitude, magnitude)
        key = T.Select(magnitude > infinity, tir.constant(sign - 1, held), key)
    if w.descending:
        key = T.bitwise_not(key)
    if held == "int64":
        return key, T.cast(position, "int32")
    return (T.bitwise_or(T.shift_left(T.cast(key, "int64"), T.int64(32)), T.cast(position, "int64")),)


def _store(w: Sort, source: _Rows, results: Sequence[_Rows], row: Index, entries: _Entries) -> None:
    """Write the first k entries of a row as elements and positions."""
    values, positions = results
    with tir.loop(w.k) as place:
        position = tir.materialise(_position_of(entries[place]), "int32", 1)
        T.buffer_store(values.buffer, source.buffer[source.at(row, position)], [values.at(row, place)])
        T.buffer_store(positions.buffer, T.cast(position, w.index_dtype), [positions.at(row, place)])


def _select(w: Sort, source: _Rows, results: Sequence[_Rows], rows: tuple[Index, Index]) -> None:
    count = w.shape[1]
    best = _Entries(w.k, w.dtype)
    with tir.loop_between(*rows) as row:
        with tir.loop(w.k) as place:
            last = T.int64(2**63 - 1)
            best[place] = (last, T.int32(_LAST_POSITION)) if best.wide else (last,)
        with tir.loop(count) as position:
            entry = _materialised(_entry(w, source, row, position))
            with T.If(_before(entry, best[w.k - 1])), T.Then():
                _insert(best, w.k, entry)
        _store(w, source, results, row, best)


def _insert(best: _Entries, k: int, entry: tuple[Value, ...]) -> None:
    """Put an entry at its place in a sorted list, which loses its last one."""
    with tir.loop(k - 1) as step:
        place = k - 1 - step
        earlier, here = _materialised(best[place - 1]), _materialised(best[place])
        shifted = _select_entry(_before(entry, here), entry, here)
        best[place] = _select_entry(_before(entry, earlier), earlier, shifted)
    first = _materialised(best[0])
    best[0] = _select_entry(_before(entry, first), entry, first)


def _merge_sort(w: Sort, source: _Rows, results: Sequence[_Rows], rows: tuple[Index, Index]) -> None:
    count = w.shape[1]
    # One more: a run that has ended is looked at and not taken.
    pair = _Entries(count + 1, w.dtype), _Entries(count + 1, w.dtype)
    most = extent.bounds(count)[1]
    rounds = math.ceil(math.log2(most)) if most > 1 else 0
    with tir.loop_between(*rows) as row:
        with tir.loop(count) as position:
            pair[0][position] = _entry(w, source, row, position)
        if rounds > 1:
            with tir.loop(rounds // 2) as double:
                width = T.shift_left(T.int32(1), T.cast(double * 2, "int32"))
                _merge_runs(pair[0], pair[1], count, width)
                _merge_runs(pair[1], pair[0], count, width * 2)
        if rounds % 2:
            _merge_runs(pair[0], pair[1], count, T.int32(1 << rounds - 1))
        _store(w, source, results, row, pair[rounds % 2])


def _merge_runs(source: _Entries, target: _Entries, count: Size, width: Value) -> None:
    """Merge neighbours among sorted runs of `width` entries, without a branch for each entry."""
    left, right = (tir.Accumulators(1, "int32", 1) for _ in range(2))
    with T.serial(0, T.floordiv(count + width * 2 - 1, width * 2)) as run:
        first = run * width * 2
        middle, end = T.min(first + width, count), T.min(first + width * 2, count)
        left[0], right[0] = first, middle
        with T.serial(first, end) as place:
            entries = _materialised(source[left[0]]), _materialised(source[right[0]])
            wins = T.Or(left[0] >= middle, T.And(right[0] < end, _before(entries[1], entries[0])))
            take = tir.materialise(wins, "bool", 1)
            target[place] = _select_entry(take, entries[1], entries[0])
            right[0] = right[0] + T.cast(take, "int32")
            left[0] = left[0] + 1 - T.cast(take, "int32")
