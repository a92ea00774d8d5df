from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
import torch

import torch_tvm

# The same examples at every run, so that a red run is the change's fault; HYPOTHESIS_PROFILE=search looks for new ones.
# An example of a converter is a compilation, 60 ms of a CPU.
hypothesis.settings.register_profile("repeat", max_examples=20, derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", max_examples=500, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


@pytest.fixture(autouse=True)
def clean_process() -> Iterator[None]:
    """Give each test the same random numbers, torch_tvm on with its defaults, and counters at zero.

    Without the guard, which decides by time: a busy machine must not make a test red. Compiled in this process, where
    tests can put something in the compiler's place; test_compile_process.py and test_models.py use the other one.
    """
    torch.manual_seed(0)
    torch_tvm.enable(guard=False, compile_process=False)
    torch_tvm.reset_stats()
    yield
    torch_tvm.enable()


@pytest.fixture
def nothing_compiled() -> None:
    """Groups of one subgraph share their plans, also from test to test."""
    torch_tvm.clear_cache()
    torch_tvm.reset_stats()


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Let a test put a function in the compiler's place; it is given the compiler and its arguments."""
    from torch_tvm import compiler as module

    real = module.compile

    def install(function: Callable[..., Any]) -> None:
        monkeypatch.setattr(module, "compile", lambda *arguments: function(real, *arguments))

    return install
