"""Where each intermediate result lies: offsets in one arena, shared by results that are not alive at once."""

from __future__ import annotations

from collections.abc import Sequence

from .launch import Launch, Storage

ALIGNMENT = 64


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def lifetimes(launches: Sequence[Launch], kind: str) -> dict[Storage, tuple[int, int]]:
    """First and last launch that touches each storage of a kind."""
    spans: dict[Storage, tuple[int, int]] = {}
    for time, launch in enumerate(launches):
        for argument in (*launch.inputs, *launch.outputs):
            storage = argument.storage
            if storage.kind == kind:
                spans[storage] = (spans.get(storage, (time, time))[0], time)
    return spans


def live_bytes(launches: Sequence[Launch], kind: str = "arena") -> int:
    """Return the most bytes that are alive at one launch: no plan of the memory can do with less."""
    spans = lifetimes(launches, kind)
    return max(
        (
            sum(_aligned(storage.bytes) for storage, (first, last) in spans.items() if first <= time <= last)
            for time in range(len(launches))
        ),
        default=0,
    )


def _check_written_first(launches: Sequence[Launch]) -> None:
    written: set[Storage] = set()
    for launch in launches:
        for argument in launch.inputs:
            if argument.storage.kind == "arena" and argument.storage not in written:
                raise AssertionError(f"{launch.kernel.name} reads memory that no kernel before it wrote")
        written.update(argument.storage for argument in launch.outputs)


def plan_arena(launches: Sequence[Launch]) -> int:
    """Give every "arena" storage of the launches its offset; return the arena's size.

    The largest first, each at the lowest offset that is free while it lives.
    """
    _check_written_first(launches)
    spans = lifetimes(launches, "arena")
    placed: list[Storage] = []
    total = 0
    for storage in sorted(spans, key=lambda s: (-s.bytes, spans[s][0])):
        first, last = spans[storage]
        size = _aligned(storage.bytes)
        offset = 0
        for other in placed:  # in order of their offsets
            if spans[other][0] > last or spans[other][1] < first:
                continue
            if offset + size <= other.offset:
                break
            offset = max(offset, other.offset + _aligned(other.bytes))
        storage.offset = offset
        total = max(total, offset + size)
        placed.append(storage)
        placed.sort(key=lambda s: s.offset)
    return total


def plan_packed(launches: Sequence[Launch]) -> int:
    """Give every "packed" storage its offset, one after the other; return the block's size."""
    total = 0
    for storage in lifetimes(launches, "packed"):
        storage.offset = total
        total += _aligned(storage.bytes)
    return total
