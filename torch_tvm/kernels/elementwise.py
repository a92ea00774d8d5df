"""Stand-alone element-wise kernels: one pass over memory for a whole `Expression`, whatever is broadcast, permuted or sliced.

Loops that all operands walk through alike are fused, the innermost one is vectorised, and the outer ones run in parallel. An
operand whose unit stride lies in another loop (a permutation) is read in square tiles that are transposed in registers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import tir, views
from torch_tvm.kernels.expression import Expression, Operand, emit
from torch_tvm.kernels.parallel import task_count
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.views import Space, View

Index = Any  # int or PrimExpr

# Nanoseconds per vector of 64 bytes, measured on Zen 5: a load or store that hits L2, an instruction of one or a few machine
# instructions, a polynomial, a libm call (per lane).
_MEMORY_NS, _SIMPLE_NS, _POLYNOMIAL_NS, _LIBM_NS = 2.0, 0.5, 6.0, 8.0
_POLYNOMIALS = frozenset("exp expm1 log log1p log2 log10 tanh sigmoid erf gelu gelu_tanh silu divide sqrt rsqrt".split())
_LIBM = frozenset("sin cos tan sinh cosh asin acos atan power mod trunc_mod floor_mod floor_divide".split())


@dataclass(frozen=True)
class Elementwise:
    """An expression, and how its inputs and outputs lie in memory.

    Parameters
    ----------
    expression
        What is computed. A size of zero anywhere is refused: there is nothing to run.
    inputs, outputs
        One `View` or None (contiguous, of the operand's own shape) per operand; empty means all None. The parameter of the
        kernel has the view's `buffer_shape`.

    Examples
    --------
    >>> from torch_tvm.kernels import elementwise, expression, host_target
    >>> copy = elementwise.Elementwise(expression.identity((4, 6), "float32"))
    >>> schedule = elementwise.default_schedule(copy, host_target(), threads=2)
    >>> function = elementwise.build(copy, schedule, host_target(), "copy")
    >>> str(function.attrs["global_symbol"])
    'copy'
    """

    expression: Expression
    inputs: tuple[View | None, ...] = ()
    outputs: tuple[View | None, ...] = ()

    def __post_init__(self) -> None:
        """Check the views against the expression."""
        shape = self.expression.shape
        if math.prod(shape) == 0:
            raise ValueError(f"an element-wise kernel computes at least one element, got shape {shape}")
        for what, given, operands in (
            ("input", self.inputs, self.expression.inputs),
            ("output", self.outputs, self.expression.output_operands),
        ):
            if given and len(given) != len(operands):
                raise ValueError(f"there are {len(operands)} {what}s, got {len(given)} views")
            for view, operand in zip(given, operands, strict=False):
                if view is not None:
                    view.check(operand.shape, what)

    @property
    def input_views(self) -> tuple[View, ...]:
        """The view of each input."""
        return _complete(self.inputs, self.expression.inputs)

    @property
    def output_views(self) -> tuple[View, ...]:
        """The view of each output."""
        return _complete(self.outputs, self.expression.output_operands)


def _complete(given: Sequence[View | None], operands: Sequence[Operand]) -> tuple[View, ...]:
    padded = given or (None,) * len(operands)
    return tuple(view or views.contiguous(operand.shape) for view, operand in zip(padded, operands, strict=True))


@dataclass(frozen=True)
class Schedule:
    """`lanes` elements a vector; at least `tasks` parallel tasks, none in parallel if 1."""

    lanes: int
    tasks: int


def default_schedule(workload: Elementwise, target: CpuTarget, threads: int) -> Schedule:
    """Fill one vector register with the widest dtype and split the work by its estimated time."""
    lanes = preferred_lanes(workload.expression, target)
    vectors = math.prod(workload.expression.shape) / lanes
    return Schedule(lanes, task_count(vectors * vector_nanoseconds(workload.expression, lanes), threads))


def preferred_lanes(expression: Expression, target: CpuTarget) -> int:
    """Lanes that fill one register with the widest values; 16-bit floats are computed in 32 bits."""
    dtypes = [operand.dtype for operand in expression.inputs] + [step.dtype for step in expression.instructions]
    computed = ["float32" if dtype in ("float16", "bfloat16") else dtype for dtype in dtypes]
    return min(target.lanes(dtype) for dtype in computed)


def vector_nanoseconds(expression: Expression, lanes: int) -> float:
    """Estimate the time of one vector."""
    time = _MEMORY_NS * (len(expression.inputs) + len(expression.outputs))
    for step in expression.instructions:
        if step.op in _LIBM:
            time += _LIBM_NS * lanes
        else:
            time += _POLYNOMIAL_NS if step.op in _POLYNOMIALS else _SIMPLE_NS
    return time


def build(workload: Elementwise, schedule: Schedule, target: CpuTarget, name: str) -> PrimFunc:
    """Build the kernel `name`(inputs..., outputs...)."""
    expression = workload.expression
    all_views = (*workload.input_views, *workload.output_views)
    operands = (*expression.inputs, *expression.output_operands)
    strides = [
        views.broadcast_strides(view, operand.shape, expression.shape)
        for view, operand in zip(all_views, operands, strict=True)
    ]
    nest = _Nest(
        expression,
        views.collapse(expression.shape, strides),
        tuple(view.offset for view in all_views),
        schedule,
    )
    parameters = [
        tir.Parameter(f"{'x' if k < len(expression.inputs) else 'y'}{k}", view.buffer_shape, operand.dtype)
        for k, (view, operand) in enumerate(zip(all_views, operands, strict=True))
    ]

    def body(*buffers: Any) -> None:
        nest.emit([
            views.flat(buffer, parameter.shape, parameter.dtype)
            for buffer, parameter in zip(buffers, parameters, strict=True)
        ])

    return tir.kernel(name, parameters, body)


@dataclass(frozen=True)
class _Nest:
    """The loops of one kernel."""

    expression: Expression
    space: Space
    bases: tuple[int, ...]
    schedule: Schedule

    def emit(self, buffers: Sequence[Any]) -> None:
        *outer, inner = self.space.sizes
        lanes = min(self.schedule.lanes, inner)
        split = _parallel_loops(outer, self.schedule.tasks)
        if self.schedule.tasks > 1 and math.prod(outer[:split]) * 2 <= self.schedule.tasks:
            self._split_inner(buffers, lanes)
            return
        with tir.loop(math.prod(outer[:split]), parallel=self.schedule.tasks > 1) as task:
            offsets = self._advance(self.bases, _unravel(task, outer[:split]), 0)
            self._serial(buffers, split, offsets, lambda at: self._row(buffers, at, lanes))

    def _split_inner(self, buffers: Sequence[Any], lanes: int) -> None:
        """Few outer iterations, a long inner loop: tasks are parts of rows."""
        *outer, inner = self.space.sizes
        rows, vectors = math.prod(outer), inner // lanes
        parts = min(vectors, -(-self.schedule.tasks // rows))
        share = -(-vectors // parts)
        parts = -(-vectors // share)
        with tir.loop(rows * parts, parallel=True) as task:
            offsets = self._advance(self.bases, _unravel(T.floordiv(task, parts), outer), 0)
            first = T.floormod(task, parts) * share
            with T.serial(0, T.min(share, vectors - first)) as vector:
                self._vector(buffers, self._advance(offsets, [(first + vector) * lanes], len(outer)), lanes)
        if inner % lanes:
            with tir.loop(rows) as row:
                offsets = self._advance(self.bases, _unravel(row, outer), 0)
                self._vector(buffers, self._advance(offsets, [inner - lanes], len(outer)), lanes)

    def _serial(
        self, buffers: Sequence[Any], axis: int, offsets: Sequence[Index], inside: Callable[[Sequence[Index]], None]
    ) -> None:
        if axis == len(self.space.sizes) - 1:
            inside(offsets)
            return
        with tir.loop(self.space.sizes[axis]) as index:
            self._serial(buffers, axis + 1, self._advance(offsets, [index], axis), inside)

    def _row(self, buffers: Sequence[Any], offsets: Sequence[Index], lanes: int) -> None:
        axis, size = len(self.space.sizes) - 1, self.space.sizes[-1]
        with tir.loop(size // lanes) as vector:
            self._vector(buffers, self._advance(offsets, [vector * lanes], axis), lanes)
        if size % lanes:
            # The last vector overlaps the one before it: computed twice, but never past the end and never lane by lane.
            self._vector(buffers, self._advance(offsets, [size - lanes], axis), lanes)

    def _vector(self, buffers: Sequence[Any], offsets: Sequence[Index], lanes: int) -> None:
        count = len(self.expression.inputs)
        steps = [strides[-1] for strides in self.space.strides]
        loads = [
            views.load(buffer, offset, step, lanes)
            for buffer, offset, step in zip(buffers[:count], offsets, steps, strict=False)
        ]
        results = emit(self.expression, loads, lanes)
        for buffer, offset, step, value in zip(buffers[count:], offsets[count:], steps[count:], results, strict=True):
            views.store(buffer, value, offset, step, lanes)

    def _advance(self, offsets: Sequence[Index], indices: Sequence[Index], axis: int) -> list[Index]:
        """Offsets of all operands after moving by `indices` along the loops from `axis` on."""
        moved = []
        for offset, strides in zip(offsets, self.space.strides, strict=True):
            for index, stride in zip(indices, strides[axis:], strict=False):
                offset = offset + index * stride
            moved.append(offset)
        return moved


def _parallel_loops(outer: Sequence[int], tasks: int) -> int:
    """How many outer loops make enough tasks when they run as one parallel loop."""
    if tasks == 1:
        return 0
    for split in range(len(outer) + 1):
        if math.prod(outer[:split]) >= tasks:
            return split
    return len(outer)


def _unravel(index: Index, sizes: Sequence[int]) -> list[Index]:
    """The indices of nested loops of `sizes`, given that of their fused loop."""
    indices: list[Index] = []
    for position, size in reversed(list(enumerate(sizes))):
        indices.append(index if position == 0 else T.floormod(index, size))
        index = T.floordiv(index, size) if position else index
    return indices[::-1]
