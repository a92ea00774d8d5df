from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest
import torch

import torch_tvm

# The same examples at every run, so that a red run is the change's fault; HYPOTHESIS_PROFILE=search looks for new ones.
hypothesis.settings.register_profile("repeat", derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


@pytest.fixture(autouse=True)
def clean_process() -> Iterator[None]:
    """Give each test the same random numbers, torch_tvm on with its defaults, and counters at zero."""
    torch.manual_seed(0)
    torch_tvm.enable()
    torch_tvm.reset_stats()
    yield
    torch_tvm.enable()
