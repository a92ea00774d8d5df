"""Reductions over any set of dimensions: sum, mean, variance, product, extrema and where they are, all, any.

Sums keep several accumulators in two levels, so that float32 errs less than with eager's cascade; float16 and bfloat16 are summed
in float32. Extrema propagate NaN; argmax and argmin take the first of equal elements, and the first NaN if there is one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import extent, rows, tir, views
from torch_tvm.kernels.expression import FLOATS, Expression, Operand, identity
from torch_tvm.kernels.extent import Extent, Size
from torch_tvm.kernels.nest import Schedule, threads_of
from torch_tvm.kernels.rows import Layout, Point, Row, Value
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.views import Space, View

# Per vector of 16 lanes: one load that misses L1, one or two operations.
_VECTOR_NS = 2.0
# From here on rows are reduced in pieces rather than that threads wait, if a piece has that many steps at least.
_MOST_IMBALANCE, _SHORTEST_PIECE = 1.2, 4

OPERATORS = ("sum", "mean", "variance", "prod", "max", "min", "all", "any", "argmax", "argmin")
_FLOAT_ONLY, _BOOL_ONLY, _INDICES = ("mean", "variance"), ("all", "any"), ("argmax", "argmin")
_INTEGER_LIMITS = {"uint8": (0, 255), "int8": (-128, 127)} | {
    f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (16, 32, 64)
}


@dataclass(frozen=True)
class Reduce:
    """One of `OPERATORS` over some dimensions of a source expression.

    Parameters
    ----------
    source
        What is reduced, with one output. "all" and "any" take bool, "mean" and "variance" floating point; a sum of
        integers has the source's dtype, so the source casts to int64 where eager does.
    operator
        One of `OPERATORS`.
    axes
        The reduced dimensions of the source's shape.
    keepdims
        Whether they stay as dimensions of size 1.
    correction
        What "variance" subtracts from the number of elements.
    epilogue
        What is done with the result; its input 0 is `result`. None rounds float16 and bfloat16, which are computed in
        float32.
    views, epilogue_views, output_views
        One `View` or None for each of the source's inputs, the epilogue's further inputs and the outputs; empty means all
        contiguous.
    """

    source: Expression
    operator: str
    axes: tuple[int, ...]
    keepdims: bool = False
    correction: float = 1.0
    epilogue: Expression | None = None
    views: tuple[View | None, ...] = ()
    epilogue_views: tuple[View | None, ...] = ()
    output_views: tuple[View | None, ...] = ()

    def __post_init__(self) -> None:
        """Check operator, axes, dtype and epilogue."""
        rows.check_source(self.source, self.axes, self.views)
        if self.operator not in OPERATORS:
            raise ValueError(
                f"unknown reduction {self.operator!r}; the reductions are {', '.join(OPERATORS)}"
            )
        if self.operator in _FLOAT_ONLY and self.dtype not in FLOATS:
            raise ValueError(f"{self.operator} takes a floating-point dtype, got {self.dtype}")
        if (self.operator in _BOOL_ONLY) != (self.dtype == "bool"):
            raise ValueError(
                f"{', '.join(_BOOL_ONLY)} and only they take bool; {self.operator} got {self.dtype}"
            )
        rows.check_epilogue(self.epilogue, self.result)

    @property
    def dtype(self) -> str:
        """The dtype of the source."""
        return self.source.output_operands[0].dtype

    @property
    def result(self) -> Operand:
        """Shape of the result and the dtype that it is computed in."""
        shape = self.source.shape
        kept = tuple(
            1 if d in self.axes else size
            for d, size in enumerate(shape)
            if self.keepdims or d not in self.axes
        )
        return Operand(kept, "int64" if self.operator in _INDICES else rows.accumulation_dtype(self.dtype))


def of(
    shape: tuple[int, ...],
    operator: str,
    axes: tuple[int, ...],
    dtype: str = "float32",
    *,
    keepdims: bool = False,
) -> Reduce:
    """Make the workload that reduces a tensor.

    Examples
    --------
    >>> from torch_tvm.kernels import host_target, reduction
    >>> workload = reduction.of((8, 49, 512), "mean", axes=(1,))
    >>> workload.result
    Operand(shape=(8, 512), dtype='float32')
    >>> schedule = reduction.default_schedule(workload, host_target(), threads=2)
    >>> str(reduction.build(workload, schedule, host_target(), "mean").attrs["global_symbol"])
    'mean'
    """
    return Reduce(identity(shape, dtype), operator, axes, keepdims)


def _parts(workload: Reduce) -> rows.Parts:
    result = workload.result
    narrow = workload.dtype if workload.operator not in _INDICES else result.dtype
    epilogue = workload.epilogue or rows.rounding(result.shape, narrow)

    def over_space(strides: tuple[int, ...]) -> tuple[int, ...]:
        if workload.keepdims:
            return strides
        own = iter(strides)
        return tuple(0 if d in workload.axes else next(own) for d in range(len(workload.source.shape)))

    given = (workload.views, workload.epilogue_views, workload.output_views)
    return rows.complete_parts(workload.source, epilogue, given, over_space)


def _layout(workload: Reduce, parts: rows.Parts) -> Layout:
    ordered = workload.operator in _INDICES
    return rows.layout(workload.source.shape, workload.axes, parts.strides, ordered=ordered)


def default_schedule(workload: Reduce, target: CpuTarget, threads: int) -> Schedule:
    """Fill a register and split rows between threads by their estimated time."""
    found = _layout(workload, _parts(workload))
    return rows.default_schedule(found, workload.source, target, threads, _VECTOR_NS)


def build(workload: Reduce, schedule: Schedule, target: CpuTarget, name: str) -> PrimFunc:
    """Build the kernel `name`(source inputs..., epilogue inputs[1:]..., outputs...)."""
    parts = _parts(workload)
    found = _layout(workload, parts)
    pieces = _pieces(workload, found, schedule)
    if pieces > 1:
        return _build_in_pieces(workload, parts, found, pieces, schedule, name)

    def body(row: Row) -> None:
        rows.finish(row, parts, _result(workload, found, row), row.result_point)

    return rows.kernel(parts, found, schedule, name, body)


def _pieces(workload: Reduce, found: Layout, schedule: Schedule) -> int:
    """Return the pieces that each row is reduced in, in parallel: 1 where there are rows enough for all threads."""
    if schedule.tasks == 1 or workload.operator in ("variance", *_INDICES):
        return 1
    if any(isinstance(size, Extent) for size in (*found.kept.sizes, found.reduced.sizes[0])):
        return 1
    threads = threads_of(schedule.tasks)
    *outer, inner = found.kept.sizes
    tasks = math.prod(outer) * (inner if found.along_row else -(-inner // schedule.lanes))
    if tasks >= schedule.tasks or _imbalance(tasks, threads) <= _MOST_IMBALANCE:
        return 1
    size = found.reduced.sizes[0]
    shortest = _SHORTEST_PIECE * (schedule.lanes if found.along_row and len(found.reduced.sizes) == 1 else 1)
    candidates = (count for count in range(2, schedule.tasks + 1) if size % count == 0)
    fitting = (count for count in candidates if size // count >= shortest)
    return next((count for count in fitting if _imbalance(count, threads) <= _MOST_IMBALANCE), 1)


def _imbalance(tasks: int, threads: int) -> float:
    return -(-tasks // threads) * threads / tasks


def _build_in_pieces(
    workload: Reduce, parts: rows.Parts, found: Layout, pieces: int, schedule: Schedule, name: str
) -> PrimFunc:
    """Build a kernel that reduces all pieces of the rows into a buffer, then that: for few long rows."""
    held, kept, reduced = rows.accumulation_dtype(workload.dtype), found.kept, found.reduced
    sources, count = len(parts.source.inputs), math.prod(kept.sizes)
    own = views.contiguous_strides(kept.sizes)
    piece = reduced.sizes[0] // pieces
    steps = [(along[0] * piece, *across) for along, across in zip(reduced.strides, kept.strides, strict=True)]
    first = Layout(
        Space((pieces, *kept.sizes), (*steps[:sources], (count, *own))),
        Space((piece, *reduced.sizes[1:]), (*reduced.strides[:sources], (0,) * len(reduced.sizes))),
        found.along_row,
    )
    others = kept.strides[sources:]
    second = Layout(
        Space(kept.sizes, (own, *others)),
        Space((pieces,), ((count,), *[(0,)] * len(others))),
        along_row=False,
    )
    partial_reduction = dataclasses.replace(
        workload,
        operator="sum" if workload.operator == "mean" else workload.operator,
        epilogue=None,
        epilogue_views=(),
        output_views=(),
    )
    pieces_of = identity((pieces, count), held)
    ending = dataclasses.replace(parts, source=pieces_of)

    def combine(row: Row) -> Value:
        value = _result(
            dataclasses.replace(partial_reduction, source=pieces_of, axes=(0,), views=()), second, row
        )
        return _divided(value, found.row_size, held, row) if workload.operator == "mean" else value

    def body(memories: Sequence[views.Memory], bases: Sequence[int]) -> None:
        buffer = views.Memory(T.alloc_buffer((pieces * count,), held, align=64), held)
        rows.emit_rows(
            first,
            parts.source,
            [*memories[:sources], buffer],
            [*bases[:sources], 0],
            schedule,
            lambda row: row.write(sources, _result(partial_reduction, first, row), row.result_point),
        )
        rows.emit_rows(
            second,
            pieces_of,
            [buffer, *memories[sources:]],
            [0, *bases[sources:]],
            dataclasses.replace(schedule, tasks=1),
            lambda row: rows.finish(row, ending, combine(row), row.result_point),
        )

    return rows.function(parts, name, body)


def _result(workload: Reduce, found: Layout, row: Row) -> Value:
    """Reduce one row."""
    held = rows.accumulation_dtype(workload.dtype)
    lanes = row.result_point.lanes

    def total(value_at: rows.ValueAt) -> Value:
        sums = rows.Accumulator(row, 0, held, rows.add)
        rows.accumulate(row, sums, value_at)
        return sums.result()

    operator = workload.operator
    if operator in _INDICES:
        return _position(workload, found, row)
    if operator == "sum":
        return total(row.load)
    if operator in _FLOAT_ONLY:
        mean = _divided(total(row.load), found.row_size, held, row)
        if operator == "mean":
            return mean

        def squared(point: Point) -> Value:
            deviation = tir.materialise(row.load(point) - row.spread(mean, point), held, point.lanes)
            return deviation * deviation

        return T.Div(total(squared), _degrees(found.row_size, workload.correction, held, lanes))
    initial, combine = SIMPLE[operator](held)
    found_value = rows.Accumulator(row, initial, held, combine)
    row.sweep(lambda point: found_value.add(point, row.load(point)))
    return found_value.result()


def _degrees(size: Size, correction: float, dtype: str, lanes: int) -> Value:
    """What a variance divides by; not negative."""
    if isinstance(size, Extent):
        less = tir.size_as(size, dtype) - tir.constant(correction, dtype)
        degrees = tir.broadcast(T.max(less, tir.constant(0.0, dtype)), lanes)
    else:
        degrees = tir.constant(max(0.0, size - correction), dtype, lanes)
    return tir.materialise(degrees, dtype, lanes)


def _divided(total: Value, count: Size, dtype: str, row: Row) -> Value:
    lanes = row.result_point.lanes
    number = tir.materialise(tir.size_as(count, dtype, lanes), dtype, lanes)
    return tir.materialise(T.Div(total, number), dtype, lanes)


def _extremum(largest: bool) -> Callable[[str], tuple[Any, rows.Combine]]:
    def make(dtype: str) -> tuple[Any, rows.Combine]:
        def combine(a: Value, b: Value, lanes: int) -> Value:
            picked = T.Select(a > b if largest else a < b, a, b)  # b if one of them is NaN
            return T.Select(_is_number(a, dtype, lanes), picked, a) if dtype in FLOATS else picked

        return _initial(dtype, largest), combine

    return make


def _initial(dtype: str, largest: bool) -> float | int:
    if dtype in FLOATS:
        return -math.inf if largest else math.inf
    return _INTEGER_LIMITS[dtype][0 if largest else 1]


def _is_number(value: Value, dtype: str, lanes: int) -> Value:
    """Whether a value equals itself; its copy is a second buffer, or TVM would know that it does."""
    return T.EQ(value, tir.materialise(value, dtype, lanes))


# The initial value and the way to combine two vectors, for a dtype.
SIMPLE: dict[str, Callable[[str], tuple[Any, rows.Combine]]] = {
    "prod": lambda dtype: (1, lambda a, b, lanes: a * b),
    "max": _extremum(largest=True),
    "min": _extremum(largest=False),
    "all": lambda dtype: (True, lambda a, b, lanes: T.And(a, b)),
    "any": lambda dtype: (False, lambda a, b, lanes: T.Or(a, b)),
}


def _position(workload: Reduce, found: Layout, row: Row) -> Value:
    """Where the extremum of one row is: a pair of accumulators, the value and its position."""
    if extent.bounds(found.row_size)[1] >= 2**31:
        raise ValueError(f"{workload.operator} takes rows of less than 2^31 elements, got {found.row_size}")
    held, width = rows.accumulation_dtype(workload.dtype), row.width
    largest = workload.operator == "argmax"
    best, where = row.scratch(held), row.scratch("int32")
    tir.store(best, tir.constant(_initial(held, largest), held, width), (0,), width)
    tir.store(where, tir.constant(0, "int32", width), (0,), width)

    def step(point: Point) -> None:
        lanes = point.lanes
        value = row.load(point)
        first = T.cast(point.position, "int32")
        position = T.ramp(first, 1, lanes) if row.along_row and lanes > 1 else tir.broadcast(first, lanes)
        held_value, held_position = (tir.load(buffer, (0,), lanes) for buffer in (best, where))
        better = _better(value, held_value, held, lanes, largest)
        tir.store(best, T.Select(better, value, held_value), (0,), lanes)
        tir.store(where, T.Select(better, position, held_position), (0,), lanes)

    row.sweep(step)
    if row.along_row:
        _fold_lanes(best, where, held, width, largest)
        width = 1
    return T.cast(tir.load(where, (0,), width), tir.vector_dtype("int64", width))


def _better(new: Value, old: Value, dtype: str, lanes: int, largest: bool) -> Value:
    """Whether `new` beats `old`: NaN beats every number."""
    beats = tir.materialise(new > old if largest else new < old, "bool", lanes)
    if dtype not in FLOATS:
        return beats
    new_number = tir.materialise(_is_number(new, dtype, lanes), "bool", lanes)
    old_number = tir.materialise(_is_number(old, dtype, lanes), "bool", lanes)
    first_nan = tir.materialise(T.And(old_number, T.Not(new_number)), "bool", lanes)
    return tir.materialise(T.Or(beats, first_nan), "bool", lanes)


def _fold_lanes(best: Any, where: Any, dtype: str, width: int, largest: bool) -> None:
    """Leave the winner of all lanes in lane 0; of equal values the one at the lowest position."""
    while width > 1:
        width //= 2
        low, high = ((tir.load(best, (k,), width), tir.load(where, (k,), width)) for k in (0, width))
        value, position = tir.materialise(high[0], dtype, width), tir.materialise(high[1], "int32", width)
        wins = _better(value, low[0], dtype, width, largest)
        loses = _better(low[0], value, dtype, width, largest)
        tie = tir.materialise(T.Not(tir.materialise(T.Or(wins, loses), "bool", width)), "bool", width)
        earlier = tir.materialise(position < low[1], "bool", width)
        take = tir.materialise(T.Or(wins, T.And(tie, earlier)), "bool", width)
        tir.store(best, T.Select(take, value, low[0]), (0,), width)
        tir.store(where, T.Select(take, position, low[1]), (0,), width)
