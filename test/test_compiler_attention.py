"""Attention patterns, as eager code writes them, become one kernel that reads projections and masks in place."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from compiler_cases import assert_close, compile_plan
from torch import Tensor

import torch_tvm

HEADS, SEQUENCE, WIDTH = 3, 17, 48


def kernels(function: Callable[..., Tensor], *inputs: Tensor) -> list[str]:
    """Compile what a PyTorch function does, compare results, and return the names of the kernels."""
    with torch.no_grad():
        expected = function(*inputs)
    traced = torch_tvm.to_relay(function, inputs)
    compiled = compile_plan(traced.body, list(traced.params), len(inputs), [expected])
    assert_close(compiled(list(inputs), [], [expected])[0], expected)
    return [step.name.rpartition("_")[0] for step in compiled.plan.steps]


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


def test_grouped_queries() -> None:
    """Keys and values of fewer heads."""
    q = torch.randn(2, 6, SEQUENCE, 8)
    k, v = torch.randn(2, 2, 2, SEQUENCE, 8).unbind()

    def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    def expanded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = (x[:, :, None].expand(2, 2, 3, SEQUENCE, 8).reshape(2, 6, SEQUENCE, 8) for x in (k, v))
        return F.scaled_dot_product_attention(q, k, v)

    for function in (grouped, expanded):
        names = kernels(function, q, k, v)
        assert sum(name.startswith("attention") for name in names) == 1, names
