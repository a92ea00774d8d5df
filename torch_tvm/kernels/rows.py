"""What softmax, normalisation and reductions share: for every row, sweeps over the reduced dimensions with vector accumulators.

A row is one position of the kept dimensions. Where the contiguous dimension is reduced, vectors run along it and the lanes are
combined at the end of a sweep; otherwise vectors run along the kept dimensions and one body computes `lanes` rows at once.
Row kernels read their data through a source `Expression` and may pass results through an epilogue `Expression`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from torch_tvm.kernels import extent, instructions, tir, views
from torch_tvm.kernels.expression import Expression, Instruction, Operand, emit
from torch_tvm.kernels.extent import Extent, Size
from torch_tvm.kernels.nest import Nest, Schedule, advance, task_count
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.views import Space, View

Index = Any  # int or PrimExpr
Value = Any  # PrimExpr
Combine = Callable[[Value, Value, int], Value]
ValueAt = Callable[["Point"], Value]
Flush = Callable[[], None] | None

# Independent accumulators hide the latency of an addition (4 cycles, two a cycle). After FLUSH additions one is added to a second
# level with Kahan's compensation, so that the error of a float32 sum stays that of FLUSH additions however long the row is.
UNROLL, FLUSH = 4, 16


def accumulation_dtype(dtype: str) -> str:
    """The dtype that rows of `dtype` are computed in."""
    return "float32" if dtype in ("float16", "bfloat16") else dtype


@dataclass(frozen=True)
class Layout:
    """The iteration space of a row kernel, split into the loops over rows and the loops within one.

    Both list the strides of all operands: the source's inputs, then whatever the kernel adds.
    """

    kept: Space
    reduced: Space
    along_row: bool  # vectors run along the reduced dimensions

    @property
    def row_size(self) -> Size:
        """Elements in one row."""
        return math.prod(self.reduced.sizes)


def layout(
    shape: Sequence[int], axes: Sequence[int], strides: Sequence[Sequence[int]], *, ordered: bool = False
) -> Layout:
    """Split an iteration space; the loop that is contiguous in the first operand becomes the innermost of its group.

    `ordered` keeps the reduced dimensions in their order, for kernels to which the position within a row matters.
    """
    lead = strides[0]
    groups = [[d for d in range(len(shape)) if d not in axes], [d for d in range(len(shape)) if d in axes]]
    contiguous = [
        d for d, size in enumerate(shape) if not extent.same(size, 1) and extent.same(abs(lead[d]), 1)
    ]
    single = extent.same(math.prod(shape[d] for d in groups[0]), 1)
    along_row = (bool(contiguous) and contiguous[-1] in axes) or single
    spaces = []
    for group, keep_order in zip(groups, (False, ordered), strict=True):
        # Dimensions that the first operand is broadcast over go outermost.
        dims = group if keep_order else sorted(group, key=lambda d: (_distance(lead[d]), d))
        spaces.append(views.collapse([shape[d] for d in dims], [[s[d] for d in dims] for s in strides]))
    return Layout(spaces[0], spaces[1], along_row)


def _distance(stride: Size) -> float:
    return -abs(extent.hint(stride)) if extent.hint(stride) else -math.inf


def check_source(source: Expression, axes: Sequence[int], given: Sequence[View | None]) -> None:
    """Raise ValueError unless the source has one output, elements, and these axes and views."""
    if len(source.outputs) != 1:
        raise ValueError(f"the source of a row kernel has one output, got {len(source.outputs)}")
    if math.prod(source.shape) == 0:
        raise ValueError(f"a row kernel reduces at least one element, got shape {source.shape}")
    if len(set(axes)) != len(axes) or any(not 0 <= axis < len(source.shape) for axis in axes):
        raise ValueError(f"axes of shape {source.shape} are distinct and not negative, got {tuple(axes)}")
    if given and len(given) != len(source.inputs):
        raise ValueError(f"the source has {len(source.inputs)} inputs, got {len(given)} views")
    for view, operand in zip(given, source.inputs, strict=False):
        if view is not None:
            view.check(operand.shape, "input")


def check_epilogue(epilogue: Expression | None, result: Operand) -> None:
    """Raise ValueError unless an epilogue takes what the kernel computes."""
    if epilogue is not None and (
        not epilogue.inputs or epilogue.inputs[0] != result or epilogue.shape != result.shape
    ):
        raise ValueError(
            f"the epilogue's input 0 and shape are {result}, got {epilogue.inputs[:1]}, {epilogue.shape}"
        )


def rounding(shape: tuple[int, ...], dtype: str) -> Expression:
    """Make the epilogue that only rounds a result from the dtype it was computed in to `dtype`."""
    held = accumulation_dtype(dtype)
    steps = (Instruction("cast", (0,), dtype),) if held != dtype else ()
    return Expression((Operand(shape, held),), steps, (len(steps),), shape)


def default_schedule(
    found: Layout, source: Expression, target: CpuTarget, threads: int, vector_ns: float
) -> Schedule:
    """Fill a register, or cover a shorter row; split rows between threads at `vector_ns` for each vector of the source."""
    register = target.lanes(accumulation_dtype(source.output_operands[0].dtype))
    size = found.reduced.sizes[-1] if found.along_row else register
    lanes = min(register, 1 << (size - 1).bit_length())
    return Schedule(lanes, task_count(math.prod(source.shape) / lanes * vector_ns, threads))


@dataclass(frozen=True)
class Point:
    """A vector within a row: where each operand has it, and which accumulator is its own."""

    offsets: Sequence[Index]
    lanes: int
    slot: int
    position: Index  # of its first element within the row
    skipped: Index | None = None  # first lanes that another point has

    def fresh(self, value: Value, other: Value) -> Value:
        """Take `other` for lanes that another point has."""
        if self.skipped is None:
            return value
        own = T.GE(T.ramp(0, 1, self.lanes), T.broadcast(self.skipped, self.lanes))
        return T.Select(own, value, other)


class Accumulator:
    """`UNROLL` vectors that are combined to one result for each row."""

    def __init__(self, row: Row, initial: float | int | bool, dtype: str, combine: Combine) -> None:
        self._row, self._dtype, self._combine = row, dtype, combine
        self._initial = initial
        self._slots = [self._filled() for _ in range(UNROLL)]
        self._totals: list[tuple[Any, Any]] = []

    def _filled(self) -> Any:
        buffer = self._row.scratch(self._dtype)
        self._fill(buffer)
        return buffer

    def _fill(self, buffer: Any) -> None:
        lanes = self._row.width
        tir.store(buffer, tir.constant(self._initial, self._dtype, lanes), (0,), lanes)

    def add(self, point: Point, value: Value) -> None:
        """Combine a vector into the point's accumulator."""
        if point.skipped is not None:
            value = point.fresh(value, tir.constant(self._initial, self._dtype, point.lanes))
        buffer = self._slots[point.slot]
        held = tir.load(buffer, (0,), point.lanes)
        tir.store(buffer, self._combine(held, value, point.lanes), (0,), point.lanes)

    def cascade(self) -> None:
        """Give a sum a second level: a total and what its roundings have lost, for each accumulator."""
        self._totals = [(self._filled(), self._filled()) for _ in range(UNROLL)]

    def flush(self) -> None:
        """Move what has accumulated to the second level."""
        lanes = self._row.width
        for slot, (total, lost) in zip(self._slots, self._totals, strict=True):
            old = tir.load(total, (0,), lanes)
            value = tir.materialise(
                tir.load(slot, (0,), lanes) - tir.load(lost, (0,), lanes), self._dtype, lanes
            )
            new = tir.materialise(old + value, self._dtype, lanes)
            grown = tir.materialise(new - old, self._dtype, lanes)
            tir.store(lost, grown - value, (0,), lanes)
            tir.store(total, new, (0,), lanes)
            self._fill(slot)

    def result(self) -> Value:
        """Combine all accumulators: a scalar where vectors run along the row, else one vector of rows."""
        if self._totals:
            self.flush()
        buffers = [total for total, _ in self._totals] or self._slots
        width = self._row.width
        parts = [tir.load(buffer, (0,), width) for buffer in buffers]
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [tir.materialise(self._combine(a, b, width), self._dtype, width) for a, b in pairs]
        return parts[0] if not self._row.along_row else self._horizontal(parts[0], width)

    def _horizontal(self, value: Value, width: int) -> Value:
        while width > 1:
            whole, width = tir.scratch(self._dtype, width), width // 2
            tir.store(whole, value, (0,), width * 2)
            low, high = tir.load(whole, (0,), width), tir.load(whole, (width,), width)
            value = tir.materialise(self._combine(low, high, width), self._dtype, width)
        return value


class Row:
    """What the body of a row kernel works with: one row, or `lanes` rows at once."""

    def __init__(
        self,
        found: Layout,
        source: Expression,
        buffers: Sequence[Any],
        offsets: Sequence[Index],
        lanes: int,
        schedule: Schedule,
    ) -> None:
        self._layout, self._source, self._buffers, self._offsets = found, source, buffers, offsets
        self.along_row = found.along_row
        self.width = schedule.lanes if found.along_row else lanes

    def scratch(self, dtype: str) -> Any:
        """A vector in registers."""
        return tir.scratch(dtype, self.width)

    def spread(self, value: Value, point: Point) -> Value:
        """A result of this row as a vector for one point."""
        return tir.broadcast(value, point.lanes) if self.along_row else value

    def load(self, point: Point) -> Value:
        """The source's value in the dtype that rows are computed in."""
        count = len(self._source.inputs)
        loads = [
            views.load(buffer, offset, self._step(operand), point.lanes)
            for operand, (buffer, offset) in enumerate(
                zip(self._buffers[:count], point.offsets, strict=False)
            )
        ]
        dtype = self._source.dtype_of(self._source.outputs[0])
        return instructions.unpack(emit(self._source, loads, point.lanes)[0], dtype, point.lanes)

    def read(self, operand: int, point: Point) -> Value:
        """One operand as it is."""
        return views.load(self._buffers[operand], point.offsets[operand], self._step(operand), point.lanes)

    def write(self, operand: int, value: Value, point: Point) -> None:
        """Store a vector into an operand of the full shape."""
        if point.skipped is not None:
            value = point.fresh(value, self.read(operand, point))
        views.store(self._buffers[operand], value, point.offsets[operand], self._step(operand), point.lanes)

    @property
    def result_point(self) -> Point:
        """Where operands that have no reduced dimensions lie for this row."""
        return Point(self._offsets, 1 if self.along_row else self.width, 0, 0)

    def _step(self, operand: int) -> int:
        space = self._layout.reduced if self.along_row else self._layout.kept
        return space.strides[operand][-1]

    def sweep(self, step: Callable[[Point], None], flush: Flush = None) -> None:
        """Call `step` for every vector of the row; `flush` at least every `2 * FLUSH` steps of one accumulator."""
        self._loops(0, self._offsets, 0, step, flush)

    @property
    def is_long(self) -> bool:
        """Whether a sum of the row needs a second level of accumulators."""
        return not extent.at_least(FLUSH, self._steps(0))

    def _steps(self, loop: int) -> Size:
        """Steps of one accumulator in one run of the loops from `loop` on."""
        *outer, last = self._layout.reduced.sizes[loop:]
        lanes = self.width if self.along_row else 1
        return math.prod(outer) * -(-last // (lanes * UNROLL))

    def _loops(
        self,
        loop: int,
        offsets: Sequence[Index],
        position: Index,
        step: Callable[[Point], None],
        flush: Flush,
    ) -> None:
        space = self._layout.reduced
        size = space.sizes[loop]
        if loop == len(space.sizes) - 1:
            self._innermost(offsets, position, step, flush)
            return
        below = self._steps(loop + 1)
        at_once = flush is None or extent.at_least(FLUSH, below * size)
        group = size if at_once else max(1, FLUSH // extent.hint(below))

        def some(first: Index, count: Size) -> None:
            with tir.loop(count) as k:
                index = first + k
                moved = advance(space, offsets, [index], loop)
                inner = (position + index) * space.sizes[loop + 1]
                self._loops(loop + 1, moved, inner, step, None if extent.at_least(FLUSH, below) else flush)

        if extent.same(group, size):
            some(0, size)
        else:
            with tir.loop(size // group) as block:
                some(block * group, group)
                flush()  # type: ignore[misc]  # groups exist only with it
            if isinstance(size % group, Extent) or size % group:
                some(size // group * group, size % group)

    def _innermost(
        self, offsets: Sequence[Index], position: Index, step: Callable[[Point], None], flush: Flush
    ) -> None:
        space = self._layout.reduced
        loop, lanes = len(space.sizes) - 1, self.width if self.along_row else 1
        vectors, tail = divmod(space.sizes[-1], lanes)

        def at(index: Index, slot: int, count: int, skipped: Index | None = None) -> None:
            moved = advance(space, offsets, [index], loop)
            lanes_of_point = count if self.along_row else self.width
            step(Point(moved, lanes_of_point, slot, position + index, skipped))

        rounds, rest = divmod(vectors, UNROLL)
        if flush is None or extent.at_least(FLUSH, rounds):
            self._rounds(0, rounds, lanes, at)
        else:
            with tir.loop(rounds // FLUSH) as block:
                self._rounds(block * FLUSH, FLUSH, lanes, at)
                flush()
            self._rounds(rounds // FLUSH * FLUSH, rounds % FLUSH, lanes, at)
        if isinstance(tail, Extent):
            self._symbolic_rest(rounds * UNROLL * lanes, space.sizes[-1], lanes, at)
            return
        if isinstance(rest, Extent):
            with tir.loop(rest) as index:
                at((rounds * UNROLL + index) * lanes, 0, lanes)
            rest = 0
        for slot in range(rest):
            at((rounds * UNROLL + slot) * lanes, slot, lanes)
        if tail:
            at(vectors * lanes, rest, tail)

    def _symbolic_rest(self, done: Size, size: Size, lanes: int, at: Callable[..., None]) -> None:
        """Emit what is left of a row: vectors of which the last one begins early enough to be whole, else elements."""

        def vectors() -> None:
            with tir.loop(-(-(size - done) // lanes)) as index:
                first = done + index * lanes
                begin = T.min(first, size - lanes)
                at(begin, 0, lanes, first - begin)

        def elements() -> None:
            with tir.loop(size - done) as index:
                at(done + index, 0, 1)

        # TVM's code generator crashes on selections among vectors of bfloat16.
        dtypes = {memory.dtype for memory in self._buffers}
        whole = False if "bfloat16" in dtypes else tir.reaches(size, lanes)
        tir.either(whole, vectors, elements)

    @staticmethod
    def _rounds(first: Index, count: Size, lanes: int, at: Callable[[Index, int, int], None]) -> None:
        if extent.same(count, 0):
            return
        with tir.loop(count) as index:
            for slot in range(UNROLL):
                at(((first + index) * UNROLL + slot) * lanes, slot, lanes)


@dataclass(frozen=True)
class Parts:
    """The operands of a row kernel in the order of its parameters: source inputs, epilogue inputs, outputs."""

    source: Expression
    source_views: tuple[View, ...]
    epilogue: Expression
    epilogue_strides: tuple[
        tuple[int, ...], ...
    ]  # of inputs[1:] and of each output, over the whole iteration space
    epilogue_views: tuple[View, ...]

    @property
    def strides(self) -> list[tuple[int, ...]]:
        """Strides of every operand over the iteration space."""
        pairs = zip(self.source_views, self.source.inputs, strict=True)
        own = [views.broadcast_strides(view, operand.shape, self.source.shape) for view, operand in pairs]
        return [*own, *self.epilogue_strides]

    @property
    def all_views(self) -> tuple[View, ...]:
        """The view of every operand."""
        return (*self.source_views, *self.epilogue_views)

    @property
    def parameters(self) -> list[tir.Parameter]:
        """The kernel's parameters."""
        operands = (*self.source.inputs, *self.epilogue.inputs[1:], *self.epilogue.output_operands)
        outputs = len(operands) - len(self.epilogue.outputs)
        return [
            tir.Parameter(f"{'y' if k >= outputs else 'x'}{k}", view.buffer_shape, operand.dtype)
            for k, (view, operand) in enumerate(zip(self.all_views, operands, strict=True))
        ]


def complete_parts(
    source: Expression,
    epilogue: Expression,
    given: tuple[tuple[View | None, ...], tuple[View | None, ...], tuple[View | None, ...]],
    over_space: Callable[[tuple[int, ...]], tuple[int, ...]] = tuple,
) -> Parts:
    """Fill in the views that are not `given` of source inputs, epilogue inputs and outputs.

    `over_space` takes strides over the result to strides over the iteration space, where the two differ.
    """
    source_views, epilogue_views, output_views = given
    further = views.complete(epilogue_views, epilogue.inputs[1:])
    outputs = views.complete(output_views, epilogue.output_operands)
    operands = (*epilogue.inputs[1:], *epilogue.output_operands)
    strides = tuple(
        over_space(views.broadcast_strides(view, operand.shape, epilogue.shape))
        for view, operand in zip((*further, *outputs), operands, strict=True)
    )
    return Parts(source, views.complete(source_views, source.inputs), epilogue, strides, (*further, *outputs))


def finish(row: Row, parts: Parts, value: Value, point: Point) -> None:
    """Pass one vector of results through the epilogue and store it."""
    first = len(parts.source.inputs)
    extra = len(parts.epilogue.inputs) - 1
    loads = [value, *(row.read(first + k, point) for k in range(extra))]
    for position, result in enumerate(emit(parts.epilogue, loads, point.lanes)):
        row.write(first + extra + position, result, point)


def kernel(
    parts: Parts, found: Layout, schedule: Schedule, name: str, body: Callable[[Row], None]
) -> PrimFunc:
    """The function `name` that calls `body` for every row."""
    return function(
        parts, name, lambda memories, bases: emit_rows(found, parts.source, memories, bases, schedule, body)
    )


def function(
    parts: Parts, name: str, body: Callable[[Sequence[views.Memory], Sequence[int]], None]
) -> PrimFunc:
    """The function `name` whose body is what `body(memory of each operand, where each begins in it)` emits."""
    parameters = parts.parameters
    bases = tuple(view.offset for view in parts.all_views)

    def whole(*buffers: Any) -> None:
        body([views.flat(b, p.shape, p.dtype) for b, p in zip(buffers, parameters, strict=True)], bases)

    return tir.kernel(name, parameters, whole)


def emit_rows(
    found: Layout,
    source: Expression,
    memories: Sequence[views.Memory],
    bases: Sequence[int],
    schedule: Schedule,
    body: Callable[[Row], None],
) -> None:
    """Emit `body` for every row."""

    def at(offsets: Sequence[Index], lanes: int) -> None:
        body(Row(found, source, memories, offsets, lanes, schedule))

    Nest(found.kept, tuple(bases), 1 if found.along_row else schedule.lanes, schedule.tasks, at).emit()


def accumulate(row: Row, into: Accumulator, value_at: ValueAt) -> None:
    """Sweep a row into a sum, in two levels where one would be too long for float accuracy."""
    if row.is_long:
        into.cascade()
    row.sweep(lambda point: into.add(point, value_at(point)), into.flush if row.is_long else None)


# Combining two vectors, with PyTorch's treatment of NaN; operands are loads of different buffers.


def add(a: Value, b: Value, lanes: int) -> Value:
    """Sum."""
    return a + b


def larger(a: Value, b: Value, lanes: int) -> Value:
    """Maximum that may lose a NaN: for softmax, whose exponentials find it again."""
    return T.Select(a > b, a, b)
