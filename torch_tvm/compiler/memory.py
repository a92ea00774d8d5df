"""Where each intermediate result lies: offsets in one arena, shared by results that are not alive at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from .launch import Launch, Storage

ALIGNMENT = 64


def aligned(size: int) -> int:
    """Return the bytes that something takes with what is left free behind it."""
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
            sum(aligned(storage.bytes) for storage, (first, last) in spans.items() if first <= time <= last)
            for time in range(len(launches))
        ),
        default=0,
    )


def overwrite_dying_inputs(launches: Sequence[Launch]) -> None:
    """Let outputs lie where an input did that nothing reads later, wherever the kernel can do that."""
    spans = lifetimes(launches, "arena")
    moved: dict[Storage, Storage] = {}
    for time, launch in enumerate(launches):
        for arguments in (launch.inputs, launch.outputs):
            arguments[:] = [
                dataclasses.replace(a, storage=moved.get(a.storage, a.storage)) for a in arguments
            ]
        position = next((p for p in launch.overwriting if _dies(launch, p, time, spans)), None)
        if position is None:
            continue
        (output,), overwritten = launch.outputs, launch.inputs.pop(position).storage
        spans[overwritten] = (spans[overwritten][0], spans.pop(output.storage)[1])
        moved[output.storage] = overwritten
        launch.kernel = launch.overwriting[position]
        launch.outputs = [dataclasses.replace(output, storage=overwritten)]


def _dies(launch: Launch, position: int, time: int, spans: Mapping[Storage, tuple[int, int]]) -> bool:
    """Say whether an input is all of some memory that this launch reads as nothing else, and no later one at all."""
    source, (result,) = launch.inputs[position], launch.outputs
    whole = all(a.storage.kind == "arena" and a.storage.bytes == a.bytes for a in (source, result))
    if not whole or source.bytes != result.bytes or source.dtype != result.dtype:
        return False
    once = sum(a.storage is source.storage for a in launch.inputs) == 1
    return once and spans[source.storage][1] == time == spans[result.storage][0]


def _check_written_first(launches: Sequence[Launch]) -> None:
    written: set[Storage] = set()
    for launch in launches:
        for argument in launch.inputs:
            if argument.storage.kind == "arena" and argument.storage not in written:
                raise AssertionError(f"{launch.kernel.name} reads memory that no kernel before it wrote")
        written.update(argument.storage for argument in launch.outputs)


def plan_arena(launches: Sequence[Launch]) -> int:
    """Give every "arena" storage of the launches its offset; return the arena's size.

    One after the other, each at the lowest offset that is free while it lives; of several orders the best.
    """
    _check_written_first(launches)
    spans = lifetimes(launches, "arena")
    orders: list[Callable[[Storage], tuple[int, ...]]] = [
        lambda s: (-s.bytes, spans[s][0]),
        lambda s: (-s.bytes, -spans[s][0]),
        lambda s: (spans[s][0] - spans[s][1], -s.bytes),
        lambda s: (spans[s][0], -s.bytes),
    ]
    offsets = min((_place(sorted(spans, key=order), spans) for order in orders), key=_reach)
    for storage, offset in offsets.items():
        storage.offset = offset
    return _reach(offsets)


def _reach(offsets: Mapping[Storage, int]) -> int:
    return max((offset + aligned(storage.bytes) for storage, offset in offsets.items()), default=0)


def _place(storages: Iterable[Storage], spans: Mapping[Storage, tuple[int, int]]) -> dict[Storage, int]:
    """Give each storage in turn the lowest offset at which it overlaps none that lives when it does."""
    offsets: dict[Storage, int] = {}
    for storage in storages:
        first, last = spans[storage]
        alive = [other for other in offsets if spans[other][0] <= last and spans[other][1] >= first]
        offset = 0
        for other in sorted(alive, key=offsets.__getitem__):
            if offset + aligned(storage.bytes) <= offsets[other]:
                break
            offset = max(offset, offsets[other] + aligned(other.bytes))
        offsets[storage] = offset
    return offsets
