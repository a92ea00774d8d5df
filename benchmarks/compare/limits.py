"""What the machine can do at most: multiply-adds in registers, and reading memory that is so and so large."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from torch_tvm.kernels import tir
from torch_tvm.kernels.module import compile_kernels
from torch_tvm.kernels.target import CpuTarget

_REPEATS = 9
_STEPS = 1 << 16
_LINES = 16  # vectors that the reading loop takes at a time: enough to hide an addition's latency


def _best(call: Callable[[], object], seconds: float) -> float:
    """Return the shortest time of a call."""
    best = float("inf")
    end = time.perf_counter() + seconds
    repeats = 0
    while repeats < _REPEATS or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        repeats += 1
    return best


def peak_flops(target: CpuTarget, threads: int, seconds: float = 0.2) -> float:
    """Measure float32 operations per second of multiply-adds whose operands stay in registers."""
    lanes = target.lanes("float32")
    chains = target.vector_registers - 4  # an operation's latency times its throughput is 8 to 10

    def body(source: tir.Buffer, result: tir.Buffer) -> None:
        with tir.loop(threads, parallel=True) as thread:
            factor = tir.materialise(tir.load(source, (0,), lanes), "float32", lanes)
            term = tir.materialise(tir.load(source, (lanes,), lanes), "float32", lanes)
            sums = tir.Accumulators(chains, "float32", lanes)
            for chain in range(chains):
                sums[chain] = tir.load(source, (chain * lanes,), lanes)
            with tir.loop(_STEPS):
                for chain in range(chains):
                    sums[chain] = tir.multiply_add(
                        sums[chain], factor, term, "float32", lanes, fused=target.has_fma
                    )
            for chain in range(chains):
                tir.store(result, sums[chain], (thread, chain, 0), lanes)

    shape = (threads, chains, lanes)
    parameters = [
        tir.Parameter("source", (chains * lanes,), "float32"),
        tir.Parameter("result", shape, "float32"),
    ]
    compiled = compile_kernels({"peak": tir.kernel("peak", parameters, body)}, target)["peak"]
    source, result = torch.rand(chains * lanes) / 2, torch.empty(shape)
    return 2.0 * threads * chains * lanes * _STEPS / _best(lambda: compiled(source, result), seconds)


def read_bandwidth(target: CpuTarget, threads: int, size: int, seconds: float = 0.2) -> float:
    """Measure bytes per second of reading `size` bytes over and over, each thread a part of its own."""
    lanes = target.lanes("float32")
    line = _LINES * lanes
    lines = max(1, size // (4 * line * threads))

    def body(source: tir.Buffer, result: tir.Buffer) -> None:
        with tir.loop(threads, parallel=True) as thread:
            sums = tir.Accumulators(_LINES, "float32", lanes)
            sums.fill(tir.constant(0.0, "float32", lanes))
            with tir.loop(lines) as i:
                for k in range(_LINES):
                    sums[k] = sums[k] + tir.load(source, (thread, i, k * lanes), lanes)
            for k in range(_LINES):
                tir.store(result, sums[k], (thread, k * lanes), lanes)

    parameters = [
        tir.Parameter("source", (threads, lines, line), "float32"),
        tir.Parameter("result", (threads, line), "float32"),
    ]
    compiled = compile_kernels({"read": tir.kernel("read", parameters, body)}, target)["read"]
    source, result = torch.ones(threads, lines, line), torch.empty(threads, line)
    return 4.0 * source.numel() / _best(lambda: compiled(source, result), seconds)
