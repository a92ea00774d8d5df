"""Where torch_tvm's time goes: the kernels of a network's plan, with what each could do at most.

A kernel's limit is the larger of two times: its arithmetic at the speed of multiply-adds in registers, and its bytes - weights
read from memory as large as all that a call touches, activations from memory as large as the plan's arena. Arithmetic
counts as if every convolution were direct: what Winograd's algorithm saves shows as a share above 100 %.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import torch_tvm
from benchmarks.compare import limits
from benchmarks.compare.runtimes import trace
from torch_tvm import compiler, runtime
from torch_tvm.kernels.target import parse_target

_WARM_CALLS = 10


@contextmanager
def _collected_plans() -> Iterator[list[runtime.Plan]]:
    """Give the plans that are compiled within the block."""
    plans: list[runtime.Plan] = []
    compile_function = compiler.compile

    def collect(*arguments: Any) -> runtime.Plan:
        plans.append(compile_function(*arguments))
        return plans[-1]

    compiler.compile = collect
    try:
        yield plans
    finally:
        compiler.compile = compile_function


def _moved(plan: runtime.Plan, step: runtime.Step) -> dict[str, int]:
    """Bytes of a launch's arguments: "weights" and "activations"."""
    moved = {"weights": 0, "activations": 0}
    for index in dict.fromkeys(step.args):
        buffer = plan.buffers[index]
        kind = "activations" if buffer.kind in ("arena", "input", "output") else "weights"
        moved[kind] += torch.Size(buffer.shape).numel() * max(1, buffer.dtype.bits // 8)
    return moved


def _times(call: Callable[[], object], calls: int) -> dict[str, float]:
    """Seconds of each kernel in a call, over all of its launches: medians over calls."""
    samples: dict[str, list[float]] = defaultdict(list)
    for _ in range(calls):
        torch_tvm.reset_stats()
        call()
        seconds: Counter[str] = Counter()
        for kernels in torch_tvm.stats()["kernels"].values():
            for name, time in kernels.items():
                seconds[name] += time["seconds"]
        for name, value in seconds.items():
            samples[name].append(value)
    return {name: statistics.median(values) for name, values in samples.items()}


def measure(
    network: nn.Module, x: Tensor, threads: int, calls: int, device: str | None = None
) -> dict[str, Any]:
    """Run a network on torch_tvm with every kernel timed, generated for `device` (default: this machine's CPU).

    Returns
    -------
    dict
        ``peak_gflops``, ``weights_gbs`` and ``activations_gbs`` (bandwidths), ``milliseconds`` in kernels, and the
        ``kernels``, the longest first: name, workload, launches, microseconds, gflops, megabytes, share_of_peak,
        share_of_limit; times and bytes are sums over a kernel's launches.
    """
    with (
        torch_tvm.enabled(debug_runtime=True, guard=False, compile_process=False, device=device),
        _collected_plans() as plans,
    ):
        traced = trace(network, x)
        for _ in range(_WARM_CALLS):
            traced(x)
        if len(plans) != 1:
            raise ValueError(f"expected the network to be one plan, got {len(plans)}")
        seconds = _times(lambda: traced(x), calls)
    plan = plans[0]
    target = parse_target(device)
    peak = limits.peak_flops(target, threads)
    touched = plan.packed_bytes + plan.arena_bytes
    bandwidths = {
        "weights": limits.read_bandwidth(target, threads, touched),
        "activations": limits.read_bandwidth(target, threads, plan.arena_bytes),
    }
    rows = _rows(plan, seconds, peak, bandwidths)
    return {
        "milliseconds": sum(seconds.values()) * 1e3,
        "peak_gflops": peak / 1e9,
        "weights_gbs": bandwidths["weights"] / 1e9,
        "activations_gbs": bandwidths["activations"] / 1e9,
        "kernels": rows,
    }


def _rows(
    plan: runtime.Plan, seconds: Mapping[str, float], peak: float, bandwidths: Mapping[str, float]
) -> list[dict[str, Any]]:
    launches = Counter(step.name for step in plan.steps)
    moved: dict[str, Counter[str]] = defaultdict(Counter)
    for step in plan.steps:
        moved[step.name].update(_moved(plan, step))
    rows = []
    for info in plan.info["kernels"]:
        name = str(info["name"])
        if name not in seconds:
            continue
        count, time = launches[name], seconds[name]
        flops = float(info["flops"]) * count
        in_memory = sum(size / bandwidths[kind] for kind, size in moved[name].items())
        rows.append(
            {
                "name": name,
                "workload": str(info["workload"]),
                "launches": count,
                "microseconds": time * 1e6,
                "gflops": flops / time / 1e9,
                "megabytes": sum(moved[name].values()) / 1e6,
                "share_of_peak": flops / time / peak,
                "share_of_limit": max(flops / peak, in_memory) / time,
            }
        )
    return sorted(rows, key=lambda row: -row["microseconds"])


def text(model: str, found: Mapping[str, Any], rows: int | None = None) -> str:
    """Write the kernels as a table, the longest first."""
    lines = [
        f"{model}: {found['milliseconds']:.2f} ms in kernels; peak {found['peak_gflops']:.0f} GFLOPS, weights at"
        f" {found['weights_gbs']:.0f} GB/s, activations at {found['activations_gbs']:.0f} GB/s",
        f"{'us':>9} {'share':>6} {'runs':>4} {'GFLOPS':>7} {'of peak':>7} {'MB':>7} {'of limit':>8}  kernel",
    ]
    kernels: Sequence[Mapping[str, Any]] = found["kernels"]
    for row in kernels[:rows]:
        lines.append(
            f"{row['microseconds']:9.1f} {row['microseconds'] / found['milliseconds'] / 1e3:6.1%}"
            f" {row['launches']:4d} {row['gflops']:7.1f} {row['share_of_peak']:7.1%} {row['megabytes']:7.2f}"
            f" {row['share_of_limit']:8.1%}  {row['name']}: {_short(row['workload'])}"
        )
    return "\n".join(lines)


# What a workload's text says though it is as usual.
_USUAL = re.compile(
    r"(batch=1|stride=\(1, 1\)|padding=\(0, 0, 0, 0\)|dilation=\(1, 1\)|groups=1|dtype='float32'|input_layout='NHWC')(, )?"
)


def _short(workload: str, length: int = 160) -> str:
    """Return a workload's text without its expression and what is as usual."""
    workload = _USUAL.sub("", re.sub(r",? Expression\(.*", "", workload).removeprefix("("))
    return workload if len(workload) <= length else workload[: length - 3] + "..."
