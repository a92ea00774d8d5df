"""TIR for each operator of an `Expression`, with PyTorch's semantics to the bit where eager defines one.

TVM's simplifier treats floats as reals (x - x is 0, not (a < b) is b <= a, and its != is false for NaN) and LLVM may contract a * b + c
and assume that integers do not overflow. So every value and constant is held in a buffer of its own (LLVM turns it back into
a register), a product passes an arithmetic fence, and the integer results that may wrap too.
float16 and bfloat16 values are held as float32 numbers that the narrow type can represent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script import builder as T

from torch_tvm.kernels import tir, vector_math
from torch_tvm.kernels.expression import FLOATS, INTS, Instruction, Scalar, is_nan

Value = Any  # PrimExpr

_NARROW_FLOATS = ("float16", "bfloat16")
_INT_BITS = {"uint8": 8, "int8": 8, "int16": 16, "int32": 32, "int64": 64}


def unpack(load: Value, dtype: str, lanes: int) -> Value:
    """Hold a vector that was loaded as `dtype` in the form that `apply` works on."""
    if dtype == "bfloat16":
        bits = T.cast(
            T.reinterpret(tir.vector_dtype("uint16", lanes), load), tir.vector_dtype("uint32", lanes)
        )
        shifted = T.shift_left(bits, tir.constant(16, "uint32", lanes))
        load = T.reinterpret(tir.vector_dtype("float32", lanes), shifted)
    elif dtype == "float16":
        load = T.cast(load, tir.vector_dtype("float32", lanes))
    return tir.materialise(load, _held_dtype(dtype), lanes)


def pack(value: Value, dtype: str, lanes: int) -> Value:
    """Turn a held value into a vector of `dtype` that can be stored."""
    if dtype == "float16":
        return T.cast(value, tir.vector_dtype("float16", lanes))
    if dtype == "bfloat16":
        bits = T.reinterpret(tir.vector_dtype("uint32", lanes), value)
        high = T.cast(
            T.shift_right(bits, tir.constant(16, "uint32", lanes)), tir.vector_dtype("uint16", lanes)
        )
        return T.reinterpret(tir.vector_dtype("bfloat16", lanes), high)
    return value


def constant(scalar: Scalar, lanes: int) -> Value:
    """Hold a constant; TVM would otherwise fold it as a real number."""
    dtype = _held_dtype(scalar.dtype)
    return tir.materialise(tir.constant(scalar.value, dtype, lanes), dtype, lanes)


def apply(instruction: Instruction, args: Sequence[Value], dtypes: Sequence[str], lanes: int) -> Value:
    """Emit one instruction on held values and hold its result."""
    scope = _Scope(instruction, _held_dtype(dtypes[-1]), dtypes[-1], lanes)
    if len(args) == 2 and args[0] is args[1]:
        args = (args[0], scope.hold(args[1]))  # a second buffer, or TVM would see x - x and x == x
    return _EMITTERS[instruction.op](scope, *args)


def _held_dtype(dtype: str) -> str:
    return "float32" if dtype in _NARROW_FLOATS else dtype


@dataclass(frozen=True)
class _Scope:
    """What an emitter knows: its instruction, and the dtype that its data arguments are held in and have."""

    instruction: Instruction
    held: str
    dtype: str
    lanes: int

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    def scalar(self, position: int) -> Scalar | None:
        arg = self.instruction.args[position]
        return arg if isinstance(arg, Scalar) else None

    def const(self, value: float | int | bool) -> Value:
        return self.hold(tir.constant(value, self.held, self.lanes))

    def hold(self, value: Value, dtype: str = "") -> Value:
        return tir.materialise(value, dtype or self.held, self.lanes)

    def as_dtype(self, dtype: str) -> str:
        return tir.vector_dtype(dtype, self.lanes)

    def llvm(self, name: str, *args: Value) -> Value:
        return self.hold(T.call_llvm_pure_intrin(self.as_dtype(self.held), f"llvm.{name}", *args))

    def round(self, value: Value) -> Value:
        """Hold a float result rounded to the instruction's dtype."""
        return self.hold(_round(value, self.dtype, self.lanes))

    def exact(self, value: Value) -> Value:
        """Hold a product that LLVM must not contract with an addition."""
        return self.llvm("arithmetic.fence", value)

    def wrap(self, value: Value) -> Value:
        """Hold an integer result that may have overflowed: LLVM marks 32 and 64-bit arithmetic as never doing so."""
        bits = _INT_BITS[self.dtype]
        if bits < 32:
            return self.hold(value)
        carrier = self.as_dtype(f"float{bits}")
        fenced = T.call_llvm_pure_intrin(carrier, "llvm.arithmetic.fence", T.reinterpret(carrier, value))
        return self.hold(T.reinterpret(self.as_dtype(self.dtype), fenced))

    def truth(self, value: Value) -> Value:
        return self.hold(value, "bool")

    def unlike(self, a: Value, b: Value) -> Value:
        """a != b. TVM's own != is LLVM's ordered one, which is false for NaN, and does not compile for bool."""
        equal = self.truth(T.EQ(a, b))
        return self.truth(T.Not(equal))

    def nan(self, x: Value) -> Value:
        return self.unlike(x, self.hold(x))


def _round(value: Value, dtype: str, lanes: int) -> Value:
    """Round float32 to the nearest float16 or bfloat16, ties to even, and give it back as float32."""
    single = tir.vector_dtype("float32", lanes)
    if dtype == "float16":
        return T.cast(T.cast(value, tir.vector_dtype("float16", lanes)), single)
    if dtype != "bfloat16":
        return value
    unsigned = tir.vector_dtype("uint32", lanes)

    def bits_of(number: int) -> Value:
        return tir.constant(number, "uint32", lanes)

    bits = tir.materialise(T.reinterpret(unsigned, value), "uint32", lanes)
    odd = T.bitwise_and(T.shift_right(bits, bits_of(16)), bits_of(1))
    rounded = T.bitwise_and(bits + (odd + bits_of(0x7FFF)), bits_of(0xFFFF0000))
    magnitude = T.bitwise_and(bits, bits_of(0x7FFFFFFF))
    # The carry of rounding would turn some NaN into infinity or zero.
    quiet = T.Select(magnitude > bits_of(0x7F800000), bits_of(0x7FC00000), rounded)
    return T.reinterpret(single, tir.materialise(quiet, "uint32", lanes))


# Arithmetic


def _add(s: _Scope, a: Value, b: Value) -> Value:
    return s.round(a + b) if s.is_float else s.wrap(a + b)


def _subtract(s: _Scope, a: Value, b: Value) -> Value:
    return s.round(a - b) if s.is_float else s.wrap(a - b)


def _multiply(s: _Scope, a: Value, b: Value) -> Value:
    return s.round(s.exact(a * b)) if s.is_float else s.wrap(a * b)


def _divide(s: _Scope, a: Value, b: Value) -> Value:
    return s.round(T.Div(a, b))


def _safe_divisor(s: _Scope, b: Value) -> tuple[Value, Value | None]:
    """Return an integer divisor that never traps, and where the given one is -1 instead.

    x86 traps for zero and, as the quotient does not fit, for the smallest integer divided by -1. Constants are not zero.
    """
    scalar = s.scalar(1)
    if scalar is not None:
        return b, None
    safe = _pick(s, T.EQ(b, s.const(0)), s.const(1), b)
    if s.dtype == "uint8":
        return safe, None
    negated = s.truth(T.EQ(b, s.const(-1)))
    return _pick(s, negated, s.const(1), safe), negated


def _trunc_divide(s: _Scope, a: Value, b: Value) -> Value:
    if s.is_float:
        return s.llvm("trunc", _divide(s, a, b))  # eager rounds a 16-bit quotient first
    if s.scalar(1) == Scalar(-1, s.dtype):
        return s.wrap(s.const(0) - a)
    safe, negated = _safe_divisor(s, b)
    quotient = s.hold(T.Div(a, safe))
    return quotient if negated is None else _pick(s, negated, s.wrap(s.const(0) - a), quotient)


def _trunc_mod(s: _Scope, a: Value, b: Value) -> Value:
    if s.is_float:
        return s.round(vector_math.call("fmod", (a, b), s.held, s.lanes))
    if s.scalar(1) == Scalar(-1, s.dtype):
        return s.const(0)
    return s.hold(T.Mod(a, _safe_divisor(s, b)[0]))


def _other_sign(s: _Scope, remainder: Value, b: Value) -> Value:
    """Whether a truncated remainder is not zero and has not the divisor's sign."""
    zero = s.const(0)
    differ = s.truth(T.bitwise_xor(s.truth(remainder < zero), s.truth(b < zero)))
    return s.truth(T.And(differ, s.unlike(remainder, zero)))


def _floor_mod(s: _Scope, a: Value, b: Value) -> Value:
    remainder = _trunc_mod(s, a, b)
    return s.round(T.Select(_other_sign(s, remainder, b), s.hold(remainder + b), remainder))


def _floor_divide(s: _Scope, a: Value, b: Value) -> Value:
    if not s.is_float:
        quotient, remainder = _trunc_divide(s, a, b), _trunc_mod(s, a, b)
        return s.hold(T.Select(_other_sign(s, remainder, b), quotient - s.const(1), quotient))
    zero, one = s.const(0.0), s.const(1.0)
    remainder = vector_math.call("fmod", (a, b), s.held, s.lanes)
    exact = s.hold(T.Div(s.hold(a - remainder), b))
    exact = s.hold(T.Select(_other_sign(s, remainder, b), exact - one, exact))
    floor = s.llvm("floor", exact)
    floor = s.hold(T.Select(s.truth(s.hold(exact - floor) > s.const(0.5)), floor + one, floor))
    quotient = s.hold(T.Div(a, b))
    floor = s.hold(T.Select(T.EQ(exact, zero), s.llvm("copysign", zero, quotient), floor))
    return s.round(T.Select(T.EQ(b, zero), quotient, floor))


def _power(s: _Scope, base: Value, exponent: Value) -> Value:
    if not s.is_float:
        return _integer_power(s, base, exponent)
    scalar = s.scalar(1)
    if scalar is None:
        return s.round(vector_math.call("pow", (base, exponent), s.held, s.lanes))
    special = _SCALAR_POWERS.get(float(scalar.value))
    return s.round(
        special(s, base) if special else vector_math.call("pow", (base, exponent), s.held, s.lanes)
    )


def _square(s: _Scope, x: Value) -> Value:
    return s.exact(x * x)


def _reciprocal(s: _Scope, x: Value) -> Value:
    return s.hold(T.Div(s.const(1.0), x))


# The exponents that eager treats apart, with its own formulas.
_SCALAR_POWERS: dict[float, Callable[[_Scope, Value], Value]] = {
    0.0: lambda s, x: s.const(1.0),
    0.5: lambda s, x: s.llvm("sqrt", x),
    1.0: lambda s, x: x,
    2.0: _square,
    3.0: lambda s, x: s.exact(_square(s, x) * x),
    -0.5: lambda s, x: _reciprocal(s, s.llvm("sqrt", x)),
    -1.0: _reciprocal,
    -2.0: lambda s, x: _reciprocal(s, _square(s, x)),
}


def _integer_power(s: _Scope, base: Value, exponent: Value) -> Value:
    """Square and multiply with wrap-around; a negative exponent gives 1 / base truncated, 0 for base 0."""
    bits = _INT_BITS[s.dtype]
    scalar = s.scalar(1)
    steps = bits if scalar is None else max(1, int(abs(scalar.value)).bit_length())
    one, zero = s.const(1), s.const(0)
    result, factor = s.const(1), base
    for step in range(steps):
        bit = s.hold(T.bitwise_and(T.shift_right(exponent, s.const(step)), one))
        result = s.hold(T.Select(s.unlike(bit, zero), s.wrap(result * factor), result))
        factor = s.wrap(factor * s.hold(factor))
    if s.dtype == "uint8":
        return result
    odd = s.hold(T.bitwise_and(exponent, one))
    minus_one = s.const(-1)
    of_minus_one = s.hold(T.Select(T.EQ(odd, zero), one, minus_one))
    inverse = s.hold(T.Select(T.EQ(base, minus_one), of_minus_one, zero))
    inverse = s.hold(T.Select(T.EQ(base, one), one, inverse))
    return s.hold(T.Select(exponent < zero, inverse, result))


# Comparison, logic, selection


def _pick(s: _Scope, condition: Value, a: Value, b: Value) -> Value:
    return s.hold(T.Select(condition, a, b))


def _maximum(s: _Scope, a: Value, b: Value) -> Value:
    if s.dtype == "bool":
        return s.hold(T.Or(a, b))
    larger = _pick(s, a > b, a, b)  # b if one of them is NaN
    return _pick(s, s.nan(a), a, larger) if s.is_float else larger


def _minimum(s: _Scope, a: Value, b: Value) -> Value:
    if s.dtype == "bool":
        return s.hold(T.And(a, b))
    smaller = _pick(s, a < b, a, b)
    return _pick(s, s.nan(a), a, smaller) if s.is_float else smaller


def _clip(s: _Scope, x: Value, low: Value, high: Value) -> Value:
    for position, bound in ((1, low), (2, high)):
        scalar = s.scalar(position)
        if scalar is not None and is_nan(scalar):
            return bound
    raised = _pick(s, low > x, low, x)  # x where x is NaN
    return s.round(_pick(s, high < raised, high, raised))


def _compare(test: Callable[[Value, Value], Value]) -> Callable[[_Scope, Value, Value], Value]:
    def emit(s: _Scope, a: Value, b: Value) -> Value:
        if s.dtype == "bool":
            a, b = (s.hold(T.cast(x, s.as_dtype("int8")), "int8") for x in (a, b))
        return s.truth(test(a, b))

    return emit


def _not_equal(s: _Scope, a: Value, b: Value) -> Value:
    return s.hold(T.bitwise_xor(a, b)) if s.dtype == "bool" else s.unlike(a, b)


def _bitwise_not(s: _Scope, x: Value) -> Value:
    return s.hold(T.Not(x) if s.dtype == "bool" else T.bitwise_not(x))


def _shift(
    s: _Scope, x: Value, count: Value, shift: Callable[[Value, Value], Value], *, right: bool
) -> Value:
    """Shift; a count outside 0 .. bits - 1 shifts everything out, as in eager (and is undefined in LLVM)."""
    last = s.const(_INT_BITS[s.dtype] - 1)
    valid = s.truth(T.And(s.truth(s.const(0) <= count), s.truth(count <= last)))
    shifted = s.hold(shift(x, _pick(s, valid, count, last)))
    return shifted if right and s.dtype != "uint8" else _pick(s, valid, shifted, s.const(0))


# Unary


def _negative(s: _Scope, x: Value) -> Value:
    return s.hold(s.const(-0.0) - x) if s.is_float else s.wrap(s.const(0) - x)


def _abs(s: _Scope, x: Value) -> Value:
    if s.is_float:
        return s.llvm("fabs", x)
    return x if s.dtype == "uint8" else _pick(s, x < s.const(0), s.wrap(s.const(0) - x), x)


def _sign(s: _Scope, x: Value) -> Value:
    zero, one = s.const(0), s.const(1)
    positive = _pick(s, zero < x, one, zero)
    return positive if s.dtype == "uint8" else _pick(s, x < zero, s.const(-1), positive)


def _relu(s: _Scope, x: Value) -> Value:
    zero = s.const(0)
    return _pick(s, zero > x, zero, x)  # x where x is NaN, in one vmaxps


def _leaky_relu(s: _Scope, x: Value, slope: Value) -> Value:
    return s.round(_pick(s, x > s.const(0.0), x, s.exact(x * slope)))


def _rounding(intrinsic: str) -> Callable[[_Scope, Value], Value]:
    return lambda s, x: s.llvm(intrinsic, x) if s.is_float else x


def _isnan(s: _Scope, x: Value) -> Value:
    return s.nan(x) if s.is_float else _never(s)


def _isinf(s: _Scope, x: Value) -> Value:
    return s.truth(T.EQ(s.llvm("fabs", x), s.const(math.inf))) if s.is_float else _never(s)


def _isfinite(s: _Scope, x: Value) -> Value:
    if s.is_float:
        return s.truth(s.llvm("fabs", x) < s.const(math.inf))
    return s.truth(T.Not(_never(s)))


def _never(s: _Scope) -> Value:
    return s.truth(tir.constant(False, "bool", s.lanes))


def _cast(s: _Scope, x: Value) -> Value:
    source, target = s.dtype, s.instruction.dtype
    held = _held_dtype(target)
    if target == "bool":
        return x if source == "bool" else s.unlike(x, s.const(0))
    if source in FLOATS and target in INTS and _INT_BITS[target] < 32:
        x = s.hold(T.cast(x, s.as_dtype("int32")), "int32")  # the low bits of a wider integer, as eager
    if _held_dtype(source) != held:
        x = T.cast(x, s.as_dtype(held))
    return s.hold(_round(s.hold(x, held), target, s.lanes), held)


def _reinterpret(s: _Scope, x: Value) -> Value:
    target = s.instruction.dtype
    return s.hold(T.reinterpret(s.as_dtype(target), x), target)


def _function(name: str) -> Callable[..., Value]:
    return lambda s, x: s.round(vector_math.call(name, (x,), s.held, s.lanes))


def _exponential(s: _Scope, x: Value) -> Value:
    """1 + e^-x, the denominator of sigmoid and silu."""
    if s.held == "float32":
        return vector_math.logistic_denominator(x, s.lanes)
    return s.hold(s.const(1.0) + vector_math.call("exp", (s.hold(s.const(-0.0) - x),), s.held, s.lanes))


def _gelu(s: _Scope, x: Value) -> Value:
    if s.held == "float32":
        return s.round(vector_math.gelu(x, s.lanes))
    erf = vector_math.call("erf", (s.hold(x * s.const(math.sqrt(0.5))),), s.held, s.lanes)
    return s.round(s.exact(s.exact(x * s.const(0.5)) * (s.const(1.0) + erf)))


def _gelu_tanh(s: _Scope, x: Value) -> Value:
    """x / (1 + e^-2u) in float32, which is x (1 + tanh(u)) / 2 without the cancellation where tanh nears -1."""
    if s.held == "float32":
        linear, cubic = 2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715
        twice = s.hold(x * s.hold(s.const(linear) + s.const(cubic) * s.hold(x * x)))
        return s.round(T.Div(x, vector_math.logistic_denominator(twice, s.lanes)))
    cube = s.exact(s.exact(x * x) * x)
    inner = s.hold(s.const(math.sqrt(2.0 / math.pi)) * (x + s.exact(s.const(0.044715) * cube)))
    tanh = vector_math.call("tanh", (inner,), s.held, s.lanes)
    return s.round(s.exact(s.exact(x * s.const(0.5)) * (s.const(1.0) + tanh)))


_EMITTERS: dict[str, Callable[..., Value]] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "multiply_add": lambda s, a, b, c: s.llvm("fma", a, b, c),
    "divide": _divide,
    "floor_divide": _floor_divide,
    "floor_mod": _floor_mod,
    "trunc_divide": _trunc_divide,
    "trunc_mod": _trunc_mod,
    "mod": _trunc_mod,
    "power": _power,
    "maximum": _maximum,
    "minimum": _minimum,
    "clip": _clip,
    "equal": _compare(T.EQ),
    "not_equal": _not_equal,
    "less": _compare(T.LT),
    "less_equal": _compare(T.LE),
    "greater": _compare(T.GT),
    "greater_equal": _compare(T.GE),
    "logical_and": lambda s, a, b: s.hold(T.And(a, b)),
    "logical_or": lambda s, a, b: s.hold(T.Or(a, b)),
    "logical_xor": lambda s, a, b: s.hold(T.bitwise_xor(a, b)),
    "logical_not": _bitwise_not,
    "bitwise_and": lambda s, a, b: s.hold(T.And(a, b) if s.dtype == "bool" else T.bitwise_and(a, b)),
    "bitwise_or": lambda s, a, b: s.hold(T.Or(a, b) if s.dtype == "bool" else T.bitwise_or(a, b)),
    "bitwise_xor": lambda s, a, b: s.hold(T.bitwise_xor(a, b)),
    "bitwise_not": _bitwise_not,
    "left_shift": lambda s, a, b: _shift(s, a, b, T.shift_left, right=False),
    "right_shift": lambda s, a, b: _shift(s, a, b, T.shift_right, right=True),
    "where": _pick,
    "cast": _cast,
    "reinterpret": _reinterpret,
    "negative": _negative,
    "abs": _abs,
    "sign": _sign,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "floor": _rounding("floor"),
    "ceil": _rounding("ceil"),
    "round": _rounding("nearbyint"),
    "trunc": _rounding("trunc"),
    "isnan": _isnan,
    "isinf": _isinf,
    "isfinite": _isfinite,
    "sqrt": lambda s, x: s.round(s.llvm("sqrt", x)),
    "rsqrt": lambda s, x: s.round(_reciprocal(s, s.llvm("sqrt", x))),
    "sigmoid": lambda s, x: s.round(_reciprocal(s, _exponential(s, x))),
    "silu": lambda s, x: s.round(T.Div(x, _exponential(s, x))),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    **{name: _function(name) for name in "exp expm1 log log1p log2 log10 sin cos tan tanh sinh cosh".split()},
    **{name: _function(name) for name in "asin acos atan asinh acosh atanh erf".split()},
}
