"""What the benchmarks' command lines share. Nothing here loads torch: it must be pinned first."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def positive(text: str) -> int:
    """Read a number of at least one."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text}")
    return number


def pin(threads: int, module: str) -> None:
    """Start `module` again with each thread bound to a CPU, before torch is loaded.

    Unbound, libgomp sometimes puts two threads on one CPU and times get two modes (measured: 6 us or 8 ms for one
    addition), for PyTorch as for TVM, whose loops run on the same threads.
    """
    if "GOMP_CPU_AFFINITY" in os.environ:
        return
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    os.environ.setdefault("GOMP_CPU_AFFINITY", " ".join(map(str, cpus)))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    root = str(Path(__file__).resolve().parent.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]])
