"""Relay's nn operators compute what PyTorch's operators of the same meaning compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from compiler_cases import Case, check, rand

from torch_tvm import relay

call = relay.Call


@pytest.mark.parametrize("shape", [(3, 5, 17), (2, 8, 4), (1, 1, 1)])
def test_softmax(shape: tuple[int, ...]) -> None:
    x = rand(*shape) * 20
    cases = [
        (
            f"{name} {axis}",
            lambda v, n=name, a=axis: call(n, [v], {"axis": a}),
            lambda t, f=reference, a=axis: f(t, a),
        )
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
            (
                "dropout",
                lambda x, *_: relay.TupleGetItem(call("nn.dropout", [x]), 0),
                lambda x, *_: x.clone(),
            ),
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
        ("linear", linear, F.linear),
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
                "nn.matmul",
                [call("transpose", [x], {"axes": None}), w],
                {"units": None, "transpose_a": True, "transpose_b": True},
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
                lambda a, b, c, h: call(
                    "nn.batch_matmul", [b, a], {"transpose_a": True, "transpose_b": True}
                ),
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
                lambda x, w: call(
                    "nn.conv2d_transpose", [x, w], {"strides": [2, 2], "padding": [1, 1, 1, 1]}
                ),
                lambda x, w: F.conv_transpose2d(x, w, None, 2, 1),
            )
        ],
        [rand(1, 4, 5, 6)],
        [rand(4, 3, 3, 3)],
    )
    check(
        [("conv3d", lambda x, w: call("nn.conv3d", [x, w]), F.conv3d)],
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
            (
                "max1d",
                lambda x: call("nn.max_pool1d", [x], {"pool_size": [3], "strides": [2]}),
                lambda x: F.max_pool1d(x, 3, 2),
            ),
            (
                "avg1d",
                lambda x: call("nn.avg_pool1d", [x], {"pool_size": [2], "strides": [2]}),
                lambda x: F.avg_pool1d(x, 2),
            ),
            (
                "adaptive1d",
                lambda x: call("nn.adaptive_avg_pool1d", [x], {"output_size": [4]}),
                lambda x: F.adaptive_avg_pool1d(x, 4),
            ),
            (
                "adaptive max1d",
                lambda x: call("nn.adaptive_max_pool1d", [x], {"output_size": [3]}),
                lambda x: F.adaptive_max_pool1d(x, 3),
            ),
        ],
        [rand(2, 3, 11)],
    )
    check(
        [
            (
                "max3d",
                lambda x: call("nn.max_pool3d", [x], {"pool_size": [2] * 3, "strides": [2] * 3}),
                lambda x: F.max_pool3d(x, 2),
            ),
            (
                "adaptive3d",
                lambda x: call("nn.adaptive_avg_pool3d", [x], {"output_size": [2, 2, 2]}),
                lambda x: F.adaptive_avg_pool3d(x, 2),
            ),
        ],
        [rand(1, 2, 4, 5, 6)],
    )
