"""Transposed convolutions against float64: strides, borders, phases without taps, groups, epilogues, both vector widths."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from kernel_runs import TARGETS, get_target

from torch_tvm.kernels.conv_transpose import (
    ConvTranspose,
    build,
    build_pack,
    default_schedule,
    packed_shape,
)
from torch_tvm.kernels.expression import Expression, Instruction, Operand
from torch_tvm.kernels.module import compile_kernels
from torch_tvm.kernels.target import CpuTarget


def block(w: ConvTranspose) -> Expression:
    """Bias, shortcut, ReLU."""
    shape, dtype = w.output_shape, w.dtype
    inputs = (Operand(shape, dtype), Operand((w.filters,), dtype), Operand(shape, dtype))
    steps = (("add", (0, 1)), ("add", (3, 2)), ("relu", (4,)))
    return Expression(inputs, tuple(Instruction(op, args, dtype) for op, args in steps), (5,), shape)


def reference(w: ConvTranspose, source: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """PyTorch's transposed convolution in float64: all of it, then cut as PyTorch cannot, differently at both ends."""
    first = w.input_slice[0] if w.input_slice else 0
    image = source[..., first : first + w.channels].movedim(-1, 1).double()
    function = torch.nn.functional.conv_transpose2d if w.rank == 2 else torch.nn.functional.conv_transpose3d
    whole = function(image, weight.double(), None, w.stride, 0, 0, w.groups, w.dilation)
    sides = []
    for axis in reversed(range(w.rank)):
        sides += [-w.padding[axis], w.output_padding[axis] - w.padding[axis + w.rank]]
    return torch.nn.functional.pad(whole, sides).movedim(1, -1)


def random_workload(rng: random.Random) -> ConvTranspose:
    rank = rng.choice([2, 2, 3])
    kernel = [rng.choice([1, 2, 3, 4]) for _ in range(rank - 1)] + [rng.choice([1, 2, 3, 4, 7])]
    stride = [rng.choice([1, 2, 2, 3]) for _ in range(rank - 1)] + [rng.choice([1, 2, 2, 4])]
    dilation = [rng.choice([1, 1, 2, 3]) for _ in range(rank)]
    padding = [rng.randrange(3) for _ in range(2 * rank)]
    extra = [rng.randrange(max(s, d)) for s, d in zip(stride, dilation, strict=True)]
    sizes = []
    for i in range(rank):
        # At least as many pixels as give one pixel of output.
        missing = padding[i] + padding[i + rank] - (kernel[i] - 1) * dilation[i] - extra[i]
        sizes.append(1 + max(0, -(-missing // stride[i])) + rng.randrange(12 if i == rank - 1 else 4))
    groups = rng.choice([1, 1, 2, 3, 16])
    channels = groups * rng.choice([1, 1, 3, 8])
    return ConvTranspose(
        rng.choice([1, 1, 2]),
        tuple(sizes),
        channels,
        groups * rng.choice([1, 1, 4, 5, 16, 33]),
        tuple(kernel),
        tuple(stride),
        tuple(padding),
        tuple(extra),
        tuple(dilation),
        groups,
        rng.choice(["float32", "float32", "float64"]),
        (rng.randrange(3), channels + 3) if rng.random() < 0.3 else None,
    )


def check(workloads: list[ConvTranspose], target: CpuTarget) -> None:
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
            ConvTranspose(2, (1, 1), 20, 32, (4, 4), (1, 1)),
            ConvTranspose(1, (8, 8), 32, 16, (4, 4), (2, 2), same),
            ConvTranspose(1, (9, 16), 16, 40, (2, 2), (2, 2)),
            ConvTranspose(1, (14, 14), 16, 16, (3, 3), (2, 2), same, (1, 1)),
            ConvTranspose(1, (1, 30), 16, 16, (1, 16), (1, 8), (0, 4, 0, 4)),
            ConvTranspose(1, (7, 7), 21, 21, (4, 4), (2, 2), same, groups=21),
            ConvTranspose(1, (5, 6), 8, 20, (1, 2), (3, 3), output_padding=(2, 2)),
            ConvTranspose(1, (4, 7, 7), 16, 20, (2, 2, 2), (2, 2, 2)),
            ConvTranspose(1, (3, 4, 5), 8, 16, (1, 3, 3), (2, 2, 2), (0, 1, 1, 0, 1, 1), (1, 1, 1)),
        ],
        get_target("llvm"),
    )


def test_phases_have_each_tap_once() -> None:
    """A 3x3 kernel of stride 2: 1, 2, 2 and 4 of its 9 taps."""
    w = ConvTranspose(1, (8, 8), 4, 4, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1))
    taps = [len(phase.taps[0]) * len(phase.taps[1]) for phase in w.phases]
    assert sorted(taps) == [1, 2, 2, 4]
    assert w.flops == 2 * 8 * 8 * 4 * 4 * 9


@pytest.mark.parametrize("changes", [{"kernel": (0, 1)}, {"padding": (9, 0, 9, 0)}, {"groups": 3}])
def test_impossible_workloads(changes: dict[str, Any]) -> None:
    valid = {"batch": 1, "sizes": (4, 4), "channels": 4, "filters": 4, "kernel": (3, 3), "stride": (1, 1)}
    with pytest.raises(ValueError, match="ConvTranspose"):
        ConvTranspose(**(valid | changes))
