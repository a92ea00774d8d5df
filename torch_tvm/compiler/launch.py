"""Kernels, the memory they work on, and in which order they run: a plan before offsets and code."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from tvm import tirx

from .rewrite import size_of

_ELEMENT_BYTES = {"bool": 1, "bfloat16": 2}


def element_bytes(dtype: str) -> int:
    """Bytes of one element."""
    return _ELEMENT_BYTES.get(dtype) or np.dtype(dtype).itemsize


@dataclass(eq=False)
class Storage:
    """Memory of one stored tensor.

    Attributes
    ----------
    kind
        "input", "output", "weight", "constant", "arena" or "packed", as in `runtime.Buffer`.
    index
        Which input, output, weight or constant.
    bytes
        Size; matters for "arena" and "packed".
    packing
        Whether an "arena" storage lives while weights are packed, not during a call.
    offset
        Where it lies; set by memory planning.
    """

    kind: str
    index: int = -1
    bytes: int = 0
    packing: bool = False
    offset: int = 0


@dataclass(frozen=True)
class Argument:
    """One tensor argument of a kernel; it may begin `offset` bytes into an "arena" storage."""

    storage: Storage
    shape: tuple[int, ...]
    dtype: str
    offset: int = 0

    @property
    def bytes(self) -> int:
        """Size of the tensor."""
        return size_of(self.shape) * element_bytes(self.dtype)


@dataclass(frozen=True)
class Kernel:
    """A kernel to build; equal keys mean equal code.

    Attributes
    ----------
    name
        What it computes, for profiles; made unique when it is built.
    key
        Workload and schedule.
    build
        A generator with all of its keyword arguments but ``name``, the name of the function that it makes.
    flops
        Arithmetic operations of one launch.
    spreads_nonfinite
        Whether it carries a NaN or an infinity of its input to more of its output than the operator does.
    """

    name: str
    key: Hashable = field(compare=True)
    build: partial[tirx.PrimFunc] = field(compare=False)
    flops: float = field(default=0.0, compare=False)
    spreads_nonfinite: bool = field(default=False, compare=False)


@dataclass(eq=False)
class Launch:
    """One run of a kernel.

    Attributes
    ----------
    overwriting
        For inputs in whose memory the only output could lie: the kernel that takes them from there. It has no parameter
        for them, and reads each of their elements just before it stores the one in its place.
    """

    kernel: Kernel
    inputs: list[Argument]
    outputs: list[Argument]
    packing: bool = False
    overwriting: Mapping[int, Kernel] = field(default_factory=dict)
