"""Functions to be scripted that branch and loop, mostly on the data of their tensors, and inputs that go all their ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


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
