"""Interleaving along the last dimension: what a channel shuffle of NHWC images is.

Vectors of all operands are loaded, mixed in registers and stored side by side, so that every access is to neighbours in
memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx import PrimFunc

from torch_tvm.kernels import tir, views
from torch_tvm.kernels.nest import Index, Nest, Schedule, task_count
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.views import Memory, View

# Nanoseconds for a vector: to load and store it, L2 willing, and to mix it with the others.
_VECTOR_NS = 3.0
# Each result takes one shuffle for each operand but the first.
MAX_OPERANDS = 8


@dataclass(frozen=True)
class Interleave:
    """result[..., i * n + k] is element [..., i] of operand k of n.

    Parameters
    ----------
    shape
        Of each operand; no size is zero.
    inputs
        Where each operand lies.
    dtype
        Of operands and result, of 16 bits at least and not "bool".

    Examples
    --------
    >>> from torch_tvm.kernels import host_target, interleave, views
    >>> halves = [views.View((1, 28, 28, 116), (90944, 3248, 116, 1), first) for first in (0, 58)]
    >>> workload = interleave.Interleave((1, 28, 28, 58), tuple(halves))
    >>> schedule = interleave.default_schedule(workload, host_target(), threads=2)
    >>> str(interleave.build(workload, schedule, host_target(), "shuffle").attrs["global_symbol"])
    'shuffle'
    """

    shape: tuple[int, ...]
    inputs: tuple[View, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Check sizes and views."""
        if not self.shape or math.prod(self.shape) == 0:
            raise ValueError(f"interleaving takes operands with elements, got shape {self.shape}")
        if not 2 <= len(self.inputs) <= MAX_OPERANDS:
            raise ValueError(f"interleaving takes 2 to {MAX_OPERANDS} operands, got {len(self.inputs)}")
        for view in self.inputs:
            view.check(self.shape, "input")

    @property
    def result_shape(self) -> tuple[int, ...]:
        """Shape of the result, which is contiguous."""
        return (*self.shape[:-1], self.shape[-1] * len(self.inputs))


def default_schedule(workload: Interleave, target: CpuTarget, threads: int) -> Schedule:
    """Fill a register and split the work by its estimated time."""
    lanes = target.lanes(workload.dtype)
    vectors = math.prod(workload.result_shape) / lanes
    return Schedule(lanes, task_count(vectors * _VECTOR_NS, threads))


def build(workload: Interleave, schedule: Schedule, target: CpuTarget, name: str) -> PrimFunc:
    """Build the kernel `name`(operands..., result)."""
    w, count = workload, len(workload.inputs)
    # Over the operands' dimensions a step of the result is `count` elements.
    result = tuple(stride * count for stride in views.contiguous_strides(w.shape))
    space = views.collapse(w.shape, [*(view.strides for view in w.inputs), result])
    parameters = [
        *(tir.Parameter(f"x{k}", view.buffer_shape, w.dtype) for k, view in enumerate(w.inputs)),
        tir.Parameter("y", w.result_shape, w.dtype),
    ]

    def body(*buffers: Any) -> None:
        *memories, result_memory = (_bits(b, p) for b, p in zip(buffers, parameters, strict=True))
        steps = [own[-1] for own in space.strides]

        def vector(offsets: Sequence[Index], lanes: int) -> None:
            *sources, target_offset = offsets
            triples = zip(memories, sources, steps, strict=False)
            loads = [_load(memory, offset, step, lanes) for memory, offset, step in triples]
            for k in range(count):
                value = _mixed(loads, k * lanes, lanes)
                views.store(result_memory, value, target_offset + k * lanes, 1, lanes)

        bases = (*(view.offset for view in w.inputs), 0)
        Nest(space, bases, schedule.lanes, schedule.tasks, vector).emit()

    return tir.kernel(name, parameters, body)


def _bits(buffer: tir.Buffer, parameter: tir.Parameter) -> Memory:
    """Flatten a parameter; bfloat16 is only moved, as the integers that it is kept as."""
    memory = views.flat(buffer, parameter.shape, parameter.dtype)
    return Memory(memory.buffer, memory.stored_dtype)


def _load(memory: Memory, offset: Index, step: int, lanes: int) -> tir.Value:
    return tir.materialise(views.load(memory, offset, step, lanes), memory.dtype, lanes)


def _mixed(loads: Sequence[tir.Value], first: int, lanes: int) -> tir.Value:
    """Return elements `first` to before `first + lanes` of the interleaved vectors."""
    if lanes == 1:
        return loads[first]
    places = (divmod(position, len(loads)) for position in range(first, first + lanes))
    return tirx.Shuffle(list(loads), [operand * lanes + lane for lane, operand in places])
