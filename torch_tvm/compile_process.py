"""Compilation in a process of its own.

TVM's compiler takes 250 MB that a process cannot give back once it has loaded it (ResNet-50 itself needs 130 MB for
packed weights and intermediates), and a compiler that crashes would take the user's program with it. So a child
compiles, hands over plans as plain values and code as shared libraries, and ends when it has had nothing to do for a
while. Where there is no linker, or no Python that could be started, the compiler is loaded after all.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import multiprocessing.spawn
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import tvm_ffi

from torch_tvm import runtime
from torch_tvm.symbolic_plan import SymbolicPlan

#: What the child says, in place of an answer, before it ends for want of requests.
IDLE = "idle"

_PROGRAM = Path(__file__).parent / "compiler" / "serve.py"
_IDLE_SECONDS = 20.0  # of a child without requests; the next one has to import TVM again: 1.3 s

# What binds or counts threads of a process that computes: the child's have to spread over all CPUs.
_OPENMP_VARIABLES = ("GOMP_CPU_AFFINITY", "OMP_PROC_BIND", "OMP_PLACES", "KMP_AFFINITY")


_BUILT_OF_A_MESSAGE = (
    "AssertionError AttributeError IndexError KeyError MemoryError NotImplementedError OverflowError RuntimeError TypeError"
    " ValueError"
).split()


class UnavailableError(RuntimeError):
    """No child can compile here; the message says why."""


class CompileProcess:
    """A child that compiles, started when it is needed.

    Threads share it: one request at a time, each of which is compiled on all CPUs.

    Parameters
    ----------
    idle_seconds
        How long the child waits for another request before it ends.
    """

    def __init__(self, idle_seconds: float = _IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._unavailable: str | None = None

    def compile(self, *arguments: Any) -> runtime.Plan:
        """Compile a Relay function.

        Parameters
        ----------
        *arguments
            Those of `torch_tvm.compiler.pipeline.lower_function`.

        Raises
        ------
        UnavailableError
            If a child cannot be started, cannot link, or its libraries cannot be loaded; then always.
        RuntimeError
            If the child ended, by a signal for example. Errors of the compiler have their own kinds.
        """
        plan: runtime.Plan = self._available("lower_function", arguments)
        return plan

    def compile_symbolic(self, *arguments: Any) -> SymbolicPlan:
        """Compile Relay functions that differ in sizes, as `compile` does one.

        Parameters
        ----------
        *arguments
            Those of `torch_tvm.compiler.symbolic.lower_symbolic`.
        """
        plan: SymbolicPlan = self._available("lower_symbolic", arguments)
        return plan

    def _available(self, lower: str, arguments: tuple[Any, ...]) -> Any:
        if self._unavailable is not None:
            raise UnavailableError(self._unavailable)
        try:
            return self._compile(lower, arguments)
        except UnavailableError as error:
            self._unavailable = str(error)
            self.stop()
            raise

    def _compile(self, lower: str, arguments: tuple[Any, ...]) -> Any:
        try:
            temporary = tempfile.TemporaryDirectory(prefix="torch_tvm_", ignore_cleanup_errors=True)
        except OSError as error:
            raise UnavailableError(f"no folder for the library can be made: {error}") from error
        with temporary as folder:
            library = Path(folder, "kernels.so")
            request = {
                "lower": lower,
                "arguments": _plain(arguments),
                "cpus": sorted(runtime.usable_cpus()),
                "library": str(library),
            }
            with self._lock:
                kind, value = self._ask(request)
            if kind == "error":
                _raise(*value)
            if not value.steps and not value.packing_steps:
                return value.plan(lambda name: None)
            try:
                module = tvm_ffi.load_module(str(library))
            except Exception as error:  # a file system without execution, for example
                raise UnavailableError(f"{library} cannot be loaded: {error}") from error
            return value.plan(lambda name: module[name])

    @property
    def pid(self) -> int | None:
        """The process id of the child, None where there is none."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def stop(self) -> None:
        """End the child; the next request starts another one."""
        with self._lock:
            self._drop()

    def forget(self) -> None:
        """Let go of a child that is another process's: this process has been forked."""
        self._lock = threading.Lock()
        if self._connection is not None:
            self._connection.close()
        self._child = self._connection = None

    def _ask(self, request: Mapping[str, Any]) -> tuple[str, Any]:
        for _ in range(2):  # a child that was there already may have ended since
            child, connection = self._child_and_connection()
            try:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.send(request)
                answer: tuple[str, Any] = connection.recv()
                if answer[0] != IDLE:
                    return answer
                end = "has nothing to do"
            except (EOFError, ConnectionResetError):
                end = _describe_end(child.wait())
            except BaseException:  # KeyboardInterrupt: the answer to this request may still come
                self._drop()
                raise
            self._drop()
        raise RuntimeError(f"the process that compiles {end}")

    def _child_and_connection(self) -> tuple[subprocess.Popen[bytes], Connection]:
        if self._child is None or self._connection is None:
            self._child, self._connection = self._start()
        return self._child, self._connection

    def _start(self) -> tuple[subprocess.Popen[bytes], Connection]:
        python = _python()
        ours, theirs = Pipe()
        environment = {key: value for key, value in os.environ.items() if key not in _OPENMP_VARIABLES}
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        command = [python, str(_PROGRAM), str(theirs.fileno()), str(self._idle_seconds)]
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C on the terminal is for the user's program
            )
        except OSError as error:
            ours.close()
            raise UnavailableError(f"{python} cannot be started: {error}") from error
        finally:
            theirs.close()
        # Whenever it ends, it is not to remain as a zombie.
        threading.Thread(target=child.wait, name="torch_tvm_compile_process", daemon=True).start()
        return child, ours

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._child = self._connection = None


def _describe_end(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}; what it said is on standard error"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-status).name}"
    return f"was ended by signal {-status}"


def _python() -> str:
    """Give the interpreter to start: programs that embed Python have named theirs to multiprocessing."""
    if getattr(sys, "frozen", False):
        raise UnavailableError("this program is frozen")
    python = os.fsdecode(multiprocessing.spawn.get_executable() or "")
    if not Path(python).name.lower().startswith("python"):
        raise UnavailableError(f"{python!r} is not a Python interpreter; see multiprocessing.set_executable")
    return python


def _plain(value: Any) -> Any:
    """Turn tvm-ffi's containers into Python's, which every process reads."""
    if isinstance(value, tvm_ffi.Array | tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, tvm_ffi.Map | dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, str) else value


def _raise(kind: str, message: str) -> None:
    """Raise what the child raised, as an error of the same name."""
    if kind == "NoLinkerError":
        raise UnavailableError(message)
    known = kind in _BUILT_OF_A_MESSAGE
    raise (getattr(builtins, kind) if known else type(kind, (RuntimeError,), {}))(message)


#: That of this process.
PROCESS = CompileProcess()
atexit.register(PROCESS.stop)
os.register_at_fork(after_in_child=PROCESS.forget)
