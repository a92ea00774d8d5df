"""Branch-free exp, log, tanh, erf and their kin for float32 vectors of any number of lanes.

LLVM turns exp, log ... of a vector into one libm call per lane (ten times slower, facts/kernels.md 4) and TVM's erf does not compile.
The polynomials are minimax fits made for this file (Lawson-weighted least squares in 40 digits); "ulp" is the largest error
found against float64 over all exponents (test_kernels_vector_math.py). Infinities, NaN, signed zeros and denormals are right
everywhere. float64 goes through libm, which is right first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tvm.tirx.script import builder as T

from torch_tvm.kernels import tir

Value = Any  # PrimExpr

_LN2_HIGH = 0.693145751953125  # ln(2) to 15 bits: n * _LN2_HIGH is exact for |n| < 512
_LN2_LOW = 1.42860682030941723212e-6
_LOG10_2_HIGH = 0.301025390625
_LOG10_2_LOW = 4.60503898119521373889e-6
_MIN_NORMAL = 2.0**-126
_LOG_MIN_NORMAL = -87.33654
_SQRT_HALF_BITS = 0x3F3504F3

# (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2
_EXP = (0.5, 0.1666654348373413, 0.04166628047823906, 0.008366583846509457, 0.001394644845277071)
# (log(1 + f) - f + f^2 / 2) / f^3 on sqrt(1/2) <= 1 + f <= sqrt(2)
_LOG = (
    0.3333331346511841,
    -0.25000008940696716,
    0.2000211924314499,
    -0.1666799634695053,
    0.14219550788402557,
    -0.12405592203140259,
    0.11888177692890167,
    -0.1167563870549202,
    0.06746591627597809,
)
_TANH_LIMIT = 9.02  # from here on tanh rounds to 1
# erf(x) / x - 1 as a polynomial in x^2, for |x| <= 0.92
_ERF_SMALL = (
    0.12837916612625122,
    -0.37612634897232056,
    0.11283697187900543,
    -0.026859499514102936,
    0.00520128570497036,
    -0.0008145595784299076,
    8.382383384741843e-05,
)
# log(1 - erf(x)) for 0.92 <= x <= 3.95, from where erf rounds to 1
_ERF_SPLIT, _ERF_LIMIT = 0.92, 3.95
_ERF_LARGE = (
    -0.00019565578259062022,
    -1.1276757717132568,
    -0.6371821165084839,
    -0.10393174737691879,
    0.02222699671983719,
    -0.003043237840756774,
    0.00019593947217799723,
)
# log2(Phi(-x)), Phi the normal distribution, for 0 <= x <= 6, where gelu(-x) = -6e-9
_GELU_LIMIT = 6.0
_LOG2_TAIL = (
    -0.9999999403953552,
    -1.1511064767837524,
    -0.4591980278491974,
    -0.052525509148836136,
    0.007099642883986235,
    -0.0001532009628135711,
    -0.0001899008493637666,
    4.531189188128337e-05,
    -4.725780399894575e-06,
    1.954579147422919e-07,
)
# 2^r on |r| <= 1/2
_EXP2 = (
    1.0000001192092896,
    0.6931469440460205,
    0.24022120237350464,
    0.05550713464617729,
    0.009675540961325169,
    0.0013276460813358426,
)


def exp(x: Value, lanes: int) -> Value:
    """e^x. 1.1 ulp."""
    n, q = _exp_reduced(_clamp(x, -104.0, 89.0, lanes), lanes)
    exponent = _hold(T.cast(n, tir.vector_dtype("int32", lanes)), lanes, "int32")
    half = _hold(T.shift_right(exponent, _int(1, lanes)), lanes, "int32")
    # Two factors: 2^n itself is no float32 for results that overflow or are denormal.
    return _hold(
        (q + _c(1.0, lanes)) * _power_of_two(half, lanes) * _power_of_two(exponent - half, lanes), lanes
    )


def exp_nonpositive(x: Value, lanes: int) -> Value:
    """e^x for x <= 0, zero where it is no normal number. 1.1 ulp, two thirds of the time of `exp`."""
    lowest = _c(_LOG_MIN_NORMAL, lanes)
    n, q = _exp_reduced(_hold(T.Select(lowest > x, lowest, x), lanes), lanes)
    exponent = T.shift_left(T.cast(n, tir.vector_dtype("int32", lanes)), _int(23, lanes))
    bits = T.reinterpret(tir.vector_dtype("int32", lanes), _hold(q + _c(1.0, lanes), lanes)) + exponent
    power = _hold(T.reinterpret(tir.vector_dtype("float32", lanes), bits), lanes)
    return _hold(T.Select(lowest > x, _c(0.0, lanes), power), lanes)


def expm1(x: Value, lanes: int) -> Value:
    """e^x - 1. 1.7 ulp."""
    n, q = _exp_reduced(_clamp(x, -20.0, 89.0, lanes), lanes)
    exponent = T.cast(n, tir.vector_dtype("int32", lanes)) - _int(1, lanes)
    scale = _hold(_power_of_two(exponent, lanes), lanes)
    # 2^(n-1) and a doubling at the end, because 2^128 is no float32.
    return _nonzero(_hold(_fma(scale, q, scale - _c(0.5, lanes), lanes) * _c(2.0, lanes), lanes), x, lanes)


def log(x: Value, lanes: int) -> Value:
    """Natural logarithm. 0.8 ulp."""
    k, f, tail = _log_reduced(x, lanes)
    small = _fma(k, _c(_LN2_LOW, lanes), tail, lanes) + f
    return _log_special(_fma(k, _c(_LN2_HIGH, lanes), small, lanes), x, lanes)


def log2(x: Value, lanes: int) -> Value:
    """Logarithm to base 2, exact for powers of two. 0.9 ulp."""
    k, f, tail = _log_reduced(x, lanes)
    # log2(e) = 1.4427 = 1 + 0.4427: the large part of the product stays exact.
    natural = _hold(f + tail, lanes)
    rest = _hold(tail - (natural - f), lanes)
    high = _c(1.44269502162933349609, lanes)
    low = _fma(natural, _c(1.92596299e-8, lanes), rest * high, lanes)
    return _log_special(_fma(natural, high, low, lanes) + k, x, lanes)


def log10(x: Value, lanes: int) -> Value:
    """Logarithm to base 10. 0.9 ulp."""
    k, f, tail = _log_reduced(x, lanes)
    natural = _hold(f + tail, lanes)
    rest = _hold(tail - (natural - f), lanes)
    high = _c(0.434294492006301879883, lanes)
    low = _fma(natural, _c(-1.0103050e-8, lanes), rest * high, lanes)
    low = _fma(k, _c(_LOG10_2_LOW, lanes), low, lanes)
    return _log_special(_fma(k, _c(_LOG10_2_HIGH, lanes), _fma(natural, high, low, lanes), lanes), x, lanes)


def log1p(x: Value, lanes: int) -> Value:
    """log(1 + x). 1.5 ulp."""
    u = _hold(x + _c(1.0, lanes), lanes)
    lost = _hold((x - (u - _c(1.0, lanes))) / u, lanes)
    whole = log(u, lanes)
    ordinary = T.And(u > _c(0.0, lanes), u < _c(math.inf, lanes))
    return _nonzero(_hold(T.Select(ordinary, whole + lost, whole), lanes), x, lanes)


def tanh(x: Value, lanes: int) -> Value:
    """Hyperbolic tangent, as (e^2x - 1) / (e^2x + 1). 2.4 ulp."""
    size = _clamp(_call("llvm.fabs", lanes, x), 0.0, _TANH_LIMIT, lanes)
    n, q = _exp_reduced(_hold(size + size, lanes), lanes)
    scale = _hold(_power_of_two(T.cast(n, tir.vector_dtype("int32", lanes)), lanes), lanes)
    less_one = _hold(_fma(scale, q, scale - _c(1.0, lanes), lanes), lanes)
    return _hold(_call("llvm.copysign", lanes, less_one / (less_one + _c(2.0, lanes)), x), lanes)


def erf(x: Value, lanes: int) -> Value:
    """Error function: a polynomial up to 0.92, 1 - e^polynomial beyond. 1.2 ulp.

    A rational function needs as many instructions with its division and errs by 5 ulp.
    """
    size = _hold(_call("llvm.fabs", lanes, x), lanes)
    small = _fma(_horner(_hold(x * x, lanes), _ERF_SMALL, lanes), size, size, lanes)
    n, q = _exp_reduced(_horner(_clamp(size, 0.0, _ERF_LIMIT, lanes), _ERF_LARGE, lanes), lanes)
    scale = _hold(_power_of_two(T.cast(n, tir.vector_dtype("int32", lanes)), lanes), lanes)
    large = _fma(_c(-0.0, lanes) - scale, q, _c(1.0, lanes) - scale, lanes)
    result = _hold(T.Select(size > _c(_ERF_SPLIT, lanes), large, small), lanes)
    return _hold(_call("llvm.copysign", lanes, result, x), lanes)


def logistic_denominator(x: Value, lanes: int) -> Value:
    """1 + e^-x, infinite from x = -88.4 on, where e^-x is 2.5e38: two thirds of the time of `exp`. 1.2 ulp."""
    x = _clamp(x, -89.0, 87.0, lanes)
    n = _hold(_call("llvm.nearbyint", lanes, x * _c(-math.log2(math.e), lanes)), lanes)
    r = _fma(n, _c(_LN2_HIGH, lanes), x, lanes)
    r = _hold(_fma(n, _c(_LN2_LOW, lanes), r, lanes), lanes)  # -x = n * ln(2) - r
    mirrored = [-c if k % 2 else c for k, c in enumerate(_EXP)]
    power = _hold(_fma(_horner(r, mirrored, lanes), r * r, _c(-0.0, lanes) - r, lanes), lanes)
    scale = _power_of_two(T.cast(n, tir.vector_dtype("int32", lanes)), lanes)
    return _hold(_fma(power + _c(1.0, lanes), scale, _c(1.0, lanes), lanes), lanes)


def sigmoid(x: Value, lanes: int) -> Value:
    """1 / (1 + e^-x), evaluated as eager does: 0 where e^-x overflows."""
    return _hold(_c(1.0, lanes) / logistic_denominator(x, lanes), lanes)


def gelu(x: Value, lanes: int) -> Value:
    """x * Phi(x) as max(x, 0) - |x| * Phi(-|x|). Absolute error 3e-7 (eager 1.2e-6); -inf gives NaN as in the formula.

    Takes two thirds of the time of the formula with erf (3.5 ns for 16 lanes on Zen 5).
    """
    size = _hold(_call("llvm.fabs", lanes, x), lanes)
    size = _hold(T.Select(_c(_GELU_LIMIT, lanes) < size, _c(_GELU_LIMIT, lanes), size), lanes)
    power = _horner(size, _LOG2_TAIL, lanes)
    n = _hold(_call("llvm.nearbyint", lanes, power), lanes)
    fraction = _horner(_hold(power - n, lanes), _EXP2, lanes)
    exponent = T.shift_left(T.cast(n, tir.vector_dtype("int32", lanes)), _int(23, lanes))
    bits = T.reinterpret(tir.vector_dtype("int32", lanes), fraction) + exponent
    tail = _hold(T.reinterpret(tir.vector_dtype("float32", lanes), bits), lanes)
    positive = T.Select(_c(0.0, lanes) > x, _c(0.0, lanes), x)
    result = _hold(_fma(_c(-0.0, lanes) - size, tail, positive, lanes), lanes)
    negative = T.Select(x > _c(0.0, lanes), _c(0.0, lanes), x)
    return _hold(_fma(negative, _c(0.0, lanes), result, lanes), lanes)


FLOAT32: dict[str, Callable[[Value, int], Value]] = {
    "exp": exp,
    "exp_nonpositive": exp_nonpositive,
    "expm1": expm1,
    "log": log,
    "log2": log2,
    "log10": log10,
    "log1p": log1p,
    "tanh": tanh,
    "erf": erf,
}

# Functions that LLVM knows as intrinsics of any vector and scalarises into libm calls; the others are called by name.
_LLVM_LIBM = set("exp log log2 log10 sin cos tan sinh cosh tanh asin acos atan pow".split())


def call(name: str, args: Sequence[Value], dtype: str, lanes: int) -> Value:
    """The function `name` of float32 or float64 vectors: ours where there is one, else libm lane by lane."""
    if dtype == "float32" and name in FLOAT32:
        return FLOAT32[name](args[0], lanes)
    name = name.removesuffix("_nonpositive")
    if name in _LLVM_LIBM:
        result = T.call_llvm_pure_intrin(tir.vector_dtype(dtype, lanes), f"llvm.{name}", *args)
        return _hold(result, lanes, dtype)
    symbol = name + "f" if dtype == "float32" else name
    if lanes == 1:
        return _hold(T.call_pure_extern(dtype, symbol, *args), 1, dtype)
    inputs = [tir.scratch(dtype, lanes) for _ in args]
    for buffer, arg in zip(inputs, args, strict=True):
        tir.store(buffer, arg, (0,), lanes)
    result = tir.scratch(dtype, lanes)
    with T.serial(0, lanes) as lane:
        T.buffer_store(
            result, T.call_pure_extern(dtype, symbol, *(buffer[lane] for buffer in inputs)), [lane]
        )
    return tir.load(result, (0,), lanes)


def _c(value: float, lanes: int) -> Value:
    return tir.constant(value, "float32", lanes)


def _int(value: int, lanes: int) -> Value:
    return tir.constant(value, "int32", lanes)


def _hold(value: Value, lanes: int, dtype: str = "float32") -> Value:
    return tir.materialise(value, dtype, lanes)


def _call(intrinsic: str, lanes: int, *args: Value) -> Value:
    return T.call_llvm_pure_intrin(tir.vector_dtype("float32", lanes), intrinsic, *args)


def _fma(a: Value, b: Value, c: Value, lanes: int) -> Value:
    return _call("llvm.fma", lanes, a, b, c)


def _horner(x: Value, coefficients: Sequence[float], lanes: int) -> Value:
    """The polynomial whose coefficient of x^k is `coefficients[k]`."""
    result = _c(coefficients[-1], lanes)
    for coefficient in reversed(coefficients[:-1]):
        result = _fma(result, x, _c(coefficient, lanes), lanes)
    return _hold(result, lanes)


def _clamp(x: Value, low: float, high: float, lanes: int) -> Value:
    """min(max(x, low), high) that keeps NaN; one vmaxps and one vminps."""
    raised = _hold(T.Select(_c(low, lanes) > x, _c(low, lanes), x), lanes)
    return _hold(T.Select(_c(high, lanes) < raised, _c(high, lanes), raised), lanes)


def _power_of_two(exponent: Value, lanes: int) -> Value:
    bits = T.shift_left(exponent + _int(127, lanes), _int(23, lanes))
    return T.reinterpret(tir.vector_dtype("float32", lanes), bits)


def _nonzero(result: Value, x: Value, lanes: int) -> Value:
    """`result`, but x itself where x is zero: keeps the sign of -0.0 in functions with f(x) ~ x."""
    return _hold(T.Select(T.EQ(x, _c(0.0, lanes)), x, result), lanes)


def _exp_reduced(x: Value, lanes: int) -> tuple[Value, Value]:
    """n and q with e^x = 2^n * (1 + q) and |q| < 0.42."""
    n = _hold(_call("llvm.nearbyint", lanes, x * _c(math.log2(math.e), lanes)), lanes)
    r = _fma(n, _c(-_LN2_HIGH, lanes), x, lanes)
    r = _hold(_fma(n, _c(-_LN2_LOW, lanes), r, lanes), lanes)
    return n, _hold(_fma(_horner(r, _EXP, lanes), r * r, r, lanes), lanes)


def _log_reduced(x: Value, lanes: int) -> tuple[Value, Value, Value]:
    """k, f and t with log(x) = k * ln(2) + f + t, 1 + f in [sqrt(1/2), sqrt(2)) and |t| < |f|."""
    denormal = x < _c(_MIN_NORMAL, lanes)
    scaled = _hold(T.Select(denormal, x * _c(2.0**23, lanes), x), lanes)
    bits = _hold(T.reinterpret(tir.vector_dtype("int32", lanes), scaled), lanes, "int32")
    exponent = T.shift_right(bits - _int(_SQRT_HALF_BITS, lanes), _int(23, lanes))
    exponent = _hold(exponent, lanes, "int32")
    mantissa = T.reinterpret(
        tir.vector_dtype("float32", lanes), bits - T.shift_left(exponent, _int(23, lanes))
    )
    f = _hold(mantissa - _c(1.0, lanes), lanes)
    shift = T.Select(denormal, _c(23.0, lanes), _c(0.0, lanes))
    k = _hold(T.cast(exponent, tir.vector_dtype("float32", lanes)) - shift, lanes)
    square = _hold(f * f, lanes)
    tail = _fma(_horner(f, _LOG, lanes), square * f, square * _c(-0.5, lanes), lanes)
    return k, f, _hold(tail, lanes)


def _log_special(result: Value, x: Value, lanes: int) -> Value:
    """The logarithm's values at 0, below 0, at infinity and NaN."""
    result = _hold(result, lanes)
    at_most_zero = T.Select(T.EQ(x, _c(0.0, lanes)), _c(-math.inf, lanes), _c(math.nan, lanes))
    result = _hold(T.Select(x > _c(0.0, lanes), result, at_most_zero), lanes)
    return _hold(T.Select(T.EQ(x, _c(math.inf, lanes)), x, result), lanes)
