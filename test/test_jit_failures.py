"""Subgraphs that do not compile: failures of the compiler, and nodes that do not convert."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from jit_checks import muladd, same, three, trace

import torch_tvm

pytestmark = pytest.mark.usefixtures("nothing_compiled")

Tensor = torch.Tensor


def test_a_failed_compilation_is_remembered(compiler: Any, caplog: pytest.LogCaptureFixture) -> None:
    attempts = []

    def fail(real: Any, *arguments: Any) -> Any:
        attempts.append(arguments)
        raise ValueError("no such kernel\nsecond line")

    compiler(fail)
    traced = trace(muladd, *three(11))
    inputs = three(11)
    with caplog.at_level(logging.WARNING, logger="torch_tvm"):
        for _ in range(3):
            same(traced(*inputs), muladd(*inputs))
    assert len(attempts) == 1
    stats = torch_tvm.stats()
    assert (stats["compiled"], stats["fallbacks"], stats["cache_hits"]) == (0, 3, 0)
    (reason,) = stats["fallback_reasons"]
    assert "tvm::group_mul_add_relu" in reason
    assert reason.endswith("ValueError: no such kernel")
    assert len([record for record in caplog.records if "no such kernel" in record.message]) == 1


def test_strict_raises_the_failure_with_the_relay_text(compiler: Any) -> None:
    def fail(real: Any, *arguments: Any) -> Any:
        raise ValueError("no such kernel")

    compiler(fail)
    traced = trace(muladd, *three(12))
    with torch_tvm.enabled(strict=True):
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"CompileError(.|\n)*no such kernel(.|\n)*nn\.relu"):
                traced(*three(12))
    same(traced(*(inputs := three(12))), muladd(*inputs))


def test_an_interrupt_passes_through_and_is_not_remembered(compiler: Any) -> None:
    interrupts = [True]

    def interrupted(real: Any, *arguments: Any) -> Any:
        if interrupts:
            interrupts.pop()
            raise KeyboardInterrupt
        return real(*arguments)

    compiler(interrupted)
    traced = trace(muladd, *three(13))
    inputs = three(13)
    with pytest.raises(RuntimeError, match="interrupted"):
        traced(*inputs)
    same(traced(*inputs), muladd(*inputs))
    assert torch_tvm.stats()["compiled"] == 1


def test_the_compiler_may_call_the_function_that_it_compiles(compiler: Any) -> None:
    inputs = three(14)
    traced = trace(muladd, *inputs)
    inner = []

    def reenter(real: Any, *arguments: Any) -> Any:
        inner.append(traced(*inputs))
        return real(*arguments)

    compiler(reenter)
    same(traced(*inputs), muladd(*inputs))
    same(inner[0], muladd(*inputs))
    assert len(inner) == 1
    assert torch_tvm.stats()["fallbacks"] == 1


def enlarge(x: Tensor) -> Tensor:
    return torch.neg(torch.nn.functional.interpolate(x * 2 + 1, scale_factor=2.0, mode="bilinear") * 3)


def bytes_of(*shape: int) -> Tensor:
    return torch.randint(0, 99, shape, dtype=torch.uint8)


def test_what_does_not_convert_costs_only_itself() -> None:
    """PyTorch interpolates bytes by integer arithmetic of its own: whether the node converts is known at the call."""
    floats, integers = torch.randn(1, 2, 4, 4), bytes_of(1, 2, 4, 4)
    traced = trace(enlarge, floats)
    same(traced(floats), enlarge(floats))
    assert torch_tvm.stats()["compiled"] == 1
    for calls in (1, 2):
        same(traced(integers), enlarge(integers))
        stats = torch_tvm.stats()
        assert (stats["compiled"], stats["fallbacks"], stats["cache_hits"]) == (3, 0, 2 * (calls - 1))
        ((reason, count),) = stats["fallback_reasons"].items()
        assert count == calls
        assert reason.startswith("aten::upsample_bilinear2d")
        assert "self is Byte" in reason
        assert "test_jit_failures.py" in reason
    with pytest.raises(RuntimeError, match="failed in the TorchScript interpreter"):
        traced(torch.ones(5))
    same(traced(floats), enlarge(floats))


def test_strict_raises_what_does_not_convert() -> None:
    traced = trace(enlarge, bytes_of(1, 2, 4, 4))
    with (
        torch_tvm.enabled(strict=True),
        pytest.raises(
            RuntimeError,
            match=r"NotConvertibleError(.|\n)*aten::upsample_bilinear2d(.|\n)*test_jit_failures\.py",
        ),
    ):
        traced(bytes_of(1, 2, 4, 4))
