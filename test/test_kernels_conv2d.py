"""Convolutions against float64: borders, strides, dilation, groups, ragged channels, epilogues, both vector widths."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
import torch
from kernel_runs import get_target

from torch_tvm.kernels.conv2d import Conv2d, Schedule, build, build_pack, default_schedule, packed_shape
from torch_tvm.kernels.conv_shape import Depth
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression, Instruction, Operand
from torch_tvm.kernels.module import compile_kernels
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.views import View

TARGETS = ["llvm -mcpu=skylake-avx512", "llvm -mcpu=haswell"]
Case = tuple[Conv2d, Schedule, bool]


def block(workload: Conv2d) -> Expression:
    """The end of a residual block: scale, bias, shortcut, ReLU."""
    shape, dtype = workload.output_shape, workload.dtype
    return Expression(
        (
            Operand(shape, dtype),
            Operand((workload.filters,), dtype),
            Operand((*[1] * (len(shape) - 1), workload.filters), dtype),
            Operand(shape, dtype),
        ),
        (
            Instruction("multiply", (0, 1), dtype),
            Instruction("add", (4, 2), dtype),
            Instruction("add", (5, 3), dtype),
            Instruction("relu", (6,), dtype),
        ),
        (7,),
        shape,
    )


def reference(w: Conv2d, source: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """PyTorch's convolution in float64, NHWC."""
    if w.input_layout == "NHWC":
        source = source[..., w.first_channel : w.first_channel + w.channels].movedim(-1, 1)
    d = w.depth or Depth(1, 1)
    image = source.double().view(w.batch, w.channels, d.size, w.height, w.width)
    top, left, bottom, right = w.padding
    padded = torch.nn.functional.pad(image, (left, right, top, bottom, *d.padding))
    kernel = weight.double().view(w.filters, w.group_channels, d.kernel, *w.kernel)
    stride, dilation = (d.stride, *w.stride), (d.dilation, *w.dilation)
    result = torch.nn.functional.conv3d(padded, kernel, None, stride, 0, dilation, w.groups)
    return result.movedim(1, -1).reshape(w.output_shape)


def check(cases: list[Case], target: CpuTarget) -> None:
    functions = {}
    for i, (workload, schedule, fused) in enumerate(cases):
        epilogue = block(workload) if fused else None
        functions[f"conv_{i}"] = build(workload, schedule, target, f"conv_{i}", epilogue)
        functions[f"pack_{i}"] = build_pack(workload, schedule, target, f"pack_{i}")
    compiled = compile_kernels(functions, target)
    for i, (workload, schedule, fused) in enumerate(cases):
        dtype = getattr(torch, workload.dtype)
        source = torch.randn(workload.input_shape, dtype=dtype)
        weight = torch.randn(workload.weight_shape, dtype=dtype)
        packed = torch.full(packed_shape(workload, schedule), torch.nan, dtype=dtype)
        compiled[f"pack_{i}"](weight, packed)
        assert not packed.isnan().any(), workload
        expected = reference(workload, source, weight)
        extras: list[torch.Tensor] = []
        if fused:
            extras = [torch.randn(o.shape, dtype=dtype) for o in block(workload).inputs[1:]]
            scale, bias, shortcut = (extra.double() for extra in extras)
            expected = torch.relu(expected * scale + bias + shortcut)
        # The result lies between guards, at an address that is aligned to nothing but its elements.
        size = math.prod(workload.output_shape)
        memory = torch.full((size + 33,), 7, dtype=dtype)
        result = memory[1 : size + 1].view(workload.output_shape)
        compiled[f"conv_{i}"](source, packed, *extras, result)
        error = float((result - expected).abs().max()) / max(1.0, float(expected.abs().max()))
        assert error <= (2e-5 if workload.dtype == "float32" else 1e-13), (workload, schedule, error)
        assert memory[0] == 7 and (memory[size + 1 :] == 7).all(), (workload, schedule)


def random_workload(rng: random.Random) -> Conv2d:
    groups = rng.choice([1, 1, 1, 2, 3])
    kernel = (rng.choice([1, 2, 3, 5]), rng.choice([1, 3, 3, 4, 7]))
    dilation = (rng.choice([1, 1, 2]), rng.choice([1, 1, 3]))
    padding = (rng.randrange(3), rng.randrange(4), rng.randrange(3), rng.randrange(4))
    least = [(kernel[i] - 1) * dilation[i] + 1 - padding[i] - padding[i + 2] for i in range(2)]
    return Conv2d(
        batch=rng.choice([1, 1, 2]),
        height=max(1, least[0]) + rng.randrange(8),
        width=max(1, least[1]) + rng.randrange(20),
        channels=groups * rng.choice([1, 2, 3, 8, 17]),
        filters=groups * rng.choice([1, 3, 16, 20, 33, 70]),
        kernel=kernel,
        stride=(rng.choice([1, 2]), rng.choice([1, 2, 3])),
        padding=padding,
        dilation=dilation,
        groups=groups,
        dtype=rng.choice(["float32", "float32", "float32", "float64"]),
        input_layout=rng.choice(["NHWC", "NHWC", "NCHW"]),
    )


def random_depth(rng: random.Random) -> Depth:
    kernel, dilation, padding = (
        rng.choice([1, 2, 3]),
        rng.choice([1, 1, 2]),
        (rng.randrange(3), rng.randrange(3)),
    )
    least = max(1, (kernel - 1) * dilation + 1 - sum(padding))
    return Depth(least + rng.randrange(4), kernel, rng.choice([1, 1, 2]), padding, dilation)


def random_schedule(rng: random.Random, workload: Conv2d, target: CpuTarget) -> Schedule:
    schedule = default_schedule(workload, target, rng.choice([1, 2, 3]))
    border = rng.choice([schedule.border, "copy"])
    passes = rng.choice([1, workload.kernel[0]])
    steps = workload.kernel_rows // passes * workload.kernel[1] * workload.group_channels
    return dataclasses.replace(
        schedule,
        parallel=rng.random() < 0.5,
        row_blocks=rng.choice([1, 2]),
        column_blocks=rng.choice([1, 1, 2, 3]),
        rows_first=workload.pointwise and rng.random() < 0.5,
        border=border,
        passes=1 if schedule.across_groups or workload.depth else passes,
        prefetch=rng.choice([0, 64, steps]),
    )


@pytest.mark.parametrize("spec", TARGETS)
def test_random_convolutions(spec: str) -> None:
    target = get_target(spec)
    rng = random.Random(3)
    cases: list[Case] = []
    for _ in range(20):
        workload = random_workload(rng)
        cases.append((workload, random_schedule(rng, workload, target), rng.random() < 0.5))
    check(cases, target)


@pytest.mark.parametrize("spec", TARGETS)
def test_three_dimensions(spec: str) -> None:
    """Planes, borders peeled and padded, depthwise ones, a 1x1x1 product; input and output as parts of larger tensors."""
    target = get_target(spec)
    rng = random.Random(11)
    workloads = [Conv2d(2, 3, 4, 20, 24, (1, 1), depth=Depth(3, 1))]
    for i in range(14):
        w = dataclasses.replace(random_workload(rng), input_layout="NHWC", depth=random_depth(rng))
        if i % 3 == 0:
            w = dataclasses.replace(w, groups=21, channels=21, filters=21)
        if i % 4 == 1:
            w = dataclasses.replace(w, input_slice=(2, w.channels + 5))
        workloads.append(w)
    check([(w, random_schedule(rng, w, target), i % 2 == 0) for i, w in enumerate(workloads)], target)


@pytest.mark.parametrize("spec", TARGETS)
def test_parts_of_larger_tensors(spec: str) -> None:
    """Input, shortcut and output are channels of tensors with more: nothing else is read or written."""
    target = get_target(spec)
    rng = random.Random(7)
    workloads = [
        Conv2d(2, 5, 7, 24, 40, (1, 1)),
        Conv2d(1, 8, 9, 21, 21, (3, 3), (2, 1), (1, 1, 1, 1), groups=21),
        *(dataclasses.replace(random_workload(rng), input_layout="NHWC") for _ in range(6)),
    ]
    functions, cases = {}, []
    for i, dense in enumerate(workloads):
        w = dataclasses.replace(dense, input_slice=(rng.randrange(5), dense.channels + 5))
        schedule = random_schedule(rng, w, target)
        larger = (*w.output_shape[:3], w.filters + 7)
        steps = (math.prod(larger[1:]), math.prod(larger[2:]), larger[3], 1)
        place = View(larger, steps, rng.randrange(8))
        epilogue = PlacedExpression(block(w), (None, None, place, place))
        functions[f"conv_{i}"] = build(w, schedule, target, f"conv_{i}", epilogue)
        functions[f"pack_{i}"] = build_pack(w, schedule, target, f"pack_{i}")
        cases.append((w, schedule, place))
    compiled = compile_kernels(functions, target)
    for i, (w, schedule, place) in enumerate(cases):
        dtype = getattr(torch, w.dtype)
        source, weight = torch.randn(w.input_shape, dtype=dtype), torch.randn(w.weight_shape, dtype=dtype)
        packed = torch.empty(packed_shape(w, schedule), dtype=dtype)
        compiled[f"pack_{i}"](weight, packed)
        scale, bias = (torch.randn(o.shape, dtype=dtype) for o in block(w).inputs[1:3])
        shortcut = torch.randn(place.buffer_shape, dtype=dtype)
        result = torch.full(place.buffer_shape, 7, dtype=dtype)
        compiled[f"conv_{i}"](source, packed, scale, bias, shortcut, result)
        at = (..., slice(place.offset, place.offset + w.filters))
        expected = torch.relu(reference(w, source, weight) * scale + bias + shortcut[at])
        error = float((result[at] - expected).abs().max()) / max(1.0, float(expected.abs().max()))
        assert error <= (2e-5 if w.dtype == "float32" else 1e-13), (w, schedule, error)
        assert (result == 7).sum() >= 7 * w.output_pixels, (w, schedule)


@pytest.mark.parametrize("spec", TARGETS)
def test_pointwise(spec: str) -> None:
    """Pixels of all images are rows of one product; with stride they are not."""
    target = get_target(spec)
    workloads = [
        Conv2d(2, 5, 7, 24, 40, (1, 1)),
        Conv2d(1, 9, 9, 33, 17, (1, 1), stride=(2, 2)),
        Conv2d(3, 1, 1, 64, 130, (1, 1)),
        Conv2d(1, 4, 4, 8, 8, (1, 1), padding=(1, 1, 1, 1)),
        Conv2d(2, 3, 3, 16, 16, (1, 1), input_layout="NCHW"),
    ]
    check([(w, default_schedule(w, target, 2), fused) for w in workloads for fused in (False, True)], target)


@pytest.mark.parametrize("spec", TARGETS)
def test_depthwise(spec: str) -> None:
    target = get_target(spec)
    rng = random.Random(5)
    cases: list[Case] = []
    for channels, blocks in ((2, 1), (16, 1), (21, 2), (40, 3), (100, 4)):
        base = random_workload(rng)
        workload = dataclasses.replace(
            base, channels=channels, filters=channels, groups=channels, input_layout="NHWC"
        )
        for border in ("peel", "copy"):
            schedule = dataclasses.replace(
                default_schedule(workload, target, 2), border=border, channel_blocks=blocks
            )
            cases.append((workload, schedule, border == "peel"))
    check(cases, target)


@pytest.mark.parametrize("spec", TARGETS)
def test_narrow_groups(spec: str) -> None:
    """Vectors of filters of several groups: all ratios of channels to filters, a ragged last vector, both borders."""
    target = get_target(spec)
    rng = random.Random(9)
    cases: list[Case] = []
    for groups, channels, filters in (
        *(
            (5, 1, 2),
            (13, 4, 4),
            (9, 2, 1),
            (3, 8, 4),
            (16, 1, 4),
            (7, 2, 2),
            (6, 8, 8),
            (4, 1, 8),
            (2, 3, 2),
        ),
        *((9, 2, 4), (3, 1, 4)),
    ):
        w = dataclasses.replace(
            random_workload(rng),
            groups=groups,
            channels=groups * channels,
            filters=groups * filters,
            input_layout="NHWC",
        )
        w = dataclasses.replace(w, input_slice=(3, w.channels + 4) if rng.random() < 0.4 else None)
        schedule = random_schedule(rng, w, target)
        assert schedule.across_groups == (filters < target.lanes(w.dtype)), w
        cases.append((w, schedule, rng.random() < 0.5))
    check(cases, target)


def test_layers_of_networks() -> None:
    """Real shapes with the default schedule on two threads: stem, 3x3 of each size, stride 2, ASPP, grouped, 1-D."""
    target = get_target("llvm")
    same = (1, 1, 1, 1)
    workloads = [
        Conv2d(1, 64, 64, 3, 64, (7, 7), (2, 2), (3, 3, 3, 3)),
        Conv2d(1, 64, 64, 3, 64, (7, 7), (2, 2), (3, 3, 3, 3), input_layout="NCHW"),
        Conv2d(1, 28, 28, 32, 64, (3, 3), (1, 1), same),
        Conv2d(1, 14, 14, 64, 128, (3, 3), (2, 2), same),
        Conv2d(2, 7, 7, 128, 64, (3, 3), (1, 1), same),
        Conv2d(1, 20, 20, 16, 32, (3, 3), (1, 1), (12, 12, 12, 12), (12, 12)),
        Conv2d(1, 14, 14, 64, 64, (3, 3), (1, 1), same, groups=16),
        Conv2d(1, 32, 32, 3, 48, (16, 16), (16, 16)),
        Conv2d(1, 1, 50, 20, 30, (1, 9), (1, 2), (0, 4, 0, 4)),
        Conv2d(1, 1, 4000, 16, 16, (1, 9), (1, 1), (0, 12, 0, 12), (1, 3)),
        Conv2d(1, 12, 12, 8, 16, (3, 3), (1, 1), (0, 0, 1, 1)),
        Conv2d(1, 14, 14, 16, 32, (3, 3), (1, 1), same, depth=Depth(4, 3, 1, (1, 1))),
        Conv2d(1, 28, 28, 3, 32, (7, 7), (2, 2), (3, 3, 3, 3), depth=Depth(5, 3, 1, (1, 1))),
    ]
    check([(w, default_schedule(w, target, 2), True) for w in workloads], target)


@pytest.mark.parametrize("spec", TARGETS)
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_default_schedule_fits_the_registers(spec: str, threads: int) -> None:
    target = get_target(spec)
    for size in (1, 2, 7, 14, 56, 112):
        for channels in (3, 64, 512):
            for filters in (1, 24, 64, 1000):
                workload = Conv2d(1, size, size, channels, filters, (3, 3), padding=(1, 1, 1, 1))
                schedule = default_schedule(workload, target, threads)
                used = schedule.rows * schedule.vectors * schedule.chains + schedule.vectors + 1
                assert used <= target.vector_registers, schedule
                assert schedule.rows <= size
                assert schedule.row_blocks <= size


def test_many_border_cases_are_padded_rather_than_peeled() -> None:
    """Peeling specialises a loop for every kernel column that leaves the image at another pixel."""
    target = get_target("llvm")
    plain = Conv2d(1, 28, 28, 16, 16, (3, 3), (1, 1), (1, 1, 1, 1))
    assert default_schedule(plain, target).border == "peel"
    wide = Conv2d(1, 28, 64, 16, 16, (1, 13), (1, 1), (0, 12, 0, 12), (1, 2))
    assert default_schedule(wide, target).border == "copy"


def test_threads_share_the_columns_of_a_single_row() -> None:
    """One panel of filters in one row would else be one task."""
    target = get_target("llvm")
    line = Conv2d(1, 1, 8000, 32, 32, (1, 11), (1, 1), (0, 25, 0, 25), (1, 5))
    assert default_schedule(line, target, 2).column_blocks == 2
    assert default_schedule(line, target, 1).column_blocks == 1
    image = Conv2d(1, 40, 200, 32, 32, (3, 3))
    assert default_schedule(image, target, 2).column_blocks == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": Depth(2, 4)}, "kernel is larger than the padded input"),
        ({"depth": Depth(2, 1), "input_layout": "NCHW"}, "only an NHWC input"),
        ({"channels": 0}, "sizes of at least 1"),
        ({"stride": (0, 1)}, "sizes of at least 1"),
        ({"groups": 3}, "3 groups do not divide"),
        ({"height": 2}, "kernel is larger than the padded input"),
        ({"input_layout": "HWCN"}, "expected input_layout"),
    ],
)
def test_impossible_workloads(changes: dict[str, object], message: str) -> None:
    valid = Conv2d(1, 8, 8, 4, 4, (3, 3))
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(valid, **changes)  # type: ignore[arg-type]
