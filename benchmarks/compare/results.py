"""Results of runtimes side by side: as JSON that later runs add to, and as a table.

The JSON has ``machine``, ``versions``, ``batch``, ``threads``, and ``models``: for each its ``date``, ``commit``,
``parameters`` and ``runtimes``. A runtime has ``milliseconds`` (median of ``rounds``), ``foreign_share`` (of the CPUs' time
that other work took meanwhile), ``difference`` from eager PyTorch (the largest, as part of eager's largest output), or
``error``; after ``--first-call`` also ``prepare_seconds`` (trace, export, convert, load) and ``first_call_seconds``, after
``--memory`` also ``memory``.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

OURS = "torch_tvm"
# Beyond this difference a runtime has computed something else, or in less than float32.
TOLERANCE = 1e-3


def load(path: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    """Read results to add to; new ones if there are none, or if they are of another machine or other versions."""
    fresh = {**header, "models": {}}
    if not path.exists():
        return fresh
    found = read(path)
    same = all(found.get(key) == value for key, value in header.items())
    return found if same else fresh


def read(path: Path) -> dict[str, Any]:
    """Read results as they are, wherever they were measured."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def save(path: Path, results: Mapping[str, Any]) -> None:
    """Write results, readable as text and by diff."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


def rounded(number: float, digits: int = 5) -> float:
    """Round to significant digits, so that files say no more than was measured."""
    return float(f"{number:.{digits}g}")


def times(runtimes: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the milliseconds of the runtimes that have run."""
    return {name: entry["milliseconds"] for name, entry in runtimes.items() if "milliseconds" in entry}


def best_peer(runtimes: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the fastest runtime that is not torch_tvm."""
    peers = {name: time for name, time in times(runtimes).items() if name != OURS}
    return min(peers, key=lambda name: peers[name]) if peers else None


def ratio(runtimes: Mapping[str, Mapping[str, Any]], peer: str | None) -> float | None:
    """Return how many times as fast as `peer` torch_tvm is: the median over rounds."""
    if peer is None or not {"rounds"} <= runtimes.get(peer, {}).keys() & runtimes.get(OURS, {}).keys():
        return None
    pairs = zip(runtimes[peer]["rounds"], runtimes[OURS]["rounds"], strict=False)
    return statistics.median(theirs / ours for theirs, ours in pairs)


def table(results: Mapping[str, Any], titles: Mapping[str, str], names: Sequence[str]) -> str:
    """Write milliseconds as a Markdown table, with the ratios to the best peer and to the JIT."""
    heads = ["model", *titles.values(), "best other / torch_tvm", "JIT / torch_tvm", "difference"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for model in names:
        runtimes = results["models"][model]["runtimes"]
        cells = [model]
        for name in titles:
            entry = runtimes.get(name, {})
            cells.append(
                f"{entry['milliseconds']:.2f}"
                if "milliseconds" in entry
                else "fails"
                if "error" in entry
                else ""
            )
        for peer in (best_peer(runtimes), "jit"):
            found = ratio(runtimes, peer)
            cells.append("" if found is None else f"{found:.2f}")
        difference = runtimes.get(OURS, {}).get("difference")
        cells.append("" if difference is None else f"{difference:.1e}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
