"""Compiles kernels in batches and runs them on torch tensors, for test_kernels_*."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch

from torch_tvm.kernels.matrix_view import MatrixView, Part
from torch_tvm.kernels.module import compile_kernels
from torch_tvm.kernels.target import CpuTarget, parse_target

TARGETS = ["llvm -mcpu=skylake-avx512", "llvm -mcpu=haswell"]
FLOATS = ["float16", "bfloat16", "float32", "float64"]
INTS = ["uint8", "int8", "int16", "int32", "int64"]


def get_target(spec: str) -> CpuTarget:
    try:
        return parse_target(spec)
    except ValueError as error:
        pytest.skip(str(error))


def torch_dtype(name: str) -> torch.dtype:
    return getattr(torch, name)


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def unaligned(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that begins one element after a 64-byte boundary."""
    storage = torch.empty(tensor.numel() + 1, dtype=tensor.dtype)
    return storage[1:].view(tensor.shape).copy_(tensor)


def random_tensor(shape: Sequence[int], dtype: str, *, special: bool = False) -> torch.Tensor:
    """Normal floats (one in fifty NaN or infinite if `special`), small integers, coin flips."""
    if dtype == "bool":
        return torch.rand(tuple(shape)) < 0.5
    if dtype in INTS:
        low = 0 if dtype == "uint8" else -9
        return torch.randint(low, 10, tuple(shape), dtype=torch_dtype(dtype))
    values = torch.randn(tuple(shape)) * 3
    if special:
        for value in (float("nan"), float("inf"), float("-inf")):
            values[torch.rand(values.shape) < 0.007] = value
    return values.to(torch_dtype(dtype))


def widened(view: MatrixView, rng: random.Random) -> MatrixView:
    """The same matrices as some indices of a larger tensor, along one dimension or none."""
    position = rng.randrange(2 * len(view.axes))
    if position >= len(view.axes) or not isinstance(axis := view.axes[position], str):
        return view
    size, first, behind = view.shape[position], rng.randrange(4), rng.randrange(3)
    shape = (*view.shape[:position], first + size + behind, *view.shape[position + 1 :])
    return MatrixView(shape, (*view.axes[:position], Part(axis, first, size), *view.axes[position + 1 :]))


def taken(tensor: torch.Tensor, view: MatrixView) -> torch.Tensor:
    """What a view takes of a tensor, in the order of its axes."""
    index: list[int | slice] = []
    for axis in view.axes:
        part = slice(axis.first, axis.first + axis.size) if isinstance(axis, Part) else slice(None)
        index.append(axis if isinstance(axis, int) else part)
    return tensor[tuple(index)]


def run(
    functions: Mapping[str, Any], arguments: Mapping[str, Sequence[torch.Tensor]], target: CpuTarget
) -> None:
    """Compile all functions together, then call each with its tensors; outputs are written in place."""
    kernels = compile_kernels(functions, target)
    for name, tensors in arguments.items():
        kernels[name](*tensors)


def assert_close(
    what: object,
    got: torch.Tensor,
    expected: torch.Tensor,
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """`torch.testing.assert_close` with NaN equal to NaN, and a message that says what differs."""
    torch.testing.assert_close(
        got, expected, rtol=rtol, atol=atol, equal_nan=True, msg=lambda text: f"{what}: {text}"
    )
