"""Direct and Winograd convolution, measured and as the model that chooses between them predicts it.

Run pinned, `GOMP_CPU_AFFINITY="0 1" python -m benchmarks.winograd --threads 2`. Weights are cold as in a network: each
call has other ones, 128 MB of them in turns. Times are medians, in us, all algorithms of a layer in turns; the last
columns say which algorithm the model chooses and how much slower that is than the fastest.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

import torch_tvm  # noqa: F401  its runtime runs TVM's loops on torch's threads
from torch_tvm.kernels import conv2d, conv_algorithm, winograd
from torch_tvm.kernels.conv2d import Conv2d
from torch_tvm.kernels.conv_algorithm import Schedule
from torch_tvm.kernels.expression import Expression, Instruction, Operand
from torch_tvm.kernels.module import compile_kernels
from torch_tvm.kernels.target import CpuTarget, parse_target

WEIGHT_BYTES = 128 * 1024 * 1024

# channels, filters, height and width, batch: ResNets, VGG, DenseNets, and others between them.
LAYERS = [
    (64, 64, 56, 1),
    (128, 128, 28, 1),
    (256, 256, 14, 1),
    (512, 512, 7, 1),
    (64, 64, 224, 1),
    (128, 128, 112, 1),
    (256, 256, 56, 1),
    (512, 512, 28, 1),
    (512, 512, 14, 1),
    (128, 32, 56, 1),
    (128, 32, 28, 1),
    (128, 32, 14, 1),
    (128, 32, 7, 1),
    (32, 32, 112, 1),
    (16, 16, 32, 1),
    (96, 160, 35, 1),
    (192, 192, 17, 1),
    (256, 256, 14, 8),
    (512, 512, 7, 8),
]


@dataclass(frozen=True)
class Candidate:
    """One schedule of a layer, ready to run."""

    schedule: Schedule
    predicted: float
    run: Callable[[torch.Tensor], object]
    shape: tuple[int, ...]


def label(schedule: Schedule) -> str:
    """Return algorithm and block size."""
    if isinstance(schedule, conv2d.Schedule):
        return "direct"
    share = "blocks" if schedule.parallel_blocks else ""
    return f"F{schedule.tile}/{schedule.block_rows}{share}"


def relu(w: Conv2d) -> Expression:
    """Bias and ReLU."""
    shape = w.output_shape
    return Expression(
        (Operand(shape, w.dtype), Operand((w.filters,), w.dtype)),
        (Instruction("add", (0, 1), w.dtype), Instruction("relu", (2,), w.dtype)),
        (3,),
        shape,
    )


def schedules(w: Conv2d, target: CpuTarget, threads: int, *, every: bool) -> list[Schedule]:
    """Return the direct schedule, and of each Winograd algorithm the best one or `every` one."""
    chosen: list[Schedule] = [conv2d.default_schedule(w, target, threads)]
    for tile in winograd.TILES:
        made = list(conv_algorithm.winograd_schedules(w, tile, target, threads))
        made.sort(key=lambda s: conv_algorithm.nanoseconds(w, s, threads))
        chosen += made if every else made[:1]
    return chosen


def candidates(w: Conv2d, target: CpuTarget, threads: int, *, every: bool) -> list[Candidate]:
    """Compile the schedules of a layer."""
    made = schedules(w, target, threads, every=every)
    functions = {}
    for i, s in enumerate(made):
        functions[f"conv_{i}"] = conv_algorithm.build(w, s, target, f"conv_{i}", relu(w))
    compiled = compile_kernels(functions, target)
    source, bias, result = torch.randn(w.input_shape), torch.randn(w.filters), torch.empty(w.output_shape)

    def runner(i: int) -> Callable[[torch.Tensor], object]:
        return lambda weight: compiled[f"conv_{i}"](source, weight, bias, result)

    return [
        Candidate(
            s,
            conv_algorithm.nanoseconds(w, s, threads) / 1e3,
            runner(i),
            conv_algorithm.packed_shape(w, s),
        )
        for i, s in enumerate(made)
    ]


def measure(made: list[Candidate], seconds: float) -> list[float]:
    """Return the median time of each candidate in us, each call with other weights."""
    pool = torch.rand(WEIGHT_BYTES // 4)
    samples: list[list[float]] = [[] for _ in made]
    end = time.perf_counter() + seconds * len(made)
    position = 0
    while time.perf_counter() < end or not samples[0]:
        for candidate, found in zip(made, samples, strict=True):
            size = math.prod(candidate.shape)
            for _ in range(8):
                position = position if position + size <= pool.numel() else 0
                weight = pool[position : position + size].view(candidate.shape)
                position += size
                start = time.perf_counter()
                candidate.run(weight)
                found.append(time.perf_counter() - start)
    return [statistics.median(found) * 1e6 for found in samples]


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", default="llvm", help="for example 'llvm -mcpu=haswell'")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each algorithm of a layer")
    parser.add_argument("--all", action="store_true", help="measure every schedule that the model knows")
    parser.add_argument("--only", default="", help="layers to run, comma-separated, such as 64-64@56")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    target = parse_target(arguments.target)
    print(f"{target.spec}, {arguments.threads} threads; us measured / predicted")
    for channels, filters, size, batch in LAYERS:
        layer = f"{channels}-{filters}@{size}" + (f" x{batch}" if batch > 1 else "")
        if arguments.only and layer not in arguments.only.split(","):
            continue
        w = Conv2d(batch, size, size, channels, filters, (3, 3), padding=(1, 1, 1, 1))
        made = candidates(w, target, arguments.threads, every=arguments.all)
        times = measure(made, arguments.seconds)
        chosen = conv_algorithm.choose(w, target, arguments.threads)
        regret = times[[c.schedule for c in made].index(chosen)] / min(times) - 1
        cells = "  ".join(
            f"{label(c.schedule)} {found:.0f} / {c.predicted:.0f}"
            for c, found in zip(made, times, strict=True)
        )
        print(f"{layer:14} {cells}  -> {label(chosen)} {regret:+.0%}", flush=True)


if __name__ == "__main__":
    main()
