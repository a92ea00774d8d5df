"""How much of the architectures of ``transformers`` torch_tvm compiles, and whether the results are eager PyTorch's.

Run as ``python benchmarks/coverage.py``: each architecture in a process of its own, traced under ``torch.no_grad()``, called with
other numbers than it was traced with. Writes benchmarks/results/coverage.json and docs/coverage.md.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # started as a script, as the README does

from benchmarks.command_line import positive  # noqa: E402

TOLERANCE = 1e-4  # of the largest element of an output, on which eager PyTorch and its JIT agree to 1e-5
_SECONDS = 300  # that one architecture may take
_RESULTS = ROOT / "benchmarks" / "results" / "coverage.json"
_TABLE = ROOT / "docs" / "coverage.md"


@dataclass
class Coverage:
    """What one architecture came to.

    Attributes
    ----------
    outcome
        "equal", "wrong" (the difference is larger than `TOLERANCE`), "set aside" (PyTorch's own JIT does not give eager's
        results), or "failed": raised, crashed or hung.
    groups
        That ran.
    nodes, flops, time
        Share that TVM's plans take: of operators in the optimised graph, of floating-point operations of matrix products and
        convolutions, and of the operators' time.
    difference
        Largest, relative to the largest element of the output.
    refusals
        Reasons for which something ran in PyTorch, with their counts.
    """

    model: str
    family: str
    outcome: str
    groups: int = 0
    nodes: float = 0.0
    flops: float = 0.0
    flop_count: float = 0.0
    time: float = 0.0
    difference: float = 0.0
    refusals: dict[str, int] = field(default_factory=dict)
    message: str = ""


# -- One architecture, in a process of its own ---------------------------------------------------------


def _difference(results: Any, expected: Any) -> float:
    import torch

    worst = 0.0
    for got, want in zip(results, expected, strict=True):
        if got.dtype != want.dtype or got.shape != want.shape or got.stride() != want.stride():
            return float("inf")
        if not want.is_floating_point():
            worst = max(worst, 0.0 if torch.equal(got, want) else float("inf"))
            continue
        if not torch.equal(got.isfinite(), want.isfinite()):
            return float("inf")
        finite = want.isfinite()
        scale = want[finite].abs().max().item() if finite.any() else 1.0
        error = (got[finite] - want[finite]).abs().max().item() if finite.any() else 0.0
        worst = max(worst, error / max(scale, 1e-30))
    return worst


def _flops(events: Any) -> float:
    """Count the floating-point operations of what PyTorch ran."""
    from torch.utils.flop_counter import baddbmm_flop, bmm_flop, conv_flop_count, mm_flop, sdpa_flop_count

    total = 0.0
    for event in events:
        shapes = event.input_shapes
        if event.name in ("aten::mm", "aten::addmm"):
            total += mm_flop(*shapes[:2] if event.name == "aten::mm" else shapes[1:3])
        elif event.name == "aten::bmm":
            total += bmm_flop(*shapes[:2])
        elif event.name == "aten::baddbmm":
            total += baddbmm_flop(*shapes[:3])
        elif event.name == "aten::convolution":
            total += conv_flop_count(shapes[0], shapes[1], _convolved(event), event.concrete_inputs[6])
        elif event.name == "aten::_scaled_dot_product_flash_attention_for_cpu":
            total += sdpa_flop_count(*shapes[:3])
    return total


def _convolved(event: Any) -> list[int]:
    """Sizes of the result of a convolution that was profiled."""
    import torch

    data, weight = (torch.empty(shape, device="meta") for shape in event.input_shapes[:2])
    result = torch.ops.aten.convolution(data, weight, None, *event.concrete_inputs[3:9])
    return list(result.shape)


def _profile(function: Any) -> Any:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        function()
    return found.events()


def _share_of_nodes(graph: Any) -> float:
    """Share of the operators that stand in groups."""

    def count(block: Any) -> int:
        plain = ("prim::", "tvm::")
        own = [node for node in block.nodes() if not node.kind().startswith(plain)]
        return len(own) + sum(count(inner) for node in block.nodes() for inner in node.blocks())

    def grouped(block: Any) -> int:
        inside = 0
        for node in block.nodes():
            inside += sum(grouped(inner) for inner in node.blocks())
            if node.hasAttribute("Subgraph"):
                inside += count(node.g("Subgraph"))
        return inside

    held = grouped(graph)
    return held / max(held + count(graph), 1)


def cover(model: str) -> Coverage:
    """Run one architecture in this process."""
    import warnings

    import torch
    import transformers

    import torch_tvm
    from benchmarks.models.architectures import architectures

    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    (architecture,) = (each for each in architectures() if each.model == model)
    result = Coverage(model, architecture.family, "equal")
    torch.manual_seed(0)
    network = architecture.build()
    traced_with, x = (tuple(architecture.inputs().values()) for _ in range(2))
    with torch.no_grad():
        expected = network(*x)
        traced = torch.jit.trace(network, traced_with, check_trace=False, strict=False)
        with torch_tvm.disabled():
            plain = torch.jit.trace(network, traced_with, check_trace=False, strict=False)
            if _difference(plain(*x), expected) > TOLERANCE / 10:
                result.outcome = "set aside"
                return result
        torch_tvm.reset_stats()
        with torch_tvm.enabled(guard=False):
            for _ in range(3):
                result.difference = max(result.difference, _difference(traced(*x), expected))
            stats = torch_tvm.stats()
            events = _profile(lambda: traced(*x))
            graph = torch.jit.last_executed_optimized_graph()
        result.flop_count = _flops(_profile(lambda: network(*x)))
    if result.difference > TOLERANCE:
        result.outcome = "wrong"
    packages = f"{Path(torch.__file__).parents[1]}{os.sep}"
    result.groups = stats["groups"]
    result.refusals = {
        reason.replace(packages, ""): count for reason, count in stats["fallback_reasons"].items()
    }
    result.nodes = _share_of_nodes(graph)
    result.flops = 1.0 - _flops(events) / max(result.flop_count, 1.0)
    times = [(event.name.startswith("tvm::"), event.self_cpu_time_total) for event in events]
    result.time = sum(time for ours, time in times if ours) / max(sum(time for _, time in times), 1e-9)
    return result


# -- All of them ------------------------------------------------------------------------------------


def _in_process(model: str, family: str) -> Coverage:
    command = [sys.executable, __file__, "--one", model]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    try:
        run = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Coverage(model, family, "failed", message=f"took more than {_SECONDS} s")
    if run.returncode:
        lines = run.stderr.strip().splitlines() or ["no message"]
        return Coverage(model, family, "failed", message=f"exit status {run.returncode}: {lines[-1]}")
    return Coverage(**json.loads(run.stdout.strip().splitlines()[-1]))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _table(found: list[Coverage]) -> str:
    counted = [each for each in found if each.outcome != "set aside"]
    total = sum(each.flop_count for each in counted) or 1.0
    compiled = sum(each.flops * each.flop_count for each in counted) / total
    refusals: Counter[str] = Counter()
    for each in counted:
        refusals.update(each.refusals)
    outcomes = Counter(each.outcome for each in found)
    lines = [
        "# Architectures of transformers",
        "",
        "Made by `python benchmarks/coverage.py`: small configurations with random weights, traced under `torch.no_grad()` and",
        "called with other numbers than they were traced with. Nodes, FLOPs (of matrix products, convolutions and attention)",
        "and time: the share that TVM's plans take. Differences from eager PyTorch are relative to the largest element of an",
        f"output; more than {TOLERANCE:g}, or another dtype, shape or stride, is wrong.",
        "",
        ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        + f"; {sum(each.groups == 1 for each in counted)} of {len(counted)} in one group, at most "
        f"{max((each.groups for each in counted), default=0)}; {_percent(compiled)} of all FLOPs compiled.",
        "",
        "| architecture | family | outcome | groups | nodes | FLOPs | time | difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        lines.append(
            f"| {each.model} | {each.family} | {each.outcome} | {each.groups} | {_percent(each.nodes)} | "
            f"{_percent(each.flops)} | {_percent(each.time)} | {each.difference:.1e} |"
        )
    lines += ["", "## What ran in PyTorch", "", "| reason | count |", "|---|---|"]
    lines += [f"| {reason.replace('|', '/')} | {count} |" for reason, count in refusals.most_common()]
    lines += [f"| {each.model}: {each.message} | 1 |" for each in found if each.message]
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", nargs="+", default=[], metavar="MODEL", help="default: all; then nothing is written"
    )
    parser.add_argument("--processes", type=positive, default=os.cpu_count() or 1)
    parser.add_argument("--one", metavar="MODEL", help="run one here, and print what came of it as JSON")
    return parser.parse_args()


def main() -> int:
    """Run the command line."""
    from benchmarks.models.architectures import architectures

    arguments = _arguments()
    if arguments.one:
        print(json.dumps(asdict(cover(arguments.one))))
        return 0
    chosen = [each for each in architectures() if not arguments.models or each.model in arguments.models]
    found = []
    with concurrent.futures.ThreadPoolExecutor(arguments.processes) as pool:
        for each in pool.map(lambda a: _in_process(a.model, a.family), chosen):
            found.append(each)
            print(
                f"{each.model}: {each.outcome}, {each.groups} groups, FLOPs {_percent(each.flops)}, "
                f"difference {each.difference:.1e} {each.refusals or ''} {each.message}",
                flush=True,
            )
    if not arguments.models:
        _RESULTS.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")
        _TABLE.write_text(_table(found))
    return int(any(each.outcome in ("wrong", "failed") for each in found))


if __name__ == "__main__":
    sys.exit(main())
