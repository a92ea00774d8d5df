"""Which packed memory plans share, and what tells it from other."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

import numpy as np

from torch_tvm.compiler.launch import Argument, Kernel, Launch, Storage
from torch_tvm.compiler.packed_parts import plan_packed
from torch_tvm.kernels.target import parse_target

TARGET = parse_target(None)
SHAPE = (4, 8)
BYTES = 128


def weight(index: int) -> Storage:
    return Storage("weight", index)


def packed() -> Storage:
    return Storage("packed", bytes=BYTES, packing=True)


def arena() -> Storage:
    return Storage("arena", bytes=BYTES, packing=True)


def launch(key: Hashable, inputs: Sequence[Storage], outputs: Sequence[Storage]) -> Launch:
    def arguments(storages: Sequence[Storage]) -> list[Argument]:
        return [Argument(storage, SHAPE, "float32") for storage in storages]

    return Launch(
        Kernel("k", key, partial(lambda: None)), arguments(inputs), arguments(outputs), packing=True
    )


def parts(*launches: Launch, constants: Sequence[np.ndarray] = (), target: Any = TARGET) -> list[Any]:
    return plan_packed(launches, constants, target)


def key(*launches: Launch, **arguments: Any) -> str:
    ((found, *_),) = parts(*launches, **arguments)
    return str(found)


def test_parts_lie_one_behind_the_other() -> None:
    small = Storage("packed", bytes=4)
    found = parts(launch("a", [weight(0)], [small]), launch("b", [weight(1)], [packed()]))
    assert [part[1:] for part in found] == [([0], 0, 64, [0]), ([1], 64, BYTES, [1])]
    assert small.offset == 0


def test_a_key_does_not_depend_on_numbers_in_the_plan() -> None:
    alone = key(launch("a", [weight(0), weight(1)], [packed()]))
    first, second = parts(
        launch("b", [weight(0)], [packed()]), launch("a", [weight(7), weight(3)], [packed()])
    )
    assert second[0] == alone != first[0]
    assert second[1] == [7, 3]


def test_what_makes_a_difference() -> None:
    constant = Storage("constant", 0)
    one, two = np.ones(SHAPE, "float32"), np.full(SHAPE, 2, "float32")
    seen = [
        key(launch("a", [weight(0)], [packed()])),
        key(launch("b", [weight(0)], [packed()])),
        key(launch("a", [same := weight(0), same], [packed()])),
        key(launch("a", [weight(0), weight(1)], [packed()])),
        key(launch("a", [weight(0), constant], [packed()]), constants=[one]),
        key(launch("a", [weight(0), constant], [packed()]), constants=[two]),
        key(launch("a", [weight(0)], [packed()]), target=parse_target({"kind": "llvm", "mcpu": "haswell"})),
        key(launch("a", [weight(0)], [each := arena()]), launch("a", [each], [packed()])),
    ]
    assert len(set(seen)) == len(seen)


def test_what_leads_to_a_part_is_run_for_it() -> None:
    shared, mine, other = arena(), packed(), packed()
    found = parts(
        launch("cast", [weight(1)], [shared]),
        launch("a", [shared], [mine]),
        launch("b", [shared, weight(0)], [other]),
    )
    assert [(part[1], part[4]) for part in found] == [([1], [0, 1]), ([1, 0], [0, 2])]


def test_memory_that_one_launch_writes_is_one_part() -> None:
    left, right, apart = packed(), packed(), packed()
    found = parts(launch("a", [weight(0)], [apart]), launch("b", [weight(1)], [left, right]))
    assert [part[1:] for part in found] == [([0], 0, BYTES, [0]), ([1], BYTES, 2 * BYTES, [1])]


def test_a_part_made_of_another_does_not_make_it_again() -> None:
    first, second = packed(), packed()
    found = parts(launch("a", [weight(0)], [first]), launch("b", [first, weight(1)], [second]))
    assert [part[4] for part in found] == [[0], [1]]
    assert found[1][1] == [0, 1], "it is not the same for other weights of the first"
    changed = parts(launch("c", [weight(0)], [first]), launch("b", [first, weight(1)], [second]))
    assert changed[1][0] != found[1][0]
