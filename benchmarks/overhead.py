"""What a call of a group costs beside its kernels: ``a * b + c`` on few numbers against a module that does nothing.

Run as ``python benchmarks/overhead.py``. Functions are timed in turns; medians over the rounds.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a script

from benchmarks.command_line import pin, positive


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=positive, default=1000, help="floats in each tensor (default: 1000)")
    parser.add_argument("--iters", type=positive, default=5000, help="calls in each round")
    parser.add_argument("--rounds", type=positive, default=21, help="rounds; the median counts")
    return parser.parse_args()


def main() -> None:
    """Time and print."""
    options = arguments()
    pin(len(os.sched_getaffinity(0)), "benchmarks.overhead")
    import torch
    from torch import Tensor, nn

    import torch_tvm
    from benchmarks.measure import median_times, trace

    class Empty(nn.Module):
        """Gives its argument back."""

        def forward(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
            return a

    class MultiplyAdd(nn.Module):
        """One element-wise kernel."""

        def forward(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
            return a * b + c

    inputs = tuple(torch.randn(options.size) for _ in range(3))
    with torch.no_grad():
        with torch_tvm.disabled():
            jit = trace(MultiplyAdd(), inputs)
            jit(*inputs), jit(*inputs)
        functions = {
            "empty module": trace(Empty(), inputs),
            "PyTorch's JIT": jit,
            "torch_tvm": trace(MultiplyAdd(), inputs),
        }
        for function in functions.values():
            function(*inputs)
        calls = [partial(function, *inputs) for function in functions.values()]
        times = median_times(calls, options.iters, options.rounds)
    if torch_tvm.stats()["fallbacks"] or not torch_tvm.stats()["compiled"]:
        raise SystemExit(f"the group was not compiled: {torch_tvm.stats()}")
    for name, time in zip(functions, times, strict=True):
        print(f"{name:<14}{time * 1e6:6.2f} us   {(time - times[0]) * 1e6:+6.2f} us beside the empty module")


if __name__ == "__main__":
    main()
