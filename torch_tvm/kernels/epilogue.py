"""What an anchor kernel (matrix product, convolution) does to its result before it stores it.

The result's index space is the physical shape of the output tensor: other operands broadcast against it, every
output has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.tirx import PrimFunc

from torch_tvm.kernels import extent, tir, views
from torch_tvm.kernels.expression import Expression, Operand, emit, identity
from torch_tvm.kernels.extent import Extent, UndecidableError
from torch_tvm.kernels.views import View

# Instructions that are one or two machine instructions a vector. Anything else (exp, erf, division ...) is
# emitted once in a loop over the tile rather than once for each of its two dozen vectors.
_CHEAP = frozenset(["add", "subtract", "multiply", "relu", "maximum", "minimum", "negative", "clip"])
_MAX_UNROLLED_INSTRUCTIONS = 4


@dataclass(frozen=True)
class PlacedExpression:
    """An epilogue some of whose operands are parts of larger tensors.

    Parameters
    ----------
    expression
        What is computed. Its first inputs are the anchor's results.
    views
        One `View` or None (contiguous, of the operand's own shape) for each other input, then for each output. The last
        dimension has unit stride, or one element.
    overwritten
        Which input lies in the memory of the output, each element where the one computed from it is stored; 0 for none. The
        kernel has no parameter for it.
    results
        How many results the anchor has.
    """

    expression: Expression
    views: tuple[View | None, ...]
    overwritten: int = 0
    results: int = 1

    def __post_init__(self) -> None:
        """Check the views against the expression."""
        operands = self.operands
        if self.overwritten and self.overwritten not in self.overwritable:
            raise UndecidableError(f"the output cannot take the memory of input {self.overwritten} of {self}")
        if len(self.views) != len(operands):
            raise ValueError(f"there are {len(operands)} operands and outputs, got {len(self.views)} views")
        for view, operand in zip(self.views, operands, strict=True):
            if view is None:
                continue
            view.check(operand.shape, "an operand of an epilogue")
            if operand.shape and operand.shape[-1] > 1 and view.strides[-1] != 1:
                raise ValueError(f"the last dimension of {operand} is not contiguous in {view}")

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Inputs other than the anchor's results, then the outputs."""
        return (*self.expression.inputs[self.results :], *self.expression.output_operands)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output tensor."""
        return self.expression.shape

    @property
    def overwritable(self) -> list[int]:
        """Inputs with the output's shape and dtype that lie in memory as it does, not in parts of larger tensors.

        An anchor that computes each element once reads such an input at an index just before it stores there. With symbolic
        sizes it may compute some twice.
        """
        results = self.expression.output_operands
        if len(results) > 1 or self.views[-1] is not None:
            return []
        if any(isinstance(size, Extent) for size in self.shape):
            return []
        inputs = zip(self.expression.inputs[self.results :], self.views[:-1], strict=True)
        same = (k for k, (own, view) in enumerate(inputs, self.results) if own == results[0] and view is None)
        return list(same)


@dataclass(frozen=True)
class Epilogue:
    """An `Expression` whose first inputs are the anchor's results.

    Parameters
    ----------
    expression
        Its shape is the output tensor's shape.
    extras
        The kernel's buffers for the other inputs.
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
    def results(self) -> int:
        """How many results the anchor has."""
        return len(self.expression.inputs) - len(self.extras)

    @property
    def unrolled(self) -> bool:
        """Whether the expression is small enough to be emitted for every vector of a register tile."""
        return is_cheap(self.expression)

    @property
    def result_dtype(self) -> str:
        """Dtype of the anchor's result."""
        return self.expression.inputs[0].dtype

    def apply(
        self, result: tir.Value, index: Sequence[tir.Index], count: int, *others: tir.Value
    ) -> list[tir.Value]:
        """Return the outputs for `count` elements that begin at `index`; `others` are further results of the anchor."""
        loads = [result, *others]
        for operand, buffer in zip(self.expression.inputs[len(loads) :], self.extras, strict=True):
            loads.append(load_operand(operand, buffer, index, count, self.lanes))
        return emit(self.expression, loads, self.lanes)

    def store(self, result: tir.Value, index: Sequence[tir.Index], count: int, *others: tir.Value) -> None:
        """Apply the expression to `count` elements that begin at `index`, and store its outputs."""
        values = self.apply(result, index, count, *others)
        for value, buffer, operand in zip(values, self.outputs, self.expression.output_operands, strict=True):
            tir.store_partial(buffer, value, index, count=count, dtype=operand.dtype, lanes=self.lanes)


def is_cheap(expression: Expression) -> bool:
    """Say whether an epilogue is a few machine instructions."""
    instructions, dtype = expression.instructions, expression.inputs[0].dtype
    cheap = all(i.op in _CHEAP and i.dtype == dtype for i in instructions)
    return cheap and len(instructions) <= _MAX_UNROLLED_INSTRUCTIONS


def load_operand(
    operand: Operand, buffer: tir.Buffer, index: Sequence[tir.Index], count: int, lanes: int
) -> tir.Value:
    """Load `count` elements of an operand that broadcasts to the index space, repeated where it has one column."""
    shape = operand.shape
    if not shape:
        return tir.broadcast(buffer[()], lanes)
    position = [
        0 if extent.same(size, 1) else where
        for size, where in zip(shape, index[len(index) - len(shape) :], strict=True)
    ]
    if extent.same(shape[-1], 1):
        return tir.broadcast(tir.load(buffer, position, 1), lanes)
    return tir.load_partial(buffer, position, count=count, dtype=operand.dtype, lanes=lanes)


def resolve(
    epilogue: Expression | PlacedExpression | None, shape: tuple[int, ...], dtype: str, results: int = 1
) -> PlacedExpression:
    """Return the epilogue to use, checked against the anchor that it is for.

    Parameters
    ----------
    epilogue
        The caller's epilogue; `None` stores the result as it is.
    shape
        Shape of the anchor's output tensor.
    dtype
        Dtype that the anchor computes.
    results
        How many results it has.
    """
    if epilogue is None:
        epilogue = identity(shape, dtype)
    epilogue = place(epilogue, results)
    expression = epilogue.expression
    anchors = expression.inputs[:results]
    if expression.shape != shape or anchors != (Operand(shape, dtype),) * results:
        raise ValueError(
            f"the epilogue's shape and first input must be {Operand(shape, dtype)}, the result of the"
            f" kernel; got shape {expression.shape}, first input {', '.join(map(str, anchors)) or None}"
        )
    return epilogue


def place(epilogue: Expression | PlacedExpression, results: int = 1) -> PlacedExpression:
    """Return an epilogue of an anchor's results with a view, `None` if need be, of each operand and output."""
    if isinstance(epilogue, PlacedExpression):
        return epilogue
    operands = len(epilogue.inputs[results:]) + len(epilogue.outputs)
    return PlacedExpression(epilogue, (None,) * operands, results=results)


def parameters(epilogue: PlacedExpression) -> tuple[list[tir.Parameter], list[tir.Parameter]]:
    """Return the kernel parameters that an epilogue adds: other inputs, and outputs."""
    count = len(epilogue.expression.inputs) - epilogue.results
    found = [
        tir.Parameter(
            f"extra{k}" if k < count else f"output{k - count}",
            operand.shape if view is None else view.buffer_shape,
            operand.dtype,
            "output0" if epilogue.overwritten and k == epilogue.overwritten - epilogue.results else "",
        )
        for k, (operand, view) in enumerate(zip(epilogue.operands, epilogue.views, strict=True))
    ]
    return found[:count], found[count:]


def kernel(
    name: str,
    operands: Sequence[tir.Parameter],
    epilogue: PlacedExpression,
    body: Callable[..., None],
) -> PrimFunc:
    """Build a kernel whose parameters are the anchor's operands, the epilogue's other inputs, and its outputs."""
    extras, outputs = parameters(epilogue)
    return tir.kernel(name, [*operands, *extras, *outputs], body)


def bind(epilogue: PlacedExpression, buffers: Sequence[tir.Buffer], lanes: int) -> Epilogue:
    """Return the epilogue on a kernel's buffers, extra inputs then outputs, which may have other dimensions."""
    shaped = [shape(*each) for each in zip(buffers, epilogue.operands, epilogue.views, strict=True)]
    extras = len(epilogue.expression.inputs) - epilogue.results
    return Epilogue(epilogue.expression, shaped[:extras], shaped[extras:], lanes)


def shape(buffer: tir.Buffer, operand: Operand, view: View | None) -> tir.Buffer:
    """Return a kernel's buffer as the tensor that an operand is."""
    if view is None:
        return tir.reshaped(buffer, operand.shape, operand.dtype)
    return views.strided(buffer, operand, view)


def fold(epilogue: PlacedExpression, shape: tuple[int, ...]) -> PlacedExpression | None:
    """Return the epilogue on the output in another shape with as many columns, `None` where an operand forbids it.

    Operands may have all of the output's elements, or be the same for all of its rows.
    """
    expression = epilogue.expression
    if shape == expression.shape:
        return epilogue
    inputs = [Operand(shape, own.dtype) for own in expression.inputs[: epilogue.results]]
    folded: list[View | None] = []
    for operand, view in zip(epilogue.operands, epilogue.views, strict=True):
        if extent.same(math.prod(operand.shape), math.prod(shape)):
            inputs.append(Operand(shape, operand.dtype))
        elif extent.same(math.prod(operand.shape[:-1]), 1):
            inputs.append(Operand(operand.shape[-1:], operand.dtype))
        else:
            return None
        folded.append(view and views.folded(view, operand.shape, inputs[-1].shape))
        if view is not None and folded[-1] is None:
            return None
    count = len(expression.inputs)
    return PlacedExpression(
        Expression(tuple(inputs[:count]), expression.instructions, expression.outputs, shape),
        tuple(folded),
        results=epilogue.results,
    )
