"""What an anchor kernel (matrix product, convolution) does to its result before it stores it.

The result's index space is the physical shape of the output tensor: other operands broadcast against it, every
output has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    shape = operand.shape
    if not shape:
        return tir.broadcast(buffer[()], lanes)
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


def bind(expression: Expression, buffers: Sequence[tir.Buffer], lanes: int) -> Epilogue:
    """Return the epilogue on a kernel's buffers, extra inputs then outputs, which may have other dimensions."""
    operands = [*expression.inputs[1:], *expression.output_operands]
    shaped = [
        tir.reshaped(buffer, operand.shape, operand.dtype)
        for buffer, operand in zip(buffers, operands, strict=True)
    ]
    extras = len(expression.inputs) - 1
    return Epilogue(expression, shaped[:extras], shaped[extras:], lanes)


def fold(expression: Expression, shape: tuple[int, ...]) -> Expression | None:
    """Return the epilogue on the output in another shape with as many columns, `None` where an operand forbids it.

    Operands may have all of the output's elements, or be the same for all of its rows.
    """
    if shape == expression.shape:
        return expression
    inputs = []
    for operand in expression.inputs:
        if math.prod(operand.shape) == math.prod(shape):
            inputs.append(Operand(shape, operand.dtype))
        elif math.prod(operand.shape[:-1]) == 1:
            inputs.append(Operand(operand.shape[-1:], operand.dtype))
        else:
            return None
    return Expression(tuple(inputs), expression.instructions, expression.outputs, shape)
