"""Winograd convolutions against float64: exact matrices, borders, ragged sizes, epilogues, what threads share."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
import torch
from kernel_runs import TARGETS, get_target

from torch_tvm.kernels import conv2d, conv_algorithm, winograd
from torch_tvm.kernels.conv2d import Conv2d
from torch_tvm.kernels.expression import Expression, Instruction, Operand
from torch_tvm.kernels.module import compile_kernels
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.toom_cook import Matrix, derive
from torch_tvm.kernels.winograd import Schedule, Tiling, build, build_pack, default_schedule, packed_shape

SAME = (1, 1, 1, 1)
# Largest error over the largest output on normal inputs: measured at most 5e-7 and 5e-6, for up to 512 channels.
BOUNDS = {2: 1e-6, 4: 1e-5}
Case = tuple[Conv2d, Schedule, Expression | None]


def apply(matrix: Matrix, column: list[Fraction]) -> list[Fraction]:
    return [sum((a * b for a, b in zip(row, column, strict=True)), start=Fraction(0)) for row in matrix]


@pytest.mark.parametrize(("m", "r"), [(1, 3), (2, 3), (4, 3), (3, 2), (6, 3), (2, 5)])
def test_matrices_are_exact(m: int, r: int) -> None:
    """Every output is the sum of products of taps and inputs, as polynomials in all of them."""
    points = [0, 1, -1, Fraction(1, 2), -2, 2, Fraction(-1, 2)][: m + r - 2]
    matrices = derive(m, r, points)
    n = m + r - 1
    for tap in range(r):
        for pixel in range(n):
            taps = [Fraction(i == tap) for i in range(r)]
            pixels = [Fraction(i == pixel) for i in range(n)]
            products = [
                a * b
                for a, b in zip(apply(matrices.weight, taps), apply(matrices.input, pixels), strict=True)
            ]
            assert apply(matrices.output, products) == [Fraction(i + tap == pixel) for i in range(m)]


def test_points_must_be_distinct_and_as_many_as_needed() -> None:
    with pytest.raises(ValueError, match=r"F\(2, 3\) takes 3 distinct points, got 0, 1, 1"):
        derive(2, 3, (0, 1, 1))
    with pytest.raises(ValueError, match="takes 5 distinct points"):
        derive(4, 3, (0, 1, -1))


def block(workload: Conv2d, *operators: str) -> Expression:
    """Bias, shortcut, then unary operators."""
    shape, dtype = workload.output_shape, workload.dtype
    instructions = [Instruction("add", (0, 1), dtype), Instruction("add", (3, 2), dtype)]
    instructions += [Instruction(op, (4 + i,), dtype) for i, op in enumerate(operators)]
    inputs = (Operand(shape, dtype), Operand((workload.filters,), dtype), Operand(shape, dtype))
    return Expression(inputs, tuple(instructions), (2 + len(instructions),), shape)


def reference(w: Conv2d, source: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """PyTorch's convolution in float64, NHWC."""
    top, left, bottom, right = w.padding
    channels = source.double()[..., w.first_channel : w.first_channel + w.channels]
    padded = torch.nn.functional.pad(channels.permute(0, 3, 1, 2), (left, right, top, bottom))
    return torch.nn.functional.conv2d(padded, weight.double()).permute(0, 2, 3, 1)


def check(cases: list[Case], target: CpuTarget) -> None:
    functions = {}
    for i, (workload, schedule, epilogue) in enumerate(cases):
        functions[f"conv_{i}"] = build(workload, schedule, target, f"conv_{i}", epilogue)
        functions[f"pack_{i}"] = build_pack(workload, schedule, target, f"pack_{i}")
    compiled = compile_kernels(functions, target)
    for i, (workload, schedule, epilogue) in enumerate(cases):
        source = torch.randn(workload.input_shape)
        weight = torch.randn(workload.weight_shape) / (9 * workload.channels) ** 0.5
        packed = torch.full(packed_shape(workload, schedule), torch.nan)
        compiled[f"pack_{i}"](weight, packed)
        assert not packed.isnan().any(), workload
        expected = reference(workload, source, weight)
        extras: list[torch.Tensor] = []
        if epilogue is not None:
            extras = [torch.randn(operand.shape) for operand in epilogue.inputs[1:]]
            expected = expected + extras[0].double() + extras[1].double()
            for instruction in epilogue.instructions[2:]:
                expected = getattr(torch.nn.functional, instruction.op)(expected)
        # The result lies between guards, at an address that is aligned to nothing but its elements.
        size = math.prod(workload.output_shape)
        memory = torch.full((size + 33,), 7.0)
        memory[1 : size + 1] = torch.nan
        result = memory[1 : size + 1].view(workload.output_shape)
        compiled[f"conv_{i}"](source, packed, *extras, result)
        error = float((result - expected).abs().max()) / max(1.0, float(expected.abs().max()))
        assert error <= BOUNDS[schedule.tile], (workload, schedule, error)
        assert memory[0] == 7 and (memory[size + 1 :] == 7).all(), (workload, schedule)


def random_workload(rng: random.Random) -> Conv2d:
    padding = (rng.randrange(3), rng.randrange(4), rng.randrange(3), rng.randrange(4))
    channels = rng.choice([1, 2, 8, 16, 17, 40])
    return Conv2d(
        batch=rng.choice([1, 1, 3]),
        height=max(1, 3 - padding[0] - padding[2]) + rng.randrange(12),
        width=max(1, 3 - padding[1] - padding[3]) + rng.randrange(20),
        channels=channels,
        filters=rng.choice([1, 3, 16, 20, 33, 70]),
        kernel=(3, 3),
        padding=padding,
        input_slice=rng.choice([None, (rng.randrange(4), channels + 4)]),
    )


def random_schedule(rng: random.Random, workload: Conv2d, target: CpuTarget) -> Schedule:
    tile = rng.choice([2, 4])
    rows = Tiling(workload, tile).rows
    return default_schedule(
        workload, tile, rng.randint(1, rows), target, rng.choice([1, 2, 3]), blocks=rng.random() < 0.5
    )


@pytest.mark.parametrize("spec", TARGETS)
def test_random_convolutions(spec: str) -> None:
    target = get_target(spec)
    rng = random.Random(7)
    cases: list[Case] = []
    for epilogue in ([], ["relu"], ["silu"]) * 4:
        workload = random_workload(rng)
        expression = block(workload, *epilogue) if epilogue else None
        cases.append((workload, random_schedule(rng, workload, target), expression))
    check(cases, target)


@pytest.mark.parametrize("spec", TARGETS)
@pytest.mark.parametrize("tile", winograd.TILES)
def test_borders_and_layers_of_networks(spec: str, tile: int) -> None:
    """One output pixel, padding wider than a patch, no padding at all, and layers as networks have them."""
    target = get_target(spec)
    workloads = [
        Conv2d(1, 1, 1, 5, 3, (3, 3), padding=SAME),
        Conv2d(2, 3, 3, 16, 8, (3, 3)),
        Conv2d(1, 2, 5, 16, 16, (3, 3), padding=(9, 13, 0, 1)),
        Conv2d(1, 28, 28, 64, 64, (3, 3), padding=SAME),
        Conv2d(2, 7, 7, 512, 48, (3, 3), padding=SAME),
    ]
    cases: list[Case] = []
    for w in workloads:
        rows = Tiling(w, tile).rows
        cases.append((w, default_schedule(w, tile, rows, target, 2), block(w, "relu")))
    check(cases, target)


def test_every_thread_takes_blocks() -> None:
    """More blocks than threads, and a last block that is not full."""
    target = get_target("llvm")
    w = Conv2d(2, 30, 9, 24, 40, (3, 3), padding=SAME)
    schedules = [
        default_schedule(w, tile, 3, target, 2, blocks=blocks) for tile in (2, 4) for blocks in (0, 1)
    ]
    assert [s.parallel_blocks for s in schedules] == [False, True] * 2
    check([(w, s, None) for s in schedules], target)


def test_special_values_stay_in_the_tiles_that_read_them() -> None:
    target = get_target("llvm")
    w = Conv2d(1, 16, 16, 8, 16, (3, 3), padding=SAME)
    schedule = default_schedule(w, 4, 4, target)
    compiled = compile_kernels(
        {"conv": build(w, schedule, target, "conv"), "pack": build_pack(w, schedule, target, "pack")}, target
    )
    source, weight = torch.randn(w.input_shape), torch.randn(w.weight_shape)
    packed, result = torch.empty(packed_shape(w, schedule)), torch.empty(w.output_shape)
    compiled["pack"](weight, packed)
    source[0, 6, 6, 3] = torch.inf  # in the patches of rows and columns 3 to 8: the tiles 1 alone
    compiled["conv"](source, packed, result)
    finite = result.isfinite().all(-1)[0]
    assert not finite[5:8, 5:8].any()
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[4:8, 4:8] = False
    assert finite[outside].all()


def test_unsupported_workloads_are_refused() -> None:
    target = get_target("llvm")
    schedule = default_schedule(Conv2d(1, 8, 8, 16, 16, (3, 3)), 2, 1, target)
    for w in (
        Conv2d(1, 8, 8, 16, 16, (5, 5)),
        Conv2d(1, 8, 8, 16, 16, (3, 3), (2, 2)),
        Conv2d(1, 8, 8, 16, 16, (3, 3), dilation=(2, 2)),
        Conv2d(1, 8, 8, 16, 16, (3, 3), groups=2),
        Conv2d(1, 8, 8, 16, 16, (3, 3), dtype="float64"),
        Conv2d(1, 8, 8, 16, 16, (3, 3), input_layout="NCHW"),
    ):
        with pytest.raises(ValueError, match="no Winograd algorithm"):
            build(w, schedule, target, "conv")
        assert isinstance(conv_algorithm.choose(w, target), conv2d.Schedule)


def tile_of(schedule: conv_algorithm.Schedule) -> int:
    return schedule.tile if isinstance(schedule, Schedule) else 1


@pytest.mark.parametrize("spec", TARGETS)
@pytest.mark.parametrize("threads", [1, 2, 16])
def test_choice(spec: str, threads: int) -> None:
    target = get_target(spec)

    def choose(size: int, channels: int, filters: int, algorithms: str = "auto") -> int:
        w = Conv2d(1, size, size, channels, filters, (3, 3), padding=SAME)
        return tile_of(conv_algorithm.choose(w, target, threads, algorithms))

    # Large images with many channels gain most; one channel is not worth a transform.
    assert choose(56, 64, 64) == choose(112, 128, 128) == 4
    assert choose(56, 1, 16) == 1
    # One tile reads 16 / 9 times the weights or more.
    assert choose(2, 512, 512) == 1
    assert choose(56, 64, 64, "off") == 1
    assert choose(56, 64, 64, "f2") == 2
    with pytest.raises(ValueError, match="expected one of off, f2, auto"):
        choose(56, 64, 64, "f4")


def test_estimates_grow_with_the_work_and_shrink_with_threads() -> None:
    target = get_target(TARGETS[0])
    for algorithms in conv_algorithm.OPTIONS:
        times = []
        for batch, threads in ((1, 4), (1, 1), (2, 1), (8, 1)):
            w = Conv2d(batch, 28, 28, 128, 128, (3, 3), padding=SAME)
            schedule = conv_algorithm.choose(w, target, threads, algorithms)
            times.append(conv_algorithm.nanoseconds(w, schedule, threads))
        assert times == sorted(times), algorithms
