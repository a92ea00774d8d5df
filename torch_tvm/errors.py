"""The exceptions of torch_tvm's own; whatever else is wrong is a TypeError or ValueError."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """A node of a TorchScript graph that does not convert to Relay.

    Parameters
    ----------
    op
        The operator, such as ``"aten::relu"``.
    reason
        What about the node is not supported, naming argument and value.
    source
        Where the node stands in the user's program; empty if unknown.
    """

    op: str
    reason: str
    source: str = ""

    def __str__(self) -> str:
        """Return one line, or two if the source is known."""
        text = f"{self.op}: {self.reason}"
        return f"{text}\n    at {self.source}" if self.source else text


class NotConvertibleError(Exception):
    """A function cannot be expressed in Relay.

    Parameters
    ----------
    refusals
        Every node that does not convert.

    Examples
    --------
    >>> from torch_tvm.errors import NotConvertibleError, Refusal
    >>> error = NotConvertibleError([Refusal("aten::qr", "has no converter", "model.py:12:8")])
    >>> print(error)
    1 node does not convert to Relay:
    aten::qr: has no converter
        at model.py:12:8
    """

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        self.refusals = tuple(refusals)
        count = len(self.refusals)
        head = f"{count} node does" if count == 1 else f"{count} nodes do"
        super().__init__("\n".join([f"{head} not convert to Relay:", *map(str, self.refusals)]))

    def __reduce__(self) -> tuple[type[NotConvertibleError], tuple[tuple[Refusal, ...]]]:
        """Pickle by the refusals."""
        return type(self), (self.refusals,)


class CompileError(RuntimeError):
    """TVM could not compile a Relay function that torch_tvm made.

    Parameters
    ----------
    reason
        What TVM said.
    relay_text
        The Relay function, for a report.
    """

    def __init__(self, reason: str, relay_text: str) -> None:
        self.reason = reason
        self.relay_text = relay_text
        super().__init__(f"{reason}\nwhile compiling\n{relay_text}")

    def __reduce__(self) -> tuple[type[CompileError], tuple[str, str]]:
        """Pickle by the two parts."""
        return type(self), (self.reason, self.relay_text)
