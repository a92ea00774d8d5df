"""A traced network under PyTorch's JIT alone and under torch_tvm, side by side in one process."""

from __future__ import annotations

import statistics
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import torch_tvm
from benchmarks.models import Model

GUARDED_CALLS = 10  # that may run PyTorch's interpreter too, to see which is faster


@dataclass(frozen=True)
class Result:
    """What one run of a benchmark found; times in seconds."""

    parameters: int
    first_call: float
    jit_time: float
    tvm_time: float
    share: float
    difference: float
    groups: int
    plans: int
    fallbacks: int

    @property
    def ratio(self) -> float:
        """How many times as fast TVM is."""
        return self.jit_time / self.tvm_time


def trace(network: nn.Module, example: Tensor | tuple[Tensor, ...]) -> Callable[..., Tensor]:
    """Trace a network without the deprecation notes of TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(network, example, check_trace=False)


@contextmanager
def progress(label: str) -> Iterator[None]:
    """Print a label, the seconds while they pass, and at the end how many it were."""
    done = threading.Event()
    start = time.perf_counter()

    def tick() -> None:
        while not done.wait(1):
            print(f" {time.perf_counter() - start:.0f} s", end="", flush=True)

    print(f"{label} ...", end="", flush=True)
    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        print(flush=True)


def median_times(functions: Sequence[Callable[[], object]], iterations: int, rounds: int) -> list[float]:
    """Time functions in turns, so that the machine's drift meets all of them; the median over rounds, per call."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, found in zip(functions, times, strict=True):
            function()
            start = time.perf_counter()
            for _ in range(iterations):
                function()
            found.append((time.perf_counter() - start) / iterations)
    return [statistics.median(found) for found in times]


def share_of_tvm(function: Callable[[], object]) -> float:
    """Return which part of the operators' time is spent in TVM's groups; what a group leaves to PyTorch is not."""
    with torch.autograd.profiler.profile(use_kineto=False) as profile:
        function()
    times = [(event.name, event.self_cpu_time_total) for event in profile.function_events]
    return sum(time for name, time in times if name.startswith("tvm::")) / sum(time for _, time in times)


@torch.no_grad()
def measure(model: Model, batch: int, iterations: int, rounds: int) -> Result:
    """Compile and time one network; the caller has chosen the number of threads."""
    torch.manual_seed(0)
    network = model.build().eval()
    x = model.make_input(batch)
    expected = network(x)
    with torch_tvm.disabled():
        jit = trace(network, x)
        for _ in range(3):  # profiled, optimised, warm
            jit(x)
    torch_tvm.reset_stats()
    with torch_tvm.enabled():
        tvm = trace(network, x)
        start = time.perf_counter()
        with progress("compiling"):
            y = tvm(x)
        first_call = time.perf_counter() - start
        for _ in range(GUARDED_CALLS):
            tvm(x)
        share = share_of_tvm(lambda: tvm(x))
        jit_time, tvm_time = median_times([lambda: jit(x), lambda: tvm(x)], iterations, rounds)
        stats = torch_tvm.stats()
    return Result(
        parameters=sum(p.numel() for p in network.parameters()),
        first_call=first_call,
        jit_time=jit_time,
        tvm_time=tvm_time,
        share=share,
        difference=((y - expected).abs().max() / expected.abs().max()).item(),
        groups=stats["groups"],
        plans=stats["compiled"],
        fallbacks=stats["fallbacks"],
    )
