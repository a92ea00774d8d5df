"""Stand-alone element-wise kernels: one pass over memory for a whole `Expression`, whatever is broadcast, permuted or sliced.

Loops that all operands walk through alike are fused, the innermost one is vectorised, and the outer ones run in parallel. An
input whose unit stride lies in another loop (a permutation) is read in square tiles that are transposed in registers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx import PrimFunc

from torch_tvm.kernels import extent, tir, views
from torch_tvm.kernels.expression import Expression, Operand, emit
from torch_tvm.kernels.extent import Extent, UndecidableError
from torch_tvm.kernels.nest import Nest, Schedule, task_count
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.transpose import MAX_SIDE, Tile
from torch_tvm.kernels.views import Memory, Space, View

Index = Any  # int or PrimExpr

# Nanoseconds per vector of 64 bytes, measured on Zen 5: a load or store that hits L2, an instruction of one or a few machine
# instructions, a polynomial, a libm call (per lane).
_MEMORY_NS, _SIMPLE_NS, _POLYNOMIAL_NS, _LIBM_NS = 2.0, 0.5, 6.0, 8.0
_POLYNOMIALS = frozenset(
    "exp expm1 log log1p log2 log10 tanh sigmoid erf gelu gelu_tanh silu divide sqrt rsqrt".split()
)
_LIBM = frozenset(
    "sin cos tan sinh cosh asin acos atan asinh acosh atanh power mod trunc_mod floor_mod floor_divide".split()
)


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
    overwritten
        Which input lies in the memory of the output, one of `overwritable`; the kernel then has no parameter for it.

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
    overwritten: int | None = None

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
        return views.complete(self.inputs, self.expression.inputs)

    @property
    def output_views(self) -> tuple[View, ...]:
        """The view of each output."""
        return views.complete(self.outputs, self.expression.output_operands)


def default_schedule(workload: Elementwise, target: CpuTarget, threads: int) -> Schedule:
    """Fill one vector register with the widest dtype and split the work by its estimated time."""
    lanes = preferred_lanes(workload.expression, target)
    vectors = math.prod(workload.expression.shape) / lanes
    return Schedule(lanes, task_count(vectors * vector_nanoseconds(workload.expression, lanes), threads))


def overwritable(workload: Elementwise, schedule: Schedule) -> list[int]:
    """Return the inputs that are read at each index just before the output is stored there, and never again.

    They lie in memory as the output does, and no vector overlaps another.
    """
    expression, (space, bases) = workload.expression, _iteration(workload)
    last, inner = len(expression.inputs), space.sizes[-1]
    exact = extent.same(inner % schedule.lanes, 0) or extent.at_least(schedule.lanes - 1, inner)
    if len(expression.outputs) > 1 or not exact or any(workload.outputs):
        return []
    tiled = any(
        own[-1] not in (0, 1) and 1 in own[:-1] for own in space.strides[:last]
    )  # tiles overlap: see _Kernel
    result = expression.output_operands[0]
    return [
        k
        for k, (operand, own) in enumerate(zip(expression.inputs, space.strides, strict=False))
        if operand == result
        and not tiled
        and (own, bases[k]) == (space.strides[last], bases[last])
        and not any(workload.inputs[k : k + 1])
    ]


def preferred_lanes(expression: Expression, target: CpuTarget) -> int:
    """Lanes that fill one register with the widest values; 16-bit floats are computed in 32 bits."""
    dtypes = [operand.dtype for operand in expression.inputs] + [
        step.dtype for step in expression.instructions
    ]
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
    if workload.overwritten is not None and workload.overwritten not in overwritable(workload, schedule):
        raise UndecidableError(
            f"the output cannot take the memory of input {workload.overwritten} of {workload}"
        )
    expression, (space, bases) = workload.expression, _iteration(workload)
    result = len(expression.inputs)
    parameters = [
        tir.Parameter(
            f"{'x' if k < result else 'y'}{k}",
            view.buffer_shape,
            operand.dtype,
            f"y{result}" if k == workload.overwritten else "",
        )
        for k, (view, operand) in enumerate(zip(*_operands(workload), strict=True))
    ]

    def body(*buffers: Any) -> None:
        flat = [views.flat(b, p.shape, p.dtype) for b, p in zip(buffers, parameters, strict=True)]
        _Kernel(expression, space, flat, schedule).emit(bases)

    return tir.kernel(name, parameters, body)


def _operands(workload: Elementwise) -> tuple[tuple[View, ...], tuple[Operand, ...]]:
    """Views, and what they are views of: inputs, then outputs."""
    expression = workload.expression
    return (
        (*workload.input_views, *workload.output_views),
        (*expression.inputs, *expression.output_operands),
    )


def _iteration(workload: Elementwise) -> tuple[Space, tuple[int, ...]]:
    """Return the loops, and where each operand begins."""
    expression = workload.expression
    all_views, operands = _operands(workload)
    strides = [
        views.broadcast_strides(view, operand.shape, expression.shape)
        for view, operand in zip(all_views, operands, strict=True)
    ]
    order = views.order_by(strides[len(expression.inputs)])  # writes are contiguous
    space = views.collapse([expression.shape[d] for d in order], [[own[d] for d in order] for own in strides])
    return space, tuple(view.offset for view in all_views)


@dataclass(frozen=True)
class _Kernel:
    """The loops of one kernel and what is done for each vector."""

    expression: Expression
    space: Space
    memories: Sequence[Memory]
    schedule: Schedule

    def emit(self, bases: tuple[int, ...]) -> None:
        """Emit loops over vectors, or over tiles where an input is contiguous along an outer loop."""
        schedule, loop = self.schedule, self._tiled_loop()
        side = min(schedule.lanes, MAX_SIDE)

        def vectors() -> None:
            Nest(self.space, bases, schedule.lanes, schedule.tasks, self._vector).emit()

        if loop is None or side < 2:
            vectors()
            return

        def tiles() -> None:
            tir.either(
                tir.reaches(self.space.sizes[-1], side), lambda: self._tiles(loop, side, bases), vectors
            )

        tir.either(tir.reaches(self.space.sizes[loop], side), tiles, vectors)

    def _tiles(self, loop: int, side: int, bases: tuple[int, ...]) -> None:
        """Emit loops over tiles of `side` steps of a loop and of the innermost one, both of which have as many."""
        size, tasks = self.space.sizes[loop], self.schedule.tasks
        body = functools.partial(self._tile, loop)
        Nest(_with_loop(self.space, loop, size // side, side), bases, side, tasks, body, whole=True).emit()
        if isinstance(size % side, Extent) or size % side:
            # The last tiles overlap those before them.
            last = tuple(
                base + (size - side) * own[loop] for base, own in zip(bases, self.space.strides, strict=True)
            )
            Nest(_with_loop(self.space, loop, 1, 1), last, side, tasks, body, whole=True).emit()

    def _is_permuted(self, operand: int, loop: int) -> bool:
        own = self.space.strides[operand]
        inner = extent.same(own[-1], 0) or extent.same(own[-1], 1)
        return extent.same(own[loop], 1) and not inner and self.memories[operand].dtype != "bool"

    def _tiled_loop(self) -> int | None:
        """The outer loop that most inputs are contiguous along without being so along the innermost."""
        inputs = range(len(self.expression.inputs))
        outer = range(len(self.space.sizes) - 1)
        votes = {loop: sum(self._is_permuted(operand, loop) for operand in inputs) for loop in outer}
        best = max(votes, key=lambda loop: votes[loop], default=None)
        return best if best is not None and votes[best] else None

    def _vector(self, offsets: Sequence[Index], lanes: int) -> None:
        """Load, compute and store one vector."""
        count = len(self.expression.inputs)
        steps = [own[-1] for own in self.space.strides]
        triples = zip(self.memories[:count], offsets, steps, strict=False)
        self._compute(
            [views.load(memory, offset, step, lanes) for memory, offset, step in triples], offsets, lanes
        )

    def _tile(self, loop: int, offsets: Sequence[Index], lanes: int) -> None:
        """Load permuted inputs as tiles, then compute row by row."""
        inputs = range(len(self.expression.inputs))
        steps = [own[-1] for own in self.space.strides]
        tiles = {
            k: Tile(self.memories[k], offsets[k], steps[k], lanes)
            for k in inputs
            if self._is_permuted(k, loop)
        }
        for half in range(2):
            with tir.loop(lanes // 2) as row:
                distance = half * (lanes // 2) + row
                moved = [
                    offset + distance * own[loop]
                    for offset, own in zip(offsets, self.space.strides, strict=True)
                ]
                loads = [
                    tiles[k].row(half, row)
                    if k in tiles
                    else views.load(self.memories[k], moved[k], steps[k], lanes)
                    for k in inputs
                ]
                self._compute(loads, moved, lanes)

    def _compute(self, loads: Sequence[Any], offsets: Sequence[Index], lanes: int) -> None:
        count = len(self.expression.inputs)
        results = emit(self.expression, loads, lanes)
        for k, value in enumerate(results, start=count):
            views.store(self.memories[k], value, offsets[k], self.space.strides[k][-1], lanes)


def _with_loop(space: Space, loop: int, size: int, factor: int) -> Space:
    """The space with another size of one loop, each step of which is `factor` steps."""
    sizes = (*space.sizes[:loop], size, *space.sizes[loop + 1 :])
    strides = tuple((*own[:loop], own[loop] * factor, *own[loop + 1 :]) for own in space.strides)
    return Space(sizes, strides)
