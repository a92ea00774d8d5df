"""Run the suite, or a part of it, and write what came of it: ``python -m conformance --help``."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from conformance import report
from conformance.outcome import FAULTS, Job
from conformance.pool import SECONDS_PER_SAMPLE, Pool

ROOT = Path(__file__).parents[2]
OUTCOMES = ROOT / "build" / "conformance"
PREFACE = """# Conformance with eager PyTorch

Made by `make conformance` (test/conformance). OpInfo is PyTorch's own database of operators: {entries} entries with
sample inputs. Each sample goes through `torch.jit.trace` with `min_group_size=1` and is compared with eager PyTorch:
values within torch.testing's default tolerance for the dtype, or the entry's own in PyTorch's tests where that is larger, or no
further from float64's than twice eager PyTorch's error (counted as a reason); indices that `sort`, `topk` and the like
give may be those of other ones among equal elements (counted too);
dtypes, shapes and strides equal; run twice, and no input may change. Results that share memory with an argument are cloned,
so that converters of views run too. A full run takes all samples in float32 and the first {limit} of an entry in other
dtypes; these tables hold {coverage}.
"""


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"expected K/N with 1 <= K <= N, got {text}")
    return int(match[1]), int(match[2])


def _parse() -> argparse.Namespace:
    from conformance.samples import LIMITS

    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("--dtypes", nargs="+", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument("--entries", default="", help="regular expression that the names of entries match")
    parser.add_argument(
        "--part", type=_part, default=(1, 1), metavar="K/N", help="the K-th of N parts of the jobs"
    )
    parser.add_argument("--samples", type=int, help="at most that many of each entry and dtype")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=SECONDS_PER_SAMPLE, help="that one sample may take")
    parser.add_argument("--keep", action="store_true", help="add to the outcomes of earlier runs")
    parser.add_argument(
        "--report", action="store_true", help="run nothing, write docs/conformance.* from outcomes"
    )
    return parser.parse_args()


def _run(jobs: list[Job], arguments: argparse.Namespace) -> bool:
    """Run jobs, write their outcomes to a file of this run's, and say whether all is well."""
    from conformance.samples import run_job

    OUTCOMES.mkdir(parents=True, exist_ok=True)
    if not arguments.keep:
        for old in OUTCOMES.glob("*.jsonl"):
            old.unlink()
    counter: Counter[str] = Counter()
    start = time.monotonic()
    with open(OUTCOMES / f"{time.time_ns()}.jsonl", "w") as file:
        for outcome in Pool(run_job, arguments.workers, arguments.seconds).run(jobs):
            print(report.save(outcome), file=file, flush=True)
            counter[outcome.kind.value] += 1
            if outcome.kind in FAULTS:
                print(outcome, flush=True)
    print(f"{len(jobs)} jobs, {counter.total()} samples in {time.monotonic() - start:.0f} s: {dict(counter)}")
    return not any(counter[kind.value] for kind in FAULTS)


def _write_report() -> None:
    from conformance.samples import LIMITS, count, entries, jobs

    summary = report.summarize(report.load(sorted(OUTCOMES.glob("*.jsonl"))))
    there = {dtype: sum(map(count, jobs([dtype]))) for dtype in LIMITS}
    held = {dtype: summary["totals"].get(dtype, {}).get("samples", 0) for dtype in LIMITS}
    coverage = "all of them"
    if held != there:
        coverage = "; ".join(f"{held[dtype]:,} of {there[dtype]:,} samples of {dtype}" for dtype in LIMITS)
    docs = ROOT / "docs"
    docs.mkdir(exist_ok=True)
    report.write_json(summary, docs / "conformance.json")
    preface = PREFACE.format(entries=len(entries()), limit=LIMITS["int64"], coverage=coverage)
    (docs / "conformance.md").write_text(report.markdown(summary, preface))


def main() -> int:
    arguments = _parse()
    well = True
    if not arguments.report:
        from conformance.samples import jobs

        part, parts = arguments.part
        chosen = [job for job in jobs(arguments.dtypes) if re.search(arguments.entries, job.entry)]
        if arguments.samples is not None:
            chosen = [
                replace(job, limit=min(arguments.samples, job.limit or arguments.samples)) for job in chosen
            ]
        well = _run(chosen[part - 1 :: parts], arguments)
    if arguments.report or (arguments.part == (1, 1) and not arguments.entries and arguments.samples is None):
        _write_report()
    return 0 if well else 1


if __name__ == "__main__":
    raise SystemExit(main())
