"""Weights that change between calls take effect without compiling again."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import torch_tvm

pytestmark = pytest.mark.usefixtures("nothing_compiled")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.linear(x)))


def in_place(module: Any) -> None:
    with torch.no_grad():
        module.linear.weight.mul_(-1.5)


def in_place_in_inference_mode(module: Any) -> None:
    with torch.inference_mode():
        module.linear.weight.add_(1)


def buffer_in_place(module: Any) -> None:
    module.norm.running_mean.add_(3)


def load_state_dict(module: Any) -> None:
    module.load_state_dict({name: value + 1 for name, value in module.state_dict().items()})


def assign_data(module: Any) -> None:
    module.linear.weight.data = torch.randn(8, 6)


def assign_parameter(module: Any) -> None:
    module.linear.weight = nn.Parameter(torch.randn(8, 6))


def to_and_back(module: Any) -> None:
    module.double().float()


def optimizer_step(module: Any) -> None:
    with torch.enable_grad():
        optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
        module(torch.ones(3, 6)).sum().backward()
        optimizer.step()


CHANGES = [
    in_place,
    in_place_in_inference_mode,
    buffer_in_place,
    load_state_dict,
    assign_data,
    assign_parameter,
    to_and_back,
    optimizer_step,
]


def eager(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return what eager PyTorch computes with the traced module's weights."""
    reference = Net().eval()
    reference.load_state_dict(module.state_dict())
    return reference(x)


@pytest.mark.parametrize("change", CHANGES)
def test_changes_take_effect_at_the_next_call(change: Callable[[nn.Module], None]) -> None:
    x = torch.randn(3, 6)
    traced = torch.jit.trace(Net().eval(), x, check_trace=False)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(traced(x), eager(traced, x), rtol=1e-5, atol=1e-6)
        compiled = torch_tvm.stats()["compiled"]
        before = traced(x)
        change(traced)
        expected = eager(traced, x)
        if change is not to_and_back:
            assert not torch.allclose(before, expected)  # the change can be seen
        for _ in range(2):
            torch.testing.assert_close(traced(x), expected, rtol=1e-5, atol=1e-6)
    stats = torch_tvm.stats()
    assert stats["fallbacks"] == 0
    if change is not optimizer_step:
        assert (stats["compiled"], compiled) == (1, 1)


def test_instances_of_one_class_keep_their_own_weights() -> None:
    x = torch.randn(3, 6)
    modules = [torch.jit.script(Net().eval()) for _ in range(3)]
    with torch.no_grad():
        for _ in range(2):
            for module in modules:
                torch.testing.assert_close(module(x), eager(module, x), rtol=1e-5, atol=1e-6)
    assert torch_tvm.stats()["fallbacks"] == 0


def test_packed_weights_die_with_their_source() -> None:
    torch_tvm.clear_cache()
    gc.collect()
    before = torch_tvm.stats()["packed_bytes"]
    x = torch.randn(3, 6)
    module = torch.jit.trace(Net().eval(), x, check_trace=False)
    with torch.no_grad():
        module(x)
    assert torch_tvm.stats()["packed_bytes"] > before
    del module
    gc.collect()
    assert torch_tvm.stats()["packed_bytes"] == before


def test_in_training_no_packed_copy_is_kept() -> None:
    """`is_training`: weights are inputs like others, packed at every call."""
    x = torch.randn(3, 6)
    traced = torch.jit.trace(Net().eval(), x, check_trace=False)
    with torch.no_grad(), torch_tvm.enabled(is_training=True, strict=True):
        for change in (in_place, buffer_in_place, assign_data):
            torch.testing.assert_close(traced(x), eager(traced, x), rtol=1e-5, atol=1e-6)
            change(traced)
            torch.testing.assert_close(traced(x), eager(traced, x), rtol=1e-5, atol=1e-6)
    stats = torch_tvm.stats()
    assert (stats["packed"], stats["compiled"]) == (0, 1)
