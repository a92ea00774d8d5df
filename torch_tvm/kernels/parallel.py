"""When a loop is worth a parallel region, and into how many tasks it is cut."""

from __future__ import annotations

from torch_tvm.kernels.tir import PARALLEL_MIN_NANOSECONDS

# Threads take contiguous shares of the tasks; four tasks each leave the last thread at most a quarter of a share behind.
TASKS_PER_THREAD = 4


def task_count(nanoseconds: float, threads: int) -> int:
    """Tasks for work that one thread does in `nanoseconds`: 1 (no parallel region) or at least `threads`."""
    if threads <= 1 or nanoseconds < 2 * PARALLEL_MIN_NANOSECONDS:
        return 1
    return threads * TASKS_PER_THREAD
