"""Outcomes counted by entry and dtype, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from conformance.outcome import DESCRIPTIONS, FAULTS, Kind, Outcome

Counts = dict[str, int]
# By kind, in the order of the table.
_KINDS = [kind.value for kind in Kind]
# Of the tracer's and ours, in graphs of one operator: they stand for the results of calls.
_CARRIERS = frozenset({"aten::clone", "aten::detach"})


def save(outcome: Outcome) -> str:
    """One line of a file of outcomes."""
    return json.dumps(asdict(outcome))


def load(paths: Iterable[Path]) -> list[Outcome]:
    """Read files of outcomes; a later outcome of a sample takes the place of an earlier one."""
    found: dict[tuple[str, str, int], Outcome] = {}
    for path in paths:
        for line in path.read_text().splitlines():
            fields = json.loads(line)
            fields["kind"] = Kind(fields["kind"])
            for name in ("reasons", "operators", "relay"):
                fields[name] = tuple(fields[name])
            outcome = Outcome(**fields)
            found[outcome.entry, outcome.dtype, outcome.index] = outcome
    return list(found.values())


def observed_relay(outcomes: Iterable[Outcome]) -> dict[str, list[str]]:
    """Collect the Relay operators that each operator became where it stood alone in a graph."""
    emitted: dict[str, set[str]] = defaultdict(set)
    for outcome in outcomes:
        names = set(outcome.operators)
        alone = names - _CARRIERS or names
        if outcome.kind is Kind.COMPILED and len(alone) == 1:
            emitted[alone.pop()].update(outcome.relay)
    return {name: sorted(emitted[name]) for name in sorted(emitted)}


def _counts(outcomes: Iterable[Outcome]) -> Counts:
    counter = Counter(outcome.kind.value for outcome in outcomes)
    return {"samples": counter.total()} | {kind: counter[kind] for kind in _KINDS if counter[kind]}


def _grouped(outcomes: Iterable[Outcome], field: str) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[getattr(outcome, field)].append(outcome)
    return groups


def summarize(outcomes: list[Outcome]) -> dict[str, Any]:
    """Count outcomes by dtype and by entry, with reasons, and list all faults."""
    entries = {}
    for name, of_entry in sorted(_grouped(outcomes, "entry").items()):
        reasons = Counter(reason for outcome in of_entry for reason in outcome.reasons)
        entries[name] = {
            "dtypes": {dtype: _counts(group) for dtype, group in _grouped(of_entry, "dtype").items()},
            "reasons": dict(reasons.most_common()),
        }
    return {
        "totals": {dtype: _counts(group) for dtype, group in _grouped(outcomes, "dtype").items()},
        "entries": entries,
        "faults": sorted(str(outcome) for outcome in outcomes if outcome.kind in FAULTS),
        "relay": observed_relay(outcomes),
    }


def write_json(summary: dict[str, Any], path: Path) -> None:
    """Write the summary, an entry to a line."""
    parts = []
    for key, value in summary.items():
        if isinstance(value, dict):
            lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in value.items())
            parts.append(f"{json.dumps(key)}: {{\n{lines}\n }}")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value, indent=2)}")
    path.write_text("{\n " + ",\n ".join(parts) + "\n}\n")


def _row(cells: Iterable[Any]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _table(head: list[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    return [_row(head), "|" + "---|" * len(head), *map(_row, rows)]


def _added(counts: Iterable[Counts]) -> Counts:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total


def _cells(counts: Counts) -> list[Any]:
    return [counts.get(kind) or "" for kind in ("samples", *_KINDS)]


def _entry_rows(entries: dict[str, Any]) -> Iterable[list[Any]]:
    for name, entry in entries.items():
        reason = next(iter(entry["reasons"]), "")
        yield [f"`{name}`", *_cells(_added(entry["dtypes"].values())), reason[:160]]


def _standing(entry: dict[str, Any]) -> str:
    """Where an entry stands, by all its samples that count."""
    counts = _added(entry["dtypes"].values())
    if any(counts.get(kind.value) for kind in FAULTS):
        return "at least one sample is wrong, failed, crashed or hung"
    ran = counts.get(Kind.COMPILED.value, 0)
    left = counts.get(Kind.PARTLY.value, 0) + counts.get(Kind.REFUSED.value, 0)
    if ran and not left:
        return "every sample is compiled"
    if ran or counts.get(Kind.PARTLY.value):
        return "some samples are compiled, or parts of them; PyTorch ran the rest"
    return "PyTorch ran every sample" if left else "every sample is folded or set aside"


def markdown(summary: dict[str, Any], preface: str) -> str:
    """Write the summary for readers."""
    head = ["samples", *_KINDS]
    totals = {**summary["totals"], "all": _added(summary["totals"].values())}
    standings = Counter(_standing(entry) for entry in summary["entries"].values())
    lines = [preface, "| outcome | meaning |", "|---|---|"]
    lines += [_row((kind.value, meaning)) for kind, meaning in DESCRIPTIONS.items()]
    lines += ["", "## Totals", ""]
    lines += _table(["dtype", *head], ([dtype, *_cells(counts)] for dtype, counts in totals.items()))
    lines += [
        "",
        *_table(["entries", "of which"], ((count, text) for text, count in standings.most_common())),
    ]
    lines += ["", "## Faults", ""]
    lines += [f"* {fault}" for fault in summary["faults"]] or ["None."]
    lines += ["", "## Entries", "", "All dtypes together; the reason is the most frequent one.", ""]
    lines += _table(["entry", *head, "reason"], _entry_rows(summary["entries"]))
    return "\n".join(lines) + "\n"
