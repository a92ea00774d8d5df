"""Concatenation: parts are stored in their place, whatever computes them and whoever else reads them."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from compiler_cases import rand
from compiler_network import Network, call, relu

from torch_tvm import relay

Pair = tuple[relay.Expr, torch.Tensor]


def concat(parts: list[Pair], axis: int) -> Pair:
    """Relay and PyTorch of one concatenation."""
    expr = call("concatenate", [relay.Tuple([part[0] for part in parts])], {"axis": axis})
    return expr, torch.cat([part[1] for part in parts], axis)


def dense_layer(net: Network, x: Pair, growth: int) -> Pair:
    y, u = net.conv_bn(*net.batch_norm_relu(*x), 4 * growth, 1)
    return net.conv_bn(relu(y), u.relu(), growth, 3)


@pytest.mark.parametrize("listed", [True, False])
def test_dense_block_copies_nothing(listed: bool) -> None:
    """Whether each layer concatenates all parts again or appends to what it has."""
    torch.manual_seed(2)
    net = Network(rand(1, 5, 9, 8))
    first = net.conv_bn(net.params[0], net.inputs[0], 16, 1)
    parts, whole = [first], first
    for _ in range(3):
        parts.append(dense_layer(net, whole, 8))
        whole = concat(parts if listed else [whole, parts[-1]], 1)
    pooled = call("nn.avg_pool2d", [whole[0]], {"pool_size": [2, 2], "strides": [2, 2]})
    kernels = net.check(*net.conv_bn(pooled, F.avg_pool2d(whole[1], 2), 6, 1))
    copies = [name for name in kernels if "copy" in name or "concat" in name]
    # The first reads NCHW, the last is stored as NCHW.
    assert len(copies) <= 2, kernels
    assert len(kernels) - len(copies) == 1 + 3 * 3 + 2, kernels


def test_parts_that_cannot_be_placed() -> None:
    """The same part twice, an input, a part that is an output, a part of two different results."""
    torch.manual_seed(3)
    net = Network(rand(2, 6, 5, 4))
    x: Pair = (net.params[0], net.inputs[0])
    a = (relu(x[0]), x[1].relu())
    b = net.conv_bn(*x, 6, 3)
    twice = concat([a, a, x], 1)
    mixed = concat([b, a], 2)
    again = concat([(relu(mixed[0]), mixed[1].relu()), mixed], 1)
    net.check_all([twice, mixed, again, a])


def _value(rng: random.Random, net: Network, known: list[Pair]) -> Pair:
    """One more value from known ones, all of rank 4."""
    x, t = rng.choice(known)
    kind = rng.choice(["conv", "relu", "pool", "slice", "move", "mean", "concat", "concat", "concat"])
    if kind == "conv":
        return net.conv_bn(x, t, rng.choice([3, 16, 21]), rng.choice([1, 3]))
    if kind == "pool" and min(t.shape[2:]) > 1:
        return (
            call("nn.max_pool2d", [x], {"pool_size": [2, 2], "strides": [1, 1]}),
            F.max_pool2d(t, 2, 1),
        )
    if kind == "slice" and t.shape[1] > 2:
        attrs = {"begin": [1], "end": [t.shape[1]], "strides": [1], "axes": [1]}
        return call("strided_slice", [x], attrs), t[:, 1:]
    if kind == "move":
        return call("transpose", [x], {"axes": [0, 1, 3, 2]}), t.transpose(2, 3)
    if kind == "mean":
        return call("mean", [x], {"axis": [2], "keepdims": True}), t.mean(2, True)
    if kind == "concat":
        axis = rng.randrange(1, 4)
        fits = [p for p in known if all(p[1].shape[d] == t.shape[d] for d in range(4) if d != axis)]
        return concat([rng.choice(fits) for _ in range(rng.randrange(2, 5))], axis)
    return relu(x), t.relu()


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs(seed: int) -> None:
    torch.manual_seed(seed)
    rng = random.Random(seed)
    net = Network(rand(1, 4, 5, 6))
    known: list[Pair] = [(net.params[0], net.inputs[0])]
    known.append(net.conv_bn(*known[0], 16, 3))
    while len(known) < 14:
        known.append(_value(rng, net, known))
    net.check_all([known[-1], *rng.sample(known[1:-1], 2)], target=rng.choice(["llvm -mcpu=haswell", ""]))
