"""Products of one tensor with several weights run as one, where nothing but a bias and moves stand behind them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from compiler_cases import kernels_of
from torch import Tensor

ROWS, WIDTH = 13, 24


def steps(function: Callable[..., Tensor | tuple[Tensor, ...]], *weights: Tensor) -> list[str]:
    return kernels_of(function, [torch.randn(1, ROWS, WIDTH)], weights)


def heads(x: Tensor, count: int) -> Tensor:
    return x.view(1, ROWS, count, -1).transpose(1, 2)


def attention(q: Tensor, k: Tensor, v: Tensor, count: int = 2) -> Tensor:
    return F.scaled_dot_product_attention(heads(q, count), heads(k, count), heads(v, count))


def matrices(*rows: int) -> list[Tensor]:
    torch.manual_seed(len(rows))
    return [torch.randn(n, WIDTH) for n in rows]


def test_projections_with_and_without_bias() -> None:
    biases = [torch.randn(16) for _ in range(3)]

    def plain(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return attention(F.linear(x, a), F.linear(x, b), F.linear(x, c))

    def biased(x: Tensor, *w: Tensor) -> Tensor:
        return attention(*(F.linear(x, w[i], w[i + 3]) for i in range(3)))

    assert steps(plain, *matrices(16, 16, 16)) == ["matmul", "attention"]
    assert steps(biased, *matrices(16, 16, 16), *biases) == ["matmul_add", "attention"]


def test_only_those_with_a_bias_are_combined_with_each_other() -> None:
    """Whisper's keys have none."""

    def mixed(x: Tensor, a: Tensor, b: Tensor, c: Tensor, u: Tensor, w: Tensor) -> Tensor:
        return attention(F.linear(x, a, u), F.linear(x, b), F.linear(x, c, w))

    names = steps(mixed, *matrices(16, 16, 16), torch.randn(16), torch.randn(16))
    assert sorted(names) == ["attention", "matmul", "matmul_add"]


def test_different_widths() -> None:
    """Equal ones are combined: a slice of others would have to be copied."""

    def narrow(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return attention(F.linear(x, a), F.linear(x, b), F.linear(x, c))

    assert steps(narrow, *matrices(6, 6, 10)) == ["matmul", "matmul", "attention"]


def test_what_is_fused_behind_a_product_stays_there() -> None:
    def gated(x: Tensor, gate: Tensor, up: Tensor) -> Tensor:
        return F.silu(F.linear(x, gate)) * F.linear(x, up)

    assert len(steps(gated, *matrices(32, 32))) == 2


def test_outputs_are_stored_where_the_caller_wants_them() -> None:
    def two(x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return F.linear(x, a), F.linear(x, b)

    assert steps(two, *matrices(16, 16)) == ["matmul", "matmul"]


def test_one_weight_used_twice() -> None:
    def tied(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return attention(F.linear(x, a), F.linear(x, a), F.linear(x, b))

    assert steps(tied, *matrices(16, 16)) == ["matmul", "attention"]
