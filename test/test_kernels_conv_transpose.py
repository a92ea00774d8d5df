"""Transposed convolutions against float64: strides, borders, phases without taps, groups, epilogues, both vector widths."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from kernel_runs import TARGETS, get_target

from torch_tvm.kernels.conv_transpose import (
    ConvTranspose2d,
    build,
    build_pack,
    default_schedule,
    packed_shape,
)
from torch_tvm.kernels.expression import Expression, Instruction, Operand
from torch_tvm.kernels.module import compile_kernels
from torch_tvm.kernels.target import CpuTarget


def block(w: ConvTranspose2d) -> Expression:
    """Bias, shortcut, ReLU."""
    shape, dtype = w.output_shape, w.dtype
    inputs = (Operand(shape, dtype), Operand((w.filters,), dtype), Operand(shape, dtype))
    steps = (("add", (0, 1)), ("add", (3, 2)), ("relu", (4,)))
    return Expression(inputs, tuple(Instruction(op, args, dtype) for op, args in steps), (5,), shape)


def reference(w: ConvTranspose2d, source: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """PyTorch's transposed convolution in float64, NHWC: all of it, then cut."""
    first = w.input_slice[0] if w.input_slice else 0
    image = source[..., first : first + w.channels].permute(0, 3, 1, 2).double()
    # As if the output padding were large, with the padding cut off by hand: PyTorch wants it symmetric.
    whole = torch.nn.functional.conv_transpose2d(
        image, weight.double(), None, w.stride, 0, 0, w.groups, w.dilation
    )
    _, height, width, _ = w.output_shape
    top, left, bottom, right = w.padding
    below, beside = w.output_padding[0] - bottom, w.output_padding[1] - right
    padded = torch.nn.functional.pad(whole, (-left, beside, -top, below))
    assert padded.shape[2:] == (height, width)
    return padded.permute(0, 2, 3, 1)


def random_workload(rng: random.Random) -> ConvTranspose2d:
    kernel = (rng.choice([1, 2, 3, 4]), rng.choice([1, 2, 3, 4, 7]))
    stride = (rng.choice([1, 2, 3]), rng.choice([1, 2, 2, 4]))
    dilation = (rng.choice([1, 1, 2]), rng.choice([1, 1, 2, 3]))
    padding = (rng.randrange(3), rng.randrange(4), rng.randrange(3), rng.randrange(4))
    extra = (rng.randrange(max(stride[0], dilation[0])), rng.randrange(max(stride[1], dilation[1])))
    reach = [(kernel[i] - 1) * dilation[i] + 1 + extra[i] for i in range(2)]
    # At least as many pixels as give one pixel of output.
    least = [max(1, 2 - (reach[i] - padding[i] - padding[i + 2] - 1) // stride[i]) for i in range(2)]
    groups = rng.choice([1, 1, 2, 3, 16])
    depthwise = groups > 1 and rng.random() < 0.5
    channels = groups if depthwise else groups * rng.choice([1, 3, 8])
    return ConvTranspose2d(
        rng.choice([1, 1, 2]),
        least[0] + rng.randrange(5),
        least[1] + rng.randrange(12),
        channels,
        groups if depthwise else groups * rng.choice([1, 5, 16, 33]),
        kernel,
        stride,
        padding,
        extra,
        dilation,
        groups,
        rng.choice(["float32", "float32", "float64"]),
        (rng.randrange(3), channels + 3) if rng.random() < 0.3 else None,
    )


def check(workloads: list[ConvTranspose2d], target: CpuTarget) -> None:
    functions: dict[str, Any] = {}
    plans = [(w, default_schedule(w, target, threads=i % 3 + 1)) for i, w in enumerate(workloads)]
    for i, (w, schedules) in enumerate(plans):
        functions[f"conv_{i}"] = build(w, schedules, target, f"conv_{i}", block(w) if i % 2 else None)
        functions[f"pack_{i}"] = build_pack(w, schedules, f"pack_{i}")
    compiled = compile_kernels(functions, target)
    for i, (w, schedules) in enumerate(plans):
        dtype = getattr(torch, w.dtype)
        source, weight = torch.randn(w.input_shape, dtype=dtype), torch.randn(w.weight_shape, dtype=dtype)
        packed = torch.full(packed_shape(w, schedules), torch.nan, dtype=dtype)
        compiled[f"pack_{i}"](weight, packed)
        assert not packed.isnan().any(), w
        expected, extras = reference(w, source, weight), []
        if i % 2:
            extras = [torch.randn(o.shape, dtype=dtype) for o in block(w).inputs[1:]]
            expected = torch.relu(expected + extras[0].double() + extras[1].double())
        size = math.prod(w.output_shape)
        memory = torch.full((size + 33,), 7, dtype=dtype)
        result = memory[1 : size + 1].view(w.output_shape)
        compiled[f"conv_{i}"](source, packed, *extras, result)
        error = float((result - expected).abs().max()) / max(1.0, float(expected.abs().max()))
        assert error <= (2e-6 if w.dtype == "float32" else 1e-13), (w, schedules, error)
        assert memory[0] == 7 and (memory[size + 1 :] == 7).all(), (w, schedules)


@pytest.mark.parametrize("spec", TARGETS)
@pytest.mark.parametrize("seed", range(3))
def test_random_transposed_convolutions(spec: str, seed: int) -> None:
    rng = random.Random(seed)
    check([random_workload(rng) for _ in range(8)], get_target(spec))


def test_layers_of_networks() -> None:
    """DCGAN from one pixel on, U-Net, a segmentation head, a vocoder, bilinear up-sampling, fewer taps than the stride."""
    same = (1, 1, 1, 1)
    check(
        [
            ConvTranspose2d(2, 1, 1, 20, 32, (4, 4)),
            ConvTranspose2d(1, 8, 8, 32, 16, (4, 4), (2, 2), same),
            ConvTranspose2d(1, 9, 16, 16, 40, (2, 2), (2, 2)),
            ConvTranspose2d(1, 14, 14, 16, 16, (3, 3), (2, 2), same, (1, 1)),
            ConvTranspose2d(1, 1, 30, 16, 16, (1, 16), (1, 8), (0, 4, 0, 4)),
            ConvTranspose2d(1, 7, 7, 21, 21, (4, 4), (2, 2), same, groups=21),
            ConvTranspose2d(1, 5, 6, 8, 20, (1, 2), (3, 3), output_padding=(2, 2)),
        ],
        get_target("llvm"),
    )


def test_phases_have_each_tap_once() -> None:
    """A 3x3 kernel of stride 2: 1, 2, 2 and 4 of its 9 taps."""
    w = ConvTranspose2d(1, 8, 8, 4, 4, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1))
    taps = [len(phase.taps[0]) * len(phase.taps[1]) for phase in w.phases]
    assert sorted(taps) == [1, 2, 2, 4]
    assert w.flops == 2 * 8 * 8 * 4 * 4 * 9


@pytest.mark.parametrize("changes", [{"kernel": (0, 1)}, {"padding": (9, 0, 9, 0)}, {"groups": 3}])
def test_impossible_workloads(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="ConvTranspose2d"):
        ConvTranspose2d(**{"batch": 1, "height": 4, "width": 4, "channels": 4, "filters": 4, "kernel": (3, 3)} | changes)  # fmt: skip
