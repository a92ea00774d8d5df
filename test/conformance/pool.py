"""Processes that run jobs sample by sample, and are replaced when a sample kills or blocks them."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from conformance.outcome import Job, Kind, Outcome

# Gives the number of the job's samples, then the outcome of each from job.start on.
Runner = Callable[[Job], Iterator[int | Outcome]]

SECONDS_PER_SAMPLE = 60.0
# Imports of torch and of OpInfo, on a machine that has other work too.
SECONDS_TO_START = 180.0
# TorchScript keeps every function that was traced: a process that has grown to this ends between two jobs.
RETIRING_BYTES = 3 << 30
# More than that is a fault of the sample, and not to be borne by the machine.
MOST_BYTES = 8 << 30

_READY, _DONE, _RETIRED = "ready", "done", "retired"


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _serve(connection: Connection, runner: Runner) -> None:
    """Run in the worker: jobs come in; a count, outcomes and words go out."""
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection.send(_READY)
    while (job := connection.recv()) is not None:
        for message in runner(job):
            connection.send(message)
        if _resident_bytes() > RETIRING_BYTES:
            return connection.send(_RETIRED)
        connection.send(_DONE)


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    deadline: float
    job: Job | None = None  # whose next sample is at job.start
    count: int | None = None  # of the job's samples, once it is known
    started: bool = False

    def assign(self, job: Job, seconds: float) -> None:
        self.job, self.count = job, None
        self.deadline = time.monotonic() + seconds
        self.connection.send(job)

    def end(self) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.connection.close()


class Pool:
    """Runs jobs in `workers` processes.

    Parameters
    ----------
    runner
        A function of a module, which the processes import.
    workers
        How many processes.
    seconds_per_sample
        How long one sample may take.
    """

    def __init__(self, runner: Runner, workers: int, seconds_per_sample: float = SECONDS_PER_SAMPLE) -> None:
        self._runner = runner
        self._count = workers
        self._seconds = seconds_per_sample
        self._context: Any = multiprocessing.get_context("spawn")
        self._waiting: deque[Job] = deque()
        self._workers: list[_Worker] = []

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Give the outcome of every sample of the jobs, as they come."""
        self._waiting = deque(jobs)
        try:
            while self._waiting or any(worker.job for worker in self._workers):
                while self._waiting and len(self._workers) < self._count:
                    self._workers.append(self._start())
                yield from self._listen()
        finally:
            for worker in self._workers:
                worker.end()
            self._workers = []

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._runner), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, time.monotonic() + SECONDS_TO_START)

    def _listen(self) -> Iterator[Outcome]:
        """Wait for a message, an end, or a deadline, and deal with all that there are."""
        nearest = min(worker.deadline for worker in self._workers)
        ready = wait([worker.connection for worker in self._workers], max(0.0, nearest - time.monotonic()))
        for worker in list(self._workers):
            if worker.connection in ready:
                try:
                    message = worker.connection.recv()
                except (EOFError, ConnectionResetError):
                    yield from self._replace(worker, Kind.CRASHED)
                else:
                    yield from self._take(worker, message)
            elif time.monotonic() > worker.deadline:
                yield from self._replace(worker, Kind.HUNG)

    def _take(self, worker: _Worker, message: object) -> Iterator[Outcome]:
        worker.deadline = time.monotonic() + self._seconds
        if isinstance(message, int):
            worker.count = message
        elif isinstance(message, Outcome):
            assert worker.job is not None
            worker.job = replace(worker.job, start=message.index + 1)
            yield message
        else:
            worker.started, worker.job = True, None
            if message == _RETIRED or not self._waiting:
                self._workers.remove(worker)
                worker.end()
            else:
                worker.assign(self._waiting.popleft(), self._seconds)

    def _replace(self, worker: _Worker, kind: Kind) -> Iterator[Outcome]:
        """Record the sample that a process is at, and leave the rest of its job to the next process."""
        self._workers.remove(worker)
        worker.end()
        if not worker.started:
            raise RuntimeError(f"a process {kind.value} before it could run a sample")
        if worker.job is None:
            return
        reason = f"more than {self._seconds:g} s" if kind is Kind.HUNG else _cause(worker.process.exitcode)
        job = worker.job
        yield Outcome(job.entry, job.dtype, job.start, kind, (reason,))
        if worker.count is not None and job.start + 1 < worker.count:
            self._waiting.appendleft(replace(job, start=job.start + 1))


def _cause(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return signal.Signals(-exitcode).name
    return f"exit status {exitcode}"
