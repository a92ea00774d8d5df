"""Parallel loops run on torch's threads, and on no others."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import tvm
import tvm_ffi
from runtime_plans import build, one_step
from tvm import te
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from torch_tvm.runtime import Buffer, Executor, Plan, Step

COUNT = 64


def task_recorder(parallel: bool = True) -> Executor:
    """A plan that writes, for each iteration, which thread ran it."""
    source = te.placeholder((COUNT,), "int64", name="source")
    thread = te.compute(
        (COUNT,),
        lambda i: source[i] + tvm.tirx.call_extern("int64", "pthread_self"),
        name="thread",
    )
    kernel = build("record", [source], [thread], parallel=parallel)
    example = torch.zeros(COUNT, dtype=torch.int64)
    return Executor(one_step("record", kernel, [(COUNT,)], (COUNT,), "int64"), [example], [example])


def threads_of(run: Executor) -> list[int]:
    """Distinct threads in the order of the iterations they ran; each ran a contiguous part."""
    ids = run(torch.zeros(COUNT, dtype=torch.int64))[0].unique_consecutive().tolist()
    assert len(set(ids)) == len(ids)
    return [int(i) for i in ids]


@pytest.fixture(autouse=True)
def restore_thread_count() -> Iterator[None]:
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_set_num_threads_is_obeyed(count: int) -> None:
    run = task_recorder()
    torch.set_num_threads(count)
    assert len(threads_of(run)) == count


def test_caller_takes_part_and_workers_are_kept() -> None:
    torch.set_num_threads(2)
    run = task_recorder()
    first = threads_of(run)
    assert first[0] == threading.get_ident()
    assert threads_of(run) == first


def test_serial_loop_stays_on_the_caller() -> None:
    assert threads_of(task_recorder(parallel=False)) == [threading.get_ident()]


def test_every_thread_may_launch() -> None:
    torch.set_num_threads(2)
    run = task_recorder()
    results: list[list[int]] = []

    def work() -> None:
        torch.set_num_threads(2)
        for _ in range(20):
            results.append(threads_of(run))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 80
    assert all(len(threads) == 2 for threads in results)


def nesting_kernel() -> Any:
    """Calls the global function "test.nested" from a parallel loop."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("nest")
        T.func_attr({"global_symbol": "nest"})
        copy = T.arg("copy", T.buffer((2,), "int64"))
        with T.parallel(0, 2) as i:
            T.evaluate(T.call_packed("test.nested", i))
            T.buffer_store(copy, T.int64(1), [i])
    return tvm.tirx.build(builder.get(), target="llvm")["nest"]


def test_loop_inside_a_parallel_loop_is_serial() -> None:
    torch.set_num_threads(2)
    inner = task_recorder()
    seen: dict[int, list[int]] = {}

    def nested(i: int) -> None:
        seen[i] = [threading.get_ident(), *threads_of(inner)]

    tvm_ffi.register_global_func("test.nested", nested, override=True)
    example = torch.zeros(2, dtype=torch.int64)
    Executor(one_step("nest", nesting_kernel(), [], (2,), "int64"), [], [example])()
    assert sorted(seen) == [0, 1]
    assert seen[0] == [seen[0][0]] * 2, "one thread, the one that runs the outer iteration"
    assert seen[1] == [seen[1][0]] * 2
    assert seen[0][0] != seen[1][0]


def reversing_kernel(count: int) -> Any:
    """Two loops of one parallel region, the second of which reads what other threads wrote in the first."""
    pragma = "pragma_parallel_launch_point", "pragma_parallel_barrier_when_finish"
    zero, one = (tvm.tirx.const(value, "int32") for value in (0, 1))
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("reverse")
        T.func_attr({"global_symbol": "reverse"})
        source, twice, result = (
            T.arg(name, T.buffer((count,), "int64")) for name in ("source", "twice", "result")
        )
        with T.attr(zero, pragma[0], one):
            with T.attr(zero, pragma[1], one), T.parallel(0, count) as i:
                T.buffer_store(twice, source[i] * T.int64(2), [i])
            with T.parallel(0, count) as i:
                T.buffer_store(result, twice[count - 1 - i], [i])
    library = tvm.tirx.build(builder.get(), target="llvm")
    assert "ParallelBarrier" in library.inspect_source("ll")
    return library["reverse"]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_of_a_region_wait_for_each_other(threads: int) -> None:
    torch.set_num_threads(threads)
    count = 20_000
    kinds = [("input", 0), ("arena", -1), ("output", 0)]
    buffers = [Buffer(kind, [count], "int64", index=index) for kind, index in kinds]
    step = Step("reverse", reversing_kernel(count), [0, 1, 2])
    plan = Plan("reverse", buffers, [step], num_inputs=1, num_outputs=1, arena_bytes=8 * count)
    example = torch.zeros(count, dtype=torch.int64)
    run = Executor(plan, [example], [example])
    for _ in range(50):
        x = torch.randint(1000, (count,))
        assert torch.equal(run(x)[0], (2 * x).flip(0))


def failing_kernel() -> Any:
    """Raises in the iteration that reads a negative number, on whatever thread runs it."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("fail")
        T.func_attr({"global_symbol": "fail"})
        source, copy = (T.arg(name, T.buffer((COUNT,), "int64")) for name in ("source", "copy"))
        with T.parallel(0, COUNT) as i, T.Assert(source[i] >= T.int64(0), "negative", "ValueError"):
            T.buffer_store(copy, source[i], [i])
    return tvm.tirx.build(builder.get(), target="llvm")["fail"]


@pytest.mark.parametrize("where", [0, COUNT - 1], ids=["on the caller", "on a worker"])
def test_error_in_a_parallel_loop_reaches_the_caller(where: int) -> None:
    torch.set_num_threads(2)
    example = torch.zeros(COUNT, dtype=torch.int64)
    run = Executor(one_step("fail", failing_kernel(), [(COUNT,)], (COUNT,), "int64"), [example], [example])
    values = torch.arange(COUNT)
    assert torch.equal(run(values)[0], values)
    values[where] = -1
    for _ in range(3):
        with pytest.raises(RuntimeError, match="kernel fail of plan fail failed: ValueError: negative"):
            run(values)
    values[where] = 0
    assert torch.equal(run(values)[0], values), "a failure must not stay with the threads"


SCRIPT = textwrap.dedent("""
    import os, sys, time
    sys.path.insert(0, "test")
    import torch, torch_tvm
    from test_runtime_threads import COUNT, task_recorder, threads_of
""")


def run_script(body: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", SCRIPT + textwrap.dedent(body)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": ".", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_thread_of_tvm_no_change_of_affinity_no_spinning() -> None:
    """TVM's own pool binds the main thread to a core and spins for 130 ms of CPU after every loop."""
    output = run_script("""
        torch.set_num_threads(2)
        torch.randn(1000, 1000).add_(1)  # starts torch's workers
        run = task_recorder()
        before = os.sched_getaffinity(0), set(os.listdir("/proc/self/task"))
        for _ in range(50):
            threads_of(run)
        after = os.sched_getaffinity(0), set(os.listdir("/proc/self/task"))
        assert before == after, (before, after)
        time.sleep(0.1)  # libgomp's workers wait actively for some milliseconds
        cpu = time.process_time()
        time.sleep(0.3)
        print(time.process_time() - cpu)
    """)
    assert float(output) < 0.05


def test_forked_child_runs_loops_by_itself() -> None:
    """libgomp's team does not survive a fork: a parallel region in the child would wait for ever."""
    output = run_script("""
        torch.set_num_threads(2)
        run = task_recorder()
        assert len(threads_of(run)) == 2
        child = os.fork()
        if child == 0:
            os._exit(0 if len(threads_of(run)) == 1 else 1)
        for _ in range(600):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                print("child", os.waitstatus_to_exitcode(status), len(threads_of(run)))
                break
            time.sleep(0.1)
        else:
            os.kill(child, 9)
            print("child hangs")
    """)
    assert output == "child 0 2"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_cpus_are_all_that_threads_are_bound_to() -> None:
    """Bound by OpenMP, the main thread's own affinity is one CPU: compiling on that alone takes twice as long."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    output = run_script(
        """
        from torch_tvm.runtime import usable_cpus
        torch.set_num_threads(2)
        print(*sorted(os.sched_getaffinity(0)), "of", *sorted(usable_cpus()))
        """,
        GOMP_CPU_AFFINITY=f"{first} {second}",
    )
    assert output == f"{first} of {first} {second}"
