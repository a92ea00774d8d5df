"""torch.ops.tvm: operators with a converter, called in eager mode."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

import torch_tvm

x = torch.linspace(-2, 2, 24).reshape(1, 2, 3, 4)
w = torch.linspace(-1, 1, 16).reshape(2, 2, 2, 2)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: torch.ops.tvm.relu(x), x.relu),
        (lambda: torch.ops.tvm.add(x, x, alpha=3), lambda: torch.add(x, x, alpha=3)),
        (lambda: torch.ops.tvm.softmax(x, -1), lambda: x.softmax(-1)),
        (lambda: torch.ops.tvm.cat([x, x, x], 2), lambda: torch.cat([x, x, x], 2)),
        (lambda: torch.ops.tvm.conv2d(x, w, padding=[1, 1]), lambda: F.conv2d(x, w, padding=1)),
    ],
)
def test_calls(call: Callable[[], torch.Tensor], expected: Callable[[], torch.Tensor]) -> None:
    torch_tvm.clear_cache()
    torch_tvm.reset_stats()
    for hits in range(2):
        torch.testing.assert_close(call(), expected(), rtol=1e-5, atol=1e-6)
        stats = torch_tvm.stats()
        assert (stats["compiled"], stats["cache_hits"], stats["fallbacks"]) == (1, hits, 0)


def test_clear_cache_forgets_their_plans() -> None:
    torch_tvm.clear_cache()
    torch_tvm.reset_stats()
    for compiled in (1, 2):
        torch.ops.tvm.sigmoid(x)
        assert torch_tvm.stats()["compiled"] == compiled
        torch_tvm.clear_cache()


def test_lists_of_other_lengths() -> None:
    for length in (1, 3, 2):
        parts = [torch.randn(2, 3) for _ in range(length)]
        torch.testing.assert_close(torch.ops.tvm.cat(parts, 1), torch.cat(parts, 1))


def test_gradients() -> None:
    a = torch.randn(3, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(torch.ops.tvm.tanh(a).sum(), a)
    (expected,) = torch.autograd.grad(torch.tanh(a).sum(), a)
    torch.testing.assert_close(gradient, expected)


def test_results_never_alias_inputs() -> None:
    a = torch.randn(3, 4)
    assert torch.ops.tvm.transpose(a, 0, 1).data_ptr() != a.data_ptr()
    assert not hasattr(torch.ops.tvm, "relu_")


def test_random_operators_are_left_to_pytorch() -> None:
    a = torch.ones(1000)
    first, second = torch.ops.tvm.dropout(a, 0.5, True), torch.ops.tvm.dropout(a, 0.5, True)
    assert not torch.equal(first, second)
    assert torch_tvm.stats()["fallbacks"] == 2


def test_operators_of_the_user() -> None:
    from torch_tvm import relay

    @torch.library.custom_op("test_eager::thrice", mutates_args=())
    def thrice(a: torch.Tensor) -> torch.Tensor:
        return a * 3

    @thrice.register_fake
    def _(a: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(a)

    @torch_tvm.register_operator("test_eager::thrice")
    def convert_thrice(a: relay.Expr) -> relay.Expr:
        return relay.multiply(a, relay.const(3.0, "float32"))

    torch_tvm.reset_stats()
    a = torch.randn(5)
    torch.testing.assert_close(torch.ops.tvm.thrice(a), a * 3)
    assert torch_tvm.stats()["compiled"] == 1
