from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import torch_tvm


@pytest.fixture(autouse=True)
def clean_process() -> Iterator[None]:
    """Give each test the same random numbers, torch_tvm on with its defaults, and counters at zero."""
    torch.manual_seed(0)
    torch_tvm.enable()
    torch_tvm.reset_stats()
    yield
    torch_tvm.enable()
