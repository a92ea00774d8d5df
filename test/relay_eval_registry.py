"""The operators of the reference evaluator, by name, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Tensor = torch.Tensor
OPERATORS: dict[str, Callable[..., Any]] = {}


def operator(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            OPERATORS[name] = function
        return function

    return register


def dtype_of(name: str) -> torch.dtype:
    return getattr(torch, str(name))


def plain(value: Any) -> Any:
    """Make a tvm-ffi attribute a Python value."""
    if hasattr(value, "__len__") and not isinstance(value, str):
        return [plain(element) for element in value]
    return value


def same_dtypes(*tensors: Tensor) -> None:
    assert len({tensor.dtype for tensor in tensors}) == 1, f"dtypes differ: {[t.dtype for t in tensors]}"
