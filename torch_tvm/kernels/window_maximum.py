"""Maxima of windows and their positions: max pooling with indices.

Windows are tables of positions, one for each dimension, so that padding, dilation and adaptive sizes are all alike. Vectors
run along the last dimension where the windows lie at even steps; the others, at its ends, are scalars.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import instructions, tir, views
from torch_tvm.kernels.expression import INTS, Instruction
from torch_tvm.kernels.nest import task_count
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.views import Memory, contiguous_strides

Index = Any
Value = Any

DTYPES = (*INTS, "float32", "float64")

# Nanoseconds for one element of a window on Zen 5, of a vector of windows and of one.
_VECTOR_NS, _SCALAR_NS = 1.6, 0.7


@dataclass(frozen=True)
class WindowMaximum:
    """The largest element of each window, and its number in its plane.

    Of equal elements the one that the window holds first counts; of several NaN, which win, the last one.

    Parameters
    ----------
    shape
        Planes, and their sizes.
    windows
        For each size how many windows there are along it, and how many elements of it each holds: a table of so many rows
        and columns names them.
    run
        Among the windows of the last size: the first one, and the one behind the last one, of those whose elements lie
        `step` behind those of the window before.
    step
        See `run`; at least 1.
    dtype
        One of `DTYPES`.

    Examples
    --------
    >>> import numpy as np
    >>> from torch_tvm.kernels import host_target, window_maximum
    >>> table = np.array([[0, 1, 2], [2, 3, 4], [4, 5, 6]])
    >>> workload = window_maximum.workload((64, 7, 7), [table, table], "float32")
    >>> workload.run, workload.step
    ((0, 3), 2)
    >>> schedule = window_maximum.default_schedule(workload, host_target(), threads=2)
    >>> str(window_maximum.build(workload, schedule, "pool").attrs["global_symbol"])
    'pool'
    """

    shape: tuple[int, ...]
    windows: tuple[tuple[int, int], ...]
    run: tuple[int, int]
    step: int
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Check sizes and dtype."""
        if self.dtype not in DTYPES:
            raise ValueError(f"windows hold {', '.join(DTYPES)}; got {self.dtype}")
        if len(self.windows) != len(self.shape) - 1 or not self.windows:
            raise ValueError(f"planes of {self.shape[1:]} need a table for each size, got {self.windows}")
        if math.prod(self.shape) == 0 or min(min(pair) for pair in self.windows) < 1:
            raise ValueError(f"no size is zero, got {self}")
        if math.prod(self.shape[1:]) >= 2**31:
            raise ValueError(f"planes of {self.shape[1:]} have more elements than 32-bit numbers reach")
        first, end = self.run
        if not 0 <= first <= end <= self.windows[-1][0] or self.step < 1:
            raise ValueError(
                f"run {self.run} with step {self.step} is not among {self.windows[-1][0]} windows"
            )

    @property
    def result(self) -> tuple[int, ...]:
        """Shape of both results."""
        return (self.shape[0], *(count for count, _ in self.windows))


@dataclass(frozen=True)
class Schedule:
    """Windows in a vector, and parallel tasks, none in parallel if 1."""

    lanes: int
    tasks: int


def workload(shape: Sequence[int], tables: Sequence[np.ndarray], dtype: str) -> WindowMaximum:
    """Describe windows given by tables, whose columns ascend: element [i, k] is the k-th element of window i.

    Raises
    ------
    ValueError
        If a table names elements that are not there.
    """
    for size, table in zip(shape[1:], tables, strict=True):
        if table.ndim != 2 or table.size == 0 or table.min() < 0 or table.max() >= size:
            raise ValueError(f"a table of shape {table.shape} for the windows of a size of {size}")
    first, end, step = _longest_run(np.asarray(tables[-1], dtype=np.int64))
    windows = tuple((int(table.shape[0]), int(table.shape[1])) for table in tables)
    return WindowMaximum(tuple(shape), windows, (first, end), step, dtype)


def _longest_run(table: np.ndarray) -> tuple[int, int, int]:
    """Return the longest run of windows at even steps: its first window, the one behind its last, the step."""
    steps = np.diff(table, axis=0)
    even = [int(row[0]) if row[0] > 0 and np.all(row == row[0]) else 0 for row in steps]
    best, begin = (0, 0, 1), 0
    for i in range(len(even)):
        if i > 0 and even[i] != even[i - 1]:
            begin = i
        if even[i] and i + 2 - begin > best[1] - best[0]:
            best = (begin, i + 2, even[i])
    return best


def default_schedule(w: WindowMaximum, target: CpuTarget, threads: int) -> Schedule:
    """Fill a register, as far as the run goes, and split rows of the result by the estimated time."""
    length = w.run[1] - w.run[0]
    lanes = min(target.lanes(w.dtype), 1 << max(0, length.bit_length() - 1))
    elements = math.prod(places for _, places in w.windows)
    per_row = -(-length // lanes) * _VECTOR_NS + (w.windows[-1][0] - length) * _SCALAR_NS
    rows = math.prod(w.result[:-1])
    return Schedule(lanes, min(rows, task_count(rows * elements * per_row, threads)))


def build(workload: WindowMaximum, schedule: Schedule, name: str) -> PrimFunc:
    """Build the kernel `name`(data, tables..., largest, numbers); tables are int32, numbers int64."""
    parameters = [
        tir.Parameter("data", workload.shape, workload.dtype),
        *(tir.Parameter(f"table{d}", pair, "int32") for d, pair in enumerate(workload.windows)),
        tir.Parameter("largest", workload.result, workload.dtype),
        tir.Parameter("numbers", workload.result, "int64"),
    ]

    def body(*buffers: Any) -> None:
        memories = [views.flat(b, p.shape, p.dtype) for b, p in zip(buffers, parameters, strict=True)]
        rows = math.prod(workload.result[:-1])
        with tir.loop(schedule.tasks, parallel=schedule.tasks > 1) as task:
            bounds = task * rows // schedule.tasks, (task + 1) * rows // schedule.tasks
            with tir.loop_between(*bounds) as row:
                _Row(workload, memories, row).emit(schedule.lanes)

    return tir.kernel(name, parameters, body)


class _Row:
    """The windows along the last size at one place of the others."""

    def __init__(self, w: WindowMaximum, memories: Sequence[Memory], row: Index) -> None:
        self.w = w
        self.data, *self.tables, self.largest, self.numbers = memories
        self.row = row
        self.plane, *self.outer = tir.unravel(row, w.result[:-1])
        self.strides = contiguous_strides(w.shape)

    def emit(self, lanes: int) -> None:
        first, end = self.w.run
        if lanes == 1:
            first = end = 0
        with tir.loop_between(0, first) as i:
            self._windows(i, 1)
        if end > first:
            whole, rest = divmod(end - first, lanes)
            with tir.loop(whole) as vector:
                self._windows(first + vector * lanes, lanes)
            if rest:
                self._windows(end - lanes, lanes)
        with tir.loop_between(end, self.w.result[-1]) as i:
            self._windows(i, 1)

    def _windows(self, window: Index, lanes: int) -> None:
        w = self.w
        best, number = tir.Accumulators(1, w.dtype, lanes), tir.Accumulators(1, "int32", lanes)
        places = [*self.outer, window]

        def element(taps: Sequence[Index]) -> tuple[Value, Value]:
            at = functools.reduce(
                lambda a, b: a + b,
                (
                    table.buffer[place * count + tap] * stride
                    for table, place, (_, count), tap, stride in zip(
                        self.tables, places, w.windows, taps, self.strides[1:], strict=True
                    )
                ),
            )
            at = tir.materialise(at, "int32", 1)
            value = views.load(self.data, self.plane * self.strides[0] + at, w.step, lanes)
            numbers = T.ramp(at, w.step, lanes) if lanes > 1 else at
            return tir.materialise(value, w.dtype, lanes), numbers

        best[0], number[0] = element([0] * len(places))
        self._each(lambda taps: self._take(best, number, element(taps), lanes), [])
        offset = self.row * w.result[-1] + window
        views.store(self.largest, best[0], offset, 1, lanes)
        views.store(self.numbers, T.cast(number[0], tir.vector_dtype("int64", lanes)), offset, 1, lanes)

    def _each(self, visit: Any, taps: list[Index]) -> None:
        """Emit loops over the elements of a window."""
        if len(taps) == len(self.w.windows):
            visit(taps)
            return
        with tir.loop(self.w.windows[len(taps)][1]) as tap:
            self._each(visit, [*taps, tap])

    def _take(
        self, best: tir.Accumulators, number: tir.Accumulators, element: tuple[Value, Value], lanes: int
    ) -> None:
        """Keep an element if it is larger or NaN; the number first, for the comparison reads what was best."""
        value, at = element
        dtypes = [self.w.dtype, self.w.dtype]
        wins = instructions.apply(Instruction("greater", (0, 1), "bool"), (value, best[0]), dtypes, lanes)
        if self.w.dtype not in INTS:
            wins = T.Or(wins, instructions.apply(Instruction("isnan", (0,), "bool"), (value,), dtypes, lanes))
        number[0] = T.Select(wins, at, number[0])
        best[0] = T.Select(wins, value, best[0])
