"""The process that compiles: what it is given and gives back, how long it lives, and what happens when it dies."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from jit_checks import trace

import torch_tvm
from torch_tvm import compile_process, relay, runtime
from torch_tvm.compile_process import CompileProcess, UnavailableError

X = relay.Var("x", relay.TensorType([3, 4], "float32"))


@pytest.fixture(scope="module")
def process() -> Iterator[CompileProcess]:
    made = CompileProcess()
    yield made
    made.stop()


@pytest.fixture
def in_use(process: CompileProcess, monkeypatch: pytest.MonkeyPatch) -> CompileProcess:
    """Let groups compile in the module's process."""
    monkeypatch.setattr(compile_process, "PROCESS", process)
    torch_tvm.clear_cache()
    torch_tvm.enable(guard=False, compile_process=True)
    return process


def compile_relu(process: CompileProcess, options: dict[str, Any] | None = None) -> runtime.Plan:
    function = relay.Function([X], relay.add(relay.nn.relu(X), relay.const(np.float32(2))))
    return process.compile(function, 1, [[0, 1]], [[0, 1]], {"name": "relu", **(options or {})})


def check_relu(plan: runtime.Plan) -> None:
    x = torch.randn(3, 4)
    (y,) = runtime.Executor(plan, [x], [x])(x)
    torch.testing.assert_close(y, x.relu() + 2)


def has_ended(pid: int) -> bool:
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def test_plan(process: CompileProcess) -> None:
    plan = compile_relu(process)
    assert plan.name == "relu"
    assert [dict(kernel)["name"] for kernel in plan.info["kernels"]] == [plan.steps[0].name]
    check_relu(plan)


def test_same_as_in_this_process(in_use: CompileProcess) -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.GELU(), torch.nn.Flatten(), torch.nn.Linear(288, 5)
    )
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        there = trace(network, x)(x)
        assert in_use.pid is not None
        torch_tvm.clear_cache()
        torch_tvm.enable(guard=False, compile_process=False)
        here = trace(network, x)(x)
    assert torch_tvm.stats()["compiled"] == 2
    assert torch.equal(there, here)


def test_one_child_serves_all_threads(in_use: CompileProcess) -> None:
    compile_relu(in_use)
    pid = in_use.pid
    results: dict[int, torch.Tensor] = {}

    def run(width: int) -> None:
        x = torch.full((width,), 2.0)
        with torch.no_grad():
            results[width] = trace(lambda x: (x * width).exp() + 1, x)(x)

    threads = [threading.Thread(target=run, args=(width,)) for width in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for width in range(1, 9):
        torch.testing.assert_close(results[width], torch.full((width,), 2.0 * width).exp() + 1)
    assert torch_tvm.stats()["fallbacks"] == 0
    assert in_use.pid == pid


def test_errors_keep_kind_and_message(process: CompileProcess) -> None:
    with pytest.raises(ValueError, match="LLVM knows no mcpu 'pentium9'"):
        compile_relu(process, {"target": "llvm -mcpu=pentium9"})
    check_relu(compile_relu(process))


def test_compile_error_falls_back_with_its_reason(
    in_use: CompileProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        compile_process, "_plain", lambda arguments: [*arguments[:-1], {"target": "llvm -mcpu=pentium9"}]
    )
    x = torch.randn(5)
    with torch.no_grad():
        torch.testing.assert_close(trace(lambda x: x.exp() + 1, x)(x), x.exp() + 1)
    (reason,) = torch_tvm.stats()["fallback_reasons"]
    assert "ValueError: target: LLVM knows no mcpu 'pentium9'" in reason


def test_idle_child_ends_and_the_next_request_starts_another() -> None:
    process = CompileProcess(idle_seconds=0.05)
    try:
        check_relu(compile_relu(process))
        first = process.pid
        assert first is None or has_ended(first)
        check_relu(compile_relu(process))
    finally:
        process.stop()


def test_killed_child_is_replaced() -> None:
    process = CompileProcess()
    try:
        compile_relu(process)
        first = process.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        check_relu(compile_relu(process))
        assert process.pid != first
    finally:
        process.stop()


def test_child_that_always_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_process, "_PROGRAM", "-c import os; os.abort()")
    process = CompileProcess()
    with pytest.raises(RuntimeError, match="the process that compiles (was ended by SIG|ended with status)"):
        compile_relu(process)
    assert process.pid is None


def test_interrupted_request_leaves_no_answer_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    process = CompileProcess()
    try:
        compile_relu(process)
        first = process.pid
        assert first is not None
        with monkeypatch.context() as patch:

            def interrupt(self: object) -> None:
                raise KeyboardInterrupt

            patch.setattr(compile_process.Connection, "recv", interrupt)
            with pytest.raises(KeyboardInterrupt):
                compile_relu(process)
        assert has_ended(first)
        check_relu(compile_relu(process))
    finally:
        process.stop()


@pytest.mark.parametrize(
    ("python", "reason"),
    [("/usr/sbin/uwsgi", "not a Python interpreter"), ("/nowhere/python3", "cannot be started")],
)
def test_no_python(monkeypatch: pytest.MonkeyPatch, python: str, reason: str) -> None:
    monkeypatch.setattr("multiprocessing.spawn.get_executable", lambda: python)
    with pytest.raises(UnavailableError, match=reason):
        compile_relu(CompileProcess())


def test_nowhere_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with pytest.raises(UnavailableError, match="/nowhere"):
        compile_relu(CompileProcess())


def test_without_a_linker_this_process_compiles(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "/bin/false")
    process = CompileProcess()
    monkeypatch.setattr(compile_process, "PROCESS", process)
    torch_tvm.clear_cache()
    torch_tvm.enable(guard=False, compile_process=True)
    try:
        with torch.no_grad(), caplog.at_level(logging.WARNING, "torch_tvm"):
            for size in (6, 7):
                x = torch.randn(size)
                torch.testing.assert_close(trace(lambda x: x.exp() + 1, x)(x), x.exp() + 1)
    finally:
        process.stop()
    assert torch_tvm.stats()["compiled"] == 2
    assert torch_tvm.stats()["fallbacks"] == 0
    assert sum("compiling in this process" in record.message for record in caplog.records) == 1


def test_forked_process_lets_go_of_the_child(process: CompileProcess) -> None:
    compile_relu(process)
    pid = process.pid
    forked = os.fork()
    if forked == 0:
        process.forget()
        os._exit(0 if process.pid is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    check_relu(compile_relu(process))
    assert process.pid == pid


def run_program(program: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def test_program_has_no_compiler_and_leaves_no_child() -> None:
    output = run_program(
        """
        import sys, torch, torch_tvm
        x = torch.randn(7)
        with torch.no_grad():
            torch.jit.trace(lambda x: x.exp() + 1, x)(x)
        assert torch_tvm.stats()["compiled"] == 1, torch_tvm.stats()
        assert "tvm" not in sys.modules
        assert "libtvm_compiler" not in open("/proc/self/maps").read()
        print(torch_tvm.compile_process.PROCESS.pid)
        """
    )
    assert has_ended(int(output))


def test_threads_bound_by_openmp_do_not_bind_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMP_CPU_AFFINITY", str(min(os.sched_getaffinity(0))))
    process = CompileProcess()
    try:
        compile_relu(process)
        assert process.pid is not None
        assert os.sched_getaffinity(process.pid) == runtime.usable_cpus()
    finally:
        process.stop()
