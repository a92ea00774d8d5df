"""Calls of groups: compilation, cache, fallback, threads and processes."""

from __future__ import annotations

import copy
import io
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
from jit_checks import muladd, same, three, trace
from torch import nn

import torch_tvm

pytestmark = pytest.mark.usefixtures("nothing_compiled")

Tensor = torch.Tensor


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
