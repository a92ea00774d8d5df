"""Binary search of values in sorted sequences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import extent, instructions, tir, views
from torch_tvm.kernels.expression import FLOATS, INTS, Instruction
from torch_tvm.kernels.nest import task_count

DTYPES = (*INTS, *FLOATS)

# Nanoseconds for one halving of the range, on Zen 5.
_STEP_NS = 2.0


@dataclass(frozen=True)
class Search:
    """Where each value belongs in a sorted sequence: before the first element that is not less than it.

    Parameters
    ----------
    sequences
        Sequences, and elements of each; every value is sought in the one sequence there is, or in that of its row.
    values
        Rows, and values of each; no size is zero.
    right
        Whether a value belongs behind the elements that equal it.
    dtype, index_dtype
        Of elements and values, and of the result ("int32" or "int64").

    Examples
    --------
    >>> from torch_tvm.kernels import search
    >>> workload = search.Search((1, 10), (4, 25))
    >>> str(search.build(workload, search.default_schedule(workload, threads=2), "find").attrs["global_symbol"])
    'find'
    """

    sequences: tuple[int, int]
    values: tuple[int, int]
    right: bool = False
    dtype: str = "float32"
    index_dtype: str = "int64"

    def __post_init__(self) -> None:
        """Check sizes and dtypes."""
        if self.sequences[0] not in (1, self.values[0]) or self.sequences[1] == 0 or 0 in self.values:
            raise ValueError(f"values {self.values} cannot be sought in sequences {self.sequences}")
        if self.dtype not in DTYPES or self.index_dtype not in ("int32", "int64"):
            raise ValueError(f"searching takes {', '.join(DTYPES)}, got {self.dtype} and {self.index_dtype}")


@dataclass(frozen=True)
class Schedule:
    """Parallel tasks, none in parallel if 1."""

    tasks: int


def default_schedule(workload: Search, threads: int) -> Schedule:
    """Split the values by the estimated time."""
    count = math.prod(workload.values)
    steps = workload.sequences[1].bit_length()
    return Schedule(min(count, task_count(count * steps * _STEP_NS, threads)))


def build(workload: Search, schedule: Schedule, name: str) -> PrimFunc:
    """Build the kernel `name`(sequences, values, result)."""
    w = workload
    count = math.prod(w.values)
    parameters = [
        tir.Parameter("sequences", w.sequences, w.dtype),
        tir.Parameter("values", w.values, w.dtype),
        tir.Parameter("result", w.values, w.index_dtype),
    ]

    def body(*buffers: Any) -> None:
        sequences, values, result = (
            views.flat(b, p.shape, p.dtype) for b, p in zip(buffers, parameters, strict=True)
        )
        with tir.loop(schedule.tasks, parallel=schedule.tasks > 1) as task:
            first, last = task * count // schedule.tasks, (task + 1) * count // schedule.tasks
            with tir.loop_between(first, last) as i:
                row = T.floordiv(i, w.values[1]) if w.sequences[0] > 1 else 0
                value = instructions.unpack(views.load(values, i, 1, 1), w.dtype, 1)
                found = _search(w, sequences, row * w.sequences[1], value)
                T.buffer_store(result.buffer, T.cast(found, w.index_dtype), [i])

    return tir.kernel(name, parameters, body)


def _search(w: Search, sequences: views.Memory, base: Any, value: Any) -> Any:
    """Halve the range until it is empty. A NaN in the sequence counts as less, one that is sought as greater: eager's rule."""
    size = w.sequences[1]
    low, high = (tir.Accumulators(1, "int32", 1) for _ in range(2))
    low[0], high[0] = 0, tir.size_as(size, "int32")
    beyond = Instruction("greater" if w.right else "greater_equal", (0, 1), "bool")
    with tir.loop(extent.bounds(size)[1].bit_length()):
        middle = tir.materialise(T.min(T.shift_right(low[0] + high[0], T.int32(1)), size - 1), "int32", 1)
        element = instructions.unpack(views.load(sequences, base + middle, 1, 1), w.dtype, 1)
        ends = instructions.apply(beyond, (element, value), [w.dtype, w.dtype], 1)
        active = tir.materialise(low[0] < high[0], "bool", 1)
        start = T.Select(ends, low[0], middle + 1)
        high[0] = T.Select(T.And(active, ends), middle, high[0])
        low[0] = T.Select(active, start, low[0])
    return low[0]
