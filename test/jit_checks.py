"""What the tests of groups share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def muladd(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.relu(a * b + c)


def trace(function: Any, *inputs: Any) -> Any:
    return torch.jit.trace(function, inputs, check_trace=False)


def three(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(shape), torch.randn(shape), torch.randn(shape)


def same(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
