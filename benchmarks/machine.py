"""What figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path


def processor() -> str:
    """Return the CPU's name as Linux has it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def short_name() -> str:
    """Return the CPU's name as a file name: lower case, words joined by underscores."""
    words = re.sub(r"\(R\)|\(TM\)", "", processor()).lower()
    return "_".join(re.findall("[a-z0-9]+", words))


def vector_extensions() -> list[str]:
    """Return which of the instruction sets that kernels may use the CPU has."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = line.split()
            return [flag for flag in ("avx2", "fma", "avx512f", "amx_tile") if flag in flags]
    return []


def describe() -> dict[str, object]:
    """Return the machine: processor, its vector extensions, CPUs that this process may use."""
    return {
        "processor": processor(),
        "vector_extensions": vector_extensions(),
        "cpus": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of installed packages."""
    found = {}
    for package in sorted(set(packages)):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def commit() -> str:
    """Return the commit of the working tree, with a plus sign where it has changes; "" outside of git."""
    root = Path(__file__).resolve().parent.parent
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
