"""Instructions that together are one function: Relay has no gelu or silu, so they arrive spelled out."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from torch_tvm.kernels.expression import Expression, Instruction, Scalar, ValueId

_SQRT_HALF = math.sqrt(0.5)
_GELU_LINEAR, _GELU_CUBIC = math.sqrt(2 / math.pi), 0.044715


@functools.lru_cache(maxsize=1024)
def with_functions(expression: Expression) -> Expression:
    """Compute float32 gelu, its approximation with tanh, and silu as such."""
    return with_gelu_tanh(with_gelu(with_silu(expression)))


def with_silu(expression: Expression) -> Expression:
    """Compute float32 x * sigmoid(x) as x / (1 + e^-x), as eager's silu does."""
    steps = tuple(
        step if (x := _silu_operand(expression, step)) is None else Instruction("silu", (x,), "float32")
        for step in expression.instructions
    )
    return replace(expression, instructions=steps)


def _silu_operand(expression: Expression, last: Instruction) -> ValueId | None:
    """Return x if the instruction is x * sigmoid(x) in float32."""
    if last.op != "multiply" or last.dtype != "float32":
        return None
    for x, factor in (last.args, last.args[::-1]):
        step = _step(expression, factor, "sigmoid")
        if step is not None and isinstance(x, ValueId) and step.args[0] == x:
            return x
    return None


def with_gelu(expression: Expression) -> Expression:
    """Compute float32 gelu by its own polynomial where it is spelled out with erf: two thirds of the time, and more exact.

    What only the spelled-out form needed is computed for nothing, which LLVM notices.

    Examples
    --------
    >>> from torch_tvm.kernels.expression import Expression, Instruction, Operand, Scalar
    >>> from torch_tvm.kernels.idioms import with_gelu
    >>> half = Scalar(0.5, "float32")
    >>> steps = [("multiply", 0, Scalar(0.70710678, "float32")), ("erf", 1), ("multiply", 2, half), ("add", half, 3), ("multiply", 0, 4)]
    >>> spelled_out = Expression(
    ...     (Operand((8,), "float32"),), tuple(Instruction(op, tuple(args), "float32") for op, *args in steps), (5,), (8,)
    ... )
    >>> with_gelu(spelled_out).instructions[-1]
    Instruction(op='gelu', args=(0,), dtype='float32')
    """
    return _with_function(expression, "gelu", "erf", _gelu_operand)


def _with_function(
    expression: Expression,
    name: str,
    contained: str,
    operand_of: Callable[[Expression, Instruction], ValueId | None],
) -> Expression:
    """Compute a float32 function by the instruction `name` where `operand_of` finds what it is spelled out of.

    Each form of it has an instruction `contained`: expressions without any are not searched.
    """
    if not any(step.op == contained and step.dtype == "float32" for step in expression.instructions):
        return expression
    found = (operand_of(expression, step) for step in expression.instructions)
    steps = tuple(
        step if operand is None else Instruction(name, (operand,), "float32")
        for step, operand in zip(expression.instructions, found, strict=True)
    )
    return replace(expression, instructions=steps)


def _gelu_operand(expression: Expression, last: Instruction) -> ValueId | None:
    """Return x if the instruction is x * (0.5 + 0.5 * erf(x * sqrt(0.5))) in float32."""
    if last.op != "multiply" or last.dtype != "float32":
        return None
    for x, factor in (last.args, last.args[::-1]):
        half_erf = _other(expression, factor, "add", 0.5)
        erf = _other(expression, half_erf, "multiply", 0.5)
        step = _step(expression, erf, "erf")
        if (
            step is not None
            and isinstance(x, ValueId)
            and _other(expression, step.args[0], "multiply", _SQRT_HALF) == x
        ):
            return x
    return None


def with_gelu_tanh(expression: Expression) -> Expression:
    """Compute float32 gelu with tanh, 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), by its own instruction."""
    return _with_function(expression, "gelu_tanh", "tanh", _gelu_tanh_operand)


def _gelu_tanh_operand(expression: Expression, last: Instruction) -> ValueId | None:
    """Return x if the instruction is x (0.5 + 0.5 t), (0.5 x) (1 + t) or 0.5 (x (1 + t)) with the gelu's tanh t of x."""
    if last.op != "multiply" or last.dtype != "float32":
        return None
    for one, two in (last.args, last.args[::-1]):
        candidates = [
            (one, _other(expression, _other(expression, two, "add", 0.5), "multiply", 0.5)),
            (_other(expression, one, "multiply", 0.5), _other(expression, two, "add", 1.0)),
        ]
        inner = _step(expression, two, "multiply") if _is_constant(one, 0.5) else None
        if inner is not None:
            pairs = (inner.args, inner.args[::-1])
            candidates += [(x, _other(expression, sum_, "add", 1.0)) for x, sum_ in pairs]
        for x, value in candidates:
            tanh = _step(expression, value, "tanh")
            if tanh is not None and isinstance(x, ValueId) and _is_cubic(expression, tanh.args[0], x):
                return x
    return None


def _is_cubic(expression: Expression, value: ValueId | Scalar, x: ValueId) -> bool:
    """Say whether a value is c (x + d x^3) or (c x) (1 + d x^2) with the constants of gelu."""
    total = _step(expression, _other(expression, value, "multiply", _GELU_LINEAR), "add")
    if total is not None:
        parts = (total.args, total.args[::-1])
        cubes = [_other(expression, part, "multiply", _GELU_CUBIC) for own, part in parts if own == x]
        return any(_powers(expression, cube, x) == {x: 3} for cube in cubes)
    product = _step(expression, value, "multiply")
    for one, two in (product.args, product.args[::-1]) if product is not None else ():
        if _other(expression, one, "multiply", _GELU_LINEAR) == x:
            powers = _powers(expression, _other(expression, two, "add", 1.0), x)
            others = [factor for factor in powers.elements() if factor != x]
            return powers[x] == 2 and len(others) == 1 and _is_constant(others[0], _GELU_CUBIC)
    return False


def _powers(expression: Expression, value: ValueId | Scalar | None, x: ValueId) -> Counter[ValueId | Scalar]:
    """Count the factors of a product; x is one, whatever it is made of."""
    step = _step(expression, value, "multiply") if value != x else None
    if step is None:
        return Counter() if value is None else Counter([value])
    left, right = (_powers(expression, factor, x) for factor in step.args)
    return left + right


def _is_constant(value: ValueId | Scalar | None, constant: float) -> bool:
    return isinstance(value, Scalar) and math.isclose(value.value, constant, rel_tol=1e-7)


def _step(expression: Expression, value: ValueId | Scalar | None, op: str) -> Instruction | None:
    """Return the instruction that defines the value if it applies `op`."""
    if not isinstance(value, ValueId) or value < len(expression.inputs):
        return None
    step = expression.instructions[value - len(expression.inputs)]
    return step if step.op == op else None


def _other(
    expression: Expression, value: ValueId | Scalar | None, op: str, constant: float
) -> ValueId | Scalar | None:
    """Return what `op` combines with a constant to make the value."""
    step = _step(expression, value, op)
    if step is None:
        return None
    for one, two in (step.args, step.args[::-1]):
        if _is_constant(one, constant):
            return two
    return None
