"""One runtime and one network in a process of its own, doing what lines of JSON on its standard input ask for.

Commands are ``{"do": "prepare"}`` first, then ``{"do": "time", "seconds": S, "calls": N}``, ``{"do": "memory"}`` or
``{"do": "kernels", "calls": N}``; each is answered by one line of JSON, ``{"error": line}`` where it failed.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

# Calls before the first measured one: TorchScript optimises in its second, torch_tvm may time its plan in the first few.
_WARM_CALLS = 10
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runtime")
    parser.add_argument("model")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--cpus", type=lambda text: [int(cpu) for cpu in text.split(",")], required=True)
    parser.add_argument("--device", help="what torch_tvm generates code for")
    return parser.parse_args()


def environment(cpus: Sequence[int]) -> dict[str, str]:
    """Return what has to be in a worker's environment before it starts: its OpenMP threads, bound one by one."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(len(cpus)),
        "GOMP_CPU_AFFINITY": " ".join(map(str, cpus)),
        "TORCH_TVM": "0",  # its own runtime switches it on
    }


def resident(field: str) -> int:
    """Return bytes of this process's memory: "VmRSS" now, "VmHWM" at most."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def reset_peak() -> None:
    """Let "VmHWM" count from now."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


class Session:
    """What a worker has made so far."""

    def __init__(
        self, runtime: str, model: str, batch: int, cpus: Sequence[int], device: str | None = None
    ) -> None:
        import torch

        from benchmarks.models import find_model

        torch.set_num_threads(len(cpus))
        torch.manual_seed(0)
        found = find_model(model)
        self.runtime, self.cpus, self.device = runtime, cpus, device
        self.network = found.build().eval()
        self.input = found.make_input(batch)
        self.call: Callable[[], Any] = lambda: None

    def prepare(self) -> dict[str, Any]:
        """Make the call, take the times of that and of the first call, and compare with eager PyTorch."""
        expected = self.network(self.input)
        start = time.perf_counter()
        self.call = self._make_call()
        ready = time.perf_counter()
        output = self.call()
        end = time.perf_counter()
        for _ in range(_WARM_CALLS):
            output = self.call()
        return {
            "prepare_seconds": ready - start,
            "first_call_seconds": end - ready,
            "difference": self._difference(output, expected),
            "parameters": sum(p.numel() for p in self.network.parameters()),
            **self._stats(),
        }

    def _make_call(self) -> Callable[[], Any]:
        from benchmarks.compare.runtimes import RUNTIMES

        options = {} if self.device is None else {"device": self.device}
        return RUNTIMES[self.runtime].prepare(self.network, self.input, self.cpus, **options)

    def _stats(self) -> dict[str, Any]:
        if self.runtime != "torch_tvm":
            return {}
        import torch_tvm

        stats = torch_tvm.stats()
        return {
            **{key: stats[key] for key in ("groups", "compiled", "fallbacks", "packed_bytes")},
            "interpreter": sum(decision["kept"] == "interpreter" for decision in stats["guard"]),
        }

    @staticmethod
    def _difference(output: Any, expected: Any) -> float:
        import torch

        got = torch.as_tensor(output.numpy() if hasattr(output, "numpy") else output)
        if got.shape != expected.shape:
            raise ValueError(f"the result has shape {tuple(got.shape)}, eager's {tuple(expected.shape)}")
        return float((got - expected).abs().max() / expected.abs().max())

    def time(self, seconds: float, calls: int) -> dict[str, Any]:
        """Call for `seconds`, at least `calls` times; the median in milliseconds."""
        for _ in range(2):
            self.call()
        times: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < calls:
            start = time.perf_counter()
            self.call()
            times.append(time.perf_counter() - start)
        return {"milliseconds": statistics.median(times) * 1e3, "calls": len(times)}

    def memory(self) -> dict[str, Any]:
        """Bytes beyond the loaded network: at most during the first call, and at most during later ones."""
        self.call = self._make_call()
        loaded = resident("VmRSS")
        reset_peak()
        self.call()
        first = resident("VmHWM")
        for _ in range(_WARM_CALLS):
            self.call()
        reset_peak()
        for _ in range(_WARM_CALLS):
            self.call()
        return {
            "loaded": loaded,
            "first_call": first - loaded,
            "later_calls": resident("VmHWM") - loaded,
            **({"packed_bytes": stats["packed_bytes"]} if (stats := self._stats()) else {}),
        }

    def kernels(self, calls: int) -> dict[str, Any]:
        """Time torch_tvm kernel by kernel."""
        from benchmarks.compare.kernel_table import measure

        return measure(self.network, self.input, len(self.cpus), calls, self.device)


def _serve(session: Session, commands: TextIO, answers: TextIO) -> None:
    for line in commands:
        request = json.loads(line)
        try:
            answer = getattr(session, request.pop("do"))(**request)
        except Exception as error:
            answer = {"error": first_line(error)}
        print(json.dumps(answer), file=answers, flush=True)


def first_line(error: BaseException) -> str:
    """Return the first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def main() -> None:
    """Serve until standard input ends."""
    # Stopped while others are measured, it would not notice that the driver is gone.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    options = arguments()
    os.sched_setaffinity(0, options.cpus)
    import torch

    with torch.no_grad():
        session = Session(options.runtime, options.model, options.batch, options.cpus, options.device)
        _serve(session, sys.stdin, answers)


if __name__ == "__main__":
    main()
