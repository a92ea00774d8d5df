"""Quantised networks: torch_tvm against PyTorch's JIT on the same network, and against itself in float32.

Run as ``python -m benchmarks.quantised``. BERT has its linear layers quantised dynamically, ResNet-18 is quantised
statically; both by PyTorch's ``torch.ao.quantization``. The three are timed in turns; medians over rounds count.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.command_line import pin, positive

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """A network in float32, and quantised, an input, and what one quantum of the quantised result is, if it has any."""

    plain: nn.Module
    quantised: nn.Module
    input: Tensor
    quantum: float | None


def _bert() -> Case:
    import torch

    from benchmarks.models import MODELS
    from benchmarks.models.quantised import quantise_dynamically

    torch.manual_seed(0)
    network = MODELS["bert"].build().eval()
    return Case(network, quantise_dynamically(network), MODELS["bert"].make_input(1), None)


def _resnet18() -> Case:
    import torch

    from benchmarks.models.quantised import QuantisableResNet, quantise_statically

    torch.manual_seed(0)
    network = QuantisableResNet((2, 2, 2, 2)).eval()
    quantised = quantise_statically(network, [torch.rand(2, 3, 224, 224) for _ in range(4)])
    scale = quantised.get_submodule("fc").scale
    assert isinstance(scale, float)
    return Case(network, quantised, torch.rand(1, 3, 224, 224), scale)


CASES: dict[str, Callable[[], Case]] = {"bert": _bert, "resnet18": _resnet18}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "models", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)} (default: all)"
    )
    parser.add_argument(
        "--threads", type=positive, default=len(os.sched_getaffinity(0)), help="default: all CPUs"
    )
    parser.add_argument("--iters", type=positive, default=5, help="calls in each round")
    parser.add_argument("--rounds", type=positive, default=9, help="rounds; the median counts")
    options = parser.parse_args()
    for name in options.models:
        if name not in CASES:
            parser.error(f"no model {name!r}; there are {', '.join(CASES)}")
    return options


def _difference(got: Tensor, expected: Tensor, quantum: float | None) -> str:
    distance = (got - expected).abs()
    if quantum is None:
        return (
            f"{distance.max():.2e} at most, {distance.mean():.2e} on average, of {expected.abs().max():.2f}"
        )
    quanta = (distance / quantum).round()
    return f"{int(quanta.max())} quanta at most, {(quanta > 0).float().mean():.1%} of the results differ"


def _layers_alone(case: Case) -> str:
    """Compare each dynamically quantised layer alone, given what PyTorch's network gives it.

    In the whole network an activation that rounds differently in its last bit may be quantised to the neighbour of what
    PyTorch quantises it to, and from there on the two differ by more.
    """
    import torch

    import torch_tvm
    from benchmarks.measure import trace

    seen: list[tuple[Any, Tensor]] = []
    layers = [m for m in case.quantised.modules() if isinstance(m, torch.ao.nn.quantized.dynamic.Linear)]
    hooks = [m.register_forward_hook(lambda m, args, _: seen.append((m, args[0]))) for m in layers]
    with torch_tvm.disabled():
        case.quantised(case.input)
    for hook in hooks:
        hook.remove()
    most, differing = 0.0, 0
    for layer, x in seen:
        with torch_tvm.disabled():
            expected = layer(x)
        with torch_tvm.enabled(min_group_size=1, strict=True):
            got = trace(layer, x)(x)
        step = (x.max().clamp(min=0) - x.min().clamp(max=0)) / 255
        weight = layer.weight()
        per_row = weight.qscheme() in (torch.per_channel_affine, torch.per_channel_symmetric)
        scales = weight.q_per_channel_scales() if per_row else torch.tensor(weight.q_scale())
        quanta = ((got - expected).abs() / (step * scales)).max()
        most, differing = max(most, float(quanta)), differing + int(quanta > 0)
    return f"{most:.1e} quanta at most; {len(seen) - differing} of {len(seen)} are bit for bit equal"


def _measure(name: str, options: argparse.Namespace) -> None:

    import torch_tvm
    from benchmarks.measure import GUARDED_CALLS, median_times, trace

    case = CASES[name]()
    x = case.input
    with torch_tvm.disabled():
        expected, plain = case.quantised(x), case.plain(x)
        jit = trace(case.quantised, x)
        for _ in range(3):
            jit(x)
    torch_tvm.reset_stats()
    with torch_tvm.enabled():
        ours, in_floats = trace(case.quantised, x), trace(case.plain, x)
        start = time.perf_counter()
        got = ours(x)
        first_call = time.perf_counter() - start
        for _ in range(GUARDED_CALLS):
            ours(x), in_floats(x)
        calls = [lambda: jit(x), lambda: ours(x), lambda: in_floats(x)]
        theirs, own, floats = median_times(calls, options.iters, options.rounds)
        fallbacks = torch_tvm.stats()["fallbacks"]
    print(f"{name}: first call {first_call:.1f} s, {fallbacks} fallbacks")
    print(
        f"  PyTorch's JIT {theirs * 1e3:.2f} ms, torch_tvm {own * 1e3:.2f} ms, in float32 {floats * 1e3:.2f} ms"
    )
    print(f"  ratio {theirs / own:.2f}, to float32 {floats / own:.2f}")
    print(f"  from PyTorch's quantised result: {_difference(got, expected, case.quantum)}")
    print(f"  of that from float32:            {_difference(expected, plain, case.quantum)}")
    if case.quantum is None:
        print(f"  each quantised layer alone:      {_layers_alone(case)}")


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    pin(options.threads, "benchmarks.quantised")
    import torch

    torch.set_num_threads(options.threads)
    with torch.no_grad():
        for name in options.models:
            _measure(name, options)


if __name__ == "__main__":
    main()
