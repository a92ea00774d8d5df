"""All forms of convolutions through the compiler: our kernels compute them, with what follows fused, as PyTorch does."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from compiler_cases import check, rand

from torch_tvm import relay

call = relay.Call


def kernels(compiled: Any) -> list[str]:
    """Names of the kernels of a call, without numbers and what Winograd's are prefixed with."""
    names = [str(step.name).rpartition("_")[0] for step in compiled.plan.steps]
    return [name.removeprefix("winograd2_").removeprefix("winograd4_") for name in names]


def run_layer(
    name: str,
    attrs: dict[str, Any],
    reference: Callable[..., torch.Tensor],
    x: torch.Tensor,
    weight: torch.Tensor,
) -> list[str]:
    """Check convolution, bias, batch norm, ReLU, with weights packed ahead and in the call; return the former's kernels."""
    filters = attrs["channels"]

    def build(x: relay.Expr, weight: relay.Expr, *vectors: relay.Expr) -> relay.Expr:
        biased = call("nn.bias_add", [call(name, [x, weight], attrs), vectors[0]])
        return call("nn.relu", [relay.TupleGetItem(call("nn.batch_norm", [biased, *vectors[1:]]), 0)])

    def expected(x: torch.Tensor, weight: torch.Tensor, *vectors: torch.Tensor) -> torch.Tensor:
        bias, gamma, beta, mean, variance = vectors
        result = reference(x, weight) + bias.view(-1, *[1] * (x.dim() - 2))
        return F.batch_norm(result, mean, variance, gamma, beta).relu()

    vectors = [*(rand(filters) for _ in range(4)), rand(filters, low=0.5)]
    ahead = check([(name, build, expected)], [x], [weight, *vectors])
    check([(name, build, expected)], [x, weight, *vectors])
    return kernels(ahead)


def is_fused(names: list[str], anchor: str) -> bool:
    """Whether one kernel computes the layer, among copies that change the layout and packing."""
    work = [name for name in names if not name.startswith(("copy", "pack"))]
    return len(work) == 1 and work[0].startswith(anchor) and work[0].endswith("relu")


TRANSPOSED = [
    ((1, 4, 5, 6), (4, 3, 3, 3), {"stride": 2, "padding": 1}),
    ((2, 16, 5, 6), (16, 20, 4, 4), {"stride": 2, "padding": 1}),
    ((1, 8, 7, 5), (8, 8, 2, 2), {"stride": 2}),
    (
        (1, 6, 4, 4),
        (6, 5, 3, 2),
        {"stride": (3, 1), "padding": (1, 0), "output_padding": (2, 0), "groups": 2},
    ),
    ((1, 20, 4, 5), (20, 1, 4, 4), {"stride": 2, "padding": 1, "groups": 20}),
    ((2, 3, 4, 4), (3, 8, 3, 3), {"dilation": 2, "stride": 2}),
    ((1, 3, 4, 4), (3, 8, 1, 1), {"stride": 2, "output_padding": 1}),
    ((1, 8, 1, 1), (8, 16, 4, 4), {}),
    ((2, 8, 9), (8, 6, 4), {"stride": 2, "padding": 1}),
    ((1, 8, 3, 4, 5), (8, 12, 2, 2, 2), {"stride": 2}),
    ((2, 4, 3, 2, 5), (4, 6, 3, 1, 3), {"stride": (2, 1, 2), "padding": (1, 0, 1), "groups": 2}),
    ((1, 8, 1), (8, 6, 3), {"stride": 5, "dilation": 2, "output_padding": 3}),
]


@pytest.mark.parametrize(("shape", "kernel", "options"), TRANSPOSED)
def test_transposed(shape: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, Any]) -> None:
    rank, groups = len(shape) - 2, options.get("groups", 1)

    def tuple_of(name: str, default: int) -> list[int]:
        value = options.get(name, default)
        return list(value) if isinstance(value, tuple) else [value] * rank

    attrs = {
        "channels": kernel[1] * groups,
        "kernel_size": list(kernel[2:]),
        "strides": tuple_of("stride", 1),
        "padding": tuple_of("padding", 0) * 2,
        "output_padding": tuple_of("output_padding", 0),
        "dilation": tuple_of("dilation", 1),
        "groups": groups,
    }
    function: Callable[..., torch.Tensor] = getattr(F, f"conv_transpose{rank}d")
    names = run_layer(
        f"nn.conv{rank}d_transpose",
        attrs,
        lambda x, w: function(x, w, **options),
        rand(*shape),
        rand(*kernel),
    )
    assert is_fused(names, f"conv{max(2, rank)}d_transpose"), names


def random_layer(rng: random.Random) -> tuple[int, dict[str, Any], list[int], list[int]]:
    """Return rank, attributes, and shapes of input and weight."""
    rank = rng.choice([1, 2, 3])
    groups = rng.choice([1, 1, 2, 4])
    kernel = [rng.choice([1, 2, 3, 5]) for _ in range(rank)]
    dilation = [rng.choice([1, 1, 2, 3]) for _ in range(rank)]
    padding = [rng.randrange(3) for _ in range(rank)]
    reach = [(k - 1) * d + 1 - 2 * p for k, d, p in zip(kernel, dilation, padding, strict=True)]
    sizes = [max(1, r) + rng.randrange(9) for r in reach]
    depth, filters = rng.choice([1, 3, 8]), groups * rng.choice([1, 2, 4, 16, 17])
    attrs = {
        "channels": filters,
        "kernel_size": kernel,
        "strides": [rng.choice([1, 1, 2, 3]) for _ in range(rank)],
        "padding": padding * 2,
        "dilation": dilation,
        "groups": groups,
    }
    return rank, attrs, [rng.choice([1, 2]), depth * groups, *sizes], [filters, depth, *kernel]


@pytest.mark.parametrize("seed", range(12))
def test_random(seed: int) -> None:
    rank, attrs, shape, kernel = random_layer(random.Random(seed))
    function: Callable[..., torch.Tensor] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
    padding = attrs["padding"][:rank]

    def reference(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return function(x, w, None, attrs["strides"], padding, attrs["dilation"], attrs["groups"])

    names = run_layer(f"nn.conv{rank}d", attrs, reference, rand(*shape), rand(*kernel))
    assert is_fused(names, "conv"), (attrs, names)


def test_between_layers_of_one_dimension_nothing_is_copied() -> None:
    """Convolution, ReLU, pool, convolution: one change of layout at the beginning, one at the end."""

    def build(x: relay.Expr, v: relay.Expr, w: relay.Expr) -> relay.Expr:
        y = call("nn.relu", [call("nn.conv1d", [x, v], {"padding": [1, 1]})])
        y = call("nn.max_pool1d", [y], {"pool_size": [2], "strides": [2]})
        return call("nn.relu", [call("nn.conv1d", [y, w])])

    def reference(x: torch.Tensor, v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return F.conv1d(F.max_pool1d(F.conv1d(x, v, padding=1).relu(), 2), w).relu()

    compiled = check([("net", build, reference)], [rand(2, 8, 20)], [rand(16, 8, 3), rand(20, 16, 3)])
    names = [name for name in kernels(compiled) if not name.startswith("pack")]
    assert sum(name.startswith("copy") for name in names) <= 2, names
    assert [n for n in names if not n.startswith("copy")] == ["conv2d_relu", "max_pool2d", "conv2d_relu"]


def test_three_dimensions() -> None:
    """Factored convolutions of video networks: planes as images of their own, then a convolution over planes; pools between."""

    def build(x: relay.Expr, v: relay.Expr, w: relay.Expr, u: relay.Expr) -> relay.Expr:
        y = call("nn.relu", [call("nn.conv3d", [x, v], {"padding": [0, 1, 1] * 2})])
        y = call(
            "nn.max_pool3d", [y], {"pool_size": [2, 3, 3], "strides": [1, 2, 2], "padding": [0, 1, 1] * 2}
        )
        y = call("nn.relu", [call("nn.conv3d", [y, w], {"padding": [1, 0, 0] * 2})])
        return call("nn.avg_pool3d", [call("add", [y, call("nn.conv3d", [y, u])])], {"pool_size": [2, 2, 2]})

    def reference(x: torch.Tensor, v: torch.Tensor, w: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        y = F.max_pool3d(F.conv3d(x, v, padding=(0, 1, 1)).relu(), (2, 3, 3), (1, 2, 2), (0, 1, 1))
        y = F.conv3d(y, w, padding=(1, 0, 0)).relu()
        return F.avg_pool3d(y + F.conv3d(y, u), 2, stride=1)

    weights = [rand(16, 3, 1, 3, 3), rand(20, 16, 3, 1, 1), rand(20, 20, 1, 1, 1)]
    compiled = check([("net", build, reference)], [rand(2, 3, 4, 9, 10)], weights)
    check([("net", build, reference)], [rand(2, 3, 4, 9, 10)], weights, opt_level=0)
    names = [name for name in kernels(compiled) if not name.startswith(("pack", "copy"))]
    assert names == ["conv2d_relu", *["max_pool2d"] * 2, "conv3d_relu", "conv2d_add", *["avg_pool2d"] * 2]
