"""Writes in place become functional operators where nobody sees the write; results stay eager PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from convert_checks import assert_same, values
from torch import Tensor

import torch_tvm

f32, f64, i64 = torch.float32, torch.float64, torch.int64


def results(fn: Callable[..., Any], arguments: list[Tensor], *, scripted: bool, strict: bool = True) -> Any:
    traced = torch.jit.script(fn) if scripted else torch.jit.trace(fn, tuple(arguments), check_trace=False)
    with torch_tvm.enabled(strict=strict, min_group_size=1):
        traced(*arguments)
        return traced(*arguments)


def check(got: Tensor, expected: Tensor) -> None:
    assert_same(got, expected)
    assert got.stride() == expected.stride()


def add(x: Tensor, y: Tensor) -> Tensor:
    return (x * 1).add_(y).relu()


def chained(x: Tensor, y: Tensor) -> Tensor:
    z = x * 2
    z.mul_(y).sub_(1).clamp_(0, 2)
    return z + 1


def compared(x: Tensor, y: Tensor) -> Tensor:
    return (x * 1).gt_(y) * 3


def through_view(x: Tensor, y: Tensor) -> Tensor:
    z = x * 1
    row = z[0]
    z.add_(y)
    return row + z[1]


def read_before(x: Tensor, y: Tensor) -> Tensor:
    z = x * 1
    total = z.sum(-1, keepdim=True)
    z.div_(total + 9)
    return z * y.float()


def shares(x: Tensor, y: Tensor) -> Tensor:
    top = (x + y).topk(2)[0]
    total = top.sum(-1, keepdim=True)
    top.div_(total.abs() + 1)
    return top


def reordered(x: Tensor, y: Tensor) -> Tensor:
    order = x.sum(-1).argsort()
    back = torch.empty_like(order)
    back[order] = torch.arange(order.numel())
    return (x * y)[back].tanh()


def unsqueezed(x: Tensor, y: Tensor) -> Tensor:
    return (x * 1).unsqueeze_(0) + y


FUNCTIONS = (add, chained, compared, through_view, read_before, shares, reordered, unsqueezed)


@pytest.mark.parametrize("scripted", [False, True], ids=["traced", "scripted"])
@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda fn: fn.__name__)
@pytest.mark.parametrize("dtype", [f32, f64, i64], ids=str)
def test_a_write_keeps_the_dtype(fn: Callable[..., Tensor], dtype: torch.dtype, scripted: bool) -> None:
    arguments = [values([3, 4], f32), values([3, 4], dtype)]
    check(results(fn, arguments, scripted=scripted), fn(*arguments))


@pytest.mark.parametrize("fn", [add, chained], ids=lambda fn: fn.__name__)
def test_a_write_keeps_the_memory_order(fn: Callable[..., Tensor]) -> None:
    x, y = values([2, 3, 4, 5], f32), values([2, 3, 4, 5], f32)
    last = torch.channels_last
    for first, second in ((x.to(memory_format=last), y), (x, y.to(memory_format=last))):
        got = results(fn, [first, second], scripted=False)
        check(got, fn(first, second))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (values([3, 4], i64), values([3, 4], f32), "result type Float can't be cast to the desired output type Long"),
        (values([1, 4], f32), values([3, 4], f32), r"output with shape \[1, 4\] doesn't match the broadcast shape \[3, 4\]"),
    ],
    ids=["dtype", "shape"],
)  # fmt: skip
def test_a_write_that_cannot_be_raises(x: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        add(x, y)
    scripted = torch.jit.script(add)
    with torch_tvm.enabled(min_group_size=1), pytest.raises(RuntimeError, match=message):
        scripted(x, y)


def test_writes_to_what_is_read_before_are_one_group() -> None:
    """As in mixtures of experts: shares of the best, and the inverse of a permutation."""
    x, y = values([5, 4], f32), values([5, 4], f32)
    for fn in (read_before, shares, reordered):
        traced = torch.jit.trace(fn, (x, y), check_trace=False)
        with torch_tvm.enabled(strict=True):
            traced(x, y)
            kinds = [node.kind() for node in torch.jit.last_executed_optimized_graph().nodes()]
        assert [kind for kind in kinds if kind.startswith("tvm::")] == ["tvm::CompilationGroup"]
        assert not any(kind.endswith("_") for kind in kinds)
