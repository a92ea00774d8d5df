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


def test_what_would_be_copied_is_not_combined() -> None:
    """Queries that share keys are two dims, heads and those that share one, which no view of a part of a row can say."""

    def shared(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        q, k, v = F.linear(x, a), F.linear(x, b), F.linear(x, c)
        return F.scaled_dot_product_attention(heads(q, 6), heads(k, 2), heads(v, 2), enable_gqa=True)

    assert steps(shared, *matrices(24, 8, 8)) == ["matmul", "matmul", "attention"]


def test_wide_queries() -> None:
    """Slices of unequal widths."""

    def wide(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        q, k, v = heads(F.linear(x, a), 3), heads(F.linear(x, b), 1), heads(F.linear(x, c), 1)
        return (q @ k.mT).softmax(-1) @ v

    biases = [torch.randn(n) for n in (15, 5, 5)]

    def biased(x: Tensor, *w: Tensor) -> Tensor:
        q, k, v = (F.linear(x, w[i], w[i + 3]) for i in range(3))
        return heads(k, 1) @ heads(q, 3).mT @ heads(v, 1)

    assert steps(wide, *matrices(15, 5, 5)) == ["matmul", "attention"]
    assert steps(biased, *matrices(15, 5, 5), *biases) == ["matmul_add", "matmul", "matmul"]


def test_one_head_of_keys_and_values() -> None:
    def shared(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        q, k, v = F.linear(x, a), F.linear(x, b), F.linear(x, c)
        return F.scaled_dot_product_attention(heads(q, 3), heads(k, 1), heads(v, 1), enable_gqa=True)

    assert steps(shared, *matrices(15, 5, 5)) == ["matmul", "attention"]
    assert steps(shared, *matrices(3, 1, 1)) == ["matmul", "attention"]


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


def test_rotary_embeddings_read_slices() -> None:
    angles = torch.randn(ROWS, 4)
    tables = [angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)]

    def rotated(x: Tensor, a: Tensor, b: Tensor, c: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = heads(F.linear(x, a), 4), heads(F.linear(x, b), 2), heads(F.linear(x, c), 2)
        q, k = rotary(q, cos, sin), rotary(k, cos, sin)
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True, is_causal=True)

    def normalised(x: Tensor, a: Tensor, b: Tensor, c: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = heads(F.linear(x, a), 4), heads(F.linear(x, b), 2), heads(F.linear(x, c), 2)
        q, k = (rotary(F.rms_norm(t, (8,), eps=1e-6), cos, sin) for t in (q, k))
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True, is_causal=True)

    def partly(x: Tensor, a: Tensor, b: Tensor, c: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = heads(F.linear(x, a), 2), heads(F.linear(x, b), 2), heads(F.linear(x, c), 2)
        q, k = (torch.cat((rotary(t[..., :8], cos, sin), t[..., 8:]), -1) for t in (q, k))
        return F.scaled_dot_product_attention(q, k, v)

    rotation = "multiply_multiply_multiply_add"
    assert steps(rotated, *matrices(32, 16, 16), *tables) == ["matmul", rotation, rotation, "attention"]
    names = steps(normalised, *matrices(32, 16, 16), *tables)
    assert sorted(names) == ["attention", "matmul", rotation, rotation, "normalize", "normalize"]
    names = steps(partly, *matrices(24, 24, 24), *tables)
    assert sorted(names) == ["attention", "copy", "copy", "matmul", rotation, rotation]


def test_what_is_concatenated_is_stored_in_place() -> None:
    def joined(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat((F.linear(x, a), F.linear(x, b), x), -1)

    assert steps(joined, *matrices(16, 16)) == ["matmul", "matmul", "copy"]


def test_what_is_fused_behind_a_product_stays_there() -> None:
    def activated(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return torch.relu(F.linear(x, a)) @ torch.tanh(F.linear(x, b)).mT

    assert steps(activated, *matrices(32, 32)) == ["matmul_relu", "matmul_tanh", "matmul"]


def test_outputs_are_stored_where_the_caller_wants_them() -> None:
    def two(x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return F.linear(x, a), F.linear(x, b)

    assert steps(two, *matrices(16, 16)) == ["matmul", "matmul"]


def test_one_weight_used_twice() -> None:
    def tied(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return attention(F.linear(x, a), F.linear(x, a), F.linear(x, b))

    assert steps(tied, *matrices(16, 16)) == ["matmul", "attention"]
