"""Transposed convolution, NHWC, as ordinary convolutions: one for each phase of the stride.

Output pixels whose places leave the same remainder modulo the stride read the same taps of the kernel, and neighbours
among them neighbouring pixels of the input: each such phase is a direct convolution of stride 1 with some taps of the
weight, in reverse. Nothing is multiplied with zeros that a stride would put between pixels. The phases follow one
another in one kernel; each stores its pixels with the epilogue at their places in the output.

Two threads of a Zen 5 with bias and ReLU from NCHW to NCHW, against PyTorch's JIT (us): 4x4 stride 2, 256 to 128
channels at 16x16 976 / 1381; 2x2 stride 2, 128 to 64 at 64x64 1643 / 4359; 3x3 stride 2, 64 to 32 at 56x56 546 / 1133;
one dimension, 16 taps of stride 8, 256 to 128 at 200 769 / 1165.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import conv2d, extent, tir
from torch_tvm.kernels import epilogue as epilogues
from torch_tvm.kernels.conv_schedule import Schedule, row_schedule
from torch_tvm.kernels.conv_shape import Conv2d, Depth
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression
from torch_tvm.kernels.target import CpuTarget


@dataclass(frozen=True)
class ConvTranspose:
    """A transposed convolution of two or three dimensions, as PyTorch's; input and output are NHWC or NDHWC.

    Parameters
    ----------
    sizes
        Height and width of the input, its depth before them if there is one; in this order all that follow.
    channels, filters
        Of the input and of the output, over all groups.
    padding
        What is cut off from the full result: before each dimension, then behind each.
    input_slice
        As of `Conv2d`.

    Examples
    --------
    >>> from torch_tvm.kernels.conv_transpose import ConvTranspose
    >>> ConvTranspose(1, (16, 16), 64, 32, kernel=(4, 4), stride=(2, 2), padding=(1, 1, 1, 1)).output_shape
    (1, 32, 32, 32)
    """

    batch: int
    sizes: tuple[int, ...]
    channels: int
    filters: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    dtype: str = "float32"
    input_slice: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Fill in what was left out, and refuse what has no output."""
        for name, default in (("padding", (0,) * 2), ("output_padding", (0,)), ("dilation", (1,))):
            object.__setattr__(self, name, getattr(self, name) or default * self.rank)
        if any(size < 1 for size in (*self.kernel, *self.stride, *self.dilation, *self.output_shape)):
            raise ValueError(f"expected sizes of at least 1 and an output in {self}")
        if self.channels % self.groups or self.filters % self.groups:
            raise ValueError(f"{self.groups} groups do not divide the channels or filters of {self}")

    @property
    def rank(self) -> int:
        """Spatial dimensions: 2 or 3."""
        return len(self.sizes)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight as PyTorch has it."""
        return (self.channels, self.filters // self.groups, *self.kernel)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input tensor."""
        pixel = self.input_slice[1] if self.input_slice is not None else self.channels
        return (self.batch, *self.sizes, pixel)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output tensor."""
        return (self.batch, *(self._extent(axis) for axis in range(self.rank)), self.filters)

    def _extent(self, axis: int) -> int:
        reach = self.dilation[axis] * (self.kernel[axis] - 1)
        cut = self.padding[axis] + self.padding[axis + self.rank]
        return (self.sizes[axis] - 1) * self.stride[axis] + reach + 1 + self.output_padding[axis] - cut

    @property
    def flops(self) -> int:
        """Floating-point operations, counting taps that fall outside the image."""
        return sum(phase.workload.flops for phase in self.phases if phase.workload is not None)

    @property
    def phases(self) -> list[Phase]:
        """The convolutions that it consists of, none for a remainder that no output pixel has."""
        axes = [self._axis_phases(axis) for axis in range(self.rank)]
        return [self._phase(position) for position in itertools.product(*axes)]

    def _axis_phases(self, axis: int) -> list[_AxisPhase]:
        stride, dilation, padding = self.stride[axis], self.dilation[axis], self.padding[axis]
        found = []
        for first in range(int(extent.least_of(stride, self._extent(axis)))):
            taps = [k for k in range(self.kernel[axis]) if (first + padding - k * dilation) % stride == 0]
            reads = [(first + padding - k * dilation) // stride for k in taps]
            count = -(-(self._extent(axis) - first) // stride)
            found.append(_AxisPhase(first, count, tuple(taps[::-1]), tuple(reads[::-1])))
        return found

    def _phase(self, position: Sequence[_AxisPhase]) -> Phase:
        first, counts, taps = (
            tuple(getattr(axis, name) for axis in position) for name in ("first", "count", "taps")
        )
        if not all(taps):
            return Phase(first, counts, taps, None)
        *planes, rows, columns = position
        *depths, height, width = self.sizes
        top, bottom = rows.padding(height)
        left, right = columns.padding(width)
        convolution = Conv2d(
            self.batch,
            height,
            width,
            self.channels,
            self.filters,
            kernel=(len(rows.taps), len(columns.taps)),
            padding=(top, left, bottom, right),
            dilation=(rows.dilation, columns.dilation),
            groups=self.groups,
            dtype=self.dtype,
            input_slice=self.input_slice,
            depth=planes[0].depth(depths[0]) if planes else None,
        )
        return Phase(first, counts, taps, convolution)


@dataclass(frozen=True)
class _AxisPhase:
    """`count` outputs along one axis, a stride apart from `first` on: output i reads taps[j] at input i + reads[j]."""

    first: int
    count: int
    taps: tuple[int, ...]
    reads: tuple[int, ...]

    @property
    def dilation(self) -> int:
        return self.reads[1] - self.reads[0] if len(self.reads) > 1 else 1

    def padding(self, size: int) -> tuple[int, int]:
        """Return how far outputs read before and behind an input of some size, negative where not all is read."""
        return -self.reads[0], self.count + self.reads[-1] - size

    def depth(self, size: int) -> Depth:
        """Return the phase as the outermost dimension of a convolution."""
        return Depth(size, len(self.taps), 1, self.padding(size), self.dilation)


@dataclass(frozen=True)
class Phase:
    """One phase of a transposed convolution.

    Parameters
    ----------
    first, extent
        The output row and column (and plane) that it begins with, and how many it has of them.
    taps
        Places of the kernel that it reads along each dimension, in the order in which `workload` has them.
    workload
        What it computes; None where it reads no taps.
    """

    first: tuple[int, ...]
    extent: tuple[int, ...]
    taps: tuple[tuple[int, ...], ...]
    workload: Conv2d | None


@dataclass(frozen=True)
class _Interleaved(epilogues.Epilogue):
    """Stores the pixels of a phase at their places."""

    stride: tuple[int, ...]
    first: tuple[int, ...]

    def store(self, result: tir.Value, index: Sequence[tir.Index], count: int, *others: tir.Value) -> None:
        image, *pixel, column = index
        places = [i * s + f for i, s, f in zip(pixel, self.stride, self.first, strict=True)]
        super().store(result, [image, *places, column], count, *others)


def default_schedule(workload: ConvTranspose, target: CpuTarget, threads: int = 1) -> tuple[Schedule, ...]:
    """Choose a schedule for each phase that reads any taps."""
    workloads = [phase.workload for phase in workload.phases if phase.workload is not None]
    return tuple(row_schedule(w, target, threads) for w in workloads)


def packed_shape(workload: ConvTranspose, schedules: Sequence[Schedule]) -> tuple[int]:
    """Shape of the packed weights: those of all phases, one behind the other."""
    return (sum(math.prod(conv2d.packed_shape(w, s)) for _, w, s, _ in _parts(workload, schedules)),)


def _parts(
    workload: ConvTranspose, schedules: Sequence[Schedule]
) -> Iterator[tuple[Phase, Conv2d, Schedule, int]]:
    """List the phases that read any taps, each with its schedule and where its packed weights begin."""
    first, rest = 0, iter(schedules)
    for phase in workload.phases:
        if phase.workload is not None:
            schedule = next(rest)
            yield phase, phase.workload, schedule, first
            first += math.prod(conv2d.packed_shape(phase.workload, schedule))


def build_pack(workload: ConvTranspose, schedules: Sequence[Schedule], name: str) -> PrimFunc:
    """Build the kernel (weight, packed); the weight has PyTorch's shape `workload.weight_shape`."""

    def body(weight: tir.Buffer, packed: tir.Buffer) -> None:
        for phase, w, schedule, first in _parts(workload, schedules):
            shape = conv2d.packed_shape(w, schedule)
            part = tir.reshaped(packed, shape, w.dtype, first)
            if schedule.across_groups:
                _pack_across_groups(w, phase, weight, part)
            else:
                _pack_panels(w, phase, schedule, weight, part)

    parameters = [
        tir.Parameter("weight", workload.weight_shape, workload.dtype),
        tir.Parameter("packed", packed_shape(workload, schedules), workload.dtype),
    ]
    return tir.kernel(name, parameters, body)


def _taps(phase: Phase) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """List row and column in the phase's kernel of each tap, rows being those of all planes, and its place in the weight."""
    *outer, columns = phase.taps
    for r, place in enumerate(itertools.product(*outer)):
        for t, column in enumerate(columns):
            yield r, t, (*place, column)


def _pack_across_groups(w: Conv2d, phase: Phase, weight: tir.Buffer, packed: tir.Buffer) -> None:
    with tir.loop(w.group_channels) as c, tir.loop(w.filters) as f:
        group, filter_ = f // w.group_filters, f % w.group_filters
        for r, t, place in _taps(phase):
            value = weight[(group * w.group_channels + c, filter_, *place)]
            T.buffer_store(packed, value, [r, t, c, f])


def _pack_panels(w: Conv2d, phase: Phase, s: Schedule, weight: tir.Buffer, packed: tir.Buffer) -> None:
    groups, panels = conv2d.packed_shape(w, s)[:2]
    with tir.loop(groups * panels, parallel=s.parallel) as task, tir.loop(w.group_channels) as c:
        group, panel = tir.unravel(task, (groups, panels))
        for r, t, place in _taps(phase):
            with tir.loop(s.width) as n:
                # Columns beyond the last filter are computed and not stored.
                f = T.min(panel * s.width + n, w.group_filters - 1)
                value = weight[(group * w.group_channels + c, f, *place)]
                T.buffer_store(packed, value, [group, panel, r, t, c, n])


def build(
    workload: ConvTranspose,
    schedules: Sequence[Schedule],
    target: CpuTarget,
    name: str,
    epilogue: Expression | PlacedExpression | None = None,
) -> PrimFunc:
    """Build the kernel (input, packed weights, extra inputs of the epilogue ..., outputs ...).

    Parameters
    ----------
    epilogue
        Its shape is `workload.output_shape` (NHWC), its input 0 the transposed convolution.
    """
    expression = epilogues.resolve(epilogue, workload.output_shape, workload.dtype)
    operands = [
        tir.Parameter("input", workload.input_shape, workload.dtype),
        tir.Parameter("weight", packed_shape(workload, schedules), workload.dtype),
    ]

    def finish(phase: Phase, rest: Sequence[tir.Buffer]) -> _Interleaved:
        end = epilogues.bind(expression, rest, target.lanes(workload.dtype))
        return _Interleaved(end.expression, end.extras, end.outputs, end.lanes, workload.stride, phase.first)

    def body(source: tir.Buffer, weight: tir.Buffer, *rest: tir.Buffer) -> None:
        for phase, w, schedule, first in _parts(workload, schedules):
            part = tir.reshaped(weight, conv2d.packed_shape(w, schedule), w.dtype, first)
            conv2d.emit_rows(w, schedule, target, source, part, finish(phase, rest))
        for phase in workload.phases:
            if phase.workload is None:
                _emit_nothing(workload, phase, finish(phase, rest))

    return epilogues.kernel(name, operands, expression, body)


def _emit_nothing(w: ConvTranspose, phase: Phase, epilogue: epilogues.Epilogue) -> None:
    """Emit the pixels that no input reaches: the epilogue of zero."""
    with tir.loop(w.batch * math.prod(phase.extent)) as pixel:
        place = tir.unravel(pixel, (w.batch, *phase.extent))

        def store(first: tir.Index, count: int) -> None:
            zero = tir.constant(0, w.dtype, epilogue.lanes)
            epilogue.store(zero, [*place, first], count)

        tir.for_run(w.filters, epilogue.lanes, store)
