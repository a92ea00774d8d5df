"""Blocks of real networks: right at every optimisation level and target, and in as few kernels as they should be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from compiler_cases import assert_close, compile_plan, rand
from compiler_network import Network, call, relu

from torch_tvm import relay


def residual_block() -> tuple[Network, relay.Expr, torch.Tensor]:
    net = Network(rand(2, 16, 15, 14))
    x, t = net.params[0], net.inputs[0]
    y, u = net.conv_bn(x, t, 24, 3, stride=2)
    y, u = net.conv_bn(relu(y), u.relu(), 24, 3)
    z, v = net.conv_bn(x, t, 24, 1, stride=2)
    return net, relu(call("add", [y, z])), (u + v).relu()


def mobile_block() -> tuple[Network, relay.Expr, torch.Tensor]:
    net = Network(rand(1, 8, 11, 13))
    x, t = net.params[0], net.inputs[0]

    def relu6(x: relay.Expr) -> relay.Expr:
        return call("clip", [x], {"a_min": 0.0, "a_max": 6.0})

    y, u = net.conv_bn(x, t, 48, 1)
    y, u = net.conv_bn(relu6(y), F.relu6(u), 48, 3, groups=48)
    y, u = net.conv_bn(relu6(y), F.relu6(u), 8, 1)
    return net, call("add", [x, y]), t + u


def encoder_layer() -> tuple[Network, relay.Expr, torch.Tensor]:
    batch, length, width, heads = 2, 10, 24, 3
    depth = width // heads
    mask = torch.where(rand(batch, 1, 1, length) > 1, -1e4, 0.0)
    net = Network(rand(batch, length, width), mask)
    (x, m), (t, mt) = net.params, net.inputs

    def head(pair: tuple[relay.Expr, torch.Tensor]) -> tuple[relay.Expr, torch.Tensor]:
        split = call("reshape", [pair[0]], {"newshape": [batch, length, heads, depth]})
        moved = call("transpose", [split], {"axes": [0, 2, 1, 3]})
        flat = call("reshape", [moved], {"newshape": [batch * heads, length, depth]})
        return flat, pair[1].reshape(batch, length, heads, depth).permute(0, 2, 1, 3)

    (q, qt), (k, kt), (v, vt) = (head(net.linear(x, t, width)) for _ in range(3))
    scores = call("nn.batch_matmul", [q, k], {"transpose_b": True})
    scores = call("reshape", [scores], {"newshape": [batch, heads, length, length]})
    scores = call("add", [call("divide", [scores, relay.const(depth**0.5)]), m])
    weights = call("reshape", [call("nn.softmax", [scores])], {"newshape": [batch * heads, length, length]})
    mixed = call(
        "reshape", [call("nn.batch_matmul", [weights, v])], {"newshape": [batch, heads, length, depth]}
    )
    joined = call(
        "reshape", [call("transpose", [mixed], {"axes": [0, 2, 1, 3]})], {"newshape": [batch, length, width]}
    )
    attention = torch.softmax(qt @ kt.mT / depth**0.5 + mt, -1) @ vt
    y, u = net.linear(joined, attention.permute(0, 2, 1, 3).reshape(batch, length, width), width)
    y, u = net.layer_norm(call("add", [y, x]), u + t)
    h, ht = net.linear(y, u, 4 * width)
    erf = call("erf", [call("multiply", [h, relay.const(0.5**0.5)])])
    half = call("add", [relay.const(0.5), call("multiply", [erf, relay.const(0.5)])])
    z, w = net.linear(call("multiply", [h, half]), F.gelu(ht), width)
    out, expected = net.layer_norm(call("add", [z, y]), w + u)
    return net, out, expected


BLOCKS = {"residual": residual_block, "mobile": mobile_block, "encoder": encoder_layer}


@pytest.fixture(params=BLOCKS)
def block(request: pytest.FixtureRequest) -> tuple[Network, relay.Expr, torch.Tensor]:
    torch.manual_seed(1)
    return BLOCKS[request.param]()


@pytest.mark.parametrize("opt_level", [0, 1, 2, 3])
def test_every_level(block: tuple[Network, relay.Expr, torch.Tensor], opt_level: int) -> None:
    net, body, expected = block
    net.check(body, expected, opt_level=opt_level)


def test_avx2(block: tuple[Network, relay.Expr, torch.Tensor]) -> None:
    net, body, expected = block
    net.check(body, expected, target="llvm -mcpu=haswell", threads=2)


def test_residual_block_is_three_convolutions() -> None:
    net, body, expected = residual_block()
    names = net.check(body, expected, input_orders=[[0, 2, 3, 1]], output_orders=[[0, 2, 3, 1]])
    convolutions = sorted(name.removeprefix("winograd2_").removeprefix("winograd4_") for name in names)
    assert convolutions == ["conv2d_add", "conv2d_add_add_relu", "conv2d_add_relu"]


def test_contiguous_memory_costs_one_copy_out() -> None:
    net, body, expected = residual_block()
    assert net.check(body, expected).count("copy") <= 2


def test_average_pool_runs_before_a_pointwise_convolution() -> None:
    """A transition of DenseNet: the pool computes batch norm and ReLU on the fly, the convolution has a quarter of the pixels."""
    torch.manual_seed(4)
    net = Network(rand(2, 16, 9, 11))
    x, t = net.conv_bn(net.params[0], net.inputs[0], 24, 3)
    y, u = net.batch_norm_relu(*net.conv_bn(x, t, 24, 1, groups=24))
    w, wt = net.weight(20, 24, 1, 1)
    attrs = {"padding": [0] * 4, "channels": 20, "kernel_size": [1, 1]}
    z, v = call("nn.conv2d", [y, w], attrs), F.conv2d(u, wt)
    pooled = call("nn.avg_pool2d", [z], {"pool_size": [2, 2], "strides": [2, 2]})
    kernels = net.check(*net.batch_norm_relu(pooled, F.avg_pool2d(v, 2)))
    order = [next(name for name in ("pool", "conv", "copy") if name in kernel) for kernel in kernels]
    assert order[-4:] == ["conv", "pool", "conv", "copy"], kernels


def test_encoder_layer_is_seven_kernels() -> None:
    net, body, expected = encoder_layer()
    names = net.check(body, expected)
    assert len(names) == 7, names
    assert "copy" not in names


def test_level_0_fuses_nothing() -> None:
    net, body, expected = encoder_layer()
    assert not [name for name in net.check(body, expected, opt_level=0) if "_add" in name]


def test_equal_layers_share_their_kernels() -> None:
    net = Network(rand(4, 32))
    x, t = net.params[0], net.inputs[0]
    value: relay.Expr = x
    for _ in range(5):
        value, t = net.linear(value, t, 32)
        value, t = relu(value), t.relu()
    compiled = compile_plan(value, net.params, 1, [t])
    assert_close(compiled(net.inputs, net.weights, [t])[0], t)
    assert len(compiled.plan.steps) == 5
    assert len({str(step.name) for step in compiled.plan.steps}) == 1
    (kernel,) = [k for k in compiled.plan.info["kernels"] if not k["packing"]]
    assert kernel["launches"] == 5
    assert kernel["flops"] == 2 * 4 * 32 * 32


def test_tied_weight_is_packed_once() -> None:
    net = Network(rand(4, 8))
    w, wt = net.weight(8, 8)
    first = call("nn.dense", [net.params[0], w], {"units": 8})
    body = call("nn.dense", [relu(first), w], {"units": 8})
    expected = F.linear(F.linear(net.inputs[0], wt).relu(), wt)
    compiled = compile_plan(body, net.params, 1, [expected])
    assert_close(compiled(net.inputs, net.weights, [expected])[0], expected)
    assert len(compiled.plan.packing_steps) == 1


def sliced(x: relay.Expr, begin: int, end: int, axis: int) -> relay.Expr:
    return call("strided_slice", [x], {"begin": [begin], "end": [end], "strides": [1], "axes": [axis]})


RESIZE = {"size": [12, 14], "roi": [0.0] * 4, "rounding_method": "", "cubic_alpha": -0.75}
# Relay and PyTorch from what a convolution of 8 channels gives (2, 8, 6, 7) and three weights of 8 elements.
BETWEEN: dict[str, tuple[Callable[..., relay.Expr], Callable[..., torch.Tensor]]] = {
    "group_norm": (
        lambda x, g, b, s: call("nn.group_norm", [x, g, b], {"num_groups": 4}),
        lambda x, g, b, s: F.group_norm(x, 4, g, b),
    ),
    "instance_norm": (
        lambda x, g, b, s: call("nn.instance_norm", [x, g, b]),
        lambda x, g, b, s: F.instance_norm(x, None, None, g, b),
    ),
    "layer_norm of channels": (
        lambda x, g, b, s: call("nn.layer_norm", [x, g, b], {"axis": 1}),
        lambda x, g, b, s: F.layer_norm(x.movedim(1, -1), (8,), g, b).movedim(-1, 1),
    ),
    "prelu": (lambda x, g, b, s: call("nn.prelu", [x, s]), lambda x, g, b, s: F.prelu(x, s)),
    "concatenate": (
        lambda x, g, b, s: call("concatenate", [relay.Tuple([x, relu(x)])], {"axis": 1}),
        lambda x, g, b, s: torch.cat([x, x.relu()], 1),
    ),
    "split": (
        lambda x, g, b, s: relay.TupleGetItem(call("split", [x], {"indices_or_sections": 2, "axis": 1}), 1),
        lambda x, g, b, s: x.chunk(2, 1)[1],
    ),
    "slice": (lambda x, g, b, s: sliced(sliced(x, 2, 7, 1), 1, 5, 2), lambda x, g, b, s: x[:, 2:7, 1:5]),
    "softmax": (lambda x, g, b, s: call("nn.softmax", [x], {"axis": 1}), lambda x, g, b, s: x.softmax(1)),
    "mean of channels": (
        lambda x, g, b, s: call("multiply", [x, call("mean", [x], {"axis": [1], "keepdims": True})]),
        lambda x, g, b, s: x * x.mean(1, True),
    ),
    "squeeze and excite": (
        lambda x, g, b, s: call(
            "multiply", [x, call("sigmoid", [call("mean", [x], {"axis": [2, 3], "keepdims": True})])]
        ),
        lambda x, g, b, s: x * x.mean((2, 3), True).sigmoid(),
    ),
    "max of rows": (
        lambda x, g, b, s: call("expand_dims", [call("max", [x], {"axis": [2]})], {"axis": 2}),
        lambda x, g, b, s: x.amax(2, True),
    ),
    "pad": (
        lambda x, g, b, s: call(
            "nn.pad", [x, relay.const(0.5)], {"pad_width": [[0, 0], [0, 0], [1, 2], [0, 1]]}
        ),
        lambda x, g, b, s: F.pad(x, (0, 1, 1, 2), value=0.5),
    ),
    "resize": (
        lambda x, g, b, s: call("image.resize2d", [x], RESIZE),
        lambda x, g, b, s: F.interpolate(x, scale_factor=2, mode="bilinear"),
    ),
    "adaptive pool": (
        lambda x, g, b, s: call("nn.adaptive_avg_pool2d", [x], {"output_size": [3, 4]}),
        lambda x, g, b, s: F.adaptive_avg_pool2d(x, (3, 4)),
    ),
    "adaptive max pool": (
        lambda x, g, b, s: call("nn.adaptive_max_pool2d", [x], {"output_size": [3, 4]}),
        lambda x, g, b, s: F.adaptive_max_pool2d(x, (3, 4)),
    ),
    "broadcast": (
        lambda x, g, b, s: call("add", [x, call("reshape", [s], {"newshape": [1, 8, 1, 1]})]),
        lambda x, g, b, s: x + s[None, :, None, None],
    ),
    "shuffle of channels": (
        lambda x, g, b, s: call(
            "reshape",
            [
                call(
                    "transpose",
                    [call("reshape", [x], {"newshape": [2, 2, 4, 6, 7]})],
                    {"axes": [0, 2, 1, 3, 4]},
                )
            ],
            {"newshape": [2, 8, 6, 7]},
        ),
        lambda x, g, b, s: x.reshape(2, 2, 4, 6, 7).transpose(1, 2).reshape(2, 8, 6, 7),
    ),
    "where": (
        lambda x, g, b, s: call("where", [call("greater", [x, relay.const(0.1)]), x, call("exp", [x])]),
        lambda x, g, b, s: torch.where(x > 0.1, x, x.exp()),
    ),
    "transposed": (
        lambda x, g, b, s: call("transpose", [x], {"axes": [0, 1, 3, 2]}),
        lambda x, g, b, s: x.transpose(2, 3),
    ),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_between_convolutions(name: str) -> None:
    """Whatever stands between two convolutions survives the change of layout."""
    build, reference = BETWEEN[name]
    net = Network(rand(2, 5, 6, 7))
    y, u = net.conv_bn(net.params[0], net.inputs[0], 8, 3)
    weights = [net.weight(8) for _ in range(3)]
    y, u = build(y, *[var for var, _ in weights]), reference(u, *[value for _, value in weights])
    y, u = net.conv_bn(y, u, 4, 1)
    net.check(y, u)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("sigmoid", ["sigmoid", "hardsigmoid"])
def test_squeeze_and_excitation(batch: int, sigmoid: str) -> None:
    """Activations are part of the tiny products, and the product with the image is the only pass over it more."""
    torch.manual_seed(7)
    net = Network(rand(batch, 20, 9, 8))
    y, u = net.conv_bn(net.params[0], net.inputs[0], 40, 1)
    y, u = net.conv_bn(relu(y), u.relu(), 40, 3, groups=40)
    x, t = relu(y), u.relu()
    pooled = call("nn.adaptive_avg_pool2d", [x], {"output_size": [1, 1]})
    y, u = net.conv_bn(pooled, t.mean((2, 3), keepdim=True), 6, 1)
    y, u = net.conv_bn(relu(y), u.relu(), 40, 1)
    if sigmoid == "sigmoid":
        gate = call("sigmoid", [y]), u.sigmoid()
    else:
        shifted = call("clip", [call("add", [y, relay.const(3.0)])], {"a_min": 0.0, "a_max": 6.0})
        gate = call("divide", [shifted, relay.const(6.0)]), F.hardsigmoid(u)
    y, u = net.conv_bn(call("multiply", [x, gate[0]]), t * gate[1], 24, 1)
    names = [name for name in net.check(y, u) if name != "copy"]
    assert len(names) == 7, names
    assert sum("conv2d" in name for name in names) == 5, names
