"""Signs, fractions, angles, infinities, bits, and integers divided and shifted by tensors, against eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from convert_checks import FLOATS, INTEGERS, SPECIAL, broadcasting, check, run_compiled, tensors
from hypothesis import given, settings
from hypothesis import strategies as st
from jit_checks import trace

import torch_tvm

Tensor = torch.Tensor
quick = settings(max_examples=10, deadline=None)

UNARY: list[Callable[[Tensor], Tensor]] = [
    torch.sign,
    torch.sgn,
    torch.signbit,
    torch.deg2rad,
    torch.rad2deg,
    torch.nan_to_num,
    lambda x: torch.nan_to_num(x, 1.0, 2.0, 3.0),
    torch.isposinf,
    torch.isneginf,
    torch.isreal,
    torch.angle,
    torch.real,
    torch.asinh,
    torch.acosh,
    torch.atanh,
]
BINARY: list[Callable[[Tensor, Tensor], Tensor]] = [
    torch.copysign,
    torch.atan2,
    torch.hypot,
    torch.fmax,
    torch.fmin,
    torch.heaviside,
    torch.isclose,
    lambda a, b: torch.isclose(a, b, rtol=0.3, atol=0.1, equal_nan=True),
    lambda a, b: torch.lerp(a, b, 0.3),
    lambda a, b: torch.lerp(a, b, 0.7),
]


@quick
@given(x=tensors(dtypes=[*FLOATS, *INTEGERS], special=True))
def test_unary_in_relay(x: Tensor) -> None:
    check(lambda x: [fn(x) for fn in UNARY], x)


@quick
@given(pair=broadcasting([torch.float32], special=True), dtype=st.sampled_from(FLOATS))
def test_binary_in_relay(pair: list[Tensor], dtype: torch.dtype) -> None:
    check(lambda a, b: [fn(a, b) for fn in BINARY], *(tensor.to(dtype) for tensor in pair))


@quick
@given(pair=broadcasting([*INTEGERS, torch.bool]))
def test_binary_of_integers_in_relay(pair: list[Tensor]) -> None:
    same = [tensor.to(pair[0].dtype) for tensor in pair]
    check(lambda a, b: (torch.fmax(a, b), torch.fmin(a, b), torch.isclose(a, b, rtol=0.2)), *same)
    check(lambda a, b: (torch.heaviside(a, b), torch.copysign(a, b)), *same)


def test_compiled() -> None:
    special = torch.tensor(SPECIAL)
    nan = torch.tensor([float("nan"), -float("nan")])
    run_compiled(lambda x, n: [*(fn(x) for fn in UNARY), torch.frac(x), n.signbit()], special, nan)
    run_compiled(lambda a, b: [fn(a, b) for fn in BINARY], special[:, None], special)


def test_compiled_in_other_dtypes() -> None:
    special = torch.tensor(SPECIAL, dtype=torch.float64)
    run_compiled(
        lambda a, b: (torch.atan2(a, b), torch.copysign(a, b), a.signbit(), a.atanh()),
        special[:, None],
        special,
    )
    run_compiled(
        lambda a, b: (torch.atan2(a, b), torch.isclose(a, b)), special[:, None].half(), special.half()
    )


def test_weights_and_exponents_in_tensors() -> None:
    a, b, weight = torch.randn(5, 6), torch.randn(5, 6) * 4, torch.rand(6)
    run_compiled(
        lambda a, b, w: (torch.lerp(a, b, w), torch.ldexp(a, b.int()), torch.ldexp(a, b)), a, b, weight
    )


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_divided_by_a_tensor(dtype: torch.dtype) -> None:
    a = torch.randint(-20, 20, (40,)).to(dtype)
    b = torch.randint(1, 20, (40,)).to(dtype)
    if dtype != torch.uint8:
        b[::2] *= -1
        b[1] = -1

    def divide(a: Tensor, b: Tensor) -> Any:
        return (
            a // b,
            a % b,
            torch.fmod(a, b),
            torch.div(a, b, rounding_mode="trunc"),
            torch.remainder(100, b),
        )

    check(divide, a, b)
    run_compiled(divide, a, b)


def test_the_smallest_integer_does_not_trap() -> None:
    """Its quotient by -1 does not fit, for which x86 raises SIGFPE."""
    lowest = torch.tensor([-(2**63), -(2**63), -(2**63), 7])
    run_compiled(lambda a, b: (a % b, torch.fmod(a, b), a // (b - 1)), lowest, torch.tensor([-1, 3, -2, -1]))


@pytest.mark.parametrize("fn", [torch.floor_divide, torch.remainder, torch.fmod])
def test_integers_divided_by_zero_raise_as_in_pytorch(fn: Any) -> None:
    a, b = torch.arange(9), torch.full((9,), 2)
    with torch_tvm.enabled(min_group_size=1):
        traced = trace(lambda a, b: fn(a, b), a, b)
        assert torch.equal(traced(a, b), fn(a, b))
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            traced(a, b * 0)
        assert torch.equal(traced(a, b), fn(a, b))
    assert torch_tvm.stats()["compiled"] >= 1
    assert torch_tvm.stats()["fallbacks"] == 1


def test_integer_powers_of_tensors() -> None:
    base, exponent = torch.randint(-5, 5, (40,)), torch.randint(-4, 6, (40,))
    powers = lambda a, b: (a**b, 2**b, torch.float_power(a, b), torch.float_power(a, 2))  # noqa: E731
    check(powers, base, exponent)
    run_compiled(powers, base, exponent)


def test_shifts_and_bits() -> None:
    x = torch.randint(-100, 100, (40,), dtype=torch.int32)
    count = torch.randint(0, 40, (40,), dtype=torch.int32)

    def bits(a: Tensor, b: Tensor) -> Any:
        yield from (a << b, a >> b, a << 2, torch.bitwise_left_shift(3, b), torch.bitwise_right_shift(a, 1))
        yield from (torch.bitwise_and(3, b), torch.bitwise_or(a, b), torch.bitwise_xor(5, b))

    check(lambda a, b: list(bits(a, b)), x, count)
    run_compiled(lambda a, b: list(bits(a, b)), x, count)
