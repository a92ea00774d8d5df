"""Branches and loops of scripted functions as Relay: what is emitted is run, and gives what eager PyTorch gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import relay_eval
import torch
from control_flow_cases import CASES, WEIGHT, XS, X, Y, lists, long_loop, nested, optional, recurrent
from convert_checks import assert_same, check_relay, operators
from torch import nn

import torch_tvm
from torch_tvm import NotConvertibleError, relay


@pytest.mark.parametrize(("function", "example", "others"), CASES, ids=[case[0].__name__ for case in CASES])
def test_what_depends_on_data(
    function: Callable[..., Any], example: list[Any], others: list[list[Any]]
) -> None:
    scripted = torch.jit.script(function)
    converted = torch_tvm.to_relay(scripted, example)
    check_relay(converted)
    assert any(isinstance(expr, relay.If) for expr in relay.expressions(converted))
    for inputs in others:
        tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
        results = relay_eval.evaluate(converted, tensors)
        eager = function(
            *inputs
        )  # not the scripted one: at nested_loops, PyTorch 2.13 by itself loses a variable
        expected = [eager] if isinstance(eager, torch.Tensor) else list(eager)
        assert len(results) == len(expected)
        for got, value in zip(results, expected, strict=True):
            if isinstance(value, torch.Tensor):
                assert_same(got, value)
            else:
                assert got.dim() == 0 and got.item() == value


def test_loops_are_functions_of_what_they_change() -> None:
    text = str(torch_tvm.to_relay(torch.jit.script(recurrent), [XS, X, WEIGHT, torch.tensor(3)]))
    assert "let %while_loop = fn (%i: int64, %h" in text
    assert "less(%i, %length" in text
    assert "if (%" in text


def test_weights_of_a_module_stay_constants_in_its_loops() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
            for _ in range(int(steps)):
                x = torch.relu(self.cell(x))
            return x

    scripted = torch.jit.script(Network().eval())
    converted = torch_tvm.to_relay(scripted, [X, torch.tensor(2)])
    check_relay(converted)
    (loop,) = [expr for expr in relay.expressions(converted) if isinstance(expr, relay.Let)]
    assert [str(param.type_annotation) for param in loop.value.params][1:] == [
        "Tensor[(2, 3), float32]",
        "int64",
    ]
    got = relay_eval.evaluate(converted, [X, torch.tensor(4)])[0]
    assert_same(got, scripted(X, torch.tensor(4)))


@pytest.mark.parametrize("n", [2, 4])
def test_lists_in_loops_of_known_length(n: int) -> None:
    x = torch.randn(4, 3)
    converted = torch_tvm.to_relay(torch.jit.script(lists), [x, n])
    check_relay(converted)
    assert_same(relay_eval.evaluate(converted, [x])[0], lists(x, n))


def test_optional_arguments() -> None:
    scripted = torch.jit.script(optional)
    assert operators(torch_tvm.to_relay(scripted, [X, None, True])) == ["multiply"]
    assert operators(torch_tvm.to_relay(scripted, [X, Y, False])) == ["add"]


def test_loops_of_known_length_are_written_out_up_to_64_trips() -> None:
    scripted = torch.jit.script(long_loop)
    assert operators(torch_tvm.to_relay(scripted, [X, 64])).count("multiply") == 64
    assert operators(torch_tvm.to_relay(scripted, [X, 65])).count("multiply") == 1


def grows(x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    y = x
    for _ in range(int(n)):
        y = torch.cat([y, x])
    return y


def branches_differ(x: torch.Tensor) -> torch.Tensor:
    return x.flatten() if bool(x.sum() > 0) else x


def appends(x: torch.Tensor) -> list[torch.Tensor]:
    parts = [x]
    while bool(parts[-1].sum() < 10):
        parts.append(parts[-1] * 2)
    return parts


def sizes(x: torch.Tensor) -> torch.Tensor:
    return x.reshape([int(x.max()), -1])


def raises(x: torch.Tensor) -> torch.Tensor:
    if bool(x.sum() > 1):
        raise ValueError("too much")
    return x + 1


def dictionary(x: torch.Tensor) -> torch.Tensor:
    held = {"a": x}
    for i in range(2):
        held["a"] = held["a"] + i
    return held["a"]


def index_of_a_list(x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    return [x, x + 1, x + 2][int(n)]


def raises_always(x: torch.Tensor) -> torch.Tensor:
    assert x.dim() == 3, "three dimensions"
    return x


def test_errors_that_depend_on_data_are_left_out() -> None:
    converted = torch_tvm.to_relay(torch.jit.script(raises), [X])
    check_relay(converted)
    assert_same(relay_eval.evaluate(converted, [-X])[0], raises(-X))


@pytest.mark.parametrize(
    ("function", "inputs", "message"),
    [
        (
            grows,
            [X, torch.tensor(2)],
            r"prim::Loop: .*Float\(2, 3\) ahead of a trip and Float\(4, 3\) behind it",
        ),
        (branches_differ, [X], r"prim::If: its branches give Float\(6\) and Float\(2, 3\)"),
        (appends, [X], r"aten::append.t: it changes a list in a branch or loop that depends on data"),
        (sizes, [X], r"a list of numbers, one of which is known only at run time"),
        (raises_always, [X], r"prim::RaiseException"),
        (dictionary, [X], r"1 node does not convert to Relay:\nprim::DictConstruct"),
        (
            index_of_a_list,
            [X, torch.tensor(1)],
            r"an index or a number of elements that is known only at run time",
        ),
        (lambda x: torch.nonzero(x).sum(), [X], r"aten::nonzero"),
    ],
    ids=[
        "grows",
        "branches_differ",
        "appends",
        "sizes",
        "raises_always",
        "dictionary",
        "index_of_a_list",
        "nonzero",
    ],
)
def test_refusals(function: Callable[..., Any], inputs: list[Any], message: str) -> None:
    scripted = function if function.__name__ == "<lambda>" else torch.jit.script(function)
    with pytest.raises(NotConvertibleError, match=message):
        torch_tvm.to_relay(scripted, inputs)


def test_to_relax() -> None:
    def function(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.relu(x @ y.t()), (x + y).sort(1)[1]

    module = torch_tvm.to_relax(function, [X, Y])
    results = module["main"].ret_ty.fields
    assert [[int(size) for size in result.shape.values] for result in results] == [[2, 2], [2, 3]]
    assert [str(result.dtype) for result in results] == ["float32", "int64"]
    assert len(module["main"].params) == 2
    with pytest.raises(NotConvertibleError, match="control flow that depends on the data of tensors"):
        torch_tvm.to_relax(torch.jit.script(nested), [X, Y])
    with pytest.raises(NotConvertibleError, match="aten::nonzero"):
        torch_tvm.to_relax(torch.nonzero, [X])
    with pytest.raises(TypeError, match="inputs: expected"):
        torch_tvm.to_relax(torch.relu, 3)
