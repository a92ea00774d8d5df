"""Indices out of range: PyTorch's error, not a clipped result."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import torch_tvm

TABLE = torch.arange(24.0).reshape(6, 4)

OPERATORS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], list[int]]] = {
    # valid indices of the first dimension, the smallest and the largest first
    "embedding": (lambda x, i: torch.nn.functional.embedding(i, x.relu()), [0, 5, 3, 3]),
    "index_select": (lambda x, i: x.relu().index_select(0, i), [0, 5, 2]),
    "gather": (lambda x, i: x.relu().gather(0, i.unsqueeze(1)), [0, 5, 1]),
    "index": (lambda x, i: x.relu()[i], [-6, 5, 1, -1]),
    "two indices": (lambda x, i: x.relu()[i, torch.zeros_like(i)], [-6, 5, 1, -1]),
}


def traced(name: str) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor]:
    function, valid = OPERATORS[name]
    indices = torch.tensor(valid)
    return torch.jit.trace(function, (TABLE, indices)), indices


@pytest.mark.parametrize("name", OPERATORS)
def test_indices_within_the_table(name: str) -> None:
    function, indices = traced(name)
    assert torch.equal(function(TABLE, indices), OPERATORS[name][0](TABLE, indices))
    assert torch_tvm.stats()["fallbacks"] == 0
    assert torch_tvm.stats()["compiled"] == 1


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("name", OPERATORS)
def test_an_index_out_of_range_raises_what_pytorch_raises(name: str, position: int, strict: bool) -> None:
    torch_tvm.enable(strict=strict)
    function, indices = traced(name)
    expected = function(TABLE, indices)
    wrong = indices.clone()
    wrong[position] += -1 if position == 0 else 1
    torch_tvm.reset_stats()
    with pytest.raises(Exception, match="out of range|out of bounds") as raised:
        function(TABLE, wrong)
    with torch_tvm.disabled(), pytest.raises(type(raised.value), match="out of range|out of bounds"):
        function(TABLE, wrong)
    (reason,) = torch_tvm.stats()["fallback_reasons"]
    assert "an index out of range" in reason
    assert "test_convert_indexing.py" in reason
    assert torch.equal(function(TABLE, indices), expected)


def test_gradients_with_an_index_out_of_range() -> None:
    function, indices = traced("index_select")
    table = TABLE.clone().requires_grad_()
    function(table, indices).sum().backward()
    with pytest.raises(Exception, match="out of range"):
        function(table, indices + 1)
    again = TABLE.clone().requires_grad_()
    function(again, indices).sum().backward()
    assert torch.equal(again.grad, table.grad)


def test_indices_that_the_model_holds() -> None:
    """A wrong buffer raises at every call, and its repair takes effect at once."""

    class Picks(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("order", torch.tensor([5, 0, 3]))

        def forward(self, x: Tensor) -> Tensor:
            return x.relu().index_select(0, self.order) + 1

    module = Picks()
    function = torch.jit.trace(module, (TABLE,))
    assert torch.equal(function(TABLE), module(TABLE))
    function.order[1] = 6
    for _ in range(2):
        with pytest.raises(Exception, match="out of range"):
            function(TABLE)
    function.order[1] = 2
    assert torch.equal(function(TABLE), TABLE[[5, 2, 3]] + 1)


def test_indices_that_are_counted_need_no_check() -> None:
    text = torch_tvm.to_relay(lambda x: x[torch.arange(3)].relu(), (TABLE,)).astext()
    assert "logical_or" not in text


def test_relay_for_the_user_has_no_check() -> None:
    """It has one result, the function's."""
    text = torch_tvm.to_relay(OPERATORS["embedding"][0], (TABLE, torch.tensor([1]))).astext()
    assert "any(" not in text
