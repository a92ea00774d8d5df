"""Plans for all values of dimensions, made by hand: memory, scalars, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import tvm_ffi

from torch_tvm.runtime import Executor, Step
from torch_tvm.symbolic_plan import Memory, SymbolicBuffer, SymbolicPlan, constant

# Codes of extents: dimension 0, three times it, the half of it rounded up.
D = (1, 1, 1, 0)
TRIPLE = (1, 3, 1, 0)
HALF = (1, 1, 1, -1, 2, 2, 1, 1, 0, 1, 0)
BYTES = (1, 4, 1, 0)


def chain(seen: list[Any], **changed: Any) -> SymbolicPlan:
    """Three steps through two pieces of memory, the second of which can lie where the first one did."""

    def step(name: str) -> Any:
        def run(*arguments: Any) -> None:
            seen.append((name, [tuple(a.shape) for a in arguments[:-1]], arguments[-1]))

        return tvm_ffi.convert(run)

    fields: dict[str, Any] = {
        "bounds": [(2, 100)],
        "buffers": [
            SymbolicBuffer("input", [D], "float32", index=0),
            SymbolicBuffer("arena", [D], "float32", memory=0, offset=constant(0)),
            SymbolicBuffer("arena", [HALF], "float32", memory=1, offset=constant(0)),
            SymbolicBuffer("output", [TRIPLE], "float32", index=0),
        ],
        "memory": [Memory(BYTES, 0, 0), Memory((1, 4, 1, *HALF[3:]), 1, 2)],
        "steps": [
            Step("one", step("one"), [0, 1], [0]),
            Step("two", step("two"), [0, 2], [0]),
            Step("three", step("three"), [2, 3], [0]),
        ],
        **changed,
    }
    sizes = {"num_inputs": 1, "num_outputs": 1, "sizes": [D, TRIPLE]}
    return SymbolicPlan(
        "chain", fields["bounds"], fields["buffers"], fields["memory"], fields["steps"], **sizes
    )


def test_a_plan_for_a_value() -> None:
    seen: list[Any] = []
    symbolic = chain(seen)
    for value in (2, 7, 100):
        plan = symbolic.at([value])
        assert [list(buffer.shape) for buffer in plan.buffers] == [
            [value],
            [value],
            [(value + 1) // 2],
            [3 * value],
        ]
        assert plan.arena_bytes == -(-4 * value // 64) * 64  # both at the beginning
        assert [list(step.scalars) for step in plan.steps] == [[value]] * 3
        Executor(plan, [torch.zeros(value)], [torch.zeros(3 * value)])(torch.zeros(value))
        half = (value + 1) // 2
        assert seen == [
            ("one", [(value,), (value,)], value),
            ("two", [(value,), (half,)], value),
            ("three", [(half,), (3 * value,)], value),
        ]
        seen.clear()


def test_what_lives_at_once_lies_apart() -> None:
    plan = chain([], memory=[Memory(BYTES, 0, 1), Memory(BYTES, 1, 2)]).at([50])
    first, second = plan.buffers[1], plan.buffers[2]
    assert abs(first.offset - second.offset) >= 200
    assert plan.arena_bytes == 512


def test_values_out_of_bounds() -> None:
    for values in ([1], [101], [], [5, 5]):
        with pytest.raises(ValueError, match="from 2|from \\[2"):
            chain([]).at(values)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"memory": [Memory(BYTES, 0, 0), Memory(BYTES, 1, 1)]}, "outside of its life"),
        ({"memory": [Memory(BYTES, 0, 0), Memory(constant(8), 1, 2)]}, "leaves its memory"),
        ({"memory": [Memory(BYTES, 0, 0)]}, "names memory 1 of 1"),
        ({"bounds": []}, "0 lower and 0 upper bounds"),
        ({"memory": [Memory((1, 4, 1, 3), 0, 0), Memory(BYTES, 1, 2)]}, "a dimension that is not there"),
        ({"memory": [Memory((2, 4, 1, 0), 0, 0), Memory(BYTES, 1, 2)]}, "is cut off"),
        ({"memory": [Memory((*BYTES, 1), 0, 0), Memory(BYTES, 1, 2)]}, "left over"),
        ({"memory": [Memory((1, 1, 1, -1, 0, *D), 0, 0), Memory(BYTES, 1, 2)]}, "not positive"),
        ({"memory": [Memory((1, 2**62, 2, 0, 0), 0, 0), Memory(BYTES, 1, 2)]}, "above 2"),
    ],
)
def test_plans_that_cannot_run(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chain([], **changed)


def test_a_memory_lives_forwards() -> None:
    with pytest.raises(ValueError, match="from step 2 to 1"):
        Memory(BYTES, 2, 1)
