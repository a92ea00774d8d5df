"""What one element of an element-wise kernel computes: a pure SSA description, hashable, without shapes of loops or registers.

The compiler builds an `Expression` from a chain of Relay calls. `elementwise.build` makes a stand-alone kernel of it and every
other kernel family accepts one as its epilogue (input 0 is then the family's own result). `emit` turns it into TIR for one vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch_tvm.kernels import extent

if TYPE_CHECKING:
    from tvm.ir import PrimExpr

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTS = ("uint8", "int8", "int16", "int32", "int64")
DTYPES = ("bool", *INTS, *FLOATS)

ValueId = int


@dataclass(frozen=True)
class Operand:
    """An input of an expression: a tensor that is broadcast, aligned at its last dimension, against the expression's shape."""

    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        """Refuse what no kernel could read."""
        _check_dtype(self.dtype, "an Operand")
        if any(size < 0 for size in self.shape):
            raise ValueError(f"an Operand has non-negative sizes, got {self.shape}")


@dataclass(frozen=True, eq=False)
class Scalar:
    """A constant argument of an instruction, of the dtype that the instruction computes in.

    Two scalars are equal when they are the same constant: NaN equals NaN, and 0.0 differs from -0.0.
    """

    value: float | int | bool
    dtype: str

    def __post_init__(self) -> None:
        """Store the value as the Python type of its dtype."""
        _check_dtype(self.dtype, "a Scalar")
        kind = float if self.dtype in FLOATS else bool if self.dtype == "bool" else int
        object.__setattr__(self, "value", kind(self.value))

    def _key(self) -> tuple[str, str]:
        value = self.value
        return self.dtype, value.hex() if isinstance(value, float) else str(int(value))

    def __eq__(self, other: object) -> bool:
        """Compare bit patterns, so that kernels of different constants are never taken for one another."""
        return isinstance(other, Scalar) and self._key() == other._key()

    def __hash__(self) -> int:
        """Hash what `__eq__` compares."""
        return hash(self._key())


@dataclass(frozen=True)
class Instruction:
    """One operator applied to earlier values and constants; `dtype` is the dtype of its result."""

    op: str
    args: tuple[ValueId | Scalar, ...]
    dtype: str


@dataclass(frozen=True)
class _Rule:
    """What an operator accepts: its argument count, the dtypes of its data arguments and how they make the result's dtype."""

    arity: int
    operands: tuple[str, ...]
    result: str = "same"  # same (as the data arguments) | bool | free
    first: str = ""  # dtype of argument 0 where it is not a data argument


_NUMBERS = (*INTS, *FLOATS)


def _rules() -> Iterator[tuple[str, _Rule]]:
    def each(names: str, rule: _Rule) -> Iterator[tuple[str, _Rule]]:
        return ((name, rule) for name in names.split())

    yield from each(
        "add subtract multiply floor_divide floor_mod trunc_divide trunc_mod mod power", _Rule(2, _NUMBERS)
    )
    yield from each("divide leaky_relu", _Rule(2, FLOATS))
    yield "multiply_add", _Rule(3, ("float32", "float64"))
    yield from each("maximum minimum", _Rule(2, DTYPES))
    yield from each("clip", _Rule(3, _NUMBERS))
    yield from each("equal not_equal less less_equal greater greater_equal", _Rule(2, DTYPES, "bool"))
    yield from each("logical_and logical_or logical_xor", _Rule(2, ("bool",)))
    yield from each("logical_not", _Rule(1, ("bool",)))
    yield from each("bitwise_and bitwise_or bitwise_xor", _Rule(2, ("bool", *INTS)))
    yield from each("bitwise_not", _Rule(1, ("bool", *INTS)))
    yield from each("left_shift right_shift", _Rule(2, INTS))
    yield "where", _Rule(3, DTYPES, first="bool")
    yield "cast", _Rule(1, DTYPES, "free")
    yield from each("negative abs sign relu", _Rule(1, _NUMBERS))
    yield from each("floor ceil round trunc", _Rule(1, _NUMBERS))
    yield from each("isnan isinf isfinite", _Rule(1, DTYPES, "bool"))
    yield from each("exp expm1 log log1p log2 log10 sqrt rsqrt sin cos tan tanh sinh cosh", _Rule(1, FLOATS))
    yield from each("asin acos atan asinh acosh atanh sigmoid erf gelu gelu_tanh silu", _Rule(1, FLOATS))
    yield "reinterpret", _Rule(1, ("int32", "int64", "float32", "float64"), "free")


RULES = dict(_rules())
_INTEGER_DIVISIONS = ("floor_divide", "floor_mod", "trunc_divide", "trunc_mod", "mod")


@dataclass(frozen=True)
class Expression:
    """Instructions in SSA form over broadcast inputs, and the values that are stored.

    Value ids 0 .. len(inputs) - 1 are the inputs; instruction k defines id len(inputs) + k. All outputs have shape `shape`.
    Every instruction computes exactly what PyTorch's operator of the same meaning computes on equal dtypes: promotion is
    spelled out as `cast`; `multiply_add` rounds once. float16 and bfloat16 are computed in float32 and rounded after every
    instruction, as eager does. `floor_mod` has the sign of the divisor (torch.remainder); `mod` and `trunc_mod` that of the
    dividend (torch.fmod). What integers divided by a zero in a tensor give is no particular number: eager raises, which a
    kernel cannot.

    Examples
    --------
    >>> from torch_tvm.kernels.expression import Expression, Instruction, Operand, Scalar
    >>> scaled_relu = Expression(
    ...     inputs=(Operand((8, 16), "float32"), Operand((16,), "float32")),
    ...     instructions=(
    ...         Instruction("add", (0, 1), "float32"),
    ...         Instruction("relu", (2,), "float32"),
    ...         Instruction("multiply", (3, Scalar(0.5, "float32")), "float32"),
    ...     ),
    ...     outputs=(4,),
    ...     shape=(8, 16),
    ... )
    >>> scaled_relu.output_operands
    (Operand(shape=(8, 16), dtype='float32'),)
    """

    inputs: tuple[Operand, ...]
    instructions: tuple[Instruction, ...]
    outputs: tuple[ValueId, ...]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check shapes, ids, operator names and dtypes; kernels rely on them."""
        for position, operand in enumerate(self.inputs):
            if not _broadcasts(operand.shape, self.shape):
                raise ValueError(
                    f"input {position} of shape {operand.shape} does not broadcast to {self.shape}"
                )
        dtypes = [operand.dtype for operand in self.inputs]
        for instruction in self.instructions:
            _check_instruction(instruction, dtypes)
            dtypes.append(instruction.dtype)
        if not self.outputs:
            raise ValueError("an Expression has at least one output, got none")
        for output in self.outputs:
            if not 0 <= output < len(dtypes):
                raise ValueError(f"output {output} names no value; there are {len(dtypes)}")

    def dtype_of(self, value: ValueId | Scalar) -> str:
        """Return the dtype of an input, of an instruction's result or of a constant."""
        if isinstance(value, Scalar):
            return value.dtype
        if value < len(self.inputs):
            return self.inputs[value].dtype
        return self.instructions[value - len(self.inputs)].dtype

    @property
    def output_operands(self) -> tuple[Operand, ...]:
        """Shape and dtype of each output."""
        return tuple(Operand(self.shape, self.dtype_of(output)) for output in self.outputs)


def identity(shape: tuple[int, ...], dtype: str) -> Expression:
    """Return the expression that copies its only input: the epilogue that does nothing."""
    return Expression((Operand(shape, dtype),), (), (0,), shape)


def emit(expression: Expression, loads: Sequence[PrimExpr], lanes: int) -> list[PrimExpr]:
    """Emit TIR that computes one vector of the expression; call it inside an IRBuilder frame.

    `loads[i]` is the vector (a scalar when `lanes` is 1) of input i in that input's dtype; the result has one vector per
    output in the output's dtype, ready to be stored. Each value is computed once, however often it is used.
    """
    from torch_tvm.kernels import instructions
    from torch_tvm.kernels.idioms import with_functions

    expression = with_functions(expression)
    if len(loads) != len(expression.inputs):
        raise ValueError(f"the expression has {len(expression.inputs)} inputs, got {len(loads)} loads")
    values = [
        instructions.unpack(load, operand.dtype, lanes)
        for load, operand in zip(loads, expression.inputs, strict=True)
    ]
    for instruction in expression.instructions:
        dtypes = tuple(expression.dtype_of(arg) for arg in instruction.args)
        args = tuple(
            instructions.constant(arg, lanes) if isinstance(arg, Scalar) else values[arg]
            for arg in instruction.args
        )
        values.append(instructions.apply(instruction, args, dtypes, lanes))
    return [
        instructions.pack(values[output], expression.dtype_of(output), lanes) for output in expression.outputs
    ]


def _check_dtype(dtype: str, what: str) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"{what} has one of the dtypes {', '.join(DTYPES)}; got {dtype!r}")


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    if len(shape) > len(target):
        return False
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return all(
        extent.same(size, 1) or extent.same(size, wanted) or size in (1, wanted) for size, wanted in pairs
    )


def _check_instruction(instruction: Instruction, dtypes: Sequence[str]) -> None:
    """Raise ValueError unless the instruction names known values and obeys its operator's rule."""
    op, args = instruction.op, instruction.args
    rule = RULES.get(op)
    if rule is None:
        raise ValueError(f"unknown operator {op!r}; the operators are {', '.join(sorted(RULES))}")
    _check_dtype(instruction.dtype, f"the result of {op}")
    if len(args) != rule.arity:
        raise ValueError(f"{op} takes {rule.arity} arguments, got {len(args)}")
    for arg in args:
        if not isinstance(arg, Scalar) and not 0 <= arg < len(dtypes):
            raise ValueError(f"{op} uses value {arg}, but only 0 to {len(dtypes) - 1} are defined before it")
    kinds = [arg.dtype if isinstance(arg, Scalar) else dtypes[arg] for arg in args]
    if rule.first:
        if kinds[0] != rule.first:
            raise ValueError(f"{op} takes a {rule.first} as its first argument, got {kinds[0]}")
        kinds = kinds[1:]
    if len(set(kinds)) != 1 or kinds[0] not in rule.operands:
        raise ValueError(
            f"{op} takes arguments of one dtype among {', '.join(rule.operands)}; got {', '.join(kinds)}"
        )
    if op == "reinterpret" and kinds[0][-2:] != instruction.dtype[-2:]:
        raise ValueError(f"reinterpret keeps the number of bits, got {kinds[0]} and {instruction.dtype}")
    expected = {"same": kinds[0], "bool": "bool", "free": instruction.dtype}[rule.result]
    if instruction.dtype != expected:
        raise ValueError(f"{op} of {kinds[0]} gives {expected}, not {instruction.dtype}")
    _check_constants(instruction)


def _check_constants(instruction: Instruction) -> None:
    """Refuse divisions by a constant zero and bounds or slopes that are not constants."""
    op, args = instruction.op, instruction.args
    if op in _INTEGER_DIVISIONS and instruction.dtype in INTS:
        divisor = args[1]
        if isinstance(divisor, Scalar) and divisor.value == 0:
            raise ValueError(f"{op} of {instruction.dtype} takes a divisor other than 0, got {divisor}")
    if op in ("clip", "leaky_relu") and not all(isinstance(arg, Scalar) for arg in args[1:]):
        raise ValueError(f"{op} takes constants after its first argument, got {args[1:]}")
    for arg in args:
        if isinstance(arg, Scalar) and arg.dtype in INTS:
            bits = int(arg.dtype.lstrip("uint"))
            low, high = (0, 2**bits) if arg.dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1))
            if not low <= arg.value < high:
                raise ValueError(f"{op} has the constant {arg.value}, which {arg.dtype} cannot hold")


def is_nan(scalar: Scalar) -> bool:
    """Tell whether a constant is NaN."""
    return isinstance(scalar.value, float) and math.isnan(scalar.value)
