"""torch_tvm beside everything else that a user could run a PyTorch network with on a CPU.

Each runtime has a process of its own; they are measured in turns, each alone, and results are medians over rounds. Run as
``python benchmarks/peers.py``; ``make bench`` installs what is needed and does. Results are added to a JSON file, so that
models can be measured one by one.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a script, as the README does

from benchmarks import machine
from benchmarks.command_line import positive
from benchmarks.compare import results
from benchmarks.compare.driver import Worker, WorkerError, foreign_share, interleaved, workers
from benchmarks.compare.results import OURS, TOLERANCE, rounded

RESULTS = Path(__file__).resolve().parent / "results"
MODELS = {
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "mobilenet_v2": "MobileNetV2",
    "efficientnet_b0": "EfficientNet-B0",
    "densenet121": "DenseNet-121",
    "convnext_t": "ConvNeXt-T",
    "bert": "BERT-base",
    "vit": "ViT-B/16",
    "gpt2": "GPT-2",
}


def arguments(command_line: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models",
        nargs="+",
        default=list(MODELS),
        metavar="MODEL",
        help="names, or MODULE:ATTRIBUTE of your own",
    )
    parser.add_argument("--peers", nargs="*", metavar="PEER", help="beside torch_tvm (default: all)")
    parser.add_argument("--batch", type=positive, default=1, help="images or sentences in a batch")
    parser.add_argument(
        "--threads", type=positive, default=len(os.sched_getaffinity(0)), help="default: all CPUs"
    )
    parser.add_argument(
        "--device", metavar="TARGET", help='what torch_tvm generates code for, as "llvm -mcpu=haswell"'
    )
    parser.add_argument("--rounds", type=positive, default=9, help="turns; the median counts")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each turn")
    parser.add_argument("--calls", type=positive, default=3, help="at least, in each turn")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--first-call", action="store_true", help="measure preparation and first call, nothing cached on disk"
    )
    mode.add_argument("--memory", action="store_true", help="measure memory beyond the loaded network")
    mode.add_argument("--kernels", metavar="MODEL", help="show torch_tvm's time kernel by kernel")
    mode.add_argument("--chart", type=Path, metavar="FILE", help="only draw the results that there are")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON (default: in benchmarks/results)")
    parser.add_argument(
        "--pause",
        action="store_true",
        help="wait for Enter between preparation and measurement of each model",
    )
    options = parser.parse_args(command_line)
    if options.output is None:
        folder = RESULTS / machine.short_name()
        device = "" if options.device is None else "_" + options.device.rpartition("=")[2]
        options.output = folder / f"batch{options.batch}_threads{options.threads}{device}.json"
    options.cpus = sorted(os.sched_getaffinity(0))[: options.threads]
    if len(options.cpus) < options.threads:
        parser.error(f"--threads {options.threads}: this process may use {len(options.cpus)} CPUs")
    return options


def chosen_runtimes(peers: Sequence[str] | None) -> list[str]:
    """Return the names of the runtimes to measure, torch_tvm last."""
    from benchmarks.compare.runtimes import RUNTIMES

    known = [name for name in RUNTIMES if name != OURS]
    if peers is None:
        return [*known, OURS]
    unknown = set(peers) - {*known, OURS}
    if unknown:
        raise SystemExit(f"no runtime {', '.join(sorted(unknown))}; there are {', '.join([*known, OURS])}")
    return [*(name for name in known if name in peers), OURS]


def header(options: argparse.Namespace) -> dict[str, Any]:
    """Return what all results of a file have in common."""
    import torch_tvm
    from benchmarks.compare.runtimes import RUNTIMES

    packages = [*(runtime.package for runtime in RUNTIMES.values() if runtime.package != OURS), "apache-tvm"]
    return {
        "machine": machine.describe(),
        "versions": {OURS: torch_tvm.__version__, **machine.versions(packages)},
        "batch": options.batch,
        "threads": options.threads,
        **({} if options.device is None else {"device": options.device}),
    }


def prepared(started: Iterable[Worker], model: dict[str, Any]) -> list[Worker]:
    """Let workers prepare one by one; return those that give eager's result, and note what the others said."""
    ready = []
    for worker in started:
        entry = model["runtimes"].setdefault(worker.runtime, {})
        for key in ("error", "milliseconds", "rounds"):
            entry.pop(key, None)
        try:
            answer = worker.ask("prepare")
            model["parameters"] = answer["parameters"]
            entry["difference"] = rounded(answer["difference"], 2)
            for key in ("groups", "fallbacks", "interpreter"):
                if key in answer:
                    entry[key] = answer[key]
            if not answer["difference"] <= TOLERANCE:
                raise WorkerError(
                    f"differs from eager PyTorch by {answer['difference']:.1e} of its largest output"
                )
        except WorkerError as error:
            entry["error"] = str(error)
            print(f"  {worker.runtime}: {error}", flush=True)
            continue
        print(
            f"  {worker.runtime}: prepared in {answer['prepare_seconds']:.1f} s, first call {answer['first_call_seconds']:.2f} s,"
            f" difference {answer['difference']:.1e}",
            flush=True,
        )
        ready.append(worker)
    return ready


def measure_times(
    options: argparse.Namespace, name: str, runtimes: Sequence[str], model: dict[str, Any]
) -> None:
    """Fill in milliseconds."""
    with workers(runtimes, name, options.batch, options.cpus, device=options.device) as started:
        ready = prepared(started, model)
        if options.pause:
            input("ready; press Enter to measure\n")
        with foreign_share(ready) as share:
            times = interleaved(ready, options.rounds, options.seconds, options.calls)
        print(f"measured; {share[0]:.1%} of the CPUs' time went to other work", flush=True)
        for runtime, found in times.items():
            entry = model["runtimes"][runtime]
            entry["foreign_share"] = rounded(share[0], 2)
            if isinstance(found, WorkerError):
                entry["error"] = str(found)
            else:
                entry["milliseconds"] = rounded(statistics.median(found))
                entry["rounds"] = [rounded(value) for value in found]


def measure_first_calls(
    options: argparse.Namespace, name: str, runtimes: Sequence[str], model: dict[str, Any]
) -> None:
    """Fill in seconds of preparation and first call: medians over processes."""
    for runtime in runtimes:
        answers = []
        entry = model["runtimes"].setdefault(runtime, {})
        try:
            for _ in range(options.rounds):
                with workers(
                    [runtime], name, options.batch, options.cpus, fresh_caches=True, device=options.device
                ) as (worker,):
                    answers.append(worker.ask("prepare"))
        except WorkerError as error:
            entry["error"] = str(error)
            print(f"  {runtime}: {error}", flush=True)
            continue
        for key in ("prepare_seconds", "first_call_seconds"):
            entry[key] = rounded(statistics.median(answer[key] for answer in answers), 3)
        print(
            f"  {runtime}: prepared in {entry['prepare_seconds']:.2f} s, first call {entry['first_call_seconds']:.2f} s",
            flush=True,
        )


def measure_memory(
    options: argparse.Namespace, name: str, runtimes: Sequence[str], model: dict[str, Any]
) -> None:
    """Fill in bytes."""
    for runtime in runtimes:
        entry = model["runtimes"].setdefault(runtime, {})
        try:
            with workers([runtime], name, options.batch, options.cpus, device=options.device) as (worker,):
                found = worker.ask("memory")
        except WorkerError as error:
            entry["error"] = str(error)
            print(f"  {runtime}: {error}", flush=True)
            continue
        entry["memory"] = found
        figures = ", ".join(f"{key} {size / 1e6:.0f} MB" for key, size in found.items())
        print(f"  {runtime}: {figures}", flush=True)


def show_kernels(options: argparse.Namespace) -> None:
    """Print and write the kernels of a model."""
    from benchmarks.compare import kernel_table

    with workers([OURS], options.kernels, options.batch, options.cpus, device=options.device) as (worker,):
        found = worker.ask("kernels", calls=options.rounds * options.calls)
    name = options.kernels.replace(":", ".")
    path = options.output.with_name(f"kernels_{name}_{options.output.name}")
    results.save(path, {**header(options), "model": options.kernels, "commit": machine.commit(), **found})
    print(kernel_table.text(options.kernels, found))


def main() -> int:
    """Measure, print and write; 0 if torch_tvm ran every model and agreed with eager PyTorch."""
    options = arguments()
    from benchmarks.compare import chart
    from benchmarks.compare.runtimes import RUNTIMES

    if options.kernels:
        show_kernels(options)
        return 0
    titles = {name: RUNTIMES[name].title for name in RUNTIMES}
    if options.chart:
        if not options.output.exists():
            raise SystemExit(f"{options.output} is not there: nothing to draw")
        drawn = results.read(options.output)
        others = {name: name for name in drawn["models"] if name not in MODELS}
        chart.draw(drawn, titles, {**MODELS, **others}, options.chart)
        return 0
    runtimes = chosen_runtimes(options.peers)
    found = results.load(options.output, header(options))
    measure = (
        measure_first_calls if options.first_call else measure_memory if options.memory else measure_times
    )
    for name in options.models:
        print(f"{name}, batch {options.batch}, {options.threads} threads", flush=True)
        model = found["models"].setdefault(name, {"runtimes": {}})
        model["date"] = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        model["commit"] = machine.commit()
        measure(options, name, runtimes, model)
        # Other models may have been measured meanwhile.
        found = results.load(options.output, header(options))
        found["models"][name] = model
        results.save(options.output, found)
    shown = {
        runtime: title
        for runtime, title in titles.items()
        if any("rounds" in found["models"][name]["runtimes"].get(runtime, {}) for name in options.models)
    }
    if shown:
        print(results.table(found, shown, options.models))
    ours = [found["models"][name]["runtimes"].get(OURS, {}) for name in options.models]
    return int(any("error" in entry for entry in ours))


if __name__ == "__main__":
    sys.exit(main())
