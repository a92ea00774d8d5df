"""Never slower: plans are timed against the interpreter, and the slower one is dropped."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import tvm_ffi
from jit_checks import muladd, same, three, trace

import torch_tvm
from torch_tvm.runtime import Plan, Step

pytestmark = pytest.mark.usefixtures("nothing_compiled", "guarded")

FEW_ROUNDS, ROUNDS = 3, 10  # at least and at most, see csrc/jit/trial.cpp
SLEEP = 0.02  # seconds; far longer than these groups take, also on a busy machine


@pytest.fixture
def guarded() -> None:
    torch_tvm.enable(guard=True, compile_process=False)


@pytest.fixture
def slow_plans(compiler: Callable[[Callable[..., Any]], None]) -> list[bool]:
    """Let every plan sleep for a while before it begins, until the list that this gives holds False."""
    sleeps = [True]

    def slow(real: Any, *arguments: Any) -> Plan:
        plan = real(*arguments)

        def pause(*_: Any) -> None:
            if sleeps[0]:
                time.sleep(SLEEP)

        sleep = Step("sleep", tvm_ffi.convert(pause), [])
        fields = ("constants", "num_inputs", "num_weights", "num_outputs", "arena_bytes", "packed_parts")
        return Plan(
            plan.name,
            plan.buffers,
            [sleep, *plan.steps],
            packing_steps=plan.packing_steps,
            packing_arena_bytes=plan.packing_arena_bytes,
            info=plan.info,
            **{field: getattr(plan, field) for field in fields},
        )

    compiler(slow)
    return sleeps


def many_operators(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """Compute what is one kernel: of few elements far faster in TVM, with one thread, however busy the machine is."""
    for _ in range(50):
        a = muladd(a, b, c)
    return a


def calls_until_decided(traced: Any, *inputs: torch.Tensor) -> int:
    for calls in range(1, ROUNDS + 2):  # the first call is no round
        traced(*inputs)
        if torch_tvm.stats()["guard"]:
            return calls
    raise AssertionError(f"nothing is decided after {ROUNDS} rounds")


def test_a_slow_plan_is_dropped(slow_plans: list[bool]) -> None:
    inputs = three(50)
    traced = trace(muladd, *inputs)
    same(traced(*inputs), muladd(*inputs))
    assert calls_until_decided(traced, *inputs) == FEW_ROUNDS  # of 20 ms each, far apart
    stats = torch_tvm.stats()
    assert stats["fallbacks"] == 0
    (trial,) = stats["guard"]
    assert trial["group"].startswith("tvm::")
    assert trial["plan_seconds"] > SLEEP > trial["interpreter_seconds"] > 0
    assert trial["kept"] == "interpreter"
    start = time.perf_counter()
    for _ in range(5):
        same(traced(*inputs), muladd(*inputs))
    assert time.perf_counter() - start < 5 * SLEEP
    stats = torch_tvm.stats()
    assert stats["fallbacks"] == 5
    ((reason, calls),) = stats["fallback_reasons"].items()
    assert "faster" in reason
    assert calls == 5
    assert len(stats["guard"]) == 1


def test_the_first_call_of_a_plan_is_no_round() -> None:
    inputs = three(57)
    traced = trace(muladd, *inputs)
    for expected in (0, 1):
        with torch.profiler.profile() as profile:
            traced(*inputs)
        assert sum(event.name == "tvm::guard" for event in profile.events()) == expected


@pytest.mark.parametrize("kept", ["plan", "interpreter"])
def test_typical_rounds_decide(slow_plans: list[bool], kept: str) -> None:
    """Neither a few fast runs of a slow plan nor a few slow ones of a fast plan do."""
    inputs = three(55)
    traced = trace(many_operators, *inputs)
    traced(*inputs)
    for call in range(ROUNDS):
        slow_plans[0] = (call % 3 == 1) == (kept == "plan")
        traced(*inputs)
        if torch_tvm.stats()["guard"]:
            break
    (trial,) = torch_tvm.stats()["guard"]
    assert trial["kept"] == kept


def test_only_these_shapes_lose_their_plan(slow_plans: list[bool]) -> None:
    inputs = three(51)
    traced = trace(muladd, *inputs)
    calls_until_decided(traced, *inputs)
    others = three(52)
    same(traced(*others), muladd(*others))
    assert torch_tvm.stats()["compiled"] == 2
    assert torch_tvm.stats()["fallbacks"] == 0


def test_packed_weights_of_a_dropped_plan_are_freed(slow_plans: list[bool]) -> None:
    before = torch_tvm.stats()["packed_bytes"]
    x = torch.randn(3, 64)
    traced = trace(torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU()).eval(), x)
    with torch.no_grad():
        traced(x)
        assert torch_tvm.stats()["packed_bytes"] > before
        calls_until_decided(traced, x)
    assert torch_tvm.stats()["packed_bytes"] == before


def test_a_fast_plan_stays() -> None:
    inputs = three(56)
    traced = trace(many_operators, *inputs)
    for _ in range(ROUNDS + 3):
        traced(*inputs)
    stats = torch_tvm.stats()
    (trial,) = stats["guard"]
    assert trial["kept"] == "plan"
    assert trial["plan_seconds"] <= trial["interpreter_seconds"]
    assert (stats["cache_hits"], stats["fallbacks"]) == (ROUNDS + 2, 0)


@pytest.mark.parametrize("options", [{"strict": True}, {"guard": False}, {"debug_runtime": True}])
def test_without_the_guard_plans_stay(slow_plans: list[bool], options: dict[str, bool]) -> None:
    torch_tvm.enable(compile_process=False, **options)  # type: ignore[arg-type]
    inputs = three(53)
    traced = trace(muladd, *inputs)
    for _ in range(ROUNDS + 1):
        traced(*inputs)
    stats = torch_tvm.stats()
    assert (stats["cache_hits"], stats["fallbacks"], stats["guard"]) == (ROUNDS, 0, [])


def test_strict_accepts_that_a_plan_was_dropped(slow_plans: list[bool]) -> None:
    """Strict raises where TVM cannot run a group; here it could."""
    inputs = three(54)
    traced = trace(muladd, *inputs)
    calls_until_decided(traced, *inputs)
    with torch_tvm.enabled(strict=True):
        same(traced(*inputs), muladd(*inputs))
