"""Calls of groups: compilation, cache, fallback, threads and processes."""

from __future__ import annotations

import copy
import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torch_tvm

Tensor = torch.Tensor


def muladd(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.relu(a * b + c)


def trace(function: Any, *inputs: Any) -> Any:
    return torch.jit.trace(function, inputs, check_trace=False)


def three(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(shape), torch.randn(shape), torch.randn(shape)


def same(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.fixture(autouse=True)
def nothing_compiled() -> None:
    """Groups of one subgraph share their plans, also from test to test."""
    torch_tvm.clear_cache()
    torch_tvm.reset_stats()


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Let a test put a function in the compiler's place; it is given the compiler and its arguments."""
    from torch_tvm import compiler as module

    real = module.compile

    def install(function: Callable[..., Any]) -> None:
        monkeypatch.setattr(module, "compile", lambda *arguments: function(real, *arguments))

    return install


def test_the_first_call_compiles_and_later_ones_are_hits() -> None:
    traced = trace(muladd, *three(4, 5))
    for calls in range(4):
        inputs = three(4, 5)
        same(traced(*inputs), muladd(*inputs))
        stats = torch_tvm.stats()
        assert (stats["compiled"], stats["cache_hits"], stats["fallbacks"]) == (1, calls, 0)
    assert torch_tvm.stats()["compile_seconds"] > 0


def test_tracing_with_its_check_compiles_once() -> None:
    with torch.no_grad():
        torch.jit.trace(muladd, three(3, 7))
    assert torch_tvm.stats()["compiled"] == 1
    assert not torch_tvm.stats()["fallback_reasons"]


class Net(nn.Module):
    """Weights and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 4)
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.second(torch.relu(self.first(x)))) * self.scale  # type: ignore[operator]


def loaded(module: Any) -> Any:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module), buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


FORMS: dict[str, Callable[[nn.Module], Any]] = {
    "traced": lambda module: trace(module, torch.randn(2, 6)),
    "scripted": torch.jit.script,
    "loaded": loaded,
    "frozen": lambda module: torch.jit.freeze(torch.jit.script(module)),
    "script of traced": lambda module: torch.jit.script(trace(module, torch.randn(2, 6))),
}
MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "grad": nullcontext,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMS)
def test_forms_and_modes(form: str, mode: str) -> None:
    module = Net().eval()
    compiled = FORMS[form](module)
    torch_tvm.reset_stats()
    for _ in range(2):
        x = torch.randn(2, 6)
        with MODES[mode]():
            result = compiled(x)
            same(result, module(x))
        assert result.requires_grad == (mode == "grad" and form != "frozen")
        assert result.is_inference() == (mode == "inference")
    stats = torch_tvm.stats()
    assert stats["compiled"] == 1
    assert stats["fallbacks"] == 0


def test_each_signature_compiles_once() -> None:
    traced = trace(muladd, *three(2, 3))
    shapes = [(2, 3), (4, 3), (2, 3, 4), (7,), ()]
    for _ in range(3):
        for shape in shapes:
            inputs = three(*shape)
            same(traced(*inputs), muladd(*inputs))
    doubles = [x.double() for x in three(2, 3)]
    same(traced(*doubles), muladd(*doubles))
    assert torch_tvm.stats()["compiled"] == len(shapes) + 1
    assert torch_tvm.stats()["fallbacks"] == 0


def test_numbers_are_part_of_the_signature() -> None:
    @torch.jit.script
    def function(x: Tensor, n: int, s: float) -> Tensor:
        return torch.relu(x * s) + n

    for n, s in [(1, 0.5), (2, 0.5), (2, -1.5)]:
        x = torch.randn(5)
        same(function(x, n, s), torch.relu(x * s) + n)
    assert torch_tvm.stats()["compiled"] == 3


def test_memory_orders() -> None:
    traced = trace(muladd, *three(2, 3, 4, 5))
    a, b, c = three(2, 3, 4, 5)
    for change in (
        lambda t: t,
        lambda t: t.to(memory_format=torch.channels_last),
        lambda t: t.permute(3, 0, 2, 1),
        lambda t: t[:, :, ::2],
        lambda t: t[:1].expand(2, 3, 4, 5),
    ):
        inputs = change(a), change(b), change(c)
        result, expected = traced(*inputs), muladd(*inputs)
        same(result, expected)
        assert result.stride() == expected.stride()
    assert torch_tvm.stats()["fallbacks"] == 0


def test_the_cache_is_bounded_by_max_signatures() -> None:
    built: list[int] = []
    traced = trace(muladd, *three(1))
    with torch_tvm.enabled(max_signatures=2):
        for size in (1, 2, 3, 1, 1, 3, 2):
            before = torch_tvm.stats()["compiled"]
            traced(*three(size))
            if torch_tvm.stats()["compiled"] > before:
                built.append(size)
    assert built == [1, 2, 3, 1, 2]  # 1 was dropped for 3, later 2 for 1


def test_signatures_that_never_return_stop_being_compiled() -> None:
    @torch.jit.script
    def function(x: Tensor, n: int) -> Tensor:
        for i in range(n):
            x = torch.relu(x) + i
        return x

    x = torch.randn(5)
    with torch_tvm.enabled(max_signatures=2):
        same(function(x, 200), x.relu() + sum(range(200)))  # PyTorch unrolls by 8
    stats = torch_tvm.stats()
    assert (stats["compiled"], stats["fallbacks"]) == (8, 25 - 8)
    assert any("new shapes or numbers" in reason for reason in stats["fallback_reasons"])


def test_clear_cache_forgets_plans() -> None:
    traced = trace(muladd, *three(3))
    inputs = three(3)
    traced(*inputs)
    torch_tvm.clear_cache()
    same(traced(*inputs), muladd(*inputs))
    assert torch_tvm.stats()["compiled"] == 2


def test_options_that_change_code_compile_anew() -> None:
    traced = trace(muladd, *three(3))
    inputs = three(3)
    for level, compiled in ((3, 1), (0, 2), (3, 2)):
        with torch_tvm.enabled(opt_level=level):
            same(traced(*inputs), muladd(*inputs))
        assert torch_tvm.stats()["compiled"] == compiled


def test_equal_subgraphs_share_what_they_compile() -> None:
    class Scale(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.full((3,), factor))

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x * self.w) + 1.0

    x = torch.randn(3)
    with torch.no_grad():
        for factor in (2.0, 3.0, 4.0):
            traced = trace(Scale(factor), x)
            same(traced(x), torch.relu(x * factor) + 1)
    assert torch_tvm.stats()["compiled"] == 1


def test_constants_tell_subgraphs_apart() -> None:
    def build(table: Tensor, factor: float) -> Any:
        return trace(lambda x: torch.relu(x * factor) + table, torch.randn(3))

    x = torch.randn(3)
    for table, factor in ((torch.zeros(3), 2.0), (torch.ones(3), 2.0), (torch.ones(3), 2.0000000000000004)):
        same(build(table, factor)(x), torch.relu(x * factor) + table)
    assert torch_tvm.stats()["compiled"] == 3


def test_disabled_groups_run_in_the_interpreter() -> None:
    traced = trace(muladd, *three(3))
    inputs = three(3)
    traced(*inputs)
    with torch_tvm.disabled():
        same(traced(*inputs), muladd(*inputs))
    assert torch_tvm.stats()["cache_hits"] == 0
    traced(*inputs)
    assert torch_tvm.stats()["cache_hits"] == 1


def test_groups_are_counted_while_they_live() -> None:
    before = torch_tvm.stats()["groups"]
    module = loaded(Net().eval())
    with torch.no_grad():
        module(torch.randn(2, 6))
    assert torch_tvm.stats()["groups"] == before + 1
    del module
    assert torch_tvm.stats()["groups"] == before


# ---------------------------------------------------------------------------------------------- failures


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


# ---------------------------------------------------------------------------------------- re-partition


def divide(a: Tensor, b: Tensor) -> Tensor:
    return torch.neg(torch.div(a * 2 + 1, b, rounding_mode="floor") * 3)


def test_what_does_not_convert_costs_only_itself() -> None:
    """Division of integers raises in PyTorch where the divisor is zero: no kernel does, so that it is refused."""
    floats = torch.randn(6), torch.rand(6) + 1
    integers = torch.randint(-9, 9, (6,)), torch.randint(1, 5, (6,))
    traced = trace(divide, *floats)
    same(traced(*floats), divide(*floats))
    assert torch_tvm.stats()["compiled"] == 1
    for calls in (1, 2):
        same(traced(*integers), divide(*integers))
        stats = torch_tvm.stats()
        assert (stats["compiled"], stats["fallbacks"], stats["cache_hits"]) == (3, 0, 2 * (calls - 1))
        ((reason, count),) = stats["fallback_reasons"].items()
        assert count == calls
        assert reason.startswith("aten::div")
        assert "divides integers" in reason
        assert "test_jit_group.py" in reason
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        traced(integers[0], torch.zeros(6, dtype=torch.int64))
    same(traced(*floats), divide(*floats))


def test_strict_raises_what_does_not_convert() -> None:
    integers = torch.randint(-9, 9, (6,)), torch.randint(1, 5, (6,))
    traced = trace(divide, *integers)
    with (
        torch_tvm.enabled(strict=True),
        pytest.raises(RuntimeError, match=r"NotConvertibleError(.|\n)*aten::div(.|\n)*test_jit_group\.py"),
    ):
        traced(*integers)


# ------------------------------------------------------------------------------------- ineligible calls


class Mode(torch.utils._python_dispatch.TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Wrapper(Tensor):
    """A tensor without memory of its own."""

    wrapped: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapper:
        wrapper = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        wrapper.wrapped = inner
        return wrapper

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        plain = [a.wrapped if isinstance(a, Wrapper) else a for a in args]
        return func(*plain, **(kwargs or {}))


def double_add(x: Tensor) -> Tensor:
    return torch.neg(x * 2 + x)


def in_forward_mode(function: Any, x: Tensor) -> Tensor:
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        return torch.autograd.forward_ad.unpack_dual(function(dual)).tangent


def in_mode(mode: Any, function: Any, x: Tensor) -> Tensor:
    with mode:
        return function(x)


def fake_shape(function: Any, x: Tensor) -> Tensor:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() as mode:
        shape = function(mode.from_tensor(x)).shape
    return torch.zeros(shape)


INELIGIBLE: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "vmap": (lambda f, x: torch.vmap(f)(x), "torch.func"),
    "func.grad": (lambda f, x: torch.func.grad(lambda a: f(a).sum())(x), "torch.func"),
    "jvp": (lambda f, x: torch.func.jvp(f, (x,), (x,))[1], "torch.func"),
    "forward mode": (in_forward_mode, "forward-mode"),
    "fake": (fake_shape, "subclass|Dispatch"),
    "dispatch mode": (lambda f, x: in_mode(Mode(), f, x), "Dispatch"),
    "autocast": (lambda f, x: in_mode(torch.autocast("cpu", torch.bfloat16), f, x), "autocast"),
    "subclass": (lambda f, x: f(Wrapper(x)), "subclass"),
    "meta": (lambda f, x: torch.zeros(f(x.to("meta")).shape), "meta"),
    "sparse": (lambda f, x: f(x.to_sparse()).to_dense(), "sparse"),
    "sparse csr": (lambda f, x: f(x.to_sparse_csr()).to_dense(), "sparse"),
    "complex": (lambda f, x: f(x.to(torch.complex64)), "dtype"),
    "lazy conjugate": (lambda f, x: f(torch.complex(x, x).conj()), "conjugate"),
    "lazy negative": (lambda f, x: f(torch._neg_view(x)), "negative"),
    "nested": (
        lambda f, x: torch.nested.to_padded_tensor(f(torch.nested.nested_tensor([x, x])), 0.0),
        "nested",
    ),
}


@pytest.mark.parametrize("kind", INELIGIBLE)
def test_what_is_not_a_plain_tensor_falls_back(kind: str) -> None:
    call, reason = INELIGIBLE[kind]
    x = torch.randn(3, 4)
    traced = trace(double_add, x)
    traced(x)  # there is a plan for these sizes
    torch_tvm.reset_stats()
    torch.testing.assert_close(call(traced, x), call(double_add, x))
    stats = torch_tvm.stats()
    assert stats["cache_hits"] == 0
    assert stats["fallbacks"] >= 1
    assert any(part in text for text in stats["fallback_reasons"] for part in reason.split("|"))


def test_quantised_tensors_fall_back() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.relu(torch.clamp(x, -1.0, 1.0))

    x = torch.randn(3, 4)
    traced = trace(function, x)
    traced(x)
    quantised = torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)
    assert torch.equal(traced(quantised).dequantize(), function(quantised).dequantize())
    assert any("quantised" in reason for reason in torch_tvm.stats()["fallback_reasons"])


@pytest.mark.parametrize("shape", [(0,), (3, 0), (1, 1, 1), ()])
def test_tensors_of_few_elements(shape: tuple[int, ...]) -> None:
    inputs = three(*shape)
    traced = trace(muladd, *inputs)
    same(traced(*inputs), muladd(*inputs))
    assert traced(*inputs).shape == shape


def test_special_numbers() -> None:
    a = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 1e-45, 3e38])
    traced = trace(muladd, a, a, a)
    torch.testing.assert_close(traced(a, a, a), muladd(a, a, a), rtol=0, atol=0, equal_nan=True)


def test_strict_raises_for_ineligible_tensors() -> None:
    x = torch.randn(3, 4)
    traced = trace(double_add, x)
    with torch_tvm.enabled(strict=True):
        with pytest.raises(RuntimeError, match=r"NotConvertibleError(.|\n)*complex"):
            traced(x.to(torch.complex64))
        same(traced(x), double_add(x))


def test_tracing_through_a_group_records_its_operators() -> None:
    x = torch.randn(3, 4)
    inner = trace(double_add, x)
    inner(x)
    with torch_tvm.enabled(strict=True):
        outer = trace(lambda t: inner(t) * 2, x)
    kinds = {node.kind() for node in outer.inlined_graph.nodes()}
    assert {"aten::mul", "aten::neg"} <= kinds


# -------------------------------------------------------------------------------- threads and processes


def test_eight_threads_compile_once(compiler: Any) -> None:
    builds = []

    def counting(real: Any, *arguments: Any) -> Any:
        builds.append(threading.get_ident())
        return real(*arguments)

    compiler(counting)
    inputs = three(32, 33)
    expected = muladd(*inputs)
    traced = trace(muladd, *inputs)
    start = threading.Barrier(8)
    wrong: list[Any] = []

    def work() -> None:
        start.wait()
        for _ in range(20):
            try:
                same(traced(*inputs), expected)
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(builds) == 1
    assert torch_tvm.stats()["fallbacks"] == 0


def test_a_forked_child_falls_back() -> None:
    inputs = three(64, 65)
    expected = muladd(*inputs)
    traced = trace(muladd, *inputs)
    traced(*inputs)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            before = torch_tvm.stats()["cache_hits"]
            right = torch.allclose(traced(*inputs), expected)
            stats = torch_tvm.stats()
            fell_back = any("forked" in reason for reason in stats["fallback_reasons"])
            code = 0 if right and fell_back and stats["cache_hits"] == before else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_exit_with_live_groups_is_clean() -> None:
    program = """
import threading, torch, torch_tvm
x = torch.rand(50, 50)
f = torch.jit.trace(lambda x: (x * 2).relu() + 1, x)
f(x)
thread = threading.Thread(target=lambda: [f(x) for _ in range(1000)])
thread.start()
assert torch_tvm.stats()["compiled"] >= 1
"""
    root = Path(torch_tvm.__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_the_profiler_shows_groups_by_name() -> None:
    traced = trace(muladd, *three(9))
    traced(*three(9))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        traced(*three(9))
    assert "tvm::group_mul_add_relu" in {event.key for event in profile.key_averages()}


def test_deep_copies_keep_their_own_weights() -> None:
    x = torch.randn(2, 6)
    module = Net().eval()
    traced = trace(module, x)
    with torch.no_grad():
        traced(x)
        other = copy.deepcopy(traced)
        for parameter in other.parameters():
            parameter.mul_(-2)
        expected = copy.deepcopy(module)
        for parameter in expected.parameters():
            parameter.mul_(-2)
        for _ in range(2):
            same(traced(x), module(x))
            same(other(x), expected(x))
    assert torch_tvm.stats()["compiled"] == 1
