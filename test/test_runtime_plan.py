"""A plan that cannot be run is refused when it is made, with the buffer or the step named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm_ffi

from torch_tvm.runtime import Buffer, PackedPart, Plan, Step

A = Buffer("input", [4], "float32", index=0)
Y = Buffer("output", [4], "float32", index=0)


def kernel(*tensors: Any) -> None:
    pass


def plan(buffers: list[Buffer], args: list[int], **fields: Any) -> Plan:
    return Plan("p", buffers, [Step("k", kernel, args)], **{"num_inputs": 1, "num_outputs": 1, **fields})


def test_fields_are_kept() -> None:
    scratch = Buffer("arena", [2, 3], "int64", offset=64)
    made = plan([A, Y, scratch], [0, 2, 1], arena_bytes=128, info={"flops": 8.0})
    assert made.name == "p"
    assert list(made.steps[0].args) == [0, 2, 1]
    assert [b.kind for b in made.buffers] == ["input", "output", "arena"]
    assert (scratch.offset, scratch.index, list(scratch.shape)) == (64, -1, [2, 3])
    assert str(scratch.dtype) == "int64"
    assert made.info["flops"] == 8.0
    assert (made.num_inputs, made.num_weights, made.num_outputs) == (1, 0, 1)
    assert (made.arena_bytes, made.packed_bytes, made.packing_arena_bytes) == (128, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "stack", "index": 0}, 'Buffer.kind must be .* got "stack"'),
        ({"kind": "input"}, "kind input needs an index, got -1"),
        ({"kind": "input", "index": 0, "offset": 64}, "kind input has offset 0, got 64"),
        ({"kind": "arena", "offset": 4}, "multiple of 64, got 4"),
        ({"kind": "packed", "offset": -64}, "multiple of 64, got -64"),
        ({"kind": "arena", "index": 2}, "kind arena has index -1, got 2"),
        ({"kind": "arena", "shape": [4, -1]}, "not negative"),
        ({"kind": "arena", "shape": [2**40, 2**40]}, "2\\^63 bytes"),
        ({"kind": "arena", "dtype": "float32x4"}, "got float32x4"),
        ({"kind": "arena", "dtype": "int4"}, "got int4"),
    ],
)
def test_buffer_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Buffer(**{"shape": [4], "dtype": "float32", **arguments})


@pytest.mark.parametrize(
    ("buffer", "fields", "message"),
    [
        (Buffer("arena", [17], "float32"), {"arena_bytes": 64}, "takes bytes 0 to 68, but arena_bytes is 64"),
        (Buffer("arena", [1], "float32", offset=64), {"arena_bytes": 64}, "takes bytes 64 to 68"),
        (
            Buffer("packed", [17], "float32"),
            {"packed_parts": [PackedPart("p", [], 0, 64, [])]},
            "takes bytes 0 to 68, but the end of its packed part is 64",
        ),
        (Buffer("packed", [1], "float32"), {}, "takes bytes 0 to 4, but the end of its packed part is 0"),
        (
            Buffer("packed", [17], "float32", offset=64),
            {"packed_parts": [PackedPart("p", [], 0, 128, []), PackedPart("q", [], 128, 64, [])]},
            "takes bytes 64 to 132, but the end of its packed part is 128",
        ),
        (Buffer("input", [1], "float32", index=1), {}, "is input 1, but the plan has 1"),
        (Buffer("output", [1], "float32", index=1), {}, "is output 1, but the plan has 1"),
        (Buffer("weight", [1], "float32", index=0), {}, "is weight 0, but the plan has 0"),
        (Buffer("constant", [1], "float32", index=0), {}, "is constant 0, but the plan has 0"),
        (
            Buffer("constant", [1], "float32", index=0),
            {"constants": [tvm_ffi.from_dlpack(np.zeros(3, np.float32))]},
            "has 4 bytes, but constant 0 has 12",
        ),
    ],
)
def test_buffer_outside_the_plan(buffer: Buffer, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan([A, Y, buffer], [0, 2, 1], **fields)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            [PackedPart("p", [], 64, 64, [])],
            "a packed part begins at byte 64, but the one before it ends at 0",
        ),
        ([PackedPart("p", [1], 0, 64, [])], "a packed part names weight 1, but the plan has 1"),
        ([PackedPart("p", [0], 0, 64, [-1])], "a packed part names packing step -1, but the plan has 0"),
    ],
)
def test_part_outside_the_plan(parts: list[PackedPart], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan([A, Y], [0, 1], packed_parts=parts, num_weights=1)


@pytest.mark.parametrize(("offset", "size"), [(32, 64), (0, 100), (0, 0), (-64, 64)])
def test_part_that_cannot_be(offset: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"got {size} bytes at {offset}"):
        PackedPart("p", [], offset, size, [])


def test_step_with_unknown_buffer() -> None:
    with pytest.raises(ValueError, match='step "k" names buffer 2, but the plan has 2'):
        plan([A, Y], [0, 2])


def test_output_that_no_step_writes() -> None:
    with pytest.raises(ValueError, match="no step has output 0 among its args"):
        plan([A, Y], [0])


def test_negative_size() -> None:
    with pytest.raises(ValueError, match="arena_bytes must not be negative, got -64"):
        plan([A, Y], [0, 1], arena_bytes=-64)


def test_packing_step_sees_no_inputs() -> None:
    with pytest.raises(ValueError, match='packing step "fold" uses buffer 0 of kind input'):
        plan([A, Y], [0, 1], packing_steps=[Step("fold", kernel, [0])])


def test_packing_step_has_an_arena_of_its_own() -> None:
    scratch = Buffer("arena", [16], "float32")
    with pytest.raises(ValueError, match="but packing_arena_bytes is 0"):
        plan([A, Y, scratch], [0, 1], arena_bytes=64, packing_steps=[Step("fold", kernel, [2])])
