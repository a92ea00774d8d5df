"""Relay's element-wise operators and reductions compute what PyTorch's operators of the same meaning compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from compiler_cases import Case, check, rand

from torch_tvm import relay

call = relay.Call


def unary(*names: str) -> list[Case]:
    special: dict[str, Callable[..., Any]] = {
        "negative": torch.neg,
        "nn.relu": torch.relu,
        "copy": lambda x: x.clone(),
        "fast_exp": torch.exp,
        "fast_erf": torch.erf,
        "fast_tanh": torch.tanh,
    }
    return [
        (
            name,
            lambda *x, n=name: call(n, [x[0]]),
            lambda *x, n=name: (special.get(n) or getattr(torch, n))(x[0]),
        )
        for name in names
    ]


ANY_REAL = (
    "abs atan asinh ceil cos cosh erf exp fast_erf fast_exp fast_tanh floor isfinite isinf isnan negative nn.relu "
    "ones_like round sigmoid sign sin sinh tan tanh trunc zeros_like copy"
).split()
UNIT = "acos asin atanh".split()
POSITIVE = "log log2 log10 sqrt rsqrt acosh".split()


@pytest.mark.parametrize("shape", [(3, 5, 7), (1,), (), (0, 4)])
def test_unary(shape: tuple[int, ...]) -> None:
    x = rand(*shape)
    if x.numel() > 10:
        x.view(-1)[:4] = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0])
    check(unary(*ANY_REAL), [x])
    check(unary(*POSITIVE), [rand(*shape, low=1.0, high=4.0)])
    check(unary(*UNIT), [rand(*shape, low=-0.9, high=0.9)])


def test_unary_of_other_dtypes() -> None:
    doubles = unary(*"abs exp tanh sigmoid sqrt floor negative nn.relu".split())
    check(doubles, [rand(5, 9, dtype=torch.float64, low=0.1)])
    ints = torch.randint(-5, 5, (4, 9))
    check(unary("abs", "negative", "sign", "nn.relu", "bitwise_not", "zeros_like"), [ints])
    check(unary("logical_not"), [ints > 0])
    check(unary("exp", "nn.relu", "abs", "sqrt"), [rand(33, dtype=torch.float16, low=0.1)])


def binary(names: str, special: dict[str, Callable[..., Any]] | None = None) -> list[Case]:
    table = special or {}
    return [
        (
            n,
            lambda *x, n=n: call(n, [x[0], x[1]]),
            lambda *x, n=n: (table.get(n) or getattr(torch, n))(x[0], x[1]),
        )
        for n in names.split()
    ]


FLOAT_BINARY = (
    "add subtract multiply divide maximum minimum equal not_equal less less_equal greater greater_equal"
)
REMAINDERS: dict[str, Callable[..., Any]] = {
    "floor_divide": torch.floor_divide,
    "floor_mod": torch.remainder,
    "mod": torch.fmod,
    "trunc_mod": torch.fmod,
    "trunc_divide": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    "power": torch.pow,
    "equal": torch.eq,
    "not_equal": torch.ne,
}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((4, 5, 6), (4, 5, 6)),
        ((4, 5, 6), (6,)),
        ((4, 1, 6), (5, 1)),
        ((), (3, 4)),
        ((1, 1), (1,)),
        ((0, 3), (3,)),
    ],
)
def test_binary(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = rand(*left), rand(*right, low=0.5, high=2.0)
    if a.numel() > 10:
        a.view(-1)[0] = float("nan")
    check(binary(FLOAT_BINARY, REMAINDERS), [a, b])
    check(binary("power floor_divide floor_mod mod trunc_mod trunc_divide", REMAINDERS), [a.abs(), b])


def test_binary_of_integers_and_bools() -> None:
    a, b = torch.randint(-9, 9, (6, 7)), torch.randint(1, 5, (7,))
    check(
        binary(
            "add subtract multiply maximum minimum equal less bitwise_and bitwise_or bitwise_xor", REMAINDERS
        ),
        [a, b],
    )
    shifts = {"left_shift": torch.bitwise_left_shift, "right_shift": torch.bitwise_right_shift}
    check(binary("left_shift right_shift", shifts), [a, b])
    check(
        binary("logical_and logical_or logical_xor equal", REMAINDERS),
        [a > 0, torch.tensor([True, False] * 3 + [True])],
    )
    check(binary("floor_divide floor_mod trunc_divide trunc_mod", REMAINDERS), [a, b])
    small = [x.to(torch.int32) for x in (a, b)]
    check(binary("add multiply less"), small)


def test_scalars() -> None:
    x = rand(5, 6)
    half, two = relay.const(0.5), relay.const(2.0)
    check(
        [
            ("x + 0.5", lambda v: call("add", [v, half]), lambda t: t + 0.5),
            ("0.5 - x", lambda v: call("subtract", [half, v]), lambda t: 0.5 - t),
            ("folded", lambda v: call("multiply", [v, call("multiply", [half, two])]), lambda t: t * 1.0),
            ("only constants", lambda v: call("add", [half, two]), lambda t: torch.tensor(2.5)),
            ("leaky", lambda v: call("nn.leaky_relu", [v], {"alpha": 0.1}), lambda t: F.leaky_relu(t, 0.1)),
            ("clip", lambda v: call("clip", [v], {"a_min": -1.0, "a_max": 1.0}), lambda t: t.clamp(-1, 1)),
            (
                "clip below",
                lambda v: call("clip", [v], {"a_min": 0.0, "a_max": float("inf")}),
                lambda t: t.clamp(min=0),
            ),
        ],
        [x],
    )
    ints = torch.arange(-6, 6)
    divisor = relay.const(3, "int64")
    check(
        [
            (
                "clip ints",
                lambda v: call("clip", [v], {"a_min": -2.0, "a_max": 1e300}),
                lambda t: t.clamp(min=-2),
            ),
            ("//", lambda v: call("floor_divide", [v, divisor]), lambda t: t // 3),
            ("%", lambda v: call("floor_mod", [v, divisor]), lambda t: t % 3),
            ("fmod", lambda v: call("trunc_mod", [v, divisor]), lambda t: t.fmod(3)),
        ],
        [ints],
    )


def test_where_casts_and_parameters() -> None:
    x, y, mask, slope = rand(4, 6), rand(6), rand(4, 1) > 0, rand(6)
    casts = "float64 float16 int64 int32 int8 uint8 bool".split()
    check(
        [
            ("where", lambda x, y, m, s: call("where", [m, x, y]), lambda x, y, m, s: torch.where(m, x, y)),
            ("prelu", lambda x, y, m, s: call("nn.prelu", [x, s]), lambda x, y, m, s: F.prelu(x, s)),
            ("bias", lambda x, y, m, s: call("nn.bias_add", [x, y], {"axis": -1}), lambda x, y, m, s: x + y),
            *[
                (
                    d,
                    lambda *v, d=d: call("cast", [v[0]], {"dtype": d}),
                    lambda *t, d=d: t[0].abs().to(getattr(torch, d)),
                )
                for d in casts
            ],
            ("mask to float", lambda *v: call("cast", [v[2]], {"dtype": "float32"}), lambda *t: t[2].float()),
        ],
        [x.abs(), y, mask, slope],
    )


def axes_cases(name: str, reference: Callable[..., torch.Tensor]) -> list[Case]:
    made: list[Case] = []
    for axis, keepdims in (([1], False), ([0, 2], True), ([-1], False), (None, False), ([0], True)):
        dims = list(range(3)) if axis is None else axis
        made.append(
            (
                f"{name} {axis} {keepdims}",
                lambda x, a=axis, k=keepdims: call(name, [x], {"axis": a, "keepdims": k}),
                lambda x, d=dims, k=keepdims: reference(x, d, k),
            )
        )
    return made


@pytest.mark.parametrize("shape", [(3, 37, 5), (2, 3, 130), (1, 1, 1)])
def test_reductions(shape: tuple[int, ...]) -> None:
    def prod(x: torch.Tensor, dims: list[int], keepdim: bool) -> torch.Tensor:
        for d in sorted((d % 3 for d in dims), reverse=True):
            x = x.prod(d, keepdim)
        return x

    cases = [
        *axes_cases("sum", lambda x, d, k: x.sum(d, k)),
        *axes_cases("mean", lambda x, d, k: x.mean(d, k)),
        *axes_cases("max", lambda x, d, k: x.amax(d, k)),
        *axes_cases("min", lambda x, d, k: x.amin(d, k)),
        ("exclude", lambda x: call("sum", [x], {"axis": [1], "exclude": True}), lambda x: x.sum((0, 2))),
        ("argmax", lambda x: call("argmax", [x], {"axis": [1]}), lambda x: x.argmax(1).int()),
        ("argmax all", lambda x: call("argmax", [x]), lambda x: x.argmax().int()),
        (
            "argmin",
            lambda x: call("argmin", [x], {"axis": [-1], "keepdims": True}),
            lambda x: x.argmin(-1, True).int(),
        ),
    ]
    check(cases, [rand(*shape)])
    check(axes_cases("prod", prod), [rand(*shape, low=0.9, high=1.1)])
    check(axes_cases("sum", lambda x, d, k: x.sum(d, k)), [torch.randint(-9, 9, shape)])
    check(
        axes_cases("all", lambda x, d, k: torch.all(x.movedim(0, 0), dim=tuple(d), keepdim=k)),
        [rand(*shape) > -1.9],
    )
    check(axes_cases("any", lambda x, d, k: torch.any(x, dim=tuple(d), keepdim=k)), [rand(*shape) > 1.9])


def test_variance() -> None:
    def build(x: relay.Expr, axis: list[int], unbiased: bool) -> relay.Expr:
        mean = call("mean", [x], {"axis": axis, "keepdims": True})
        return call("variance", [x, mean], {"axis": axis, "unbiased": unbiased})

    check(
        [
            (
                f"{axis} {unbiased}",
                lambda x, a=axis, u=unbiased: build(x, a, u),
                lambda x, a=axis, u=unbiased: x.var(a, unbiased=u),
            )
            for axis in ([0], [1, 2])
            for unbiased in (True, False)
        ],
        [rand(4, 9, 5) + 3],
    )


def test_reduction_of_nothing() -> None:
    check(
        [
            ("sum", lambda x: call("sum", [x], {"axis": [0]}), lambda x: x.sum(0)),
            ("prod", lambda x: call("prod", [x], {"axis": [0]}), lambda x: x.prod(0)),
        ],
        [torch.empty(0, 3)],
    )
