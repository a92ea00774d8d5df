"""Calls that groups leave to the interpreter, and special tensors that they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from jit_checks import muladd, same, three, trace

import torch_tvm

pytestmark = pytest.mark.usefixtures("nothing_compiled")

Tensor = torch.Tensor


class Mode(torch.utils._python_dispatch.TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Wrapper(Tensor):
    """A tensor without memory of its own."""

    wrapped: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapper:
        wrapper = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        wrapper.wrapped = inner
        return wrapper

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        plain = [a.wrapped if isinstance(a, Wrapper) else a for a in args]
        return func(*plain, **(kwargs or {}))


def double_add(x: Tensor) -> Tensor:
    return torch.neg(x * 2 + x)


def in_forward_mode(function: Any, x: Tensor) -> Tensor:
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        return torch.autograd.forward_ad.unpack_dual(function(dual)).tangent


def in_mode(mode: Any, function: Any, x: Tensor) -> Tensor:
    with mode:
        return function(x)


def fake_shape(function: Any, x: Tensor) -> Tensor:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() as mode:
        shape = function(mode.from_tensor(x)).shape
    return torch.zeros(shape)


INELIGIBLE: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "vmap": (lambda f, x: torch.vmap(f)(x), "torch.func"),
    "func.grad": (lambda f, x: torch.func.grad(lambda a: f(a).sum())(x), "torch.func"),
    "jvp": (lambda f, x: torch.func.jvp(f, (x,), (x,))[1], "torch.func"),
    "forward mode": (in_forward_mode, "forward-mode"),
    "fake": (fake_shape, "subclass|Dispatch"),
    "dispatch mode": (lambda f, x: in_mode(Mode(), f, x), "Dispatch"),
    "autocast": (lambda f, x: in_mode(torch.autocast("cpu", torch.bfloat16), f, x), "autocast"),
    "subclass": (lambda f, x: f(Wrapper(x)), "subclass"),
    "meta": (lambda f, x: torch.zeros(f(x.to("meta")).shape), "meta"),
    "sparse": (lambda f, x: f(x.to_sparse()).to_dense(), "sparse"),
    "sparse csr": (lambda f, x: f(x.to_sparse_csr()).to_dense(), "sparse"),
    "complex": (lambda f, x: f(x.to(torch.complex64)), "dtype"),
    "lazy conjugate": (lambda f, x: f(torch.complex(x, x).conj()), "conjugate"),
    "lazy negative": (lambda f, x: f(torch._neg_view(x)), "negative"),
    "nested": (
        lambda f, x: torch.nested.to_padded_tensor(f(torch.nested.nested_tensor([x, x])), 0.0),
        "nested",
    ),
}


@pytest.mark.parametrize("kind", INELIGIBLE)
def test_what_is_not_a_plain_tensor_falls_back(kind: str) -> None:
    call, reason = INELIGIBLE[kind]
    x = torch.randn(3, 4)
    traced = trace(double_add, x)
    traced(x)  # there is a plan for these sizes
    torch_tvm.reset_stats()
    torch.testing.assert_close(call(traced, x), call(double_add, x))
    stats = torch_tvm.stats()
    assert stats["cache_hits"] == 0
    assert stats["fallbacks"] >= 1
    assert any(part in text for text in stats["fallback_reasons"] for part in reason.split("|"))


def test_quantised_tensors_fall_back() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.relu(torch.clamp(x, -1.0, 1.0))

    x = torch.randn(3, 4)
    traced = trace(function, x)
    traced(x)
    quantised = torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)
    assert torch.equal(traced(quantised).dequantize(), function(quantised).dequantize())
    assert any("quantised" in reason for reason in torch_tvm.stats()["fallback_reasons"])


@pytest.mark.parametrize("shape", [(0,), (3, 0), (1, 1, 1), ()])
def test_tensors_of_few_elements(shape: tuple[int, ...]) -> None:
    inputs = three(*shape)
    traced = trace(muladd, *inputs)
    same(traced(*inputs), muladd(*inputs))
    assert traced(*inputs).shape == shape


def test_special_numbers() -> None:
    a = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 1e-45, 3e38])
    traced = trace(muladd, a, a, a)
    torch.testing.assert_close(traced(a, a, a), muladd(a, a, a), rtol=0, atol=0, equal_nan=True)


def test_strict_raises_for_ineligible_tensors() -> None:
    x = torch.randn(3, 4)
    traced = trace(double_add, x)
    with torch_tvm.enabled(strict=True):
        with pytest.raises(RuntimeError, match=r"NotConvertibleError(.|\n)*complex"):
            traced(x.to(torch.complex64))
        same(traced(x), double_add(x))


def test_tracing_through_a_group_records_its_operators() -> None:
    x = torch.randn(3, 4)
    inner = trace(double_add, x)
    inner(x)
    with torch_tvm.enabled(strict=True):
        outer = trace(lambda t: inner(t) * 2, x)
    kinds = {node.kind() for node in outer.inlined_graph.nodes()}
    assert {"aten::mul", "aten::neg"} <= kinds
