"""A runner for the pool whose samples crash and hang; imports nothing, so that the pool's processes start quickly."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from conformance.outcome import Job, Kind, Outcome

SAMPLES = 4


def run(job: Job) -> Iterator[int | Outcome]:
    """Do at each sample what the job's dtype says: ``"2 crash"`` crashes at sample 2."""
    if job.entry == "dies at once":
        os._exit(3)
    yield SAMPLES
    place, _, misdeed = job.dtype.partition(" ")
    for index in range(job.start, SAMPLES):
        if index == int(place) and misdeed == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if index == int(place) and misdeed == "hang":
            time.sleep(3600)
        yield Outcome(job.entry, job.dtype, index, Kind.COMPILED)
