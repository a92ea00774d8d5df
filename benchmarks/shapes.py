"""Models that are fed many sizes: compilations, and the time of all calls against that of PyTorch's JIT alone.

Run as ``python benchmarks/shapes.py``. Each size comes once, in random order; times include what each runtime does at the
first call with a size, and torch_tvm's compilations are named apart.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a script

from benchmarks.command_line import pin, positive

if TYPE_CHECKING:
    from torch import Tensor, nn

TOLERANCE = 1e-5  # of the largest output


@dataclass(frozen=True)
class Case:
    """A model, the sizes that it is fed, and an input of a size."""

    build: Callable[[], nn.Module]
    make_input: Callable[[int], Tensor]
    least: int
    most: int
    count: int


def cases() -> dict[str, Case]:
    """Return what is measured, by name."""
    import torch

    from benchmarks.models import BasicBlock, ResNet, bert

    def tokens(length: int) -> Tensor:
        return torch.randint(0, 30522, (1, length))

    return {
        "bert": Case(bert, tokens, 4, 400, 200),
        "bert_small": Case(
            lambda: bert(hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024),
            tokens,
            4,
            400,
            200,
        ),
        "lstm": Case(lambda: torch.nn.LSTM(64, 128), lambda length: torch.randn(length, 4, 64), 2, 300, 200),
        "resnet18": Case(
            lambda: ResNet(BasicBlock, (2, 2, 2, 2)), lambda size: torch.rand(1, 3, size, size), 96, 320, 50
        ),
    }


def run(model: Any, inputs: Sequence[Tensor]) -> tuple[list[Any], float]:
    """Return the results and the seconds that all calls took."""
    results = []
    begin = time.perf_counter()
    for x in inputs:
        result = model(x)
        results.append(result[0] if isinstance(result, tuple) else result)
    return results, time.perf_counter() - begin


def measure(name: str, case: Case) -> bool:
    """Print the figures of one model; True if results agree."""
    import torch

    import torch_tvm

    torch.manual_seed(0)
    model = case.build().eval()
    sizes = random.Random(0).sample(range(case.least, case.most + 1), case.count)
    inputs = [case.make_input(size) for size in sizes]

    def traced() -> Any:
        made = torch.jit.trace(model, inputs[0], check_trace=False)
        return torch.jit.optimize_for_inference(torch.jit.freeze(made))

    with torch.no_grad():
        with torch_tvm.disabled():
            expected, jit_seconds = run(traced(), inputs)
        torch_tvm.reset_stats()
        with torch_tvm.enabled():
            own = torch.jit.freeze(torch.jit.trace(model, inputs[0], check_trace=False))
            results, tvm_seconds = run(own, inputs)
            stats = torch_tvm.stats()
            _, again = run(own, inputs)
    difference = max(
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(results, expected, strict=True)
    )
    compile_seconds = stats["compile_seconds"]
    print(
        f"{name:12} {case.count:4} sizes  {stats['compiled']:3} compilations {compile_seconds:6.1f} s"
        f"  JIT {jit_seconds:6.1f} s  torch_tvm {tvm_seconds - compile_seconds:6.1f} s, again {again:6.1f} s"
        f"  fallbacks {stats['fallbacks']:3}  difference {difference:.1e}"
    )
    for plan in stats["symbolic"]["plans"]:
        print(f"{'':12} one plan for {plan['bounds']}, {plan['values']} values")
    for reason in stats["symbolic"]["refusals"]:
        print(f"{'':12} {reason}")
    return difference <= TOLERANCE


def main() -> int:
    """Run the benchmark; 0 if torch_tvm agrees with PyTorch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="bert, bert_small, lstm, resnet18 (default: all)")
    parser.add_argument("--threads", type=positive, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    pin(options.threads, "benchmarks.shapes")
    import torch

    torch.set_num_threads(options.threads)
    known = cases()
    unknown = [name for name in options.models if name not in known]
    if unknown:
        print(f"no model {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    agreed = [measure(name, known[name]) for name in options.models or known]
    return 0 if all(agreed) else 1


if __name__ == "__main__":
    sys.exit(main())
