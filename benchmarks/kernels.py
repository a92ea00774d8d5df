"""GFLOPS of the kernel generators beside PyTorch on layers of ResNet, MobileNetV2, BERT and ViT.

Run pinned, `GOMP_CPU_AFFINITY="0 1" python -m benchmarks.kernels --threads 2`: an unpinned OpenMP pool may put both
threads on one CPU. Times are the best of five medians, each kernel and PyTorch in turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

import torch_tvm  # noqa: F401  its runtime runs TVM's loops on torch's threads
from torch_tvm.kernels import conv2d, matmul
from torch_tvm.kernels.conv2d import Conv2d
from torch_tvm.kernels.expression import Expression, Instruction, Operand
from torch_tvm.kernels.matmul import Matmul
from torch_tvm.kernels.matrix_view import MatrixView
from torch_tvm.kernels.module import compile_kernels
from torch_tvm.kernels.target import CpuTarget, parse_target


@dataclass(frozen=True)
class Layer:
    """One row of the table: both computations, on tensors of their own."""

    name: str
    flops: int
    schedule: str
    compile_seconds: float
    ours: Callable[[], object]
    torchs: Callable[[], torch.Tensor]
    result: torch.Tensor


def convolution(name: str, target: CpuTarget, threads: int, workload: Conv2d) -> Layer:
    """Convolution with bias and ReLU; PyTorch's runs on channels_last tensors."""
    w = workload
    shape = w.output_shape
    relu = Expression(
        (Operand(shape, w.dtype), Operand((w.filters,), w.dtype)),
        (Instruction("add", (0, 1), w.dtype), Instruction("relu", (2,), w.dtype)),
        (3,),
        shape,
    )
    schedule = conv2d.default_schedule(w, target, threads)
    start = time.perf_counter()
    functions = {
        "conv": conv2d.build(w, schedule, target, "conv", relu),
        "pack": conv2d.build_pack(w, schedule, target, "pack"),
    }
    compiled = compile_kernels(functions, target)
    seconds = time.perf_counter() - start
    source = torch.randn(w.input_shape)
    weight = torch.randn(w.weight_shape) / (w.group_channels * w.kernel[0] * w.kernel[1]) ** 0.5
    bias, packed, result = (
        torch.randn(w.filters),
        torch.empty(conv2d.packed_shape(w, schedule)),
        torch.empty(shape),
    )
    compiled["pack"](weight, packed)
    image = source if w.input_layout == "NCHW" else source.permute(0, 3, 1, 2)
    return Layer(
        name,
        w.flops,
        f"{schedule.rows}x{schedule.vectors * schedule.lanes} {schedule.border}",
        seconds,
        lambda: compiled["conv"](source, packed, bias, result),
        lambda: torch.relu(
            torch.nn.functional.conv2d(image, weight, bias, w.stride, w.padding[:2], w.dilation, w.groups)
        ).permute(0, 2, 3, 1),
        result,
    )


def linear(name: str, target: CpuTarget, threads: int, m: int, k: int, n: int) -> Layer:
    """`F.linear` with a bias."""
    product = Matmul(
        MatrixView((m, k), ("m", "k")), MatrixView((n, k), ("n", "k")), MatrixView((m, n), ("m", "n")), True
    )
    add = Expression(
        (Operand((m, n), "float32"), Operand((n,), "float32")),
        (Instruction("add", (0, 1), "float32"),),
        (2,),
        (m, n),
    )
    schedule = matmul.default_schedule(product, target, threads)
    start = time.perf_counter()
    functions = {
        "linear": matmul.build(product, schedule, target, "linear", add),
        "pack": matmul.build_pack(product, schedule, target, "pack"),
    }
    compiled = compile_kernels(functions, target)
    seconds = time.perf_counter() - start
    x, weight, bias = torch.randn(m, k), torch.randn(n, k) / k**0.5, torch.randn(n)
    packed, result = torch.empty(matmul.packed_shape(product, schedule)), torch.empty(m, n)
    compiled["pack"](weight, packed)
    return Layer(
        name,
        product.flops,
        f"{schedule.rows}x{schedule.width} {schedule.right}",
        seconds,
        lambda: compiled["linear"](x, packed, bias, result),
        lambda: torch.nn.functional.linear(x, weight, bias),
        result,
    )


def attention(name: str, target: CpuTarget, threads: int, *, scores: bool) -> Layer:
    """Q K^T or P V of 12 heads, 128 tokens, 64 deep, read from [batch, token, head, depth] tensors."""
    heads, tokens, depth = 12, 128, 64
    tensor, weights = (1, tokens, heads, depth), (1, heads, tokens, tokens)
    if scores:
        product = Matmul(
            MatrixView(tensor, ("b0", "m", "b1", "k")),
            MatrixView(tensor, ("b0", "n", "b1", "k")),
            MatrixView(weights, ("b0", "b1", "m", "n")),
        )
    else:
        product = Matmul(
            MatrixView(weights, ("b0", "b1", "m", "k")),
            MatrixView(tensor, ("b0", "k", "b1", "n")),
            MatrixView(tensor, ("b0", "m", "b1", "n")),
        )
    schedule = matmul.default_schedule(product, target, threads)
    start = time.perf_counter()
    compiled = compile_kernels({"product": matmul.build(product, schedule, target, "product")}, target)
    seconds = time.perf_counter() - start
    a, b = torch.randn(product.a.shape), torch.randn(product.b.shape)
    result = torch.empty(product.c.shape)

    def torchs() -> torch.Tensor:
        if scores:
            return a.transpose(1, 2) @ b.permute(0, 2, 3, 1)
        return (a @ b.transpose(1, 2)).transpose(1, 2)

    return Layer(
        name,
        product.flops,
        f"{schedule.rows}x{schedule.width} {schedule.right}",
        seconds,
        lambda: compiled["product"](a, b, result),
        torchs,
        result,
    )


def layers(target: CpuTarget, threads: int) -> Iterator[Layer]:
    """Make the rows of the table one by one."""

    def conv(
        name: str, channels: int, filters: int, size: int, kernel: int, stride: int = 1, **changes: Any
    ) -> Layer:
        pad = kernel // 2
        workload = Conv2d(
            1, size, size, channels, filters, (kernel, kernel), (stride, stride), (pad,) * 4, **changes
        )
        return convolution(name, target, threads, workload)

    yield conv("ResNet stem 7x7/2 224", 3, 64, 224, 7, 2)
    yield conv("ResNet stem, NCHW input", 3, 64, 224, 7, 2, input_layout="NCHW")
    yield conv("ResNet 3x3 64 @56", 64, 64, 56, 3)
    yield conv("ResNet 3x3 128 @28", 128, 128, 28, 3)
    yield conv("ResNet 3x3 256 @14", 256, 256, 14, 3)
    yield conv("ResNet 3x3 512 @7", 512, 512, 7, 3)
    yield conv("ResNet 3x3/2 64-128 @56", 64, 128, 56, 3, 2)
    yield conv("ResNet 3x3/2 256-512 @14", 256, 512, 14, 3, 2)
    yield conv("ResNet 1x1/2 64-128 @56", 64, 128, 56, 1, 2)
    yield conv("ResNet 1x1 64-256 @56", 64, 256, 56, 1)
    yield conv("ResNet 1x1 1024-256 @14", 1024, 256, 14, 1)
    yield conv("ResNet 1x1 512-2048 @7", 512, 2048, 7, 1)
    yield conv("ResNeXt 3x3 128 @56, 32 groups", 128, 128, 56, 3, groups=32)
    yield conv("MobileNet 3x3 144 @56, depthwise", 144, 144, 56, 3, groups=144)
    yield conv("MobileNet 3x3/2 144 @56, depthwise", 144, 144, 56, 3, 2, groups=144)
    yield conv("MobileNet 3x3 384 @14, depthwise", 384, 384, 14, 3, groups=384)
    yield conv("MobileNet 1x1 144-24 @56", 144, 24, 56, 1)
    yield linear("ResNet fc 1x512x1000", target, threads, 1, 512, 1000)
    yield linear("BERT 128x768x768", target, threads, 128, 768, 768)
    yield linear("BERT 128x768x3072", target, threads, 128, 768, 3072)
    yield linear("BERT 128x3072x768", target, threads, 128, 3072, 768)
    yield linear("ViT 197x768x768", target, threads, 197, 768, 768)
    yield attention("BERT Q K^T", target, threads, scores=True)
    yield attention("BERT P V", target, threads, scores=False)


def times(functions: list[Callable[[], object]], seconds: float) -> list[float]:
    """Return the best of five medians for each function, in turns."""
    best = [float("inf")] * len(functions)
    for function in functions:
        function()
    for _ in range(5):
        for i, function in enumerate(functions):
            samples: list[float] = []
            end = time.perf_counter() + seconds / 5
            while time.perf_counter() < end or len(samples) < 3:
                start = time.perf_counter()
                function()
                samples.append(time.perf_counter() - start)
            best[i] = min(best[i], statistics.median(samples))
    return best


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", default="llvm", help="for example 'llvm -mcpu=haswell'")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each kernel and each of the two")
    parser.add_argument("--only", default="", help="part of the names of the layers to run")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    target = parse_target(arguments.target)
    print(f"{target.spec}, {arguments.threads} threads, torch {torch.__version__}")
    print(
        f"{'layer':36} {'tile':>14} {'us':>8} {'GFLOPS':>7} {'torch us':>9} {'ratio':>6} {'error':>8} {'compile ms':>10}"
    )
    for layer in layers(target, arguments.threads):
        if arguments.only not in layer.name:
            continue
        ours, torchs = times([layer.ours, layer.torchs], arguments.seconds)
        expected = layer.torchs()
        error = float((layer.result - expected).abs().max() / expected.abs().max())
        print(
            f"{layer.name:36} {layer.schedule:>14} {ours * 1e6:8.1f} {layer.flops / ours / 1e9:7.1f}"
            f" {torchs * 1e6:9.1f} {torchs / ours:6.2f} {error:8.1e} {layer.compile_seconds * 1e3:10.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
