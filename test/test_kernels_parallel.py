"""Parallel loops keep all threads busy and begin only where it pays: every kernel family on layers of three networks, simulated."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import tvm
from kernel_runs import TARGETS, get_target
from parallel_work import Work, simulate
from tvm import tirx

from torch_tvm.kernels import (
    attention,
    conv2d,
    conv_algorithm,
    elementwise,
    matmul,
    normalization,
    pooling,
    reduction,
    softmax,
    tiling,
)
from torch_tvm.kernels.conv2d import Conv2d
from torch_tvm.kernels.expression import Expression, Instruction, Operand, identity
from torch_tvm.kernels.matrix_view import MatrixView
from torch_tvm.kernels.pooling import Pool2d
from torch_tvm.kernels.target import CpuTarget
from torch_tvm.kernels.tir import PARALLEL_MIN_NANOSECONDS
from torch_tvm.kernels.views import permuted

BYTES_PER_NANOSECOND = 64  # from L2
LARGE = 32_000  # ns with which all of 16 threads have something to do
LEAST_EFFICIENCY = 0.8

Build = Callable[[CpuTarget, int], tirx.PrimFunc]


def generated(generator: Any, workload: Any) -> Build:
    """The kernel of a generator with its default schedule."""

    def build(target: CpuTarget, threads: int) -> tirx.PrimFunc:
        schedule = generator.default_schedule(workload, target, threads)
        return generator.build(workload, schedule, target, "kernel")

    return build


def chosen(workload: Conv2d) -> Build:
    """The convolution that the compiler would choose, Winograd among others."""

    def build(target: CpuTarget, threads: int) -> tirx.PrimFunc:
        schedule = conv_algorithm.choose(workload, target, threads)
        return conv_algorithm.build(workload, schedule, target, "kernel")

    return build


def conv(size: int, channels: int, filters: int, kernel: int, stride: int = 1, *, batch: int = 1) -> Conv2d:
    return Conv2d(
        batch, size, size, channels, filters, (kernel,) * 2, (stride,) * 2, padding=(kernel // 2,) * 4
    )


def depthwise(size: int, channels: int, stride: int = 1, *, kernel: int = 3, batch: int = 1) -> Conv2d:
    pad = (kernel // 2,) * 4
    return Conv2d(
        batch, size, size, channels, channels, (kernel,) * 2, (stride,) * 2, padding=pad, groups=channels
    )


def linear(m: int, k: int, n: int) -> matmul.Matmul:
    return matmul.Matmul(
        MatrixView((m, k), ("m", "k")), MatrixView((n, k), ("n", "k")), MatrixView((m, n), ("m", "n")), True
    )


def heads(batch: int, tokens: int) -> attention.Attention:
    def view(rows: str, columns: str) -> MatrixView:
        return MatrixView((batch, tokens, 12, 64), ("b0", rows, "b1", columns))

    return attention.Attention(view("m", "k"), view("n", "k"), view("n", "v"), view("m", "v"))


def chain(shape: tuple[int, ...], *ops: str, inputs: int = 1) -> elementwise.Elementwise:
    """Unary operations behind the sum of the inputs."""
    steps = [Instruction("add", (0, 1), "float32")] if inputs == 2 else []
    for op in ops:
        steps.append(Instruction(op, (inputs + len(steps) - 1,), "float32"))
    last = inputs + len(steps) - 1
    return elementwise.Elementwise(
        Expression((Operand(shape, "float32"),) * inputs, tuple(steps), (last,), shape)
    )


def layer_norm(shape: tuple[int, ...]) -> normalization.Normalize:
    return normalization.Normalize(identity(shape, "float32"), (len(shape) - 1,), 1e-5)


def transpose(shape: tuple[int, ...], axes: tuple[int, ...]) -> elementwise.Elementwise:
    result = tuple(shape[axis] for axis in axes)
    return elementwise.Elementwise(identity(result, "float32"), (permuted(shape, axes),))


MAX_POOL = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)}

KERNELS: dict[str, Build] = {
    # ResNet-50
    **{
        f"resnet {w.height} {w.channels}-{w.filters} {w.kernel[0]}x{w.kernel[0]}s{w.stride[0]}": chosen(w)
        for w in (
            conv(224, 3, 64, 7, 2),
            *(conv(56, a, b, 1) for a, b in ((64, 64), (64, 256), (256, 64), (256, 128))),
            *(conv(28, a, b, 1) for a, b in ((128, 512), (512, 128), (512, 256))),
            *(conv(14, a, b, 1) for a, b in ((256, 1024), (1024, 256), (1024, 512))),
            *(conv(7, a, b, 1) for a, b in ((512, 2048), (2048, 512))),
            *(conv(56, 256, 512, 1, 2), conv(28, 512, 1024, 1, 2), conv(14, 1024, 2048, 1, 2)),
            *(conv(56, 64, 64, 3), conv(28, 128, 128, 3), conv(14, 256, 256, 3), conv(7, 512, 512, 3)),
            *(conv(56, 128, 128, 3, 2), conv(28, 256, 256, 3, 2), conv(14, 512, 512, 3, 2)),
        )
    },
    "resnet direct 56": generated(conv2d, conv(56, 64, 64, 3)),
    "resnet direct 14": generated(conv2d, conv(14, 256, 256, 3)),
    "resnet max pool": generated(pooling, Pool2d((1, 112, 112, 64), "max", **MAX_POOL)),
    "resnet add relu 56": generated(elementwise, chain((1, 56, 56, 256), "relu", inputs=2)),
    "resnet add relu 14": generated(elementwise, chain((1, 14, 14, 1024), "relu", inputs=2)),
    "resnet mean": generated(reduction, reduction.of((1, 7, 7, 2048), "mean", (1, 2))),
    "resnet pool to 1x1": generated(pooling, Pool2d((1, 7, 7, 2048), "avg", output_size=(1, 1))),
    "resnet mean of 8": generated(reduction, reduction.of((8, 7, 7, 2048), "mean", (1, 2))),
    "resnet pool of 8 to 1x1": generated(pooling, Pool2d((8, 7, 7, 2048), "avg", output_size=(1, 1))),
    "resnet classifier": generated(matmul, linear(1, 2048, 1000)),
    "resnet input": generated(elementwise, transpose((1, 3, 224, 224), (0, 2, 3, 1))),
    # MobileNetV2
    **{
        f"mobilenet {w.height} {w.channels}-{w.filters} dw{w.kernel[0]}s{w.stride[0]} of {w.batch}": chosen(w)
        for w in (
            *(depthwise(112, 32), depthwise(112, 96, 2), depthwise(56, 144), depthwise(56, 144, 2)),
            *(depthwise(28, 192), depthwise(28, 192, 2), depthwise(14, 384), depthwise(14, 576)),
            *(depthwise(14, 576, 2), depthwise(7, 960), depthwise(7, 960, batch=8)),
            *(depthwise(14, 672, kernel=5), depthwise(28, 240, kernel=5), depthwise(56, 96, kernel=7)),
        )
    },
    **{
        f"mobilenet {w.height} {w.channels}-{w.filters}": chosen(w)
        for w in (
            *(conv(224, 3, 32, 3, 2), conv(112, 32, 16, 1), conv(112, 16, 96, 1), conv(56, 96, 24, 1)),
            *(conv(56, 24, 144, 1), conv(28, 144, 32, 1), conv(28, 32, 192, 1), conv(14, 192, 64, 1)),
            *(conv(14, 64, 384, 1), conv(14, 384, 96, 1), conv(14, 576, 96, 1), conv(7, 576, 160, 1)),
            *(conv(7, 160, 960, 1), conv(7, 960, 320, 1), conv(7, 320, 1280, 1)),
        )
    },
    "mobilenet mean": generated(reduction, reduction.of((1, 7, 7, 1280), "mean", (1, 2))),
    "mobilenet squeeze": generated(reduction, reduction.of((1, 112, 112, 96), "mean", (1, 2))),
    "mobilenet squeeze 32": generated(reduction, reduction.of((1, 112, 112, 32), "mean", (1, 2))),
    **{
        f"efficientnet squeeze {a}-{b}": chosen(Conv2d(1, 1, 1, a, b, (1, 1)))
        for a, b in ((32, 8), (8, 32), (240, 10), (10, 240), (672, 28), (1152, 48), (48, 1152))
    },
    "densenet transition": generated(pooling, Pool2d((1, 14, 14, 1024), "avg", kernel=(2, 2), stride=(2, 2))),
    "loss": generated(reduction, reduction.of((1_000_000,), "sum", (0,))),
    "rows of 100": generated(elementwise, transpose((100, 12, 300), (1, 0, 2))),
    "norm of 100": generated(normalization, layer_norm((100, 3000))),
    # BERT-base
    "bert projection": generated(matmul, linear(128, 768, 768)),
    "bert up": generated(matmul, linear(128, 768, 3072)),
    "bert down": generated(matmul, linear(128, 3072, 768)),
    "bert qkv": generated(matmul, linear(128, 768, 2304)),
    "bert short": generated(matmul, linear(16, 768, 768)),
    "bert pooler": generated(matmul, linear(1, 768, 768)),
    "bert decoder": generated(matmul, linear(1, 768, 30522)),
    "bert attention": generated(attention, heads(1, 128)),
    "bert attention of 8": generated(attention, heads(8, 128)),
    "bert attention long": generated(attention, heads(1, 512)),
    "bert softmax": generated(softmax, softmax.of((12, 128, 128), -1)),
    "bert log softmax": generated(softmax, softmax.of((128, 30522), -1, log=True)),
    "bert norm": generated(normalization, layer_norm((128, 768))),
    "bert norm short": generated(normalization, layer_norm((20, 768))),
    "bert norm long": generated(normalization, layer_norm((512, 768))),
    "bert gelu": generated(elementwise, chain((128, 3072), "gelu")),
    "bert tanh": generated(elementwise, chain((1, 768), "tanh")),
    "bert argmax": generated(reduction, reduction.of((128, 30522), "argmax", (1,))),
    "bert sum": generated(reduction, reduction.of((128, 768), "sum", (0,))),
    "bert heads": generated(elementwise, transpose((128, 12, 64), (1, 0, 2))),
    "bert keys": generated(elementwise, transpose((12, 128, 64), (0, 2, 1))),
}


def nanoseconds(function: tirx.PrimFunc, work: Work) -> float:
    """Estimate of one thread's time: operations, or bytes of all operands."""
    size = sum(tvm.DataType(b.dtype).bits // 8 * math.prod(map(int, b.shape)) for b in function.params)
    return max(work.nanoseconds, size / BYTES_PER_NANOSECOND)


@pytest.mark.parametrize("spec", TARGETS)
@pytest.mark.parametrize("threads", [1, 2, 4, 8, 16, 32, 64])
def test_threads_are_equally_busy(spec: str, threads: int) -> None:
    """From 2 threads to 16 no thread waits for more than a fifth of its time, where the work is large for so many.

    Beyond that few layers have enough rows and panels; those of a network together must still do well.
    """
    target = get_target(spec)
    efficiencies: dict[str, float] = {}
    for name, build in KERNELS.items():
        function = build(target, threads)
        work = simulate(function, threads, target.vector_bits)
        one_thread = nanoseconds(function, work)
        if work.regions:
            assert threads > 1 and one_thread / work.regions > PARALLEL_MIN_NANOSECONDS / 2, (name, work)
        if one_thread > LARGE:
            efficiencies[name] = work.efficiency(threads)
    least = LEAST_EFFICIENCY if threads <= 16 else 0.5
    assert not {name: value for name, value in efficiencies.items() if value < least}
    assert statistics.mean(efficiencies.values()) >= (0.95 if threads <= 16 else 0.85)


@pytest.mark.parametrize("threads", [2, 64])
def test_squeeze_and_excitation_is_no_parallel_region(threads: int) -> None:
    """The two products of one pixel take 0.2 to 10 us, most of it waiting for weights."""
    target = get_target(TARGETS[0])
    for name, build in KERNELS.items():
        if name.startswith("efficientnet squeeze"):
            assert simulate(build(target, threads), threads).regions == 0, name


@pytest.mark.parametrize("threads", [1, 2, 5, 16])
def test_every_iteration_is_counted_once(threads: int) -> None:
    """Whatever divides the work, there is as much of it."""
    target = get_target(TARGETS[0])
    for workload in (conv(14, 40, 48, 3), depthwise(15, 48), conv(28, 32, 64, 1)):
        schedule = conv2d.default_schedule(workload, target, 1)
        works = []
        for row_blocks in (1, 2, 3, 5):
            divided = dataclasses.replace(schedule, parallel=row_blocks > 1, row_blocks=row_blocks)
            works.append(simulate(conv2d.build(workload, divided, target, "k"), threads))
        assert len({work.operations for work in works}) == 1
        assert works[0].regions == 0 and works[0].busiest == works[0].operations
        for work in works[1:]:
            assert work.regions == 1 and work.busiest * min(threads, work.chunks) >= work.operations


def test_multiply_adds_are_counted() -> None:
    """A product of 12 x 32 with 100 steps: each reads 12 scalars and 2 vectors and does 24 multiply-adds."""
    target = get_target(TARGETS[0])
    workload = linear(12, 100, 32)
    schedule = matmul.default_schedule(workload, target)
    assert (schedule.rows, schedule.width, schedule.chains) == (12, 32, 1)
    work = simulate(matmul.build(workload, schedule, target, "k"), 1)
    stored = 24
    assert work.operations == pytest.approx(100 * (12 + 2 + 24) + stored, rel=0.02)


@pytest.mark.parametrize("threads", [2, 4, 8, 16])
def test_static_contiguous_shares(threads: int) -> None:
    """`tiling.imbalance` says what the generated code does."""
    target = get_target(TARGETS[0])
    workload = linear(150, 64, 96)
    schedule = matmul.default_schedule(workload, target, 1)
    tiles = -(-workload.m // schedule.rows)
    panels = -(-workload.n // schedule.width)
    for row_blocks in range(1, tiles + 1):
        divided = dataclasses.replace(schedule, parallel=True, row_blocks=row_blocks)
        work = simulate(matmul.build(workload, divided, target, "k"), threads)
        expected = 1 / tiling.imbalance(panels, tiles, row_blocks, threads)
        assert work.efficiency(threads) == pytest.approx(expected, rel=0.1), (threads, row_blocks)
