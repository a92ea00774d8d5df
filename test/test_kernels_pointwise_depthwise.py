"""Pointwise and depthwise convolution in one kernel against float64: borders, strides, tails, tasks, both vector widths."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
import torch
import torch.nn.functional as F
from kernel_runs import TARGETS, get_target

from torch_tvm.kernels.conv2d import Conv2d
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression, Instruction, Operand, Scalar
from torch_tvm.kernels.module import compile_kernels
from torch_tvm.kernels.pointwise_depthwise import (
    PointwiseDepthwise,
    Schedule,
    build,
    build_packs,
    computed_rows,
    default_schedule,
    packed_shapes,
    pays,
)
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.views import View

Case = tuple[PointwiseDepthwise, Schedule]


def activated(shape: tuple[int, ...], dtype: str, op: str) -> Expression:
    """Bias and activation; act(bias) is not zero, so that padding the wrong tensor shows."""
    bias = Instruction("add", (0, 1), dtype)
    bounds = (Scalar(-1.0, dtype), Scalar(1.5, dtype)) if op == "clip" else ()
    operands = (Operand(shape, dtype), Operand((shape[-1],), dtype))
    return Expression(operands, (bias, Instruction(op, (2, *bounds), dtype)), (3,), shape)


def residual(shape: tuple[int, ...], dtype: str) -> Expression:
    """Bias and shortcut."""
    operands = (Operand(shape, dtype), Operand((1, 1, 1, shape[-1]), dtype), Operand(shape, dtype))
    add = (Instruction("add", (0, 1), dtype), Instruction("add", (3, 2), dtype))
    return Expression(operands, add, (4,), shape)


def apply(value: torch.Tensor, expression: Expression | None, extras: list[torch.Tensor]) -> torch.Tensor:
    """Compute one of the expressions above on NHWC tensors."""
    if expression is None:
        return value
    for extra in extras:
        value = value + extra.double()
    op = expression.instructions[-1].op
    return value.clamp(-1.0, 1.5) if op == "clip" else F.silu(value) if op == "silu" else value


def reference(
    w: PointwiseDepthwise, source: torch.Tensor, weights: list[torch.Tensor], extras: list[list[torch.Tensor]]
) -> torch.Tensor:
    """PyTorch's convolutions in float64, NHWC."""
    first, second = w.pointwise, w.depthwise
    part = source[..., first.first_channel : first.first_channel + first.channels].double()
    expanded = F.conv2d(part.permute(0, 3, 1, 2), weights[0].double()).permute(0, 2, 3, 1)
    expanded = apply(expanded, w.between, extras[0])
    top, left, bottom, right = second.padding
    padded = F.pad(expanded.permute(0, 3, 1, 2), (left, right, top, bottom))
    result = F.conv2d(
        padded, weights[1].double(), None, second.stride, 0, second.dilation, second.channels
    ).permute(0, 2, 3, 1)
    return apply(result, w.epilogue, extras[1])


def check(cases: list[Case], target: CpuTarget) -> None:
    functions = {}
    for i, (w, schedule) in enumerate(cases):
        packs = build_packs(w, schedule, target)
        functions[f"both_{i}"] = build(w, schedule, target, f"both_{i}")
        functions |= {f"pack{k}_{i}": pack(name=f"pack{k}_{i}") for k, pack in enumerate(packs)}
    compiled = compile_kernels(functions, target)
    for i, (w, schedule) in enumerate(cases):
        dtype = getattr(torch, w.pointwise.dtype)
        source = torch.randn(w.pointwise.input_shape, dtype=dtype)
        weights = [torch.randn(conv.weight_shape, dtype=dtype) for conv in (w.pointwise, w.depthwise)]
        packed = [torch.full(shape, torch.nan, dtype=dtype) for shape in packed_shapes(w, schedule)]
        compiled[f"pack0_{i}"](weights[0].flatten(1), packed[0])
        compiled[f"pack1_{i}"](weights[1], packed[1])
        extras = [
            [torch.randn(o.shape, dtype=dtype) for o in e.inputs[1:]] if isinstance(e, Expression) else []
            for e in (w.between, w.epilogue)
        ]
        expected = reference(w, source, weights, extras)
        # The result lies between guards, at an address that is aligned to nothing but its elements.
        size = math.prod(w.depthwise.output_shape)
        memory = torch.full((size + 33,), 7, dtype=dtype)
        result = memory[1 : size + 1].view(w.depthwise.output_shape)
        compiled[f"both_{i}"](source, *packed, *extras[0], *extras[1], result)
        error = float((result - expected).abs().max()) / max(1.0, float(expected.abs().max()))
        assert error <= (2e-5 if dtype == torch.float32 else 1e-13), (w, schedule, error)
        assert memory[0] == 7 and (memory[size + 1 :] == 7).all(), (w, schedule)


def workload(rng: random.Random) -> PointwiseDepthwise:
    """One of any shape; channels are rarely a multiple of the lanes, borders rarely the same on both sides."""
    kernel = (rng.choice([1, 2, 3, 5]), rng.choice([1, 3, 3, 4, 5]))
    dilation = (rng.choice([1, 1, 2]), rng.choice([1, 1, 3]))
    padding = (rng.randrange(3), rng.randrange(4), rng.randrange(3), rng.randrange(4))
    least = [(kernel[i] - 1) * dilation[i] + 1 - padding[i] - padding[i + 2] for i in range(2)]
    height, width = max(1, least[0]) + rng.randrange(9), max(1, least[1]) + rng.randrange(20)
    dtype = rng.choice(["float32", "float32", "float32", "float64"])
    batch, channels, expanded = (
        rng.choice([1, 1, 2, 3]),
        rng.choice([1, 3, 8, 17]),
        rng.choice([2, 16, 20, 70]),
    )
    part = rng.choice([None, None, (2, channels + 5)])
    first = Conv2d(batch, height, width, channels, expanded, (1, 1), dtype=dtype, input_slice=part)
    second = Conv2d(
        *first.output_shape,
        expanded,
        kernel,
        (rng.choice([1, 2, 3]), rng.choice([1, 2])),
        padding,
        dilation,
        groups=expanded,
        dtype=dtype,
    )
    between = rng.choice(
        [None, activated(first.output_shape, dtype, "clip"), activated(first.output_shape, dtype, "silu")]
    )
    behind = rng.choice(
        [None, activated(second.output_shape, dtype, "clip"), residual(second.output_shape, dtype)]
    )
    return PointwiseDepthwise(first, second, between, behind)


@pytest.mark.parametrize("spec", TARGETS)
def test_random_pairs(spec: str) -> None:
    target = get_target(spec)
    rng = random.Random(11)
    cases: list[Case] = []
    for _ in range(24):
        w = workload(rng)
        schedule = default_schedule(w, target, rng.choice([1, 2, 3]))
        product = dataclasses.replace(
            schedule.product,
            parallel=rng.random() < 0.5,
            rows=rng.randrange(1, min(4, schedule.product.rows) + 1),
            vectors=min(rng.choice([1, 2, 3]), -(-w.pointwise.filters // schedule.product.lanes)),
            chains=rng.choice([1, 2]),
        )
        strips = rng.randrange(1, min(4, w.depthwise.out_height) + 1)
        cases.append((w, dataclasses.replace(schedule, product=product, strips=strips)))
    check(cases, target)


@pytest.mark.parametrize("spec", TARGETS)
def test_layers_of_networks(spec: str) -> None:
    """Default schedules for several threads, on layers with all their tasks."""
    target = get_target(spec)
    cases: list[Case] = []
    for size, channels, expanded, kernel, stride in (
        (30, 16, 96, 3, 2),
        (28, 24, 144, 5, 2),
        (19, 10, 60, 3, 1),
    ):
        first = Conv2d(1, size, size, channels, expanded, (1, 1))
        pad = (kernel // 2,) * 4
        second = Conv2d(
            *first.output_shape, expanded, (kernel, kernel), (stride, stride), pad, groups=expanded
        )
        between = activated(first.output_shape, "float32", "silu")
        w = PointwiseDepthwise(first, second, between, activated(second.output_shape, "float32", "clip"))
        cases += [(w, default_schedule(w, target, threads)) for threads in (1, 2, 5, 64)]
    check(cases, target)


def pair(size: int, channels: int, expanded: int, *, op: str = "clip", kernel: int = 3) -> PointwiseDepthwise:
    first = Conv2d(1, size, size, channels, expanded, (1, 1))
    pad = (kernel // 2,) * 4
    second = Conv2d(*first.output_shape, expanded, (kernel, kernel), padding=pad, groups=expanded)
    return PointwiseDepthwise(first, second, activated(first.output_shape, "float32", op))


def test_operands_and_result_are_parts_of_larger_tensors() -> None:
    target = get_target(TARGETS[0])
    w = pair(9, 5, 20)
    between = w.between
    assert isinstance(between, Expression)
    shape = w.depthwise.output_shape
    first = PlacedExpression(between, (View((50,), (1,), 30), None))
    identity = Expression((Operand(shape, "float32"),), (), (0,), shape)
    strides = (81 * 48, 9 * 48, 48, 1)
    placed = PlacedExpression(identity, (View((1, 9, 9, 48), strides, 7),))
    w = dataclasses.replace(w, between=first, epilogue=placed)
    schedule = default_schedule(w, target, 2)
    packs = build_packs(w, schedule, target)
    functions = {"both": build(w, schedule, target, "both"), "a": packs[0](name="a"), "b": packs[1](name="b")}
    compiled = compile_kernels(functions, target)
    source, bias, whole = torch.randn(1, 9, 9, 5), torch.randn(50), torch.full((1, 9, 9, 48), 7.0)
    weights = [torch.randn(20, 5, 1, 1), torch.randn(20, 1, 3, 3)]
    packed = [torch.empty(shape) for shape in packed_shapes(w, schedule)]
    compiled["a"](weights[0].flatten(1), packed[0])
    compiled["b"](weights[1], packed[1])
    compiled["both"](source, *packed, bias, whole)
    bare = dataclasses.replace(w, between=between, epilogue=None)
    expected = reference(bare, source, weights, [[bias[30:]], []])
    torch.testing.assert_close(whole[..., 7:27].double(), expected, rtol=1e-4, atol=1e-4)
    assert (whole[..., :7] == 7).all() and (whole[..., 27:] == 7).all()


@pytest.mark.parametrize("spec", TARGETS)
@pytest.mark.parametrize("threads", [2, 4, 16, 64])
def test_default_schedule_has_tasks_for_all_threads(spec: str, threads: int) -> None:
    target = get_target(spec)
    for w in (pair(112, 16, 96), pair(56, 24, 144), pair(14, 64, 384)):
        schedule = default_schedule(w, target, threads)
        product = schedule.product
        assert product.rows * product.vectors + product.vectors + 1 <= target.vector_registers
        tasks = schedule.strips * -(-w.pointwise.filters // product.width)
        assert -(-tasks // threads) * threads <= 1.34 * tasks, (w, schedule)


def test_pays_where_the_expanded_tensor_is_large_and_little_is_computed_twice() -> None:
    target = get_target(TARGETS[0])
    assert pays(pair(112, 16, 96), target, 2) and pays(pair(112, 16, 96, op="silu"), target, 2)
    assert pays(pair(56, 24, 144), target, 2) and pays(pair(28, 32, 192), target, 2)
    # Two strips of 7 rows compute 16 instead of 14; and the more channels are summed, the less a line saved matters.
    assert not pays(pair(14, 64, 384), target, 2) and not pays(pair(7, 160, 960), target, 2)
    assert not pays(pair(28, 40, 240, op="silu", kernel=5), target, 2)
    assert not pays(pair(14, 160, 960), target, 1)


def test_rows_at_the_border_of_strips_are_computed_twice() -> None:
    w = pair(14, 8, 16, kernel=5)
    assert [computed_rows(w, strips) for strips in (1, 2, 7)] == [14, 18, 4 * 2 + 5 * 6]


def test_impossible_pairs() -> None:
    w = pair(8, 4, 16)
    with pytest.raises(ValueError, match="pointwise and a depthwise"):
        PointwiseDepthwise(w.depthwise, w.pointwise)
    with pytest.raises(ValueError, match="is not the input"):
        PointwiseDepthwise(dataclasses.replace(w.pointwise, height=9), w.depthwise)
