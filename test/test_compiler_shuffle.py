"""Channel shuffles: one kernel where two branches meet, and what is sliced from it is read where it lies."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from compiler_cases import rand
from compiler_network import Network, call, relu
from kernel_runs import TARGETS

import torch_tvm
from torch_tvm import relay

Pair = tuple[relay.Expr, torch.Tensor]


def shuffle(x: Pair, groups: int) -> Pair:
    n, c, h, w = x[1].shape
    split = call("reshape", [x[0]], {"newshape": [n, groups, c // groups, h, w]})
    moved = call("transpose", [split], {"axes": [0, 2, 1, 3, 4]})
    expected = x[1].view(n, groups, c // groups, h, w).transpose(1, 2).reshape(x[1].shape)
    return call("reshape", [moved], {"newshape": [n, c, h, w]}), expected


def channels(x: Pair, first: int, last: int) -> Pair:
    attrs = {"begin": [first], "end": [last], "strides": [1], "axes": [1]}
    return call("strided_slice", [x[0]], attrs), x[1][:, first:last]


def unit(net: Network, x: Pair) -> Pair:
    """The block of ShuffleNetV2 whose one half passes through."""
    half = x[1].shape[1] // 2
    left, (y, u) = channels(x, 0, half), channels(x, half, 2 * half)
    y, u = net.conv_bn(y, u, half, 1)
    y, u = net.conv_bn(relu(y), u.relu(), half, 3, groups=half)
    y, u = net.conv_bn(y, u, half, 1)
    whole = call("concatenate", [relay.Tuple([left[0], relu(y)])], {"axis": 1})
    return shuffle((whole, torch.cat([left[1], u.relu()], 1)), 2)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("batch", [1, 3])
def test_units_copy_nothing_but_what_they_mix(target: str, batch: int) -> None:
    torch.manual_seed(1)
    net = Network(rand(batch, 5, 7, 6))
    x = net.conv_bn(net.params[0], net.inputs[0], 24, 1)
    for _ in range(3):
        x = unit(net, x)
    y, u = net.conv_bn(*x, 10, 1)
    pooled = call("mean", [y], {"axis": [2, 3]}), u.mean((2, 3))
    names = net.check(*pooled, target=target)
    assert sum("interleave" in name for name in names) == 3
    copies = [name for name in names if "copy" in name or "concat" in name or "reshape" in name]
    assert len(copies) <= 1, names  # the input is NCHW
    assert len(names) - len(copies) == 1 + 3 * 4 + 2, names


@pytest.mark.parametrize("groups", [2, 3, 4, 12])
def test_shuffle_of_one_convolution(groups: int) -> None:
    """As in ShuffleNetV1; more groups than the kernel takes are still right."""
    net = Network(rand(2, 8, 5, 6))
    y, u = net.conv_bn(net.params[0], net.inputs[0], 48, 1)
    y, u = net.conv_bn(*shuffle((relu(y), u.relu()), groups), 48, 3, groups=48)
    names = net.check(y, u)
    assert any("interleave" in name for name in names) == (groups <= 8), names


def test_shuffles_without_convolutions() -> None:
    """NCHW stays NCHW; other reshapes and permutations are no shuffles."""
    net = Network(rand(2, 8, 4, 6))
    x: Pair = (net.params[0], net.inputs[0])
    split = call("reshape", [x[0]], {"newshape": [2, 2, 4, 4, 6]})
    moved = call("transpose", [split], {"axes": [0, 2, 1, 3, 4]})
    other = call("reshape", [moved], {"newshape": [2, 4, 4, 12]})
    expected = x[1].view(2, 2, 4, 4, 6).transpose(1, 2).reshape(2, 4, 4, 12)
    names = net.check_all([shuffle(x, 2), (other, expected)])
    assert names == ["copy", "copy"]


def test_concatenation_of_unequal_parts() -> None:
    net = Network(rand(1, 6, 5, 5))
    x: Pair = (net.params[0], net.inputs[0])
    a, b = net.conv_bn(*x, 8, 1), net.conv_bn(*x, 16, 1)
    whole = call("concatenate", [relay.Tuple([a[0], b[0]])], {"axis": 1})
    mixed = shuffle((whole, torch.cat([a[1], b[1]], 1)), 3)
    net.check_all([net.conv_bn(*mixed, 8, 1), (whole, torch.cat([a[1], b[1]], 1))])


def test_groups_in_another_order() -> None:
    """Halves that are exchanged, and halves that overlap, before they are mixed: slices, but not of the whole in order."""
    net = Network(rand(1, 8, 4, 6))
    x: Pair = (net.params[0], net.inputs[0])
    results = []
    for bounds in (((4, 8), (0, 4)), ((0, 4), (2, 6)), ((0, 4), (4, 8))):
        parts = [channels(x, *each) for each in bounds]
        whole = call("concatenate", [relay.Tuple([part[0] for part in parts])], {"axis": 1})
        results.append(shuffle((whole, torch.cat([part[1] for part in parts], 1)), 2))
    net.check_all(results)


class ShuffleUnit(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.first, self.last = (torch.nn.Conv2d(half, half, 1) for _ in range(2))
        self.depthwise = torch.nn.Conv2d(half, half, 3, padding=1, groups=half)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x.chunk(2, dim=1)
        right = F.relu(self.last(self.depthwise(F.relu(self.first(right)))))
        x = torch.cat((left, right), dim=1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous()
        return x.view(n, c, h, w)


def test_against_eager() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 58, 3, 2), ShuffleUnit(58), ShuffleUnit(58)).eval()
    x = torch.randn(2, 3, 31, 33)
    with torch.no_grad(), torch_tvm.enabled(strict=True):
        with torch_tvm.disabled():
            expected = network(x)
        scripted = torch.jit.freeze(torch.jit.script(network))
        for _ in range(3):
            torch.testing.assert_close(scripted(x), expected, rtol=1e-5, atol=1e-5)
