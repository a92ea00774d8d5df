"""Padding ahead of convolutions and pools: part of them where that is exact, a kernel of its own where it is not."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from compiler_cases import rand
from compiler_network import Network, call, relu
from kernel_runs import TARGETS

import torch_tvm
from torch_tvm import relay


def pad(x: relay.Expr, widths: list[int], value: float = 0.0) -> relay.Expr:
    """`F.pad` of an NCHW or NCW tensor: `widths` as PyTorch lists them, from the last dimension on."""
    rank = 2 + len(widths) // 2
    pairs = [[0, 0], [0, 0], *[list(widths[i : i + 2]) for i in range(len(widths) - 2, -1, -2)]]
    assert len(pairs) == rank
    return call("nn.pad", [x, relay.const(value, "float32")], {"pad_width": pairs})


CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], list[int], dict[str, Any]]] = [
    # "same" of TensorFlow for even sizes and stride 2: one pixel more behind than before
    ((1, 3, 16, 16), (32, 3, 3, 3), [0, 1, 0, 1], {"stride": 2}),
    ((2, 32, 14, 14), (32, 1, 5, 5), [1, 2, 1, 2], {"stride": 2, "groups": 32}),
    ((1, 40, 9, 11), (24, 40, 3, 3), [1, 1, 1, 1], {}),
    ((1, 64, 28, 28), (64, 64, 3, 3), [1, 0, 2, 1], {}),
    ((1, 16, 7, 7), (20, 16, 3, 3), [3, 1, 0, 4], {"padding": (1, 2), "dilation": 2}),
    ((1, 16, 6, 6), (8, 16, 1, 1), [1, 1, 2, 0], {}),
    ((1, 8, 5, 5), (8, 4, 3, 3), [5, 4, 6, 3], {"groups": 2}),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", range(len(CONVOLUTIONS)))
def test_zeros_are_padding_of_a_convolution(target: str, case: int) -> None:
    shape, weight, widths, options = CONVOLUTIONS[case]
    net = Network(rand(*shape))
    w, wt = net.weight(*weight)
    own = options.get("padding", (0, 0))
    attrs = {
        "strides": [options.get("stride", 1)] * 2,
        "padding": [*own, *own],
        "dilation": [options.get("dilation", 1)] * 2,
        "groups": options.get("groups", 1),
        "channels": weight[0],
        "kernel_size": list(weight[2:]),
    }
    body = relu(call("nn.conv2d", [pad(relu(net.params[0]), widths), w], attrs))
    expected = F.conv2d(F.pad(net.inputs[0].relu(), widths), wt, **options).relu()
    names = net.check(body, expected, target=target)
    assert not any("pad" in name for name in names), names
    assert sum("conv2d" in name for name in names) == 1


def test_sequences() -> None:
    net = Network(rand(2, 6, 30))
    w, wt = net.weight(12, 6, 5)
    attrs = {"strides": [2], "channels": 12, "kernel_size": [5]}
    body = call("nn.conv1d", [pad(net.params[0], [3, 4]), w], attrs)
    names = net.check(body, F.conv1d(F.pad(net.inputs[0], (3, 4)), wt, stride=2))
    assert not any("pad" in name for name in names), names


def test_padding_of_padding() -> None:
    net = Network(rand(1, 8, 6, 6))
    w, wt = net.weight(8, 8, 3, 3)
    once = pad(net.params[0], [1, 0, 0, 1])
    body = call("nn.conv2d", [pad(once, [0, 2, 1, 0]), w], {"channels": 8, "kernel_size": [3, 3]})
    expected = F.conv2d(F.pad(F.pad(net.inputs[0], (1, 0, 0, 1)), (0, 2, 1, 0)), wt)
    assert not any("pad" in name for name in net.check(body, expected))


def test_who_else_reads_the_padded_tensor_gets_it() -> None:
    net = Network(rand(1, 8, 6, 6))
    w, wt = net.weight(8, 8, 3, 3)
    padded, expected = pad(net.params[0], [1, 1, 1, 1]), F.pad(net.inputs[0], (1, 1, 1, 1))
    body = call("nn.conv2d", [padded, w], {"channels": 8, "kernel_size": [3, 3]})
    names = net.check_all([(body, F.conv2d(expected, wt)), (padded, expected)])
    assert sum("pad" in name for name in names) == 1


@pytest.mark.parametrize(("value", "widths"), [(1.0, [1, 1, 1, 1]), (math.nan, [0, 1, 0, 1])])
def test_other_constants_stay_for_convolutions(value: float, widths: list[int]) -> None:
    net = Network(rand(1, 8, 6, 6))
    w, wt = net.weight(8, 8, 3, 3)
    body = call("nn.conv2d", [pad(net.params[0], widths, value), w], {"channels": 8, "kernel_size": [3, 3]})
    names = net.check(body, F.conv2d(F.pad(net.inputs[0], widths, value=value), wt), winograd="off")
    assert sum("pad" in name for name in names) == 1


def test_padded_channels_stay() -> None:
    net = Network(rand(1, 6, 5, 5))
    w, wt = net.weight(8, 9, 1, 1)
    widths = {"pad_width": [[0, 0], [1, 2], [0, 0], [0, 0]]}
    padded = call("nn.pad", [net.params[0], relay.const(0.0, "float32")], widths)
    body = call("nn.conv2d", [padded, w], {"channels": 8, "kernel_size": [1, 1]})
    expected = F.conv2d(F.pad(net.inputs[0], (0, 0, 0, 0, 1, 2)), wt)
    assert sum("pad" in name for name in net.check(body, expected)) == 1


POOLS: list[tuple[str, dict[str, Any], list[int], float, bool, bool]] = [
    # operator, options of the pool, widths, value, of a ReLU, whether the padding is the pool's
    ("max", {"kernel_size": 3, "stride": 2}, [0, 1, 0, 1], -math.inf, False, True),
    ("max", {"kernel_size": 3, "stride": 2}, [0, 1, 0, 1], 0.0, True, True),
    ("max", {"kernel_size": 3, "stride": 2}, [0, 1, 0, 1], 0.0, False, False),
    ("max", {"kernel_size": 3, "stride": 2}, [1, 1, 1, 1], 1.0, True, False),
    ("max", {"kernel_size": 2, "stride": 1}, [2, 0, 0, 0], 0.0, True, False),  # a window of padding alone
    ("max", {"kernel_size": 2, "stride": 1}, [0, 2, 0, 0], 0.0, True, False),
    ("max", {"kernel_size": 2, "stride": 1}, [2, 2, 3, 0], -math.inf, False, True),
    ("max", {"kernel_size": 3, "stride": 2, "ceil_mode": True}, [0, 1, 0, 1], -math.inf, False, False),
    ("max", {"kernel_size": 3, "stride": 2, "padding": 1}, [0, 1, 1, 0], -math.inf, False, True),
    ("avg", {"kernel_size": 3, "stride": 2}, [0, 1, 0, 1], 0.0, False, True),
    ("avg", {"kernel_size": 3, "stride": 2, "count_include_pad": False}, [1, 1, 0, 1], 0.0, False, True),
    ("avg", {"kernel_size": 3, "stride": 1, "padding": 1}, [1, 2, 0, 1], 0.0, False, True),
    ("avg", {"kernel_size": 3, "padding": 1, "count_include_pad": False}, [1, 1, 0, 1], 0.0, False, False),
    ("avg", {"kernel_size": 3, "stride": 2, "ceil_mode": True}, [0, 1, 0, 1], 0.0, False, False),
    ("avg", {"kernel_size": 2, "stride": 2}, [1, 1, 1, 1], 3.0, False, False),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", range(len(POOLS)))
def test_padding_of_pools(target: str, case: int) -> None:
    operator, options, widths, value, positive, folded = POOLS[case]
    net = Network(rand(2, 20, 9, 8))
    x, t = net.params[0], net.inputs[0]
    if positive:
        x, t = relu(x), t.relu()
    size = options["kernel_size"]
    attrs = {
        "pool_size": [size] * 2,
        "strides": [options.get("stride", size)] * 2,
        "padding": [options.get("padding", 0)] * 4,
        "ceil_mode": options.get("ceil_mode", False),
    }
    if operator == "avg":
        attrs["count_include_pad"] = options.get("count_include_pad", True)
    reference = F.max_pool2d if operator == "max" else F.avg_pool2d
    body = call(f"nn.{operator}_pool2d", [pad(x, widths, value)], attrs)
    names = net.check(body, reference(F.pad(t, widths, value=value), **options), target=target)
    assert any("pad" in name for name in names) != folded, names


class SamePadded(torch.nn.Module):
    """A stem, a depthwise block and a pool as ports of TensorFlow networks pad them."""

    def __init__(self) -> None:
        super().__init__()
        self.zero = torch.nn.ZeroPad2d((0, 1, 0, 1))
        self.stem = torch.nn.Conv2d(3, 16, 3, 2, bias=False)
        self.norm = torch.nn.BatchNorm2d(16)
        self.depthwise = torch.nn.Conv2d(16, 16, 5, 2, groups=16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self.norm(self.stem(self.zero(x))))
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 1)
        x = self.depthwise(F.pad(x, (1, 2, 2, 1)))
        return F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)


def test_against_eager() -> None:
    network, x = SamePadded().eval(), torch.randn(2, 3, 32, 30)
    with torch.no_grad(), torch_tvm.enabled(strict=True):
        traced = torch.jit.trace(network, (x,))
        with torch_tvm.disabled():
            expected = network(x)
        for _ in range(3):
            torch.testing.assert_close(traced(x), expected, rtol=1e-5, atol=1e-5)
