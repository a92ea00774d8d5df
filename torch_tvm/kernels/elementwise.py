"""Stand-alone element-wise kernels: one pass over memory for a whole `Expression`, whatever is broadcast, permuted or sliced.

Loops that all operands walk through alike are fused, the innermost one is vectorised, and the outer ones run in parallel. An
operand whose unit stride lies in another loop (a permutation) is read lane by lane.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx import PrimFunc

from torch_tvm.kernels import tir, views
from torch_tvm.kernels.expression import Expression, Operand, emit
from torch_tvm.kernels.nest import Nest, task_count
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.views import Space, View

Index = Any  # int or PrimExpr

# Nanoseconds per vector of 64 bytes, measured on Zen 5: a load or store that hits L2, an instruction of one or a few machine
# instructions, a polynomial, a libm call (per lane).
_MEMORY_NS, _SIMPLE_NS, _POLYNOMIAL_NS, _LIBM_NS = 2.0, 0.5, 6.0, 8.0
_POLYNOMIALS = frozenset(
    "exp expm1 log log1p log2 log10 tanh sigmoid erf gelu gelu_tanh silu divide sqrt rsqrt".split()
)
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
    return tuple(
        view or views.contiguous(operand.shape) for view, operand in zip(padded, operands, strict=True)
    )


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
    expression = workload.expression
    all_views = (*workload.input_views, *workload.output_views)
    operands = (*expression.inputs, *expression.output_operands)
    strides = [
        views.broadcast_strides(view, operand.shape, expression.shape)
        for view, operand in zip(all_views, operands, strict=True)
    ]
    space = views.collapse(expression.shape, strides)
    bases = tuple(view.offset for view in all_views)
    parameters = [
        tir.Parameter(f"{'x' if k < len(expression.inputs) else 'y'}{k}", view.buffer_shape, operand.dtype)
        for k, (view, operand) in enumerate(zip(all_views, operands, strict=True))
    ]

    def body(*buffers: Any) -> None:
        flat = [views.flat(b, p.shape, p.dtype) for b, p in zip(buffers, parameters, strict=True)]
        compute = functools.partial(_vector, expression, space, flat)
        Nest(space, bases, schedule.lanes, schedule.tasks, compute).emit()

    return tir.kernel(name, parameters, body)


def _vector(
    expression: Expression, space: Space, buffers: Sequence[Any], offsets: Sequence[Index], lanes: int
) -> None:
    """Load, compute and store one vector."""
    count = len(expression.inputs)
    steps = [strides[-1] for strides in space.strides]
    loads = [
        views.load(buffer, offset, step, lanes)
        for buffer, offset, step in zip(buffers[:count], offsets, steps, strict=False)
    ]
    results = emit(expression, loads, lanes)
    for buffer, offset, step, value in zip(
        buffers[count:], offsets[count:], steps[count:], results, strict=True
    ):
        views.store(buffer, value, offset, step, lanes)
