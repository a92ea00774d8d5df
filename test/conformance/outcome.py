"""What became of a sample, and the work that one process is given. No import of torch: the pool starts without it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(str, Enum):
    """What became of a sample; `DESCRIPTIONS` says what each means."""

    COMPILED = "compiled"
    PARTLY = "partly"
    REFUSED = "refused"
    FOLDED = "folded"
    SET_ASIDE = "set aside"
    WRONG = "wrong"
    FAILED = "failed"
    CRASHED = "crashed"
    HUNG = "hung"


DESCRIPTIONS = {
    Kind.COMPILED: "all that the operator computes ran on TVM's plan, and equals eager PyTorch",
    Kind.PARTLY: "a part of it ran on TVM's plan, the rest in PyTorch for a counted reason; equals eager PyTorch",
    Kind.REFUSED: "ran in PyTorch for a counted reason; equals eager PyTorch",
    Kind.FOLDED: "TorchScript left nothing to compute",
    Kind.SET_ASIDE: "PyTorch cannot run it, or TorchScript without torch_tvm cannot trace it or differs from eager PyTorch",
    Kind.WRONG: "differs from eager PyTorch, raises where it does not, or changes an input",
    Kind.FAILED: "TVM's compiler raised an error; PyTorch ran it",
    Kind.CRASHED: "the process died",
    Kind.HUNG: "took longer than the time limit",
}
FAULTS = (Kind.WRONG, Kind.FAILED, Kind.CRASHED, Kind.HUNG)


@dataclass(frozen=True)
class Job:
    """The samples of one entry for one dtype, from the `start`-th on; no more than `limit` in all."""

    entry: str
    dtype: str
    start: int = 0
    limit: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one sample.

    `operators` are the tensor operators of its graph as TorchScript traced it; `relay` those of its Relay function, if
    all of it is one.
    """

    entry: str
    dtype: str
    index: int
    kind: Kind
    reasons: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    relay: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.entry} {self.dtype} sample {self.index}: {self.kind.value}: {'; '.join(self.reasons)}"
