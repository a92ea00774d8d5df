"""Gradients through groups are eager's, of any order."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import torch_tvm

pytestmark = pytest.mark.usefixtures("nothing_compiled")

Tensor = torch.Tensor


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.second = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.second(torch.tanh(self.first(x))))


def trace(function: Any, *inputs: Any) -> Any:
    traced = torch.jit.trace(function, inputs, check_trace=False)
    torch_tvm.reset_stats()
    return traced


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def compiled_without_fallback() -> bool:
    stats = torch_tvm.stats()
    return stats["compiled"] >= 1 and stats["fallbacks"] == 0


def gradients(function: Any, module: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    return list(torch.autograd.grad(function(x).pow(2).sum(), [x, *module.parameters()]))


def test_first_order() -> None:
    module = Net()
    traced = trace(module, torch.randn(4, 5))
    for _ in range(3):
        x = torch.randn(4, 5)
        close(gradients(traced, traced, x), gradients(module, module, x))
    assert compiled_without_fallback()


def second_order(function: Any, module: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    wanted = [x, *module.parameters()]
    first = torch.autograd.grad(function(x).pow(2).sum(), wanted, create_graph=True)
    return list(torch.autograd.grad(torch.stack([g.pow(2).sum() for g in first]).sum(), wanted))


def test_second_order() -> None:
    module = Net()
    traced = trace(module, torch.randn(4, 5))
    x = torch.randn(4, 5)
    close(second_order(traced, traced, x), second_order(module, module, x))
    assert compiled_without_fallback()


def test_inputs_that_depend_on_each_other() -> None:
    """What leads from one input to another outside of the group is not the group's to count."""

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return torch.tanh(a * b) * b

    traced = trace(inner, torch.randn(4), torch.randn(4))

    def second(function: Any) -> list[Tensor]:
        a = torch.linspace(-1, 1, 4).requires_grad_()
        b = (a * 3).sin()
        (first,) = torch.autograd.grad(function(a, b).sum(), a, create_graph=True)
        (again,) = torch.autograd.grad(first.pow(2).sum(), a)
        return [first, again]

    close(second(traced), second(inner))


def test_one_tensor_as_two_inputs() -> None:
    def inner(a: Tensor, b: Tensor) -> Tensor:
        return torch.tanh(a * b) * b

    traced = trace(inner, torch.randn(4), torch.randn(4))

    def both(function: Any) -> list[Tensor]:
        a = torch.linspace(-1, 1, 4).requires_grad_()
        (first,) = torch.autograd.grad(function(a, a).sum(), a, create_graph=True)
        return [first, *torch.autograd.grad(first.sum(), a)]

    close(both(traced), both(inner))


def test_gradcheck() -> None:
    module = Net().double()
    x = torch.randn(3, 5, dtype=torch.double, requires_grad=True)
    traced = trace(module, x.detach())
    assert torch.autograd.gradcheck(traced, x)
    assert torch.autograd.gradgradcheck(traced, x)
    assert compiled_without_fallback()


def test_only_what_requires_gradients_gets_them() -> None:
    def inner(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = torch.relu(a * 2)
        z = torch.relu(b * 3)
        return y + z, z * 2, y > 0.5

    traced = trace(inner, torch.randn(4), torch.randn(4))
    a, b = torch.randn(4, requires_grad=True), torch.randn(4)
    for inputs in ((a, b), (b, a), (a, a), (b, b)):
        results, expected = traced(*inputs), inner(*inputs)
        assert [r.requires_grad for r in results] == [e.requires_grad for e in expected]
        close(results, expected)
    results = traced(a, b)
    results[0].sum().backward()
    (expected_grad,) = torch.autograd.grad(inner(a, b)[0].sum(), a)
    close(a.grad, expected_grad)
    assert compiled_without_fallback()


def test_detached_parts_stay_detached() -> None:
    def inner(x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.relu(x) * 2
        return torch.tanh(y.detach()) + 1, torch.tanh(y) + y.detach()

    traced = trace(inner, torch.randn(4))
    x = torch.randn(4, requires_grad=True)
    results, expected = traced(x), inner(x)
    assert [r.requires_grad for r in results] == [e.requires_grad for e in expected] == [False, True]
    close(torch.autograd.grad(results[1].sum(), x), torch.autograd.grad(expected[1].sum(), x))


def test_writing_to_a_saved_input_is_detected() -> None:
    module = Net()
    traced = trace(module, torch.randn(4, 5))
    result = traced(torch.randn(4, 5))
    with torch.no_grad():
        traced.first.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()


def test_backward_twice_needs_retain_graph() -> None:
    traced = trace(Net(), torch.randn(4, 5))
    x = torch.randn(4, 5, requires_grad=True)
    result = traced(x).sum()
    result.backward(retain_graph=True)
    assert x.grad is not None
    once = x.grad.clone()
    result.backward()
    close(x.grad, once * 2)
    with pytest.raises(RuntimeError, match="second time"):
        result.backward()


def test_training_steps_follow_eager() -> None:
    torch.manual_seed(3)
    reference = Net()
    traced = trace(copy.deepcopy(reference), torch.randn(8, 5))
    data = torch.randn(10, 8, 5)

    def train(module: Any) -> list[float]:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.2)
        losses = []
        for batch in data:
            optimizer.zero_grad()
            loss = (module(batch) - 0.3).pow(2).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    assert train(traced) == pytest.approx(train(reference), rel=1e-4)
    assert compiled_without_fallback()


def test_changing_between_modes() -> None:
    module = Net()
    traced = trace(module, torch.randn(4, 5))
    x = torch.randn(4, 5)
    for mode in ("no_grad", "grad", "inference_mode", "grad", "no_grad"):
        if mode == "grad":
            close(gradients(traced, traced, x), gradients(module, module, x))
        else:
            with getattr(torch, mode)():
                result = traced(x)
            assert not result.requires_grad
            close(result, module(x).detach())
    assert torch_tvm.stats()["compiled"] == 1


def test_inference_tensors_where_gradients_are_recorded() -> None:
    def inner(a: Tensor, b: Tensor) -> Tensor:
        return torch.relu(a + b) + 1

    traced = trace(inner, torch.randn(4), torch.randn(4))
    with torch.inference_mode():
        b = torch.randn(4)
    a = torch.randn(4, requires_grad=True)
    (gradient,) = torch.autograd.grad(traced(a, b).sum(), a)
    (expected,) = torch.autograd.grad(inner(a, b).sum(), a)
    close(gradient, expected)
    assert torch_tvm.stats()["fallbacks"] == 1
