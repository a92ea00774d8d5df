"""How a kernel reads or writes an operand that is not laid out like its iteration space: strides, and loops that they let collapse."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script import builder as T

from torch_tvm.kernels import extent, tir
from torch_tvm.kernels.expression import Operand

Index = Any  # int or PrimExpr


@dataclass(frozen=True)
class View:
    """Where a kernel finds the elements of an operand inside a contiguous tensor.

    Element (i0, i1, ...) of the operand is element `offset + i0 * strides[0] + i1 * strides[1] + ...` of the tensor of shape
    `buffer_shape`. A permutation, a slice, an expansion and a diagonal are views; strides may be zero or negative.

    Examples
    --------
    >>> from torch_tvm.kernels.views import permuted
    >>> permuted((2, 3, 5), (2, 0, 1))
    View(buffer_shape=(2, 3, 5), strides=(1, 15, 5), offset=0)
    """

    buffer_shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def check(self, shape: Sequence[int], what: str) -> None:
        """Raise ValueError unless every element of an operand of this shape lies inside the tensor."""
        if len(self.strides) != len(shape):
            raise ValueError(f"{what} of shape {tuple(shape)} needs {len(shape)} strides, got {self.strides}")
        reach = [(size - 1) * stride for size, stride in zip(shape, self.strides, strict=True)]
        low = self.offset + sum(step for step in reach if step < 0)
        high = self.offset + sum(step for step in reach if step > 0)
        if low < 0 or high >= math.prod(self.buffer_shape):
            raise ValueError(
                f"{what} reads elements {low} to {high} of a tensor of shape {self.buffer_shape}"
            )


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides, in elements, of a tensor in row-major order."""
    return tuple(itertools.accumulate(reversed([*shape[1:], 1]), lambda a, b: a * b))[::-1] if shape else ()


def contiguous(shape: tuple[int, ...]) -> View:
    """View a whole tensor as it lies in memory."""
    return View(shape, contiguous_strides(shape))


def permuted(buffer_shape: tuple[int, ...], axes: Sequence[int]) -> View:
    """View a tensor with its dimensions permuted: dimension k of the operand is dimension `axes[k]` of the tensor."""
    strides = contiguous_strides(buffer_shape)
    return View(buffer_shape, tuple(strides[axis] for axis in axes))


def complete(given: Sequence[View | None], operands: Sequence[Operand]) -> tuple[View, ...]:
    """The given views, contiguous ones where there is none."""
    padded = given or (None,) * len(operands)
    return tuple(view or contiguous(operand.shape) for view, operand in zip(padded, operands, strict=True))


def broadcast_strides(view: View, shape: Sequence[int], target: Sequence[int]) -> tuple[int, ...]:
    """Strides of an operand over the dimensions of the iteration space that it is broadcast to."""
    missing = len(target) - len(shape)
    own = [0 if extent.same(size, 1) else stride for size, stride in zip(shape, view.strides, strict=True)]
    return (*[0] * missing, *own)


def folded(view: View, shape: Sequence[int], target: Sequence[int]) -> View | None:
    """View an operand in a shape that merges some neighbouring dimensions; None where strides cannot say it."""
    strides: list[int] = []
    axes = list(zip(shape, view.strides, strict=True))
    for size in target:
        group: list[tuple[int, int]] = []
        while axes and math.prod(n for n, _ in group) * axes[0][0] <= size:
            group.append(axes.pop(0))
        merged = collapse([n for n, _ in group], [[stride for _, stride in group]])
        if math.prod(n for n, _ in group) != size or len(merged.sizes) > 1:
            return None
        strides.append(merged.strides[0][0])
    return None if axes else View(view.buffer_shape, tuple(strides), view.offset)


@dataclass(frozen=True)
class Space:
    """A loop nest, outermost first, and each operand's strides over its loops."""

    sizes: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]


def collapse(sizes: Sequence[int], strides: Sequence[Sequence[int]]) -> Space:
    """Drop loops that run once and fuse neighbours that every operand walks through as one; at least one loop stays."""
    loops: list[tuple[int, list[int]]] = []
    for axis, size in enumerate(sizes):
        steps = [operand[axis] for operand in strides]
        if extent.same(size, 1):
            continue
        if loops and all(
            extent.same(outer, inner * size) for outer, inner in zip(loops[-1][1], steps, strict=True)
        ):
            loops[-1] = (loops[-1][0] * size, steps)
        else:
            loops.append((size, steps))
    if not loops:
        loops = [(1, [1] * len(strides))]
    by_operand = zip(*(steps for _, steps in loops), strict=True)
    return Space(tuple(size for size, _ in loops), tuple(tuple(steps) for steps in by_operand))


@dataclass(frozen=True)
class Memory:
    """The memory of a parameter as a tensor of one dimension.

    bfloat16 is kept as uint16: TVM's code generator crashes on strided vectors of it.
    """

    buffer: Any
    dtype: str

    @property
    def stored_dtype(self) -> str:
        """The dtype that the buffer has in the generated code."""
        return "uint16" if self.dtype == "bfloat16" else self.dtype


def order_by(strides: Sequence[int]) -> list[int]:
    """The dimensions of an operand from the outermost to the innermost in its memory."""
    return sorted(range(len(strides)), key=lambda d: (-abs(extent.hint(strides[d])), d))


def flat(buffer: Any, shape: Sequence[int], dtype: str) -> Memory:
    """Flatten a parameter of a kernel."""
    stored, size = Memory(None, dtype).stored_dtype, max(1, math.prod(shape))
    return Memory(
        T.decl_buffer(tir.expressions((size,)), stored, data=buffer.data, align=tir.element_bytes(dtype)),
        dtype,
    )


def strided(buffer: Any, operand: Operand, view: View) -> Any:
    """Declare the elements of a buffer that a view takes as a buffer of the operand's shape."""
    return T.decl_buffer(
        tir.expressions(operand.shape),
        operand.dtype,
        data=buffer.data,
        strides=list(tir.expressions(view.strides)),
        elem_offset=tir.expressions((view.offset,))[0],
        align=tir.element_bytes(operand.dtype),
    )


def load(memory: Memory, offset: Index, stride: Index, lanes: int) -> Any:
    """Load `lanes` elements that lie `stride` apart."""
    offset, stride = tir.expressions((offset, stride))
    if lanes == 1:
        value = memory.buffer[offset]
    elif isinstance(stride, int) and stride == 0:
        value = T.broadcast(memory.buffer[offset], lanes)
    else:
        value = memory.buffer[T.ramp(offset, stride, lanes)]
    return T.reinterpret(tir.vector_dtype("bfloat16", lanes), value) if memory.dtype == "bfloat16" else value


def store(memory: Memory, value: Any, offset: Index, stride: Index, lanes: int) -> None:
    """Store `lanes` elements that lie `stride` apart."""
    offset, stride = tir.expressions((offset, stride))
    if memory.dtype == "bfloat16":
        value = T.reinterpret(tir.vector_dtype("uint16", lanes), value)
    T.buffer_store(memory.buffer, value, [T.ramp(offset, stride, lanes) if lanes > 1 else offset])
