"""Pooling of NHWC tensors over windows of height and width: maximum and average, regular and adaptive.

Vectors run along the channels. Windows that lie inside the image have constant bounds and are unrolled; those at a border, and
adaptive ones of varying size, run over the part of the window that lies inside, so nothing is ever padded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import elementwise, extent, instructions, reduction, rows, tir, views
from torch_tvm.kernels.expression import FLOATS, Expression, Operand, emit, identity
from torch_tvm.kernels.extent import Size
from torch_tvm.kernels.nest import Schedule, task_count
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.views import View

Index = Any  # int or PrimExpr
Value = Any  # PrimExpr

# Per vector of the input that a window reads: a load that hits the cache and one or three operations.
_TAP_NS = 0.7
# Windows up to this size are unrolled.
_UNROLL_LIMIT = 25


@dataclass(frozen=True)
class Pool2d:
    """Pooling as `torch.nn.functional.max_pool2d` and `avg_pool2d` define it, on NHWC.

    Parameters
    ----------
    shape
        (batch, height, width, channels) of the input; no size is zero.
    operator
        "max" (NaN wins) or "avg".
    kernel, stride, dilation
        (height, width) each; "avg" takes dilation (1, 1) only.
    padding
        (top, left, bottom, right).
    ceil_mode
        Whether a last, incomplete window counts; one that would begin in the padding never does.
    count_include_pad
        Whether "avg" divides by the padded window's size.
    divisor
        What "avg" divides by instead, if not None.
    output_size
        (height, width) of adaptive pooling; kernel, stride, padding and dilation are then unused.
    dtype
        Of input and result; float16 and bfloat16 are computed in float32.
    epilogue
        What is done with the result; its input 0 is `result`. None rounds to the input's dtype.
    source
        What is pooled, of shape `shape` and dtype `dtype`; None reads it from memory as it is.
    views, epilogue_views, output_views
        One `View` or None for each of the source's inputs, the epilogue's further inputs and the outputs; empty means all
        contiguous.

    Examples
    --------
    >>> from torch_tvm.kernels import host_target, pooling
    >>> workload = pooling.Pool2d((1, 112, 112, 64), "max", kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    >>> workload.result.shape
    (1, 56, 56, 64)
    >>> schedule = pooling.default_schedule(workload, host_target(), threads=2)
    >>> str(pooling.build(workload, schedule, host_target(), "pool").attrs["global_symbol"])
    'pool'
    """

    shape: tuple[int, int, int, int]
    operator: str
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor: int | None = None
    output_size: tuple[int, int] | None = None
    dtype: str = "float32"
    epilogue: Expression | None = None
    source: Expression | None = None
    views: tuple[View | None, ...] = ()
    epilogue_views: tuple[View | None, ...] = ()
    output_views: tuple[View | None, ...] = ()

    def __post_init__(self) -> None:
        """Check operator, sizes and dtype."""
        if self.operator not in ("max", "avg"):
            raise ValueError(f"pooling is 'max' or 'avg', got {self.operator!r}")
        if self.dtype == "bool" or (self.operator == "avg" and self.dtype not in FLOATS):
            raise ValueError(
                f"{self.operator} pooling takes {'floats' if self.operator == 'avg' else 'numbers'}, got {self.dtype}"
            )
        if self.operator == "avg" and self.dilation != (1, 1):
            raise ValueError(f"average pooling takes dilation (1, 1), got {self.dilation}")
        if (
            math.prod(self.shape) == 0
            or min(self.kernel + self.stride + self.dilation) < 1
            or self.divisor == 0
        ):
            raise ValueError(
                f"sizes, kernel, stride, dilation and divisor of pooling are positive, got {self}"
            )
        outputs = tuple(axis.outputs for axis in self.axes)
        if any(count < 1 for count in outputs):
            raise ValueError(
                f"pooling of {self.shape} with kernel {self.kernel} gives an image of size {outputs}"
            )
        rows.check_epilogue(self.epilogue, self.result)
        rows.check_source(self.pooled, (), self.views)
        if self.pooled.output_operands[0] != Operand(self.shape, self.dtype):
            raise ValueError(f"the source gives {self.pooled.output_operands[0]}, not the input of {self}")

    @property
    def pooled(self) -> Expression:
        """What is pooled."""
        return self.source or identity(self.shape, self.dtype)

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """The windows along height and width."""
        if self.output_size is not None:
            return tuple(
                _adaptive(size, out) for size, out in zip(self.shape[1:3], self.output_size, strict=True)
            )  # type: ignore[return-value]
        return tuple(  # type: ignore[return-value]
            _regular(
                self.shape[1 + d],
                self.kernel[d],
                self.stride[d],
                self.padding[d],
                self.padding[d + 2],
                self.dilation[d],
                self.ceil_mode,
            )
            for d in range(2)
        )

    @property
    def result(self) -> Operand:
        """Shape of the result and the dtype that it is computed in."""
        height, width = self.axes
        shape = (self.shape[0], height.outputs, width.outputs, self.shape[3])
        return Operand(shape, rows.accumulation_dtype(self.dtype))


@dataclass(frozen=True)
class Axis:
    """The windows along one dimension; `adaptive` ones are output i's share of `size`."""

    size: Size
    outputs: Size
    kernel: Size
    stride: Size = 1
    before: int = 0
    after: int = 0
    dilation: int = 1
    adaptive: bool = False

    @property
    def interior(self) -> tuple[Size, Size]:
        """The range of outputs whose windows lie inside and are `kernel` large."""
        if self.adaptive:
            return 0, 0
        reach = (self.kernel - 1) * self.dilation
        first = extent.least_of(self.outputs, -(-self.before // self.stride)) if self.before else 0
        end = (self.size - 1 - reach + self.before) // self.stride + 1
        return first, extent.greatest_of(first, extent.least_of(self.outputs, end))

    def window(self, output: Index) -> tuple[Index, Index]:
        """First position and number of taps inside the image."""
        if self.adaptive:
            start = T.floordiv(output * self.size, self.outputs)
            return start, T.floordiv((output + 1) * self.size + self.outputs - 1, self.outputs) - start
        start = output * self.stride - self.before
        skipped = T.max(0, T.floordiv(self.dilation - 1 - start, self.dilation))
        end = T.min(self.kernel, T.floordiv(self.size - start + self.dilation - 1, self.dilation))
        return start + skipped * self.dilation, end - skipped

    def padded_taps(self, output: Index) -> Index:
        """Size of the window with the padding that it covers, but not what `ceil_mode` adds beyond."""
        start = output * self.stride - self.before
        return T.min(self.kernel, self.size + self.after - start)


def _regular(
    size: Size, kernel: int, stride: int, before: int, after: int, dilation: int, ceil_mode: bool
) -> Axis:
    free = size + before + after - dilation * (kernel - 1) - 1
    outputs = (-(-free // stride) if ceil_mode else free // stride) + 1
    if ceil_mode and (outputs - 1) * stride >= size + before:
        outputs -= 1
    return Axis(size, outputs, kernel, stride, before, after, dilation)


def _adaptive(size: Size, outputs: int) -> Axis:
    if outputs > 0 and extent.same(size % outputs, 0):
        return Axis(size, outputs, size // outputs, size // outputs)
    return Axis(size, outputs, -(-size // max(1, outputs)) + 1, adaptive=True)


def default_schedule(workload: Pool2d, target: CpuTarget, threads: int) -> Schedule:
    """Fill a register with channels and split rows of the output between threads by their estimated time."""
    lanes = target.lanes(rows.accumulation_dtype(workload.dtype))
    height, width = workload.axes
    taps = math.prod(workload.result.shape) / lanes * height.kernel * width.kernel
    computed = elementwise.vector_nanoseconds(workload.pooled, lanes) if workload.source else 0.0
    return Schedule(lanes, task_count(taps * (_TAP_NS + computed), threads))


def build(workload: Pool2d, schedule: Schedule, target: CpuTarget, name: str) -> PrimFunc:
    """Build the kernel `name`(source inputs..., epilogue inputs[1:]..., outputs...)."""
    epilogue = workload.epilogue or rows.rounding(workload.result.shape, workload.dtype)
    given = (workload.views, workload.epilogue_views, workload.output_views)
    # The loops are those of the result; the source has an index of its own.
    parts = rows.complete_parts(workload.pooled, epilogue, given)
    sources = len(workload.pooled.inputs)

    def body(*buffers: Any) -> None:
        flat = [views.flat(b, p.shape, p.dtype) for b, p in zip(buffers, parts.parameters, strict=True)]
        operands = [
            _Operand(memory, view.offset, own)
            for memory, view, own in zip(flat, parts.all_views, parts.strides, strict=True)
        ]
        extras, results = operands[sources:][: len(epilogue.inputs) - 1], operands[-len(epilogue.outputs) :]

        def load(at: Sequence[Index], lanes: int) -> Value:
            loads = [operand.load(at, lanes) for operand in operands[:sources]]
            return instructions.unpack(emit(workload.pooled, loads, lanes)[0], workload.dtype, lanes)

        def store(at: Sequence[Index], value: Value, lanes: int) -> None:
            values = emit(epilogue, [value, *(operand.load(at, lanes) for operand in extras)], lanes)
            for operand, result in zip(results, values, strict=True):
                operand.store(at, result, lanes)

        _Pooling(workload, schedule, load, store).emit()

    return tir.kernel(name, parts.parameters, body)


@dataclass(frozen=True)
class _Operand:
    """The memory of an operand and its strides over (n, y, x, c)."""

    memory: views.Memory
    offset: int
    strides: tuple[int, ...]

    def _at(self, at: Sequence[Index]) -> Index:
        return self.offset + sum(i * s for i, s in zip(at, self.strides, strict=True))

    def load(self, at: Sequence[Index], lanes: int) -> Value:
        return views.load(self.memory, self._at(at), self.strides[3], lanes)

    def store(self, at: Sequence[Index], value: Value, lanes: int) -> None:
        views.store(self.memory, value, self._at(at), self.strides[3], lanes)


@dataclass(frozen=True)
class _Pooling:
    """The loops of one kernel; `load((n, y, x, c), lanes)` gives the input, `store` takes the results."""

    workload: Pool2d
    schedule: Schedule
    load: Callable[[Sequence[Index], int], Value]
    store: Callable[[Sequence[Index], Value, int], None]

    def emit(self) -> None:
        """Emit one task per row of the output, or per part of the channels of a row where rows are too few."""
        batch, rows_out = self.workload.shape[0], self.workload.axes[0].outputs
        parts = min(self._vectors, -(-self.schedule.tasks // extent.hint(batch * rows_out)))
        shape = (batch, rows_out, parts)
        with tir.loop(math.prod(shape), parallel=self.schedule.tasks > 1) as task:
            n, y, part = tir.unravel(task, shape)
            bounds = part * self._vectors // parts, (part + 1) * self._vectors // parts
            self._row(n, y, (0, self._vectors) if parts == 1 else bounds)

    @property
    def _lanes(self) -> int:
        return min(self.schedule.lanes, self.workload.shape[3])

    @property
    def _vectors(self) -> int:
        """Vectors that the channels of a pixel make; the last one overlaps the one before where they do not fill it."""
        return -(-self.workload.shape[3] // self._lanes)

    def _row(self, n: Index, y: Index, vectors: tuple[Index, Index]) -> None:
        height, width = self.workload.axes
        (top, bottom), (left, right) = height.interior, width.interior
        unrolled = extent.at_least(_UNROLL_LIMIT, height.kernel * width.kernel)
        if not unrolled or extent.same(top, bottom) or extent.same(left, right):
            self._pixels(n, y, 0, width.outputs, vectors, inside=False)
            return
        if extent.same(top, 0) and extent.same(bottom, height.outputs):
            self._inside_row(n, y, vectors)
            return
        y, bottom = tir.expressions((y, bottom))
        with T.If(T.And(top <= y, y < bottom) if top else y < bottom):
            with T.Then():
                self._inside_row(n, y, vectors)
            with T.Else():
                self._pixels(n, y, 0, width.outputs, vectors, inside=False)

    def _inside_row(self, n: Index, y: Index, vectors: tuple[Index, Index]) -> None:
        width = self.workload.axes[1]
        left, right = width.interior
        self._pixels(n, y, 0, left, vectors, inside=False)
        self._pixels(n, y, left, right, vectors, inside=True)
        self._pixels(n, y, right, width.outputs, vectors, inside=False)

    def _pixels(
        self, n: Index, y: Index, first: Size, end: Size, vectors: tuple[Index, Index], *, inside: bool
    ) -> None:
        if extent.same(first, end):
            return
        lanes, channels = self._lanes, self.workload.shape[3]
        with tir.loop(end - first) as step:
            if channels % lanes == 0:
                with tir.loop_between(*vectors) as vector:
                    self._vector(n, y, first + step, vector * lanes, lanes, inside=inside)
                return
            whole = channels // lanes
            with tir.loop_between(vectors[0], tir.clamp_index(vectors[1], 0, whole)) as vector:
                self._vector(n, y, first + step, vector * lanes, lanes, inside=inside)
            if isinstance(vectors[1], int):
                self._vector(n, y, first + step, channels - lanes, lanes, inside=inside)
                return
            with T.If(vectors[1] > whole), T.Then():
                self._vector(n, y, first + step, channels - lanes, lanes, inside=inside)

    def _vector(self, n: Index, y: Index, x: Index, c: Index, lanes: int, *, inside: bool) -> None:
        """Pool one vector of channels of one output pixel."""
        workload, held = self.workload, rows.accumulation_dtype(self.workload.dtype)
        height, width = workload.axes
        largest = workload.operator == "max"
        initial, combine = reduction.SIMPLE["max"](held) if largest else (0.0, rows.add)
        total = tir.scratch(held, lanes)
        tir.store(total, tir.constant(initial, held, lanes), (0,), lanes)

        def tap(row: Index, column: Index) -> None:
            value = self.load((n, row, column, c), lanes)
            tir.store(total, combine(tir.load(total, (0,), lanes), value, lanes), (0,), lanes)

        if inside:
            top, left = (o * axis.stride - axis.before for axis, o in ((height, y), (width, x)))
            for i in range(height.kernel):
                for j in range(width.kernel):
                    tap(top + i * height.dilation, left + j * width.dilation)
        else:
            (top, rows_count), (left, columns_count) = height.window(y), width.window(x)
            with T.serial(0, rows_count) as i, T.serial(0, columns_count) as j:
                tap(top + i * height.dilation, left + j * width.dilation)
        value = tir.load(total, (0,), lanes)
        if not largest:
            value = T.Div(
                value, tir.materialise(self._divisor(y, x, held, lanes, inside=inside), held, lanes)
            )
        self.store((n, y, x, c), tir.materialise(value, held, lanes), lanes)

    def _divisor(self, y: Index, x: Index, dtype: str, lanes: int, *, inside: bool) -> Value:
        height, width = self.workload.axes
        if self.workload.divisor is not None:
            return tir.constant(float(self.workload.divisor), dtype, lanes)
        if inside:
            return tir.constant(float(height.kernel * width.kernel), dtype, lanes)
        if self.workload.count_include_pad and not (height.adaptive or width.adaptive):
            count = height.padded_taps(y) * width.padded_taps(x)
        else:
            count = height.window(y)[1] * width.window(x)[1]
        return tir.broadcast(T.cast(count, dtype), lanes)
