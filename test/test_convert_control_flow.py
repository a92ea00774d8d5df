"""Branches and loops of scripted functions as Relay: what is emitted is run, and gives what eager PyTorch gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import relay_eval
import torch
from convert_checks import assert_same, check_relay, operators
from torch import nn

import torch_tvm
from torch_tvm import NotConvertibleError, relay


def early_exit(x: torch.Tensor, n: int) -> torch.Tensor:
    for _ in range(n):
        x = x * 2
        if bool(x.sum() > 10):
            break
    return x


def early_return(x: torch.Tensor) -> torch.Tensor:
    if bool(x.sum() > 10):
        return x * 2
    for i in range(10):
        x = x + i
        if bool(x.sum() > 30):
            return x
    return x + 1


def while_loop(x: torch.Tensor) -> tuple[torch.Tensor, int]:
    steps = 0
    while bool(x.sum() < 100):
        x = x * 2 + steps
        steps += 1
    return x, steps


def two_conditions(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, float]:
    factor = 2.5
    bias = y.exp()
    i = 0
    while bool((x * x).sum() < 50) and i < 7:
        x = x * factor + bias
        i += 1
    return x, i / 2


def recurrent(xs: torch.Tensor, h: torch.Tensor, weight: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    for i in range(int(length)):
        h = torch.tanh(xs[i] @ weight + h)
    return h


def nested(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if bool(x.sum() > 0):
        if bool(y.sum() > 0):
            z = x + y
            k = 1
        else:
            z = x - y
            k = 2
    else:
        z = x * y
        k = 3
    return z * k, y


def nested_loops(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    total = torch.zeros([])
    while bool(x.max() < 8):
        y = x
        while bool(y.sum() < 20):
            y = y + x + total
        total = total + y.sum()
        x = x + 1
    return x, total


def long_loop(x: torch.Tensor, n: int) -> torch.Tensor:
    for i in range(n):
        x = x * 0.99 + i
    return x


def swapped(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    while bool(x.sum() < 40):
        x, y = y, x + y
    return x, y


def beam(
    scores: torch.Tensor, table: torch.Tensor, width: int, stop: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep the best continuations until the best one is good enough."""
    best, token = torch.topk(scores, width)
    length = 0
    while bool(best[0] < stop) and length < 5:
        candidates = best.unsqueeze(1) + table[token]
        best, place = torch.topk(candidates.flatten(), width)
        token = place % table.size(1)
        length += 1
    return best, token


def optional(x: torch.Tensor, bias: torch.Tensor | None, flag: bool) -> torch.Tensor:
    if bias is not None:
        x = x + bias
    return x * 2 if flag else x


def lists(x: torch.Tensor, n: int) -> torch.Tensor:
    rows: list[torch.Tensor] = []
    for i in range(n):
        rows.append(x[i] * i)
    rows[0] = rows[1] + 1
    rows.insert(1, x[0])
    tail = [rows.pop()]
    return torch.stack(rows + tail) + len(rows)


def lists_that_branch(x: torch.Tensor) -> list[torch.Tensor]:
    if bool(x.sum() > 0):
        parts = [x + 1, x]
    else:
        parts = [x - 1, x * 2]
    return parts


def numbers(x: torch.Tensor) -> torch.Tensor:
    n = int(x.sum())
    m = float(x.max())
    if n > 3 and not (n % 5 == 0 or m < 0.5):
        return x * n - m
    return x / (abs(n) + 1) + min(n, 2) + max(m, 0.25) + n // 2 + n / 4


def of(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


X, Y = torch.arange(6.0).reshape(2, 3) / 4, torch.arange(6.0).reshape(2, 3) / 8 - 0.25
XS, WEIGHT = torch.randn(4, 2, 3), torch.randn(3, 3)
# (function, the inputs that the Relay is made for, other inputs that it is run with)
CASES: list[tuple[Callable[..., Any], list[Any], list[list[Any]]]] = [
    (early_exit, [X, 5], [[X, 5], [X / 100, 5], [X * 20, 5]]),
    (early_return, [X], [[X], [X * 10], [-X], [X - 50]]),
    (while_loop, [X], [[X], [X + 50], [X / 8]]),
    (two_conditions, [X, Y], [[X, Y], [X / 1000, Y - 9], [X * 50, Y]]),
    (recurrent, [XS, X, WEIGHT, torch.tensor(3)], [[XS, X, WEIGHT, torch.tensor(n)] for n in (0, 1, 4)]),
    (nested, [X, Y], [[X, Y], [X, -Y - 1], [-X, Y]]),
    (nested_loops, [X], [[X], [X * 100], [X + 3]]),
    (long_loop, [X, 70], [[X, 70], [-X, 70]]),
    (swapped, [X, Y + 1], [[X, Y + 1], [X * 40, Y]]),
    (beam, [of(1, 3, 2, 0), torch.rand(4, 4), 2, 5.0], [[of(1, 3, 2, 0), torch.rand(4, 4), 2, 5.0]]),
    (lists_that_branch, [X], [[X], [-X]]),
    (numbers, [X], [[X], [X * 3], [X - 2], [of(1, 2, 3, 4).reshape(2, 2)[:, [0, 1, 0]]]]),
]


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
        eager = scripted(*inputs)
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
        (raises, [X], r"prim::RaiseException"),
        (lambda x: torch.nonzero(x).sum(), [X], r"aten::nonzero"),
    ],
    ids=["grows", "branches_differ", "appends", "sizes", "raises", "nonzero"],
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
