"""Every Relay operator the compiler lowers computes what PyTorch's operator of the same meaning computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from compiler_cases import Case, check

from torch_tvm import relay

call = relay.Call


def rand(*shape: int, dtype: torch.dtype = torch.float32, low: float = -2.0, high: float = 2.0) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype).uniform_(low, high)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


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
        (name, lambda *x, n=name: call(n, [x[0]]), lambda *x, n=name: (special.get(n) or getattr(torch, n))(x[0]))
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
        (n, lambda *x, n=n: call(n, [x[0], x[1]]), lambda *x, n=n: (table.get(n) or getattr(torch, n))(x[0], x[1]))
        for n in names.split()
    ]


FLOAT_BINARY = "add subtract multiply divide maximum minimum equal not_equal less less_equal greater greater_equal"
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
    [((4, 5, 6), (4, 5, 6)), ((4, 5, 6), (6,)), ((4, 1, 6), (5, 1)), ((), (3, 4)), ((1, 1), (1,)), ((0, 3), (3,))],
)
def test_binary(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = rand(*left), rand(*right, low=0.5, high=2.0)
    if a.numel() > 10:
        a.view(-1)[0] = float("nan")
    check(binary(FLOAT_BINARY, REMAINDERS), [a, b])
    check(binary("power floor_divide floor_mod mod trunc_mod trunc_divide", REMAINDERS), [a.abs(), b])


def test_binary_of_integers_and_bools() -> None:
    a, b = torch.randint(-9, 9, (6, 7)), torch.randint(1, 5, (7,))
    check(binary("add subtract multiply maximum minimum equal less bitwise_and bitwise_or bitwise_xor", REMAINDERS), [a, b])
    shifts = {"left_shift": torch.bitwise_left_shift, "right_shift": torch.bitwise_right_shift}
    check(binary("left_shift right_shift", shifts), [a, b])
    check(binary("logical_and logical_or logical_xor equal", REMAINDERS), [a > 0, torch.tensor([True, False] * 3 + [True])])
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
            ("clip ints", lambda v: call("clip", [v], {"a_min": -2.0, "a_max": 1e300}), lambda t: t.clamp(min=-2)),
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
                (d, lambda *v, d=d: call("cast", [v[0]], {"dtype": d}), lambda *t, d=d: t[0].abs().to(getattr(torch, d)))
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
        ("argmin", lambda x: call("argmin", [x], {"axis": [-1], "keepdims": True}), lambda x: x.argmin(-1, True).int()),
    ]
    check(cases, [rand(*shape)])
    check(axes_cases("prod", prod), [rand(*shape, low=0.9, high=1.1)])
    check(axes_cases("sum", lambda x, d, k: x.sum(d, k)), [torch.randint(-9, 9, shape)])
    check(axes_cases("all", lambda x, d, k: torch.all(x.movedim(0, 0), dim=tuple(d), keepdim=k)), [rand(*shape) > -1.9])
    check(axes_cases("any", lambda x, d, k: torch.any(x, dim=tuple(d), keepdim=k)), [rand(*shape) > 1.9])


def test_variance() -> None:
    def build(x: relay.Expr, axis: list[int], unbiased: bool) -> relay.Expr:
        mean = call("mean", [x], {"axis": axis, "keepdims": True})
        return call("variance", [x, mean], {"axis": axis, "unbiased": unbiased})

    check(
        [
            (f"{axis} {unbiased}", lambda x, a=axis, u=unbiased: build(x, a, u), lambda x, a=axis, u=unbiased: x.var(a, unbiased=u))
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


@pytest.mark.parametrize("shape", [(3, 5, 17), (2, 8, 4), (1, 1, 1)])
def test_softmax(shape: tuple[int, ...]) -> None:
    x = rand(*shape) * 20
    cases = [
        (f"{name} {axis}", lambda v, n=name, a=axis: call(n, [v], {"axis": a}), lambda t, f=reference, a=axis: f(t, a))
        for name, reference in (("nn.softmax", torch.softmax), ("nn.log_softmax", torch.log_softmax))
        for axis in (0, 1, -1)
    ]
    check(cases, [x])


def test_normalisation() -> None:
    x, g, b = rand(2, 6, 5, 7) + 3, rand(6), rand(6)
    scale, shift = rand(7), rand(7)
    inputs, weights = [x], [g, b, scale, shift]
    check(
        [
            (
                "layer_norm",
                lambda x, g, b, s, t: call("nn.layer_norm", [x, s, t]),
                lambda x, g, b, s, t: F.layer_norm(x, (7,), s, t),
            ),
            (
                "layer_norm of channels",
                lambda x, g, b, s, t: call("nn.layer_norm", [x, g, b], {"axis": 1, "epsilon": 1e-3}),
                lambda x, g, b, s, t: F.layer_norm(x.movedim(1, -1), (6,), g, b, 1e-3).movedim(-1, 1),
            ),
            (
                "group_norm",
                lambda x, g, b, s, t: call("nn.group_norm", [x, g, b], {"num_groups": 3}),
                lambda x, g, b, s, t: F.group_norm(x, 3, g, b),
            ),
            (
                "instance_norm",
                lambda x, g, b, s, t: call("nn.instance_norm", [x, g, b]),
                lambda x, g, b, s, t: F.instance_norm(x, None, None, g, b),
            ),
            (
                "batch_norm",
                lambda x, g, b, s, t: relay.TupleGetItem(
                    call("nn.batch_norm", [x, g, b, b, call("abs", [g])], {"epsilon": 1e-3}), 0
                ),
                lambda x, g, b, s, t: F.batch_norm(x, b, g.abs(), g, b, eps=1e-3),
            ),
            (
                "no scale, no shift",
                lambda x, g, b, s, t: call("nn.layer_norm", [x, s, t], {"scale": False, "center": False}),
                lambda x, g, b, s, t: F.layer_norm(x, (7,)),
            ),
            (
                "l2_normalize",
                lambda x, g, b, s, t: call("nn.l2_normalize", [x], {"eps": 1e-6, "axis": [1]}),
                lambda x, g, b, s, t: F.normalize(x, dim=1),
            ),
            ("dropout", lambda x, *_: relay.TupleGetItem(call("nn.dropout", [x]), 0), lambda x, *_: x.clone()),
        ],
        inputs,
        weights,
    )


@pytest.mark.parametrize("weight", [True, False])
@pytest.mark.parametrize(("m", "k", "n"), [(5, 7, 3), (1, 33, 65), (17, 1, 1), (20, 64, 100)])
def test_dense(m: int, k: int, n: int, weight: bool) -> None:
    x, w, b = rand(m, k), rand(n, k), rand(n)

    def linear(x: relay.Expr, w: relay.Expr, b: relay.Expr) -> relay.Expr:
        return call("nn.bias_add", [call("nn.dense", [x, w], {"units": n}), b], {"axis": -1})

    cases: list[Case] = [
        ("linear", linear, lambda x, w, b: F.linear(x, w, b)),
        ("relu", lambda *v: call("nn.relu", [linear(*v)]), lambda *t: F.linear(*t).relu()),
        (
            "3-D",
            lambda x, w, b: call("nn.dense", [call("expand_dims", [x], {"axis": 1}), w], {"units": None}),
            lambda x, w, b: F.linear(x[:, None], w),
        ),
        (
            "matmul",
            lambda x, w, b: call("nn.matmul", [x, call("transpose", [w], {"axes": [1, 0]})], {"units": None}),
            lambda x, w, b: x @ w.T,
        ),
        (
            "transposed",
            lambda x, w, b: call(
                "nn.matmul", [call("transpose", [x], {"axes": None}), w], {"units": None, "transpose_a": True, "transpose_b": True}
            ),
            lambda x, w, b: x @ w.T,
        ),
    ]
    check(cases, *(([x], [w, b]) if weight else ([x, w, b], [])))


def test_batch_matmul() -> None:
    a, b, c = rand(6, 5, 7), rand(6, 7, 9), rand(1, 9, 7)
    heads = rand(2, 5, 3, 4)

    def attention(x: relay.Expr) -> relay.Expr:
        def head(order: list[int]) -> relay.Expr:
            moved = call("transpose", [x], {"axes": order})
            shape = [2, 3, 5, 4] if order[-1] == 3 else [2, 3, 4, 5]
            return call("reshape", [moved], {"newshape": [6, *shape[2:]]})

        scores = call("nn.batch_matmul", [head([0, 2, 1, 3]), head([0, 2, 3, 1])])
        mixed = call("nn.batch_matmul", [scores, head([0, 2, 1, 3])])
        split = call("reshape", [mixed], {"newshape": [2, 3, 5, 4]})
        return call("reshape", [call("transpose", [split], {"axes": [0, 2, 1, 3]})], {"newshape": [2, 5, 12]})

    def reference(x: torch.Tensor) -> torch.Tensor:
        h = x.permute(0, 2, 1, 3)
        return (h @ h.mT @ h).permute(0, 2, 1, 3).reshape(2, 5, 12)

    check(
        [
            ("plain", lambda a, b, c, h: call("nn.batch_matmul", [a, b]), lambda a, b, c, h: a @ b),
            (
                "broadcast and transposed",
                lambda a, b, c, h: call("nn.batch_matmul", [a, c], {"transpose_b": True}),
                lambda a, b, c, h: a @ c.mT,
            ),
            (
                "transposed left",
                lambda a, b, c, h: call("nn.batch_matmul", [b, a], {"transpose_a": True, "transpose_b": True}),
                lambda a, b, c, h: b.mT @ a.mT,
            ),
            ("heads", lambda a, b, c, h: attention(h), lambda a, b, c, h: reference(h)),
        ],
        [a, b, c, heads],
    )


CONVOLUTIONS = [
    ((1, 3, 11, 13), (8, 3, 3, 3), {"padding": [1, 1, 1, 1]}),
    ((2, 4, 9, 9), (6, 4, 1, 1), {}),
    ((2, 4, 9, 8), (6, 4, 3, 2), {"strides": [2, 1], "padding": [0, 1, 0, 1], "dilation": [2, 1]}),
    ((1, 6, 7, 7), (9, 2, 3, 3), {"groups": 3, "padding": [1, 1, 1, 1]}),
    ((1, 20, 9, 9), (20, 1, 3, 3), {"groups": 20, "strides": [2, 2], "padding": [1, 1, 1, 1]}),
    ((1, 4, 6, 6), (8, 1, 3, 3), {"groups": 4, "padding": [1, 1, 1, 1]}),
    ((1, 1, 5, 5), (1, 1, 5, 5), {}),
]


@pytest.mark.parametrize(("shape", "kernel", "attrs"), CONVOLUTIONS)
@pytest.mark.parametrize("weight", [True, False])
def test_conv2d(shape: tuple[int, ...], kernel: tuple[int, ...], attrs: dict[str, Any], weight: bool) -> None:
    x, w, b = rand(*shape), rand(*kernel), rand(kernel[0])
    padding = attrs.get("padding", [0, 0, 0, 0])[:2]
    options = {"stride": attrs.get("strides", 1), "padding": padding, "dilation": attrs.get("dilation", 1)}

    def conv(x: relay.Expr, w: relay.Expr, b: relay.Expr) -> relay.Expr:
        full = {"channels": kernel[0], "kernel_size": list(kernel[2:]), **attrs}
        return call("nn.bias_add", [call("nn.conv2d", [x, w], full), b])

    def reference(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, w, b, groups=attrs.get("groups", 1), **options)

    cases: list[Case] = [
        ("conv", conv, reference),
        ("relu", lambda *v: call("nn.relu", [conv(*v)]), lambda *t: reference(*t).relu()),
    ]
    check(cases, *(([x], [w, b]) if weight else ([x, w, b], [])))


def test_conv2d_with_relays_depthwise_weight() -> None:
    x, w = rand(1, 4, 9, 9), rand(8, 1, 3, 3)
    attrs = {"strides": [2, 2], "padding": [1, 1, 1, 1], "groups": 4, "channels": 8, "kernel_size": [3, 3]}

    def build(x: relay.Expr, w: relay.Expr) -> relay.Expr:
        return call("nn.conv2d", [x, call("reshape", [w], {"newshape": [4, 2, 3, 3]})], attrs)

    check([("depthwise", build, lambda x, w: F.conv2d(x, w, None, 2, 1, 1, 4))], [x], [w])


def test_other_convolutions() -> None:
    x1, w1 = rand(2, 4, 15), rand(6, 4, 3)
    check(
        [
            (
                "conv1d",
                lambda x, w: call("nn.conv1d", [x, w], {"padding": [1, 1], "dilation": [2], "strides": [2]}),
                lambda x, w: F.conv1d(x, w, None, 2, 1, 2),
            ),
            (
                "conv1d groups",
                lambda x, w: call(
                    "nn.conv1d",
                    [x, call("strided_slice", [w], {"begin": [0], "end": [2], "strides": [1], "axes": [1]})],
                    {"groups": 2, "channels": 6, "kernel_size": [3]},
                ),
                lambda x, w: F.conv1d(x, w[:, :2], None, groups=2),
            ),
        ],
        [x1],
        [w1],
    )
    check(
        [
            (
                "conv2d_transpose",
                lambda x, w: call("nn.conv2d_transpose", [x, w], {"strides": [2, 2], "padding": [1, 1, 1, 1]}),
                lambda x, w: F.conv_transpose2d(x, w, None, 2, 1),
            )
        ],
        [rand(1, 4, 5, 6)],
        [rand(4, 3, 3, 3)],
    )
    check(
        [("conv3d", lambda x, w: call("nn.conv3d", [x, w]), lambda x, w: F.conv3d(x, w))],
        [rand(1, 2, 4, 5, 6)],
        [rand(3, 2, 2, 2, 2)],
    )


def test_pools() -> None:
    x = rand(2, 5, 9, 12)
    x[0, 0, 0, 0] = float("nan")
    two = {"pool_size": [2, 2], "strides": [2, 2]}
    three = {"pool_size": [3, 3], "strides": [2, 2], "padding": [1, 1, 1, 1]}
    check(
        [
            ("max", lambda x: call("nn.max_pool2d", [x], two), lambda x: F.max_pool2d(x, 2)),
            ("max padded", lambda x: call("nn.max_pool2d", [x], three), lambda x: F.max_pool2d(x, 3, 2, 1)),
            (
                "max dilated",
                lambda x: call("nn.max_pool2d", [x], {**two, "dilation": [2, 2], "strides": [1, 1]}),
                lambda x: F.max_pool2d(x, 2, 1, 0, 2),
            ),
            (
                "max ceil",
                lambda x: call("nn.max_pool2d", [x], {**two, "ceil_mode": True}),
                lambda x: F.max_pool2d(x, 2, ceil_mode=True),
            ),
            ("avg", lambda x: call("nn.avg_pool2d", [x], two), lambda x: F.avg_pool2d(x, 2)),
            (
                "avg with padding",
                lambda x: call("nn.avg_pool2d", [x], {**three, "count_include_pad": True}),
                lambda x: F.avg_pool2d(x, 3, 2, 1),
            ),
            (
                "avg without padding",
                lambda x: call("nn.avg_pool2d", [x], three),
                lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
            ),
            ("global", lambda x: call("nn.global_avg_pool2d", [x]), lambda x: x.mean((2, 3), True)),
            ("global max", lambda x: call("nn.global_max_pool2d", [x]), lambda x: x.amax((2, 3), True)),
            *[
                (
                    f"adaptive {size}",
                    lambda x, s=size: call("nn.adaptive_avg_pool2d", [x], {"output_size": s}),
                    lambda x, s=size: F.adaptive_avg_pool2d(x, s),
                )
                for size in ([1, 1], [3, 4], [4, 5], [9, 12])
            ],
            (
                "adaptive max",
                lambda x: call("nn.adaptive_max_pool2d", [x], {"output_size": [2, 5]}),
                lambda x: F.adaptive_max_pool2d(x, (2, 5)),
            ),
        ],
        [x],
    )
    check(
        [
            ("max1d", lambda x: call("nn.max_pool1d", [x], {"pool_size": [3], "strides": [2]}), lambda x: F.max_pool1d(x, 3, 2)),
            ("avg1d", lambda x: call("nn.avg_pool1d", [x], {"pool_size": [2], "strides": [2]}), lambda x: F.avg_pool1d(x, 2)),
            ("adaptive1d", lambda x: call("nn.adaptive_avg_pool1d", [x], {"output_size": [4]}), lambda x: F.adaptive_avg_pool1d(x, 4)),
            ("adaptive max1d", lambda x: call("nn.adaptive_max_pool1d", [x], {"output_size": [3]}), lambda x: F.adaptive_max_pool1d(x, 3)),
        ],
        [rand(2, 3, 11)],
    )
    check(
        [
            ("max3d", lambda x: call("nn.max_pool3d", [x], {"pool_size": [2] * 3, "strides": [2] * 3}), lambda x: F.max_pool3d(x, 2)),
            ("adaptive3d", lambda x: call("nn.adaptive_avg_pool3d", [x], {"output_size": [2, 2, 2]}), lambda x: F.adaptive_avg_pool3d(x, 2)),
        ],
        [rand(1, 2, 4, 5, 6)],
    )


def test_shapes() -> None:
    x = rand(2, 3, 4)
    slices = {"begin": [0, 1], "end": [2, 3], "strides": [1, 1], "axes": [0, 2]}
    pair = lambda x: [x, call("nn.relu", [x])]  # noqa: E731
    check(
        [
            ("reshape", lambda x: call("reshape", [x], {"newshape": [0, -1]}), lambda x: x.reshape(2, 12)),
            ("view of result", lambda x: call("reshape", [call("exp", [x])], {"newshape": [-1]}), lambda x: x.exp().flatten()),
            ("transpose", lambda x: call("transpose", [x], {"axes": [2, 0, 1]}), lambda x: x.permute(2, 0, 1)),
            ("reverse axes", lambda x: call("transpose", [x], {"axes": None}), lambda x: x.permute(2, 1, 0)),
            ("expand_dims", lambda x: call("expand_dims", [x], {"axis": -1, "num_newaxis": 2}), lambda x: x[..., None, None]),
            ("squeeze", lambda x: call("squeeze", [call("reshape", [x], {"newshape": [2, 1, 12, 1]})]), lambda x: x.reshape(2, 12)),
            ("broadcast", lambda x: call("broadcast_to", [x], {"shape": [5, 2, 3, 4]}), lambda x: x.expand(5, 2, 3, 4)),
            ("concatenate", lambda x: call("concatenate", [relay.Tuple(pair(x))], {"axis": -1}), lambda x: torch.cat([x, x.relu()], -1)),
            ("stack", lambda x: call("stack", [relay.Tuple(pair(x))], {"axis": 1}), lambda x: torch.stack([x, x.relu()], 1)),
            ("slice", lambda x: call("strided_slice", [x], slices), lambda x: x[0:2, :, 1:3]),
            (
                "slice with step",
                lambda x: call("strided_slice", [x], {"begin": [-1], "end": [-5], "strides": [-2], "axes": [2]}),
                lambda x: x.flip(2)[..., ::2],
            ),
            (
                "slice by size",
                lambda x: call("strided_slice", [x], {"begin": [1], "end": [-1], "strides": [1], "axes": [1], "slice_mode": "size"}),
                lambda x: x[:, 1:],
            ),
            ("empty slice", lambda x: call("strided_slice", [x], {"begin": [1], "end": [1], "strides": [1], "axes": [1]}), lambda x: x[:, 1:1]),
            ("tile", lambda x: call("tile", [x], {"reps": [2, 1, 3]}), lambda x: x.repeat(2, 1, 3)),
            ("repeat", lambda x: call("repeat", [x], {"repeats": 2, "axis": 1}), lambda x: x.repeat_interleave(2, 1)),
            ("reverse", lambda x: call("reverse", [x], {"axis": 1}), lambda x: x.flip(1)),
            ("split", lambda x: relay.TupleGetItem(call("split", [x], {"indices_or_sections": 3, "axis": 1}), 1), lambda x: x[:, 1:2]),
            ("split at", lambda x: relay.TupleGetItem(call("split", [x], {"indices_or_sections": [1, 3], "axis": 2}), 1), lambda x: x[..., 1:3]),
            ("layout", lambda x: call("layout_transform", [call("expand_dims", [x], {"axis": 0})], {"src_layout": "NCHW", "dst_layout": "NHWC"}), lambda x: x[None].permute(0, 2, 3, 1)),
            ("input", lambda x: x, lambda x: x),
            ("flatten", lambda x: call("nn.batch_flatten", [x]), lambda x: x.flatten(1)),
            ("where slices", lambda x: call("add", [call("transpose", [x], {"axes": [1, 0, 2]}), call("reshape", [x], {"newshape": [3, 2, 4]})]), lambda x: x.permute(1, 0, 2) + x.reshape(3, 2, 4)),
        ],
        [x],
    )


def test_padding_and_resizing() -> None:
    x = rand(1, 2, 5, 6)
    width = {"pad_width": [[0, 0], [0, 0], [2, 0], [1, 3]]}
    zero = relay.const(0)
    resize = {"size": [10, 12], "roi": [0.0] * 4, "rounding_method": "", "cubic_alpha": -0.75}
    nearest = {**resize, "method": "nearest_neighbor", "coordinate_transformation_mode": "asymmetric"}
    check(
        [
            ("constant", lambda x: call("nn.pad", [x, relay.const(1.5)], width), lambda x: F.pad(x, (1, 3, 2, 0), value=1.5)),
            ("reflect", lambda x: call("nn.pad", [x, zero], {**width, "pad_mode": "reflect"}), lambda x: F.pad(x, (1, 3, 2, 0), "reflect")),
            ("edge", lambda x: call("nn.pad", [x, zero], {**width, "pad_mode": "edge"}), lambda x: F.pad(x, (1, 3, 2, 0), "replicate")),
            ("mirror", lambda x: call("nn.mirror_pad", [x], {**width, "mode": "REFLECT"}), lambda x: F.pad(x, (1, 3, 2, 0), "reflect")),
            ("bilinear", lambda x: call("image.resize2d", [x], resize), lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")),
            ("nearest", lambda x: call("image.resize2d", [x], nearest), lambda x: F.interpolate(x, scale_factor=2)),
            ("shuffle", lambda x: call("nn.depth_to_space", [call("tile", [x], {"reps": [1, 2, 1, 1]})], {"block_size": 2, "mode": "CRD"}), lambda x: F.pixel_shuffle(x.repeat(1, 2, 1, 1), 2)),
        ],
        [x],
    )


def test_indexing() -> None:
    table, index = rand(7, 5), torch.tensor([[0, 4, 3], [2, 2, 1]])
    square = rand(4, 4)
    last = relay.const(-1)
    check(
        [
            ("embedding", lambda t, i, s: call("take", [t, i], {"axis": 0}), lambda t, i, s: F.embedding(i, t)),
            ("select", lambda t, i, s: call("take", [t, last], {"axis": 1, "mode": "wrap"}), lambda t, i, s: t[:, -1]),
            ("gather", lambda t, i, s: call("gather", [t, call("transpose", [i], {"axes": None})], {"axis": 1}), lambda t, i, s: t.gather(1, i.T)),
            ("adv_index", lambda t, i, s: call("adv_index", [relay.Tuple([t, i])]), lambda t, i, s: t[i]),
            ("one_hot", lambda t, i, s: call("one_hot", [i, relay.const(1.0), relay.const(0.0)], {"depth": 7, "dtype": "float32"}), lambda t, i, s: F.one_hot(i, 7).float()),
            ("triu", lambda t, i, s: call("trilu", [s, relay.const(1, "int64")], {"upper": True}), lambda t, i, s: s.triu(1)),
            ("tril", lambda t, i, s: call("trilu", [s, relay.const(0, "int64")], {"upper": False}), lambda t, i, s: s.tril()),
            ("cumsum", lambda t, i, s: call("cumsum", [t], {"axis": 1}), lambda t, i, s: t.cumsum(1)),
            ("einsum", lambda t, i, s: call("einsum", [relay.Tuple([s, s])], {"equation": "ij,kj->ik"}), lambda t, i, s: s @ s.T),
        ],
        [table, index, square],
    )


def test_sorting() -> None:
    x = rand(4, 9)
    top = lambda i: lambda x: relay.TupleGetItem(call("topk", [x], {"k": 3, "dtype": "int64"}), i)  # noqa: E731
    check(
        [
            ("sort", lambda x: call("sort", [x], {"axis": 1}), lambda x: x.sort(1).values),
            ("argsort", lambda x: call("argsort", [x], {"axis": 1, "is_ascend": False, "dtype": "int32"}), lambda x: x.argsort(1, True).int()),
            ("topk values", top(0), lambda x: x.topk(3).values),
            ("topk indices", top(1), lambda x: x.topk(3).indices),
        ],
        [x],
    )


def test_creation() -> None:
    x = rand(2, 3)
    zero, one, end = (relay.const(v, "int64") for v in (0, 1, 5))
    check(
        [
            ("full", lambda x: call("full", [relay.const(7.5)], {"shape": [2, 3], "dtype": "float32"}), lambda x: torch.full((2, 3), 7.5)),
            ("zeros", lambda x: call("zeros", [], {"shape": [2], "dtype": "int64"}), lambda x: torch.zeros(2, dtype=torch.int64)),
            ("ones", lambda x: call("ones", [], {"shape": [], "dtype": "float32"}), lambda x: torch.ones(())),
            ("arange", lambda x: call("arange", [zero, end, one], {"start": zero, "stop": end, "step": one, "dtype": "int64"}), lambda x: torch.arange(5)),
            ("used", lambda x: call("multiply", [x, call("full", [relay.const(2.0)], {"shape": [2, 3], "dtype": "float32"})]), lambda x: x * 2),
        ],
        [x],
    )
