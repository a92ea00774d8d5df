"""Attention patterns, as eager code writes them, become one kernel that reads projections and masks in place."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from compiler_cases import assert_close, compile_plan, kernels_of, run_traced
from torch import Tensor

import torch_tvm

HEADS, SEQUENCE, WIDTH = 3, 17, 48


def kernels(function: Callable[..., Tensor], *inputs: Tensor) -> list[str]:
    return kernels_of(function, inputs)


def split(x: Tensor) -> Tensor:
    return x.view(x.shape[0], x.shape[1], HEADS, -1).transpose(1, 2)


def join(x: Tensor) -> Tensor:
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)


def projections(batch: int) -> list[Tensor]:
    torch.manual_seed(batch)
    return list(torch.randn(3, batch, SEQUENCE, WIDTH).unbind())


def keep() -> Tensor:
    """Some keys, none for one query."""
    mask = torch.rand(SEQUENCE, SEQUENCE) < 0.6
    mask[5] = False
    return mask


def causal() -> Tensor:
    return torch.tril(torch.ones(2 * SEQUENCE, 2 * SEQUENCE, dtype=torch.bool))[:SEQUENCE, :SEQUENCE]


def scaled(q: Tensor, k: Tensor) -> Tensor:
    return split(q) @ split(k).transpose(-1, -2) / math.sqrt(WIDTH / HEADS)


def weighted(scores: Tensor, v: Tensor) -> Tensor:
    return join(scores.softmax(-1) @ split(v))


PATTERNS: dict[str, Callable[..., Tensor]] = {
    "sdpa": lambda q, k, v: join(F.scaled_dot_product_attention(split(q), split(k), split(v))),
    "sdpa causal": lambda q, k, v: join(
        F.scaled_dot_product_attention(split(q), split(k), split(v), is_causal=True, scale=0.3)
    ),
    "divided": lambda q, k, v: weighted(scaled(q, k), v),
    "scale in the query": lambda q, k, v: weighted(split(q * 0.25) @ split(k).transpose(-1, -2), v),
    "masked fill": lambda q, k, v: weighted(scaled(q, k).masked_fill(~causal(), -math.inf), v),
    "where lowest": lambda q, k, v: weighted(
        torch.where(causal(), scaled(q, k), torch.full([], torch.finfo(torch.float32).min)), v
    ),
    "bmm": lambda q, k, v: join(
        torch.bmm(
            torch.bmm(split(q).flatten(0, 1), split(k).flatten(0, 1).transpose(1, 2)).softmax(-1),
            split(v).flatten(0, 1),
        ).view(-1, HEADS, SEQUENCE, WIDTH // HEADS)
    ),
    "baddbmm": lambda q, k, v: join(
        torch.baddbmm(torch.zeros(1), split(q).flatten(0, 1), split(k).flatten(0, 1).mT, beta=0, alpha=0.2)
        .softmax(-1)
        .bmm(split(v).flatten(0, 1))
        .view(-1, HEADS, SEQUENCE, WIDTH // HEADS)
    ),
}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_one_kernel(pattern: str, batch: int) -> None:
    names = kernels(PATTERNS[pattern], *projections(batch))
    attention = [name for name in names if name.startswith("attention")]
    others = [name for name in names if name not in attention]
    assert len(attention) == 1, names
    assert others == (["multiply"] if pattern == "scale in the query" else []), names


MASKS: dict[str, tuple[Callable[..., Tensor], Callable[[], Tensor]]] = {
    "added": (
        lambda q, k, v, mask: weighted(scaled(q, k) + mask, v),
        lambda: torch.where(keep(), torch.randn(SEQUENCE, SEQUENCE), -math.inf),
    ),
    "of keys": (
        lambda q, k, v, mask: weighted(scaled(q, k) + (1.0 - mask[:, None, None, :]) * -1e4, v),
        lambda: (torch.rand(2, SEQUENCE) < 0.7).float(),
    ),
    "of heads, transposed": (
        lambda q, k, v, mask: weighted(scaled(q, k) + mask.permute(2, 0, 1), v),
        lambda: torch.randn(SEQUENCE, SEQUENCE, HEADS),
    ),
    "kept": (lambda q, k, v, mask: weighted(scaled(q, k).masked_fill(~mask, -math.inf), v), keep),
    "sdpa kept": (
        lambda q, k, v, mask: join(F.scaled_dot_product_attention(split(q), split(k), split(v), mask)),
        keep,
    ),
    "sdpa added": (
        lambda q, k, v, mask: join(F.scaled_dot_product_attention(split(q), split(k), split(v), mask)),
        lambda: torch.where(keep(), torch.randn(SEQUENCE, SEQUENCE), -math.inf),
    ),
    "part of a larger one": (
        lambda q, k, v, mask: weighted(scaled(q, k) + mask[:, :, 3 : 3 + SEQUENCE, 2 : 2 + SEQUENCE], v),
        lambda: torch.randn(1, 1, 40, 40),
    ),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str) -> None:
    """A query that sees no key gets NaN from softmax and zero from scaled_dot_product_attention."""
    function, make = MASKS[name]
    names = kernels(function, *projections(2), make())
    assert sum(kernel.startswith("attention") for kernel in names) == 1, names


def test_causal_masks_are_known_when_compiling() -> None:
    """Keys behind the diagonal are not multiplied; a mask that an input takes part in is looked through."""

    def padded(q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> Tensor:
        steps = torch.arange(SEQUENCE)
        mask = (steps[None, :] <= steps[:, None])[None, None] & valid[:, None, None, :]
        return join(F.scaled_dot_product_attention(split(q), split(k), split(v), mask))

    inputs = [*projections(2), torch.rand(2, SEQUENCE) < 0.9]
    expected = padded(*inputs)
    traced = torch_tvm.to_relay(padded, inputs)
    compiled = compile_plan(traced.body, list(traced.params), 4, [expected])
    assert_close(compiled(inputs, [], [expected])[0], expected)
    workloads = [str(k["workload"]) for k in compiled.plan.info["kernels"] if "attention" in str(k["name"])]
    assert len(workloads) == 1 and "diagonal=0" in workloads[0]


def by_sequence(steps: Tensor) -> Tensor:
    """Causal, within sequences that are packed into one row: a new one begins where positions jump."""
    positions = steps[None]
    jumps = torch.cat((positions[:, :1] - 1, positions), 1).diff() != 1
    number = jumps.long().cumsum(-1)
    first = torch.zeros(1, 1, 1, 1, dtype=torch.long)
    query, key = steps[None, None, :, None], steps[None, None, None, :]
    return (number[first, query] == number[first, key]) & (positions[first, key] <= positions[first, query])


MADE_MASKS: dict[str, tuple[Callable[[Tensor], Tensor], int | None]] = {
    "packed sequences": (by_sequence, 0),
    "window": (lambda steps: (steps[None] <= steps[:, None] + 2) & (steps[None] > steps[:, None] - 5), 2),
    "reversed twice": (lambda steps: (steps[:, None] >= steps[None]).flip(1).flip(1), 0),
    "slice": (lambda steps: torch.ones(40, 40).tril(3).bool()[7 : 7 + SEQUENCE, 5 : 5 + SEQUENCE], 5),
    "clipped": (lambda steps: (steps[:, None] - steps[None]).clamp(-1, 1) >= 0, 0),
    "anticausal": (lambda steps: steps[:, None] <= steps[None], None),
    "everything": (lambda steps: (steps[:, None] + steps[None]) >= 0, None),
}


@pytest.mark.parametrize("name", MADE_MASKS)
def test_masks_made_of_constants_are_known_when_compiling(name: str) -> None:
    make, known = MADE_MASKS[name]

    def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return join(
            F.scaled_dot_product_attention(split(q), split(k), split(v), make(torch.arange(SEQUENCE)))
        )

    compiled, actual, expected = run_traced(masked, projections(2))
    assert_close(actual[0], expected[0])
    workloads = [str(k["workload"]) for k in compiled.plan.info["kernels"] if "attention" in str(k["name"])]
    assert len(workloads) == 1 and f"diagonal={known}" in workloads[0], workloads


def test_scores_that_something_else_needs_are_stored() -> None:
    def with_weights(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = scaled(q, k).softmax(-1)
        return join(weights @ split(v)) + weights.sum((1, 3))[..., None]

    names = kernels(with_weights, *projections(1))
    assert not any(name.startswith("attention") for name in names), names


def test_softmax_over_queries_is_no_attention() -> None:
    names = kernels(lambda q, k, v: join(scaled(q, k).softmax(-2) @ split(v)), *projections(1))
    assert not any(name.startswith("attention") for name in names), names


def test_float64_and_small_groups() -> None:
    q, k, v = (x.double() for x in projections(1))
    assert len(kernels(PATTERNS["sdpa"], q, k, v)) == 1
    one = [x[:, :1] for x in projections(2)]
    names = kernels(lambda q, k, v: F.scaled_dot_product_attention(split(q), split(k), split(v)), *one)
    assert len(names) == 1, names


def repeated(x: Tensor, times: int) -> Tensor:
    """Shared heads as language models repeat them."""
    batch, heads, *matrix = x.shape
    return x[:, :, None].expand(batch, heads, times, *matrix).reshape(batch, heads * times, *matrix)


def merged(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


GROUPED: dict[str, Callable[..., Tensor]] = {
    "enable_gqa": lambda q, k, v: merged(F.scaled_dot_product_attention(q, k, v, enable_gqa=True)),
    "expanded": lambda q, k, v: merged(
        F.scaled_dot_product_attention(
            q, repeated(k, q.shape[1] // k.shape[1]), repeated(v, q.shape[1] // k.shape[1])
        )
    ),
    "eager": lambda q, k, v: merged(
        (q @ repeated(k, q.shape[1] // k.shape[1]).mT / 3).softmax(-1) @ repeated(v, q.shape[1] // v.shape[1])
    ),
    "values alone": lambda q, k, v: merged(
        F.scaled_dot_product_attention(
            q, repeated(k, q.shape[1] // k.shape[1]).contiguous(), repeated(v, q.shape[1] // v.shape[1])
        )
    ),
    "broadcast": lambda q, k, v: (
        (q.unflatten(1, (k.shape[1], -1)) @ k[:, :, None].mT * 0.2)
        .softmax(-1)
        .matmul(v[:, :, None])
        .permute(0, 3, 1, 2, 4)
        .flatten(2)
    ),
}


@pytest.mark.parametrize(
    "sizes", [(2, 6, 2, 17, 8), (1, 4, 1, 5, 3), (3, 4, 2, 1, 16), (1, 1, 1, 9, 4)], ids=str
)
@pytest.mark.parametrize("pattern", GROUPED)
def test_shared_heads_are_read_in_place(pattern: str, sizes: tuple[int, ...]) -> None:
    """Keys and values of fewer heads are not repeated in memory, and the result is stored as the next layer reads it."""
    batch, heads, shared, rows, width = sizes
    q = torch.randn(batch, heads, rows, width)
    k, v = torch.randn(2, batch, shared, rows, width).unbind()
    names = kernels(GROUPED[pattern], q, k, v)
    assert len(names) == 1 and names[0].startswith("attention"), names


GROUPED_MASKS: dict[str, Callable[[], Tensor]] = {
    "of queries and keys": lambda: torch.rand(SEQUENCE, SEQUENCE) < 0.7,
    "of batches": lambda: torch.rand(2, 1, 1, SEQUENCE) < 0.7,
    "of heads": lambda: torch.randn(1, 6, SEQUENCE, SEQUENCE),
    "of heads alone": lambda: torch.randn(1, 6, 1, 1),
    "whole": lambda: torch.where(torch.rand(2, 6, SEQUENCE, SEQUENCE) < 0.6, 0.5, -math.inf),
}


@pytest.mark.parametrize("name", GROUPED_MASKS)
def test_masks_with_shared_heads(name: str) -> None:
    q = torch.randn(2, 6, SEQUENCE, 8)
    k, v = torch.randn(2, 2, 2, SEQUENCE, 8).unbind()
    mask = GROUPED_MASKS[name]()

    def grouped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        return merged(F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True))

    own = [x.repeat_interleave(3, 1) for x in (k, v)]
    assert kernels(grouped, q, k, v, mask) == kernels(grouped, q, *own, mask)
