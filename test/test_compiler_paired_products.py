"""Gated layers: two products of one tensor, or the halves of one, run as one kernel with what is computed of both."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from compiler_cases import kernels_of
from torch import Tensor

ROWS, WIDTH, INNER = 13, 24, 37

GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "tanh gelu": lambda x: F.gelu(x, approximate="tanh"),
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "linear": lambda x: x,
}


def launches(
    function: Callable[..., Tensor | tuple[Tensor, ...]], *weights: Tensor, rows: int = ROWS
) -> list[str]:
    names = kernels_of(function, [torch.randn(1, rows, WIDTH)], weights)
    return [name.partition("_")[0] for name in names]


def matrix(rows: int = INNER, columns: int = WIDTH) -> Tensor:
    return torch.randn(rows, columns)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


@pytest.mark.parametrize("gate", GATES)
def test_gates(gate: str) -> None:
    """With biases and without, the gate on the left and on the right, one row and many."""
    f = GATES[gate]

    def left(x: Tensor, g: Tensor, u: Tensor) -> Tensor:
        return f(F.linear(x, g)) * F.linear(x, u)

    def right(x: Tensor, g: Tensor, u: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return F.linear(x, u, c) * f(F.linear(x, g, b))

    assert launches(left, matrix(), matrix(), rows=1) == ["paired"]
    assert launches(right, matrix(), matrix(), torch.randn(INNER), torch.randn(INNER)) == ["paired"]


def test_one_bias_and_operands_behind() -> None:
    def run(x: Tensor, g: Tensor, u: Tensor, b: Tensor, d: Tensor) -> Tensor:
        hidden = F.silu(F.linear(x, g, b)) * F.linear(x, u)
        return x + F.linear(hidden * 0.5 + 1, d)

    assert launches(run, matrix(), matrix(), torch.randn(INNER), matrix(WIDTH, INNER)) == ["paired", "matmul"]


def test_a_residual_behind() -> None:
    def run(x: Tensor, g: Tensor, u: Tensor) -> Tensor:
        return torch.relu(x) + torch.tanh(F.linear(x, g)) * F.linear(x, u)

    assert launches(run, matrix(WIDTH), matrix(WIDTH)) == ["relu"]  # named after the first node


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
def test_halves_of_one_product(*, bias: bool, swapped: bool) -> None:
    def run(x: Tensor, w: Tensor, *b: Tensor) -> Tensor:
        first, second = F.linear(x, w, *b).chunk(2, dim=-1)
        return F.silu(second) * first if swapped else F.silu(first) * second

    biases = [torch.randn(2 * INNER)] if bias else []
    assert launches(run, matrix(2 * INNER), *biases) == ["paired"]
    assert launches(run, matrix(2 * INNER), *biases, rows=1) == ["paired"]


def test_one_weight_for_both() -> None:
    def run(x: Tensor, w: Tensor) -> Tensor:
        return F.silu(F.linear(x, w)) * F.linear(x, w)

    assert launches(run, matrix()) == ["matmul"]


def test_layers_that_share_weights_pack_them_once() -> None:
    def run(x: Tensor, g: Tensor, u: Tensor) -> Tensor:
        for _ in range(2):
            x = F.silu(F.linear(x, g)) * F.linear(x, u)
        return x

    assert launches(run, matrix(WIDTH), matrix(WIDTH)) == ["paired", "paired"]


def test_products_that_are_needed_themselves() -> None:
    def one(x: Tensor, g: Tensor, u: Tensor) -> tuple[Tensor, ...]:
        gate, up = F.linear(x, g), F.linear(x, u)
        return F.silu(gate) * up, gate

    def halves(x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        whole = F.linear(x, w)
        first, second = whole.chunk(2, dim=-1)
        return F.silu(first) * second, whole

    assert "paired" not in launches(one, matrix(), matrix())
    assert "paired" not in launches(halves, matrix(2 * INNER))


def test_products_of_different_tensors_and_widths() -> None:
    def tensors(x: Tensor, g: Tensor, u: Tensor) -> Tensor:
        return F.silu(F.linear(x, g)) * F.linear(torch.tanh(x), u)

    def widths(x: Tensor, g: Tensor, u: Tensor) -> Tensor:
        return F.silu(F.linear(x, g)) * F.linear(x, u)

    assert "paired" not in launches(tensors, matrix(), matrix())
    assert "paired" not in launches(widths, matrix(), matrix(1))


def test_uneven_parts_and_thirds() -> None:
    def uneven(x: Tensor, w: Tensor) -> Tensor:
        whole = F.linear(x, w)
        return F.silu(whole[..., :INNER]) * whole[..., INNER + 1 :]

    def thirds(x: Tensor, w: Tensor) -> Tensor:
        a, b, c = F.linear(x, w).chunk(3, dim=-1)
        return F.silu(a) * b + c

    assert "paired" not in launches(uneven, matrix(2 * INNER + 1))
    assert "paired" not in launches(thirds, matrix(3 * INNER))


def test_three_products() -> None:
    """Two of them are one kernel; the third adds their result behind itself."""

    def run(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return torch.sigmoid(F.linear(x, a)) * F.linear(x, b) + F.linear(x, c)

    assert sorted(launches(run, matrix(), matrix(), matrix())) == ["matmul", "paired"]
