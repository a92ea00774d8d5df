"""Scattering: a copy of a tensor, some of whose elements are replaced by updates or combined with them.

Updates that meet the same element are applied in their order, so that results do not depend on threads: what runs in
parallel is independent by construction. An update whose index lies outside of the tensor is left out; negative indices
count from the end.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import instructions, tir, views
from torch_tvm.kernels.expression import DTYPES, Instruction
from torch_tvm.kernels.extent import Size
from torch_tvm.kernels.nest import task_count
from torch_tvm.kernels.views import Memory, contiguous_strides

Value = Any
Index = Any

# Nanoseconds to copy an element, and to apply an update, on Zen 5.
_COPY_NS, _UPDATE_NS = 0.1, 1.5
# Elements that a task copies at least: 16 KiB of float32.
_COPY_BLOCK = 4096

# How an update and what is there combine; None stands for the update alone.
REDUCTIONS = {"update": None, "add": "add", "mul": "multiply", "min": "minimum", "max": "maximum"}


@dataclass(frozen=True)
class Scatter:
    """A copy of `data` with updates at the places that indices name.

    Parameters
    ----------
    shape
        Of the data and the result.
    index_shape
        With an axis, that of indices and updates: element p of the updates goes to where p is with its coordinate on the axis
        replaced by the index; no size but that of the axis is above the data's. Without, the last dimension holds coordinates
        of the leading dimensions of the data, and an update has the data's remaining ones.
    axis
        Dimension that indices replace, or None.
    reduction
        One of `REDUCTIONS`.
    dtype, index_dtype
        Of data and updates, and of indices ("int32" or "int64").

    Examples
    --------
    >>> from torch_tvm.kernels import scatter
    >>> workload = scatter.Scatter((5, 8), (3, 8), axis=0, reduction="add")
    >>> kernel = scatter.build(workload, scatter.default_schedule(workload, threads=2), "scatter_add")
    >>> str(kernel.attrs["global_symbol"])
    'scatter_add'
    """

    shape: tuple[int, ...]
    index_shape: tuple[int, ...]
    axis: int | None
    reduction: str = "update"
    dtype: str = "float32"
    index_dtype: str = "int64"

    def __post_init__(self) -> None:
        """Check shapes and dtypes."""
        if self.dtype not in DTYPES or self.index_dtype not in ("int32", "int64"):
            raise ValueError(f"scattering takes no {self.dtype} at indices of {self.index_dtype}")
        if self.dtype == "bool" and self.reduction in ("add", "mul"):
            raise ValueError(f"scattering of bool takes max and min, not {self.reduction}")
        if self.axis is None:
            if not self.index_shape or self.index_shape[-1] > len(self.shape):
                raise ValueError(f"coordinates {self.index_shape} exceed the rank of {self.shape}")
        elif len(self.index_shape) != len(self.shape) or any(
            n > size
            for d, (n, size) in enumerate(zip(self.index_shape, self.shape, strict=True))
            if d != self.axis
        ):
            raise ValueError(f"indices of shape {self.index_shape} exceed data of shape {self.shape}")

    @property
    def update_shape(self) -> tuple[int, ...]:
        """Shape of the updates."""
        if self.axis is not None:
            return self.index_shape
        return (*self.index_shape[:-1], *self.shape[self.index_shape[-1] :])

    @property
    def _split(self) -> int:
        return self.axis if self.axis is not None else 0

    @property
    def outer(self) -> tuple[int, ...]:
        """Dimensions of the updates that are independent, before those that are walked in order."""
        return self.index_shape[: self._split]

    @property
    def steps(self) -> int:
        """Updates that one element may meet."""
        return self.index_shape[self._split] if self.axis is not None else math.prod(self.index_shape[:-1])

    @property
    def inner(self) -> tuple[int, ...]:
        """Dimensions of the updates that are independent, behind those that are walked in order."""
        if self.axis is not None:
            return self.index_shape[self.axis + 1 :]
        return self.shape[self.index_shape[-1] :]


@dataclass(frozen=True)
class Schedule:
    """Parallel tasks that copy, and parts into which the inner dimensions are split; nothing in parallel if 1."""

    copies: int
    parts: int
    parallel: bool


def default_schedule(workload: Scatter, threads: int) -> Schedule:
    """Split copying and updating by their estimated times."""
    size, updates = math.prod(workload.shape), math.prod(workload.update_shape)
    copies = min(task_count(size * _COPY_NS, threads), max(1, size // _COPY_BLOCK))
    tasks = task_count(updates * _UPDATE_NS, threads)
    outer, inner = math.prod(workload.outer), math.prod(workload.inner)
    parts = max(1, min(inner, -(-tasks // max(1, outer))))
    return Schedule(copies, parts, tasks > 1 and outer * parts > 1)


def build(workload: Scatter, schedule: Schedule, name: str) -> PrimFunc:
    """Build the kernel `name`(data, indices, updates, result)."""
    w = workload
    parameters = [
        tir.Parameter("data", w.shape, w.dtype),
        tir.Parameter("indices", w.index_shape, w.index_dtype),
        tir.Parameter("updates", w.update_shape, w.dtype),
        tir.Parameter("result", w.shape, w.dtype),
    ]

    def body(*buffers: Any) -> None:
        data, indices, updates, result = (
            views.flat(b, p.shape, p.dtype) for b, p in zip(buffers, parameters, strict=True)
        )
        _copy(w, schedule, data, result)
        if math.prod(w.update_shape) > 0:
            with tir.loop(math.prod(w.outer) * schedule.parts, parallel=schedule.parallel) as task:
                _update(w, schedule, task, (indices, updates, result))

    return tir.kernel(name, parameters, body)


def _copy(w: Scatter, schedule: Schedule, data: Memory, result: Memory) -> None:
    size = math.prod(w.shape)
    with tir.loop(schedule.copies, parallel=schedule.copies > 1) as task:
        first, last = task * size // schedule.copies, (task + 1) * size // schedule.copies
        with tir.loop_between(first, last) as i:
            T.buffer_store(result.buffer, data.buffer[i], [i])


def _update(w: Scatter, schedule: Schedule, task: Index, memories: Sequence[Memory]) -> None:
    """Apply the updates of one task: the inner dimensions, or a part of them, at one place of the outer ones."""
    indices, updates, result = memories
    inner = math.prod(w.inner)
    outer, part = T.floordiv(task, schedule.parts), T.floormod(task, schedule.parts)
    first, last = part * inner // schedule.parts, (part + 1) * inner // schedule.parts
    strides = contiguous_strides(w.shape)
    base = _offset(tir.unravel(outer, w.outer), strides)
    with tir.loop(w.steps) as step:
        row = outer * w.steps + step
        if w.axis is None:
            place, inside = _place(w, indices, row)
            with T.If(inside), T.Then(), tir.loop_between(first, last) as i:
                _apply(w, (updates, row * inner + i), (result, place + i))
            return
        with tir.loop_between(first, last) as i:
            number, inside = _within(w, indices, row * inner + i, w.shape[w.axis])
            behind = strides[w.axis + 1 :]
            place = base + number * strides[w.axis] + _offset(tir.unravel(i, w.inner), behind)
            with T.If(inside), T.Then():
                _apply(w, (updates, row * inner + i), (result, place))


def _offset(position: Sequence[Index], strides: Sequence[int]) -> Index:
    return sum((p * stride for p, stride in zip(position, strides, strict=False)), start=0)


def _within(w: Scatter, indices: Memory, at: Index, size: Size) -> tuple[Value, Value]:
    """Read an index: counted from the front, and whether it lies inside of a dimension."""
    given = tir.materialise(indices.buffer[at], w.index_dtype, 1)
    bound = tir.size_as(size, w.index_dtype)
    index = tir.materialise(T.Select(given < 0, given + bound, given), w.index_dtype, 1)
    return T.cast(index, "int32"), T.And(index >= 0, index < bound)


def _place(w: Scatter, indices: Memory, row: Index) -> tuple[Value, Value]:
    """Where the update that coordinates name begins, and whether they all lie inside."""
    count = w.index_shape[-1]
    strides = contiguous_strides(w.shape)
    found = [_within(w, indices, row * count + m, w.shape[m]) for m in range(count)]
    place = _offset([number for number, _ in found], strides)
    inside = functools.reduce(T.And, [one for _, one in found], tir.constant(True, "bool"))
    return place, inside


def _apply(w: Scatter, update: tuple[Memory, Index], target: tuple[Memory, Index]) -> None:
    operator = REDUCTIONS[w.reduction]
    source, at = update
    if operator is None:
        T.buffer_store(target[0].buffer, source.buffer[at], [target[1]])
        return
    dtypes = [w.dtype, w.dtype]
    held = [
        instructions.unpack(views.load(memory, offset, 1, 1), w.dtype, 1)
        for memory, offset in (target, update)
    ]
    combined = instructions.apply(Instruction(operator, (0, 1), w.dtype), held, dtypes, 1)
    views.store(target[0], instructions.pack(combined, w.dtype, 1), target[1], 1, 1)
