"""ResNet-18, or another network by ``--model``: TVM's speed against that of PyTorch's JIT alone.

Run as ``python benchmarks/resnet18.py``; ``make demo`` does.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a script, as the README does

from benchmarks.command_line import pin, positive
from benchmarks.machine import processor

if TYPE_CHECKING:
    from benchmarks.measure import Result

TOLERANCE = 1e-5  # of the largest output


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18", help="see benchmarks/models (default: resnet18)")
    parser.add_argument("--batch", type=positive, default=1, help="images or sentences in a batch")
    parser.add_argument(
        "--threads", type=positive, default=len(os.sched_getaffinity(0)), help="default: all CPUs"
    )
    parser.add_argument("--iters", type=positive, default=20, help="calls in each round")
    parser.add_argument("--rounds", type=positive, default=7, help="rounds; the median counts")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="append time and figures to FILE")
    return parser.parse_args()


def banner(options: argparse.Namespace) -> None:
    """Print versions, target and threads."""
    import torch
    import tvm

    import torch_tvm
    from torch_tvm.kernels import host_target

    target = host_target()
    print(
        f"torch_tvm {torch_tvm.__version__}, torch {torch.__version__}, tvm {tvm.__version__}, "
        f"Python {platform.python_version()}"
    )
    print(f"target: {target.isa}, {target.tvm}")
    print(
        f"machine: {processor()}, {os.cpu_count()} CPUs; {options.threads} threads on CPUs "
        f"{os.environ['GOMP_CPU_AFFINITY']}"
    )


def report(options: argparse.Namespace, result: Result) -> None:
    """Print the figures."""
    print(f"{options.model}: {result.parameters:,} parameters, batch {options.batch}")
    print(f"first call      {result.first_call:8.2f} s ({result.groups} groups, {result.plans} plans)")
    print(f"PyTorch's JIT   {1 / result.jit_time:8.2f} iterations/s ({result.jit_time * 1e3:.2f} ms)")
    print(f"torch_tvm       {1 / result.tvm_time:8.2f} iterations/s ({result.tvm_time * 1e3:.2f} ms)")
    print(f"ratio           {result.ratio:8.2f}")
    print(f"run by TVM      {result.share:8.1%} of the operators' time, {result.fallbacks} fallbacks")
    print(f"difference      {result.difference:8.1e} of eager's largest output")


def append_csv(options: argparse.Namespace, result: Result) -> None:
    """Append one line to a table, with a heading if it is the first."""
    import torch
    import tvm

    row = {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "model": options.model,
        "batch": options.batch,
        "threads": options.threads,
        "jit_iterations_per_s": f"{1 / result.jit_time:.3f}",
        "tvm_iterations_per_s": f"{1 / result.tvm_time:.3f}",
        "ratio": f"{result.ratio:.3f}",
        "share": f"{result.share:.4f}",
        "difference": f"{result.difference:.2e}",
        "first_call_s": f"{result.first_call:.2f}",
        "groups": result.groups,
        "fallbacks": result.fallbacks,
        "torch": torch.__version__,
        "tvm": tvm.__version__,
        "cpu": processor(),
    }
    is_new = not options.csv.exists()
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    with options.csv.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def main() -> int:
    """Run the benchmark; 0 if TVM ran and agreed with eager PyTorch."""
    options = arguments()
    pin(options.threads, "benchmarks.resnet18")
    import torch

    from benchmarks.measure import measure
    from benchmarks.models import MODELS

    if options.model not in MODELS:
        print(f"no model {options.model!r}; there are {', '.join(MODELS)}", file=sys.stderr)
        return 2
    torch.set_num_threads(options.threads)
    banner(options)
    result = measure(MODELS[options.model], options.batch, options.iters, options.rounds)
    report(options, result)
    if options.csv is not None:
        append_csv(options, result)
    if result.difference > TOLERANCE or result.share == 0:
        print(
            f"FAILED: the difference must not exceed {TOLERANCE:.0e}, and TVM must run a part",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
