"""What an anchor kernel (matrix product, convolution) does to its result before it stores it.

The result's index space is the physical shape of the output tensor: other operands broadcast against it, every
output has it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.tirx.script import builder as T

from torch_tvm.kernels import tir
from torch_tvm.kernels.expression import Expression, Operand, emit, identity

# Instructions that are one or two machine instructions a vector. Anything else (exp, erf, division ...) is
# emitted once in a loop over the tile rather than once for each of its two dozen vectors.
_CHEAP = frozenset(["add", "subtract", "multiply", "relu", "maximum", "minimum", "negative", "clip"])
_MAX_UNROLLED_INSTRUCTIONS = 4


@dataclass(frozen=True)
class Epilogue:
    """An `Expression` whose input 0 is the anchor's result.

    Parameters
    ----------
    expression
        Its shape is the output tensor's shape.
    extras
        The kernel's buffers for inputs 1 and up.
    outputs
        The kernel's buffers for the outputs.
    lanes
        Lanes of the vectors that the anchor computes.
    """

    expression: Expression
    extras: Sequence[tir.Buffer]
    outputs: Sequence[tir.Buffer]
    lanes: int

    @property
    def unrolled(self) -> bool:
        """Whether the expression is small enough to be emitted for every vector of a register tile."""
        instructions = self.expression.instructions
        cheap = all(i.op in _CHEAP and i.dtype == self.result_dtype for i in instructions)
        return cheap and len(instructions) <= _MAX_UNROLLED_INSTRUCTIONS

    @property
    def result_dtype(self) -> str:
        """Dtype of the anchor's result."""
        return self.expression.inputs[0].dtype

    def store(self, result: tir.Value, index: Sequence[tir.Index], count: int) -> None:
        """Apply the expression to `count` elements that begin at `index`, and store its outputs."""
        loads = [result]
        for operand, buffer in zip(self.expression.inputs[1:], self.extras, strict=True):
            loads.append(_load_operand(operand, buffer, index, count, self.lanes))
        values = emit(self.expression, loads, self.lanes)
        for value, buffer, operand in zip(values, self.outputs, self.expression.output_operands, strict=True):
            tir.store_partial(buffer, value, index, count=count, dtype=operand.dtype, lanes=self.lanes)


def _load_operand(
    operand: Operand, buffer: tir.Buffer, index: Sequence[tir.Index], count: int, lanes: int
) -> tir.Value:
    shape = operand.shape or (1,)
    position = [
        0 if size == 1 else where for size, where in zip(shape, index[len(index) - len(shape) :], strict=True)
    ]
    if shape[-1] == 1:
        return tir.broadcast(buffer[tuple(position)], lanes)
    return tir.load_partial(buffer, position, count=count, dtype=operand.dtype, lanes=lanes)


def resolve(expression: Expression | None, shape: tuple[int, ...], dtype: str) -> Expression:
    """Return the epilogue to use, checked against the anchor that it is for.

    Parameters
    ----------
    expression
        The caller's epilogue; `None` stores the result as it is.
    shape
        Shape of the anchor's output tensor.
    dtype
        Dtype that the anchor computes.
    """
    if expression is None:
        return identity(shape, dtype)
    anchor = expression.inputs[0] if expression.inputs else None
    if expression.shape != shape or anchor != Operand(shape, dtype):
        raise ValueError(
            f"the epilogue's shape and first input must be {Operand(shape, dtype)}, the result of the"
            f" kernel; got shape {expression.shape}, first input {anchor}"
        )
    return expression


def parameters(expression: Expression) -> tuple[list[tir.Parameter], list[tir.Parameter]]:
    """Return the kernel parameters that an epilogue adds: other inputs, and outputs."""
    extras = [
        tir.Parameter(f"extra{i}", operand.shape, operand.dtype)
        for i, operand in enumerate(expression.inputs[1:])
    ]
    outputs = [
        tir.Parameter(f"output{i}", operand.shape, operand.dtype)
        for i, operand in enumerate(expression.output_operands)
    ]
    return extras, outputs


class RegisterTile:
    """`rows` x `vectors` accumulators, the result of an anchor for `rows` positions and consecutive columns."""

    def __init__(self, rows: int, vectors: int, dtype: str, lanes: int, *, fused: bool) -> None:
        self.rows, self.vectors, self.dtype, self.lanes = rows, vectors, dtype, lanes
        self._fused = fused
        self._sums = tir.Accumulators(rows * vectors, dtype, lanes)
        self._sums.fill(tir.constant(0, dtype, lanes))

    def multiply_add(self, row: int, scalar: tir.Value, vectors: Sequence[tir.Value]) -> None:
        """Add `scalar` times each vector to a row."""
        repeated = T.bind(tir.broadcast(scalar, self.lanes))
        for v, vector in enumerate(vectors):
            k = row * self.vectors + v
            self._sums[k] = tir.multiply_add(
                repeated, vector, self._sums[k], self.dtype, self.lanes, fused=self._fused
            )

    def store(
        self,
        epilogue: Epilogue,
        place: Callable[[tir.Index], list[tir.Index]],
        first_column: tir.Index,
        columns: int,
    ) -> None:
        """Apply the epilogue and store `columns` columns of every row.

        `place(row)` is the index of a row in the output tensor, without the last dimension.
        """
        counts = [min(self.lanes, columns - v * self.lanes) for v in range(self.vectors)]
        counts = [count for count in counts if count > 0]
        if epilogue.unrolled:
            for row, (v, count) in itertools.product(range(self.rows), enumerate(counts)):
                index = [*place(row), first_column + v * self.lanes]
                epilogue.store(self._sums[row * self.vectors + v], index, count)
        else:
            self._store_in_loop(epilogue, place, first_column, counts)

    def _store_in_loop(
        self,
        epilogue: Epilogue,
        place: Callable[[tir.Index], list[tir.Index]],
        first_column: tir.Index,
        counts: Sequence[int],
    ) -> None:
        lanes = self.lanes
        spilled = T.alloc_buffer((self.rows, self.vectors * lanes), self.dtype, align=64)
        for row, v in itertools.product(range(self.rows), range(len(counts))):
            tir.store(spilled, self._sums[row * self.vectors + v], (row, v * lanes), lanes)
        whole = sum(count == lanes for count in counts)
        with tir.loop(self.rows) as row:
            if whole:
                with tir.loop(whole) as v:
                    index = [*place(row), first_column + v * lanes]
                    epilogue.store(tir.load(spilled, (row, v * lanes), lanes), index, lanes)
            if whole < len(counts):
                index = [*place(row), first_column + whole * lanes]
                value = tir.load(spilled, (row, whole * lanes), lanes)
                epilogue.store(value, index, counts[whole])
