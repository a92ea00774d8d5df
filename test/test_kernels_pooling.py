"""Pooling against torch: windows that overlap borders, ceil_mode, dilation, adaptive sizes, NaN, dtypes, both vector widths."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch
from kernel_runs import FLOATS, TARGETS, assert_close, get_target, random_tensor, run, unaligned

from torch_tvm.kernels import pooling
from torch_tvm.kernels.expression import Expression, Instruction, Operand
from torch_tvm.kernels.pooling import Pool2d
from torch_tvm.kernels.views import View

F = torch.nn.functional


def random_case() -> tuple[Pool2d, torch.Tensor, torch.Tensor] | None:
    """A workload, its NHWC input and torch's NHWC result; None if torch refuses the window."""
    batch, height, width, channels = (
        random.choice(sizes) for sizes in ([1, 2], [3, 5, 7, 12], [4, 6, 13, 20], [1, 3, 16, 20, 33])
    )
    operator, dtype = random.choice(["max", "avg"]), random.choice(["float32", *FLOATS])
    x = random_tensor((batch, channels, height, width), dtype, special=random.random() < 0.4)
    shape = (batch, height, width, channels)
    if random.random() < 0.25:
        size = (random.randint(1, 5), random.randint(1, 6))
        result = F.adaptive_avg_pool2d(x, size) if operator == "avg" else F.adaptive_max_pool2d(x, size)
        workload = Pool2d(shape, operator, output_size=size, dtype=dtype)
    else:
        kernel, stride = (
            (random.randint(1, 4), random.randint(1, 6)),
            (random.randint(1, 3), random.randint(1, 3)),
        )
        padding = (random.randint(0, kernel[0] // 2), random.randint(0, kernel[1] // 2))
        dilation = (random.randint(1, 2), random.randint(1, 2)) if operator == "max" else (1, 1)
        ceil_mode, include, divisor = (
            random.random() < 0.5,
            random.random() < 0.5,
            random.choice([None, None, 3]),
        )
        try:
            if operator == "max":
                result = F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode)
            else:
                result = F.avg_pool2d(x, kernel, stride, padding, ceil_mode, include, divisor)
        except RuntimeError:
            return None
        workload = Pool2d(
            shape,
            operator,
            kernel,
            stride,
            (*padding, *padding),
            dilation,
            ceil_mode,
            include,
            divisor,
            dtype=dtype,
        )
    return workload, x.permute(0, 2, 3, 1).contiguous(), result.permute(0, 2, 3, 1).contiguous()


@pytest.mark.parametrize("target", TARGETS)
def test_random_windows(target: str) -> None:
    random.seed(5)
    cpu = get_target(target)
    cases = [case for case in (random_case() for _ in range(60)) if case is not None]
    functions, arguments = {}, {}
    for number, (workload, x, expected) in enumerate(cases):
        assert workload.result.shape == tuple(expected.shape)
        schedule = dataclasses.replace(
            pooling.default_schedule(workload, cpu, 2), tasks=random.choice([1, 8])
        )
        functions[f"k{number}"] = pooling.build(workload, schedule, cpu, f"k{number}")
        arguments[f"k{number}"] = [unaligned(x), unaligned(torch.zeros_like(expected))]
    run(functions, arguments, cpu)
    for number, (workload, _, expected) in enumerate(cases):
        got = arguments[f"k{number}"][1]
        assert_close(workload, got, expected)


def test_epilogue() -> None:
    x, bias = torch.randn(2, 8, 8, 20), torch.randn(20)
    shape = (2, 4, 4, 20)
    steps = (Instruction("add", (0, 1), "float32"), Instruction("relu", (2,), "float32"))
    epilogue = Expression((Operand(shape, "float32"), Operand((20,), "float32")), steps, (3,), shape)
    workload = Pool2d((2, 8, 8, 20), "avg", (2, 2), (2, 2), epilogue=epilogue)
    cpu = get_target(TARGETS[0])
    result = torch.zeros(shape)
    function = pooling.build(workload, pooling.default_schedule(workload, cpu, 1), cpu, "k")
    run({"k": function}, {"k": [x, bias, result]}, cpu)
    expected = (F.avg_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1) + bias).relu()
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("operator", "kernel", "padding"), [("avg", 2, 0), ("max", 3, 1), ("avg", 7, 2)])
def test_source_of_a_slice_into_a_slice(target: str, operator: str, kernel: int, padding: int) -> None:
    """Some channels of a larger tensor are scaled on the fly and pooled into some channels of another."""
    shape, larger = (2, 9, 10, 21), (2, 9, 10, 30)
    x, scale = torch.randn(larger), torch.randn(21)
    source = Expression(
        (Operand(shape, "float32"), Operand((21,), "float32")),
        (Instruction("multiply", (0, 1), "float32"), Instruction("relu", (2,), "float32")),
        (3,),
        shape,
    )
    pads = (padding,) * 4
    workload = Pool2d(shape, operator, (kernel, kernel), (2, 2), pads, source=source)
    out = (*workload.result.shape[:3], 25)
    workload = dataclasses.replace(
        workload,
        views=(View(larger, (2700, 300, 30, 1), 4), None),
        output_views=(View(out, (out[1] * out[2] * 25, out[2] * 25, 25, 1), 3),),
    )
    cpu, result = get_target(target), torch.full(out, 7.0)
    function = pooling.build(workload, pooling.default_schedule(workload, cpu, 2), cpu, "k")
    run({"k": function}, {"k": [x, scale, result]}, cpu)
    made = (x[..., 4:25] * scale).relu().permute(0, 3, 1, 2)
    pool = F.avg_pool2d if operator == "avg" else F.max_pool2d
    torch.testing.assert_close(result[..., 3:24], pool(made, kernel, 2, padding).permute(0, 2, 3, 1))
    assert (result[..., :3] == 7).all() and (result[..., 24:] == 7).all()


def test_integers_have_a_maximum() -> None:
    x = torch.randint(-100, 100, (1, 6, 6, 5), dtype=torch.int8)
    workload = Pool2d((1, 6, 6, 5), "max", (3, 3), (1, 1), (1, 1, 1, 1), dtype="int8")
    cpu, result = get_target(TARGETS[0]), torch.zeros(1, 6, 6, 5, dtype=torch.int8)
    run(
        {"k": pooling.build(workload, pooling.default_schedule(workload, cpu, 1), cpu, "k")},
        {"k": [x, result]},
        cpu,
    )
    expected = F.max_pool2d(x.permute(0, 3, 1, 2).float(), 3, 1, 1).permute(0, 2, 3, 1)
    assert torch.equal(result.float(), expected)


def test_malformed_workloads_are_refused() -> None:
    with pytest.raises(ValueError, match="pooling is 'max' or 'avg', got 'min'"):
        Pool2d((1, 4, 4, 4), "min")
    with pytest.raises(ValueError, match="avg pooling takes floats, got int32"):
        Pool2d((1, 4, 4, 4), "avg", dtype="int32")
    with pytest.raises(ValueError, match=r"average pooling takes dilation \(1, 1\)"):
        Pool2d((1, 4, 4, 4), "avg", (2, 2), dilation=(2, 2))
    with pytest.raises(ValueError, match="are positive"):
        Pool2d((1, 4, 4, 4), "max", (0, 2))
    with pytest.raises(ValueError, match="gives an image of size"):
        Pool2d((1, 4, 4, 4), "max", (7, 7))
    with pytest.raises(ValueError, match="the source gives"):
        Pool2d((1, 4, 4, 4), "max", (2, 2), source=Expression((Operand((4,), "float32"),), (), (0,), (4,)))
