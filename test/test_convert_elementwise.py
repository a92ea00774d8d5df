"""Arithmetic, comparison, logic and activation functions: the Relay means what eager PyTorch computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from convert_checks import FLOATS, INTEGERS, broadcasting, check, operators, tensors, values
from hypothesis import given
from hypothesis import strategies as st

ANY = [*FLOATS, *INTEGERS, torch.bool]

UNARY = [
    "neg",
    "abs",
    "exp",
    "sqrt",
    "rsqrt",
    "sin",
    "cos",
    "tan",
    "tanh",
    "sinh",
    "cosh",
    "asin",
    "acos",
    "atan",
    "erf",
    "sigmoid",
    "floor",
    "ceil",
    "trunc",
    "round",
    "isnan",
    "isinf",
    "isfinite",
    "reciprocal",
    "square",
    "log",
    "log2",
    "log10",
    "logical_not",
    "relu",
]
NO_BOOL = {"abs", "neg", "relu", "square", "floor", "ceil", "trunc", "round"}


@pytest.mark.parametrize("name", UNARY)
@given(data=st.data())
def test_unary(name: str, data: Any) -> None:
    dtypes = [dtype for dtype in ANY if not (dtype == torch.bool and name in NO_BOOL)]
    check(getattr(torch, name), data.draw(tensors(dtypes=dtypes, special=True)))


@pytest.mark.parametrize(
    "name",
    [
        "add",
        "mul",
        "maximum",
        "minimum",
        "true_divide",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "logical_and",
        "logical_or",
        "logical_xor",
    ],
)
@given(data=st.data())
def test_binary_promotes_like_pytorch(name: str, data: Any) -> None:
    check(getattr(torch, name), *data.draw(broadcasting(ANY, special=True)))


@pytest.mark.parametrize("name", ["sub", "floor_divide", "remainder", "fmod", "pow"])
@given(data=st.data())
def test_binary_of_floats(name: str, data: Any) -> None:
    check(getattr(torch, name), *data.draw(broadcasting(FLOATS)))


@given(
    x=tensors(dtypes=ANY, special=True),
    number=st.sampled_from([2, -3, 0.5, -1.5, 1e10, float("inf")]),
    name=st.sampled_from(["add", "mul", "div", "eq", "lt", "ge", "ne"]),
)
def test_numbers(x: torch.Tensor, number: Any, name: str) -> None:
    if number in (1e10, float("inf")) and not x.is_floating_point() and name != "div":
        number = 7.5
    check(lambda t: getattr(torch, name)(t, number), x)


@given(
    x=tensors(dtypes=INTEGERS),
    divisor=st.sampled_from([1, 2, 3, -2, -7]),
    name=st.sampled_from(["floor_divide", "remainder", "fmod", "div_floor", "div_trunc"]),
)
def test_integer_division_by_a_number(x: torch.Tensor, divisor: int, name: str) -> None:
    if x.dtype == torch.uint8:
        divisor = abs(divisor)
    if name.startswith("div_"):
        check(lambda t: torch.div(t, divisor, rounding_mode=name[4:]), x)
    else:
        check(lambda t: getattr(torch, name)(t, divisor), x)


@pytest.mark.parametrize("mode", ["floor", "trunc"])
@given(data=st.data())
def test_rounded_division_of_floats(mode: str, data: Any) -> None:
    check(
        lambda a, b: torch.div(a, b, rounding_mode=mode),
        *data.draw(broadcasting([torch.float32, torch.float64])),
    )


@given(
    pair=broadcasting(ANY),
    alpha=st.sampled_from([1, 2, -3, 0.5]),
    name=st.sampled_from(["add", "sub", "rsub"]),
)
def test_alpha(pair: list[torch.Tensor], alpha: float, name: str) -> None:
    if any(t.dtype == torch.bool for t in pair):
        return
    if not any(t.is_floating_point() for t in pair):
        alpha = int(alpha)
    check(lambda a, b: getattr(torch, name)(a, b, alpha=alpha), *pair)


@given(
    x=tensors(dtypes=FLOATS, special=True), exponent=st.sampled_from([0, 1, 2, 3, 4, 0.5, -0.5, -1, -2, 1.7])
)
def test_powers_of_floats(x: torch.Tensor, exponent: float) -> None:
    check(lambda t: torch.pow(t, exponent), x)


@given(x=tensors(dtypes=[torch.int64, torch.int32, torch.uint8]), exponent=st.integers(0, 7))
def test_powers_of_integers(x: torch.Tensor, exponent: int) -> None:
    check(lambda t: torch.pow(t, exponent), x)


@given(x=tensors(dtypes=FLOATS), base=st.sampled_from([2, 0.5, 1.0, 3.0]))
def test_powers_of_a_number(x: torch.Tensor, base: float) -> None:
    check(lambda t: torch.pow(base, t), x)


@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor", "__and__", "__or__"])
@given(data=st.data())
def test_bitwise(name: str, data: Any) -> None:
    pair = data.draw(broadcasting([*INTEGERS, torch.bool]))
    check(lambda a, b: getattr(a, name)(b), *pair)
    check(lambda a: ~a, pair[0])


@pytest.mark.parametrize("name", ["addcmul", "addcdiv"])
@given(data=st.data())
def test_add_combined(name: str, data: Any) -> None:
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    three = data.draw(broadcasting([dtype], count=3))
    check(lambda a, b, c: getattr(torch, name)(a, b, c, value=0.5), *three)


ACTIVATIONS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 2.0),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "threshold": lambda x: F.threshold(x, 0.25, -7.0),
    "clamp": lambda x: torch.clamp(x, -1.0, 0.5),
    "clamp_min": lambda x: torch.clamp(x, min=0.25),
    "clamp_max": lambda x: torch.clamp_max(x, 0.25),
    "clamp_crossed": lambda x: torch.clamp(x, 1.0, -1.0),
    "clamp_infinite": lambda x: torch.clamp(x, -float("inf"), 1.0),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@given(data=st.data())
def test_activation(name: str, data: Any) -> None:
    # oneDNN's gelu gives NaN for infinities, where the formula in PyTorch's documentation gives the limit.
    check(ACTIVATIONS[name], data.draw(tensors(dtypes=FLOATS, special=name != "gelu")))


@given(x=tensors(dtypes=INTEGERS), low=st.sampled_from([-3, 2, 0.5]), high=st.sampled_from([5, 1, 3.5]))
def test_clamp_of_integers(x: torch.Tensor, low: float, high: float) -> None:
    if x.dtype == torch.uint8:
        low = abs(low)
    check(lambda t: torch.clamp(t, low, high), x)


def test_clamp_to_int64_beyond_double_precision() -> None:
    bound = 2**53 + 1
    function = check(lambda t: torch.clamp(t, -bound, bound), torch.tensor([bound, bound + 5, -bound - 9, 0]))
    assert "clip" not in operators(function)


@given(three=broadcasting([torch.float32, torch.float64, torch.int64], count=3, special=True))
def test_clamp_by_tensors(three: list[torch.Tensor]) -> None:
    check(torch.clamp, *three)


@pytest.mark.parametrize("weights", [1, 3])
@pytest.mark.parametrize("shape", [[2, 3], [2, 3, 4, 4]])
def test_prelu(weights: int, shape: list[int]) -> None:
    check(F.prelu, values(shape, torch.float32), values([weights], torch.float32))


@pytest.mark.parametrize("fn", [F.softmax, F.log_softmax])
@given(data=st.data())
def test_softmax(fn: Any, data: Any) -> None:
    x = data.draw(tensors(dtypes=FLOATS))
    dim = data.draw(st.integers(-max(x.dim(), 1), max(x.dim(), 1) - 1))
    dtype = data.draw(st.sampled_from([None, torch.float64, torch.float32]))
    check(lambda t: fn(t, dim=dim, dtype=dtype), x)


def test_natural_operators() -> None:
    x = torch.randn(2, 3)
    assert operators(check(F.relu6, x)) == ["clip"]
    assert operators(check(lambda t: t * 2 + 1, x)) == ["multiply", "add"]
    assert operators(check(lambda t: t > 0, x)) == ["greater"]
    assert operators(check(lambda t: t.float(), x)) == []
