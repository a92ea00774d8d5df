"""Runs kernels of symbolic sizes on tensors that end, or begin, at a page that nothing may touch; for test_kernels_symbolic_*."""

from __future__ import annotations

import ctypes
import itertools
import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from kernel_runs import assert_close

from torch_tvm.kernels import extent, tir
from torch_tvm.kernels.extent import Size
from torch_tvm.kernels.module import compile_kernels
from torch_tvm.kernels.target import CpuTarget

Values = dict[str, int]
Shape = tuple[Size, ...]
_PAGE, _PROT_NONE = mmap.PAGESIZE, 0


class Guarded:
    """Memory between two pages that may be neither read nor written; unmapped with the object."""

    def __init__(self, like: torch.Tensor, *, at_end: bool) -> None:
        size = like.numel() * like.element_size()
        pages = max(1, -(-size // _PAGE))
        self._map = mmap.mmap(-1, (pages + 2) * _PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        libc = ctypes.CDLL(None, use_errno=True)
        for page in (0, pages + 1):
            assert libc.mprotect(ctypes.c_void_p(start + page * _PAGE), _PAGE, _PROT_NONE) == 0
        offset = _PAGE + (pages * _PAGE - size if at_end else 0)
        whole = torch.frombuffer(self._map, dtype=torch.uint8, count=max(size, 1), offset=offset)
        self.tensor = whole[:size].view(like.dtype).view(like.shape).copy_(like)


@dataclass(frozen=True)
class Case:
    """A function of `tir.kernel`, and what it computes.

    `tensors(values)` makes inputs, and the outputs that the function should compute from them.
    """

    function: Any
    tensors: Callable[[Values], tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]]
    rtol: float | None = None
    atol: float | None = None


def at(shape: Shape, values: Values) -> tuple[int, ...]:
    """A shape for some values of its dimensions."""
    return tuple(extent.evaluate(size, values) for size in shape)


def grid(**values: Sequence[int]) -> list[Values]:
    """All combinations of values of dimensions."""
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


def check(cases: Mapping[str, Case], values: Sequence[Values], target: CpuTarget) -> None:
    """Compile once, then run with all values: results are right, nothing beyond a tensor is read or written."""
    compiled = compile_kernels({name: case.function for name, case in cases.items()}, target, checked=False)
    for name, case in cases.items():
        for number, each in enumerate(values):
            inputs, expected = case.tensors(each)
            held = [Guarded(tensor, at_end=number % 2 == 0) for tensor in inputs]
            outputs = [Guarded(torch.full_like(tensor, 7), at_end=number % 2 == 0) for tensor in expected]
            scalars = [each[str(dim)] for dim in case.function.attrs.get(tir.DIMS, [])]
            compiled[name](*(guarded.tensor for guarded in (*held, *outputs)), *scalars)
            for guarded, wanted in zip(outputs, expected, strict=True):
                assert_close((name, each), guarded.tensor, wanted, case.rtol, case.atol)
