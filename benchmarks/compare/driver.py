"""Workers as the measuring process sees them: started, asked in turns, stopped while others are asked."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.compare.results import OURS
from benchmarks.compare.worker import environment

ROOT = Path(__file__).resolve().parents[2]
_SECONDS_TO_ANSWER = 900  # inductor compiles DenseNet-121 for minutes
_HIGHEST_PRIORITY = -20


class WorkerError(Exception):
    """What a worker could not do; the message is one line."""


class Worker:
    """A process that runs one network on one runtime; it gets no CPU time but while it is asked."""

    def __init__(
        self,
        runtime: str,
        model: str,
        batch: int,
        cpus: Sequence[int],
        log: Path,
        extra_environment: dict[str, str] | None = None,
        device: str | None = None,
    ) -> None:
        self.runtime = runtime
        self._log = log
        command = [sys.executable, "-m", "benchmarks.compare.worker", runtime, model]
        command += ["--batch", str(batch), "--cpus", ",".join(map(str, cpus))]
        command += ["--device", device] if device is not None else []
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**environment(cpus), "PYTHONPATH": path, **(extra_environment or {})},
                start_new_session=True,
            )

    def ask(self, do: str, **parameters: Any) -> dict[str, Any]:
        """Let the worker run until it has answered.

        Raises
        ------
        WorkerError
            If it fails, ends, or does not answer.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.stdin.write((json.dumps({"do": do, **parameters}) + "\n").encode())
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):  # it has ended, or was closed here
            raise self._ended() from None
        if not select.select([self._process.stdout], [], [], _SECONDS_TO_ANSWER)[0]:
            raise WorkerError(f"no answer within {_SECONDS_TO_ANSWER} s")
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        self._process.send_signal(signal.SIGSTOP)  # whatever its threads do while they wait
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _ended(self) -> WorkerError:
        code = self._process.wait()
        said = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return WorkerError(f"ended with exit status {code}: {said[-1].strip() if said else 'no message'}")

    def prefer(self) -> None:
        """Let the process go before other work on the machine, as far as the user may ask for that."""
        process = Path(f"/proc/{self._process.pid}")
        for thread in (process / "task").iterdir():
            with contextlib.suppress(PermissionError, ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), _HIGHEST_PRIORITY)
        with contextlib.suppress(
            OSError
        ):  # Linux may weigh sessions (each worker is one), and threads within them only
            (process / "autogroup").write_text(str(_HIGHEST_PRIORITY))

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has had."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def workers(
    runtimes: Sequence[str],
    model: str,
    batch: int,
    cpus: Sequence[int],
    *,
    fresh_caches: bool = False,
    device: str | None = None,
) -> Iterator[list[Worker]]:
    """Start one worker for each runtime, and end them all.

    With `fresh_caches`, what runtimes keep on disk between processes is not found. torch_tvm generates code for `device`.
    """
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        started = []
        for runtime in runtimes:
            extra = {"TORCHINDUCTOR_CACHE_DIR": f"{directory}/inductor_{runtime}"} if fresh_caches else None
            log = Path(directory) / f"{runtime}.log"
            own = device if runtime == OURS else None
            started.append(Worker(runtime, model, batch, cpus, log, extra, own))
            stack.callback(started[-1].close)
        yield started


def _machine_seconds() -> float:
    """Return the CPU time that all processes have had, and what other machines on this one's hardware took of it."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def foreign_share(measured: Sequence[Worker]) -> Iterator[list[float]]:
    """Append, at the end of the block, which part of the machine's CPU time went to other work than the workers'."""
    found: list[float] = []
    ours = -sum(worker.cpu_seconds() for worker in measured)
    everything, start = -_machine_seconds(), time.perf_counter()
    yield found
    ours += sum(worker.cpu_seconds() for worker in measured)
    everything += _machine_seconds()
    cpus = os.cpu_count() or 1
    found.append(max(0.0, everything - ours) / (cpus * (time.perf_counter() - start)))


def interleaved(
    prepared: Sequence[Worker], rounds: int, seconds: float, calls: int
) -> dict[str, list[float] | WorkerError]:
    """Time workers in turns, in another order each round; milliseconds of each round, or why there are none."""
    found: dict[str, list[float] | WorkerError] = {worker.runtime: [] for worker in prepared}
    for worker in prepared:
        worker.prefer()
    order = list(prepared)
    shuffled = random.Random(0)
    for _ in range(rounds):
        shuffled.shuffle(order)
        for worker in order:
            times = found[worker.runtime]
            if isinstance(times, WorkerError):
                continue
            try:
                times.append(worker.ask("time", seconds=seconds, calls=calls)["milliseconds"])
            except WorkerError as error:
                found[worker.runtime] = error
            time.sleep(0.01)
    return found
