"""Outputs that lie where an operand did: values stay what PyTorch computes, and memory shrinks."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from compiler_cases import assert_close, rand, run_traced
from torch import Tensor

from torch_tvm.kernels import elementwise, parse_target
from torch_tvm.kernels.epilogue import PlacedExpression
from torch_tvm.kernels.expression import Expression, Instruction, Operand
from torch_tvm.kernels.views import View, permuted

Program = Callable[..., "tuple[Tensor, ...]"]


def _program(seed: int) -> Program:
    """Make a program of products, convolutions, sums and activations that all have one size, its outputs among them."""

    def run(
        x: Tensor, matrix: Tensor, vector: Tensor, kernel: Tensor, depthwise: Tensor
    ) -> tuple[Tensor, ...]:
        choose = random.Random(seed)
        height, width, channels = x.shape[1:]
        values = [x, torch.tanh(x)]

        def pick() -> Tensor:
            return choose.choice(values[-3:])

        def convolution(weight: Tensor, groups: int) -> Tensor:
            planes = pick().permute(0, 3, 1, 2)
            return F.conv2d(planes, weight, None, 1, weight.shape[-1] // 2, 1, groups).permute(0, 2, 3, 1)

        steps: list[Callable[[], Tensor]] = [
            lambda: pick() @ matrix + pick(),
            lambda: torch.relu(pick() @ matrix + vector) * 0.5 + pick(),
            lambda: F.gelu(pick() @ matrix) * pick(),
            lambda: convolution(kernel, 1) + pick(),
            lambda: convolution(depthwise, channels) + pick(),
            lambda: pick() * torch.sigmoid(pick()) - vector,
            lambda: F.layer_norm(pick(), (channels,)),
            lambda: pick().reshape(-1, width, height, channels).transpose(1, 2) + pick(),
        ]
        for _ in range(choose.randint(6, 14)):
            values.append(choose.choice(steps)())
        return (values[-1], *choose.sample(values[2:], choose.randint(0, 1)))

    return run


def _overwritten(workload: str) -> bool:
    return "overwritten=" in workload.replace("overwritten=0", "").replace("overwritten=None", "")


def _check(program: Program, seed: int, shape: tuple[int, ...], threads: int) -> int:
    """Compare with PyTorch; return how many kernels overwrite an operand."""
    torch.manual_seed(seed)
    channels = shape[-1]
    weights = [
        rand(channels, channels) / channels,
        rand(channels),
        rand(channels, channels, 3, 3) / (9 * channels),
        rand(channels, 1, 3, 3) / 9,
    ]
    compiled, actual, expected = run_traced(program, [rand(*shape)], weights, threads=threads)
    for result, reference in zip(actual, expected, strict=True):
        assert_close(result, reference.contiguous())
    kernels = compiled.plan.info["kernels"]
    return sum(_overwritten(str(kernel["workload"])) for kernel in kernels)


def test_random_programs() -> None:
    """Sizes with and without a last vector that is not full; most programs overwrite something."""
    shapes = [(1, 6, 7, 16), (2, 5, 4, 24), (1, 8, 8, 33), (1, 3, 3, 7), (1, 12, 12, 64), (2, 9, 5, 48)]
    counts = [
        _check(_program(seed), seed, shapes[seed % len(shapes)], threads=1 + seed % 2) for seed in range(6)
    ]
    assert sum(count > 0 for count in counts) >= 4


def _sum(shape: tuple[int, ...], dtypes: tuple[str, str] = ("float32", "float32")) -> Expression:
    inputs = tuple(Operand(shape, dtype) for dtype in dtypes)
    cast = Instruction("cast", (1,), "float32")
    return Expression(inputs, (cast, Instruction("add", (0, 2), "float32")), (3,), shape)


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        (elementwise.Elementwise(_sum((4, 32))), [0, 1]),
        (elementwise.Elementwise(_sum((3,))), [0, 1]),
        (elementwise.Elementwise(_sum((3, 7))), []),
        (elementwise.Elementwise(_sum((4, 32), ("float32", "int32"))), [0]),
        (elementwise.Elementwise(_sum((32, 32)), (None, permuted((32, 32), (1, 0)))), []),
        (elementwise.Elementwise(_sum((4, 32)), (None, View((8, 32), (64, 1)))), [0]),
        (elementwise.Elementwise(_sum((4, 32)), (), (View((8, 32), (64, 1)),)), []),
    ],
)
def test_what_an_elementwise_kernel_overwrites(
    workload: elementwise.Elementwise, expected: list[int]
) -> None:
    target = parse_target("llvm -mcpu=skylake-avx512")
    schedule = elementwise.default_schedule(workload, target, 2)
    assert elementwise.overwritable(workload, schedule) == expected


def test_what_an_epilogue_overwrites() -> None:
    shape = (4, 32)
    inputs = [Operand(shape, "float32"), Operand(shape, "float32"), Operand((32,), "float32")]
    inputs += [Operand(shape, "float32"), Operand(shape, "float64")]
    cast = Instruction("cast", (4,), "float32")
    sums = [Instruction("add", (0, k), "float32") for k in (1, 2, 3, 5)]
    expression = Expression(tuple(inputs), (cast, *sums), (9,), shape)
    part = View((8, 32), (64, 1))
    placed = PlacedExpression(expression, (None, None, part, None, None))
    assert placed.overwritable == [1]
    assert PlacedExpression(expression, (None, None, None, None, part)).overwritable == []
    with pytest.raises(ValueError, match="the output cannot take the memory of input 3"):
        PlacedExpression(expression, placed.views, overwritten=3)


def test_a_kernel_that_cannot_overwrite() -> None:
    workload = elementwise.Elementwise(_sum((3, 7)), overwritten=1)
    target = parse_target("llvm -mcpu=skylake-avx512")
    schedule = elementwise.default_schedule(workload, target, 1)
    with pytest.raises(ValueError, match="the output cannot take the memory of input 1"):
        elementwise.build(workload, schedule, target, "f")
