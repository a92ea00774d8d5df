"""Pooling and convolutions of images of any number and size with one function; each target has half of the convolutions."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from kernel_runs import TARGETS, get_target, random_tensor
from symbolic_runs import Case, Shape, Values, at, check, grid

from torch_tvm.kernels import conv2d, conv_algorithm, extent, pooling, winograd
from torch_tvm.kernels.conv_shape import Conv2d
from torch_tvm.kernels.expression import Expression, Instruction, Operand
from torch_tvm.kernels.extent import Dim
from torch_tvm.kernels.module import compile_kernels
from torch_tvm.kernels.nest import Schedule
from torch_tvm.kernels.pooling import Pool2d
from torch_tvm.kernels.target import CpuTarget

B, H, W = (Dim(name, least, 40, hint=12).extent for name, least in (("b", 2), ("h", 5), ("w", 6)))
VALUES = [*grid(b=[2], h=[5, 6, 31], w=[6, 16, 33]), {"b": 3, "h": 14, "w": 40}]
F = torch.nn.functional

POOLS: dict[str, tuple[Pool2d, Any]] = {
    "stem": (
        Pool2d((B, H, W, 24), "max", (3, 3), (2, 2), (1, 1, 1, 1)),
        lambda x: F.max_pool2d(x, 3, 2, 1),
    ),
    "halved": (
        Pool2d((1, H, 2 * W, 20), "avg", (2, 2), (2, 2)),
        lambda x: F.avg_pool2d(x, 2),
    ),
    "padded": (
        Pool2d((2, H, W, 7), "avg", (3, 3), (1, 1), (1, 1, 1, 1), count_include_pad=False),
        lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    ),
    "whole": (
        Pool2d((B, H, W, 33), "avg", output_size=(1, 1)),
        lambda x: F.adaptive_avg_pool2d(x, 1),
    ),
    "adaptive": (
        Pool2d((2, H, W, 16), "max", output_size=(3, 4)),
        lambda x: F.adaptive_max_pool2d(x, (3, 4)),
    ),
    "batch": (
        Pool2d((B, 9, 11, 16), "max", (3, 3), (2, 2), (1, 1, 1, 1)),
        lambda x: F.max_pool2d(x, 3, 2, 1),
    ),
}


def planar(reference: Any, x: torch.Tensor) -> torch.Tensor:
    """An operator on NCHW, of an NHWC image."""
    return reference(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@pytest.mark.parametrize("target", TARGETS)
def test_pooling(target: str) -> None:
    cpu = get_target(target)
    cases = {}
    for number, (name, (workload, reference)) in enumerate(POOLS.items()):

        def tensors(
            values: Values, shape: Shape = workload.shape, reference: Any = reference
        ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            x = random_tensor(at(shape, values), "float32")
            return [x], [planar(reference, x)]

        schedule = Schedule(cpu.lanes("float32"), [1, 8][number % 2])
        cases[name] = Case(pooling.build(workload, schedule, cpu, name), tensors)
    check(cases, VALUES, cpu)


def conv(h: Any, w: Any, channels: int, filters: int, kernel: int, b: Any = 1, **options: Any) -> Conv2d:
    stride, padding = options.pop("stride", 1), options.pop("padding", kernel // 2)
    return Conv2d(b, h, w, channels, filters, (kernel, kernel), (stride, stride), (padding,) * 4, **options)


CONVOLUTIONS: dict[str, Conv2d] = {
    "stem": conv(H, W, 3, 20, 7, stride=2, input_layout="NCHW"),
    "square": conv(H, W, 8, 33, 3, b=B),
    "strided": conv(H, W, 8, 16, 3, stride=2),
    "unpadded": conv(H, W, 8, 16, 3, padding=0, b=2),
    "pointwise": conv(H, W, 24, 40, 1, b=B),
    "downsampling": conv(H, W, 16, 24, 1, stride=2, b=2),
    "rows": conv(H, 13, 8, 24, 3),
    "batch": conv(9, 13, 8, 24, 3, b=B),
    "depthwise": conv(H, W, 20, 20, 3, groups=20, b=2),
    "depthwise_strided": conv(H, W, 16, 16, 5, groups=16, stride=2),
    "groups": conv(H, W, 16, 16, 3, groups=4),
    "dilated": conv(H, W, 8, 16, 2, dilation=(2, 2), padding=1),
}


def at_hint(workload: Conv2d) -> Conv2d:
    sizes = {"batch": workload.batch, "height": workload.height, "width": workload.width}
    return dataclasses.replace(workload, **{name: extent.hint(size) for name, size in sizes.items()})


def convolution_case(name: str, workload: Conv2d, schedule: Any, cpu: CpuTarget) -> Case:
    weight = random_tensor(workload.weight_shape, "float32")
    packed = torch.empty(conv_algorithm.packed_shape(workload, schedule))
    pack = conv_algorithm.build_pack(workload, schedule, cpu, "pack")
    compile_kernels({"pack": pack}, cpu)["pack"](weight, packed)
    shape = workload.output_shape
    steps = (Instruction("add", (0, 1), "float32"), Instruction("relu", (2,), "float32"))
    operands = (Operand(shape, "float32"), Operand(shape[-1:], "float32"))

    def tensors(values: Values) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        x, bias = (
            random_tensor(at(workload.input_shape, values), "float32"),
            random_tensor(shape[-1:], "float32"),
        )
        image = x if workload.input_layout == "NCHW" else x.permute(0, 3, 1, 2)
        result = F.conv2d(
            image,
            weight,
            bias,
            workload.stride,
            workload.padding[:2],
            workload.dilation,
            workload.groups,
        )
        return [x, packed, bias], [torch.relu(result).permute(0, 2, 3, 1)]

    built = conv_algorithm.build(workload, schedule, cpu, name, Expression(operands, steps, (3,), shape))
    return Case(built, tensors, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("target", TARGETS)
def test_convolutions(target: str) -> None:
    cpu = get_target(target)
    cases = {}
    for threads, (name, workload) in list(enumerate(CONVOLUTIONS.items()))[TARGETS.index(target) :: 2]:
        schedule = conv2d.default_schedule(at_hint(workload), cpu, threads % 3 + 1)
        cases[name] = convolution_case(name, workload, schedule, cpu)
    check(cases, VALUES, cpu)


WINOGRAD: dict[str, tuple[Conv2d, int]] = {
    "small_tiles": (conv(H, W, 8, 20, 3, b=B), 2),
    "large_tiles": (conv(H, W, 16, 16, 3), 4),
    "unpadded": (conv(H, W, 8, 33, 3, padding=0), 4),
    "batch": (conv(9, 10, 8, 16, 3, b=B), 4),
}


@pytest.mark.parametrize("target", TARGETS)
def test_winograd(target: str) -> None:
    cpu = get_target(target)
    cases = {}
    for threads, (name, (workload, tile)) in list(enumerate(WINOGRAD.items(), start=1))[
        TARGETS.index(target) :: 2
    ]:
        known = at_hint(workload)
        rows = -(-winograd.Tiling(known, tile).rows // [1, 3][threads % 2])
        schedule = winograd.default_schedule(known, tile, rows, cpu, threads, blocks=threads > 2)
        cases[name] = convolution_case(name, workload, schedule, cpu)
    check(cases, VALUES, cpu)
