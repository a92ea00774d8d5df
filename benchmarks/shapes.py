"""Models that are fed many sizes: compilations, and what each call takes with PyTorch's JIT and with torch_tvm.

Run as ``python benchmarks/shapes.py``. Sizes come in random order. Compiling is counted apart, and nothing else. Results
are added to a JSON file.

* Once: each runtime has processes of its own, in turns, that call the model once with each size.
* In turns: all runtimes are in one process, and are called in turns with each size, for every size in another order. Each
  runs the size before it once more ahead of the call that is timed, so that it finds its own weights in the caches, as a
  user's program does; those calls are not timed. Twice: the first time a size is new, the second time it is not.
"""

from __future__ import annotations

import argparse
import datetime
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a script

from benchmarks import machine
from benchmarks.command_line import pin, positive
from benchmarks.compare import results
from benchmarks.compare.results import OURS, rounded

if TYPE_CHECKING:
    from torch import Tensor, nn

TOLERANCE = 1e-5  # of the largest output
RESULTS = Path(__file__).resolve().parent / "results"
PASSES = ("first", "again")  # calls with a size
RUNTIMES = ("jit", "optimize_for_inference", OURS)


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

    small: dict[str, Any] = {
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
    }
    return {
        "bert": Case(bert, tokens, 4, 400, 200),
        "bert_2_layers": Case(lambda: bert(num_hidden_layers=2), tokens, 4, 400, 200),
        "bert_small": Case(lambda: bert(**small), tokens, 4, 400, 200),
        "lstm": Case(lambda: torch.nn.LSTM(64, 128), lambda length: torch.randn(length, 4, 64), 2, 300, 200),
        "resnet18": Case(
            lambda: ResNet(BasicBlock, (2, 2, 2, 2)), lambda size: torch.rand(1, 3, size, size), 96, 320, 50
        ),
    }


@dataclass
class Runtime:
    """A traced model, what switches on what runs it, and the seconds that its calls took."""

    model: Callable[[Tensor], Any]
    scope: Callable[[], AbstractContextManager[object]]
    seconds: dict[str, list[float]] = field(default_factory=lambda: {each: [] for each in PASSES})
    compiling: float = 0
    compiled: list[int] = field(default_factory=list)  # calls that compiled a plan, of the first pass

    def timed(self, before: Tensor | None, x: Tensor, number: str) -> Tensor:
        """Run the model with two inputs; note the time of the second without that of compiling a plan."""
        with self.scope():
            if before is not None:
                self.model(before)
            then = _compiled()
            begin = time.perf_counter()
            result = self.model(x)
            spent = time.perf_counter() - begin
        plans, compiling = (new - old for new, old in zip(_compiled(), then, strict=True))
        if plans == 0:  # fitting a plan to another size counts as part of the call
            compiling = 0.0
        else:
            self.compiled.append(len(self.seconds[number]))
        self.compiling += compiling
        self.seconds[number].append(spent - compiling)
        return result[0] if isinstance(result, tuple) else result


def _compiled() -> tuple[int, float]:
    import torch_tvm

    stats = torch_tvm.stats()
    return stats["compiled"] + len(stats["symbolic"]["refusals"]), stats["compile_seconds"]


def runtime(name: str, model: nn.Module, example: Tensor) -> Runtime:
    """Trace a model for PyTorch's JIT, as its users freeze and optimise it, or for torch_tvm."""
    import torch

    import torch_tvm

    with torch_tvm.disabled():
        traced = torch.jit.freeze(torch.jit.trace(model, example, check_trace=False))
        if name == "optimize_for_inference":
            traced = torch.jit.optimize_for_inference(traced)
    return Runtime(traced, torch_tvm.enabled if name == OURS else torch_tvm.disabled)


def run(measured: Sequence[Runtime], inputs: Sequence[Tensor], number: str) -> float:
    """Call all runtimes with all inputs; return the largest difference of results, as part of the largest result."""
    difference = 0.0
    order = list(measured)
    for position, x in enumerate(inputs):
        found: dict[int, Tensor] = {}
        for runtime in order:
            found[id(runtime)] = runtime.timed(inputs[position - 1] if position else None, x, number)
        order = [*order[1:], order[0]]
        expected, ours = found[id(measured[0])], found[id(measured[-1])]
        difference = max(difference, float((ours - expected).abs().max() / expected.abs().max()))
    return difference


def summary(measured: dict[str, Runtime]) -> dict[str, Any]:
    """Return seconds of all calls, and how many times as fast torch_tvm is, by pass.

    Calls that compile also pack weights and let the guard time PyTorch, so that the sums of all others are compared too.
    """
    found: dict[str, Any] = {}
    for number in PASSES:
        ours = measured[OURS].seconds[number]
        others = [i for i in range(len(ours)) if number == "again" or i not in measured[OURS].compiled]
        found[number] = {
            name: {"seconds": rounded(sum(each.seconds[number]))} for name, each in measured.items()
        }
        for name, each in measured.items():
            if name == OURS:
                continue
            ratios = sorted(a / b for a, b in zip(each.seconds[number], ours, strict=True))
            without = sum(each.seconds[number][i] for i in others) / sum(ours[i] for i in others)
            found[number][name] |= {
                "ratio_of_sums": rounded(sum(each.seconds[number]) / sum(ours), 3),
                "ratio_without_compiling_calls": rounded(without, 3),
                "median_ratio": rounded(statistics.median(ratios), 3),
                "tenth_ratio": rounded(ratios[len(ratios) // 10], 3),  # nine in ten sizes have a better one
            }
    return found


def model_and_inputs(case: Case) -> tuple[nn.Module, list[Tensor]]:
    """Return a model and what it is called with, the same in every process."""
    import torch

    torch.manual_seed(0)
    model = case.build().eval()
    sizes = random.Random(0).sample(range(case.least, case.most + 1), case.count)
    return model, [case.make_input(size) for size in sizes]


def call_once(case: Case, name: str) -> float:
    """Return the seconds that a runtime takes for all sizes, once each, without those of compiling."""
    import torch

    model, inputs = model_and_inputs(case)
    with torch.no_grad():
        alone = runtime(name, model, inputs[0])
        for x in inputs:
            alone.timed(None, x, PASSES[0])
    return sum(alone.seconds[PASSES[0]])


@contextmanager
def unbound(cpus: set[int]) -> Iterator[None]:
    """Let this thread, and so the processes that it starts, use these CPUs: torch has bound it to the first of them."""
    bound = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, bound)


def once(name: str, threads: int, rounds: int) -> dict[str, Any]:
    """Let each runtime call a model in processes of its own; return seconds, and how many times as fast torch_tvm is."""
    seconds: dict[str, list[float]] = {each: [] for each in RUNTIMES}
    for _ in range(rounds):
        for each, found in seconds.items():
            command = [sys.executable, __file__, name, "--threads", str(threads), "--alone", each]
            found.append(float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
    entries = {}
    for each, found in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(found, seconds[OURS], strict=True)]
        entries[each] = {"seconds": rounded(statistics.median(found))}
        if each != OURS:
            entries[each]["ratio_of_sums"] = rounded(statistics.median(ratios), 3)
    return entries


def measure(case: Case) -> dict[str, Any]:
    """Measure one model with all runtimes in turns."""
    import torch

    import torch_tvm

    model, inputs = model_and_inputs(case)
    with torch.no_grad():
        measured = {name: runtime(name, model, inputs[0]) for name in RUNTIMES}
        torch_tvm.reset_stats()
        difference = max(run(list(measured.values()), inputs, number) for number in PASSES)
        stats = torch_tvm.stats()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "sizes": {"least": case.least, "most": case.most, "count": case.count},
        "compiled": stats["compiled"],
        "compile_seconds": rounded(measured[OURS].compiling, 3),
        "fallbacks": stats["fallbacks"],
        "symbolic": stats["symbolic"],
        "guard": stats["guard"],
        "difference": rounded(difference, 2),
        **summary(measured),
    }


def text(name: str, found: dict[str, Any]) -> str:
    """Write a result in a few lines."""
    lines = [
        f"{name}: {found['sizes']['count']} sizes, {found['compiled']} compilations in {found['compile_seconds']} s,"
        f" {found['fallbacks']} fallbacks, difference {found['difference']:.1e}"
    ]
    for part in ("once", *PASSES):
        for each, entry in found[part].items():
            ratios = "".join(f", {key} {value}" for key, value in entry.items() if key != "seconds")
            lines.append(f"  {part} {each}: {entry['seconds']} s{ratios}")
    lines += [
        f"  one plan for {plan['bounds']}: {plan['values']} values" for plan in found["symbolic"]["plans"]
    ]
    lines += [f"  {reason}" for reason in found["symbolic"]["refusals"]]
    lines += [f"  guard kept {row['kept']}" for row in found["guard"]]
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark; 0 if torch_tvm agrees with PyTorch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="names in cases() (default: all)")
    parser.add_argument("--threads", type=positive, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=positive, default=3, help="processes of each runtime")
    parser.add_argument("--alone", choices=RUNTIMES, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON (default: in benchmarks/results)")
    options = parser.parse_args()
    pin(options.threads, "benchmarks.shapes")
    options.cpus = os.sched_getaffinity(0)
    import torch

    import torch_tvm

    torch.set_num_threads(options.threads)
    known = cases()
    unknown = [name for name in options.models if name not in known]
    if unknown:
        print(f"no model {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    if options.alone:
        print(call_once(known[options.models[0]], options.alone))
        return 0
    output = options.output or RESULTS / machine.short_name() / f"shapes_threads{options.threads}.json"
    header = {
        "machine": machine.describe(),
        "versions": {OURS: torch_tvm.__version__, **machine.versions(["torch", "apache-tvm"])},
        "threads": options.threads,
    }
    agreed = True
    for name in options.models or known:
        with unbound(options.cpus):
            alone = once(name, options.threads, options.rounds)
        found = {"once": alone, **measure(known[name])}
        print(text(name, found), flush=True)
        agreed = agreed and found["difference"] <= TOLERANCE
        everything = results.load(output, header)
        everything["models"][name] = found
        results.save(output, everything)
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
